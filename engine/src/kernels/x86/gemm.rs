//! Matrix products with 512-bit vectors, in f32 or with bf16 factors and f32 sums.
//!
//! Both factors are given as tables of row starts, so that a convolution is a
//! product over shifted views of one padded map, without an unfolded copy.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, __mmask16, _mm512_fmadd_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_epi32, _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps,
};

use rayon::prelude::*;

/// Rows of one tile, kept in registers.
const TILE_ROWS: usize = 12;
/// Columns of one tile: two vectors.
const TILE_COLUMNS: usize = 32;
/// Steps of the right factor that stay in the nearest cache: 16 KiB for one tile.
const STEPS_AT_ONCE: usize = 128;
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

    /// Adds one step of `ROWS`×32 products.
    ///
    /// # Safety
    /// Needs AVX-512 F, BW and BF16. Every pointer in `left` must be valid for one step, and `right` for the
    /// columns in `masks`.
    unsafe fn step<const ROWS: usize>(
        sums: &mut [[__m512; 2]; ROWS],
        left: &[*const Self::Left; ROWS],
        at: usize,
        right: *const Self::Right,
        masks: [__mmask16; 2],
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
    unsafe fn step<const ROWS: usize>(
        sums: &mut [[__m512; 2]; ROWS],
        left: &[*const f32; ROWS],
        at: usize,
        right: *const f32,
        masks: [__mmask16; 2],
    ) {
        // SAFETY: the caller promises valid pointers; masked lanes are not touched.
        unsafe {
            let low = _mm512_maskz_loadu_ps(masks[0], right);
            let high = _mm512_maskz_loadu_ps(masks[1], right.wrapping_add(16));
            for row in 0..ROWS {
                let value = _mm512_set1_ps(*left[row].add(at));
                sums[row][0] = _mm512_fmadd_ps(value, low, sums[row][0]);
                sums[row][1] = _mm512_fmadd_ps(value, high, sums[row][1]);
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
    unsafe fn step<const ROWS: usize>(
        sums: &mut [[__m512; 2]; ROWS],
        left: &[*const u16; ROWS],
        at: usize,
        right: *const u32,
        masks: [__mmask16; 2],
    ) {
        // SAFETY: the caller promises valid pointers; masked lanes are not touched.
        unsafe {
            let low = _mm512_maskz_loadu_epi32(masks[0], right.cast());
            let high = _mm512_maskz_loadu_epi32(masks[1], right.wrapping_add(16).cast());
            for row in 0..ROWS {
                let pair = left[row].add(2 * at).cast::<i32>().read_unaligned();
                let pair = _mm512_set1_epi32(pair);
                sums[row][0] = dot(sums[row][0], pair, low);
                sums[row][1] = dot(sums[row][1], pair, high);
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

/// Right factor: step `r` of all columns starts at `rows[r]`.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Right<'a, F: Factor> {
    pub(in crate::kernels) data: &'a [F::Right],
    pub(in crate::kernels) rows: &'a [usize],
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
    let (rows, steps) = (left.rows.len(), right.rows.len());
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
    let reach = right.rows.iter().max().map_or(0, |row| row + columns);
    assert!(reach <= right.data.len());
    let threads = rayon::current_num_threads();
    let tiles = rows.div_ceil(TILE_ROWS);
    let share = if threads == 1 || rows * columns * steps * F::STEP < WORTH_SHARING {
        tiles
    } else {
        tiles.div_ceil(2 * threads)
    };
    let work = |(place, out): (usize, &mut [f32])| {
        let first = place * share * TILE_ROWS;
        let count = (rows - first).min(share * TILE_ROWS);
        let own = Left {
            data: left.data,
            rows: &left.rows[first..first + count],
        };
        // SAFETY: `super::available` was asked before any operation came here; sizes were checked above.
        unsafe { block::<F>(own, right, out, columns, stride, add) };
    };
    if share == tiles {
        work((0, out));
    } else {
        out.par_chunks_mut(share * TILE_ROWS * stride)
            .enumerate()
            .filter(|(place, _)| place * share * TILE_ROWS < rows)
            .for_each(work);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn block<F: Factor>(
    left: Left<'_, F>,
    right: Right<'_, F>,
    out: &mut [f32],
    columns: usize,
    stride: usize,
    add: bool,
) {
    let mut column = 0;
    while column < columns {
        let wide = (columns - column).min(TILE_COLUMNS);
        let lanes = |count: usize| ((1_u32 << count.min(16)) - 1) as __mmask16;
        let masks = [lanes(wide), lanes(wide.saturating_sub(16))];
        // A few steps at a time, so that their part of the right factor stays in the nearest cache.
        for (part, steps) in right.rows.chunks(STEPS_AT_ONCE).enumerate() {
            let from = part * STEPS_AT_ONCE * F::STEP;
            let right = Right {
                data: right.data,
                rows: steps,
            };
            let add = add || part > 0;
            for (index, rows) in left.rows.chunks(TILE_ROWS).enumerate() {
                let start = index * TILE_ROWS * stride + column;
                // SAFETY: rows and columns lie inside the slices, which `multiply` has checked.
                unsafe {
                    let data = left.data.as_ptr().add(from);
                    let out = out.as_mut_ptr().add(start);
                    macro_rules! tiles {
                        ($($count:literal)*) => {
                            match rows.len() {
                                $($count => tile::<F, $count>(data, rows, right, column, masks, out, stride, add),)*
                                _ => tile::<F, 12>(data, rows, right, column, masks, out, stride, add),
                            }
                        };
                    }
                    tiles!(1 2 3 4 5 6 7 8 9 10 11);
                }
            }
        }
        column += TILE_COLUMNS;
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn tile<F: Factor, const ROWS: usize>(
    data: *const F::Left,
    rows: &[usize],
    right: Right<'_, F>,
    column: usize,
    masks: [__mmask16; 2],
    out: *mut f32,
    stride: usize,
    add: bool,
) {
    // SAFETY: see `block`.
    unsafe {
        let mut starts = [data; ROWS];
        for (start, row) in starts.iter_mut().zip(rows) {
            *start = start.add(*row);
        }
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        if add {
            for (row, sums) in sums.iter_mut().enumerate() {
                let out = out.add(row * stride);
                sums[0] = _mm512_maskz_loadu_ps(masks[0], out);
                sums[1] = _mm512_maskz_loadu_ps(masks[1], out.wrapping_add(16));
            }
        }
        for (at, row) in right.rows.iter().enumerate() {
            F::step::<ROWS>(
                &mut sums,
                &starts,
                at,
                right.data.as_ptr().add(row + column),
                masks,
            );
        }
        for (row, sums) in sums.iter().enumerate() {
            let out = out.add(row * stride);
            _mm512_mask_storeu_ps(out, masks[0], sums[0]);
            _mm512_mask_storeu_ps(out.wrapping_add(16), masks[1], sums[1]);
        }
    }
}

/// Side of the blocks in which factors are turned.
const BLOCK: usize = 16;

/// Length of a row of `n` values that takes an odd number of cache lines.
///
/// A power of two would put all rows into the same few places of the cache.
fn spread(n: usize) -> usize {
    16 * (n.div_ceil(16) | 1)
}

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

    /// As a right factor.
    pub(in crate::kernels) fn right<F: Factor<Right = T>>(&self) -> Right<'_, F> {
        Right {
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

/// A right factor from rows `[k, n]`, `stride` apart.
#[inline(always)]
pub(in crate::kernels) fn right_rows<F: Factor>(
    values: &[f32],
    k: usize,
    n: usize,
    stride: usize,
) -> Packed<F::Right> {
    let steps = k.div_ceil(F::STEP);
    let wide = spread(n);
    let mut data = vec![F::Right::default(); steps * wide];
    for (step, packed) in data.chunks_exact_mut(wide).enumerate() {
        let row = step * F::STEP;
        let first = &values[row * stride..row * stride + n];
        if F::STEP == 2 && row + 1 < k {
            let second = &values[(row + 1) * stride..(row + 1) * stride + n];
            for ((to, a), b) in packed.iter_mut().zip(first).zip(second) {
                *to = F::right(*a, *b);
            }
        } else {
            for (to, a) in packed.iter_mut().zip(first) {
                *to = F::right(*a, 0.0);
            }
        }
    }
    let rows = (0..steps).map(|step| step * wide).collect();
    Packed { data, rows }
}

/// A right factor from columns: `values` is `[n, k]`, rows `stride` apart.
#[inline(always)]
pub(in crate::kernels) fn right_columns<F: Factor>(
    values: &[f32],
    n: usize,
    k: usize,
    stride: usize,
) -> Packed<F::Right> {
    let steps = k.div_ceil(F::STEP);
    let wide = spread(n);
    let mut data = vec![F::Right::default(); steps * wide];
    let mut block = [[F::Right::default(); BLOCK]; BLOCK];
    for first_step in (0..steps).step_by(BLOCK) {
        let count = BLOCK.min(steps - first_step);
        let places = first_step * F::STEP..((first_step + count) * F::STEP).min(k);
        for first in (0..n).step_by(BLOCK) {
            let columns = BLOCK.min(n - first);
            for (column, block) in block.iter_mut().take(columns).enumerate() {
                let from = &values[(first + column) * stride..][places.clone()];
                for (to, from) in block.iter_mut().zip(from.chunks(F::STEP)) {
                    *to = F::right(from[0], from.get(1).copied().unwrap_or(0.0));
                }
            }
            for step in 0..count {
                let packed = &mut data[(first_step + step) * wide + first..][..columns];
                for (to, column) in packed.iter_mut().zip(&block) {
                    *to = column[step];
                }
            }
        }
    }
    let rows = (0..steps).map(|step| step * wide).collect();
    Packed { data, rows }
}

/// Rows `[m, n]` as columns `[n, m]`, each value through `change` with its row.
#[inline(always)]
pub(in crate::kernels) fn turned(
    values: &[f32],
    m: usize,
    n: usize,
    change: impl Fn(usize, f32) -> f32,
) -> Vec<f32> {
    let mut turned = vec![0.0; m * n];
    for first_row in (0..m).step_by(BLOCK) {
        let rows = first_row..(first_row + BLOCK).min(m);
        for first in (0..n).step_by(BLOCK) {
            for column in first..(first + BLOCK).min(n) {
                let to = &mut turned[column * m..][rows.clone()];
                for (to, row) in to.iter_mut().zip(rows.clone()) {
                    *to = change(row, values[row * n + column]);
                }
            }
        }
    }
    turned
}
