//! One block of the T5 encoder: attention and a gated feed-forward step.
//!
//! Both steps normalise first and add their result to the input. Linear weights
//! keep the published layout, `[out, in]`.
//! Source: Raffel et al. 2019, arXiv 1910.10683; the gate: Shazeer 2020, arXiv 2002.05202.

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};

use super::T5Config;
use super::position::STARTS;
use crate::kernels::Then;
use crate::layers::{product, product_then};
use crate::weights::{Init, Slots};

/// Spread of the first word features; the residual stream of a fresh network has this size.
pub(super) const STREAM: f32 = 0.25;

/// A weight before it is given a value.
pub(super) fn placeholder<const D: usize>(device: &Device) -> Tensor<D> {
    Tensor::zeros([1; D], device)
}

/// Spread that keeps unit-size inputs at unit size through `inputs` summands.
fn unit_gain(inputs: usize) -> f32 {
    1.0 / (inputs as f32).sqrt()
}

/// Division by the root mean square over the width; no mean is taken off and nothing added.
///
/// # Shapes
/// - `x`: `[B, T, C]`, `weight`: `[C]`
/// - returns: `[B, T, C]`
pub(super) fn rms_norm(x: Tensor<3>, weight: &Tensor<1>, epsilon: f64) -> Tensor<3> {
    let root = ((x.clone() * x.clone()).mean_dim(2) + epsilon).sqrt(); // [B, T, 1]
    x / root * weight.clone().unsqueeze::<3>()
}

/// Weights of one block.
pub(super) struct Block {
    attention_norm: Tensor<1>,
    query: Tensor<2>,
    key: Tensor<2>,
    value: Tensor<2>,
    out: Tensor<2>,
    feed_norm: Tensor<1>,
    gate: Tensor<2>,
    up: Tensor<2>,
    down: Tensor<2>,
}

impl Block {
    /// Placeholders on `device`.
    pub(super) fn new(device: &Device) -> Self {
        Self {
            attention_norm: placeholder(device),
            query: placeholder(device),
            key: placeholder(device),
            value: placeholder(device),
            out: placeholder(device),
            feed_norm: placeholder(device),
            gate: placeholder(device),
            up: placeholder(device),
            down: placeholder(device),
        }
    }

    /// Lists the weights under `prefix`, which ends in a dot.
    ///
    /// `position` is the bias table `[32, N]` that block 0 carries for all.
    pub(super) fn slots<'a>(
        &'a mut self,
        config: &T5Config,
        prefix: &str,
        position: Option<&'a mut Tensor<2>>,
        slots: &mut Slots<'a>,
    ) {
        let (width, inner, feed) = (config.d_model, config.inner(), config.d_ff);
        // Each block adds two results; together they grow the stream by its own size at most.
        let small = STREAM * unit_gain(2 * config.num_layers);
        let one = Init::Constant(1.0);
        // Scores are not divided by √D, so the spread of the query is.
        let query = Init::Normal(unit_gain(width) * unit_gain(config.d_kv));
        let plain = Init::Normal(unit_gain(width));

        let attention = format!("{prefix}layer.0.SelfAttention");
        slots.add(
            format!("{attention}.q.weight"),
            &mut self.query,
            [inner, width],
            query,
        );
        slots.add(
            format!("{attention}.k.weight"),
            &mut self.key,
            [inner, width],
            plain,
        );
        slots.add(
            format!("{attention}.v.weight"),
            &mut self.value,
            [inner, width],
            plain,
        );
        let out = Init::Normal(small * unit_gain(inner));
        slots.add(
            format!("{attention}.o.weight"),
            &mut self.out,
            [width, inner],
            out,
        );
        if let Some(table) = position {
            let shape = [config.relative_attention_num_buckets, config.num_heads];
            let name = format!("{attention}.relative_attention_bias.weight");
            let slopes = Init::Slopes {
                heads: config.num_heads,
                distances: &STARTS,
            };
            slots.add(name, table, shape, slopes);
        }
        let name = format!("{prefix}layer.0.layer_norm.weight");
        slots.add(name, &mut self.attention_norm, [width], one);

        let dense = format!("{prefix}layer.1.DenseReluDense");
        slots.add(
            format!("{dense}.wi_0.weight"),
            &mut self.gate,
            [feed, width],
            plain,
        );
        slots.add(
            format!("{dense}.wi_1.weight"),
            &mut self.up,
            [feed, width],
            plain,
        );
        let down = Init::Normal(small * unit_gain(feed));
        slots.add(
            format!("{dense}.wo.weight"),
            &mut self.down,
            [width, feed],
            down,
        );
        let name = format!("{prefix}layer.1.layer_norm.weight");
        slots.add(name, &mut self.feed_norm, [width], one);
    }

    /// Runs the block.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, `bias`: `[B, N, T, T]`, added to the scores
    /// - returns: `[B, T, C]`
    pub(super) fn forward(&self, x: Tensor<3>, bias: Tensor<4>, config: &T5Config) -> Tensor<3> {
        let epsilon = config.layer_norm_epsilon;
        let normed = rms_norm(x.clone(), &self.attention_norm, epsilon);
        let x = self.attend(&x, normed, bias, config);
        let normed = rms_norm(x.clone(), &self.feed_norm, epsilon);
        let gate = product_then(normed.clone(), &self.gate, None, Then::Gelu);
        let gated = gate * product(normed, &self.up, None);
        product_then(gated, &self.down, None, Then::Added(&x, None))
    }

    /// `x` and what attention of every token of `normed` to all adds to it; the scores are not scaled.
    fn attend(
        &self,
        x: &Tensor<3>,
        normed: Tensor<3>,
        bias: Tensor<4>,
        config: &T5Config,
    ) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let heads = |weight: &Tensor<2>| -> Tensor<4> {
            product(normed.clone(), weight, None)
                .reshape([batch, length, config.num_heads, config.d_kv])
                .swap_dims(1, 2) // [B, N, T, D]
        };
        let scores = heads(&self.query).matmul(heads(&self.key).swap_dims(2, 3)) + bias;
        let mixed = softmax(scores, 3).matmul(heads(&self.value)); // [B, N, T, D]
        let mixed = mixed
            .swap_dims(1, 2)
            .reshape([batch, length, config.inner()]); // [B, T, N*D]
        product_then(mixed, &self.out, None, Then::Added(x, None))
    }
}
