//! How factors are stored while they are multiplied: in f32, or as bf16 with f32 sums.

use super::lanes::{self, LANES, Vector};

/// How factors are stored while they are multiplied.
pub(in crate::kernels) trait Factor:
    Copy + std::fmt::Debug + Send + Sync + 'static
{
    /// One value of the left factor.
    type Left: Copy + Default + Send + Sync;
    /// [`Self::STEP`] values of one column of the right factor.
    type Right: Copy + Default + Send + Sync;
    /// Values along the inner dimension taken at once.
    const STEP: usize;

    /// Values that are stored as they are need no copy.
    fn as_left(values: &[f32]) -> Option<&[Self::Left]>;
    /// Stores a value of the left factor.
    fn left(value: f32) -> Self::Left;
    /// Stores neighbours along the inner dimension of the right factor; the second is ignored when the step is 1.
    fn right(first: f32, second: f32) -> Self::Right;

    /// Adds one step of `ROWS` × [`LANES`] `VECTORS` products.
    ///
    /// # Safety
    /// Needs the instructions of this set. Every pointer in `left` must be valid for one step, and `right` for the
    /// vectors.
    unsafe fn step<const ROWS: usize, const VECTORS: usize>(
        sums: &mut [[Vector; VECTORS]; ROWS],
        left: &[*const Self::Left; ROWS],
        at: usize,
        right: *const Self::Right,
    );
}

/// Factors as they are.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Single;

impl Factor for Single {
    type Left = f32;
    type Right = f32;
    const STEP: usize = 1;

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
        unsafe fn step<const ROWS: usize, const VECTORS: usize>(
            sums: &mut [[Vector; VECTORS]; ROWS],
            left: &[*const f32; ROWS],
            at: usize,
            right: *const f32,
        ) {
            // SAFETY: the caller promises valid pointers.
            unsafe {
                let mut columns = [lanes::zero(); VECTORS];
                for (vector, columns) in columns.iter_mut().enumerate() {
                    *columns = lanes::load(right.add(LANES * vector));
                }
                for row in 0..ROWS {
                    let value = lanes::splat(*left[row].add(at));
                    for vector in 0..VECTORS {
                        sums[row][vector] = lanes::multiply_add(value, columns[vector], sums[row][vector]);
                    }
                }
            }
        }
    }
}
