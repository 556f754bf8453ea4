//! Products on the matrix units of graphics devices: what WGSL calls cooperative matrices, in the default build too.
//!
//! What they gain only a card can tell, and none was at hand: data sheets give matrix units two to fifteen times the speed
//! of f32. Counted on the software driver, a scale of the starter is 92 kernels in place of 136 in f32 and of 356 with
//! factors rounded by tensor operations, which is their definition.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::bridge::{Launches, Shader, bound, run};
use super::{Precision, Seen, Sight, Then, applies, follows, parts_of};
use crate::kernels::with_precision;
use crate::layers;

/// Matrix units as a device has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixUnits {
    /// Side of the square pieces that they multiply: 8 or 16, factors in f16 and sums in f32.
    pub tile: u32,
    /// The fewest threads that work together on one.
    pub subgroup: u32,
    /// Memory of a workgroup, in bytes.
    pub memory: u32,
}

/// A device with matrix units; `None` once they were found to compute wrong, and whether they were tried at all.
struct Known {
    device: Device,
    name: String,
    units: Option<MatrixUnits>,
    is_tried: bool,
}

static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// What is known of `device`, through `f`.
fn known<T>(device: &Device, f: impl FnOnce(&mut Known) -> T) -> Option<T> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.iter_mut().find(|one| one.device == *device).map(f)
}

/// Lets products on `device`, which people call `name`, use its matrix `units`.
pub fn use_matrix_units(device: &Device, name: &str, units: MatrixUnits) {
    if !super::IN_THIS_BUILD || known(device, |_| ()).is_some() {
        return;
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.push(Known {
        device: device.clone(),
        name: name.to_owned(),
        units: Some(units),
        is_tried: false,
    });
}

#[cfg(test)]
thread_local! {
    /// Units that tests of this thread have in place of the device's.
    pub(in crate::kernels) static FORCED: std::cell::Cell<Option<MatrixUnits>> =
        const { std::cell::Cell::new(None) };
}

/// The matrix units of `device` that are in use. The first to ask has them tried.
pub fn matrix_units(device: &Device) -> Option<MatrixUnits> {
    #[cfg(test)]
    if let Some(units) = FORCED.get() {
        return Some(units);
    }
    let (units, is_tried) = known(device, |one| {
        (one.units, std::mem::replace(&mut one.is_tried, true))
    })?;
    if units.is_none() || is_tried || is_right(device) {
        return units;
    }
    known(device, |one| {
        one.units = None;
        tracing::warn!(
            "the matrix units of {} compute wrong; going on without them",
            one.name
        );
    });
    None
}

/// Whether products, convolutions and attention on matrix units are what they are without: of small whole numbers, which
/// rounding leaves as they are.
fn is_right(device: &Device) -> bool {
    let whole = |shape: &[usize], first: usize| {
        let count: usize = shape.iter().product();
        let value = |i: usize| ((i * 37 + i / 7) % 9) as f32 - 4.0;
        let values: Vec<f32> = (first..first + count).map(value).collect();
        TensorData::new(values, shape.to_vec())
    };
    let same = |found: Option<Tensor<3>>, wanted: Option<Tensor<3>>, apart: f32| {
        let values = |tensor: Option<Tensor<3>>| tensor?.try_into_vec_as::<f32>().ok();
        let (Some(found), Some(wanted)) = (values(found), values(wanted)) else {
            return false;
        };
        found
            .iter()
            .zip(&wanted)
            .all(|(a, b)| (a - b).abs() <= apart)
    };
    let both = |f: &dyn Fn() -> Option<Tensor<3>>| {
        [Precision::Rounded, Precision::Single].map(|precision| with_precision(precision, f))
    };
    let x = Tensor::<3>::from_data(whole(&[1, 19, 48], 0), device);
    let weight = Tensor::<2>::from_data(whole(&[35, 48], 5), device);
    let bias = Tensor::<1>::from_data(whole(&[35], 3), device);
    let plainly =
        x.clone().matmul(weight.clone().transpose().unsqueeze()) + bias.clone().unsqueeze();
    if !same(
        product(&x, &weight, Some(&bias), Then::Nothing),
        Some(plainly.clone()),
        0.0,
    ) {
        return false;
    }
    let to = Tensor::<3>::from_data(whole(&[1, 19, 35], 1), device);
    let gate = Tensor::<3>::from_data(whole(&[1, 1, 35], 2), device);
    let gated = to.clone() + plainly.clone() * gate.clone();
    let then = Then::Added(&to, Some(&gate));
    if !same(product(&x, &weight, Some(&bias), then), Some(gated), 0.0) {
        return false;
    }
    let curved = layers::gelu_tanh(plainly);
    if !same(
        product(&x, &weight, Some(&bias), Then::Gelu),
        Some(curved),
        0.01,
    ) {
        return false;
    }
    let [found, wanted] = both(&|| {
        let x = Tensor::<4>::from_data(whole(&[1, 3, 5, 7], 0), device);
        let weight = Tensor::<4>::from_data(whole(&[17, 3, 3, 3], 1), device);
        let bias = Tensor::<1>::from_data(whole(&[17], 2), device);
        Some(super::conv(&x, &weight, &bias, true)?.flatten(0, 1))
    });
    if !same(found, wanted, 0.0) {
        return false;
    }
    let [found, wanted] = both(&|| {
        let at = |places, first| Tensor::<4>::from_data(whole(&[1, 2, places, 32], first), device);
        let (query, key, value) = (at(9, 0) * 0.03125, at(40, 1), at(40, 2));
        let own = Some([at(13, 3), at(13, 4)]);
        let seen = Seen {
            own,
            ..Seen::all(key, value)
        };
        super::attend(&query, &seen, &Sight::all(9, 53))
    });
    same(found, wanted, 0.01)
}

/// See [`kernels::product_in_f16`](super::super::product_in_f16).
pub(in crate::kernels) fn product(
    x: &Tensor<3>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    then: Then<'_>,
) -> Option<Tensor<3>> {
    if !applies(x) {
        return None;
    }
    let units = matrix_units(&x.device())?;
    let [batch, length, inputs] = x.dims();
    let (rows, outputs) = (batch * length, weight.dims()[0]);
    let weight_type = type_name(weight.dtype())?;
    if !inputs.is_multiple_of(4)
        || weight.dims()[1] != inputs
        || !then.fits([batch, length, outputs])
    {
        return None;
    }
    let pieces = units.pieces(rows, outputs);
    let [down, across] = pieces.map(|count| (2 * count * units.tile) as usize);
    let groups = [outputs.div_ceil(across), rows.div_ceil(down)];
    if groups.iter().any(|&count| count > 65_535) {
        return None;
    }
    let (before, gate, factor) = parts_of(then);
    let sizes = [rows, inputs, outputs, length].map(|size| size as u32);
    let launches = Launches {
        shader: units.product(pieces, weight_type, follows(bias, then)),
        shape: vec![batch, length, outputs],
        list: vec![(
            [groups[0] as u32, groups[1] as u32, 1],
            [&sizes[..], &[factor.to_bits()]].concat(),
        )],
    };
    // Something has to be bound.
    let own = |tensor: Option<&Tensor<3>>| bound(tensor.unwrap_or(x));
    let bias = bias.map_or_else(|| bound(x), bound);
    let inputs = [bound(x), bound(weight), bias, own(before), own(gate)];
    Some(run(inputs, launches))
}

/// What WGSL calls a type that these shaders take.
pub(super) fn type_name(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F32 => Some("f32"),
        DType::F16 => Some("f16"),
        _ => None,
    }
}

