//! The whole network: text in, logits of the next scale's bits out.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor, activation};

use super::attention::{Look, Mask, plain_deviation, plain_init};
use super::block::{Block, BlockText, NORM_EPSILON};
use super::condition::{Condition, padding_bias};
use super::config::{LEVEL_ROWS, ModelConfig};
use super::kv_cache::{KvCache, head_groups};
use super::rope2d::Rope;
use super::text_attention::TextPool;
use crate::api::Storage;
use crate::kernels::Then;
use crate::layers::{Adaptable, Linear, rms_norm, scaled_norm};
use crate::schedule::ScaleSchedule;
use crate::weights::{Init, Network, Slots};

/// The transformer.
#[derive(Clone, Debug)]
pub struct Transformer {
    /// Its sizes.
    pub config: ModelConfig,
    text_norm: Tensor<1>,
    text_pool: TextPool,
    text_in: Linear,
    text_out: Linear,
    level_embed: Tensor<2>,
    word_embed: Linear,
    pos_start: Tensor<3>,
    cfg_uncond: Tensor<2>,
    shared_ada: Linear,
    blocks: Vec<Block>,
    head_ada: Linear,
    head: Linear,
    device: Device,
    max_elements: usize,
    cache: Storage,
    /// Whether blocks take the rows of a batch one by one: slower, and the least memory.
    pub(super) rows_alone: bool,
}

