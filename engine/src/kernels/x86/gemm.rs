//! Matrix products, in f32 or with bf16 factors and f32 sums.
//!
//! The left factor, and the right one where it pays, is given as a table of row starts, so that a
//! convolution is a product over shifted views of one padded map, without an unfolded copy.

use std::ops::Range;

use rayon::prelude::*;

use super::factor::Factor;
use super::lanes::{self, LANES, TILE_ROWS};
use super::pack::{COLUMNS_AT_ONCE, Left, Right, TILE_COLUMNS, fetch};
use super::place::Place;
use super::then::Then;
use crate::kernels::threads;

/// Rows of the left factor that stay in the second cache: at most 192 KiB with [`Factor::STEPS_AT_ONCE`].
const ROWS_AT_ONCE: usize = 16 * TILE_ROWS;

/// From row to row of the left factor as it is multiplied: a little more than a row takes, so that rows do not share the
/// same few places of the cache.
const fn own_stride<F: Factor>() -> usize {
    F::STEPS_AT_ONCE * F::STEP + 16
}

/// Below this many multiplications a product stays on one thread.
const WORTH_SHARING: usize = 1 << 18;

/// How a product is made.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct How<'a> {
    /// Added to what is there, all of which must be.
    pub(in crate::kernels) add: bool,
    /// Added in the end, a value for every column.
    pub(in crate::kernels) bias: Option<&'a [f32]>,
    /// What becomes of the sums then.
    pub(in crate::kernels) then: Then<'a>,
    /// Threads that share it.
    pub(in crate::kernels) threads: usize,
}

/// Plainly, by all threads.
impl Default for How<'_> {
    fn default() -> Self {
        Self {
            add: false,
            bias: None,
            then: Then::Nothing,
            threads: threads(),
        }
    }
}

impl How<'_> {
    /// By the thread that asks alone, for those that are many at once.
    pub(in crate::kernels) fn alone() -> Self {
        Self {
            threads: 1,
            ..Self::default()
        }
    }

    /// Added to what is there.
    pub(in crate::kernels) fn added() -> Self {
        Self {
            add: true,
            ..Self::default()
        }
    }
}

/// `out[i][j] = sum over k of left[i][k] right[k][j]` for `j < columns`, all of which are written; rows of `out` are
/// `stride` apart.
pub(in crate::kernels) fn multiply<'a, F: Factor>(
    left: Left<'_, F>,
    right: Right<'_, F>,
    out: impl Into<Place<'a>>,
    columns: usize,
    stride: usize,
    how: How<'_>,
) {
    let (rows, steps, mut out) = (left.rows.len(), right.steps(), out.into());
    if rows == 0 || columns == 0 {
        return;
    }
    if steps == 0 {
        assert!(
            how.bias.is_none() && matches!(how.then, Then::Nothing),
            "there is something to multiply"
        );
        if !how.add {
            out.clear(rows, columns, stride);
        }
        return;
    }
    assert!(columns <= stride && out.len() >= (rows - 1) * stride + columns);
    assert!(how.bias.is_none_or(|bias| bias.len() >= columns));
    let reach = left
        .rows
        .iter()
        .max()
        .map_or(0, |row| row + steps * F::STEP);
    assert!(reach <= left.data.len());
    // SAFETY: the set was looked for before any operation came here; sizes were checked above, and no two
    // parts have a place of `out` in common.
    let part = |rows: Range<usize>, columns: Range<usize>| unsafe {
        let own = Left {
            data: left.data,
            rows: &left.rows[rows.clone()],
        };
        let out = out.at(rows.start * stride);
        block::<F>(own, right, columns, out, stride, rows.start, how);
    };
    if how.threads == 1 || rows * columns * steps * F::STEP < WORTH_SHARING {
        part(0..rows, 0..columns);
        return;
    }
    let [down, across] = parts(2 * how.threads, rows, columns);
    let row_share = TILE_ROWS * rows.div_ceil(down * TILE_ROWS);
    let column_share = TILE_COLUMNS * columns.div_ceil(across * TILE_COLUMNS);
    (0..down * across).into_par_iter().for_each(|index| {
        let (row, column) = (index / across * row_share, index % across * column_share);
        if row < rows && column < columns {
            part(
                row..rows.min(row + row_share),
                column..columns.min(column + column_share),
            );
        }
    });
}

/// How many parts down and across a product of so many rows and columns has when it has about `count`.
///
/// A part lays its rows and its columns side by side, which costs about the same for either: the nearer to a square it
/// is, the better.
fn parts(count: usize, rows: usize, columns: usize) -> [usize; 2] {
    let [row_tiles, column_tiles] = [rows.div_ceil(TILE_ROWS), columns.div_ceil(TILE_COLUMNS)];
    let down = ((count * rows) as f32 / columns as f32).sqrt().round() as usize;
    let across = count.div_ceil(down.clamp(1, count)).min(column_tiles);
    [count.div_ceil(across).min(row_tiles), across]
}

