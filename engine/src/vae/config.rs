//! Sizes of the picture tokenizer.

use serde::{Deserialize, Serialize};

use crate::api::EngineError;

/// Sizes of the picture tokenizer (spec section 7.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeConfig {
    /// Bits per place of the code map, `d`.
    pub codebook_dim: usize,
    /// Pixels along one side of a code: 16, or 8 with spatial patchify.
    pub patch_size: usize,
    /// Side of the blocks that are folded into channels before the first convolution; 1 as published.
    #[serde(default = "one")]
    pub stem: usize,
    /// Channels at the finest level for a multiplier of 1.
    pub base_ch: usize,
    /// Residual blocks per encoder level.
    pub encoder_res_blocks: usize,
    /// Residual blocks per decoder level.
    pub decoder_res_blocks: usize,
    /// Channel multipliers of the encoder, fine to coarse.
    pub encoder_ch_mult: Vec<usize>,
    /// Channel multipliers of the decoder, fine to coarse.
    pub decoder_ch_mult: Vec<usize>,
}

const fn one() -> usize {
    1
}

impl VaeConfig {
    /// The published f16 tokenizer with `d` bits (Infinity 2B: 32).
    pub fn published_f16(d: usize) -> Self {
        Self {
            codebook_dim: d,
            patch_size: 16,
            stem: 1,
            base_ch: 128,
            encoder_res_blocks: 2,
            decoder_res_blocks: 3,
            encoder_ch_mult: vec![1, 2, 4, 4, 4],
            decoder_ch_mult: vec![1, 2, 4, 4, 4],
        }
    }

    /// The published f8 tokenizer with `d` bits, for transformers with spatial patchify (8B: 14).
    pub fn published_f8(d: usize) -> Self {
        Self {
            patch_size: 8,
            encoder_ch_mult: vec![1, 2, 4, 4],
            decoder_ch_mult: vec![1, 2, 4, 4],
            ..Self::published_f16(d)
        }
    }

    /// Number of halvings between the stem and the code map.
    pub fn halvings(&self) -> usize {
        (self.patch_size / self.stem.max(1)).max(1).ilog2() as usize
    }

    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] naming the size that does not fit.
    pub fn check(&self) -> Result<(), EngineError> {
        let refuse = |what, value: String, advice: &str| {
            Err(EngineError::BadSetting {
                what,
                value,
                advice: advice.to_owned(),
            })
        };
        if !(1..=256).contains(&self.codebook_dim) {
            return refuse(
                "vae.codebook_dim",
                self.codebook_dim.to_string(),
                "Use 1 to 256 bits.",
            );
        }
        if ![8, 16].contains(&self.patch_size) {
            return refuse(
                "vae.patch_size",
                self.patch_size.to_string(),
                "Use 8 or 16.",
            );
        }
        if ![1, 2, 4, 8].contains(&self.stem) {
            return refuse("vae.stem", self.stem.to_string(), "Use 1, 2, 4 or 8.");
        }
        let levels = self.halvings() + 1;
        for mult in [&self.encoder_ch_mult, &self.decoder_ch_mult] {
            if mult.len() != levels || mult.iter().any(|m| !(1..=64).contains(m)) {
                return refuse(
                    "vae.ch_mult",
                    format!("{mult:?}"),
                    &format!("Give {levels} multipliers between 1 and 64."),
                );
            }
            for m in mult {
                let channels = m * self.base_ch;
                if group_count(channels).is_none() || channels > 8192 {
                    return refuse(
                        "vae.base_ch",
                        channels.to_string(),
                        "Channels must be a multiple of 24 or 32.",
                    );
                }
            }
        }
        let blocks = 1..=16;
        if !blocks.contains(&self.encoder_res_blocks) || !blocks.contains(&self.decoder_res_blocks)
        {
            return refuse(
                "vae.res_blocks",
                "that".to_owned(),
                "Use 1 to 16 blocks per level.",
            );
        }
        Ok(())
    }
}

/// Groups of the group normalisation over `channels`: 32 where that divides, else 24.
pub(super) fn group_count(channels: usize) -> Option<usize> {
    if channels == 0 {
        None
    } else if channels.is_multiple_of(32) {
        Some(32)
    } else if channels.is_multiple_of(24) {
        Some(24)
    } else {
        None
    }
}