impl MatrixUnits {
    /// Pieces that a subgroup makes, down and across: many where there is much to do and room for it.
    pub(super) fn pieces(self, rows: usize, columns: usize) -> [u32; 2] {
        // Of a workgroup whose subgroups make 4×4 pieces each.
        let side = 8 * self.tile as usize;
        let staged = 2 * 2 * side as u32 * (32 + 8);
        let memory = staged + 4 * self.tile * self.tile * 4 + 4;
        let is_large = rows > side / 2 && columns > side / 2 && rows.max(columns) > side;
        [if is_large && memory <= self.memory {
            4
        } else {
            2
        }; 2]
    }

    /// The types of pieces: left and right factor, and sum.
    fn types(self) -> [(&'static str, &'static str); 3] {
        match self.tile {
            8 => [
                ("Left", "coop_mat8x8<f16, A>"),
                ("Right", "coop_mat8x8<f16, B>"),
                ("Sum", "coop_mat8x8<f32, C>"),
            ],
            _ => [
                ("Left", "coop_mat16x16<f16, A>"),
                ("Right", "coop_mat16x16<f16, B>"),
                ("Sum", "coop_mat16x16<f32, C>"),
            ],
        }
    }

    /// The product whose subgroups make so many pieces, of a weight of this type, and what becomes of it.
    pub(in crate::kernels) fn product(
        self,
        [down, across]: [u32; 2],
        weight: &'static str,
        follows: [(&'static str, u32); 4],
    ) -> Shader {
        let mut types = self.types().to_vec();
        types.push(("Weight", weight));
        let mut constants = follows.to_vec();
        constants.extend([
            ("TILE", self.tile),
            ("DOWN", down),
            ("ACROSS", across),
            ("THREADS", 4 * self.subgroup),
        ]);
        Shader {
            name: "product",
            text: include_str!("../../../shaders/product.wgsl"),
            constants,
            types,
        }
    }

    /// The convolution whose subgroups make so many pieces, with constants of its own.
    pub(in crate::kernels) fn convolution(
        self,
        [down, across]: [u32; 2],
        own: [(&'static str, u32); 2],
    ) -> Shader {
        let mut constants = own.to_vec();
        constants.extend([
            ("TILE", self.tile),
            ("DOWN", down),
            ("ACROSS", across),
            ("THREADS", 4 * self.subgroup),
        ]);
        Shader {
            name: "conv_on_units",
            text: include_str!("../../../shaders/conv_on_units.wgsl"),
            constants,
            types: self.types().to_vec(),
        }
    }

    /// Attention of heads of `width` to keys and values of type `kept`, in one pair of tensors or split over two; `None` where they do not divide into pieces or do not fit.
    pub(in crate::kernels) fn attention(
        self,
        width: usize,
        kept: &'static str,
        is_split: bool,
    ) -> Option<Shader> {
        let width = width as u32;
        // Values, scores, weights, and three numbers a query.
        let memory = 64 * (2 * (width + 8) + 4 * 36 + 2 * 40 + 3 * 4) + 8;
        if !width.is_multiple_of(16) || memory > self.memory {
            return None;
        }
        Some(Shader {
            name: "attend_on_units",
            text: include_str!("../../../shaders/attend_on_units.wgsl"),
            constants: vec![
                ("WIDTH", width),
                ("TILE", self.tile),
                ("DOWN", 16 / self.tile),
                ("OWN", width / self.tile),
                ("KINDS", 32 / self.tile),
                ("SPLIT", u32::from(is_split)),
                ("THREADS", 4 * self.subgroup),
            ],
            types: [&self.types()[..], &[("Kept", kept)]].concat(),
        })
    }
}
