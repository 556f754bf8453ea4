//! Teaching a model an artist's own pictures: what is asked, and what is told.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Rgb8Image;

/// The wish for a LoRA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TuneWish {
    /// Folder with the pictures.
    pub data: PathBuf,
    /// Folder of the run; a run that is there already goes on.
    pub out: PathBuf,
    /// Name of the LoRA.
    pub name: String,
    /// Word that calls it up; empty for none.
    pub trigger: String,
    /// Updates.
    pub steps: u64,
    /// Pictures per update.
    pub batch: usize,
    /// Rows of the thin matrices.
    pub rank: usize,
    /// Learning rate.
    pub learning_rate: f32,
    /// Largest share of bits flipped per scale (bitwise self-correction).
    pub flip_strength: f32,
    /// Share of pictures that the model drew itself, so that it does not forget.
    pub prior: f32,
    /// Seed of everything random.
    pub seed: u64,
    /// Updates between samples.
    pub save_every: u64,
}

impl Default for TuneWish {
    fn default() -> Self {
        Self {
            data: PathBuf::new(),
            out: PathBuf::new(),
            name: String::new(),
            trigger: String::new(),
            steps: 300,
            batch: 8,
            rank: 16,
            learning_rate: 2e-3,
            flip_strength: 0.2,
            prior: 0.3,
            seed: 1,
            save_every: 50,
        }
    }
}

/// A picture that can be learned from.
#[derive(Clone, Debug)]
pub struct FoundPicture {
    /// Its file.
    pub path: PathBuf,
    /// The words beside it.
    pub words: String,
    /// What it is learned by: the words and the trigger word.
    pub caption: String,
    /// How often it counts.
    pub repeats: usize,
    /// As it is learned: scaled and cut.
    pub image: Rgb8Image,
}

/// Something the artist should know about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is wrong and what to do.
    pub what: String,
    /// Whether the picture is left out.
    pub left_out: bool,
}

/// How far the teaching is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TuneStep {
    /// Updates made.
    pub step: u64,
    /// Updates there will be.
    pub steps: u64,
    /// Mean loss since the step before.
    pub loss: f32,
    /// Share of bits predicted right, per scale.
    pub bit_accuracy: Vec<f32>,
    /// Pictures per second.
    pub pictures_per_sec: f32,
    /// Seconds to go.
    pub eta_secs: f32,
}
