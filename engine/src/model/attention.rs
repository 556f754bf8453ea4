//! Self attention over scales and cross attention to the text.
//!
//! Queries are taken in chunks so that no table of scores outgrows the device;
//! the result does not depend on the chunks but for rounding.

use burn::tensor::{Device, Tensor, activation};

use super::config::ModelConfig;
use super::rope2d::Rope;
use crate::layers::Linear;
use crate::weights::{Init, Network, Slots};

/// Keys and values of the finished scales of one block, each `[B, N, L, D]`.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    keys: Vec<Tensor<4>>,
    values: Vec<Tensor<4>>,
}

impl KvCache {
    /// Adds the keys and values of one scale.
    pub fn push(&mut self, keys: Tensor<4>, values: Tensor<4>) {
        self.keys.push(keys);
        self.values.push(values);
    }

    /// Keys and values of rows `start..start + count` of the batch, `[count, N, S, D]`.
    fn rows(&self, start: usize, count: usize) -> (Tensor<4>, Tensor<4>) {
        let join = |parts: &[Tensor<4>]| {
            let rows = parts
                .iter()
                .map(|part| part.clone().narrow(0, start, count))
                .collect();
            Tensor::cat(rows, 2)
        };
        (join(&self.keys), join(&self.values))
    }

    fn len(&self) -> usize {
        self.keys.iter().map(|part| part.dims()[2]).sum()
    }
}

/// `softmax(q kᵀ + bias) v` with queries `[B, N, L, D]` (scaled already) and keys and values `[B, N, S, D]`.
///
/// `bias` is `[B or 1, 1, L or 1, S]`. No table of scores holds more than `max_elements` values
/// if one query per row allows.
pub fn attend(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    bias: Option<Tensor<4>>,
    max_elements: usize,
) -> Tensor<4> {
    let [batch, heads, length, _] = query.dims();
    let places = key.dims()[2];
    let key = key.swap_dims(2, 3); // [B, N, D, S]
    let chunk = (max_elements / (batch * heads * places).max(1)).clamp(1, length);
    let part = |query: Tensor<4>, bias: Option<Tensor<4>>| {
        let scores = query.matmul(key.clone()); // [B, N, l, S]
        let scores = match bias {
            Some(bias) => scores + bias,
            None => scores,
        };
        activation::softmax(scores, 3).matmul(value.clone()) // [B, N, l, D]
    };
    if chunk == length {
        return part(query, bias);
    }
    let mut parts = Vec::new();
    let mut start = 0;
    while start < length {
        let count = chunk.min(length - start);
        let bias = bias.clone().map(|bias| {
            if bias.dims()[2] == 1 {
                bias
            } else {
                bias.narrow(2, start, count)
            }
        });
        parts.push(part(query.clone().narrow(2, start, count), bias));
        start += count;
    }
    Tensor::cat(parts, 2)
}

/// `[B, L, C]` as heads `[B, N, L, D]`.
pub(super) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, length, width] = x.dims();
    x.reshape([batch, length, heads, width / heads])
        .swap_dims(1, 2)
}

/// Heads `[B, N, L, D]` as `[B, L, C]`.
pub(super) fn join_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, length, width] = x.dims();
    x.swap_dims(1, 2).reshape([batch, length, heads * width])
}

fn unit_length(x: Tensor<4>) -> Tensor<4> {
    let norm = x.clone().square().sum_dim(3).sqrt().clamp_min(1e-12);
    x / norm
}

/// Attention of a scale to itself and all scales before it, with unit queries and keys.
#[derive(Clone, Debug)]
pub(super) struct SelfAttention {
    mat_qkv: Tensor<2>,
    q_bias: Tensor<1>,
    v_bias: Tensor<1>,
    scale_mul: Tensor<4>,
    proj: Linear,
    width: usize,
    heads: usize,
}

