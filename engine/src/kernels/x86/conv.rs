//! Square convolutions of stride 1 that keep the size, and those that double it first.
//!
//! Maps are padded with zeros once; a kernel tap is then the same flat map,
//! read from another start. Columns of the padding are computed and dropped.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::bridge::{Differentiable, Operation, Values};
use super::factor::Factor;
use super::gemm::{How, multiply};
use super::pack::{Left, Packed, Right, at_least};
use super::place::written;
use super::reduce::total;
use crate::kernels::count_products;

/// Inputs: `x` `[B, in, h, w]`, weight `[out, in, side, side]`, bias `[out]`.
#[derive(Debug)]
pub(in crate::kernels) struct Conv<F: Factor> {
    /// Repeat every value 2×2 before the convolution.
    pub(in crate::kernels) double: bool,
    pub(in crate::kernels) factor: std::marker::PhantomData<F>,
}

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    inputs: usize,
    outputs: usize,
    side: usize,
    h: usize,
    w: usize,
    double: bool,
}

impl Sizes {
    fn new(x: &[usize], weight: &[usize], double: bool) -> Self {
        let times = 1 + usize::from(double);
        Self {
            inputs: weight[1],
            outputs: weight[0],
            side: weight[2],
            h: times * x[2],
            w: times * x[3],
            double,
        }
    }

    fn pad(self) -> usize {
        self.side / 2
    }

    /// Length of a padded row.
    fn wide(self) -> usize {
        self.w + 2 * self.pad()
    }

    /// Length of a padded plane; one row more, so that every tap stays inside.
    fn plane(self) -> usize {
        (self.h + 2 * self.pad() + 1) * self.wide()
    }

    /// Places from the first to the last result, padding columns between rows included.
    fn reach(self) -> usize {
        (self.h - 1) * self.wide() + self.w
    }

    /// Start of every tap in a padded plane.
    fn taps(self) -> Vec<usize> {
        (0..self.side)
            .flat_map(|y| (0..self.side).map(move |x| y * self.wide() + x))
            .collect()
    }
}

/// Pads `count` planes of `map` `[count, h, w]` (half as large where `double`), as pairs of planes.
fn pad_right<F: Factor>(map: &[f32], count: usize, sizes: Sizes, double: bool) -> Vec<F::Right> {
    let (h, w, pad, plane) = (sizes.h, sizes.w, sizes.pad(), sizes.plane());
    let shift = usize::from(double);
    let (small_h, small_w) = (h >> shift, w >> shift);
    let zeros = vec![0.0; small_w];
    let nothing = MaybeUninit::new(F::Right::default());
    let one = |(pair, padded): (usize, &mut [MaybeUninit<F::Right>])| {
        let first = F::STEP * pair;
        let (above, below) = (pad * sizes.wide(), (pad + h) * sizes.wide());
        padded[..above].fill(nothing);
        padded[below..].fill(nothing);
        for y in 0..h {
            let row = |channel: usize| {
                let start = (channel * small_h + (y >> shift)) * small_w;
                map.get(start..start + small_w)
            };
            let a = row(first).unwrap_or(&zeros);
            let b = if F::STEP == 2 && first + 1 < count {
                row(first + 1).unwrap_or(&zeros)
            } else {
                &zeros
            };
            let row = &mut padded[(y + pad) * sizes.wide()..][..sizes.wide()];
            row[..pad].fill(nothing);
            row[pad + w..].fill(nothing);
            let to = &mut row[pad..pad + w];
            if double {
                for ((to, a), b) in to.chunks_exact_mut(2).zip(a).zip(b) {
                    to.fill(MaybeUninit::new(F::right(*a, *b)));
                }
            } else {
                for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                    to.write(F::right(*a, *b));
                }
            }
        }
    };
    let all = |padded: &mut [MaybeUninit<F::Right>]| {
        padded
            .par_chunks_exact_mut(plane)
            .enumerate()
            .with_min_len(at_least(plane))
            .for_each(one);
    };
    // SAFETY: of every plane the rows above, below and between are written, these at both sides and in the middle.
    unsafe { written(count.div_ceil(F::STEP) * plane, all) }
}

