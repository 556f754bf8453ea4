//! What the app may ask.

use std::path::PathBuf;

use super::{GenerateSpec, TuneWish};

/// Number of a job, unique within one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// What the app may ask. Requests are served one after the other, in their order.
#[derive(Clone, Debug)]
pub enum Request {
    /// Load the model in this folder; answers `ModelLoaded` or `ModelFailed`.
    LoadModel {
        /// The model folder.
        folder: PathBuf,
    },
    /// Do a job; answers `Started` and in the end `ImageDone`, `TaskDone`, `Cancelled` or `Failed`.
    Run {
        /// Its number, carried by every event of the job.
        job: JobId,
        /// What to do.
        task: Task,
    },
}

/// A job of the engine.
#[derive(Clone, Debug)]
pub enum Task {
    /// Draw one picture; streams `ScaleDone` per scale, then `ImageDone`.
    Generate(GenerateSpec),
    /// Look through a folder of pictures; answers `PicturesFound`.
    LookThrough {
        /// The folder.
        folder: PathBuf,
        /// Word that calls up what is learned from them; empty for none.
        trigger: String,
    },
    /// Teach the model the pictures of a folder; streams `TuneStepDone` and `TuneSamples`, then `TuneDone`.
    ///
    /// Stopping it keeps what was learned so far.
    Tune(TuneWish),
}
