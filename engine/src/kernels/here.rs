//! The operations of this processor, with the set of instructions that it has.

use std::marker::PhantomData;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};

use super::x86::bridge::{apply, apply_into, apply_plain, bound};
use super::{PRECISION, Precision, Room, Seen, Sight, Then, available, x86};

/// The thread's precision where the operations apply to a tensor: one on the processor, in f32 and with values.
pub(super) fn applies<const D: usize>(x: &Tensor<D>) -> Option<Precision> {
    let precision = PRECISION.get();
    let fits = precision != Precision::Off
        && available()
        && x.dtype() == DType::F32
        && !x.dims().contains(&0)
        && x.device().without_autodiff() == Device::flex();
    fits.then_some(precision)
}

/// An operation of the set of instructions that is there, `$factor` being its factor type for the precision.
macro_rules! by_set {
    ($precision:expr, $set:ident, $factor:ident => $result:expr) => {
        match (x86::set()?, $precision) {
            (x86::Set::Wide, Precision::Half | Precision::Rounded) if x86::has_pairs() => {
                use x86::paired as $set;
                type $factor = $set::Half;
                $result
            }
            (x86::Set::Wide, _) => {
                use x86::wide as $set;
                type $factor = $set::Single;
                $result
            }
            (x86::Set::Narrow, _) => {
                use x86::narrow as $set;
                type $factor = $set::Single;
                $result
            }
        }
    };
    ($set:ident => $result:expr) => {
        match x86::set()? {
            x86::Set::Wide => {
                use x86::wide as $set;
                $result
            }
            x86::Set::Narrow => {
                use x86::narrow as $set;
                $result
            }
        }
    };
}

pub(super) fn linear(
    x: &Tensor<3>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    then: Then<'_>,
) -> Option<Tensor<3>> {
    let device = x.device();
    let precision = applies(x)?;
    let none = || Tensor::zeros([1], &device);
    let bias = bias.cloned().unwrap_or_else(none);
    let (own, weight) = (x.clone(), weight.clone());
    if matches!(then, Then::Nothing) {
        return Some(by_set!(precision, set, F => {
            apply(own, weight, bias, set::linear::Linear::<F>(PhantomData))
        }));
    }
    if device.is_autodiff() || !then.fits([x.dims()[0], x.dims()[1], weight.dims()[0]]) {
        return None;
    }
    // Something has to be given where there is none.
    let weight_or = |own: Option<&Tensor<3>>| own.map_or_else(|| bound(&weight), bound);
    let [to, gate] = match then {
        Then::Nothing | Then::Gelu | Then::Scaled(_) => [None; 2],
        Then::Added(to, gate) => [Some(to), gate],
    };
    let [to, gate] = [to, gate].map(weight_or);
    let inputs = [bound(x), bound(&weight), bound(&bias), to, gate];
    Some(by_set!(precision, set, F => {
        use set::linear::{Follows, LinearThen};
        let follows = match then {
            Then::Nothing => return None,
            Then::Gelu => Follows::Gelu,
            Then::Scaled(factor) => Follows::Scaled(factor),
            Then::Added(_, None) => Follows::Added,
            Then::Added(_, Some(_)) => Follows::Gated,
        };
        let factor: PhantomData<F> = PhantomData;
        apply_plain(inputs, LinearThen { follows, factor })
    }))
}

pub(super) fn conv(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: &Tensor<1>,
    double: bool,
) -> Option<Tensor<4>> {
    let precision = applies(x)?;
    let (x, weight, bias) = (x.clone(), weight.clone(), bias.clone());
    Some(by_set!(precision, set, F => {
        apply(x, weight, bias, set::conv::Conv::<F> { double, factor: PhantomData })
    }))
}

pub(super) fn group_norm_silu(
    x: &Tensor<4>,
    groups: usize,
    scale: &Tensor<1>,
    shift: &Tensor<1>,
    epsilon: f32,
) -> Option<Tensor<4>> {
    applies(x)?;
    let (x, scale, shift) = (x.clone(), scale.clone(), shift.clone());
    Some(by_set!(set => {
        apply(x, scale, shift, set::norm::GroupNormSilu { groups, epsilon })
    }))
}