/// Which tokens a training pass may see.
pub enum Look<'a> {
    /// All finished scales and the own one; the own keys and values are added.
    Cache(&'a mut KvCache),
    /// The own tokens only, with this bias `[1, 1, L, L]` on the scores.
    Own(&'a Tensor<4>),
}

impl SelfAttention {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Self {
        let width = config.width;
        Self {
            mat_qkv: Tensor::zeros([1, 1], device),
            q_bias: Tensor::zeros([1], device),
            v_bias: Tensor::zeros([1], device),
            scale_mul: Tensor::zeros([1, 1, 1, 1], device),
            proj: Linear::new(width, width, true, branch_init(config), device),
            width,
            heads: config.heads,
        }
    }

    /// Queries, keys and values of `x` `[B, L, C]`, each `[B, N, L, D]`; turned and scaled.
    fn project(&self, x: Tensor<3>, rope: &Rope) -> [Tensor<4>; 3] {
        let [batch, length, width] = x.dims();
        let qkv = x
            .reshape([batch * length, width])
            .matmul(self.mat_qkv.clone().transpose())
            .reshape([batch, length, 3 * width]);
        let part = |index: usize| qkv.clone().narrow(2, index * width, width);
        let query = split_heads(part(0) + self.q_bias.clone().unsqueeze(), self.heads);
        let key = split_heads(part(1), self.heads);
        let value = split_heads(part(2) + self.v_bias.clone().unsqueeze(), self.heads);
        let scale = self.scale_mul.clone().clamp_max(100.0_f32.ln()).exp(); // [1, N, 1, 1]
        [
            rope.turn(unit_length(query) * scale),
            rope.turn(unit_length(key)),
            value,
        ]
    }

    /// Mixes the tokens `x` `[B, L, C]` with what they may see.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        rope: &Rope,
        look: Look<'_>,
        max_elements: usize,
    ) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let chunk = (max_elements / (batch * 3 * self.width)).clamp(1, length);
        let mut parts: [Vec<Tensor<4>>; 3] = Default::default();
        let mut start = 0;
        while start < length {
            let count = chunk.min(length - start);
            let (x, rope) = if count == length {
                (x.clone(), rope.clone())
            } else {
                (x.clone().narrow(1, start, count), rope.narrow(start, count))
            };
            for (list, tensor) in parts.iter_mut().zip(self.project(x, &rope)) {
                list.push(tensor);
            }
            start += count;
        }
        let [query, key, value] = parts.map(|mut list| {
            if list.len() == 1 {
                list.remove(0)
            } else {
                Tensor::cat(list, 2)
            }
        });
        let mixed = match look {
            Look::Own(bias) => attend(query, key, value, Some(bias.clone()), max_elements),
            Look::Cache(cache) => {
                cache.push(key, value);
                // Whole batches when their keys fit the device, else row by row.
                let row = self.width * cache.len();
                let rows = (max_elements / row.max(1)).clamp(1, batch);
                let mut mixed = Vec::new();
                let mut start = 0;
                while start < batch {
                    let count = rows.min(batch - start);
                    let (keys, values) = cache.rows(start, count);
                    let query = query.clone().narrow(0, start, count);
                    mixed.push(attend(query, keys, values, None, max_elements));
                    start += count;
                }
                if mixed.len() == 1 {
                    mixed.remove(0)
                } else {
                    Tensor::cat(mixed, 0)
                }
            }
        };
        self.proj.forward(join_heads(mixed))
    }
}

/// Spread of first values (spec section 8.3).
pub(super) fn plain_deviation(config: &ModelConfig) -> f32 {
    (1.0 / (3.0 * config.width as f32)).sqrt()
}

/// First values of the last layer of a branch: smaller the deeper the network (spec section 8.3).
pub(super) fn branch_init(config: &ModelConfig) -> Init {
    Init::Normal(plain_deviation(config) / (2.0 * config.depth as f32).sqrt())
}

/// First values of all other layers.
pub(super) fn plain_init(config: &ModelConfig) -> Init {
    Init::Normal(plain_deviation(config))
}

impl Network for SelfAttention {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        let (width, heads) = (self.width, self.heads);
        let init = Init::Normal((1.0 / (3.0 * width as f32)).sqrt());
        slots.add(
            format!("{prefix}mat_qkv.weight"),
            &mut self.mat_qkv,
            [3 * width, width],
            init,
        );
        slots.add(
            format!("{prefix}q_bias"),
            &mut self.q_bias,
            [width],
            Init::Constant(0.0),
        );
        slots.add(
            format!("{prefix}v_bias"),
            &mut self.v_bias,
            [width],
            Init::Constant(0.0),
        );
        slots.allow_unused(format!("{prefix}zero_k_bias"), [width]);
        let start = Init::Constant(4.0_f32.ln());
        slots.add(
            format!("{prefix}scale_mul_1H11"),
            &mut self.scale_mul,
            [1, heads, 1, 1],
            start,
        );
        self.proj.slots(&format!("{prefix}proj."), slots);
    }
}

/// Keys and values of the text for one block, computed once per picture.
#[derive(Clone, Debug)]
pub(super) struct TextKv {
    key: Tensor<4>,
    value: Tensor<4>,
}

/// Attention of picture tokens to text tokens.
#[derive(Clone, Debug)]
pub(super) struct CrossAttention {
    mat_q: Linear,
    mat_kv: Tensor<2>,
    v_bias: Tensor<1>,
    proj: Linear,
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
            width,
            heads: config.heads,
        }
    }

    /// Keys and values of projected text `[R, T, C]`.
    pub(super) fn text_kv(&self, text: Tensor<3>) -> TextKv {
        let (key, value) = key_and_value(text, &self.mat_kv, &self.v_bias);
        TextKv {
            key: split_heads(key, self.heads),
            value: split_heads(value, self.heads),
        }
    }

    /// Mixes tokens `x` `[R, L, C]` with the text; `bias` `[R, 1, 1, T]` hides padding.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        text: &TextKv,
        bias: Option<Tensor<4>>,
        max_elements: usize,
    ) -> Tensor<3> {
        let scale = 1.0 / ((self.width / self.heads) as f32).sqrt();
        let query = split_heads(self.mat_q.forward(x).mul_scalar(scale), self.heads);
        let mixed = attend(
            query,
            text.key.clone(),
            text.value.clone(),
            bias,
            max_elements,
        );
        self.proj.forward(join_heads(mixed))
    }
}

/// `x matᵀ` split into keys and values; only values have a bias.
fn key_and_value(x: Tensor<3>, mat_kv: &Tensor<2>, v_bias: &Tensor<1>) -> (Tensor<3>, Tensor<3>) {
    let [rows, tokens, channels] = x.dims();
    let width = v_bias.dims()[0];
    let both = x
        .reshape([rows * tokens, channels])
        .matmul(mat_kv.clone().transpose())
        .reshape([rows, tokens, 2 * width]);
    let value = both.clone().narrow(2, width, width) + v_bias.clone().unsqueeze();
    (both.narrow(2, 0, width), value)
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
        let (key, value) = key_and_value(text, &self.mat_kv, &self.v_bias);
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
