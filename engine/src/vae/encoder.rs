//! Pixels to features (spec section 7.1).

use burn::tensor::{Device, Tensor};

use super::bands::Bands;
use super::blocks::{Conv, Middle, NormSilu, ResBlock, fold_blocks};
use super::config::VaeConfig;
use crate::weights::{Network, Slots};

#[derive(Clone, Debug)]
struct Level {
    blocks: Vec<ResBlock>,
    down: Option<Conv>,
}

/// Pixels to features.
#[derive(Clone, Debug)]
pub struct Encoder {
    stem: usize,
    conv_in: Conv,
    levels: Vec<Level>,
    middle: Middle,
    norm_out: NormSilu,
    conv_out: Conv,
}

impl Encoder {
    /// A network whose weights come later.
    pub fn new(config: &VaeConfig, device: &Device) -> Self {
        let channels: Vec<usize> = config
            .encoder_ch_mult
            .iter()
            .map(|m| m * config.base_ch)
            .collect();
        let coarsest = channels.last().copied().unwrap_or(config.base_ch);
        let mut previous = config.base_ch;
        let levels = channels
            .iter()
            .enumerate()
            .map(|(level, &own)| {
                let blocks = (0..config.encoder_res_blocks)
                    .map(|_| ResBlock::new(std::mem::replace(&mut previous, own), own, device))
                    .collect();
                let down = (level < config.halvings()).then(|| Conv::new(own, own, 3, device));
                Level { blocks, down }
            })
            .collect();
        Self {
            stem: config.stem,
            conv_in: Conv::new(3 * config.stem * config.stem, config.base_ch, 3, device),
            levels,
            middle: Middle::new(coarsest, device),
            norm_out: NormSilu::new(coarsest, device),
            conv_out: Conv::new(coarsest, config.codebook_dim, 3, device),
        }
    }

    /// Pixels in [-1, 1], `[B, 3, H, W]`, to features `[B, d, H/patch, W/patch]`.
    pub fn forward(&self, pixels: Tensor<4>, max_elements: usize) -> Tensor<4> {
        let mut x = self
            .conv_in
            .forward(Bands::new(fold_blocks(pixels, self.stem), max_elements));
        for level in &self.levels {
            for block in &level.blocks {
                x = block.forward(x);
            }
            if let Some(down) = &level.down {
                x = down.forward_down(x);
            }
        }
        x = self.norm_out.forward(self.middle.forward(x));
        self.conv_out.forward(x).join()
    }
}

impl Network for Encoder {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        self.conv_in.slots(&format!("{prefix}conv_in.conv."), slots);
        for (i, level) in self.levels.iter_mut().enumerate() {
            for (k, block) in level.blocks.iter_mut().enumerate() {
                block.slots(&format!("{prefix}down.{i}.block.{k}."), slots);
            }
            if let Some(down) = &mut level.down {
                down.slots(&format!("{prefix}down.{i}.downsample.conv.conv."), slots);
            }
        }
        self.middle.slots(&format!("{prefix}mid."), slots);
        self.norm_out
            .slots(&format!("{prefix}norm_out.norm."), slots);
        self.conv_out
            .slots(&format!("{prefix}conv_out.conv."), slots);
    }
}
