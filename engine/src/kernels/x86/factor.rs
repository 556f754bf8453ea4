//! How factors are stored while they are multiplied: in f32, or as bf16 with f32 sums.

use std::cell::Cell;
use std::thread::LocalKey;

use super::lanes::{Bits, Vector};

/// Lists of both factors that a thread keeps.
pub(in crate::kernels) type Kept<L, R> = LocalKey<Cell<(Vec<L>, Vec<R>)>>;

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
    /// Steps of the right factor that stay in the nearest cache.
    const STEPS_AT_ONCE: usize;

    /// Memory of this thread where parts of both factors are laid as they are multiplied, kept from product to product;
    /// whatever was there last is there still.
    fn packed() -> &'static Kept<Self::Left, Self::Right>;
    /// Values that are stored as they are need no copy.
    fn as_left(values: &[f32]) -> Option<&[Self::Left]>;
    /// Stores a value of the left factor.
    fn left(value: f32) -> Self::Left;
    /// Stores neighbours along the inner dimension of the right factor; the second is ignored when the step is 1.
    fn right(first: f32, second: f32) -> Self::Right;

    /// Stores the next steps of a column of the right factor, as many as a vector has values; the second vector is ignored
    /// when the step is 1.
    ///
    /// # Safety
    /// Needs the instructions of this set.
    unsafe fn steps(first: Vector, second: Vector) -> Bits;

    /// Adds one step of `ROWS` rows by `VECTORS` vectors of products.
    ///
    /// # Safety
    /// Needs the instructions of this set. Rows of `left`, `stride` apart, must be valid for one step, and `right` for
    /// the vectors.
    unsafe fn step<const ROWS: usize, const VECTORS: usize>(
        sums: &mut [[Vector; VECTORS]; ROWS],
        left: *const Self::Left,
        stride: usize,
        right: *const Self::Right,
    );
}
