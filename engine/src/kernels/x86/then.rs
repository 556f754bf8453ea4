//! What becomes of a product's sums while they are in the nearest cache.

use std::ops::Range;

use super::math::gelu;

/// What becomes of complete sums, bias included.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) enum Then<'a> {
    /// They are the result.
    Nothing,
    /// GELU of them.
    Gelu,
    /// So many times as much.
    Scaled(f32),
    /// Added to values that lie as the result does.
    Added(&'a [f32]),
    /// Multiplied by a gate, of as many values as a row has for every `length` rows, and added.
    Gated {
        to: &'a [f32],
        gate: &'a [f32],
        length: usize,
    },
}

impl Then<'_> {
    vectorised! {
        /// Makes of the sums in `rows` and `columns` what becomes of them. The first is at `out`, rows are `stride` apart.
        ///
        /// # Safety
        /// They must be there, and no one else may look at them.
        #[inline]
        pub(super) unsafe fn finish(self, out: *mut f32, stride: usize, rows: Range<usize>, columns: Range<usize>) {
            if matches!(self, Then::Nothing) {
                return;
            }
            for (index, row) in rows.enumerate() {
                // SAFETY: promised by the caller.
                let sums = unsafe { std::slice::from_raw_parts_mut(out.add(index * stride), columns.len()) };
                match self {
                    Then::Nothing => {}
                    Then::Gelu => sums.iter_mut().for_each(|sum| *sum = gelu(*sum)),
                    Then::Scaled(factor) => sums.iter_mut().for_each(|sum| *sum *= factor),
                    Then::Added(to) => {
                        let to = &to[row * stride..][columns.clone()];
                        for (sum, to) in sums.iter_mut().zip(to) {
                            *sum += to;
                        }
                    }
                    Then::Gated { to, gate, length } => {
                        let to = &to[row * stride..][columns.clone()];
                        let gate = &gate[row / length * stride..][columns.clone()];
                        for ((sum, to), gate) in sums.iter_mut().zip(to).zip(gate) {
                            *sum = gate.mul_add(*sum, *to);
                        }
                    }
                }
            }
        }
    }
}
