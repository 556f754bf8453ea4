//! Vectors of sixteen values.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _mm256_loadu_si256, _mm512_castps_si512, _mm512_cvtph_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use half::f16;

/// A vector.
pub(super) type Vector = __m512;
/// As many 32-bit values of any kind.
pub(super) type Bits = __m512i;
/// Values of a vector.
pub(super) const LANES: usize = 16;
/// Rows of one tile: with two vectors each, 24 of 32 registers.
pub(super) const TILE_ROWS: usize = 12;
/// Side of the blocks in which factors are turned.
pub(super) const BLOCK: usize = 16;

vectorised! {
    #[inline]
    pub(super) fn zero() -> Vector {
        _mm512_setzero_ps()
    }
}

vectorised! {
    #[inline]
    pub(super) fn splat(value: f32) -> Vector {
        _mm512_set1_ps(value)
    }
}

vectorised! {
    /// The larger of each two values, that of `b` where one is not a number.
    #[inline]
    pub(super) fn maximum(a: Vector, b: Vector) -> Vector {
        _mm512_max_ps(a, b)
    }
}

vectorised! {
    /// `a b + c`.
    #[inline]
    pub(super) fn multiply_add(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm512_fmadd_ps(a, b, c)
    }
}

vectorised! {
    /// # Safety
    /// A whole vector must lie there.
    #[inline]
    pub(super) unsafe fn load(from: *const f32) -> Vector {
        // SAFETY: promised by the caller.
        unsafe { _mm512_loadu_ps(from) }
    }
}

/// The first `count` lanes.
fn first(count: usize) -> __mmask16 {
    ((1_u32 << count.min(LANES)) - 1) as __mmask16
}

vectorised! {
    /// The first `count` values, then zeros.
    ///
    /// # Safety
    /// They must lie there.
    #[inline]
    pub(super) unsafe fn load_first(count: usize, from: *const f32) -> Vector {
        // SAFETY: promised by the caller; lanes past the end are not touched.
        unsafe { _mm512_maskz_loadu_ps(first(count), from) }
    }
}

vectorised! {
    /// The first `count` values, then those of `with`.
    ///
    /// # Safety
    /// They must lie there.
    #[inline]
    pub(super) unsafe fn load_first_or(count: usize, from: *const f32, with: Vector) -> Vector {
        // SAFETY: promised by the caller; lanes past the end are not touched.
        unsafe { _mm512_mask_loadu_ps(with, first(count), from) }
    }
}

vectorised! {
    /// # Safety
    /// There must be room for `count` values.
    #[inline]
    pub(super) unsafe fn store_first(count: usize, to: *mut f32, vector: Vector) {
        // SAFETY: promised by the caller; lanes past the end are not touched.
        unsafe { _mm512_mask_storeu_ps(to, first(count), vector) }
    }
}

vectorised! {
    /// As [`load`], from values in half precision.
    ///
    /// # Safety
    /// A whole vector must lie there.
    #[inline]
    pub(super) unsafe fn load_half(from: *const f16) -> Vector {
        // SAFETY: promised by the caller.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
}

vectorised! {
    #[inline]
    pub(super) fn bits(vector: Vector) -> Bits {
        _mm512_castps_si512(vector)
    }
}

vectorised! {
    #[inline]
    pub(super) fn no_bits() -> Bits {
        _mm512_setzero_si512()
    }
}

vectorised! {
    /// # Safety
    /// There must be room for all of them.
    #[inline]
    pub(super) unsafe fn store_bits<T: Copy>(to: *mut T, bits: Bits) {
        const { assert!(size_of::<T>() == 4) };
        // SAFETY: promised by the caller.
        unsafe { _mm512_storeu_si512(to.cast(), bits) }
    }
}

vectorised! {
    /// A 16×16 block of 32-bit values with its axes exchanged.
    #[inline]
    pub(super) fn turn(rows: [Bits; BLOCK]) -> [Bits; BLOCK] {
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
        turned
    }
}