vectorised! {
    /// Products of `left`, whose first row is `first_row` of all, with some columns; `out` is the place of its column 0.
    unsafe fn block<F: Factor>(
        left: Left<'_, F>,
        right: Right<'_, F>,
        columns: Range<usize>,
        out: *mut f32,
        stride: usize,
        first_row: usize,
        how: How<'_>,
    ) {
        let most = columns.len().min(COLUMNS_AT_ONCE).div_ceil(TILE_COLUMNS);
        let panel = right.panel();
        let (mut own, mut packed) = F::packed().take();
        let own_stride = own_stride::<F>();
        let group_rows = left.rows.len().min(ROWS_AT_ONCE);
        let (own_part, packed_part) = (
            aligned(&mut own, group_rows * own_stride),
            aligned(&mut packed, most * panel),
        );
        for first in columns.clone().step_by(COLUMNS_AT_ONCE) {
            let wide = (columns.end - first).min(COLUMNS_AT_ONCE);
            for (part, start) in (0..right.steps()).step_by(F::STEPS_AT_ONCE).enumerate() {
                let steps = start..right.steps().min(start + F::STEPS_AT_ONCE);
                right.pack(steps.clone(), first..first + wide, packed_part);
                let add = how.add || part > 0;
                let is_last = steps.end == right.steps();
                let bias = how.bias.filter(|_| is_last);
                let tiles = wide.div_ceil(TILE_COLUMNS);
                let after = if is_last {
                    let first = first + wide;
                    (0, first..columns.end.min(first + COLUMNS_AT_ONCE))
                } else {
                    (steps.end, first..first + wide)
                };
                let calls = tiles * left.rows.len().div_ceil(TILE_ROWS);
                let columns_at_once = after.1.len().div_ceil(calls);
                let mut columns_after = after.1;
                for (group, rows) in left.rows.chunks(ROWS_AT_ONCE).enumerate() {
                    for (own, row) in own_part.chunks_exact_mut(own_stride).zip(rows) {
                        let from = row + start * F::STEP..row + steps.end * F::STEP;
                        own[..steps.len() * F::STEP].copy_from_slice(&left.data[from]);
                    }
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
                                let right = packed_part.as_ptr().add(tile * panel);
                                let out = out.add(row * stride + first + column);
                                let place = Tile::<F> {
                                    left: own_part.as_ptr().add(index * TILE_ROWS * own_stride),
                                    rows: rows.len(),
                                    right,
                                    steps: steps.len(),
                                    out,
                                    stride,
                                    wide,
                                    add,
                                    bias: bias.map_or(std::ptr::null(), |bias| bias[first + column..].as_ptr()),
                                };
                                place.multiply_any();
                                if is_last {
                                    let rows = row + first_row..row + first_row + rows.len();
                                    let columns = first + column..first + column + wide;
                                    how.then.finish(out, stride, rows, columns);
                                }
                            }
                        }
                    }
                }
            }
        }
        F::packed().set((own, packed));
    }
}

/// `count` values of `list` from a cache line's start on; it grows where it is too short.
fn aligned<T: Copy + Default>(list: &mut Vec<T>, count: usize) -> &mut [T] {
    const LINE: usize = 64;
    let room = count + LINE / size_of::<T>();
    if list.len() < room {
        list.resize(room, T::default());
    }
    let skipped = list.as_ptr().align_offset(LINE);
    &mut list[skipped..skipped + count]
}

/// One tile of a product over a few steps.
struct Tile<F: Factor> {
    /// Rows, [`own_stride`] apart.
    left: *const F::Left,
    rows: usize,
    /// Packed columns, [`TILE_COLUMNS`] a step.
    right: *const F::Right,
    steps: usize,
    out: *mut f32,
    stride: usize,
    wide: usize,
    add: bool,
    /// Added in the end, unless null.
    bias: *const f32,
}

impl<F: Factor> Tile<F> {
    vectorised! {
        #[inline]
        unsafe fn multiply_any(&self) {
            macro_rules! heights {
                ($vectors:literal: $($count:literal)*) => {
                    match self.rows {
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
                let stride = own_stride::<F>();
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
                    let left = self.left.add(at * F::STEP);
                    F::step::<ROWS, VECTORS>(&mut sums, left, stride, self.right.add(at * TILE_COLUMNS));
                }
                if !self.bias.is_null() {
                    for vector in 0..VECTORS {
                        let from = self.bias.add(LANES * vector);
                        let bias = lanes::load_first(self.wide - LANES * vector, from);
                        for sums in &mut sums {
                            sums[vector] = lanes::multiply_add(lanes::splat(1.0), bias, sums[vector]);
                        }
                    }
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