impl Transformer {
    /// A network whose weights come later; no tensor will exceed `max_elements` values.
    pub fn new(config: &ModelConfig, device: &Device, max_elements: usize) -> Self {
        let (width, plain) = (config.width, plain_init(config));
        let deviation = plain_deviation(config);
        let linear = |inputs, outputs, init| Linear::new(inputs, outputs, true, init, device);
        Self {
            config: config.clone(),
            text_norm: Tensor::zeros([1], device),
            text_pool: TextPool::new(config, device),
            text_in: linear(config.text_channels, width, plain),
            text_out: linear(width, width, plain),
            level_embed: Tensor::zeros([1, 1], device),
            word_embed: linear(config.token_bits(), width, plain),
            pos_start: Tensor::zeros([1, 1, 1], device),
            cfg_uncond: Tensor::zeros([1, 1], device),
            shared_ada: linear(width, 6 * width, Init::Normal(deviation * 0.1)),
            blocks: (0..config.depth)
                .map(|_| Block::new(config, device))
                .collect(),
            head_ada: linear(width, 2 * width, Init::Normal(deviation * 1e-3)),
            head: linear(
                width,
                2 * config.token_bits(),
                Init::Normal(deviation * 0.02),
            ),
            device: device.clone(),
            max_elements,
            cache: Storage::Single,
            rows_alone: false,
        }
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Most values of one tensor.
    pub(crate) fn max_elements(&self) -> usize {
        self.max_elements
    }

    /// Learned features of "no text" for prompts of `lens` tokens, `[R, T, Ct]`, padded with zeros.
    pub fn unconditional(&self, lens: &[usize], tokens: usize) -> Tensor<3> {
        let rows = lens.iter().map(|&len| {
            let len = len.min(self.config.text_maxlen);
            let own = self.cfg_uncond.clone().narrow(0, 0, len);
            let own = if len == tokens {
                own
            } else {
                let padding =
                    Tensor::zeros([tokens - len, self.config.text_channels], &self.device);
                Tensor::cat(vec![own, padding], 0)
            };
            own.unsqueeze::<3>()
        });
        Tensor::cat(rows.collect(), 0)
    }

    /// Text features after their normalisation, `[R, T, Ct]` (for traces and tests).
    pub fn normalise_text(&self, features: Tensor<3>) -> Tensor<3> {
        rms_norm(features, NORM_EPSILON) * self.text_norm.clone().unsqueeze()
    }

    /// Everything that depends on the texts alone; `features` `[R, T, Ct]` padded beyond `lens`.
    pub fn condition(&self, features: Tensor<3>, lens: &[usize]) -> Condition {
        let [rows, tokens, _] = features.dims();
        let width = self.config.width;
        let bias = padding_bias(lens, tokens, &self.device);
        let lens: Arc<[usize]> = lens.into();
        let normed = self.normalise_text(features);
        let summary = self.text_pool.forward(normed.clone(), bias.clone());
        let text = self
            .text_out
            .forward(self.text_in.forward_then(normed, Then::Gelu));
        let source = activation::silu(summary.clone()).unsqueeze_dim::<3>(1); // [R, 1, C]
        let shared_ada = self
            .shared_ada
            .forward(source.clone())
            .reshape([rows, 6, width]);
        let head_ada = self.head_ada.forward(source).reshape([rows, 2, width]);
        let head_ada = [0, 1].map(|index| head_ada.clone().narrow(1, index, 1));
        let ada = self.blocks.iter().map(|block| block.ada(&shared_ada));
        let ada = ada.collect();
        let text_kv = self
            .blocks
            .iter()
            .map(|block| block.text_kv(text.clone(), &lens))
            .collect();
        Condition {
            summary,
            text,
            shared_ada,
            head_ada,
            ada,
            text_kv,
            bias,
            lens,
            shares: OnceLock::new(),
        }
    }

    /// The first token of every row, `[R, 1, C]`, its level added.
    pub fn first_token(&self, condition: &Condition) -> Tensor<3> {
        let token = condition.summary.clone().unsqueeze_dim::<3>(1) + self.pos_start.clone();
        self.add_level(token, 0)
    }

    /// Tokens of scale `scale_index` from its input features `[R, L, d']`, their level added.
    pub fn embed(&self, features: Tensor<3>, scale_index: usize) -> Tensor<3> {
        self.add_level(self.word_embed.forward(features), scale_index)
    }

    fn add_level(&self, tokens: Tensor<3>, scale_index: usize) -> Tensor<3> {
        tokens
            + self
                .level_embed
                .clone()
                .narrow(0, scale_index, 1)
                .unsqueeze()
    }

    /// Runs block `index` over the tokens `[R, L, C]` of one scale.
    pub fn block(
        &self,
        index: usize,
        tokens: Tensor<3>,
        condition: &Condition,
        rope: &Rope,
        look: Look<'_>,
    ) -> Tensor<3> {
        let (block, limit) = (&self.blocks[index], self.max_elements);
        let rows = tokens.dims()[0];
        match look {
            Look::Cache(cache, mask) if self.rows_alone => {
                let parts = (0..rows).map(|row| {
                    let (ada, text_kv, bias) = condition.row_of_block(index, row);
                    let text = BlockText {
                        ada: &ada,
                        text_kv: &text_kv,
                        bias,
                    };
                    let look = Look::Cache(cache.row(row, rows), mask);
                    block.forward(tokens.clone().narrow(0, row, 1), &text, rope, look, limit)
                });
                Tensor::cat(parts.collect(), 0)
            }
            look => block.forward(tokens, &condition.of_block(index), rope, look, limit),
        }
    }

    /// Logits `[R, L, 2 d']` of hidden tokens `[R, L, C]`; index `2 bit + value`.
    pub fn logits(&self, hidden: Tensor<3>, condition: &Condition) -> Tensor<3> {
        self.head.forward(self.head_input(hidden, condition))
    }

    /// What the head reads of hidden tokens `[R, L, C]`.
    pub(crate) fn head_input(&self, hidden: Tensor<3>, condition: &Condition) -> Tensor<3> {
        let [scale, shift] = &condition.head_ada;
        scaled_norm(&hidden, scale, shift, 1.0, NORM_EPSILON)
    }

    /// The layers of the blocks that take low-rank additions, first to last.
    pub fn adaptables(&mut self) -> Vec<Adaptable<'_>> {
        let config = &self.config;
        let blocks = self.blocks.iter_mut().enumerate();
        blocks
            .flat_map(|(index, block)| block.adaptables(&config.block_name(index)))
            .chain([self.head.adaptable("head".to_owned())])
            .collect()
    }

