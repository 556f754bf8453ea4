//! What a user can wish for when drawing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::PictureBits;

/// How many pixels a picture has, named as the published models name it.
///
/// A budget selects a prefix of the scale schedule of a ratio (Infinity,
/// arXiv 2412.04431, section 3.1): 7, 10, 12 or 13 scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PixelBudget {
    /// About 256×256 pixels, 7 scales.
    #[serde(rename = "0.06M")]
    P006M,
    /// About 512×512 pixels, 10 scales.
    #[serde(rename = "0.25M")]
    P025M,
    /// About 768×768 pixels, 12 scales.
    #[serde(rename = "0.60M")]
    P060M,
    /// About 1024×1024 pixels, 13 scales.
    #[serde(rename = "1M")]
    P1M,
}

impl PixelBudget {
    /// All budgets, small to large.
    pub const ALL: [Self; 4] = [Self::P006M, Self::P025M, Self::P060M, Self::P1M];

    /// Number of scales this budget takes from the schedule.
    pub const fn scale_count(self) -> usize {
        match self {
            Self::P006M => 7,
            Self::P025M => 10,
            Self::P060M => 12,
            Self::P1M => 13,
        }
    }

    /// The published name, such as `0.06M`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P006M => "0.06M",
            Self::P025M => "0.25M",
            Self::P060M => "0.60M",
            Self::P1M => "1M",
        }
    }

    /// The budget with this published name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|budget| budget.name() == name)
    }
}

/// The wish for one picture. The same wish on the same model and device gives the same picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateSpec {
    /// What the picture shows.
    pub prompt: String,
    /// What it should not show; empty for none.
    #[serde(default)]
    pub negative_prompt: String,
    /// What it shows from scale [`Self::detail_from`] on; empty for the same.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail_prompt: String,
    /// How many first scales [`Self::prompt`] makes before [`Self::detail_prompt`] takes over.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub detail_from: usize,
    /// Height over width. The nearest ratio of the schedule table is drawn.
    pub ratio: f32,
    /// Number of scales to draw; `None` for as many as the model was made for.
    #[serde(default)]
    pub scale_count: Option<usize>,
    /// Classifier-free guidance: one value for all scales, or one per scale. 1 is off, 3–5 usual.
    pub cfg: Vec<f32>,
    /// Sampling temperature: one value for all scales, or one per scale. 0.5–1 usual.
    pub tau: Vec<f32>,
    /// Highest mean probability of the likelier values of a scale, 0.5 to 1: where the model is surer, the temperature
    /// of the scale is raised until that is met. More variety; `None` leaves temperatures as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certainty: Option<f32>,
    /// 1 takes the likelier value of every bit, 0 and 2 and more sample.
    #[serde(default = "default_top_k")]
    pub top_k: usize,
    /// A bit value less likely than `1 - top_p` is never drawn; 0 is off.
    #[serde(default = "default_top_p")]
    pub top_p: f32,
    /// Where guidance is applied: 0 for the logits, `-n` for the output of the n-th last layer.
    #[serde(default = "default_cfg_layers")]
    pub cfg_insertion_layers: Vec<i32>,
    /// Whether factors of matrix products are rounded, to bf16 where the processor multiplies those and to f16 on graphics
    /// devices that have it: bits that were a matter of doubt may fall the other way. Elsewhere it changes nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub half_products: bool,
    /// Seed of the counter-based random numbers.
    pub seed: u64,
    /// How many first scales come from `bits` instead of being drawn.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub keep: usize,
    /// The bits of a picture: those to keep of another, or, once drawn, its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<Box<PictureBits>>,
    /// Low-rank adapters put on the model for this picture.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraWish>,
}

/// A LoRA file and how strongly it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraWish {
    /// The file.
    pub path: PathBuf,
    /// 1 as it was trained, 0 not at all; below 0 the other way.
    pub strength: f32,
    /// Factor of the strength per scale, the last one for all that follow; empty for 1 everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_scale: Vec<f32>,
}

impl LoraWish {
    /// The file at `path` with `strength` at all scales.
    pub fn new(path: impl Into<PathBuf>, strength: f32) -> Self {
        Self {
            path: path.into(),
            strength,
            by_scale: Vec::new(),
        }
    }

    /// How strongly it counts at scale `index`.
    pub fn at(&self, index: usize) -> f32 {
        let own = self.by_scale.get(index).or(self.by_scale.last());
        self.strength * own.copied().unwrap_or(1.0)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(value: &usize) -> bool {
    *value == 0
}

const fn default_top_k() -> usize {
    900
}

const fn default_top_p() -> f32 {
    0.97
}

fn default_cfg_layers() -> Vec<i32> {
    vec![0]
}

/// How far below 1 certainty goes where variety is at its most.
const MOST_DOUBT: f32 = 0.2;

impl GenerateSpec {
    /// How different the pictures of one prompt may be, 0 to 1: [`certainty`](Self::certainty) from none down to 0.8.
    pub fn variety(&self) -> f32 {
        let doubt = 1.0 - self.certainty.unwrap_or(1.0);
        (doubt / MOST_DOUBT).clamp(0.0, 1.0)
    }

    /// Sets it.
    pub fn set_variety(&mut self, variety: f32) {
        let variety = variety.clamp(0.0, 1.0);
        self.certainty = (variety > 0.0).then_some(1.0 - MOST_DOUBT * variety);
    }

    /// A square picture of `prompt` with the usual settings.
    pub fn new(prompt: impl Into<String>, seed: u64) -> Self {
        Self {
            prompt: prompt.into(),
            negative_prompt: String::new(),
            detail_prompt: String::new(),
            detail_from: 0,
            ratio: 1.0,
            scale_count: None,
            cfg: vec![3.0],
            tau: vec![0.5],
            certainty: None,
            top_k: default_top_k(),
            top_p: default_top_p(),
            cfg_insertion_layers: default_cfg_layers(),
            half_products: false,
            seed,
            keep: 0,
            bits: None,
            loras: Vec::new(),
        }
    }
}
