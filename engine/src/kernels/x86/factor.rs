//! How factors are stored while they are multiplied: in f32, or as bf16 with f32 sums.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_fmadd_ps, _mm512_loadu_epi32, _mm512_loadu_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
};

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
