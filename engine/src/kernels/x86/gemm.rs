//! Matrix products with 512-bit vectors, in f32 or with bf16 factors and f32 sums.
//!
//! The left factor, and the right one where it pays, is given as a table of row starts, so that a
//! convolution is a product over shifted views of one padded map, without an unfolded copy.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, __mmask16, _MM_HINT_T1, _mm_prefetch, _mm512_fmadd_ps,
    _mm512_loadu_epi32, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_i32x4,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::ops::Range;

use rayon::prelude::*;

/// Rows of one tile, kept in registers.
const TILE_ROWS: usize = 12;
/// Columns of one tile: two vectors.
const TILE_COLUMNS: usize = 32;
/// Steps of the right factor that stay in the nearest cache: 16 KiB for one tile.
const STEPS_AT_ONCE: usize = 128;
/// Columns of the right factor that stay in the second cache: 256 KiB with [`STEPS_AT_ONCE`].
const COLUMNS_AT_ONCE: usize = 16 * TILE_COLUMNS;
/// Rows of the left factor that stay in the second cache: 96 KiB with [`STEPS_AT_ONCE`].
const ROWS_AT_ONCE: usize = 16 * TILE_ROWS;
/// Below this many multiplications a product stays on one thread.
const WORTH_SHARING: usize = 1 << 18;

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

    /// Adds one step of `ROWS` × 16 `VECTORS` products.
    ///
    /// # Safety
    /// Needs AVX-512 F, BW and BF16. Every pointer in `left` must be valid for one step, and `right` for the
    /// vectors.
    unsafe fn step<const ROWS: usize, const VECTORS: usize>(
        sums: &mut [[__m512; VECTORS]; ROWS],
        left: &[*const Self::Left; ROWS],
        at: usize,
        right: *const Self::Right,
    );
}

/// Factors as they are.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Single;

/// Factors rounded to bf16; sums stay in f32.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Half;

/// Rounds to the nearest bf16, ties to even.
#[inline(always)]
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits.wrapping_add(0x7FFF + ((bits >> 16) & 1))) >> 16) as u16
}

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

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn step<const ROWS: usize, const VECTORS: usize>(
        sums: &mut [[__m512; VECTORS]; ROWS],
        left: &[*const f32; ROWS],
        at: usize,
        right: *const f32,
    ) {
        // SAFETY: the caller promises valid pointers.
        unsafe {
            let mut columns = [_mm512_setzero_ps(); VECTORS];
            for (vector, columns) in columns.iter_mut().enumerate() {
                *columns = _mm512_loadu_ps(right.add(16 * vector));
            }
            for row in 0..ROWS {
                let value = _mm512_set1_ps(*left[row].add(at));
                for vector in 0..VECTORS {
                    sums[row][vector] = _mm512_fmadd_ps(value, columns[vector], sums[row][vector]);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn dot(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    // SAFETY: plain reinterpretation of 512 bits.
    let [a, b] = [a, b].map(|bits| unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) });
    std::arch::x86_64::_mm512_dpbf16_ps(sum, a, b)
}

impl Factor for Half {
    type Left = u16;
    type Right = u32;
    const STEP: usize = 2;

    fn as_left(_values: &[f32]) -> Option<&[u16]> {
        None
    }

    #[inline(always)]
    fn left(value: f32) -> u16 {
        bf16(value)
    }

    #[inline(always)]
    fn right(first: f32, second: f32) -> u32 {
        u32::from(bf16(first)) | u32::from(bf16(second)) << 16
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn step<const ROWS: usize, const VECTORS: usize>(
        sums: &mut [[__m512; VECTORS]; ROWS],
        left: &[*const u16; ROWS],
        at: usize,
        right: *const u32,
    ) {
        // SAFETY: the caller promises valid pointers.
        unsafe {
            let mut columns = [_mm512_set1_epi32(0); VECTORS];
            for (vector, columns) in columns.iter_mut().enumerate() {
                *columns = _mm512_loadu_epi32(right.add(16 * vector).cast());
            }
            for row in 0..ROWS {
                let pair = left[row].add(2 * at).cast::<i32>().read_unaligned();
                let pair = _mm512_set1_epi32(pair);
                for vector in 0..VECTORS {
                    sums[row][vector] = dot(sums[row][vector], pair, columns[vector]);
                }
            }
        }
    }
}

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
        values: &'a [f32],
        k: usize,
        stride: usize,
    },
    /// Columns `[n, k]`, `stride` apart.
    Columns {
        values: &'a [f32],
        k: usize,
        stride: usize,
    },
}

impl<F: Factor> Right<'_, F> {
    fn steps(&self) -> usize {
        match self {
            Self::Steps { rows, .. } => rows.len(),
            Self::Rows { k, .. } | Self::Columns { k, .. } => k.div_ceil(F::STEP),
        }
    }

    /// Asks for a column's values from `step` on, as many as are packed at once.
    #[inline(always)]
    fn fetch(&self, step: usize, column: usize) {
        if let Self::Columns { values, stride, .. } = self {
            let from = column * stride + step * F::STEP;
            fetch(values.as_ptr().wrapping_add(from), STEPS_AT_ONCE * F::STEP);
        }
    }

    /// From the start of one packed tile of columns to the next; one cache line more than they take, so that the
    /// tiles do not share the same few places of the cache.
    fn panel(&self) -> usize {
        let steps = self.steps().next_multiple_of(BLOCK).min(STEPS_AT_ONCE);
        steps * TILE_COLUMNS + 16
    }

    /// Lays `steps` of `columns` side by side, tile after tile.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn pack(&self, steps: Range<usize>, columns: Range<usize>, packed: &mut [F::Right]) {
        let panel = self.panel();
        match *self {
            Self::Steps { data, rows } => {
                for (step, row) in rows[steps].iter().enumerate() {
                    let row = &data[row + columns.start..][..columns.len()];
                    for (tile, row) in row.chunks(TILE_COLUMNS).enumerate() {
                        let to = tile * panel + step * TILE_COLUMNS;
                        packed[to..to + row.len()].copy_from_slice(row);
                    }
                }
            }
            Self::Rows { values, k, stride } => {
                for (place, step) in steps.enumerate() {
                    let row = |at: usize| {
                        let start = at * stride + columns.start;
                        &values[start..start + columns.len()]
                    };
                    let first = row(step * F::STEP);
                    let second = (F::STEP == 2 && 2 * step + 1 < k).then(|| row(2 * step + 1));
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
                for first in (0..columns.len()).step_by(BLOCK) {
                    let count = BLOCK.min(columns.len() - first);
                    let to = first / TILE_COLUMNS * panel + first % TILE_COLUMNS;
                    for (place, step) in steps.clone().step_by(BLOCK).enumerate() {
                        let mut block = [[F::Right::default(); BLOCK]; BLOCK];
                        let places = step * F::STEP..k.min((step + BLOCK) * F::STEP);
                        for (column, block) in block.iter_mut().take(count).enumerate() {
                            let from = (columns.start + first + column) * stride;
                            let from = &values[from + places.start..from + places.end];
                            for (to, from) in block.iter_mut().zip(from.chunks(F::STEP)) {
                                *to = F::right(from[0], from.get(1).copied().unwrap_or(0.0));
                            }
                        }
                        for (step, row) in turn_block(block).iter().enumerate() {
                            let to = to + (place * BLOCK + step) * TILE_COLUMNS;
                            packed[to..to + BLOCK].copy_from_slice(row);
                        }
                    }
                }
            }
        }
    }
}

