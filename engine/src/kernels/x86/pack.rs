//! Factors of a product laid side by side, and blocks with their axes exchanged.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::borrow::Cow;
use std::ops::Range;

use half::f16;

use super::bridge::Numbers;
use super::columns::{pack_columns, widen};
use super::factor::Factor;
use super::lanes::{BLOCK, LANES};
use crate::kernels::threads;

/// Columns of one tile: two vectors.
pub(super) const TILE_COLUMNS: usize = 2 * LANES;
/// Columns of the right factor that stay in the second cache: at most 512 KiB with [`Factor::STEPS_AT_ONCE`].
pub(super) const COLUMNS_AT_ONCE: usize = 16 * TILE_COLUMNS;

/// Left factor: row `i` starts at `rows[i]`, its values follow.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Left<'a, F: Factor> {
    pub(in crate::kernels) data: &'a [F::Left],
    pub(in crate::kernels) rows: &'a [usize],
}

/// Right factor, `[k, n]`.
#[derive(Clone, Copy)]
pub(in crate::kernels) enum Right<'a, F: Factor> {
    /// Step `r` of all columns starts at `rows[r]`.
    Steps {
        data: &'a [F::Right],
        rows: &'a [usize],
    },
    /// Rows `[k, n]`, `stride` apart.
    Rows {
        values: Numbers<'a>,
        k: usize,
        stride: usize,
    },
    /// Columns `[n, k]`, `stride` apart.
    Columns {
        values: Numbers<'a>,
        k: usize,
        stride: usize,
    },
}

impl<F: Factor> Right<'_, F> {
    pub(super) fn steps(&self) -> usize {
        match self {
            Self::Steps { rows, .. } => rows.len(),
            Self::Rows { k, .. } | Self::Columns { k, .. } => k.div_ceil(F::STEP),
        }
    }

    /// Asks for a column's values from `step` on, as many as are packed at once.
    #[inline(always)]
    pub(super) fn fetch(&self, step: usize, column: usize) {
        if let Self::Columns { values, stride, .. } = self {
            let from = column * stride + step * F::STEP;
            match values {
                Numbers::Single(values) => {
                    fetch(
                        values.as_ptr().wrapping_add(from),
                        F::STEPS_AT_ONCE * F::STEP,
                    );
                }
                Numbers::Half(values) => {
                    fetch(
                        values.as_ptr().wrapping_add(from),
                        F::STEPS_AT_ONCE * F::STEP,
                    );
                }
            }
        }
    }

    /// From the start of one packed tile of columns to the next; one cache line more than they take, so that the
    /// tiles do not share the same few places of the cache.
    pub(super) fn panel(&self) -> usize {
        let steps = self.steps().next_multiple_of(BLOCK).min(F::STEPS_AT_ONCE);
        steps * TILE_COLUMNS + 16
    }

    vectorised! {
        /// Lays `steps` of `columns` side by side, tile after tile.
        #[inline]
        pub(super) fn pack(&self, steps: Range<usize>, columns: Range<usize>, packed: &mut [F::Right]) {
            let panel = self.panel();
            match *self {
                Self::Steps { data, rows } => {
                    for (step, row) in rows[steps].iter().enumerate() {
                        let row = &data[row + columns.start..][..columns.len()];
                        for (tile, row) in row.chunks(TILE_COLUMNS).enumerate() {
                            let to = tile * panel + step * TILE_COLUMNS;
                            let to = &mut packed[to..to + row.len()];
                            // A whole tile is a few moves, without a call.
                            match (to.as_chunks_mut::<TILE_COLUMNS>(), row.as_chunks()) {
                                (([to], []), ([row], [])) => *to = *row,
                                _ => to.copy_from_slice(row),
                            }
                        }
                    }
                }
                Self::Rows { values, k, stride } => {
                    let mut wide = [[0.0; COLUMNS_AT_ONCE]; 2];
                    let [wide_a, wide_b] = &mut wide;
                    for (place, step) in steps.enumerate() {
                        let row = |at: usize| {
                            let start = at * stride + columns.start;
                            start..start + columns.len()
                        };
                        let second = F::STEP == 2 && 2 * step + 1 < k;
                        let (first, second) = match values {
                            Numbers::Single(values) => (
                                &values[row(step * F::STEP)],
                                second.then(|| &values[row(2 * step + 1)]),
                            ),
                            Numbers::Half(values) => {
                                let (a, b) = (&mut wide_a[..columns.len()], &mut wide_b[..columns.len()]);
                                widen(&values[row(step * F::STEP)], a);
                                if second {
                                    widen(&values[row(2 * step + 1)], b);
                                }
                                (&*a, second.then_some(&*b))
                            }
                        };
                        for tile in 0..columns.len().div_ceil(TILE_COLUMNS) {
                            let part =
                                tile * TILE_COLUMNS..columns.len().min((tile + 1) * TILE_COLUMNS);
                            let to = tile * panel + place * TILE_COLUMNS;
                            let to = &mut packed[to..to + part.len()];
                            if let Some(second) = second {
                                let pairs = first[part.clone()].iter().zip(&second[part]);
                                for (to, (a, b)) in to.iter_mut().zip(pairs) {
                                    *to = F::right(*a, *b);
                                }
                            } else {
                                for (to, a) in to.iter_mut().zip(&first[part]) {
                                    *to = F::right(*a, 0.0);
                                }
                            }
                        }
                    }
                }
                Self::Columns { values, k, stride } => {
                    let start = columns.start * stride + steps.start * F::STEP;
                    let length = k.min(steps.end * F::STEP) - steps.start * F::STEP;
                    let count = columns.len();
                    match values {
                        Numbers::Single(values) => {
                            pack_columns::<F, f32>(&values[start..], stride, length, count, panel, packed);
                        }
                        Numbers::Half(values) => {
                            pack_columns::<F, f16>(&values[start..], stride, length, count, panel, packed);
                        }
                    }
                }
            }
        }
    }
}

