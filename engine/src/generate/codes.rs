//! Between the bits of tokens and the codes of the tokenizer, for one model and one size of picture.

use burn::tensor::{Tensor, TensorData};

use super::Plan;
use crate::model::{ModelConfig, Transformer};
use crate::schedule::Scale;
use crate::vae::bsq::{self, ResidualSum};

/// How tokens lie in the code map: with `patchify` a token stands for 2×2 codes.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    d: usize,
    patchify: bool,
    last: Scale,
}

/// A picture in codes: the bits of its tokens, and the running sum after every scale.
#[derive(Clone, Debug)]
pub struct Codes {
    /// Bits of every scale, `[L, d']` each.
    pub bits: Vec<Vec<u8>>,
    /// The sum of residual codes after every scale.
    pub sums: Vec<ResidualSum>,
}

impl Layout {
    /// The layout of `config`'s tokens for pictures whose finest grid is `last`.
    pub fn of(config: &ModelConfig, last: Scale) -> Self {
        Self {
            d: config.codebook_dim,
            patchify: config.patchify,
            last,
        }
    }

    /// The code map of a grid of tokens.
    pub fn code_scale(&self, scale: Scale) -> Scale {
        let fold = if self.patchify { 2 } else { 1 };
        Scale {
            h: fold * scale.h,
            w: fold * scale.w,
        }
    }

    /// A sum of nothing.
    pub fn empty(&self) -> ResidualSum {
        ResidualSum::new(self.d, self.code_scale(self.last))
    }

    /// Adds the bits `[L, d']` of the tokens of `scale`.
    pub fn add(&self, sum: &mut ResidualSum, bits: &[u8], scale: Scale) {
        if self.patchify {
            let bits = bsq::unpatchify_bits(bits, self.d, scale);
            sum.add_bits(&bits, self.code_scale(scale));
        } else {
            sum.add_bits(bits, scale);
        }
    }

    /// Features `[d, h, w]` of a whole picture in codes.
    pub fn encode(&self, features: &[f32], scales: &[Scale]) -> Codes {
        let code_scales: Vec<Scale> = scales.iter().map(|&scale| self.code_scale(scale)).collect();
        let (bits, _) = bsq::encode(features, self.d, &code_scales);
        let folded = |(bits, &scale): (Vec<u8>, &Scale)| {
            if self.patchify {
                bsq::patchify_bits(&bits, self.d, scale)
            } else {
                bits
            }
        };
        self.decode(bits.into_iter().zip(scales).map(folded).collect(), scales)
    }

    /// Bits `[L, d']` of the first scales in codes.
    pub fn decode(&self, bits: Vec<Vec<u8>>, scales: &[Scale]) -> Codes {
        let mut sum = self.empty();
        let each = bits.iter().zip(scales);
        let sums = each
            .map(|(bits, &scale)| {
                self.add(&mut sum, bits, scale);
                sum.clone()
            })
            .collect();
        Codes { bits, sums }
    }

    /// What the transformer sees of the sums at scale `index` of the plan, `[B, L, d']`.
    pub(crate) fn next_input(
        &self,
        sums: &[ResidualSum],
        plan: &Plan,
        index: usize,
        transformer: &Transformer,
    ) -> Tensor<3> {
        let scale = plan.schedule.scales[index];
        let bits = transformer.config.token_bits();
        let mut values = Vec::with_capacity(sums.len() * scale.tokens() * bits);
        for sum in sums {
            let code_scale = self.code_scale(scale);
            values.extend(token_features(
                sum,
                scale,
                code_scale,
                self.d,
                self.patchify,
            ));
        }
        let shape = [sums.len(), scale.tokens(), bits];
        Tensor::from_data(TensorData::new(values, shape), transformer.device())
    }
}

/// The sum at `scale` as token features, `[L, d']` row by row.
pub fn token_features(
    sum: &ResidualSum,
    scale: Scale,
    code_scale: Scale,
    d: usize,
    patchify: bool,
) -> Vec<f32> {
    let map = sum.at(code_scale);
    let (map, channels) = if patchify {
        (bsq::patchify(&map, d, scale), 4 * d)
    } else {
        (map, d)
    };
    let places = scale.tokens();
    let mut features = vec![0.0; map.len()];
    for (channel, row) in map.chunks_exact(places).enumerate() {
        for (place, &value) in row.iter().enumerate() {
            features[place * channels + channel] = value;
        }
    }
    features
}
