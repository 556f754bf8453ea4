//! Operations written by hand for graphics devices, in WGSL (`engine/shaders`, one entry point per file).
//!
//! They are launched through burn's own queue and memory, so nothing waits for anything. Where a
//! gradient is wanted, in values other than f32, and in the `fast` build, whose compiler takes no WGSL and fuses
//! operations itself, the tensor operations that define them compute.
//!
//! Each is here because it gains. `infinity bench --preset operations --device software`, the tensor operations'
//! time over the shader's on llvmpipe (two cores of an AMD EPYC with AVX-512), at the shapes of the starter and of
//! the published 125M: modulated norm 1.0 and 1.4, heads turned 3.7 and 2.1, attention 1.4 and 1.3, attention to text 1.3,
//! a product's bias with GELU 9.9 and 8.7, with gate and sum 1.8 and 2.0, group norm with `SiLU` 3.7 and 2.8, convolutions
//! 1.6 to 1.8. No graphics card was at hand.

macro_rules! shader {
    ($name:literal, $constants:expr) => {
        Shader {
            name: $name,
            text: include_str!(concat!("../../../shaders/", $name, ".wgsl")),
            constants: $constants,
            types: Vec::new(),
        }
    };
}

mod attention;
mod bridge;
#[cfg(test)]
mod tests;
pub(super) mod units;

pub(super) use attention::{attend, cross_attention, takes_half_keys};
use burn::tensor::{DType, Device, Tensor};

use self::bridge::{Launches, Shader, bound, run, run_into};
use self::units::{MatrixUnits, matrix_units, type_name};
use super::{PRECISION, Precision, Room, Seen, Sight, Then};

/// Whether this build has them.
pub(super) const IN_THIS_BUILD: bool = !cfg!(feature = "fast");
/// Most workgroups in one direction.
const MOST_GROUPS: u32 = 32_768;
/// Values of a map that one workgroup sums.
const PIECE: usize = 8192;

/// Whether shaders apply to a tensor.
fn applies<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device();
    IN_THIS_BUILD
        && PRECISION.get() != Precision::Off
        && x.dtype() == DType::F32
        && !x.dims().contains(&0)
        && !device.is_autodiff()
        && device != Device::flex()
}

/// The matrix units of a device, where factors are to be rounded.
fn units_for(device: &Device) -> Option<MatrixUnits> {
    let is_wished = PRECISION.get() == Precision::Rounded;
    is_wished.then(|| matrix_units(device)).flatten()
}

/// Workgroups in two directions for `count` of them, and the width of a row.
fn grid(count: usize) -> ([u32; 3], u32) {
    let row = (count as u32).min(MOST_GROUPS);
    ([row, (count as u32).div_ceil(row), 1], row)
}

/// Workgroups of 256 for `count` values, one each.
fn value_grid(count: usize) -> ([u32; 3], u32) {
    let (groups, row) = grid(count.div_ceil(256));
    (groups, row * 256)
}

/// See [`kernels::gelu_tanh`](super::gelu_tanh).
pub(super) fn gelu_tanh<const D: usize>(x: &Tensor<D>) -> Option<Tensor<D>> {
    if !applies(x) {
        return None;
    }
    let count = x.shape().num_elements();
    let flat = finish(&x.clone().reshape([1, 1, count]), None, Then::Gelu)?;
    Some(flat.reshape(x.dims()))
}

/// See [`kernels::finish`](super::finish).
pub(super) fn finish(y: &Tensor<3>, bias: Option<&Tensor<1>>, then: Then<'_>) -> Option<Tensor<3>> {
    let [_, length, width] = y.dims();
    if !applies(y) || matches!(then, Then::Nothing) || !then.fits(y.dims()) {
        return None;
    }
    let (value, side) = if width.is_multiple_of(4) {
        ("vec4<f32>", 4)
    } else {
        ("f32", 1)
    };
    let count = y.shape().num_elements() / side;
    let (groups, row) = value_grid(count);
    let (before, gate, factor) = parts_of(then);
    let sizes = [count, width / side, length].map(|size| size as u32);
    let info = [&sizes[..], &[row, factor.to_bits()]].concat();
    let launches = Launches {
        shader: Shader {
            types: vec![("Value", value)],
            ..shader!("finish", follows(bias, then).to_vec())
        },
        shape: y.dims().to_vec(),
        list: vec![(groups, info)],
    };
    // Something has to be bound.
    let own = |tensor: Option<&Tensor<3>>| bound(tensor.unwrap_or(y));
    let bias = bias.map_or_else(|| bound(y), bound);
    Some(run([bound(y), bias, own(before), own(gate)], launches))
}

