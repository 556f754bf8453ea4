//! Drawing: one loop over scales.
//!
//! Every scale is predicted from the text and all scales before it, its bits
//! are drawn and added to the running sum of residual codes, and the sum,
//! resized, is what the next scale sees (Infinity, arXiv 2412.04431, figure 2;
//! spec section 4). The loop knows nothing of windows, files or previews.

mod bundle;
mod plan;
pub mod sampling;

pub use bundle::{Bundle, fit_together};
pub use plan::Plan;

use burn::tensor::{Tensor, TensorData};

use crate::api::EngineError;
use crate::model::{Look, Rope, Transformer};
use crate::schedule::Scale;
use crate::text::TextFeatures;
use crate::vae::bsq::{self, ResidualSum};

/// What a scale has brought, for whoever watches.
pub struct ScaleView<'a> {
    /// Which scale, from 0.
    pub index: usize,
    /// Its grid of tokens.
    pub scale: Scale,
    /// Guided logits per picture, `[L, d', 2]` each.
    pub logits: &'a [Vec<f32>],
    /// Bits per picture, `[L, d']` each.
    pub bits: &'a [Vec<u8>],
    /// The running sums, one per picture.
    pub sums: &'a [ResidualSum],
}

/// Watches a run: sees inner tensors by name and every finished scale.
pub trait Watcher {
    /// A tensor inside scale `index`: `input_features`, `block_first_in`, `block_first_out`, `block_last_out`.
    fn tensor(&mut self, _index: usize, _name: &str, _tensor: &Tensor<3>) {}

    /// A scale is finished.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError>;

    /// Asked before every scale and every block; the run ends early on `true`.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All scales are drawn; the sums are the latents to decode.
    Done(Vec<ResidualSum>),
    /// The watcher stopped it.
    Cancelled,
}

