//! Binary spherical quantisation: features to bits and back, on the host.
//!
//! Maps are `[d, h, w]` row by row and belong to one picture. The arithmetic is
//! small next to the networks (131 k values at 1024×1024), and on the host it
//! is the same on every device, to the bit.
//! Source: Zhao, Xiong and Krähenbühl, arXiv 2406.07548, eq. (5); Infinity,
//! arXiv 2412.04431, algorithms 1 and 2. A component of exactly 0 gives bit 0.

use crate::resize::{Filter, Resize};
use crate::schedule::Scale;

/// Bits of one scale of one picture, `[h*w, d]`, each 0 or 1.
pub type ScaleBits = Vec<u8>;

/// The value of a code component: `(2 bit - 1) / sqrt(d)`.
pub fn code_value(bit: u8, d: usize) -> f32 {
    let unit = 1.0 / (d as f32).sqrt();
    if bit == 0 { -unit } else { unit }
}

/// Bits `[places, d]` as codes `[d, places]`.
pub fn codes_from_bits(bits: &[u8], d: usize) -> Vec<f32> {
    let places = bits.len() / d;
    let mut codes = vec![0.0; bits.len()];
    for (place, row) in bits.chunks_exact(d).enumerate() {
        for (channel, &bit) in row.iter().enumerate() {
            codes[channel * places + place] = code_value(bit, d);
        }
    }
    codes
}

/// The signs of a map `[d, places]` as bits `[places, d]`.
pub fn bits_from_features(map: &[f32], d: usize) -> ScaleBits {
    let places = map.len() / d;
    let mut bits = vec![0; map.len()];
    for (channel, row) in map.chunks_exact(places).enumerate() {
        for (place, &value) in row.iter().enumerate() {
            bits[place * d + channel] = u8::from(value > 0.0);
        }
    }
    bits
}

/// The running sum of residual codes of one picture at the size of the finest scale.
#[derive(Clone, Debug)]
pub struct ResidualSum {
    d: usize,
    size: Scale,
    sum: Vec<f32>,
}

impl ResidualSum {
    /// An empty sum for `d` bits at `size`, the code map of the finest scale.
    pub fn new(d: usize, size: Scale) -> Self {
        Self {
            d,
            size,
            sum: vec![0.0; d * size.tokens()],
        }
    }

    /// Adds the codes of `bits`, drawn on `scale`, enlarged to full size.
    pub fn add_bits(&mut self, bits: &[u8], scale: Scale) {
        let codes = codes_from_bits(bits, self.d);
        let up = Resize::new(
            Filter::Bilinear,
            (scale.h, scale.w),
            (self.size.h, self.size.w),
        );
        for (total, value) in self.sum.iter_mut().zip(up.apply(&codes)) {
            *total += value;
        }
    }

    /// The sum so far at the size of `scale`: what the transformer sees next, `[d, h, w]`.
    pub fn at(&self, scale: Scale) -> Vec<f32> {
        Resize::new(
            Filter::Bilinear,
            (self.size.h, self.size.w),
            (scale.h, scale.w),
        )
        .apply(&self.sum)
    }

    /// The sum so far, `[d, h, w]` at full size: the latents that the decoder turns into pixels.
    pub fn latents(&self) -> &[f32] {
        &self.sum
    }

    /// Takes the values of `other` at the places that `at` names.
    pub fn restore(&mut self, other: &Self, at: impl Fn(usize) -> bool) {
        let places = self.size.tokens();
        for (index, (value, own)) in self.sum.iter_mut().zip(&other.sum).enumerate() {
            if at(index % places) {
                *value = *own;
            }
        }
    }

    /// Bits of what `features` have beyond the sum, on `scale`.
    pub fn residual_bits(&self, features: &[f32], scale: Scale) -> ScaleBits {
        let residual: Vec<f32> = features.iter().zip(&self.sum).map(|(f, s)| f - s).collect();
        let down = Resize::new(Filter::Area, (self.size.h, self.size.w), (scale.h, scale.w));
        bits_from_features(&down.apply(&residual), self.d)
    }
}

