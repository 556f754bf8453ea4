//! Training: the picture tokenizer, then the transformer with its text encoder.
//!
//! A run is a pure function of its configuration: batch, drops and flips of an
//! update depend on the seed and the update's number alone. Stopping and going
//! on is therefore the same as not having stopped.

pub mod checkpoint;
pub mod config;
pub(crate) mod course;
pub mod feed;
pub mod optimizer;
pub mod parallel;
pub mod report;
pub mod self_correction;
mod teacher;
pub mod text_probe;
pub mod transformer;
pub mod transformer_loss;
pub mod vae;
pub mod vae_loss;

use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;

pub use config::TrainConfig;

use crate::api::{EngineError, MemoryNeed, Rgb8Image};
use crate::device::OpenDevice;
use crate::model::ModelConfig;
use crate::postcards::{Caption, Postcard, Split};
use crate::vae::{Vae, VaeConfig};
use crate::weights::{
    Defaults, KeyMap, ModelFolder, ModelJson, Network, SaveType, WeightFile, load_into, save,
};

/// When a run stops before its phases end, and whether it goes on from a checkpoint.
pub struct Limits<'a> {
    /// Go on from the checkpoint in the output folder.
    pub resume: bool,
    /// Stop, with a checkpoint, at this time.
    pub until: Option<Instant>,
    /// Asked after every update.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl Limits<'_> {
    /// Whether it is time to stop.
    pub(crate) fn reached(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until) || (self.cancelled)()
    }
}

/// What a run tells while it runs.
#[derive(Clone, Debug)]
pub enum Progress {
    /// An update was made.
    Step,
    /// A fine-tuning run is about to start as it fits in memory.
    Fitted {
        /// What it takes.
        memory: MemoryNeed,
        /// What was changed, each a sentence for the user.
        notes: Vec<String>,
    },
    /// A log line.
    Line(report::LogLine),
    /// Sample pictures of a fine-tuning run.
    Samples {
        /// Updates made.
        step: u64,
        /// What was asked for.
        prompts: Vec<String>,
        /// A picture for each.
        images: Vec<Rgb8Image>,
    },
    /// The text encoder is learning captions.
    Captions {
        /// Updates made.
        step: u64,
        /// Mean cross entropy of the answers.
        loss: f32,
        /// Share of questions answered right.
        right: f32,
    },
}

/// Writes the weights of a network in half precision.
fn save_network(network: &mut impl Network, path: &Path) -> Result<(), EngineError> {
    save(
        network,
        path,
        SaveType::F16,
        &std::collections::BTreeMap::new(),
    )
}

/// Prompts that the starter draws for lessons.
const PRACTICE: u64 = 48;

/// What `model.json` says of a model trained on postcards.
fn starter_description(
    transformer: &ModelConfig,
    vae: &Vae,
    scale_count: usize,
) -> Result<ModelJson, EngineError> {
    let value = |result: serde_json::Result<serde_json::Value>| {
        result.map_err(|error| EngineError::internal(error.to_string()))
    };
    let mut description = ModelJson::new(
        "Starter (postcards)",
        Defaults {
            cfg: 3.0,
            tau: 0.6,
            scale_count,
        },
        value(serde_json::to_value(transformer))?,
        value(serde_json::to_value(&vae.config))?,
    );
    description.about = "This small model draws flat postcards: a sky, a land, a sun or moon, and a house, tree, boat, balloon or lighthouse.".to_owned();
    description.example_prompts = [
        "at sunset, orange hills, a white house on the left, a red sun on the right",
        "blue sea, a red boat in the center, a yellow sun on the left, in daylight",
        "green mountains, two purple trees, a white moon on the right, at night, stars",
        "a postcard of a yellow balloon above green hills",
    ]
    .map(str::to_owned)
    .to_vec();
    description.practice_prompts = (0..PRACTICE)
        .map(|seed| Caption::sample(&Postcard::sample(9000 + seed, Split::Train), seed).text)
        .collect();
    Ok(description)
}

/// Trains what `config` says into the folder `out`, which is made.
///
/// # Errors
/// [`EngineError::BadSetting`] for a configuration without sense, file errors with their
/// path, [`EngineError::NotFinite`] when the loss diverges.
pub fn run(
    config: &TrainConfig,
    device: &OpenDevice,
    out: &Path,
    limits: &Limits<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), EngineError> {
    std::fs::create_dir_all(out).map_err(|error| EngineError::write(out, error))?;
    let device = &device.device;
    match config {
        TrainConfig::Vae {
            seed,
            start,
            vae,
            loss,
            optimizer,
            phases,
            log_every,
            save_every,
        } => {
            let run = vae::VaeRun {
                seed: *seed,
                start: start.as_deref(),
                vae,
                world: Postcard::learned,
                loss,
                optimizer,
                phases,
                log_every: (*log_every).max(1),
                save_every: (*save_every).max(1),
            };
            vae::run(&run, device, out, limits, progress).map(|_| ())
        }
        TrainConfig::Transformer {
            seed,
            vae_folder,
            start,
            mean_with,
            transformer,
            text,
            loss,
            optimizer,
            phases,
            log_every,
            save_every,
        } => {
            let vae = open_vae(vae_folder, device)?;
            let run = transformer::TransformerRun {
                seed: *seed,
                start: start.as_deref(),
                mean_with: mean_with.as_deref(),
                vae: &vae,
                transformer,
                text,
                loss,
                optimizer,
                phases,
                log_every: (*log_every).max(1),
                save_every: (*save_every).max(1),
            };
            transformer::run(&run, device, out, limits, progress)
        }
    }
}

/// The tokenizer of a finished tokenizer run, or of a model folder.
///
/// # Errors
/// [`EngineError::Read`], [`EngineError::BadModel`] or [`EngineError::BadWeights`], naming the file.
pub fn open_vae(folder: &Path, device: &Device) -> Result<Vae, EngineError> {
    let sizes = folder.join("vae.json");
    let config: VaeConfig = if sizes.exists() {
        let text =
            std::fs::read_to_string(&sizes).map_err(|error| EngineError::read(&sizes, error))?;
        serde_json::from_str(&text)
            .map_err(|error| EngineError::bad_model(&sizes, error.to_string()))?
    } else {
        ModelFolder::open(folder)?.vae_config()?
    };
    config.check()?;
    let mut vae = Vae::new(&config, device, usize::MAX);
    load_into(
        &mut vae,
        &WeightFile::open(folder.join("vae.safetensors"))?,
        &KeyMap::vae(),
        device,
    )?;
    Ok(vae)
}

pub(crate) fn refuse_other_network(path: &Path, wrong: Vec<String>) -> Result<(), EngineError> {
    if wrong.is_empty() {
        return Ok(());
    }
    Err(EngineError::BadWeights {
        problems: crate::api::KeyProblems {
            misshapen: wrong,
            ..Default::default()
        },
        path: path.to_owned(),
    })
}
