//! Attention to the text: of picture tokens, and of the question that sums it up.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::attention::{attend, branch_init, join_heads, plain_init, split_heads};
use super::condition::{spread_lens, spread_rows};
use super::config::ModelConfig;
use crate::kernels::{self, Then};
use crate::layers::{Adaptable, Linear, LowRank, add_low_rank, product};
use crate::weights::{Init, Network, Slots};

/// Keys and values of the text for one block, computed once per picture.
#[derive(Clone, Debug)]
pub(super) struct TextKv {
    key: Tensor<4>,
    value: Tensor<4>,
    /// Keys and values side by side, `[R, T, 2C]`.
    both: Tensor<3>,
    lens: Arc<[usize]>,
}

impl TextKv {
    /// Rows `start..start + count` alone.
    pub(super) fn rows(&self, start: usize, count: usize) -> Self {
        Self {
            key: self.key.clone().narrow(0, start, count),
            value: self.value.clone().narrow(0, start, count),
            both: self.both.clone().narrow(0, start, count),
            lens: self.lens[start..start + count].into(),
        }
    }

    /// Every row `count` times.
    pub(super) fn spread(&self, count: usize) -> Self {
        Self {
            key: spread_rows(&self.key, count),
            value: spread_rows(&self.value, count),
            both: spread_rows(&self.both, count),
            lens: spread_lens(&self.lens, count),
        }
    }
}

/// Attention of picture tokens to text tokens.
#[derive(Clone, Debug)]
pub(super) struct CrossAttention {
    mat_q: Linear,
    mat_kv: Tensor<2>,
    v_bias: Tensor<1>,
    proj: Linear,
    kv_additions: Vec<LowRank>,
    width: usize,
    heads: usize,
}

impl CrossAttention {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Self {
        let width = config.width;
        Self {
            mat_q: Linear::new(width, width, true, plain_init(config), device),
            mat_kv: Tensor::zeros([1, 1], device),
            v_bias: Tensor::zeros([1], device),
            proj: Linear::new(width, width, true, branch_init(config), device),
            kv_additions: Vec::new(),
            width,
            heads: config.heads,
        }
    }

    /// The layers that take low-rank additions; their names start with `prefix`.
    pub(super) fn adaptables(&mut self, prefix: &str) -> [Adaptable<'_>; 3] {
        let kv = Adaptable {
            name: format!("{prefix}mat_kv"),
            shape: [2 * self.width, self.width],
            additions: &mut self.kv_additions,
        };
        [
            self.mat_q.adaptable(format!("{prefix}mat_q")),
            kv,
            self.proj.adaptable(format!("{prefix}proj")),
        ]
    }

    /// Keys and values of projected text `[R, T, C]`, of which `lens` tokens count.
    pub(super) fn text_kv(&self, text: Tensor<3>, lens: &Arc<[usize]>) -> TextKv {
        let both = keys_and_values(text.clone(), &self.mat_kv, &self.v_bias);
        let both = add_low_rank(&text, both, &self.kv_additions);
        let key = both.clone().narrow(2, 0, self.width);
        let value = both.clone().narrow(2, self.width, self.width);
        TextKv {
            both,
            lens: lens.clone(),
            key: split_heads(key, self.heads),
            value: split_heads(value, self.heads),
        }
    }

    /// `x` `[R, L, C]` and what the text adds to it for the tokens `normed`; `bias` `[R, 1, 1, T]` hides padding.
    pub(super) fn add_to(
        &self,
        x: Tensor<3>,
        normed: Tensor<3>,
        text: &TextKv,
        bias: Option<Tensor<4>>,
        max_elements: usize,
    ) -> Tensor<3> {
        let scale = 1.0 / ((self.width / self.heads) as f32).sqrt();
        let query = self.mat_q.forward_then(normed, Then::Scaled(scale));
        let added = Then::Added(&x, None);
        if let Some(mixed) = kernels::cross_attention(&query, &text.both, self.heads, &text.lens) {
            return self.proj.forward_then(mixed, added);
        }
        let query = split_heads(query, self.heads);
        let mixed = attend(
            query,
            text.key.clone(),
            text.value.clone(),
            bias,
            max_elements,
        );
        self.proj.forward_then(join_heads(mixed), added)
    }
}