/// A factor with its table of rows, packed, or as it lies where that serves.
pub(in crate::kernels) struct Packed<'a, T: Clone> {
    pub(in crate::kernels) data: Cow<'a, [T]>,
    pub(in crate::kernels) rows: Vec<usize>,
}

impl<T: Clone> Packed<'_, T> {
    /// As a left factor.
    pub(in crate::kernels) fn left<F: Factor<Left = T>>(&self) -> Left<'_, F> {
        Left {
            data: &self.data,
            rows: &self.rows,
        }
    }
}

/// A left factor from rows `[m, k]`, `stride` apart.
#[inline(always)]
pub(in crate::kernels) fn left_rows<F: Factor>(
    values: &[f32],
    m: usize,
    k: usize,
    stride: usize,
) -> Packed<'_, F::Left> {
    if let Some(values) = F::as_left(values) {
        return Packed {
            data: Cow::Borrowed(values),
            rows: (0..m).map(|row| row * stride).collect(),
        };
    }
    let wide = k.next_multiple_of(F::STEP);
    let mut data = vec![F::Left::default(); m * wide];
    for (row, packed) in data.chunks_exact_mut(wide.max(1)).enumerate() {
        for (to, from) in packed
            .iter_mut()
            .zip(&values[row * stride..row * stride + k])
        {
            *to = F::left(*from);
        }
    }
    let rows = (0..m).map(|row| row * wide).collect();
    Packed {
        data: Cow::Owned(data),
        rows,
    }
}

/// A left factor from columns: `values` is `[k, m]`, rows `stride` apart.
#[inline(always)]
pub(in crate::kernels) fn left_columns<F: Factor>(
    values: &[f32],
    k: usize,
    m: usize,
    stride: usize,
) -> Packed<'static, F::Left> {
    let wide = k.next_multiple_of(F::STEP);
    let mut data = vec![F::Left::default(); m * wide];
    let mut block = [[F::Left::default(); BLOCK]; BLOCK];
    for first_row in (0..k).step_by(BLOCK) {
        let rows = BLOCK.min(k - first_row);
        for first in (0..m).step_by(BLOCK) {
            let columns = BLOCK.min(m - first);
            for (row, block) in block.iter_mut().take(rows).enumerate() {
                let from = &values[(first_row + row) * stride + first..][..columns];
                for (to, from) in block.iter_mut().zip(from) {
                    *to = F::left(*from);
                }
            }
            for column in 0..columns {
                let packed = &mut data[(first + column) * wide + first_row..][..rows];
                for (to, row) in packed.iter_mut().zip(&block) {
                    *to = row[column];
                }
            }
        }
    }
    let rows = (0..m).map(|row| row * wide).collect();
    Packed {
        data: Cow::Owned(data),
        rows,
    }
}

/// How many chunks of so many values one thread takes at once, so that sharing pays.
pub(super) fn at_least(values: usize) -> usize {
    some_of((1_usize << 15).div_ceil(values))
}

/// So many of what there is, or all where a thread computes alone.
pub(super) fn some_of(count: usize) -> usize {
    if threads() == 1 { usize::MAX } else { count }
}

/// Asks for `count` values that will be read soon.
#[inline(always)]
pub(super) fn fetch<T>(from: *const T, count: usize) {
    for line in (0..count * size_of::<T>()).step_by(64) {
        // SAFETY: a hint; no address is refused.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast::<i8>().wrapping_add(line)) };
    }
}
