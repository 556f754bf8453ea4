//! Value by value: GELU, and a gated sum.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::bridge::{Differentiable, Operation, Values};
use super::math::{CUBED, DOUBLED, gelu, sigmoid};
use super::pack::{at_least, some_of};
use super::place::written;

/// [`gelu`]. Input: `x`.
#[derive(Debug)]
pub(in crate::kernels) struct Gelu;

/// Values that one thread takes at once.
const SHARE: usize = 1 << 15;

impl Gelu {
    vectorised! {
        fn run(x: &[f32]) -> Vec<f32> {
            let all = |y: &mut [MaybeUninit<f32>]| {
                x.par_chunks(SHARE)
                    .zip(y.par_chunks_mut(SHARE))
                    .with_min_len(some_of(1))
                    .for_each(|(x, y)| {
                        for (x, y) in x.iter().zip(y) {
                            y.write(gelu(*x));
                        }
                    });
            };
            // SAFETY: both lists are as long.
            unsafe { written(x.len(), all) }
        }
    }

    vectorised! {
        fn back(gradient: &[f32], x: &[f32]) -> Vec<f32> {
            let mut of_x = vec![0.0; x.len()];
            for ((x, gradient), of_x) in x.iter().zip(gradient).zip(&mut of_x) {
                let s = sigmoid(DOUBLED * (CUBED * x * x).mul_add(*x, *x));
                let slope = DOUBLED * (3.0 * CUBED * x).mul_add(*x, 1.0);
                *of_x = gradient * s * (x * (1.0 - s)).mul_add(slope, 1.0);
            }
            of_x
        }
    }
}

impl Operation<3> for Gelu {
    fn shape(&self, [x, _, _]: [&[usize]; 3]) -> Vec<usize> {
        x.to_vec()
    }

    fn forward(&self, [x, _, _]: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { Self::run(x.data) }
    }
}

impl Differentiable for Gelu {
    fn backward(
        &self,
        gradient: &[f32],
        [x, _, _]: [Values<'_>; 3],
        _wanted: [bool; 3],
    ) -> [Vec<f32>; 3] {
        // SAFETY: operations are made only where the set is there.
        [
            unsafe { Self::back(gradient, x.data) },
            Vec::new(),
            Vec::new(),
        ]
    }
}

/// `x + gate * branch`. Inputs: `x` and branch `[R, L, C]`, gate `[R, 1, C]`.
#[derive(Debug)]
pub(in crate::kernels) struct GatedSum;

/// A row of `x`, of the branch, and of the result.
type GatedRow<'a> = ((&'a [f32], &'a [f32]), &'a mut [MaybeUninit<f32>]);

impl GatedSum {
    vectorised! {
        fn run([x, branch, gate]: [Values<'_>; 3]) -> Vec<f32> {
            let (length, width) = (x.shape[1], x.shape[2]);
            let one = |(row, ((x, branch), y)): (usize, GatedRow<'_>)| {
                let gate = &gate.data[row / length * width..][..width];
                for (((x, branch), gate), y) in x.iter().zip(branch).zip(gate).zip(y) {
                    y.write(gate.mul_add(*branch, *x));
                }
            };
            let all = |y: &mut [MaybeUninit<f32>]| {
                x.data
                    .par_chunks_exact(width)
                    .zip(branch.data.par_chunks_exact(width))
                    .zip(y.par_chunks_exact_mut(width))
                    .enumerate()
                    .with_min_len(at_least(width))
                    .for_each(one);
            };
            assert_eq!(x.data.len(), branch.data.len(), "one branch value for each");
            // SAFETY: rows are all there is.
            unsafe { written(x.shape[0] * length * width, all) }
        }
    }

    vectorised! {
        fn back(gradient: &[f32], [x, branch, gate]: [Values<'_>; 3]) -> [Vec<f32>; 3] {
            let (length, width) = (x.shape[1], x.shape[2]);
            let mut of_branch = vec![0.0; branch.data.len()];
            let mut of_gate = vec![0.0; gate.data.len()];
            for row in 0..of_branch.len() / width {
                let part = row * width..(row + 1) * width;
                let start = row / length * width;
                let (branch, gradient) = (&branch.data[part.clone()], &gradient[part.clone()]);
                let of_branch = &mut of_branch[part];
                let gate = &gate.data[start..start + width];
                let of_gate = &mut of_gate[start..start + width];
                for at in 0..width {
                    of_branch[at] = gradient[at] * gate[at];
                    of_gate[at] = gradient[at].mul_add(branch[at], of_gate[at]);
                }
            }
            [gradient.to_vec(), of_branch, of_gate]
        }
    }
}

impl Operation<3> for GatedSum {
    fn shape(&self, [x, _, _]: [&[usize]; 3]) -> Vec<usize> {
        x.to_vec()
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { Self::run(inputs) }
    }
}

impl Differentiable for GatedSum {
    fn backward(
        &self,
        gradient: &[f32],
        inputs: [Values<'_>; 3],
        _wanted: [bool; 3],
    ) -> [Vec<f32>; 3] {
        // SAFETY: operations are made only where the set is there.
        unsafe { Self::back(gradient, inputs) }
    }
}