/// `x matᵀ`: keys and values side by side, `[R, T, 2C]`; only values have a bias.
fn keys_and_values(x: Tensor<3>, mat_kv: &Tensor<2>, v_bias: &Tensor<1>) -> Tensor<3> {
    let bias = Tensor::cat(vec![v_bias.zeros_like(), v_bias.clone()], 0);
    product(x, mat_kv, Some(&bias))
}

impl Network for CrossAttention {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        let width = self.width;
        let init = Init::Normal((1.0 / (3.0 * width as f32)).sqrt());
        self.mat_q.slots(&format!("{prefix}mat_q."), slots);
        slots.add(
            format!("{prefix}mat_kv.weight"),
            &mut self.mat_kv,
            [2 * width, width],
            init,
        );
        slots.add(
            format!("{prefix}v_bias"),
            &mut self.v_bias,
            [width],
            Init::Constant(0.0),
        );
        slots.allow_unused(format!("{prefix}zero_k_bias"), [width]);
        self.proj.slots(&format!("{prefix}proj."), slots);
    }
}

/// One summary per text: a learned question asked of its tokens.
#[derive(Clone, Debug)]
pub(super) struct TextPool {
    mat_q: Tensor<3>,
    mat_kv: Tensor<2>,
    v_bias: Tensor<1>,
    proj: Linear,
    config: ModelConfig,
}

impl TextPool {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Self {
        let width = config.width;
        Self {
            mat_q: Tensor::zeros([1, 1, 1], device),
            mat_kv: Tensor::zeros([1, 1], device),
            v_bias: Tensor::zeros([1], device),
            proj: Linear::new(width, width, true, plain_init(config), device),
            config: config.clone(),
        }
    }

    /// Normalised text `[R, T, Ct]` to summaries `[R, C]`; `bias` `[R, 1, 1, T]` hides padding.
    pub(super) fn forward(&self, text: Tensor<3>, bias: Option<Tensor<4>>) -> Tensor<2> {
        let rows = text.dims()[0];
        let (heads, width) = (self.config.pool_heads(), self.config.width);
        let both = keys_and_values(text, &self.mat_kv, &self.v_bias);
        let key = both.clone().narrow(2, 0, width);
        let value = both.narrow(2, width, width);
        let scale = 1.0 / ((width / heads) as f32).sqrt();
        let query = self
            .mat_q
            .clone()
            .mul_scalar(scale)
            .reshape([1, heads, 1, width / heads]);
        let query = query.expand([rows, heads, 1, width / heads]);
        let mixed = attend(
            query,
            split_heads(key, heads),
            split_heads(value, heads),
            bias,
            usize::MAX,
        );
        self.proj.forward(join_heads(mixed)).reshape([rows, width])
    }
}

impl Network for TextPool {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        let (width, heads) = (self.config.width, self.config.pool_heads());
        let init = plain_init(&self.config);
        let shape = [1, heads, width / heads];
        slots.add(format!("{prefix}mat_q"), &mut self.mat_q, shape, init);
        let shape = [2 * width, self.config.text_channels];
        slots.add(
            format!("{prefix}mat_kv.weight"),
            &mut self.mat_kv,
            shape,
            init,
        );
        slots.add(
            format!("{prefix}v_bias"),
            &mut self.v_bias,
            [width],
            Init::Constant(0.0),
        );
        slots.allow_unused(format!("{prefix}zero_k_bias"), [width]);
        self.proj.slots(&format!("{prefix}proj."), slots);
    }
}
