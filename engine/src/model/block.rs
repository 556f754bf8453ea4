//! One block: self attention, cross attention, and a two-layer network.
//!
//! The first and last are shifted, scaled and gated by the text summary (`AdaLN`,
//! shared over blocks with a learned offset each; spec section 2.3).

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::attention::{Look, SelfAttention, branch_init, plain_init};
use super::config::ModelConfig;
use super::rope2d::Rope;
use super::text_attention::{CrossAttention, TextKv};
use crate::kernels::Then;
use crate::layers::{Adaptable, Linear, scaled_norm};
use crate::weights::{Init, Network, Slots};

pub(super) const NORM_EPSILON: f32 = 1e-6;

/// One block of the transformer.
#[derive(Clone, Debug)]
pub(super) struct Block {
    ada_gss: Tensor<4>,
    self_attention: SelfAttention,
    cross_attention: CrossAttention,
    ca_norm_weight: Tensor<1>,
    ca_norm_bias: Tensor<1>,
    fc1: Linear,
    fc2: Linear,
    width: usize,
    hidden: usize,
}

/// What the summary of a text makes of one block: two gates, two scales, two shifts, `[R, 1, C]` each.
#[derive(Clone, Debug)]
pub(super) struct Ada([Tensor<3>; 6]);

impl Ada {
    /// Every part through `f`.
    pub(super) fn map(&self, f: impl Fn(&Tensor<3>) -> Tensor<3>) -> Self {
        Self(self.0.each_ref().map(f))
    }
}

/// What a block needs to know of the text.
pub(super) struct BlockText<'a> {
    /// Gates, scales and shifts.
    pub(super) ada: &'a Ada,
    /// The block's keys and values of the text.
    pub(super) text_kv: &'a TextKv,
    /// Hides padding, `[R, 1, 1, T]`.
    pub(super) bias: Option<Tensor<4>>,
}

impl Block {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Self {
        let (width, hidden) = (config.width, config.mlp_hidden);
        Self {
            ada_gss: Tensor::zeros([1, 1, 1, 1], device),
            self_attention: SelfAttention::new(config, device),
            cross_attention: CrossAttention::new(config, device),
            ca_norm_weight: Tensor::zeros([1], device),
            ca_norm_bias: Tensor::zeros([1], device),
            fc1: Linear::new(width, hidden, true, plain_init(config), device),
            fc2: Linear::new(hidden, width, true, branch_init(config), device),
            width,
            hidden,
        }
    }

