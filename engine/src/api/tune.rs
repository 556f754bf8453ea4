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
    /// Numerator of the scale `alpha / rank`; the rank when `None`.
    pub alpha: Option<f32>,
    /// Parts of the names of layers that learn, of [`TuneWish::LAYERS`].
    pub layers: Vec<String>,
    /// Learning rate.
    pub learning_rate: f32,
    /// Scales that the pictures are learned at, and so their size; the model's usual number when `None`.
    pub scale_count: Option<usize>,
    /// Largest share of bits flipped per scale (bitwise self-correction).
    pub flip_strength: f32,
    /// Number of first scales in which bits are flipped; never the last.
    pub flip_scales: usize,
    /// Views of each picture that are learned beside it, a little larger and cut to one side.
    pub views: usize,
    /// Whether each picture is learned mirrored as well, with left and right changed in its caption.
    pub mirror: bool,
    /// Chance that a caption is replaced by "no text".
    pub caption_drop: f32,
    /// Chance that a part of a caption, between commas, is left out and the others change places; 0 for captions as
    /// they are.
    pub part_drop: f32,
    /// Share of pictures that the model drew itself, so that it does not forget.
    pub prior: f32,
    /// Seed of everything random.
    pub seed: u64,
    /// Updates between samples.
    pub save_every: u64,
}

impl TuneWish {
    /// Parts of the names of self attention, attention to the text, feed-forward layers and the last one, which says
    /// the bits.
    pub const LAYERS: [&str; 4] = ["sa.", "ca.", "ffn.", "head"];
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
            alpha: None,
            layers: Self::LAYERS[1..3]
                .iter()
                .map(|&part| part.to_owned())
                .collect(),
            learning_rate: 2e-3,
            scale_count: None,
            flip_strength: 0.2,
            flip_scales: 13,
            views: 4,
            mirror: false,
            caption_drop: 0.1,
            part_drop: 0.0,
            prior: 0.3,
            seed: 1,
            save_every: 50,
        }
    }
}

/// What lessons of a model take on this device, per piece of a wish.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TuneRates {
    /// Seconds per picture of an update, measured; `None` where even one picture does not fit.
    pub secs_per_picture: Option<f32>,
    /// Bytes whatever the wish: the model.
    pub fixed_bytes: u64,
    /// Bytes per row of the thin matrices.
    pub rank_bytes: u64,
    /// Bytes per picture of an update, when blocks are kept for the gradient and when they are computed again.
    pub picture_bytes: [u64; 2],
    /// Memory there is for it, in bytes; `None` when unknown.
    pub free: Option<u64>,
}

impl TuneRates {
    /// Seconds that the updates of `wish` take together; samples come on top.
    pub fn secs(&self, wish: &TuneWish) -> Option<f32> {
        let pictures = wish.steps as f32 * wish.batch as f32;
        // A picture of the model's own is looked at once more, by the model as it was: forward, a third of an update.
        let looks = 1.0 + wish.prior / 3.0;
        self.secs_per_picture.map(|secs| secs * pictures * looks)
    }

    /// Bytes that `wish` takes: blocks are computed again where they cannot be kept.
    pub fn bytes(&self, wish: &TuneWish) -> u64 {
        let [kept, again] = self.picture_bytes.map(|bytes| {
            self.fixed_bytes + self.rank_bytes * wish.rank as u64 + bytes * wish.batch as u64
        });
        match self.free {
            Some(free) if kept > free => again,
            _ => kept,
        }
    }

    /// Whether `wish` fits as it is.
    pub fn fits(&self, wish: &TuneWish) -> bool {
        self.free.is_none_or(|free| self.bytes(wish) <= free)
    }
}

/// A picture that can be learned from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoundPicture {
    /// Its file.
    pub path: PathBuf,
    /// The words beside it.
    pub words: String,
    /// What it is learned by: the words and the trigger word.
    pub caption: String,
    /// How often it counts.
    pub repeats: usize,
    /// Its size in the file, `(width, height)`.
    pub original: (u32, u32),
    /// As it is learned: scaled and cut.
    pub image: Rgb8Image,
}

impl FoundPicture {
    /// The share of the picture that is cut off to get the shape it is learned in.
    pub fn cut(&self) -> f32 {
        let aspect = |width: u32, height: u32| width.max(1) as f32 / height.max(1) as f32;
        let own = aspect(self.original.0, self.original.1);
        let learned = aspect(self.image.width, self.image.height);
        1.0 - (own / learned).min(learned / own)
    }
}

/// Something the artist should know about a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// What is wrong and what to do.
    pub what: String,
    /// Whether the picture is left out.
    pub left_out: bool,
}

/// How far the teaching is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
