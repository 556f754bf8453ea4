//! The transformer's training signal: cross entropy of every bit (spec section 8.2).

use burn::tensor::{Tensor, TensorData};

use super::self_correction::{Lesson, token_weights};
use crate::schedule::ScaleSchedule;

/// Logits and labels of a batch as differences and signs.
pub struct BitLoss {
    /// Cross entropy per bit, `[B, L, d']`.
    pub per_bit: Tensor<3>,
    /// 1 where the likelier value is the label, `[B, L, d']`.
    pub right: Tensor<3>,
}

/// Two-way cross entropy of `logits` `[B, L, 2 d']` against the labels of `lessons`.
pub fn bit_loss(logits: Tensor<3>, lessons: &[Lesson]) -> BitLoss {
    let device = logits.device();
    let [rows, tokens, twice] = logits.dims();
    let bits = twice / 2;
    let pairs = logits.reshape([rows, tokens, bits, 2]);
    let difference =
        (pairs.clone().narrow(3, 1, 1) - pairs.narrow(3, 0, 1)).reshape([rows, tokens, bits]);
    let signs: Vec<f32> = lessons
        .iter()
        .flat_map(|lesson| {
            lesson
                .labels
                .iter()
                .map(|&bit| if bit == 0 { -1.0 } else { 1.0 })
        })
        .collect();
    let signs = Tensor::from_data(TensorData::new(signs, [rows, tokens, bits]), &device);
    let margin = difference * signs; // positive where right
    let right = margin.clone().detach().greater_scalar(0.0).float();
    // -log sigmoid(margin), written so that neither side overflows.
    let per_bit =
        margin.clone().neg().clamp_min(0.0) + margin.abs().neg().exp().add_scalar(1.0).log();
    BitLoss { per_bit, right }
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