    /// The layers that take low-rank additions; their names start with `prefix`.
    pub(super) fn adaptables(&mut self, prefix: &str) -> Vec<Adaptable<'_>> {
        let mut list = Vec::new();
        list.extend(self.self_attention.adaptables(&format!("{prefix}sa.")));
        list.extend(self.cross_attention.adaptables(&format!("{prefix}ca.")));
        list.push(self.fc1.adaptable(format!("{prefix}ffn.fc1")));
        list.push(self.fc2.adaptable(format!("{prefix}ffn.fc2")));
        list
    }

    /// Keys and values of projected text `[R, T, C]`.
    pub(super) fn text_kv(&self, text: Tensor<3>, lens: &Arc<[usize]>) -> TextKv {
        self.cross_attention.text_kv(text, lens)
    }

    /// `[R, L, C]` to `[R, L, C]`.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        text: &BlockText<'_>,
        rope: &Rope,
        look: Look<'_>,
        max_elements: usize,
    ) -> Tensor<3> {
        let mixed = {
            let modulated = modulated(&x, text.ada);
            let attention = &self.self_attention;
            attention.look(&modulated, rope, look, max_elements)
        };
        self.finish(x, mixed, text, max_elements)
    }

    /// What the block makes of the `shared` gates, scales and shifts `[R, 6, C]`.
    pub(super) fn ada(&self, shared: &Tensor<3>) -> Ada {
        let own = self.ada_gss.clone().reshape([1, 6, self.width]);
        // Part by part: cut out of one sum, each would be gathered anew wherever it is used.
        Ada([0, 1, 2, 3, 4, 5]
            .map(|index| own.clone().narrow(1, index, 1) + shared.clone().narrow(1, index, 1)))
    }

    /// Queries, keys and values of `x`, each `[R, N, L, D]`.
    pub(super) fn turned(
        &self,
        x: &Tensor<3>,
        ada: &Ada,
        rope: &Rope,
        max_elements: usize,
    ) -> [Tensor<4>; 3] {
        self.self_attention
            .turned(&modulated(x, ada), rope, max_elements)
    }

    /// All that follows the self attention, token by token: `x` and what was `mixed` for it.
    pub(super) fn finish(
        &self,
        x: Tensor<3>,
        mixed: Tensor<3>,
        text: &BlockText<'_>,
        max_elements: usize,
    ) -> Tensor<3> {
        let Ada([mixed_gate, gate, _, scale, _, shift]) = text.ada;
        // What has been added is dropped, so that it is not there beside the inner values of the network.
        let entered = x;
        let gated = Then::Added(&entered, Some(mixed_gate));
        let x = self.self_attention.project(mixed, gated);
        drop(entered);
        let weight = self.ca_norm_weight.clone().unsqueeze();
        let bias = self.ca_norm_bias.clone().unsqueeze();
        let normed = scaled_norm(&x, &weight, &bias, 0.0, NORM_EPSILON);
        let bias = text.bias.clone();
        let x = self
            .cross_attention
            .add_to(x, normed, text.text_kv, bias, max_elements);
        let modulated = scaled_norm(&x, scale, shift, 1.0, NORM_EPSILON);
        self.feed_forward(x, modulated, gate, max_elements)
    }

    /// What comes out of the network for `modulated`, gated and added to `x`.
    fn feed_forward(
        &self,
        x: Tensor<3>,
        modulated: Tensor<3>,
        gate: &Tensor<3>,
        max_elements: usize,
    ) -> Tensor<3> {
        let [rows, length, _] = x.dims();
        let chunk = (max_elements / (rows * self.hidden)).clamp(1, length);
        let part = |x: &Tensor<3>, modulated: Tensor<3>| {
            let inner = self.fc1.forward_then(modulated, Then::Gelu);
            self.fc2.forward_then(inner, Then::Added(x, Some(gate)))
        };
        if chunk == length {
            return part(&x, modulated);
        }
        let parts = modulated.split(chunk, 1).into_iter().enumerate();
        let parts = parts.map(|(index, modulated)| {
            let own = x.clone().narrow(1, index * chunk, modulated.dims()[1]);
            part(&own, modulated)
        });
        Tensor::cat(parts.collect(), 1)
    }
}

/// What the self attention sees of `x`.
fn modulated(x: &Tensor<3>, Ada([_, _, scale, _, shift, _]): &Ada) -> Tensor<3> {
    scaled_norm(x, scale, shift, 1.0, NORM_EPSILON)
}

impl Network for Block {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        let shape = [1, 1, 6, self.width];
        let init = Init::OnesThenZeros(2 * self.width);
        slots.add(format!("{prefix}ada_gss"), &mut self.ada_gss, shape, init);
        self.self_attention.slots(&format!("{prefix}sa."), slots);
        self.cross_attention.slots(&format!("{prefix}ca."), slots);
        self.fc1.slots(&format!("{prefix}ffn.fc1."), slots);
        self.fc2.slots(&format!("{prefix}ffn.fc2."), slots);
        slots.add(
            format!("{prefix}ca_norm.weight"),
            &mut self.ca_norm_weight,
            [self.width],
            Init::Constant(1.0),
        );
        slots.add(
            format!("{prefix}ca_norm.bias"),
            &mut self.ca_norm_bias,
            [self.width],
            Init::Constant(0.0),
        );
    }
}