/// What a shader does to a product, as constants that stand before its text.
fn follows(bias: Option<&Tensor<1>>, then: Then<'_>) -> [(&'static str, u32); 4] {
    let (before, gate, _) = parts_of(then);
    [
        ("BIASED", bias.is_some()),
        ("GELU", matches!(then, Then::Gelu)),
        ("GATED", gate.is_some()),
        ("ADDED", before.is_some()),
    ]
    .map(|(name, is)| (name, u32::from(is)))
}

/// What it is added to, the gate, and a factor.
fn parts_of(then: Then<'_>) -> (Option<&Tensor<3>>, Option<&Tensor<3>>, f32) {
    match then {
        Then::Nothing | Then::Gelu => (None, None, 1.0),
        Then::Scaled(factor) => (None, None, factor),
        Then::Added(to, gate) => (Some(to), gate, 1.0),
    }
}

/// See [`kernels::layer_norm`](super::layer_norm).
pub(super) fn layer_norm(
    x: &Tensor<3>,
    scale: &Tensor<3>,
    shift: &Tensor<3>,
    plus: f32,
    epsilon: f32,
) -> Option<Tensor<3>> {
    let [rows, length, width] = x.dims();
    let step = |of: &Tensor<3>| match of.dims() {
        [1, 1, own] if own == width => Some(0),
        [own_rows, 1, own] if own == width && own_rows == rows => Some(width as u32),
        _ => None,
    };
    if !applies(x) {
        return None;
    }
    let (scale_step, shift_step) = (step(scale)?, step(shift)?);
    let tokens = rows * length;
    let (groups, row) = grid(tokens);
    let info = vec![
        tokens as u32,
        width as u32,
        length as u32,
        scale_step,
        shift_step,
        row,
        plus.to_bits(),
        epsilon.to_bits(),
    ];
    let launches = Launches {
        shader: shader!("layer_norm", Vec::new()),
        shape: x.dims().to_vec(),
        list: vec![(groups, info)],
    };
    Some(run([bound(x), bound(scale), bound(shift)], launches))
}

/// See [`kernels::turn`](super::turn); `turns` are cosines and sines side by side, `[L, D/2, 2]`.
pub(super) fn turn(
    qkv: &Tensor<3>,
    lengths: &Tensor<4>,
    turns: &Tensor<3>,
) -> Option<[Tensor<4>; 3]> {
    let [batch, length, width] = qkv.dims();
    let heads = lengths.dims()[1];
    turned_pairs(qkv, heads)?;
    let shape = [batch, heads, length, width / 3 / heads];
    let [keys, values] = [(); 2].map(|()| Tensor::empty(shape, &qkv.device()));
    let room = Room {
        keys,
        values,
        first: 0,
    };
    let (query, room) = turn_into(qkv, lengths, turns, room);
    Some([query?, room.keys, room.values])
}

/// Pairs of values of a head of `qkv` that the shader turns; `None` where it does not apply.
fn turned_pairs(qkv: &Tensor<3>, heads: usize) -> Option<usize> {
    let [batch, length, width] = qkv.dims();
    let half = width / 3 / heads / 2;
    let fits = (1..=128).contains(&half) && batch.max(length) <= MOST_GROUPS as usize;
    (applies(qkv) && fits).then_some(half)
}