/// Splits `features` `[d, h, w]` into bits, scale by scale, without any flips.
pub fn encode(features: &[f32], d: usize, scales: &[Scale]) -> (Vec<ScaleBits>, ResidualSum) {
    let size = scales.last().copied().unwrap_or(Scale { h: 1, w: 1 });
    let mut sum = ResidualSum::new(d, size);
    let bits = scales
        .iter()
        .map(|&scale| {
            let bits = sum.residual_bits(features, scale);
            sum.add_bits(&bits, scale);
            bits
        })
        .collect();
    (bits, sum)
}

/// Folds 2×2 places into channels, `channel*4 + dy*2 + dx`: `[d, 2h, 2w]` to `[4d, h, w]`.
pub fn patchify(map: &[f32], d: usize, scale: Scale) -> Vec<f32> {
    let Scale { h, w } = scale;
    let mut folded = vec![0.0; map.len()];
    for (index, value) in folded.iter_mut().enumerate() {
        let (channel, place) = (index / (h * w), index % (h * w));
        let (y, x) = (place / w, place % w);
        let (dy, dx) = (channel % 4 / 2, channel % 2);
        *value = map[(channel / 4 * 2 * h + 2 * y + dy) * 2 * w + 2 * x + dx];
    }
    debug_assert_eq!(map.len(), 4 * d * h * w);
    folded
}

/// Bits of `[h*w, 4d]` at token resolution as bits `[4*h*w, d]` of the code map: the inverse fold.
pub fn unpatchify_bits(bits: &[u8], d: usize, scale: Scale) -> ScaleBits {
    let Scale { h, w } = scale;
    let mut unfolded = vec![0; bits.len()];
    for (index, &bit) in bits.iter().enumerate() {
        let (place, channel) = (index / (4 * d), index % (4 * d));
        let (y, x) = (place / w, place % w);
        let (dy, dx) = (channel % 4 / 2, channel % 2);
        unfolded[((2 * y + dy) * 2 * w + 2 * x + dx) * d + channel / 4] = bit;
    }
    debug_assert_eq!(bits.len(), 4 * d * h * w);
    unfolded
}

/// Bits `[4*h*w, d]` of the code map as `[h*w, 4d]` at token resolution.
pub fn patchify_bits(bits: &[u8], d: usize, scale: Scale) -> ScaleBits {
    let Scale { h, w } = scale;
    let mut folded = vec![0; bits.len()];
    for (index, bit) in folded.iter_mut().enumerate() {
        let (place, channel) = (index / (4 * d), index % (4 * d));
        let (y, x) = (place / w, place % w);
        let (dy, dx) = (channel % 4 / 2, channel % 2);
        *bit = bits[((2 * y + dy) * 2 * w + 2 * x + dx) * d + channel / 4];
    }
    debug_assert_eq!(bits.len(), 4 * d * h * w);
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn random_bits(count: usize, seed: u64) -> ScaleBits {
        let stream = Stream::new(seed, 0);
        (0..count as u64)
            .map(|i| (stream.bits(i) & 1) as u8)
            .collect()
    }

    #[test]
    fn bits_survive_codes() {
        for d in [1, 5, 16, 32] {
            let bits = random_bits(7 * d, 3);
            assert_eq!(bits_from_features(&codes_from_bits(&bits, d), d), bits);
        }
    }

    #[test]
    fn folds_are_inverse() {
        let scale = Scale { h: 3, w: 5 };
        let bits = random_bits(4 * 7 * 15, 9);
        assert_eq!(
            patchify_bits(&unpatchify_bits(&bits, 7, scale), 7, scale),
            bits
        );
    }

    #[test]
    fn last_scale_alone_is_the_sign() {
        let scale = Scale { h: 4, w: 4 };
        let stream = Stream::new(5, 5);
        let features: Vec<f32> = (0..16 * 8).map(|i| stream.normal(i) as f32).collect();
        let (bits, _) = encode(&features, 8, &[scale]);
        assert_eq!(bits[0], bits_from_features(&features, 8));
    }
}
