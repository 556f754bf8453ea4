//! Drawing inside a mask only: what lies outside keeps its codes at every scale.
//!
//! Residual codes add up, so the sum of a picture after scale `k` is known at every place. After each scale
//! the sum outside is put back to that of the picture; inside it is what was drawn. The next scale sees both
//! and mends the seam, as it was trained to (bitwise self-correction, Infinity, arXiv 2412.04431, section 3.3).

use super::Codes;
use crate::api::Mask;
use crate::resize::{Filter, Resize};
use crate::schedule::Scale;
use crate::vae::bsq::ResidualSum;

/// How what lies outside is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// The sum of codes is put back after every scale.
    Sums,
    /// Plain teacher forcing: tokens that lie mostly outside take the picture's bits. Known to be poor at the
    /// seam; here to be compared with.
    Bits,
}

/// A picture of which only a part is drawn anew.
#[derive(Clone, Debug)]
pub struct Outside {
    codes: Codes,
    /// Whether a code lies inside, row by row over the finest code map.
    inside: Vec<bool>,
    size: Scale,
    keeping: Keeping,
}

/// A code is drawn anew when so much of its square is inside of the mask.
const LEAST_SHARE: f32 = 0.1;

impl Outside {
    /// Keeps of the picture `codes`, whose finest code map is `size`, what is outside of `mask`.
    pub fn new(codes: Codes, mask: &Mask, size: Scale, keeping: Keeping) -> Self {
        let values: Vec<f32> = mask
            .values
            .iter()
            .map(|&value| if value > 0 { 1.0 } else { 0.0 })
            .collect();
        let from = (mask.height as usize, mask.width as usize);
        let share = Resize::new(Filter::Area, from, (size.h, size.w)).apply(&values);
        Self {
            codes,
            inside: share.iter().map(|&share| share >= LEAST_SHARE).collect(),
            size,
            keeping,
        }
    }

    /// With [`Keeping::Bits`], puts back bits of tokens outside.
    pub(super) fn keep_bits(&self, index: usize, scale: Scale, bits: &mut [u8]) {
        let Some(own) = self
            .codes
            .bits
            .get(index)
            .filter(|_| self.keeping == Keeping::Bits)
        else {
            return;
        };
        let values: Vec<f32> = self
            .inside
            .iter()
            .map(|&inside| f32::from(u8::from(inside)))
            .collect();
        let from = (self.size.h, self.size.w);
        let share = Resize::new(Filter::Area, from, (scale.h, scale.w)).apply(&values);
        let per_token = own.len() / scale.tokens();
        let tokens = bits
            .chunks_exact_mut(per_token)
            .zip(own.chunks_exact(per_token));
        for ((bits, own), share) in tokens.zip(share) {
            if share < 0.5 {
                bits.copy_from_slice(own);
            }
        }
    }

    /// With [`Keeping::Sums`], puts the sum back outside.
    pub(super) fn keep_sum(&self, index: usize, sum: &mut ResidualSum) {
        if let Some(own) = self
            .codes
            .sums
            .get(index)
            .filter(|_| self.keeping == Keeping::Sums)
        {
            sum.restore(own, |place| !self.inside[place]);
        }
    }
}
