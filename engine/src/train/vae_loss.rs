//! The tokenizer's training signal: a differentiable pass through the quantiser.
//!
//! Source: spec section 7.3 and 7.4. Signs pass gradients straight through, the
//! residual's gradient is not cut, and a scale may be left out at random so
//! that early scales learn to carry the picture alone.

use burn::tensor::{Device, Tensor, TensorData, activation};

use super::config::VaeLossConfig;
use crate::resize::{Axis, Filter};
use crate::schedule::Scale;
use crate::vae::Vae;

/// The parts of the loss, each a tensor of one value.
pub struct VaeLoss {
    /// What is minimised.
    pub total: Tensor<1>,
    /// Mean squared difference of pixels in [-1, 1].
    pub mean_square: Tensor<1>,
}

/// Resizes `[B*d, from]` maps to `[B*d, to]` by one matrix.
fn resize_matrix(filter: Filter, from: Scale, to: Scale, device: &Device) -> Tensor<2> {
    let rows = Axis::new(filter, from.h, to.h).matrix();
    let columns = Axis::new(filter, from.w, to.w).matrix();
    let mut matrix = Vec::with_capacity(from.tokens() * to.tokens());
    for row in rows.chunks_exact(from.h) {
        for column in columns.chunks_exact(from.w) {
            for a in row {
                matrix.extend(column.iter().map(|b| a * b));
            }
        }
    }
    let data = TensorData::new(matrix, [to.tokens(), from.tokens()]);
    Tensor::from_data(data, device).transpose()
}

/// What the quantiser gives to the loss.
pub struct Quantised {
    /// Sum of the residual codes, `[B, d, h, w]`.
    pub latents: Tensor<4>,
    /// Mean squared distance of normalised features to their codes, per scale.
    pub commitment: Tensor<1>,
    /// `E1 - E2` of the entropy penalty divided by the inverse temperature 100, per scale.
    pub entropy: Tensor<1>,
}

/// Quantises `features` `[B, d, h, w]` over `scales`, leaving out those not in `kept`.
pub fn quantise(features: Tensor<4>, scales: &[Scale], kept: &[bool]) -> Quantised {
    let device = features.device();
    let [batch, d, h, w] = features.dims();
    let size = Scale { h, w };
    let unit = 1.0 / (d as f32).sqrt();
    let mut residual = features.reshape([batch * d, h * w]);
    let mut sum: Tensor<2> = Tensor::zeros([batch * d, h * w], &device);
    let mut commitment: Tensor<1> = Tensor::zeros([1], &device);
    let mut entropy: Tensor<1> = Tensor::zeros([1], &device);
    let mut used = 0.0_f32;
    for (&scale, _) in scales.iter().zip(kept).filter(|(_, kept)| **kept) {
        let small = if scale == size {
            residual.clone()
        } else {
            residual
                .clone()
                .matmul(resize_matrix(Filter::Area, size, scale, &device))
        };
        let small = small.reshape([batch, d, scale.tokens()]);
        let norm = small.clone().square().sum_dim(1).add_scalar(1e-12).sqrt();
        let unit_features = small / norm; // [B, d, places]
        let codes = unit_features
            .clone()
            .detach()
            .greater_scalar(0.0)
            .float()
            .mul_scalar(2.0 * unit)
            .sub_scalar(unit);
        let distance = unit_features.clone() - codes.clone();
        commitment = commitment + distance.square().mean();
        entropy = entropy + entropy_penalty(unit_features.clone());
        used += 1.0;
        let through = unit_features.clone() + (codes - unit_features).detach();
        let through = through.reshape([batch * d, scale.tokens()]);
        let full = if scale == size {
            through
        } else {
            through.matmul(resize_matrix(Filter::Bilinear, scale, size, &device))
        };
        residual = residual - full.clone();
        sum = sum + full;
    }
    Quantised {
        latents: sum.reshape([batch, d, h, w]),
        commitment: commitment / used.max(1.0),
        entropy: entropy / used.max(1.0),
    }
}

/// Bits are decided as if by a sigmoid this much steeper than their features (spec section 7.4).
pub(crate) const INVERSE_TEMPERATURE: f32 = 100.0;

/// `(E1 - E2) / 100` of normalised features `[B, d, places]` (spec section 7.4).
pub fn entropy_penalty(unit_features: Tensor<3>) -> Tensor<1> {
    let (per_place, of_mean) = bit_entropies(unit_features);
    (per_place - of_mean) / INVERSE_TEMPERATURE
}

