//! Attention, and the self attention over scales.
//!
//! Queries are taken in chunks so that no table of scores outgrows the device;
//! the result does not depend on the chunks but for rounding.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor, activation};

use super::config::ModelConfig;
use super::kv_cache::KvCache;
use super::rope2d::Rope;
use crate::kernels::{self, Seen, Sight, Then};
use crate::layers::{Adaptable, Linear, LowRank, add_low_rank, product};
use crate::schedule::ScaleSchedule;
use crate::weights::{Init, Network, Slots};

/// Most scores of attention at once; more gain no speed and take gigabytes at full size.
pub(crate) const MOST_SCORES: usize = 64 << 20;

/// `softmax(q kᵀ + bias) v` with queries `[B, N, L, D]` (scaled already) and keys and values `[B, N, S, D]`.
///
/// `bias` is `[B or 1, 1, L or 1, S]`. No table of scores holds more than `max_elements` values
/// or 64 million, if one query per row allows.
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
    let chunk = (max_elements.min(MOST_SCORES) / (batch * heads * places).max(1)).clamp(1, length);
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
pub(crate) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, length, width] = x.dims();
    x.reshape([batch, length, heads, width / heads])
        .swap_dims(1, 2)
}

/// Heads `[B, N, L, D]` as `[B, L, C]`.
pub(super) fn join_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, length, width] = x.dims();
    x.swap_dims(1, 2).reshape([batch, length, heads * width])
}

/// Queries, keys and values, each `[B, N, L, D]`, of `qkv` `[B, L, 3C]`: unit queries and keys are
/// turned by their place, queries brought to a length whose logarithm is in `lengths` `[1, N, 1, 1]`.
pub(crate) fn split_and_turn(qkv: Tensor<3>, lengths: &Tensor<4>, rope: &Rope) -> [Tensor<4>; 3] {
    if let Some(turned) = kernels::turn(&qkv, lengths, rope.turns(), rope.device_turns()) {
        return turned;
    }
    let (heads, width) = (lengths.dims()[1], qkv.dims()[2] / 3);
    let part = |index: usize| split_heads(qkv.clone().narrow(2, index * width, width), heads);
    let length = lengths.clone().clamp_max(100.0_f32.ln()).exp(); // [1, N, 1, 1]
    [
        rope.turn(unit_length(part(0)) * length),
        rope.turn(unit_length(part(1))),
        part(2),
    ]
}

/// Attention of queries `[B, N, L, D]` to what is seen, or to what of it `mask` shows: `[B, L, C]`.
pub(crate) fn mix(
    query: Tensor<4>,
    seen: Seen,
    mask: Option<&Mask>,
    max_elements: usize,
) -> Tensor<3> {
    let sights = mask.map_or_else(
        || Sight::all(query.dims()[2], seen.places()),
        |mask| mask.sights.clone(),
    );
    kernels::attend(&query, &seen, &sights).unwrap_or_else(|| {
        let joined = |first: Tensor<4>, own: Option<&Tensor<4>>| {
            let first = first.narrow(2, 0, seen.count);
            match own {
                Some(own) => Tensor::cat(vec![first, own.clone()], 2),
                None => first,
            }
        };
        let own = |index: usize| seen.own.as_ref().map(|own| &own[index]);
        let key = joined(seen.keys.clone(), own(0));
        let value = joined(seen.values.clone(), own(1));
        let Some(mask) = mask else {
            return join_heads(attend(query, key, value, None, max_elements));
        };
        // Scale by scale: what a token must not see is not computed, and no mask is stored.
        let part = |sight: &Sight| {
            let query = narrow(&query, &sight.queries);
            let [key, value] = [&key, &value].map(|t| narrow(t, &(0..sight.keys)));
            attend(query, key, value, None, max_elements)
        };
        let parts = mask.sights.iter().map(part).collect();
        join_heads(Tensor::cat(parts, 2))
    })
}

