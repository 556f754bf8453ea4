//! Bitwise self-correction: teaching the transformer to mend its own mistakes.
//!
//! Bits of a scale are flipped at random before they are added to the running
//! sum, and the scales after it are quantised against the damaged sum: their
//! labels repair what was broken (Infinity, arXiv 2412.04431, section 3.4 and
//! algorithm 2; spec section 8.1).

use crate::generate::token_features;
use crate::random::Stream;
use crate::schedule::Scale;
use crate::vae::bsq::{ResidualSum, ScaleBits, patchify_bits};

/// One picture as the transformer trains on it.
#[derive(Clone, Debug, Default)]
pub struct Lesson {
    /// Features of scales 2 and up, `[L - n₁, d']` row by row.
    pub inputs: Vec<f32>,
    /// Bits to predict on every scale, `[L, d']` row by row.
    pub labels: ScaleBits,
}

impl Lesson {
    /// Keeps the first `tokens` tokens, of `bits` bits each.
    pub fn keep_first(&mut self, tokens: usize, bits: usize) {
        self.labels.truncate(tokens * bits);
        // The first scale is one token and takes no input.
        self.inputs.truncate(tokens.saturating_sub(1) * bits);
    }
}

/// Splits tokenizer features `[d, h, w]` into inputs and labels over `scales` (token grids).
///
/// `flip` gets a scale's index and its bits, `[places, d]` at the size of the
/// code map, and may damage them; the last scale is never offered.
pub fn lesson(
    features: &[f32],
    d: usize,
    scales: &[Scale],
    patchify: bool,
    mut flip: impl FnMut(usize, &mut ScaleBits),
) -> Lesson {
    let fold = if patchify { 2 } else { 1 };
    let code_scale = |scale: Scale| Scale {
        h: fold * scale.h,
        w: fold * scale.w,
    };
    let size = scales
        .last()
        .copied()
        .map_or(Scale { h: 1, w: 1 }, code_scale);
    let mut sum = ResidualSum::new(d, size);
    let mut lesson = Lesson::default();
    for (index, &scale) in scales.iter().enumerate() {
        let mut bits = sum.residual_bits(features, code_scale(scale));
        if patchify {
            lesson.labels.extend(patchify_bits(&bits, d, scale));
        } else {
            lesson.labels.extend_from_slice(&bits);
        }
        let Some(&next) = scales.get(index + 1) else {
            break;
        };
        flip(index, &mut bits);
        sum.add_bits(&bits, code_scale(scale));
        lesson
            .inputs
            .extend(token_features(&sum, next, code_scale(next), d, patchify));
    }
    lesson
}

/// As [`lesson`], but what comes after a flip is not quantised anew: inputs are damaged, labels are those of the whole
/// picture. What the paper compares self-correction with (table 6).
pub fn lesson_without_correction(
    features: &[f32],
    d: usize,
    scales: &[Scale],
    mut flip: impl FnMut(usize, &mut ScaleBits),
) -> Lesson {
    let mut lesson = lesson(features, d, scales, false, |_, _| ());
    let size = scales.last().copied().unwrap_or(Scale { h: 1, w: 1 });
    let mut sum = ResidualSum::new(d, size);
    let mut start = 0;
    lesson.inputs.clear();
    for (index, pair) in scales.windows(2).enumerate() {
        let end = start + pair[0].tokens() * d;
        let mut bits = lesson.labels[start..end].to_vec();
        flip(index, &mut bits);
        sum.add_bits(&bits, pair[0]);
        let inputs = token_features(&sum, pair[1], pair[1], d, false);
        lesson.inputs.extend(inputs);
        start = end;
    }
    lesson
}

/// Flips bits with a strength drawn per scale: one of 0, 0.01 … `strength`, as in the reference.
///
/// `stream` belongs to one picture of one update; `scales` is the number of first scales to damage.
pub fn flip_at_random(
    strength: f32,
    scales: usize,
    stream: Stream,
) -> impl FnMut(usize, &mut ScaleBits) {
    move |index, bits| {
        if index >= scales {
            return;
        }
        let choices = (strength * 100.0).round() as usize + 1;
        let place = (index as u64 + 1) << 40;
        let chance = stream.below(place, choices) as f64 * 0.01;
        for (counter, bit) in bits.iter_mut().enumerate() {
            if stream.uniform(place + 1 + counter as u64) < chance {
                *bit ^= 1;
            }
        }
    }
}

