//! Vectors of eight values.

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_blendv_ps, _mm256_castpd_ps, _mm256_castps_pd,
    _mm256_castsi256_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_max_ps, _mm256_permute2f128_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_storeu_ps, _mm256_unpackhi_pd, _mm256_unpackhi_ps,
    _mm256_unpacklo_pd, _mm256_unpacklo_ps,
};

use half::f16;

/// A vector.
pub(super) type Vector = __m256;
/// As many 32-bit values of any kind.
pub(super) type Bits = __m256;
/// Values of a vector.
pub(super) const LANES: usize = 8;
/// Rows of one tile: with two vectors each, 12 of 16 registers.
pub(super) const TILE_ROWS: usize = 6;
/// Side of the blocks in which factors are turned.
pub(super) const BLOCK: usize = 8;

vectorised! {
    #[inline]
    pub(super) fn zero() -> Vector {
        _mm256_setzero_ps()
    }
}

vectorised! {
    #[inline]
    pub(super) fn splat(value: f32) -> Vector {
        _mm256_set1_ps(value)
    }
}

vectorised! {
    /// The larger of each two values, that of `b` where one is not a number.
    #[inline]
    pub(super) fn maximum(a: Vector, b: Vector) -> Vector {
        _mm256_max_ps(a, b)
    }
}

vectorised! {
    /// `a b + c`.
    #[inline]
    pub(super) fn multiply_add(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm256_fmadd_ps(a, b, c)
    }
}

vectorised! {
    /// # Safety
    /// A whole vector must lie there.
    #[inline]
    pub(super) unsafe fn load(from: *const f32) -> Vector {
        // SAFETY: promised by the caller.
        unsafe { _mm256_loadu_ps(from) }
    }
}

vectorised! {
    /// The first `count` lanes, as a mask.
    #[inline]
    fn first(count: usize) -> __m256i {
        const MASK: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        let start = LANES - count.min(LANES);
        // SAFETY: the start is at most half of the mask.
        unsafe { _mm256_loadu_si256(MASK.as_ptr().add(start).cast()) }
    }
}

vectorised! {
    /// The first `count` values, then zeros.
    ///
    /// # Safety
    /// They must lie there.
    #[inline]
    pub(super) unsafe fn load_first(count: usize, from: *const f32) -> Vector {
        // SAFETY: promised by the caller; lanes past the end are not touched.
        unsafe {
            if count >= LANES {
                _mm256_loadu_ps(from)
            } else {
                _mm256_maskload_ps(from, first(count))
            }
        }
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
        unsafe {
            let mask = first(count);
            _mm256_blendv_ps(with, _mm256_maskload_ps(from, mask), _mm256_castsi256_ps(mask))
        }
    }
}

vectorised! {
    /// # Safety
    /// There must be room for `count` values.
    #[inline]
    pub(super) unsafe fn store_first(count: usize, to: *mut f32, vector: Vector) {
        // SAFETY: promised by the caller; lanes past the end are not touched.
        unsafe {
            if count >= LANES {
                _mm256_storeu_ps(to, vector);
            } else {
                _mm256_maskstore_ps(to, first(count), vector);
            }
        }
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
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
}

vectorised! {
    #[inline]
    pub(super) fn bits(vector: Vector) -> Bits {
        vector
    }
}

vectorised! {
    #[inline]
    pub(super) fn no_bits() -> Bits {
        _mm256_setzero_ps()
    }
}

vectorised! {
    /// # Safety
    /// There must be room for all of them.
    #[inline]
    pub(super) unsafe fn store_bits<T: Copy>(to: *mut T, bits: Bits) {
        const { assert!(size_of::<T>() == 4) };
        // SAFETY: promised by the caller.
        unsafe { _mm256_storeu_ps(to.cast(), bits) }
    }
}

vectorised! {
    /// An 8×8 block of 32-bit values with its axes exchanged.
    #[inline]
    pub(super) fn turn(rows: [Bits; BLOCK]) -> [Bits; BLOCK] {
        // Pairs of rows, then fours: vector 4g + c holds columns c and 4 + c of rows 4g to 4g + 3.
        let mut pairs = rows;
        for at in (0..BLOCK).step_by(2) {
            pairs[at] = _mm256_unpacklo_ps(rows[at], rows[at + 1]);
            pairs[at + 1] = _mm256_unpackhi_ps(rows[at], rows[at + 1]);
        }
        let mut fours = pairs;
        for at in (0..BLOCK).step_by(4) {
            for half in 0..2 {
                let (a, b) = (_mm256_castps_pd(pairs[at + half]), _mm256_castps_pd(pairs[at + 2 + half]));
                fours[at + 2 * half] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
                fours[at + 2 * half + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
            }
        }
        let mut turned = fours;
        for c in 0..4 {
            turned[c] = _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]);
            turned[4 + c] = _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]);
        }
        turned
    }
}