/// Places `range` of a tensor of heads `[B, N, L, D]`.
pub(super) fn narrow(tensor: &Tensor<4>, range: &Range<usize>) -> Tensor<4> {
    tensor.clone().narrow(2, range.start, range.len())
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
    /// Biases of queries, keys and values side by side, once they were asked for where no gradients are recorded.
    qkv_bias: OnceLock<Tensor<1>>,
    proj: Linear,
    qkv_additions: Vec<LowRank>,
    width: usize,
    heads: usize,
}

/// Which tokens a pass may see.
pub enum Look<'a> {
    /// All finished scales and the own ones, as far as a mask lets them; the own keys and values are added.
    Cache(&'a mut KvCache, Option<&'a Mask>),
    /// The own tokens only, as far as the mask lets them.
    Own(&'a Mask),
}

/// What the tokens of a pass over several scales may see: their own scale and those before.
#[derive(Clone, Debug)]
pub struct Mask {
    sights: Arc<[Sight]>,
}

impl Mask {
    /// The mask of all scales of `schedule` in one pass.
    pub fn block_causal(schedule: &ScaleSchedule) -> Self {
        Self::causal(schedule, &(0..schedule.scales.len()))
    }

    /// The mask of a pass over `scales` when those before are in the cache.
    pub fn causal(schedule: &ScaleSchedule, scales: &Range<usize>) -> Self {
        let tokens = |range: Range<usize>| -> usize {
            schedule.scales[range]
                .iter()
                .map(|scale| scale.tokens())
                .sum()
        };
        let first = tokens(0..scales.start);
        let sights: Arc<[Sight]> = scales
            .clone()
            .map(|index| {
                let (start, end) = (tokens(0..index), tokens(0..index + 1));
                Sight {
                    queries: start - first..end - first,
                    keys: end,
                }
            })
            .collect();
        Self { sights }
    }

    /// Runs of tokens that see the same first keys.
    pub(super) fn sights(&self) -> &[Sight] {
        &self.sights
    }
}

impl SelfAttention {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Self {
        let width = config.width;
        Self {
            mat_qkv: Tensor::zeros([1, 1], device),
            q_bias: Tensor::zeros([1], device),
            v_bias: Tensor::zeros([1], device),
            scale_mul: Tensor::zeros([1, 1, 1, 1], device),
            qkv_bias: OnceLock::new(),
            proj: Linear::new(width, width, true, branch_init(config), device),
            qkv_additions: Vec::new(),
            width,
            heads: config.heads,
        }
    }

    /// The layers that take low-rank additions; their names start with `prefix`.
    pub(super) fn adaptables(&mut self, prefix: &str) -> [Adaptable<'_>; 2] {
        let qkv = Adaptable {
            name: format!("{prefix}mat_qkv"),
            shape: [3 * self.width, self.width],
            additions: &mut self.qkv_additions,
        };
        [qkv, self.proj.adaptable(format!("{prefix}proj"))]
    }

    /// Queries, keys and values of `x` `[B, L, C]` side by side, `[B, L, 3C]`.
    fn qkv(&self, x: Tensor<3>) -> Tensor<3> {
        let joined = || {
            let bias = vec![
                self.q_bias.clone(),
                self.q_bias.zeros_like(),
                self.v_bias.clone(),
            ];
            Tensor::cat(bias, 0)
        };
        let bias = if x.device().is_autodiff() {
            joined()
        } else {
            self.qkv_bias.get_or_init(joined).clone()
        };
        let y = product(x.clone(), &self.mat_qkv, Some(&bias));
        add_low_rank(&x, y, &self.qkv_additions)
    }