/// See [`kernels::turn_into`](super::turn_into).
pub(super) fn turn_into(
    qkv: &Tensor<3>,
    lengths: &Tensor<4>,
    turns: &Tensor<3>,
    room: Room,
) -> (Option<Tensor<4>>, Room) {
    let [batch, length, _] = qkv.dims();
    let heads = lengths.dims()[1];
    let kept = type_name(room.keys.dtype());
    let (Some(kept), Some(half), true) = (kept, turned_pairs(qkv, heads), room.fits(qkv, heads))
    else {
        return (None, room);
    };
    let slots = (64 / half).max(1);
    let groups = [length, batch, heads.div_ceil(slots)].map(|count| count as u32);
    let constants = vec![("HALF", half as u32), ("SLOTS", slots as u32)];
    let info = [length, heads, room.places(), room.first];
    let launches = Launches {
        shader: Shader {
            types: vec![("Kept", kept)],
            ..shader!("turn", constants)
        },
        shape: vec![batch, heads, length, 2 * half],
        list: vec![(groups, info.map(|word| word as u32).to_vec())],
    };
    let inputs = [bound(qkv), bound(lengths), bound(turns)];
    let (query, keys, values) = run_into(inputs, room.keys, room.values, launches);
    let room = Room {
        keys,
        values,
        ..room
    };
    (Some(query), room)
}

/// See [`kernels::conv`](super::conv).
pub(super) fn conv(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: &Tensor<1>,
    double: bool,
) -> Option<Tensor<4>> {
    let [batch, inputs, height, width] = x.dims();
    let [outputs, _, side, _] = weight.dims();
    // A picture's three channels would cost as much as 64.
    if !applies(x)
        || outputs < 16
        || side % 2 == 0
        || weight.dims() != [outputs, inputs, side, side]
    {
        return None;
    }
    let double = if double { 2 } else { 1 };
    let (height, width) = (height * double, width * double);
    let constants = [("SIDE", side), ("DOUBLE", double)];
    let constants = constants.map(|(name, value)| (name, value as u32));
    // Channels and pixels of a workgroup.
    let (shader, [outs, pixels]) = match units_for(&x.device()) {
        Some(units) => {
            let pieces = units.pieces(outputs, height * width);
            let shader = units.convolution(pieces, constants);
            (shader, pieces.map(|count| 2 * count * units.tile))
        }
        None => (shader!("conv", constants.to_vec()), [64; 2]),
    };
    let workgroups = [
        (height * width).div_ceil(pixels as usize) as u32,
        outputs.div_ceil(outs as usize) as u32,
        batch as u32,
    ];
    if workgroups[0] > 65_535 {
        return None;
    }
    let launches = Launches {
        shader,
        shape: vec![batch, outputs, height, width],
        list: vec![(
            workgroups,
            [inputs, outputs, height, width].map(|v| v as u32).to_vec(),
        )],
    };
    Some(run([bound(x), bound(weight), bound(bias)], launches))
}

/// See [`kernels::group_norm_silu`](super::group_norm_silu).
pub(super) fn group_norm_silu(
    x: &Tensor<4>,
    groups: usize,
    scale: &Tensor<1>,
    shift: &Tensor<1>,
    epsilon: f32,
) -> Option<Tensor<4>> {
    let [batch, channels, height, width] = x.dims();
    if !applies(x) || !channels.is_multiple_of(groups) || batch * groups > MOST_GROUPS as usize {
        return None;
    }
    let plane = height * width;
    let group = channels / groups * plane;
    let pieces = group.div_ceil(PIECE);
    let workgroups = [pieces as u32, (batch * groups) as u32, 1];
    let sums: Tensor<3> = run(
        [bound(x)],
        Launches {
            shader: shader!("group_sums", Vec::new()),
            shape: vec![batch * groups, pieces, 2],
            list: vec![(
                workgroups,
                vec![group as u32, PIECE as u32, pieces as u32, 0],
            )],
        },
    );
    let info = vec![
        group as u32,
        PIECE as u32,
        pieces as u32,
        plane as u32,
        (channels / groups) as u32,
        groups as u32,
        epsilon.to_bits(),
        0,
    ];
    let launches = Launches {
        shader: shader!("group_norm_silu", Vec::new()),
        shape: x.dims().to_vec(),
        list: vec![(workgroups, info)],
    };
    Some(run(
        [bound(x), bound(scale), bound(shift), bound(&sums)],
        launches,
    ))
}
