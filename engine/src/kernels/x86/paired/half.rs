//! Factors rounded to bf16, two neighbours multiplied at once.

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_loadu_epi32, _mm512_set1_epi32,
};
use std::cell::Cell;

use super::factor::{Factor, Kept};
use super::lanes::{Bits, LANES, Vector};

/// Factors rounded to bf16; sums stay in f32.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Half;

/// Rounds to the nearest bf16, ties to even.
#[inline(always)]
fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits.wrapping_add(0x7FFF + ((bits >> 16) & 1))) >> 16) as u16
}

vectorised! {
    #[inline]
    fn dot(sum: Vector, a: __m512i, b: __m512i) -> Vector {
        // SAFETY: plain reinterpretation of 512 bits.
        let [a, b] = [a, b].map(|bits| unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) });
        std::arch::x86_64::_mm512_dpbf16_ps(sum, a, b)
    }
}

thread_local! {
    static PACKED: Cell<(Vec<u16>, Vec<u32>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

impl Factor for Half {
    type Left = u16;
    type Right = u32;
    const STEP: usize = 2;
    const STEPS_AT_ONCE: usize = 128;

    fn packed() -> &'static Kept<u16, u32> {
        &PACKED
    }

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

    vectorised! {
        #[inline]
        unsafe fn steps(first: Vector, second: Vector) -> Bits {
            // SAFETY: plain reinterpretation of 512 bits; a pair of neighbours is one of 32.
            unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(second, first)) }
        }
    }

    vectorised! {
        #[inline]
        unsafe fn step<const ROWS: usize, const VECTORS: usize>(
            sums: &mut [[Vector; VECTORS]; ROWS],
            left: *const u16,
            stride: usize,
            right: *const u32,
        ) {
            // SAFETY: the caller promises valid pointers.
            unsafe {
                let mut columns = [_mm512_set1_epi32(0); VECTORS];
                for (vector, columns) in columns.iter_mut().enumerate() {
                    *columns = _mm512_loadu_epi32(right.add(LANES * vector).cast());
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let pair = left.add(row * stride).cast::<i32>().read_unaligned();
                    let pair = _mm512_set1_epi32(pair);
                    for (sum, columns) in sums.iter_mut().zip(columns) {
                        *sum = dot(*sum, pair, columns);
                    }
                }
            }
        }
    }
}
