//! Operations written by hand: what training and drawing spend their time on.
//!
//! For processors in vector instructions (`x86`), with gradients where lessons go through them; for graphics devices in WGSL
//! (`wgsl`), without.
//! Every function here returns `None` where it does not apply: a processor with neither AVX2 nor AVX-512,
//! gradients on a graphics device, or switched off. The caller then goes on with the same formula in
//! tensor operations, which is the definition. Tests compare the two at odd sizes, values and gradients.

#[cfg(target_arch = "x86_64")]
mod here;
#[cfg(test)]
mod tests;
mod wgsl;
#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "vector instructions, reached only where `x86::set` found them"
)]
#[allow(
    clippy::duplicate_mod,
    reason = "the same source, compiled for several sets of instructions"
)]
mod x86;

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::LocalKey;

use burn::tensor::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
pub use wgsl::units::{MatrixUnits, matrix_units, use_matrix_units};

/// How the operations of a thread multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Factors and sums in f32.
    Single,
    /// Factors of matrix products rounded to bf16 where the processor multiplies those, sums and all else in f32; for
    /// training.
    Half,
    /// The same, and rounded to f16 on graphics devices that have it, with convolutions and attention where those have matrix
    /// units; for drawing.
    Rounded,
    /// Not at all: tensor operations do everything.
    Off,
}

impl Precision {
    /// As a picture is wished.
    pub const fn wished(half_products: bool) -> Self {
        if half_products {
            Self::Rounded
        } else {
            Self::Single
        }
    }
}

/// Whether this processor runs them.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return x86::set().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether this processor multiplies bf16 factors.
pub fn has_half_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    return x86::has_pairs();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether `x` is to be multiplied in f16: on a graphics device that has it, while [`Precision::Rounded`] holds.
pub fn is_multiplied_in_f16<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device();
    PRECISION.get() == Precision::Rounded
        && x.dtype() == DType::F32
        && !device.is_autodiff()
        && device != Device::flex()
        && device.supports_dtype(DType::F16)
}

/// `x Wᵀ + b` for `x` `[B, L, in]` and `W` `[out, in]` in f32 or f16, both rounded to f16, and what becomes of it, on the matrix
/// units of a graphics device that has them.
pub fn product_in_f16(
    x: &Tensor<3>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    then: Then<'_>,
) -> Option<Tensor<3>> {
    wgsl::units::product(x, weight, bias, then)
}

/// Whether this build runs shaders of our own on graphics devices.
pub const fn has_shaders() -> bool {
    wgsl::IN_THIS_BUILD
}

static PRODUCTS: AtomicU64 = AtomicU64::new(0);

/// Multiplications in matrix products of the operations so far, in all threads; what is computed twice counts once.
pub fn products() -> u64 {
    PRODUCTS.load(Ordering::Relaxed)
}

#[cfg(target_arch = "x86_64")]
fn count_products(count: usize) {
    PRODUCTS.fetch_add(count as u64, Ordering::Relaxed);
}

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::Single) };
}

/// Runs `work` with this precision; gradients of what it computes keep it.
pub fn with_precision<T>(precision: Precision, work: impl FnOnce() -> T) -> T {
    with_cell(&PRECISION, precision, work)
}

/// Runs `work` while `cell` holds `value`.
fn with_cell<V: Copy, T>(
    cell: &'static LocalKey<Cell<V>>,
    value: V,
    work: impl FnOnce() -> T,
) -> T {
    struct Reset<V: Copy + 'static>(&'static LocalKey<Cell<V>>, V);
    impl<V: Copy> Drop for Reset<V> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _reset = Reset(cell, cell.replace(value));
    work()
}

thread_local! {
    static IS_ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Threads that share an operation asked for here.
#[cfg(target_arch = "x86_64")]
fn threads() -> usize {
    if IS_ALONE.get() {
        1
    } else {
        rayon::current_num_threads()
    }
}

/// Does all of `work` as this thread would, on this thread and its helpers. Where there is enough for all of them, each computes
/// its operations alone.
pub fn side_by_side<T: Send>(mut work: Vec<impl FnOnce() -> T + Send>) -> Vec<T> {
    if work.len() == 1 {
        return work.drain(..).map(|work| work()).collect();
    }
    let precision = PRECISION.get();
    let is_alone = work.len() >= rayon::current_num_threads();
    #[cfg(test)]
    let is_narrow = tests::ONLY_NARROW.get();
    let one = |work: _| {
        #[cfg(test)]
        let before = tests::ONLY_NARROW.replace(is_narrow);
        let done = with_cell(&IS_ALONE, is_alone, || with_precision(precision, work));
        #[cfg(test)]
        tests::ONLY_NARROW.set(before);
        done
    };
    work.into_par_iter().map(one).collect()
}

/// Queries that see the same number of first keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The queries.
    pub queries: Range<usize>,
    /// How many keys they see.
    pub keys: usize,
}

