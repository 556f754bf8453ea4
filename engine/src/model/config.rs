//! Sizes of the transformer.

use serde::{Deserialize, Serialize};

use crate::api::EngineError;

/// Sizes of the transformer (spec section 1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Token width, `C`.
    pub width: usize,
    /// Attention heads, `N`; the head width `D = C/N` must be a multiple of 4.
    pub heads: usize,
    /// Width of the hidden layer of a block.
    pub mlp_hidden: usize,
    /// Groups of blocks in the published names; 1 for `blocks.{i}`.
    pub block_chunks: usize,
    /// Width of text features, `Ct`; a multiple of 128.
    pub text_channels: usize,
    /// Most text tokens of a prompt.
    pub text_maxlen: usize,
    /// Bits per place of the tokenizer's code map, `d`.
    pub codebook_dim: usize,
    /// Whether 2×2 places of the code map are one token (spatial patchify, 8B).
    pub patchify: bool,
}

/// Rows of the level embedding in published files.
pub(super) const LEVEL_ROWS: usize = 15;

impl ModelConfig {
    /// A published size: depth, width and heads as in the table of spec section 1.
    fn published(depth: usize, width: usize, heads: usize, block_chunks: usize, d: usize) -> Self {
        Self {
            depth,
            width,
            heads,
            mlp_hidden: 4 * width,
            block_chunks,
            text_channels: 2048,
            text_maxlen: 512,
            codebook_dim: d,
            patchify: false,
        }
    }

    /// The 125M model with `d` bits.
    pub fn m125(d: usize) -> Self {
        Self::published(12, 768, 8, 4, d)
    }

    /// The 1B size, `infinity_layer24`.
    pub fn b1() -> Self {
        Self::published(24, 1536, 16, 4, 16)
    }

    /// The released 2B.
    pub fn b2() -> Self {
        Self::published(32, 2048, 16, 8, 32)
    }

    /// The released 8B.
    pub fn b8() -> Self {
        Self {
            patchify: true,
            ..Self::published(40, 3584, 28, 8, 14)
        }
    }

    /// Bits per token, `d'`: `d`, or `4d` with patchify.
    pub fn token_bits(&self) -> usize {
        self.codebook_dim * if self.patchify { 4 } else { 1 }
    }

    /// Head width, `D`.
    pub fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Heads of the attentive text pooling.
    pub fn pool_heads(&self) -> usize {
        self.text_channels / if self.width <= 4096 { 128 } else { 64 }
    }

    /// The published name of block `index`, with a dot at the end.
    pub(super) fn block_name(&self, index: usize) -> String {
        if self.block_chunks <= 1 {
            return format!("blocks.{index}.");
        }
        let per_chunk = self.depth / self.block_chunks;
        format!(
            "block_chunks.{}.module.{}.",
            index / per_chunk,
            index % per_chunk
        )
    }

    /// Whether a weight of this published name belongs to a block: where nearly all weights of a large model are.
    pub fn is_in_block(name: &str) -> bool {
        name.starts_with("block")
    }

    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] naming the size that does not fit.
    pub fn check(&self) -> Result<(), EngineError> {
        let refuse = |what, value: usize, advice: &str| {
            Err(EngineError::BadSetting {
                what,
                value: value.to_string(),
                advice: advice.to_owned(),
            })
        };
        if !(1..=256).contains(&self.depth) {
            return refuse("transformer.depth", self.depth, "Use 1 to 256 blocks.");
        }
        if !(1..=16384).contains(&self.width) {
            return refuse("transformer.width", self.width, "Use 1 to 16384.");
        }
        if self.heads == 0
            || !self.width.is_multiple_of(self.heads)
            || !self.head_width().is_multiple_of(4)
        {
            return refuse(
                "transformer.heads",
                self.heads,
                "The width must divide into heads of a multiple of 4.",
            );
        }
        if !(1..=131_072).contains(&self.mlp_hidden) {
            return refuse(
                "transformer.mlp_hidden",
                self.mlp_hidden,
                "Use 1 to 131072.",
            );
        }
        if self.block_chunks == 0 || !self.depth.is_multiple_of(self.block_chunks) {
            return refuse(
                "transformer.block_chunks",
                self.block_chunks,
                "It must divide the depth.",
            );
        }
        let pool = self.pool_heads();
        if pool == 0 || self.text_channels > 16384 || !self.width.is_multiple_of(pool) {
            return refuse(
                "transformer.text_channels",
                self.text_channels,
                "Use a multiple of 128 whose share of heads divides the width.",
            );
        }
        if !(1..=4096).contains(&self.text_maxlen) {
            return refuse(
                "transformer.text_maxlen",
                self.text_maxlen,
                "Use 1 to 4096.",
            );
        }
        if !(1..=256).contains(&self.codebook_dim) {
            return refuse(
                "transformer.codebook_dim",
                self.codebook_dim,
                "Use 1 to 256 bits.",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes_are_valid() {
        for config in [
            ModelConfig::m125(16),
            ModelConfig::b1(),
            ModelConfig::b2(),
            ModelConfig::b8(),
        ] {
            config.check().unwrap();
        }
        assert_eq!(ModelConfig::b2().block_name(31), "block_chunks.7.module.3.");
        assert_eq!(ModelConfig::b8().token_bits(), 56);
    }
}
