//! Factors in f32, as they are.

use std::cell::Cell;

use super::factor::{Factor, Kept};
use super::lanes::{self, Bits, LANES, Vector};

/// Factors as they are.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Single;

thread_local! {
    static PACKED: Cell<(Vec<f32>, Vec<f32>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

impl Factor for Single {
    type Left = f32;
    type Right = f32;
    const STEP: usize = 1;
    const STEPS_AT_ONCE: usize = 256;

    fn packed() -> &'static Kept<f32, f32> {
        &PACKED
    }

    fn as_left(values: &[f32]) -> Option<&[f32]> {
        Some(values)
    }

    #[inline(always)]
    fn left(value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn right(first: f32, _second: f32) -> f32 {
        first
    }

    vectorised! {
        #[inline]
        unsafe fn steps(first: Vector, _second: Vector) -> Bits {
            lanes::bits(first)
        }
    }

    vectorised! {
        #[inline]
        unsafe fn step<const ROWS: usize, const VECTORS: usize>(
            sums: &mut [[Vector; VECTORS]; ROWS],
            left: *const f32,
            stride: usize,
            right: *const f32,
        ) {
            // SAFETY: the caller promises valid pointers.
            unsafe {
                let mut columns = [lanes::zero(); VECTORS];
                for (vector, columns) in columns.iter_mut().enumerate() {
                    *columns = lanes::load(right.add(LANES * vector));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = lanes::splat(*left.add(row * stride));
                    for (sum, columns) in sums.iter_mut().zip(columns) {
                        *sum = lanes::multiply_add(value, columns, *sum);
                    }
                }
            }
        }
    }
}