/// Draws a batch of pictures, one per seed of the plan, row `i` from text `i`.
///
/// `negative` replaces the learned unconditional text, one row per picture.
///
/// # Errors
/// [`EngineError::NotFinite`] for broken weights, [`EngineError::Internal`] when the device
/// fails, and whatever the watcher returns.
pub fn generate(
    transformer: &Transformer,
    text: TextFeatures,
    negative: Option<TextFeatures>,
    plan: &Plan,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, EngineError> {
    let config = &transformer.config;
    let (d, rows) = (config.codebook_dim, plan.seeds.len());
    let guided = plan.is_guided();
    let (features, lens) = if guided {
        with_unconditional(transformer, text, negative)
    } else {
        (text.padded, text.lens)
    };
    let condition = transformer.condition(features, &lens);
    let fold = if config.patchify { 2 } else { 1 };
    let code_scale = |scale: Scale| Scale {
        h: fold * scale.h,
        w: fold * scale.w,
    };
    let mut sums = vec![ResidualSum::new(d, code_scale(plan.schedule.last())); rows];
    let mut caches = transformer.caches();
    let on_logits = plan.cfg_insertion_layers.contains(&0);

    for (index, &scale) in plan.schedule.scales.iter().enumerate() {
        if watcher.is_cancelled() {
            return Ok(Outcome::Cancelled);
        }
        let cfg = plan.cfg[index];
        let mut x = if index == 0 {
            transformer.first_token(&condition)
        } else {
            let features = next_input(&sums, scale, code_scale(scale), d, transformer);
            watcher.tensor(index, "input_features", &features);
            let features = if guided {
                Tensor::cat(vec![features.clone(), features], 0)
            } else {
                features
            };
            transformer.embed(features, index)
        };
        watcher.tensor(index, "block_first_in", &x);
        let rope = Rope::new(
            &plan.schedule,
            index..index + 1,
            config.head_width(),
            transformer.device(),
        );
        for (block, cache) in caches.iter_mut().enumerate() {
            if watcher.is_cancelled() {
                return Ok(Outcome::Cancelled);
            }
            x = transformer.block(block, x, &condition, &rope, Look::Cache(cache));
            if block == 0 {
                watcher.tensor(index, "block_first_out", &x);
            }
            let from_end = block as i32 - config.depth as i32;
            if guided && cfg != 1.0 && plan.cfg_insertion_layers.contains(&from_end) {
                let mixed =
                    x.clone().narrow(0, 0, rows) * cfg + x.narrow(0, rows, rows) * (1.0 - cfg);
                x = Tensor::cat(vec![mixed.clone(), mixed], 0);
            }
        }
        watcher.tensor(index, "block_last_out", &x);
        let values = transformer
            .logits(x, &condition)
            .try_into_vec_as::<f32>()
            .map_err(|error| EngineError::internal(format!("reading logits: {error}")))?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(EngineError::NotFinite {
                what: format!("while drawing scale {}", index + 1),
                advice: "The model file may be damaged; copy it again, or try --device cpu."
                    .to_owned(),
            });
        }
        let mut per_row = values.chunks_exact(2 * scale.tokens() * config.token_bits());
        let cond: Vec<&[f32]> = per_row.by_ref().take(rows).collect();
        let uncond: Vec<&[f32]> = per_row.collect();
        let mixes = guided && on_logits && cfg != 1.0;
        let logits: Vec<Vec<f32>> = (0..rows)
            .map(|row| sampling::guide(cond[row], mixes.then(|| uncond[row]), cfg, plan.tau[index]))
            .collect();
        let draw = |(logits, &seed): (&Vec<f32>, &u64)| {
            sampling::draw_bits(logits, plan.rule, seed, index)
        };
        let bits: Vec<Vec<u8>> = match plan.kept.get(index) {
            Some(kept) => vec![kept.clone(); rows],
            None => logits.iter().zip(&plan.seeds).map(draw).collect(),
        };
        for (sum, bits) in sums.iter_mut().zip(&bits) {
            if config.patchify {
                sum.add_bits(&bsq::unpatchify_bits(bits, d, scale), code_scale(scale));
            } else {
                sum.add_bits(bits, scale);
            }
        }
        watcher.scale(&ScaleView {
            index,
            scale,
            logits: &logits,
            bits: &bits,
            sums: &sums,
        })?;
    }
    Ok(Outcome::Done(sums))
}

/// The rows of "no text", or of the negative prompt, below those of the prompts, padded alike.
fn with_unconditional(
    transformer: &Transformer,
    text: TextFeatures,
    negative: Option<TextFeatures>,
) -> (Tensor<3>, Vec<usize>) {
    let other = negative.unwrap_or_else(|| TextFeatures {
        padded: transformer.unconditional(&text.lens, text.padded.dims()[1]),
        lens: text.lens.clone(),
    });
    let tokens = text.padded.dims()[1].max(other.padded.dims()[1]);
    let pad = |features: Tensor<3>| {
        let [rows, own, channels] = features.dims();
        if own == tokens {
            return features;
        }
        let padding = Tensor::zeros([rows, tokens - own, channels], &features.device());
        Tensor::cat(vec![features, padding], 1)
    };
    let features = Tensor::cat(vec![pad(text.padded), pad(other.padded)], 0);
    (features, [text.lens, other.lens].concat())
}

/// What the transformer sees of the sums at the next scale, `[B, L, d']`.
fn next_input(
    sums: &[ResidualSum],
    scale: Scale,
    code_scale: Scale,
    d: usize,
    transformer: &Transformer,
) -> Tensor<3> {
    let bits = transformer.config.token_bits();
    let mut values = Vec::with_capacity(sums.len() * scale.tokens() * bits);
    for sum in sums {
        values.extend(token_features(
            sum,
            scale,
            code_scale,
            d,
            transformer.config.patchify,
        ));
    }
    let shape = [sums.len(), scale.tokens(), bits];
    Tensor::from_data(TensorData::new(values, shape), transformer.device())
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
