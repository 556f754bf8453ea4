//! Matrix products, in f32 or with bf16 factors and f32 sums.
//!
//! The left factor, and the right one where it pays, is given as a table of row starts, so that a
//! convolution is a product over shifted views of one padded map, without an unfolded copy.

use std::ops::Range;

use rayon::prelude::*;

use super::factor::Factor;
use super::lanes::{self, LANES, STEPS_AT_ONCE, TILE_ROWS};
use super::pack::{Left, Right, TILE_COLUMNS, fetch};
use super::place::Place;

/// Columns of the right factor that stay in the second cache: 256 KiB with [`STEPS_AT_ONCE`].
const COLUMNS_AT_ONCE: usize = 16 * TILE_COLUMNS;
/// Rows of the left factor that stay in the second cache: 96 KiB with [`STEPS_AT_ONCE`].
const ROWS_AT_ONCE: usize = 16 * TILE_ROWS;
/// Below this many multiplications a product stays on one thread.
const WORTH_SHARING: usize = 1 << 18;

/// `out[i][j] = sum over k of left[i][k] right[k][j]` for `j < columns`, all of which are written; rows of `out` are
/// `stride` apart.
pub(in crate::kernels) fn multiply<'a, F: Factor>(
    left: Left<'_, F>,
    right: Right<'_, F>,
    out: impl Into<Place<'a>>,
    columns: usize,
    stride: usize,
) {
    multiply_into::<F>(left, right, out.into(), columns, stride, false);
}

/// As [`multiply`], added to what is there.
pub(in crate::kernels) fn add_product<F: Factor>(
    left: Left<'_, F>,
    right: Right<'_, F>,
    out: &mut [f32],
    columns: usize,
    stride: usize,
) {
    multiply_into::<F>(left, right, out.into(), columns, stride, true);
}

/// Where `add`, all values of `out` must be there.
fn multiply_into<F: Factor>(
    left: Left<'_, F>,
    right: Right<'_, F>,
    mut out: Place<'_>,
    columns: usize,
    stride: usize,
    add: bool,
) {
    let (rows, steps) = (left.rows.len(), right.steps());
    if rows == 0 || columns == 0 {
        return;
    }
    if steps == 0 {
        if !add {
            out.clear(rows, columns, stride);
        }
        return;
    }
    assert!(columns <= stride && out.len() >= (rows - 1) * stride + columns);
    let reach = left
        .rows
        .iter()
        .max()
        .map_or(0, |row| row + steps * F::STEP);
    assert!(reach <= left.data.len());
    let threads = rayon::current_num_threads();
    // SAFETY: the set was looked for before any operation came here; sizes were checked above, and no two
    // parts have a place of `out` in common.
    let part = |rows: Range<usize>, columns: Range<usize>| unsafe {
        let own = Left {
            data: left.data,
            rows: &left.rows[rows.clone()],
        };
        block::<F>(
            own,
            right,
            columns,
            out.at(rows.start * stride),
            stride,
            add,
        );
    };
    if threads == 1 || rows * columns * steps * F::STEP < WORTH_SHARING {
        part(0..rows, 0..columns);
    } else if rows >= columns {
        let share = TILE_ROWS * rows.div_ceil(2 * threads * TILE_ROWS);
        let parts = (0..rows).into_par_iter().step_by(share);
        parts.for_each(|first| part(first..rows.min(first + share), 0..columns));
    } else {
        let share = TILE_COLUMNS * columns.div_ceil(2 * threads * TILE_COLUMNS);
        let parts = (0..columns).into_par_iter().step_by(share);
        parts.for_each(|first| part(0..rows, first..columns.min(first + share)));
    }
}