/// Pads `[inputs, h, w]` (half as large where `double`) as rows of values.
fn pad_left<F: Factor>(map: &[f32], sizes: Sizes) -> Vec<F::Left> {
    let (h, w, pad, plane) = (sizes.h, sizes.w, sizes.pad(), sizes.plane());
    let shift = usize::from(sizes.double);
    let (small_h, small_w) = (h >> shift, w >> shift);
    let mut padded = vec![F::Left::default(); sizes.inputs * plane];
    for (channel, padded) in padded.chunks_exact_mut(plane).enumerate() {
        for y in 0..h {
            let from = (channel * small_h + (y >> shift)) * small_w;
            let from = &map[from..from + small_w];
            let start = (y + pad) * sizes.wide() + pad;
            let to = &mut padded[start..start + w];
            if sizes.double {
                for (to, from) in to.chunks_exact_mut(2).zip(from) {
                    to.fill(F::left(*from));
                }
            } else {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = F::left(*from);
                }
            }
        }
    }
    padded
}

/// Convolves one padded map with weights packed as rows of channels and taps, into `[rows, h, w]`, all of which is
/// written.
fn convolve<F: Factor>(
    padded: &[F::Right],
    weights: Left<'_, F>,
    channels: usize,
    sizes: Sizes,
    start: impl Fn(usize) -> f32 + Sync,
    out: &mut [MaybeUninit<f32>],
) {
    let taps = sizes.taps();
    let rows: Vec<usize> = (0..channels.div_ceil(F::STEP))
        .flat_map(|pair| taps.iter().map(move |tap| pair * sizes.plane() + tap))
        .collect();
    let right = Right::Steps {
        data: padded,
        rows: &rows,
    };
    let reach = sizes.reach();
    let count = weights.rows.len();
    assert_eq!(out.len(), count * sizes.h * sizes.w, "a map for each row");
    if sizes.wide() == sizes.w {
        for (row, out) in out.chunks_exact_mut(sizes.h * sizes.w).enumerate() {
            out.fill(MaybeUninit::new(start(row)));
        }
        // SAFETY: they have just been written.
        let out = unsafe { out.assume_init_mut() };
        multiply::<F>(weights, right, out, reach, reach, How::added());
        return;
    }
    // SAFETY: a product writes all its values.
    let flat = unsafe {
        written(count * reach, |flat| {
            multiply::<F>(weights, right, flat, reach, reach, How::default());
        })
    };
    let one = |(row, (out, flat)): (usize, (&mut [MaybeUninit<f32>], &[f32]))| {
        let bias = start(row);
        for (out, flat) in out.chunks_exact_mut(sizes.w).zip(flat.chunks(sizes.wide())) {
            for (out, value) in out.iter_mut().zip(flat) {
                out.write(value + bias);
            }
        }
    };
    out.par_chunks_exact_mut(sizes.h * sizes.w)
        .zip(flat.par_chunks_exact(reach))
        .enumerate()
        .with_min_len(at_least(reach))
        .for_each(one);
}

/// Weights as rows of `out`, each channel by channel, or by as many as are multiplied at once, tap by tap.
///
/// `value(row, channel, tap)` gives a weight.
fn pack_weights<F: Factor>(
    rows: usize,
    channels: usize,
    taps: usize,
    value: impl Fn(usize, usize, usize) -> f32 + Sync,
) -> Packed<'static, F::Left> {
    let wide = taps * channels.next_multiple_of(F::STEP);
    let mut data = vec![F::Left::default(); rows * wide];
    let one = |(row, data): (usize, &mut [F::Left])| {
        for (group, data) in data.chunks_exact_mut(taps * F::STEP).enumerate() {
            for (tap, data) in data.chunks_exact_mut(F::STEP).enumerate() {
                for (index, data) in data.iter_mut().enumerate() {
                    let channel = group * F::STEP + index;
                    if channel < channels {
                        *data = F::left(value(row, channel, tap));
                    }
                }
            }
        }
    };
    data.par_chunks_exact_mut(wide)
        .enumerate()
        .with_min_len(at_least(wide))
        .for_each(one);
    let rows = (0..rows).map(|row| row * wide).collect();
    Packed {
        data: Cow::Owned(data),
        rows,
    }
}

