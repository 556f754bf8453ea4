//! What a fine-tuning run is told.

use serde::{Deserialize, Serialize};

use crate::api::{EngineError, TuneWish};
use crate::kernels::Precision;
use crate::train::config::Phase;
use crate::train::optimizer::AdamWConfig;

/// How to fine-tune.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FinetuneConfig {
    /// Name of the LoRA.
    pub name: String,
    /// Word that calls it up; goes before every caption, or where one says `[trigger]`.
    pub trigger: String,
    /// Rows of the thin matrices.
    pub rank: usize,
    /// Numerator of the scale `alpha / rank`; the rank when `None`.
    pub alpha: Option<f32>,
    /// Parts of the names of layers that learn: `sa.`, `ca.`, `ffn.`.
    pub layers: Vec<String>,
    /// Learning rate; falls to a tenth in the second half.
    pub learning_rate: f32,
    /// Updates.
    pub steps: u64,
    /// Pictures per update.
    pub batch: usize,
    /// Scales to learn at; the model's own number when `None`.
    pub scale_count: Option<usize>,
    /// Views of each picture that are learned beside it, a sixteenth larger and cut a little to one side: places shift
    /// against the grids, so that a few pictures say more.
    pub views: usize,
    /// Whether each picture is learned mirrored as well, with left and right changed in its caption: where a thing is
    /// then says nothing of what is around it.
    pub mirror: bool,
    /// Chance that a caption is replaced by "no text".
    pub caption_drop: f32,
    /// Chance that a part of a caption, between commas, is left out; what is left is put in another order. 0 leaves
    /// captions as they are.
    pub part_drop: f32,
    /// Largest share of bits flipped per scale (bitwise self-correction).
    pub flip_strength: f32,
    /// Number of first scales that flips are applied to.
    pub flip_scales: usize,
    /// Whether coarse scales count more.
    pub reweight_by_scale: bool,
    /// Share of every batch that are pictures the model itself drew before, so that it does not forget.
    pub prior: f32,
    /// Prompts of those pictures; when empty those that the model names for it, or its examples.
    pub prior_prompts: Vec<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Whether blocks are computed again for the gradient instead of kept: slower, in far less memory; what fits
    /// when `None`.
    pub by_block: Option<bool>,
    /// Optimizer.
    pub optimizer: AdamWConfig,
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between checkpoints and sheets.
    pub save_every: u64,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        // The window and the command line begin alike.
        let wish = TuneWish::default();
        Self {
            name: String::new(),
            trigger: String::new(),
            rank: wish.rank,
            alpha: wish.alpha,
            layers: wish.layers,
            learning_rate: wish.learning_rate,
            steps: wish.steps,
            batch: wish.batch,
            scale_count: wish.scale_count,
            views: wish.views,
            mirror: wish.mirror,
            caption_drop: wish.caption_drop,
            part_drop: wish.part_drop,
            flip_strength: wish.flip_strength,
            flip_scales: wish.flip_scales,
            reweight_by_scale: true,
            prior: wish.prior,
            prior_prompts: Vec::new(),
            seed: wish.seed,
            by_block: None,
            optimizer: AdamWConfig {
                weight_decay: 0.0,
                // The mean of the last thirty or so updates: less noise in what is drawn.
                ema_decay: 0.97,
                workers: 2,
                precision: Precision::Half,
                ..AdamWConfig::default()
            },
            log_every: 10,
            save_every: 100,
        }
    }
}

impl From<&TuneWish> for FinetuneConfig {
    fn from(wish: &TuneWish) -> Self {
        Self {
            name: wish.name.clone(),
            trigger: wish.trigger.clone(),
            rank: wish.rank,
            alpha: wish.alpha,
            scale_count: wish.scale_count,
            flip_scales: wish.flip_scales,
            layers: wish.layers.clone(),
            learning_rate: wish.learning_rate,
            steps: wish.steps,
            batch: wish.batch,
            views: wish.views,
            mirror: wish.mirror,
            caption_drop: wish.caption_drop,
            part_drop: wish.part_drop,
            flip_strength: wish.flip_strength,
            prior: wish.prior,
            seed: wish.seed,
            log_every: 5,
            save_every: wish.save_every,
            ..Self::default()
        }
    }
}

impl FinetuneConfig {
    /// Numerator of the scale `alpha / rank`.
    pub fn alpha(&self) -> f32 {
        self.alpha.unwrap_or(self.rank as f32)
    }

    /// # Errors
    /// [`EngineError::BadSetting`] naming the setting.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        let share = |value: f32| (0.0..1.0).contains(&value);
        let checks = [
            (
                "rank",
                (1..=256).contains(&self.rank),
                self.rank.to_string(),
                "Use 4 to 64.",
            ),
            (
                "alpha",
                self.alpha() > 0.0 && self.alpha().is_finite(),
                self.alpha().to_string(),
                "Use the rank, or half of it.",
            ),
            (
                "learning rate",
                self.learning_rate.is_finite() && self.learning_rate > 0.0,
                self.learning_rate.to_string(),
                "Use 0.0001 to 0.002.",
            ),
            (
                "number of steps",
                self.steps > 0,
                self.steps.to_string(),
                "Use 100 to 2000.",
            ),
            (
                "batch",
                (1..=256).contains(&self.batch),
                self.batch.to_string(),
                "Use 1 to 16.",
            ),
            (
                "number of views",
                self.views <= 64,
                self.views.to_string(),
                "Use 0 to 8.",
            ),
            (
                "share of dropped captions",
                share(self.caption_drop),
                self.caption_drop.to_string(),
                "Use 0.1.",
            ),
            (
                "share of left out parts",
                share(self.part_drop),
                self.part_drop.to_string(),
                "Use 0 to 0.5.",
            ),
            (
                "share of flipped bits",
                share(self.flip_strength),
                self.flip_strength.to_string(),
                "Use 0 to 0.3.",
            ),
            (
                "share of the model's own pictures",
                share(self.prior),
                self.prior.to_string(),
                "Use 0 to 0.5.",
            ),
        ];
        match checks.into_iter().find(|(_, fine, _, _)| !fine) {
            Some((what, _, value, advice)) => Err(EngineError::BadSetting {
                what,
                value,
                advice: advice.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The run as phases of the training loop; ratios are those of the pictures.
    pub(super) fn phases(&self, scale_count: usize) -> Vec<Phase> {
        let phase = |steps: u64, learning_rate: [f32; 2]| Phase {
            steps,
            batch: self.batch,
            scale_count,
            ratios: Vec::new(),
            learning_rate,
            first_scales: Vec::new(),
            finish: 0.0,
            finish_from: 0,
            contradict: 0.0,
            recolour: 0.0,
            scribble: 0.0,
            grade: 0.0,
            starry: 0.0,
        };
        let (rate, half) = (self.learning_rate, self.steps / 2);
        vec![
            phase(self.steps - half, [rate, rate]),
            phase(half, [rate, 0.1 * rate]),
        ]
    }
}
