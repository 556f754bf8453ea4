//! What a training run is told: one JSON file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::optimizer::AdamWConfig;
use crate::api::EngineError;
use crate::model::ModelConfig;
use crate::text::T5Config;
use crate::vae::VaeConfig;

/// A stretch of a run with one batch shape and a straight learning-rate line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Updates in this phase.
    pub steps: u64,
    /// Pictures per update.
    pub batch: usize,
    /// Grids of the schedule that are trained.
    pub scale_count: usize,
    /// How many of the grids a transformer learns, from the first: one of these numbers per batch, drawn evenly;
    /// all grids when empty. The first grids say what is in a picture and cost a fraction.
    #[serde(default)]
    pub first_scales: Vec<usize>,
    /// Chance that a batch teaches a transformer to finish pictures of any colours: painted as
    /// [`Inks::any`](crate::postcards::Inks::any) says, captions without colours, all grids, of which those before
    /// `finish_from` are not learned. What the first grids settle, in whatever colour, the last ones then carry out.
    #[serde(default)]
    pub finish: f32,
    /// See `finish`.
    #[serde(default)]
    pub finish_from: usize,
    /// Share of the finishing pictures whose caption names colours that they do not have
    /// ([`Caption::in_wrong_colours`](crate::postcards::Caption::in_wrong_colours)): the last grids learn to trust
    /// the first ones rather than a word.
    #[serde(default)]
    pub contradict: f32,
    /// Ratios of height to width, drawn evenly; one ratio per batch.
    pub ratios: Vec<f32>,
    /// Learning rate at the start and at the end.
    pub learning_rate: [f32; 2],
    /// Chance that a picture is painted in any colours ([`Inks::any`](crate::postcards::Inks::any)), so that a
    /// tokenizer learns every shape in every colour.
    #[serde(default)]
    pub recolour: f32,
    /// Chance that shapes of no postcard are painted over a picture
    /// ([`scribble`](crate::postcards::scribble())), so that a tokenizer is no stranger to other pictures.
    #[serde(default)]
    pub scribble: f32,
    /// Chance that a picture has a palette of its own, sky and all ([`grade`](crate::postcards::grade())), so that a
    /// tokenizer is no stranger to styles.
    #[serde(default)]
    pub grade: f32,
    /// Chance that a postcard has a starry sky, which else one in eight has.
    #[serde(default)]
    pub starry: f32,
}

/// Weights of the tokenizer's losses (spec section 7.4; L1, L2 and gradient terms
/// stand in for the perceptual network, which flat pictures do not need).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaeLossConfig {
    /// Mean absolute difference of pixels.
    pub l1: f32,
    /// Mean squared difference of pixels.
    pub l2: f32,
    /// How much more pixels count that differ from their surroundings: stars, edges, small things.
    pub detail: f32,
    /// Mean absolute difference of neighbouring pixels' differences.
    pub gradient: f32,
    /// Pull of features towards their codes.
    pub commitment: f32,
    /// Entropy term: every place decided, all codes used.
    pub entropy: f32,
    /// Chance that a scale, but for the last, is left out.
    pub scale_drop: f32,
    /// Train the decoder alone: the bits of a picture, which a transformer has learned, stay the same.
    pub decoder_only: bool,
    /// How strongly the features of plain postcards are held to those that the tokenizer had before, so that a
    /// transformer that has learned their bits need not learn them anew.
    pub keep: f32,
}

impl Default for VaeLossConfig {
    fn default() -> Self {
        Self {
            l1: 1.0,
            l2: 2.0,
            detail: 0.0,
            gradient: 1.0,
            commitment: 0.25,
            entropy: 0.02,
            scale_drop: 0.25,
            decoder_only: false,
            keep: 0.0,
        }
    }
}

/// Settings of the transformer's training signal (spec section 8).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransformerLossConfig {
    /// Largest share of bits flipped per scale (bitwise self-correction).
    pub flip_strength: f32,
    /// Number of first scales that flips are applied to; never the last one.
    pub flip_scales: usize,
    /// Chance that a caption is replaced by the learned unconditional rows.
    pub condition_drop: f32,
    /// Whether scales are weighted by the square root of their size ratio.
    pub reweight_by_scale: bool,
    /// Updates of the text encoder on captions alone, before pictures come in; with a model to start
    /// from, its text encoder is kept for 0 and learned anew for more.
    pub caption_steps: u64,
    /// Number of different pictures; 0 for a new one every time.
    pub pool: u64,
    /// How much more the tokens of stars count at night, in the last three scales.
    pub stars: f32,
}