impl<F: Factor> Conv<F> {
    vectorised! {
        fn run(&self, [x, weight, bias]: [Values<'_>; 3]) -> Vec<f32> {
            let sizes = Sizes::new(x.shape, weight.shape, self.double);
            let taps = sizes.side * sizes.side;
            let row = sizes.inputs * taps;
            let weights = match F::as_left(weight.data) {
                Some(data) => Packed {
                    data: Cow::Borrowed(data),
                    rows: (0..sizes.outputs).map(|out| out * row).collect(),
                },
                None => pack_weights::<F>(sizes.outputs, sizes.inputs, taps, |out, channel, tap| {
                    weight.data[out * row + channel * taps + tap]
                }),
            };
            let batch = x.shape[0];
            count_products(batch * sizes.h * sizes.w * weight.data.len());
            let one = |(x, y): (&[f32], &mut [MaybeUninit<f32>])| {
                let padded = pad_right::<F>(x, sizes.inputs, sizes, self.double);
                let bias = |row: usize| bias.data[row];
                convolve::<F>(&padded, weights.left(), sizes.inputs, sizes, bias, y);
            };
            let all = |y: &mut [MaybeUninit<f32>]| {
                x.data
                    .par_chunks_exact(x.data.len() / batch)
                    .zip(y.par_chunks_exact_mut(sizes.outputs * sizes.h * sizes.w))
                    .for_each(one);
            };
            // SAFETY: a convolution writes all its values.
            unsafe { written(batch * sizes.outputs * sizes.h * sizes.w, all) }
        }
    }

    vectorised! {
        fn back(&self, gradient: &[f32], [x, weight, bias]: [Values<'_>; 3]) -> [Vec<f32>; 3] {
            let sizes = Sizes::new(x.shape, weight.shape, self.double);
            let taps = sizes.side * sizes.side;
            let (inputs, outputs) = (sizes.inputs, sizes.outputs);
            let (area, small) = (sizes.h * sizes.w, x.shape[2] * x.shape[3]);
            count_products(2 * x.shape[0] * area * weight.data.len());
            // The gradient of x is the gradient convolved with the turned kernel.
            let turned = pack_weights::<F>(inputs, outputs, taps, |channel, out, tap| {
                weight.data[(out * inputs + channel) * taps + taps - 1 - tap]
            });
            let plane = sizes.plane();
            let starts: Vec<usize> = sizes
                .taps()
                .iter()
                .flat_map(|tap| (0..inputs).map(move |channel| channel * plane + tap))
                .collect();
            let one = |gradient: &[f32],
                       x: &[f32],
                       of_x: &mut [MaybeUninit<f32>],
                       of_weight: &mut [f32]| {
                let padded = pad_right::<F>(gradient, outputs, sizes, false);
                if self.double {
                    // SAFETY: a convolution writes all its values.
                    let whole = unsafe {
                        written(inputs * area, |whole| {
                            convolve::<F>(&padded, turned.left(), outputs, sizes, |_| 0.0, whole);
                        })
                    };
                    let w = sizes.w;
                    for (row, of_x) in of_x.chunks_exact_mut(w / 2).enumerate() {
                        let (top, below) = whole[2 * row * w..].split_at(w);
                        for (at, of_x) in of_x.iter_mut().enumerate() {
                            of_x.write(
                                top[2 * at] + top[2 * at + 1] + below[2 * at] + below[2 * at + 1],
                            );
                        }
                    }
                } else {
                    convolve::<F>(&padded, turned.left(), outputs, sizes, |_| 0.0, of_x);
                }
                // Of the weights: every tap of every input map against every gradient map.
                let left = pad_left::<F>(x, sizes);
                let right = spread_gradient::<F>(gradient, sizes);
                let left = Left::<F> {
                    data: &left,
                    rows: &starts,
                };
                let right = Right::Steps {
                    data: &right.data,
                    rows: &right.rows,
                };
                multiply::<F>(left, right, of_weight, outputs, outputs, How::added());
            };
            let mut sum = vec![0.0; taps * inputs * outputs]; // [tap, in, out]
            let all = |of_x: &mut [MaybeUninit<f32>]| {
                let parts = gradient
                    .chunks_exact(outputs * area)
                    .zip(x.data.chunks_exact(inputs * small))
                    .zip(of_x.chunks_exact_mut(inputs * small));
                for ((gradient, x), of_x) in parts {
                    one(gradient, x, of_x, &mut sum);
                }
            };
            assert_eq!(gradient.len(), x.shape[0] * outputs * area, "one gradient for each result");
            // SAFETY: maps are all there is, and each is written whole.
            let of_x = unsafe { written(x.shape[0] * inputs * small, all) };
            let mut of_weight = vec![0.0; weight.data.len()];
            for (out, of_weight) in of_weight.chunks_exact_mut(inputs * taps).enumerate() {
                for (channel, of_weight) in of_weight.chunks_exact_mut(taps).enumerate() {
                    for (tap, value) in of_weight.iter_mut().enumerate() {
                        *value = sum[(tap * inputs + channel) * outputs + out];
                    }
                }
            }
            let mut of_bias = vec![0.0; bias.data.len()];
            for (row, gradient) in gradient.chunks_exact(area).enumerate() {
                of_bias[row % outputs] += total(gradient);
            }
            [of_x, of_weight, of_bias]
        }
    }
}

/// Gradients `[out, h, w]` as a right factor over places, zero in the padding columns.
fn spread_gradient<F: Factor>(gradient: &[f32], sizes: Sizes) -> Packed<'static, F::Right> {
    const BLOCK: usize = 16;
    let (outputs, w, wide) = (sizes.outputs, sizes.w, sizes.wide());
    let area = sizes.h * w;
    let steps = sizes.reach().div_ceil(F::STEP);
    let mut data = vec![F::Right::default(); steps * outputs];
    let mut flat = vec![0.0; BLOCK * steps * F::STEP];
    for first in (0..outputs).step_by(BLOCK) {
        let count = BLOCK.min(outputs - first);
        for (row, flat) in flat
            .chunks_exact_mut(steps * F::STEP)
            .take(count)
            .enumerate()
        {
            let plane = &gradient[(first + row) * area..(first + row + 1) * area];
            for (to, from) in flat.chunks_mut(wide).zip(plane.chunks_exact(w)) {
                to[..w].copy_from_slice(from);
            }
        }
        for step in 0..steps {
            let to = &mut data[step * outputs + first..step * outputs + first + count];
            for (row, to) in to.iter_mut().enumerate() {
                let at = row * steps * F::STEP + step * F::STEP;
                *to = F::right(flat[at], flat[at + F::STEP - 1]);
            }
        }
    }
    let rows = (0..steps).map(|step| step * outputs).collect();
    Packed {
        data: Cow::Owned(data),
        rows,
    }
}

impl<F: Factor> Operation<3> for Conv<F> {
    fn shape(&self, [x, weight, _]: [&[usize]; 3]) -> Vec<usize> {
        let sizes = Sizes::new(x, weight, self.double);
        vec![x[0], sizes.outputs, sizes.h, sizes.w]
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.run(inputs) }
    }
}

impl<F: Factor> Differentiable for Conv<F> {
    fn backward(
        &self,
        gradient: &[f32],
        inputs: [Values<'_>; 3],
        _wanted: [bool; 3],
    ) -> [Vec<f32>; 3] {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.back(gradient, inputs) }
    }
}