/// Weight of every token in the loss, summing to 1 (spec section 8.2).
///
/// Evenly, or, by scale, in proportion to `sqrt(N_last / N_s)` for a scale of `N_s` tokens.
/// The first `given` scales count nothing.
pub fn token_weights(scales: &[Scale], by_scale: bool, given: usize) -> Vec<f32> {
    let last = scales.last().map_or(1, |scale| scale.tokens()) as f32;
    let weights: Vec<f32> = scales
        .iter()
        .enumerate()
        .flat_map(|(index, scale)| {
            let weight = if index < given {
                0.0
            } else if by_scale {
                (last / scale.tokens() as f32).sqrt()
            } else {
                1.0
            };
            vec![weight; scale.tokens()]
        })
        .collect();
    let total: f32 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ScaleSchedule;
    use crate::vae::bsq;

    #[test]
    fn without_flips_labels_are_the_encoding() {
        let schedule = ScaleSchedule::nearest(1.5, 4).unwrap();
        let size = schedule.last();
        let stream = Stream::new(1, 2);
        let features: Vec<f32> = (0..8 * size.tokens() as u64)
            .map(|i| stream.normal(i) as f32)
            .collect();
        let (bits, _) = bsq::encode(&features, 8, &schedule.scales);
        let lesson = lesson(&features, 8, &schedule.scales, false, |_, _| ());
        assert_eq!(lesson.labels, bits.concat());
        assert_eq!(lesson.inputs.len(), 8 * (schedule.tokens() - 1));
    }

    #[test]
    fn flips_change_later_labels_only() {
        let schedule = ScaleSchedule::nearest(1.0, 4).unwrap();
        let stream = Stream::new(1, 2);
        let features: Vec<f32> = (0..8 * 36).map(|i| stream.normal(i) as f32).collect();
        let plain = lesson(&features, 8, &schedule.scales, false, |_, _| ());
        let damaged = lesson(&features, 8, &schedule.scales, false, |index, bits| {
            if index == 1 {
                bits.iter_mut().for_each(|bit| *bit ^= 1);
            }
        });
        let until = (1 + 4) * 8;
        assert_eq!(plain.labels[..until], damaged.labels[..until]);
        assert_ne!(plain.labels[until..], damaged.labels[until..]);
    }

    #[test]
    fn without_correction_labels_stay() {
        let scales = ScaleSchedule::nearest(1.0, 4).unwrap().scales;
        let stream = Stream::new(1, 2);
        let features: Vec<f32> = (0..8 * 36).map(|i| stream.normal(i) as f32).collect();
        let plain = lesson(&features, 8, &scales, false, |_, _| ());
        let same = lesson_without_correction(&features, 8, &scales, |_, _| ());
        assert_eq!((&plain.inputs, &plain.labels), (&same.inputs, &same.labels));
        let flip = |index: usize, bits: &mut ScaleBits| {
            if index == 1 {
                bits.iter_mut().for_each(|bit| *bit ^= 1);
            }
        };
        let damaged = lesson_without_correction(&features, 8, &scales, flip);
        assert_eq!(damaged.labels, plain.labels);
        // The inputs are those of self-correction up to the scale after the flip, where both have seen the same.
        let corrected = lesson(&features, 8, &scales, false, flip);
        let until = (4 + 16) * 8;
        assert_eq!(damaged.inputs[..until], corrected.inputs[..until]);
        assert_ne!(damaged.inputs[..until], plain.inputs[..until]);
    }

    #[test]
    fn weights_sum_to_one() {
        let scales = ScaleSchedule::nearest(1.0, 5).unwrap().scales;
        for (by_scale, given) in [(false, 0), (true, 0), (true, 3)] {
            let weights = token_weights(&scales, by_scale, given);
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            // The first three grids have 21 tokens.
            let first: f32 = weights[..21].iter().sum();
            assert_eq!(first == 0.0, given == 3);
        }
    }
}