impl Default for TransformerLossConfig {
    fn default() -> Self {
        Self {
            flip_strength: 0.3,
            flip_scales: 13,
            condition_drop: 0.1,
            reweight_by_scale: true,
            caption_steps: 0,
            pool: 0,
            stars: 0.0,
        }
    }
}

/// What is trained, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TrainConfig {
    /// The picture tokenizer.
    Vae {
        /// Seed of pictures, weights and drops.
        seed: u64,
        /// A run folder or model folder whose weights the run starts from, in place of random ones.
        #[serde(default)]
        start: Option<PathBuf>,
        /// Sizes.
        vae: VaeConfig,
        /// Losses.
        #[serde(default)]
        loss: VaeLossConfig,
        /// Optimizer.
        #[serde(default)]
        optimizer: AdamWConfig,
        /// The run.
        phases: Vec<Phase>,
        /// Steps between log lines.
        log_every: u64,
        /// Steps between checkpoints and sample sheets.
        save_every: u64,
    },
    /// The transformer and its text encoder, on a trained tokenizer.
    Transformer {
        /// Seed of pictures, captions, weights and flips.
        seed: u64,
        /// The trained tokenizer: its run folder or a model folder.
        vae_folder: PathBuf,
        /// A model folder whose weights and words the run starts from, in place of random ones.
        #[serde(default)]
        start: Option<PathBuf>,
        /// A second one, of the same sizes and words: the run starts from the mean of both, which is often better than
        /// either when one came from the other.
        #[serde(default)]
        mean_with: Option<PathBuf>,
        /// Sizes.
        transformer: ModelConfig,
        /// Sizes of the text encoder.
        text: T5Config,
        /// Training signal.
        #[serde(default)]
        loss: TransformerLossConfig,
        /// Optimizer.
        #[serde(default)]
        optimizer: AdamWConfig,
        /// The run.
        phases: Vec<Phase>,
        /// Steps between log lines.
        log_every: u64,
        /// Steps between checkpoints and sample sheets.
        save_every: u64,
    },
}
impl TrainConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`EngineError::Read`] when it cannot be read, [`EngineError::BadModel`] saying what in it is wrong.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let text = std::fs::read_to_string(path).map_err(|error| EngineError::read(path, error))?;
        Self::parse(&text, path)
    }

    /// Checks the text of the file `path`.
    ///
    /// # Errors
    /// [`EngineError::BadModel`] saying what in it is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, EngineError> {
        let config: Self = serde_json::from_str(text)
            .map_err(|error| EngineError::bad_config(path, error.to_string()))?;
        for phase in config.phases() {
            let wrong = if phase.batch == 0 || phase.batch > 4096 {
                "a batch must hold 1 to 4096 pictures"
            } else if phase
                .first_scales
                .iter()
                .any(|&count| count == 0 || count > phase.scale_count)
            {
                "first_scales must be from 1 to scale_count"
            } else if phase.finish_from >= phase.scale_count {
                "finish_from must be below scale_count"
            } else if phase.ratios.is_empty() {
                "a phase needs at least one ratio"
            } else if phase
                .learning_rate
                .iter()
                .any(|rate| !rate.is_finite() || *rate < 0.0)
            {
                "a learning rate must be a number of at least 0"
            } else {
                continue;
            };
            return Err(EngineError::bad_config(path, wrong));
        }
        Ok(config)
    }

    /// The row of phases.
    pub fn phases(&self) -> &[Phase] {
        match self {
            Self::Vae { phases, .. } | Self::Transformer { phases, .. } => phases,
        }
    }
}

/// Where a step lies in a row of phases.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The phase.
    pub phase: &'a Phase,
    /// Learning rate at this step.
    pub learning_rate: f32,
}

/// The phase and learning rate of the update number `step`, from 0; `None` after the end.
pub fn place_of(phases: &[Phase], step: u64, warmup: u64) -> Option<Place<'_>> {
    let mut start = 0;
    for phase in phases {
        if step < start + phase.steps {
            let part = (step - start) as f32 / phase.steps.max(1) as f32;
            let [from, to] = phase.learning_rate;
            let warm = ((step + 1) as f32 / warmup.max(1) as f32).min(1.0);
            return Some(Place {
                phase,
                learning_rate: warm * (from + (to - from) * part),
            });
        }
        start += phase.steps;
    }
    None
}