/// A 16×16 block of 32-bit values with its axes exchanged.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn_block<T: Copy>(block: [[T; BLOCK]; BLOCK]) -> [[T; BLOCK]; BLOCK] {
    const { assert!(size_of::<T>() == 4) };
    // SAFETY: any 64 bytes are a vector, and the other way round; sizes are equal.
    let rows: [__m512i; BLOCK] = unsafe { std::mem::transmute_copy(&block) };
    // Pairs of rows, then fours: vector 4g + c holds columns c, 4 + c, 8 + c and 12 + c of rows 4g to 4g + 3.
    let mut pairs = rows;
    for at in (0..BLOCK).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    let mut fours = pairs;
    for at in (0..BLOCK).step_by(4) {
        for half in 0..2 {
            let (a, b) = (pairs[at + half], pairs[at + 2 + half]);
            fours[at + 2 * half] = _mm512_unpacklo_epi64(a, b);
            fours[at + 2 * half + 1] = _mm512_unpackhi_epi64(a, b);
        }
    }
    let mut turned = fours;
    for c in 0..4 {
        let even = _mm512_shuffle_i32x4::<0x88>(fours[c], fours[4 + c]);
        let odd = _mm512_shuffle_i32x4::<0xDD>(fours[c], fours[4 + c]);
        let even_below = _mm512_shuffle_i32x4::<0x88>(fours[8 + c], fours[12 + c]);
        let odd_below = _mm512_shuffle_i32x4::<0xDD>(fours[8 + c], fours[12 + c]);
        turned[c] = _mm512_shuffle_i32x4::<0x88>(even, even_below);
        turned[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd, odd_below);
        turned[8 + c] = _mm512_shuffle_i32x4::<0xDD>(even, even_below);
        turned[12 + c] = _mm512_shuffle_i32x4::<0xDD>(odd, odd_below);
    }
    // SAFETY: as above.
    unsafe { std::mem::transmute_copy(&turned) }
}