impl Sight {
    /// `queries` that see all of `keys`, some at a time, so that their scores stay few.
    pub fn all(queries: usize, keys: usize) -> Arc<[Self]> {
        const AT_ONCE: usize = 256;
        (0..queries)
            .step_by(AT_ONCE)
            .map(|start| Self {
                queries: start..(start + AT_ONCE).min(queries),
                keys,
            })
            .collect()
    }
}

/// Other processors have no operations of their own yet.
#[cfg(not(target_arch = "x86_64"))]
mod here {
    use super::{Arc, Room, Seen, Sight, Tensor, Then};

    macro_rules! none {
        ($($name:ident<$($d:ident),*>($($argument:ty),*) -> $result:ty;)*) => {
            $(pub(super) fn $name<$(const $d: usize),*>($(_: $argument),*) -> Option<$result> { None })*
        };
    }

    none! {
        linear<>(&Tensor<3>, &Tensor<2>, Option<&Tensor<1>>, Then<'_>) -> Tensor<3>;
        conv<>(&Tensor<4>, &Tensor<4>, &Tensor<1>, bool) -> Tensor<4>;
        group_norm_silu<>(&Tensor<4>, usize, &Tensor<1>, &Tensor<1>, f32) -> Tensor<4>;
        layer_norm<>(&Tensor<3>, &Tensor<3>, &Tensor<3>, f32, f32) -> Tensor<3>;
        gelu_tanh<D>(&Tensor<D>) -> Tensor<D>;
        gated_sum<>(&Tensor<3>, &Tensor<3>, &Tensor<3>) -> Tensor<3>;
        turn<>(&Tensor<3>, &Tensor<4>, &Arc<[Vec<f32>; 2]>) -> [Tensor<4>; 3];
        attend<>(&Tensor<4>, &Seen, &Arc<[Sight]>) -> Tensor<3>;
        cross_attention<>(&Tensor<3>, &Tensor<3>, usize, &Arc<[usize]>) -> Tensor<3>;
    }

    pub(super) fn turn_into(
        _: &Tensor<3>,
        _: &Tensor<4>,
        _: &Arc<[Vec<f32>; 2]>,
        room: Room,
    ) -> (Option<Tensor<4>>, Room) {
        (None, room)
    }
}

/// What becomes of a product, in the same pass where that is possible.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// It is the result.
    Nothing,
    /// GELU in its tanh form.
    Gelu,
    /// So many times as much.
    Scaled(f32),
    /// Added to this `[R, L, C]`, multiplied by a gate `[R, 1, C]` before if there is one.
    Added(&'a Tensor<3>, Option<&'a Tensor<3>>),
}

impl Then<'_> {
    /// Whether what it takes is shaped for a product of `shape`.
    fn fits(self, shape: [usize; 3]) -> bool {
        let [rows, _, width] = shape;
        match self {
            Self::Nothing | Self::Gelu | Self::Scaled(_) => true,
            Self::Added(to, gate) => {
                let own = |of: &Tensor<3>| of.dims() == [rows, 1, width];
                to.dims() == shape && gate.is_none_or(own)
            }
        }
    }
}

