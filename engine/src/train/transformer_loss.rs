//! The transformer's training signal: cross entropy of every bit (spec section 8.2).

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use super::feed::Batch;
use super::self_correction::{Lesson, token_weights};
use crate::postcards::{Time, star_cells};
use crate::schedule::ScaleSchedule;

/// Last scales in which stars count more.
const STAR_SCALES: usize = 3;

/// Logits and labels of a batch as differences and signs.
pub struct BitLoss {
    /// Cross entropy per bit, `[B, L, d']`.
    pub per_bit: Tensor<3>,
    /// 1 where the likelier value is the label, `[B, L, d']`.
    pub right: Tensor<3>,
}

/// Two-way cross entropy of `logits` `[B, L, 2 d']` against the labels of `lessons`.
pub fn bit_loss(logits: Tensor<3>, lessons: &[Lesson]) -> BitLoss {
    let labels = labels(lessons, logits.dims(), &logits.device());
    bit_loss_towards(logits, labels.clone(), labels)
}

/// Two-way cross entropy of `logits` `[B, L, 2 d']` against the chance of every bit to be 1, `[B, L, d']`; right are
/// the bits of `labels`, alike.
pub(crate) fn bit_loss_towards(
    logits: Tensor<3>,
    labels: Tensor<3>,
    chances: Tensor<3>,
) -> BitLoss {
    let difference = differences(logits);
    let likelier = difference.clone().detach().greater_scalar(0.0);
    let right = likelier.equal(labels.greater_scalar(0.5)).float();
    // -p log s(x) - (1 - p) log s(-x) with the sigmoid s, written so that neither side overflows.
    let per_bit = difference.clone().neg().clamp_min(0.0)
        + difference.clone() * chances.neg().add_scalar(1.0)
        + difference.abs().neg().exp().add_scalar(1.0).log();
    BitLoss { per_bit, right }
}

/// Of each bit, the logit of 1 less that of 0: `[B, L, 2 d']` to `[B, L, d']`.
pub(crate) fn differences(logits: Tensor<3>) -> Tensor<3> {
    let [rows, tokens, twice] = logits.dims();
    let bits = twice / 2;
    let pairs = logits.reshape([rows, tokens, bits, 2]);
    (pairs.clone().narrow(3, 1, 1) - pairs.narrow(3, 0, 1)).reshape([rows, tokens, bits])
}

/// Labels of `lessons` for logits of the shape `[B, L, 2 d']`, as 0 and 1.
pub(crate) fn labels(
    lessons: &[Lesson],
    [rows, tokens, twice]: [usize; 3],
    device: &Device,
) -> Tensor<3> {
    let bits = lessons.iter().flat_map(|lesson| &lesson.labels);
    let values: Vec<f32> = bits.map(|&bit| if bit == 0 { 0.0 } else { 1.0 }).collect();
    Tensor::from_data(TensorData::new(values, [rows, tokens, twice / 2]), device)
}

impl BitLoss {
    /// The loss that is minimised: mean over bits, weighted over tokens, mean over pictures.
    ///
    /// The first `given` scales are not learned.
    pub fn total(&self, schedule: &ScaleSchedule, by_scale: bool, given: usize) -> Tensor<1> {
        let weights = token_weights(&schedule.scales, by_scale, given);
        let [rows, tokens, bits] = self.per_bit.dims();
        let data = TensorData::new(weights, [1, tokens, 1]);
        let weights = Tensor::<3>::from_data(data, &self.per_bit.device());
        (self.per_bit.clone() * weights).sum() / (rows * bits) as f32
    }

    /// Mean of `values` over each scale's tokens.
    pub fn by_scale(values: &Tensor<3>, schedule: &ScaleSchedule) -> Vec<f32> {
        let mut start = 0;
        schedule
            .scales
            .iter()
            .map(|scale| {
                let own = values.clone().narrow(1, start, scale.tokens());
                start += scale.tokens();
                own.mean().into_scalar()
            })
            .collect()
    }
}

/// What every token of a batch's part counts, `[B, L, 1]`: those where stars are, or could be, `more` than others.
pub(super) fn star_weights(
    batch: &Batch,
    part: Range<usize>,
    more: f32,
    device: &Device,
) -> Tensor<3> {
    let scales = &batch.learned.scales;
    let all = batch.schedule.scales.len();
    let night: Vec<f32> = scales
        .iter()
        .enumerate()
        .flat_map(|(index, scale)| {
            let more = if index + STAR_SCALES >= all {
                more
            } else {
                0.0
            };
            let cells = star_cells(scale.w, scale.h);
            cells
                .into_iter()
                .map(move |star| 1.0 + if star { more } else { 0.0 })
        })
        .collect();
    let mut weights = Vec::with_capacity(part.len() * night.len());
    for card in &batch.cards[part.clone()] {
        match card.time {
            Time::Night => weights.extend_from_slice(&night),
            _ => weights.resize(weights.len() + night.len(), 1.0),
        }
    }
    let shape = [part.len(), night.len(), 1];
    Tensor::from_data(TensorData::new(weights, shape), device)
}

#[cfg(test)]
mod tests {
    use super::star_weights;
    use crate::postcards::{Postcard, Time};
    use crate::train::config::Phase;
    use crate::train::feed::make_batch;

    /// Only at night, only where stars are, only in the last scales.
    #[test]
    fn stars_count_more() {
        let text = r#"{"steps": 1, "batch": 12, "scale_count": 5, "ratios": [1.0], "learning_rate": [0.1, 0.1], "starry": 0.5}"#;
        let phase: Phase = serde_json::from_str(text).unwrap();
        let batch = make_batch(3, 0, &[phase], 0, Postcard::learned)
            .unwrap()
            .unwrap();
        let device = burn::tensor::Device::flex();
        let values = |more: f32| {
            let weights = star_weights(&batch, 2..12, more, &device);
            assert_eq!(weights.dims(), [10, 1 + 4 + 16 + 36 + 64, 1]);
            weights.try_into_vec_as::<f32>().unwrap()
        };
        assert!(values(0.0).iter().all(|&value| value == 1.0));
        let mut nights = 0;
        for (card, row) in batch.cards[2..].iter().zip(values(4.0).chunks_exact(121)) {
            let starred = row.iter().filter(|&&value| value == 5.0).count();
            assert!(row.iter().all(|value| [1.0, 5.0].contains(value)));
            assert!(row[..5].iter().all(|&value| value == 1.0));
            nights += usize::from(card.time == Time::Night);
            assert_eq!(starred > 20, card.time == Time::Night, "{starred}");
        }
        assert!((3..10).contains(&nights));
    }
}