/// `out[i][j] (+)= sum over k of left[i][k] right[k][j]` for `j < columns`; rows of `out` are `stride` apart.
pub(in crate::kernels) fn multiply<F: Factor>(
    left: Left<'_, F>,
    right: Right<'_, F>,
    out: &mut [f32],
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
            out.fill(0.0);
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
    let out = Out(out.as_mut_ptr());
    // SAFETY: `super::available` was asked before any operation came here; sizes were checked above, and no two
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
            out.row(rows.start * stride),
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

/// Where a product goes, for several threads that each write places of their own.
#[derive(Clone, Copy)]
struct Out(*mut f32);

// SAFETY: a plain address; `multiply` gives every thread other places.
unsafe impl Send for Out {}
// SAFETY: as above.
unsafe impl Sync for Out {}

impl Out {
    /// The address `places` further on.
    ///
    /// # Safety
    /// The place must lie in the same slice.
    unsafe fn row(self, places: usize) -> *mut f32 {
        // SAFETY: promised by the caller.
        unsafe { self.0.add(places) }
    }
}

/// Products of `left` with some columns; `out` is the place of the first row's column 0.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
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
    let mut packed = vec![F::Right::default(); most * panel];
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
}

/// Asks for `count` values that will be read soon.
#[inline(always)]
fn fetch<T>(from: *const T, count: usize) {
    for line in (0..count * size_of::<T>()).step_by(64) {
        // SAFETY: a hint; no address is refused.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast::<i8>().wrapping_add(line)) };
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
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn multiply_any(&self) {
        macro_rules! heights {
            ($vectors:literal: $($count:literal)*) => {
                match self.rows.len() {
                    // SAFETY: see `block`.
                    $($count => unsafe { self.multiply::<$count, $vectors>() },)*
                    // SAFETY: see `block`.
                    _ => unsafe { self.multiply::<12, $vectors>() },
                }
            };
        }
        if self.wide > 16 {
            heights!(2: 1 2 3 4 5 6 7 8 9 10 11);
        } else {
            heights!(1: 1 2 3 4 5 6 7 8 9 10 11);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(&self) {
        let lanes = |count: usize| ((1_u32 << count.min(16)) - 1) as __mmask16;
        // SAFETY: see `block`; masked lanes are not touched.
        unsafe {
            let mut starts = [self.data; ROWS];
            for (start, row) in starts.iter_mut().zip(self.rows) {
                *start = start.add(*row);
            }
            let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
            if self.add {
                for (row, sums) in sums.iter_mut().enumerate() {
                    for (vector, sum) in sums.iter_mut().enumerate() {
                        let mask = lanes(self.wide - 16 * vector);
                        *sum = _mm512_maskz_loadu_ps(
                            mask,
                            self.out.add(row * self.stride + 16 * vector),
                        );
                    }
                }
            }
            for at in 0..self.steps {
                F::step::<ROWS, VECTORS>(&mut sums, &starts, at, self.right.add(at * TILE_COLUMNS));
            }
            for (row, sums) in sums.iter().enumerate() {
                for (vector, sum) in sums.iter().enumerate() {
                    let mask = lanes(self.wide - 16 * vector);
                    _mm512_mask_storeu_ps(
                        self.out.add(row * self.stride + 16 * vector),
                        mask,
                        *sum,
                    );
                }
            }
        }
    }
}

/// Side of the blocks in which factors are turned.
const BLOCK: usize = 16;

/// A packed factor with its table of rows.
pub(in crate::kernels) struct Packed<T> {
    pub(in crate::kernels) data: Vec<T>,
    pub(in crate::kernels) rows: Vec<usize>,
}

impl<T> Packed<T> {
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
) -> Packed<F::Left> {
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
    Packed { data, rows }
}

/// A left factor from columns: `values` is `[k, m]`, rows `stride` apart.
#[inline(always)]
pub(in crate::kernels) fn left_columns<F: Factor>(
    values: &[f32],
    k: usize,
    m: usize,
    stride: usize,
) -> Packed<F::Left> {
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
    Packed { data, rows }
}

/// Chunks of so many values that one thread takes at once, so that sharing pays.
pub(super) const fn at_least(values: usize) -> usize {
    (1_usize << 15).div_ceil(values)
}

/// Rows `[m, n]` as columns `[n, m]`, each value through `change` with its row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(in crate::kernels) fn turned(
    values: &[f32],
    m: usize,
    n: usize,
    change: impl Fn(usize, f32) -> f32 + Sync,
) -> Vec<f32> {
    let mut turned = vec![0.0; m * n];
    let turn = |(place, turned): (usize, &mut [f32])| {
        let mut block = [[0.0; BLOCK]; BLOCK];
        let columns = turned.len() / m;
        for first_row in (0..m).step_by(BLOCK) {
            let rows = first_row..(first_row + BLOCK).min(m);
            for (row, block) in rows.clone().zip(&mut block) {
                let from = &values[row * n + place * BLOCK..][..columns];
                for (to, from) in block.iter_mut().zip(from) {
                    *to = change(row, *from);
                }
            }
            for (turned, block) in turned.chunks_exact_mut(m).zip(turn_block(block)) {
                turned[rows.clone()].copy_from_slice(&block[..rows.len()]);
            }
        }
    };
    turned
        .par_chunks_mut(BLOCK * m.max(1))
        .enumerate()
        .with_min_len(at_least(BLOCK * m.max(1)))
        .for_each(turn);
    turned
}