    /// The last layer as one that takes low-rank additions.
    pub(super) fn head_adaptable(&mut self) -> Adaptable<'_> {
        self.head.adaptable("head".to_owned())
    }

    /// An empty cache for every block, with room for `capacity` tokens of a row.
    pub fn caches(&self, capacity: usize) -> Vec<KvCache> {
        let groups = head_groups(self.config.heads, self.cache);
        let cache = KvCache::new(self.cache, capacity, self.max_elements).in_groups(groups);
        vec![cache; self.blocks.len()]
    }

    /// How new caches keep keys and values. In eight bits, where memory counts most, blocks also take the rows of a
    /// batch, and their heads in groups, one by one from now on, to the same numbers.
    pub fn keep_cache(&mut self, storage: Storage) {
        self.cache = storage;
        self.rows_alone = storage == Storage::Eight;
    }

    /// One pass over all scales at once, as in training.
    ///
    /// `inputs` are the features of scales 2 and up, `[R, L - 1, d']`; the result is `[R, L, 2 d']`.
    /// A token sees its own scale and those before.
    pub fn forward_all(
        &self,
        condition: &Condition,
        inputs: Option<Tensor<3>>,
        schedule: &ScaleSchedule,
    ) -> Tensor<3> {
        let hidden = self.hidden_all(condition, inputs, schedule);
        self.logits(hidden, condition)
    }

    /// As [`forward_all`](Self::forward_all), up to the hidden tokens `[R, L, C]` of the last block.
    pub(crate) fn hidden_all(
        &self,
        condition: &Condition,
        inputs: Option<Tensor<3>>,
        schedule: &ScaleSchedule,
    ) -> Tensor<3> {
        let mut x = self.tokens(condition, inputs, schedule); // [R, L, C]
        let scales = 0..schedule.scales.len();
        let rope = Rope::new(schedule, scales, self.config.head_width(), &self.device);
        let mask = Mask::block_causal(schedule);
        for index in 0..self.blocks.len() {
            x = self.block(index, x, condition, &rope, Look::Own(&mask));
        }
        x
    }

    /// The tokens of all scales as they enter the first block, `[R, L, C]`.
    pub(super) fn tokens(
        &self,
        condition: &Condition,
        inputs: Option<Tensor<3>>,
        schedule: &ScaleSchedule,
    ) -> Tensor<3> {
        let mut tokens = vec![self.first_token(condition)];
        if let Some(inputs) = inputs {
            let mut start = 0;
            for (index, scale) in schedule.scales.iter().enumerate().skip(1) {
                let own = inputs.clone().narrow(1, start, scale.tokens());
                tokens.push(self.embed(own, index));
                start += scale.tokens();
            }
        }
        Tensor::cat(tokens, 1)
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(super) fn blocks_mut(&mut self) -> &mut [Block] {
        &mut self.blocks
    }

    pub(super) fn set_device(&mut self, device: Device) {
        self.device = device;
    }
}

impl Network for Transformer {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        let config = self.config.clone();
        let (width, channels) = (config.width, config.text_channels);
        let small = Init::Normal((1.0 / (3.0 * width as f32)).sqrt());
        let text_like = Init::Normal((1.0 / channels as f32).sqrt());
        let uncond_shape = [config.text_maxlen, channels];
        slots.add(
            format!("{prefix}cfg_uncond"),
            &mut self.cfg_uncond,
            uncond_shape,
            text_like,
        );
        slots.add(
            format!("{prefix}pos_start"),
            &mut self.pos_start,
            [1, 1, width],
            small,
        );
        slots.add(
            format!("{prefix}text_norm.weight"),
            &mut self.text_norm,
            [channels],
            Init::Constant(1.0),
        );
        self.text_pool
            .slots(&format!("{prefix}text_proj_for_sos.ca."), slots);
        self.text_in
            .slots(&format!("{prefix}text_proj_for_ca.0."), slots);
        self.text_out
            .slots(&format!("{prefix}text_proj_for_ca.2."), slots);
        slots.add(
            format!("{prefix}lvl_embed.weight"),
            &mut self.level_embed,
            [LEVEL_ROWS, width],
            small,
        );
        self.word_embed
            .slots(&format!("{prefix}word_embed."), slots);
        self.shared_ada
            .slots(&format!("{prefix}shared_ada_lin.1."), slots);
        self.head_ada
            .slots(&format!("{prefix}head_nm.ada_lin.1."), slots);
        self.head.slots(&format!("{prefix}head."), slots);
        for (index, block) in self.blocks.iter_mut().enumerate() {
            block.slots(&format!("{prefix}{}", config.block_name(index)), slots);
        }
    }
}
