//! Columns of a right factor laid side by side: blocks of them with their axes exchanged.

use half::f16;

use super::factor::Factor;
use super::lanes::{self, BLOCK, Bits, LANES, Vector};
use super::pack::{TILE_COLUMNS, fetch};

/// A value as it lies in memory.
pub(super) trait Source: Copy {
    /// In f32.
    fn wide(self) -> f32;

    /// The next [`LANES`] values in f32.
    ///
    /// # Safety
    /// Needs the instructions of this set, and the values.
    unsafe fn load(from: *const Self) -> Vector;
}

impl Source for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    vectorised! {
        #[inline]
        unsafe fn load(from: *const Self) -> Vector {
            // SAFETY: promised by the caller.
            unsafe { lanes::load(from) }
        }
    }
}

impl Source for f16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }

    vectorised! {
        #[inline]
        unsafe fn load(from: *const Self) -> Vector {
            // SAFETY: promised by the caller.
            unsafe { lanes::load_half(from) }
        }
    }
}

vectorised! {
    /// Lays `count` columns of `length` values, `stride` apart in `values`, side by side: tile after tile, `panel` apart.
    #[inline]
    pub(super) fn pack_columns<F: Factor, S: Source>(
        values: &[S],
        stride: usize,
        length: usize,
        count: usize,
        panel: usize,
        packed: &mut [F::Right],
    ) {
        const { assert!(LANES == BLOCK) };
        let at_once = BLOCK * F::STEP;
        for first in (0..count).step_by(BLOCK) {
            let values = &values[first * stride..];
            let columns = BLOCK.min(count - first);
            assert!((columns - 1) * stride + length <= values.len());
            let to = first / TILE_COLUMNS * panel + first % TILE_COLUMNS;
            for (place, start) in (0..length).step_by(at_once).enumerate() {
                let to = to + place * BLOCK * TILE_COLUMNS;
                let packed = &mut packed[to..to + (BLOCK - 1) * TILE_COLUMNS + BLOCK];
                let block = Block {
                    values: &values[start..],
                    stride,
                };
                if columns == BLOCK && start + at_once <= length {
                    // SAFETY: all columns have that many values, as was checked, and there is room for a block.
                    unsafe { block.pack_whole::<F>(packed.as_mut_ptr()) };
                } else {
                    block.pack_part::<F>(columns, at_once.min(length - start), packed);
                }
            }
        }
    }
}

/// Some steps of up to [`BLOCK`] columns, `stride` apart.
struct Block<'a, S> {
    values: &'a [S],
    stride: usize,
}

impl<S: Source> Block<'_, S> {
    vectorised! {
        /// # Safety
        /// There must be [`BLOCK`] columns with [`BLOCK`] steps each, and room for as many.
        #[inline]
        unsafe fn pack_whole<F: Factor>(&self, packed: *mut F::Right) {
            let mut rows = [lanes::no_bits(); BLOCK];
            for (column, row) in rows.iter_mut().enumerate() {
                // SAFETY: promised by the caller.
                unsafe {
                    let from = self.values.as_ptr().add(column * self.stride);
                    // The same place of the column that is packed a block later.
                    fetch(from.wrapping_add(BLOCK * self.stride), BLOCK * F::STEP);
                    let first = S::load(from);
                    let second = if F::STEP == 2 { S::load(from.add(LANES)) } else { first };
                    *row = F::steps(first, second);
                }
            }
            for (step, row) in lanes::turn(rows).iter().enumerate() {
                // SAFETY: promised by the caller.
                unsafe { lanes::store_bits(packed.add(step * TILE_COLUMNS), *row) };
            }
        }
    }

    vectorised! {
        /// The first `columns` with `length` values each, and zeros.
        #[inline]
        fn pack_part<F: Factor>(&self, columns: usize, length: usize, packed: &mut [F::Right]) {
            let mut block = [[F::Right::default(); BLOCK]; BLOCK];
            for (column, row) in block.iter_mut().take(columns).enumerate() {
                let from = &self.values[column * self.stride..][..length];
                for (to, from) in row.iter_mut().zip(from.chunks(F::STEP)) {
                    let second = from.get(1).map_or(0.0, |value| value.wide());
                    *to = F::right(from[0].wide(), second);
                }
            }
            for (step, row) in turn_block(block).iter().enumerate() {
                packed[step * TILE_COLUMNS..][..BLOCK].copy_from_slice(row);
            }
        }
    }
}

vectorised! {
    /// A block of 32-bit values with its axes exchanged.
    #[inline]
    fn turn_block<T: Copy>(block: [[T; BLOCK]; BLOCK]) -> [[T; BLOCK]; BLOCK] {
        const { assert!(size_of::<[T; BLOCK]>() == size_of::<Bits>()) };
        // SAFETY: sizes are equal, and any bits are both.
        unsafe { std::mem::transmute_copy(&lanes::turn(std::mem::transmute_copy(&block))) }
    }
}

vectorised! {
    /// Half precision as f32; `to` is as long as `from`.
    #[inline]
    pub(super) fn widen(from: &[f16], to: &mut [f32]) {
        let (from, rest) = from.as_chunks::<LANES>();
        let (to, to_rest) = to.as_chunks_mut::<LANES>();
        for (from, to) in from.iter().zip(to) {
            // SAFETY: both have as many values as a vector.
            unsafe { lanes::store_first(LANES, to.as_mut_ptr(), lanes::load_half(from.as_ptr())) };
        }
        for (from, to) in rest.iter().zip(to_rest) {
            *to = from.to_f32();
        }
    }
}