pub(super) fn layer_norm(
    x: &Tensor<3>,
    scale: &Tensor<3>,
    shift: &Tensor<3>,
    plus: f32,
    epsilon: f32,
) -> Option<Tensor<3>> {
    applies(x)?;
    let (x, scale, shift) = (x.clone(), scale.clone(), shift.clone());
    Some(by_set!(set => {
        apply(x, scale, shift, set::norm::LayerNorm { epsilon, plus })
    }))
}

pub(super) fn gelu_tanh<const D: usize>(x: &Tensor<D>) -> Option<Tensor<D>> {
    applies(x)?;
    // The second and third are not looked at.
    let [x, unused, also] = [(); 3].map(|()| x.clone());
    Some(by_set!(set => apply(x, unused, also, set::pointwise::Gelu)))
}

pub(super) fn gated_sum(x: &Tensor<3>, branch: &Tensor<3>, gate: &Tensor<3>) -> Option<Tensor<3>> {
    applies(x)?;
    let (x, branch, gate) = (x.clone(), branch.clone(), gate.clone());
    Some(by_set!(set => apply(x, branch, gate, set::pointwise::GatedSum)))
}

pub(super) fn turn(
    qkv: &Tensor<3>,
    lengths: &Tensor<4>,
    turns: &Arc<[Vec<f32>; 2]>,
) -> Option<[Tensor<4>; 3]> {
    applies(qkv)?;
    let (heads, turns) = (lengths.dims()[1], turns.clone());
    // The third is not looked at.
    let (qkv, lengths, unused) = (qkv.clone(), lengths.clone(), lengths.clone());
    let turned: Tensor<5> =
        by_set!(set => apply(qkv, lengths, unused, set::turn::Turn { heads, turns }));
    Some([0, 1, 2].map(|part| turned.clone().narrow(0, part, 1).squeeze_dim(0)))
}

pub(super) fn turn_into(
    qkv: &Tensor<3>,
    lengths: &Tensor<4>,
    turns: &Arc<[Vec<f32>; 2]>,
    room: Room,
) -> (Option<Tensor<4>>, Room) {
    let fits = room.keys.dtype() == DType::F32
        && !qkv.device().is_autodiff()
        && room.fits(qkv, lengths.dims()[1]);
    let (Some(set), true) = (applies(qkv).and_then(|_| x86::set()), fits) else {
        return (None, room);
    };
    let (heads, turns, first) = (lengths.dims()[1], turns.clone(), room.first);
    let inputs = [bound(qkv), bound(lengths)];
    let (query, keys, values) = match set {
        x86::Set::Wide => {
            let turn = x86::wide::turn::Turn { heads, turns };
            apply_into(inputs, room.keys, room.values, (turn, first))
        }
        x86::Set::Narrow => {
            let turn = x86::narrow::turn::Turn { heads, turns };
            apply_into(inputs, room.keys, room.values, (turn, first))
        }
    };
    let room = Room {
        keys,
        values,
        first,
    };
    (Some(query), room)
}

pub(super) fn attend(query: &Tensor<4>, seen: &Seen, sights: &Arc<[Sight]>) -> Option<Tensor<3>> {
    let precision = applies(query)?;
    let (keys, values, count) = (seen.keys.clone(), seen.values.clone(), seen.count);
    let (query, sights) = (query.clone(), sights.clone());
    match &seen.own {
        None => Some(by_set!(precision, set, F => {
            let factor: PhantomData<F> = PhantomData;
            apply(query, keys, values, set::attention::Attend { sights, factor })
        })),
        Some(_) if query.device().is_autodiff() => None,
        Some(own) => {
            let [own_keys, own_values] = own.each_ref().map(bound);
            let inputs = [
                bound(&query),
                bound(&keys),
                bound(&values),
                own_keys,
                own_values,
            ];
            Some(by_set!(precision, set, F => {
                let factor: PhantomData<F> = PhantomData;
                let attend = set::attention::Attend { sights, factor };
                apply_plain(inputs, set::attention::AttendSplit { attend, count })
            }))
        }
    }
}

pub(super) fn cross_attention(
    query: &Tensor<3>,
    text: &Tensor<3>,
    heads: usize,
    lens: &Arc<[usize]>,
) -> Option<Tensor<3>> {
    let precision = applies(query)?;
    // The third is not looked at.
    let (query, text, unused, lens) = (query.clone(), text.clone(), text.clone(), lens.clone());
    Some(by_set!(precision, set, F => {
        let factor: PhantomData<F> = PhantomData;
        apply(query, text, unused, set::text_attention::CrossAttention { heads, lens, factor })
    }))
}