    /// Queries, keys and values of the tokens `x` `[B, L, C]`, each `[B, N, L, D]`.
    pub(super) fn turned(&self, x: &Tensor<3>, rope: &Rope, max_elements: usize) -> [Tensor<4>; 3] {
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
            let turned = split_and_turn(self.qkv(x), &self.scale_mul, &rope);
            for (list, tensor) in parts.iter_mut().zip(turned) {
                list.push(tensor);
            }
            start += count;
        }
        parts.map(|mut list| {
            if list.len() == 1 {
                list.remove(0)
            } else {
                Tensor::cat(list, 2)
            }
        })
    }

    /// Queries of the tokens `x` `[B, L, C]`, `[B, N, L, D]`, keys and values written into `cache` in the same pass; `None` where
    /// there is no room, or no such pass.
    fn turned_into(
        &self,
        x: &Tensor<3>,
        rope: &Rope,
        cache: &mut KvCache,
        max_elements: usize,
    ) -> Option<Tensor<4>> {
        let [batch, length, _] = x.dims();
        if batch * length * 3 * self.width > max_elements {
            return None;
        }
        let shape = [batch, self.heads, length, self.width / self.heads];
        let room = cache.take_room(shape, &x.device())?;
        let qkv = self.qkv(x.clone());
        let (turns, device_turns) = (rope.turns(), rope.device_turns());
        let (query, room) = kernels::turn_into(&qkv, &self.scale_mul, turns, device_turns, room);
        match query {
            Some(query) => {
                cache.give_room(room, length);
                Some(query)
            }
            None => {
                cache.give_room(room, 0);
                let [query, key, value] = split_and_turn(qkv, &self.scale_mul, rope);
                cache.push(key, value);
                Some(query)
            }
        }
    }

    /// What the tokens make of `mixed` `[B, L, C]`, the values they have seen, and what becomes of it.
    pub(super) fn project(&self, mixed: Tensor<3>, then: Then<'_>) -> Tensor<3> {
        self.proj.forward_then(mixed, then)
    }

    /// Mixes the tokens `x` `[B, L, C]` with what they may see: `[B, L, C]`, before the projection.
    pub(super) fn look(
        &self,
        x: &Tensor<3>,
        rope: &Rope,
        look: Look<'_>,
        max_elements: usize,
    ) -> Tensor<3> {
        match look {
            Look::Own(mask) => {
                let [query, key, value] = self.turned(x, rope, max_elements);
                mix(query, Seen::all(key, value), Some(mask), max_elements)
            }
            Look::Cache(cache, mask) => {
                if let Some(query) = self.turned_into(x, rope, cache, max_elements) {
                    return look_at(query, cache, mask, max_elements);
                }
                let [query, key, value] = self.turned(x, rope, max_elements);
                let groups = cache.groups();
                if groups.is_empty() {
                    return look_back([query, key, value], cache, mask, max_elements);
                }
                let heads = self.heads / groups.len();
                let mut mixed = Vec::new();
                for (index, cache) in groups.iter_mut().enumerate() {
                    let own =
                        [&query, &key, &value].map(|t| t.clone().narrow(1, index * heads, heads));
                    mixed.push(look_back(own, cache, mask, max_elements));
                }
                Tensor::cat(mixed, 2)
            }
        }
    }
}

/// Adds keys and values to `cache`, each `[B, N, L, D]` as the queries are, and mixes what the queries see there:
/// `[B, L, C]`.
fn look_back(
    [query, key, value]: [Tensor<4>; 3],
    cache: &mut KvCache,
    mask: Option<&Mask>,
    max_elements: usize,
) -> Tensor<3> {
    cache.push(key, value);
    look_at(query, cache, mask, max_elements)
}

/// Mixes what the queries `[B, N, L, D]` see in `cache`: `[B, L, C]`.
fn look_at(
    query: Tensor<4>,
    cache: &KvCache,
    mask: Option<&Mask>,
    max_elements: usize,
) -> Tensor<3> {
    let [batch, heads, _, width] = query.dims();
    // Whole batches when their keys fit the device, else row by row.
    let row = heads * width * cache.places();
    let rows = (max_elements / row.max(1)).clamp(1, batch);
    if rows == batch {
        return mix(query, cache.rows(0, batch), mask, max_elements);
    }
    let mut mixed = Vec::new();
    let mut start = 0;
    while start < batch {
        let count = rows.min(batch - start);
        let seen = cache.rows(start, count);
        let query = query.clone().narrow(0, start, count);
        mixed.push(mix(query, seen, mask, max_elements));
        start += count;
    }
    Tensor::cat(mixed, 0)
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
        // Whoever asks for the slots may change what it was made of.
        self.qkv_bias = OnceLock::new();
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