/// Whether [`linear`] takes weights in half precision with `x`.
pub fn takes_half_weights<const D: usize>(x: &Tensor<D>) -> bool {
    #[cfg(target_arch = "x86_64")]
    return here::applies(x).is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `x Wᵀ + b`, and what becomes of it; with gradients only where that is nothing.
///
/// `x` `[R, L, in]`, `weight` `[out, in]`, in half precision if [it may](takes_half_weights), `bias` `[out]`.
pub fn linear(
    x: &Tensor<3>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    then: Then<'_>,
) -> Option<Tensor<3>> {
    here::linear(x, weight, bias, then)
}

/// What becomes of a product `y` `[R, L, C]` after its bias `[C]`.
pub fn finish(y: &Tensor<3>, bias: Option<&Tensor<1>>, then: Then<'_>) -> Option<Tensor<3>> {
    wgsl::finish(y, bias, then)
}

/// Square convolution of stride 1 that keeps the size; `double` repeats every value 2×2 before it.
///
/// `x` `[B, in, h, w]`, `weight` `[out, in, side, side]` with an odd side, `bias` `[out]`.
pub fn conv(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: &Tensor<1>,
    double: bool,
) -> Option<Tensor<4>> {
    here::conv(x, weight, bias, double).or_else(|| wgsl::conv(x, weight, bias, double))
}

/// Group normalisation of `[B, C, h, w]`, scale and shift `[C]`, then `SiLU`.
pub fn group_norm_silu(
    x: &Tensor<4>,
    groups: usize,
    scale: &Tensor<1>,
    shift: &Tensor<1>,
    epsilon: f32,
) -> Option<Tensor<4>> {
    here::group_norm_silu(x, groups, scale, shift, epsilon)
        .or_else(|| wgsl::group_norm_silu(x, groups, scale, shift, epsilon))
}

/// Layer normalisation of `[R, L, C]`, then `normal * (plus + scale) + shift`; both `[R or 1, 1, C]`.
pub fn layer_norm(
    x: &Tensor<3>,
    scale: &Tensor<3>,
    shift: &Tensor<3>,
    plus: f32,
    epsilon: f32,
) -> Option<Tensor<3>> {
    here::layer_norm(x, scale, shift, plus, epsilon)
        .or_else(|| wgsl::layer_norm(x, scale, shift, plus, epsilon))
}

/// GELU in its tanh form.
pub fn gelu_tanh<const D: usize>(x: &Tensor<D>) -> Option<Tensor<D>> {
    here::gelu_tanh(x).or_else(|| wgsl::gelu_tanh(x))
}

/// `x + gate * branch`: `[R, L, C]`, the gate `[R, 1, C]`.
pub fn gated_sum(x: &Tensor<3>, branch: &Tensor<3>, gate: &Tensor<3>) -> Option<Tensor<3>> {
    here::gated_sum(x, branch, gate)
}

/// Heads of `qkv` `[B, L, 3C]`, queries and keys brought to a length and turned, and values: `[B, N, L, D]` each.
///
/// `lengths` are the logarithms of the queries' lengths `[1, N, 1, 1]`, `turns` cosines and sines `[L, D/2]`, and
/// `device_turns` the same side by side on the device, `[L, D/2, 2]`.
pub fn turn(
    qkv: &Tensor<3>,
    lengths: &Tensor<4>,
    turns: &Arc<[Vec<f32>; 2]>,
    device_turns: &Tensor<3>,
) -> Option<[Tensor<4>; 3]> {
    here::turn(qkv, lengths, turns).or_else(|| wgsl::turn(qkv, lengths, device_turns))
}

/// Where the keys and values of a pass go.
#[derive(Debug)]
pub struct Room {
    /// `[B, N, S, D]`.
    pub keys: Tensor<4>,
    /// Shaped as the keys.
    pub values: Tensor<4>,
    /// The first of their places that is free.
    pub first: usize,
}

impl Room {
    /// Their places.
    fn places(&self) -> usize {
        self.keys.dims()[2]
    }

    /// Whether it is one for the heads of `qkv` `[B, L, 3C]`, and has room for them.
    fn fits(&self, qkv: &Tensor<3>, heads: usize) -> bool {
        let [batch, length, width] = qkv.dims();
        let shape = [batch, heads, self.places(), width / 3 / heads];
        self.keys.dims() == shape
            && self.values.dims() == shape
            && self.keys.dtype() == self.values.dtype()
            && self.first + length <= self.places()
    }
}

/// As [`turn`], without gradients, keys and values written into `room`: the queries, and the room, which stays as it was
/// where this does not apply.
pub fn turn_into(
    qkv: &Tensor<3>,
    lengths: &Tensor<4>,
    turns: &Arc<[Vec<f32>; 2]>,
    device_turns: &Tensor<3>,
    room: Room,
) -> (Option<Tensor<4>>, Room) {
    let (query, room) = here::turn_into(qkv, lengths, turns, room);
    if query.is_some() {
        return (query, room);
    }
    wgsl::turn_into(qkv, lengths, device_turns, room)
}

/// Keys and values that attention looks at.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `[B, N, S', D]`, of which the first `count` places count.
    pub keys: Tensor<4>,
    /// Shaped as the keys.
    pub values: Tensor<4>,
    /// See the keys.
    pub count: usize,
    /// Keys and values behind those, `[B, N, S'', D]`.
    pub own: Option<[Tensor<4>; 2]>,
}

impl Seen {
    /// All of `keys` and `values` `[B, N, S, D]`.
    pub fn all(keys: Tensor<4>, values: Tensor<4>) -> Self {
        let count = keys.dims()[2];
        Self {
            keys,
            values,
            count,
            own: None,
        }
    }

    /// Places that count, those behind them included.
    pub fn places(&self) -> usize {
        self.count + self.own.as_ref().map_or(0, |[keys, _]| keys.dims()[2])
    }
}

/// Whether [`attend`] takes keys and values of heads of `head_width` in half precision on `device`, as things are.
pub fn takes_half_keys(device: &Device, head_width: usize) -> bool {
    wgsl::takes_half_keys(device, head_width)
}

/// Attention of queries `[B, N, L, D]` to the first of what is seen, as far as they may see: `[B, L, C]`.
pub fn attend(query: &Tensor<4>, seen: &Seen, sights: &Arc<[Sight]>) -> Option<Tensor<3>> {
    here::attend(query, seen, sights).or_else(|| wgsl::attend(query, seen, sights))
}

/// Attention of scaled queries `[B, L, C]` to texts `[B, T, 2C]`, keys and values side by side, of `lens` tokens.
pub fn cross_attention(
    query: &Tensor<3>,
    text: &Tensor<3>,
    heads: usize,
    lens: &Arc<[usize]>,
) -> Option<Tensor<3>> {
    here::cross_attention(query, text, heads, lens)
        .or_else(|| wgsl::cross_attention(query, text, heads, lens))
}
