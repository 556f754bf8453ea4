//! `y = x Wᵀ + b` over rows.

use super::bridge::{Differentiable, Numbers, Operation, Values};
use super::factor::Factor;
use super::gemm::{How, multiply};
use super::pack::{Right, left_columns, left_rows};
use super::place::written;
use super::then::Then;
use crate::kernels::count_products;

/// Inputs: `x` `[.., in]`, `W` `[out, in]`, in half precision if it is to stay as it is, `b` `[out]` or a scalar for none.
#[derive(Debug)]
pub(in crate::kernels) struct Linear<F: Factor>(pub(in crate::kernels) std::marker::PhantomData<F>);

/// A product, its bias unless that is a scalar, and what becomes of them.
#[inline(always)]
fn product<F: Factor>([x, weight, bias]: [Values<'_>; 3], then: Then<'_>) -> Vec<f32> {
    let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
    let rows = x.data.len() / inputs;
    assert!(
        x.are_single() && bias.are_single(),
        "only weights may be halved"
    );
    count_products(rows * inputs * outputs);
    let how = How {
        bias: Some(bias.data).filter(|bias| bias.len() == outputs),
        then,
        ..How::default()
    };
    let left = left_rows::<F>(x.data, rows, inputs, inputs);
    let right = columns(weight.numbers(), inputs);
    // SAFETY: a product writes all its values.
    unsafe {
        written(rows * outputs, |y| {
            multiply::<F>(left.left(), right, y, outputs, outputs, how);
        })
    }
}

impl<F: Factor> Linear<F> {
    vectorised! {
        fn run(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
            product::<F>(inputs, Then::Nothing)
        }
    }

    vectorised! {
        fn back(
            &self,
            gradient: &[f32],
            [x, weight, bias]: [Values<'_>; 3],
            wanted: [bool; 3],
        ) -> [Vec<f32>; 3] {
            let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
            let rows = x.data.len() / inputs;
            let mut of_x = Vec::new();
            if wanted[0] {
                count_products(rows * inputs * outputs);
                let left = left_rows::<F>(gradient, rows, outputs, outputs);
                let right = Right::Rows {
                    values: weight.numbers(),
                    k: outputs,
                    stride: inputs,
                };
                // SAFETY: a product writes all its values.
                of_x = unsafe {
                    written(rows * inputs, |of_x| {
                        multiply::<F>(left.left(), right, of_x, inputs, inputs, How::default());
                    })
                };
            }
            // The weights of a network that takes low-rank additions stay as they are.
            let mut of_weight = Vec::new();
            if wanted[1] {
                count_products(rows * inputs * outputs);
                let left = left_columns::<F>(gradient, rows, outputs, outputs);
                let right = Right::Rows {
                    values: Numbers::Single(x.data),
                    k: rows,
                    stride: inputs,
                };
                // SAFETY: a product writes all its values.
                of_weight = unsafe {
                    written(outputs * inputs, |of_weight| {
                        multiply::<F>(left.left(), right, of_weight, inputs, inputs, How::default());
                    })
                };
            }
            let mut of_bias = Vec::new();
            if wanted[2] && bias.data.len() == outputs {
                of_bias = vec![0.0; outputs];
                for row in gradient.chunks_exact(outputs) {
                    for (sum, value) in of_bias.iter_mut().zip(row) {
                        *sum += value;
                    }
                }
            }
            [of_x, of_weight, of_bias]
        }
    }
}

/// Rows of `k` values as the columns of a right factor.
fn columns<F: Factor>(values: Numbers<'_>, k: usize) -> Right<'_, F> {
    Right::Columns {
        values,
        k,
        stride: k,
    }
}

impl<F: Factor> Operation<3> for Linear<F> {
    fn shape(&self, [x, weight, _]: [&[usize]; 3]) -> Vec<usize> {
        let mut shape = x.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = weight[0];
        }
        shape
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.run(inputs) }
    }
}

impl<F: Factor> Differentiable for Linear<F> {
    fn backward(
        &self,
        gradient: &[f32],
        inputs: [Values<'_>; 3],
        wanted: [bool; 3],
    ) -> [Vec<f32>; 3] {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.back(gradient, inputs, wanted) }
    }
}

/// What becomes of the result of [`LinearThen`].
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) enum Follows {
    /// See [`Then::Gelu`].
    Gelu,
    /// See [`Then::Scaled`].
    Scaled(f32),
    /// Added to the fourth input.
    Added,
    /// Multiplied by the fifth input, the gate, and added to the fourth.
    Gated,
}

/// As [`Linear`], and what becomes of it: one pass less, without a gradient.
///
/// The fourth input is shaped as the result, the fifth `[R, 1, out]`; any may stand where they are not used.
#[derive(Debug)]
pub(in crate::kernels) struct LinearThen<F: Factor> {
    pub(in crate::kernels) follows: Follows,
    pub(in crate::kernels) factor: std::marker::PhantomData<F>,
}

impl<F: Factor> LinearThen<F> {
    vectorised! {
        fn run(&self, [x, weight, bias, to, gate]: [Values<'_>; 5]) -> Vec<f32> {
            let then = match self.follows {
                Follows::Gelu => Then::Gelu,
                Follows::Scaled(factor) => Then::Scaled(factor),
                Follows::Added => Then::Added(to.data),
                Follows::Gated => Then::Gated {
                    to: to.data,
                    gate: gate.data,
                    length: x.shape[1],
                },
            };
            product::<F>([x, weight, bias], then)
        }
    }
}

impl<F: Factor> Operation<5> for LinearThen<F> {
    fn shape(&self, [x, weight, ..]: [&[usize]; 5]) -> Vec<usize> {
        vec![x[0], x[1], weight[0]]
    }

    fn forward(&self, inputs: [Values<'_>; 5]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.run(inputs) }
    }
}
