//! Latents to pixels (spec section 7.1).

use burn::tensor::{Device, Tensor};

use super::bands::Bands;
use super::blocks::{Conv, Middle, NormSilu, ResBlock, unfold_blocks};
use super::config::VaeConfig;
use crate::weights::{Network, Slots};

#[derive(Clone, Debug)]
struct Level {
    blocks: Vec<ResBlock>,
    up: Option<Conv>,
}

/// Latents to pixels.
#[derive(Clone, Debug)]
pub struct Decoder {
    stem: usize,
    conv_in: Conv,
    middle: Middle,
    /// Fine to coarse, as published; the coarsest runs first.
    levels: Vec<Level>,
    norm_out: NormSilu,
    conv_out: Conv,
}

impl Decoder {
    /// A network whose weights come later.
    pub fn new(config: &VaeConfig, device: &Device) -> Self {
        let channels: Vec<usize> = config
            .decoder_ch_mult
            .iter()
            .map(|m| m * config.base_ch)
            .collect();
        let coarsest = channels.last().copied().unwrap_or(config.base_ch);
        let finest = channels.first().copied().unwrap_or(config.base_ch);
        let mut previous = coarsest;
        let mut levels: Vec<Level> = channels
            .iter()
            .enumerate()
            .rev()
            .map(|(level, &own)| {
                let blocks = (0..config.decoder_res_blocks)
                    .map(|_| ResBlock::new(std::mem::replace(&mut previous, own), own, device))
                    .collect();
                let doubles = (1..=config.halvings()).contains(&level);
                Level {
                    blocks,
                    up: doubles.then(|| Conv::new(own, own, 3, device)),
                }
            })
            .collect();
        levels.reverse();
        Self {
            stem: config.stem,
            conv_in: Conv::new(config.codebook_dim, coarsest, 3, device),
            middle: Middle::new(coarsest, device),
            levels,
            norm_out: NormSilu::new(finest, device),
            conv_out: Conv::new(finest, 3 * config.stem * config.stem, 3, device),
        }
    }

    /// Latents `[B, d, h, w]` to pixels `[B, 3, h*patch, w*patch]`, as bands and not clamped.
    fn forward_bands(&self, latents: Tensor<4>, max_elements: usize) -> Bands {
        let mut x = self.conv_in.forward(Bands::new(latents, max_elements));
        x = self.middle.forward(x);
        for level in self.levels.iter().rev() {
            for block in &level.blocks {
                x = block.forward(x);
            }
            if let Some(up) = &level.up {
                x = up.forward_up(x);
            }
        }
        let x = self.conv_out.forward(self.norm_out.forward(x));
        x.map(|band| unfold_blocks(band, self.stem))
    }

    /// Latents `[B, d, h, w]` to pixels `[B, 3, h*patch, w*patch]`, not clamped.
    pub fn forward(&self, latents: Tensor<4>, max_elements: usize) -> Tensor<4> {
        self.forward_bands(latents, max_elements).join()
    }
}

impl Network for Decoder {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        self.conv_in.slots(&format!("{prefix}conv_in.conv."), slots);
        self.middle.slots(&format!("{prefix}mid."), slots);
        for (i, level) in self.levels.iter_mut().enumerate() {
            for (k, block) in level.blocks.iter_mut().enumerate() {
                block.slots(&format!("{prefix}up.{i}.block.{k}."), slots);
            }
            if let Some(up) = &mut level.up {
                up.slots(&format!("{prefix}up.{i}.upsample.conv.conv."), slots);
            }
        }
        self.norm_out
            .slots(&format!("{prefix}norm_out.norm."), slots);
        self.conv_out
            .slots(&format!("{prefix}conv_out.conv."), slots);
    }
}
