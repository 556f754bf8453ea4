//! Normalisations with what follows them, in one pass forward and one back.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::bridge::{Differentiable, Operation, Values};
use super::math::sigmoid;
use super::pack::{at_least, some_of};
use super::place::written;
use super::reduce::{products, total};

/// Group normalisation, scale and shift per channel, then `SiLU`.
///
/// Inputs: `x` `[B, C, h, w]`, scale `[C]`, shift `[C]`.
#[derive(Debug)]
pub(in crate::kernels) struct GroupNormSilu {
    pub(in crate::kernels) groups: usize,
    pub(in crate::kernels) epsilon: f32,
}

vectorised! {
    /// Mean and reciprocal deviation.
    #[inline]
    fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
        let count = x.len() as f32;
        let mean = total(x) / count;
        let variance = products(x, x, [mean; 2]) / count;
        (mean, 1.0 / (variance + epsilon).sqrt())
    }
}

impl GroupNormSilu {
    /// Values per group, per channel, and channels per group.
    fn sizes(&self, shape: &[usize]) -> (usize, usize, usize) {
        let area = shape[2] * shape[3];
        let channels = shape[1] / self.groups;
        (channels * area, area, channels)
    }

    vectorised! {
        fn run(&self, [x, scale, shift]: [Values<'_>; 3]) -> Vec<f32> {
            let (size, area, channels) = self.sizes(x.shape);
            let one = |(group, (x, y)): (usize, (&[f32], &mut [MaybeUninit<f32>]))| {
                let (mean, inverse) = moments(x, self.epsilon);
                let first = group % self.groups * channels;
                for (index, (x, y)) in x
                    .chunks_exact(area)
                    .zip(y.chunks_exact_mut(area))
                    .enumerate()
                {
                    let a = inverse * scale.data[first + index];
                    let b = shift.data[first + index] - mean * a;
                    for (x, y) in x.iter().zip(y) {
                        let z = x.mul_add(a, b);
                        y.write(z * sigmoid(z));
                    }
                }
            };
            let all = |y: &mut [MaybeUninit<f32>]| {
                x.data
                    .par_chunks_exact(size)
                    .zip(y.par_chunks_exact_mut(size))
                    .enumerate()
                    .with_min_len(some_of(8))
                    .for_each(one);
            };
            // SAFETY: groups are all there is.
            unsafe { written(x.shape[0] * self.groups * size, all) }
        }
    }

    vectorised! {
        fn back(&self, gradient: &[f32], [x, scale, shift]: [Values<'_>; 3]) -> [Vec<f32>; 3] {
            let (size, area, channels) = self.sizes(x.shape);
            let mut of_x = vec![0.0; x.data.len()];
            let mut of_scale = vec![0.0; scale.data.len()];
            let mut of_shift = vec![0.0; shift.data.len()];
            let parts = x
                .data
                .chunks_exact(size)
                .zip(gradient.chunks_exact(size))
                .zip(of_x.chunks_exact_mut(size));
            for (group, ((x, gradient), of_x)) in parts.enumerate() {
                let (mean, inverse) = moments(x, self.epsilon);
                let first = group % self.groups * channels;
                let (mut sum, mut weighted) = (0.0, 0.0);
                // First the gradient of the normalised values, kept in `of_x`.
                for index in 0..channels {
                    let part = index * area..(index + 1) * area;
                    let (x, gradient) = (&x[part.clone()], &gradient[part.clone()]);
                    let of_x = &mut of_x[part];
                    let (a, b) = (scale.data[first + index], shift.data[first + index]);
                    for ((x, gradient), of_x) in x.iter().zip(gradient).zip(of_x.iter_mut()) {
                        let z = ((x - mean) * inverse).mul_add(a, b);
                        let s = sigmoid(z);
                        *of_x = gradient * s * (1.0 - s).mul_add(z, 1.0);
                    }
                    let all = total(of_x);
                    let along = products(of_x, x, [0.0, mean]) * inverse;
                    of_shift[first + index] += all;
                    of_scale[first + index] += along;
                    sum += a * all;
                    weighted += a * along;
                }
                let (sum, weighted) = (sum / size as f32, weighted / size as f32);
                for index in 0..channels {
                    let part = index * area..(index + 1) * area;
                    let a = scale.data[first + index];
                    for (x, of_x) in x[part.clone()].iter().zip(&mut of_x[part]) {
                        let normal = (x - mean) * inverse;
                        *of_x = inverse * (*of_x * a - sum - normal * weighted);
                    }
                }
            }
            [of_x, of_scale, of_shift]
        }
    }
}

impl Operation<3> for GroupNormSilu {
    fn shape(&self, [x, _, _]: [&[usize]; 3]) -> Vec<usize> {
        x.to_vec()
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.run(inputs) }
    }
}

impl Differentiable for GroupNormSilu {
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

/// Layer normalisation, then `y = normal * (plus + scale) + shift`.
///
/// Inputs: `x` `[R, L, C]`; scale and shift `[R, 1, C]`, or one row for all.
#[derive(Debug)]
pub(in crate::kernels) struct LayerNorm {
    pub(in crate::kernels) epsilon: f32,
    pub(in crate::kernels) plus: f32,
}

impl LayerNorm {
    vectorised! {
        fn run(&self, [x, scale, shift]: [Values<'_>; 3]) -> Vec<f32> {
            let (length, width) = (x.shape[1], x.shape[2]);
            let one = |(row, (x, y)): (usize, (&[f32], &mut [MaybeUninit<f32>]))| {
                let (mean, inverse) = moments(x, self.epsilon);
                let start = row / length * width % scale.data.len();
                let scale = &scale.data[start..start + width];
                let shift = &shift.data[start..start + width];
                for (((x, y), scale), shift) in x.iter().zip(y).zip(scale).zip(shift) {
                    y.write(((x - mean) * inverse).mul_add(self.plus + scale, *shift));
                }
            };
            let all = |y: &mut [MaybeUninit<f32>]| {
                x.data
                    .par_chunks_exact(width)
                    .zip(y.par_chunks_exact_mut(width))
                    .enumerate()
                    .with_min_len(at_least(width))
                    .for_each(one);
            };
            // SAFETY: rows are all there is.
            unsafe { written(x.shape[0] * length * width, all) }
        }
    }

    vectorised! {
        fn back(&self, gradient: &[f32], [x, scale, shift]: [Values<'_>; 3]) -> [Vec<f32>; 3] {
            let (length, width) = (x.shape[1], x.shape[2]);
            let mut of_x = vec![0.0; x.data.len()];
            let mut of_scale = vec![0.0; scale.data.len()];
            let mut of_shift = vec![0.0; shift.data.len()];
            let rows = x
                .data
                .chunks_exact(width)
                .zip(gradient.chunks_exact(width))
                .zip(of_x.chunks_exact_mut(width));
            for (row, ((x, gradient), of_x)) in rows.enumerate() {
                let (mean, inverse) = moments(x, self.epsilon);
                let start = row / length * width % scale.data.len();
                let scale = &scale.data[start..start + width];
                let of_scale = &mut of_scale[start..start + width];
                let of_shift = &mut of_shift[start..start + width];
                for at in 0..width {
                    let normal = (x[at] - mean) * inverse;
                    of_scale[at] = gradient[at].mul_add(normal, of_scale[at]);
                    of_shift[at] += gradient[at];
                    of_x[at] = gradient[at] * (self.plus + scale[at]);
                }
                let sum = total(of_x) / width as f32;
                let weighted = products(of_x, x, [0.0, mean]) * inverse / width as f32;
                for (x, of_x) in x.iter().zip(of_x) {
                    *of_x = inverse * (*of_x - sum - (x - mean) * inverse * weighted);
                }
            }
            [of_x, of_scale, of_shift]
        }
    }
}

impl Operation<3> for LayerNorm {
    fn shape(&self, [x, _, _]: [&[usize]; 3]) -> Vec<usize> {
        x.to_vec()
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.run(inputs) }
    }
}

impl Differentiable for LayerNorm {
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
