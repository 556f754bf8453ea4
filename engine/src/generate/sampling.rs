//! From two logits per bit to a bit: temperature, guidance, top-k, top-p, a draw.
//!
//! Draws are counter-based: the number behind a bit depends on seed, scale,
//! place and bit alone, so a picture does not depend on the device or on what
//! was drawn before, but for logits that differ in their last digits.
//! Source: Infinity, arXiv 2412.04431, section 3.3; spec section 4.

use crate::random::Stream;

/// How bits are drawn from probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// 1: the likelier value; 0, 2 and more: no effect on two values.
    pub top_k: usize,
    /// A value whose probability is at most `1 - top_p` is not drawn; 0 is off.
    pub top_p: f32,
}

impl Rule {
    /// The probability that the bit is 1, after top-k and top-p.
    pub fn probability(self, logit0: f32, logit1: f32) -> f32 {
        let plain = 1.0 / (1.0 + (logit0 - logit1).exp());
        if self.top_k == 1 && logit0 != logit1 {
            return if logit1 > logit0 { 1.0 } else { 0.0 };
        }
        if self.top_p > 0.0 {
            let cut = 1.0 - self.top_p;
            if plain > 0.5 && 1.0 - plain <= cut {
                return 1.0;
            }
            if plain <= 0.5 && plain <= cut {
                return if plain == 0.5 { 1.0 } else { 0.0 };
            }
        }
        plain
    }
}

/// Guided logits: `cfg * cond + (1 - cfg) * uncond`, both divided by `tau` before.
pub fn guide(cond: &[f32], uncond: Option<&[f32]>, cfg: f32, tau: f32) -> Vec<f32> {
    match uncond {
        Some(uncond) => cond
            .iter()
            .zip(uncond)
            .map(|(c, u)| cfg * (c / tau) + (1.0 - cfg) * (u / tau))
            .collect(),
        None => cond.iter().map(|c| c / tau).collect(),
    }
}

/// Raises the temperature of guided logits `[L, d', 2]` until the likelier values have a mean probability of at most
/// `certainty` (adaptive temperature for bitwise models); gives the factor, 1 where they have it already.
pub fn loosen(logits: &mut [f32], certainty: f32) -> f32 {
    const MOST: f32 = 64.0;
    let gaps: Vec<f32> = logits
        .chunks_exact(2)
        .map(|pair| (pair[1] - pair[0]).abs())
        .collect();
    let mean = |factor: f32| {
        let sum: f32 = gaps
            .iter()
            .map(|gap| 1.0 / (1.0 + (-gap / factor).exp()))
            .sum();
        sum / gaps.len().max(1) as f32
    };
    if mean(1.0) <= certainty {
        return 1.0;
    }
    let (mut low, mut high) = (1.0, MOST);
    for _ in 0..24 {
        let middle = 0.5 * (low + high);
        if mean(middle) > certainty {
            low = middle;
        } else {
            high = middle;
        }
    }
    logits.iter_mut().for_each(|logit| *logit /= high);
    high
}

/// Draws the bits of one scale of one picture: logits `[L, d', 2]` to bits `[L, d']`.
pub fn draw_bits(logits: &[f32], rule: Rule, seed: u64, scale_index: usize) -> Vec<u8> {
    let stream = Stream::new(seed, scale_index as u64);
    logits
        .chunks_exact(2)
        .enumerate()
        .map(|(counter, pair)| {
            let p = f64::from(rule.probability(pair[0], pair[1]));
            u8::from(stream.uniform(counter as u64) < p)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: Rule, logits: (f32, f32), expected: f32) {
        let p = rule.probability(logits.0, logits.1);
        assert!((p - expected).abs() < 1e-6, "{rule:?} {logits:?}: {p}");
    }

    #[test]
    fn sure_logits_are_loosened_and_others_left() {
        let sure: Vec<f32> = (0..40)
            .map(|i| if i % 2 == 0 { 0.0 } else { i as f32 - 15.0 })
            .collect();
        let mut logits = sure.clone();
        let factor = loosen(&mut logits, 0.8);
        assert!(factor > 1.0);
        let mean: f32 = logits
            .chunks_exact(2)
            .map(|pair| 1.0 / (1.0 + (-(pair[1] - pair[0]).abs()).exp()))
            .sum::<f32>()
            / 20.0;
        assert!((mean - 0.8).abs() < 1e-3, "{mean}");
        let mut same = sure.clone();
        assert_eq!(loosen(&mut same, 1.0), 1.0);
        assert_eq!(same, sure);
    }

    #[test]
    fn rules_act_on_two_values() {
        let off = Rule {
            top_k: 0,
            top_p: 0.0,
        };
        check(off, (0.0, 0.0), 0.5);
        check(off, (0.0, 1.0), 0.731_058_6);
        check(
            Rule {
                top_k: 1,
                top_p: 0.0,
            },
            (0.0, 1e-6),
            1.0,
        );
        check(
            Rule {
                top_k: 900,
                top_p: 0.97,
            },
            (0.0, 3.6),
            1.0,
        );
        check(
            Rule {
                top_k: 900,
                top_p: 0.97,
            },
            (3.6, 0.0),
            0.0,
        );
        check(
            Rule {
                top_k: 900,
                top_p: 0.97,
            },
            (0.0, 3.0),
            0.952_574_1,
        );
    }

    #[test]
    fn draws_follow_the_probability() {
        let logits: Vec<f32> = (0..20_000).flat_map(|_| [0.0, 1.0]).collect();
        let bits = draw_bits(
            &logits,
            Rule {
                top_k: 0,
                top_p: 0.0,
            },
            3,
            2,
        );
        let share = bits.iter().map(|&b| f64::from(b)).sum::<f64>() / 20_000.0;
        assert!((share - 0.731).abs() < 0.01, "{share}");
    }

    #[test]
    fn guidance_of_one_is_the_condition() {
        assert_eq!(
            guide(&[2.0, 4.0], Some(&[9.0, 9.0]), 1.0, 2.0),
            vec![1.0, 2.0]
        );
        assert_eq!(guide(&[2.0], Some(&[1.0]), 3.0, 1.0), vec![4.0]);
    }
}