/// E1 and E2 of normalised features `[B, d, places]`.
///
/// E1 is the mean over places of the summed entropy of the bits: small when every
/// bit is decided. E2 is the summed entropy of the mean bit: large when all codes are used.
pub fn bit_entropies(unit_features: Tensor<3>) -> (Tensor<1>, Tensor<1>) {
    let [batch, _, places] = unit_features.dims();
    let p = zero_probability(unit_features);
    let entropy = |p: Tensor<3>| {
        let q = p.clone().neg().add_scalar(1.0);
        (p.clone() * p.add_scalar(1e-8).log() + q.clone() * q.add_scalar(1e-8).log()).neg()
    };
    let per_place = entropy(p.clone()).sum() / (batch * places) as f32;
    let of_mean = entropy(p.mean_dim(0).mean_dim(2)).sum();
    (per_place, of_mean)
}

/// How likely each bit of normalised features `[B, d, places]` is 0, `[B, d, places]`.
pub fn zero_probability(unit_features: Tensor<3>) -> Tensor<3> {
    let d = unit_features.dims()[1];
    let sharpness = -4.0 / (d as f32).sqrt() * INVERSE_TEMPERATURE;
    activation::sigmoid(unit_features.mul_scalar(sharpness))
}

/// 1, and more where a pixel differs from the mean of its 5×5 surroundings: `[B, 1, H, W]` for `[B, 3, H, W]`.
fn detail_weight(pixels: &Tensor<4>, detail: f32) -> Tensor<4> {
    let [_, _, h, w] = pixels.dims();
    // Mean over five neighbours, fewer at the edge, as a matrix.
    let means = |count: usize| -> Tensor<4> {
        let near = |to: usize| to.saturating_sub(2)..(to + 3).min(count);
        let share = |from: usize, to: usize| {
            let near = near(to);
            if near.contains(&from) {
                1.0 / near.len() as f32
            } else {
                0.0
            }
        };
        let matrix = (0..count * count).map(|at| share(at / count, at % count));
        let data = TensorData::new(matrix.collect::<Vec<f32>>(), [1, 1, count, count]);
        Tensor::from_data(data, &pixels.device())
    };
    let around = means(h)
        .swap_dims(2, 3)
        .matmul(pixels.clone().matmul(means(w)));
    let apart = (pixels.clone() - around).abs().mean_dim(1);
    apart * detail + 1.0
}

/// Features that some pictures of a batch shall keep.
pub struct Before {
    /// Of all pictures, `[B, d, h, w]`.
    pub features: Tensor<4>,
    /// 1 for pictures that shall keep theirs, 0 for others, `[B, 1, 1, 1]`.
    pub counts: Tensor<4>,
}

/// The loss of one batch of pixels `[B, 3, H, W]` in [-1, 1].
pub fn vae_loss(
    vae: &Vae,
    pixels: Tensor<4>,
    scales: &[Scale],
    kept: &[bool],
    before: Option<Before>,
    config: &VaeLossConfig,
) -> VaeLoss {
    let features = vae.encode(pixels.clone());
    let moved = before.map(|before| {
        let apart = features.clone() - before.features;
        (apart.square() * before.counts).mean() * config.keep
    });
    let features = if config.decoder_only {
        features.detach()
    } else {
        features
    };
    let quantised = quantise(features, scales, kept);
    let [_, _, h, w] = pixels.dims();
    let weight = (config.detail > 0.0).then(|| detail_weight(&pixels, config.detail));
    let difference = vae.decoder.forward(quantised.latents, usize::MAX) - pixels;
    let square = difference.clone().square();
    let mean_square = square.clone().mean();
    let mean = |values: Tensor<4>| match &weight {
        Some(weight) => (values * weight.clone()).mean(),
        None => values.mean(),
    };
    let mut total = mean(difference.clone().abs()) * config.l1 + mean(square) * config.l2;
    if config.gradient > 0.0 {
        let down = difference.clone().narrow(2, 1, h - 1) - difference.clone().narrow(2, 0, h - 1);
        let right = difference.clone().narrow(3, 1, w - 1) - difference.narrow(3, 0, w - 1);
        total = total + (down.abs().mean() + right.abs().mean()) * config.gradient;
    }
    total = total + quantised.commitment * config.commitment + quantised.entropy * config.entropy;
    if let Some(moved) = moved {
        total = total + moved;
    }
    VaeLoss { total, mean_square }
}