vectorised! {
    /// Products of `left` with some columns; `out` is the place of the first row's column 0.
    unsafe fn block<F: Factor>(
        left: Left<'_, F>,
        right: Right<'_, F>,
        columns: Range<usize>,
        out: *mut f32,
        stride: usize,
        add: bool,
    ) {
        let most = columns.len().min(COLUMNS_AT_ONCE).div_ceil(TILE_COLUMNS);
        let panel = right.panel();
        let mut packed = F::packed().take();
        if packed.len() < most * panel {
            packed.resize(most * panel, F::Right::default());
        }
        for first in columns.clone().step_by(COLUMNS_AT_ONCE) {
            let wide = (columns.end - first).min(COLUMNS_AT_ONCE);
            for (part, start) in (0..right.steps()).step_by(STEPS_AT_ONCE).enumerate() {
                let steps = start..right.steps().min(start + STEPS_AT_ONCE);
                right.pack(steps.clone(), first..first + wide, &mut packed);
                let add = add || part > 0;
                let tiles = wide.div_ceil(TILE_COLUMNS);
                let after = if steps.end < right.steps() {
                    (steps.end, first..first + wide)
                } else {
                    let first = first + wide;
                    (0, first..columns.end.min(first + COLUMNS_AT_ONCE))
                };
                let calls = tiles * left.rows.len().div_ceil(TILE_ROWS);
                let columns_at_once = after.1.len().div_ceil(calls);
                let mut columns_after = after.1;
                for (group, rows) in left.rows.chunks(ROWS_AT_ONCE).enumerate() {
                    // While this group is multiplied, the next comes nearer.
                    let mut next = left.rows[group * ROWS_AT_ONCE + rows.len()..].iter();
                    let at_once = ROWS_AT_ONCE.div_ceil(tiles * rows.len().div_ceil(TILE_ROWS));
                    for tile in 0..tiles {
                        let column = tile * TILE_COLUMNS;
                        let wide = (wide - column).min(TILE_COLUMNS);
                        for (index, rows) in rows.chunks(TILE_ROWS).enumerate() {
                            let row = group * ROWS_AT_ONCE + index * TILE_ROWS;
                            // SAFETY: rows and columns lie inside the slices, which `multiply` has checked.
                            unsafe {
                                let data = left.data.as_ptr().add(start * F::STEP);
                                for row in next.by_ref().take(at_once) {
                                    fetch(data.add(*row), steps.len() * F::STEP);
                                }
                                for column in columns_after.by_ref().take(columns_at_once) {
                                    right.fetch(after.0, column);
                                }
                                let right = packed.as_ptr().add(tile * panel);
                                let out = out.add(row * stride + first + column);
                                let place = Tile::<F> {
                                    data,
                                    rows,
                                    right,
                                    steps: steps.len(),
                                    out,
                                    stride,
                                    wide,
                                    add,
                                };
                                place.multiply_any();
                            }
                        }
                    }
                }
            }
        }
        F::packed().set(packed);
    }
}

/// One tile of a product over a few steps.
struct Tile<'a, F: Factor> {
    data: *const F::Left,
    rows: &'a [usize],
    /// Packed columns, [`TILE_COLUMNS`] a step.
    right: *const F::Right,
    steps: usize,
    out: *mut f32,
    stride: usize,
    wide: usize,
    add: bool,
}

impl<F: Factor> Tile<'_, F> {
    vectorised! {
        #[inline]
        unsafe fn multiply_any(&self) {
            macro_rules! heights {
                ($vectors:literal: $($count:literal)*) => {
                    match self.rows.len() {
                        // SAFETY: see `block`.
                        $($count => unsafe { self.multiply::<$count, $vectors>() },)*
                        // SAFETY: see `block`.
                        _ => unsafe { self.multiply::<TILE_ROWS, $vectors>() },
                    }
                };
            }
            if self.wide > LANES {
                heights!(2: 1 2 3 4 5 6 7 8 9 10 11);
            } else {
                heights!(1: 1 2 3 4 5 6 7 8 9 10 11);
            }
        }
    }

    vectorised! {
        #[inline]
        unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(&self) {
            // SAFETY: see `block`; lanes past the end are not touched.
            unsafe {
                let mut starts = [self.data; ROWS];
                for (start, row) in starts.iter_mut().zip(self.rows) {
                    *start = start.add(*row);
                }
                let mut sums = [[lanes::zero(); VECTORS]; ROWS];
                if self.add {
                    for (row, sums) in sums.iter_mut().enumerate() {
                        for (vector, sum) in sums.iter_mut().enumerate() {
                            let from = self.out.add(row * self.stride + LANES * vector);
                            *sum = lanes::load_first(self.wide - LANES * vector, from);
                        }
                    }
                }
                for at in 0..self.steps {
                    F::step::<ROWS, VECTORS>(&mut sums, &starts, at, self.right.add(at * TILE_COLUMNS));
                }
                for (row, sums) in sums.iter().enumerate() {
                    for (vector, sum) in sums.iter().enumerate() {
                        let to = self.out.add(row * self.stride + LANES * vector);
                        lanes::store_first(self.wide - LANES * vector, to, *sum);
                    }
                }
            }
        }
    }
}
