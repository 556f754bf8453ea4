//! What the app may ask.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{GenerateSpec, Source, TuneWish};

/// Number of a job, unique within one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// What the app may ask. Requests are served one after the other, in their order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Load the model in this folder; answers `ModelLoaded` or `ModelFailed`.
    LoadModel {
        /// The model folder.
        folder: PathBuf,
    },
    /// Do a job; answers with events of this number, in the end with its result, `Cancelled` or `Failed`.
    Run {
        /// Its number, carried by every event of the job.
        job: JobId,
        /// What to do.
        task: Box<Task>,
    },
}

/// A job of the engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// Draw one picture; streams `ScaleDone` per scale, then `ImageDone`.
    Generate(GenerateSpec),
    /// Draw one picture from another: its first scales are kept, or all that lies outside of a mask.
    ///
    /// The picture gets the shape of its source. The bits of the wish, when it has any, are taken for
    /// the source's, else the source is encoded. Answers as [`Self::Generate`].
    GenerateFrom {
        /// What to draw.
        spec: GenerateSpec,
        /// What to start from.
        source: Source,
    },
    /// Draw the first scales of several pictures, whose seeds follow each other; streams `DraftDone`, then `DraftsDone`.
    Drafts {
        /// What to draw.
        spec: GenerateSpec,
        /// How many.
        count: usize,
        /// How many scales of each.
        scales: usize,
    },
    /// Make the pictures of all scales of a finished picture again, from its bits alone; answers `Rebuilt`.
    Rebuild(GenerateSpec),
    /// Look through a folder of pictures; answers `PicturesFound`.
    LookThrough {
        /// The folder.
        folder: PathBuf,
        /// Word that calls up what is learned from them; empty for none.
        trigger: String,
        /// Scales that they would be learned at; the model's usual number when `None`.
        scale_count: Option<usize>,
    },
    /// Teach the model the pictures of a folder; streams `TuneStepDone` and `TuneSamples`, then `TuneDone`.
    ///
    /// Stopping it keeps what was learned so far.
    Tune(TuneWish),
}
