//! What the engine tells.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    DeviceInfo, EngineError, Finding, FoundPicture, GenerateSpec, JobId, MemoryNeed, ModelInfo,
    Rgb8Image, TuneRates, TuneStep,
};

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Reading the prompt.
    EncodingPrompt,
    /// Drawing the scale with this index, from 0.
    Scale(usize),
    /// Turning the last scale into pixels.
    Decoding,
}

/// How uncertain the bits of a picture were, place by place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Places in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Mean entropy of the bits there, over all drawn scales: 0 certain, 255 a coin toss.
    pub values: Vec<u8>,
}

/// What the engine tells. Every event of a job carries its number, so late ones can be dropped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The device is open.
    DeviceReady {
        /// Which one, and why.
        device: DeviceInfo,
    },
    /// A model is ready to draw.
    ModelLoaded {
        /// What it is.
        model: ModelInfo,
    },
    /// A model could not be loaded; the one before it, if any, is still there.
    ModelFailed {
        /// Why.
        error: EngineError,
    },
    /// A job left the queue.
    Started {
        /// The job.
        job: JobId,
        /// Token grids `(height, width)`, coarse to fine.
        schedule: Vec<(usize, usize)>,
        /// Size of the finished picture in pixels, `(width, height)`.
        size_px: (u32, u32),
        /// Things done otherwise than asked, each a sentence for the user.
        notes: Vec<String>,
    },
    /// A job reached this stage.
    Stage {
        /// The job.
        job: JobId,
        /// Where it is.
        stage: Stage,
    },
    /// A scale is drawn and decoded.
    ScaleDone {
        /// The job.
        job: JobId,
        /// Which scale, from 0.
        scale_index: usize,
        /// How many there are.
        scale_count: usize,
        /// The picture so far; early scales at their own, smaller size, or at a coarser
        /// one's where decoding would take too large a share of the run.
        preview: Rgb8Image,
        /// Seconds since the job started.
        elapsed_secs: f32,
    },
    /// The picture is finished.
    ImageDone {
        /// The job.
        job: JobId,
        /// The finished picture.
        image: Rgb8Image,
        /// The wish it fulfils, as it was carried out (ratio and lists filled in).
        spec: GenerateSpec,
        /// Seconds since the job started.
        elapsed_secs: f32,
        /// Share of that time spent on previews, 0–1.
        preview_share: f32,
        /// Where its bits were uncertain; `None` when no scale was drawn.
        doubt: Option<Doubt>,
    },
    /// The first scales of a picture are drawn.
    DraftDone {
        /// The job.
        job: JobId,
        /// Which draft, from 0.
        index: usize,
        /// The picture so far.
        image: Rgb8Image,
        /// The wish that finishes it: its bits are in it and kept.
        spec: GenerateSpec,
    },
    /// All drafts are drawn.
    DraftsDone {
        /// The job.
        job: JobId,
        /// Seconds since the job started.
        elapsed_secs: f32,
        /// What they cost by the number of tokens, in pictures drawn in one go.
        cost: f32,
    },
    /// The scales of a picture were made again from its bits.
    Rebuilt {
        /// The job.
        job: JobId,
        /// The wish that was asked about.
        spec: GenerateSpec,
        /// Token grids `(height, width)`, coarse to fine.
        schedule: Vec<(usize, usize)>,
        /// A picture per scale; the last one is the finished picture.
        scales: Vec<Rgb8Image>,
    },
    /// A folder was looked through.
    PicturesFound {
        /// The job.
        job: JobId,
        /// Pictures to learn from.
        pictures: Vec<FoundPicture>,
        /// What is wrong with some.
        findings: Vec<Finding>,
        /// What a lesson takes.
        rates: TuneRates,
    },
    /// A lesson starts.
    TuneFitted {
        /// The job.
        job: JobId,
        /// What it takes in memory.
        memory: MemoryNeed,
        /// What was changed so that it fits, each a sentence for the user.
        notes: Vec<String>,
    },
    /// Some updates of a teaching job are made.
    TuneStepDone {
        /// The job.
        job: JobId,
        /// How far it is.
        step: TuneStep,
    },
    /// Pictures of the same prompts and seeds, after so many updates.
    TuneSamples {
        /// The job.
        job: JobId,
        /// Updates made.
        step: u64,
        /// The prompts.
        prompts: Vec<String>,
        /// A picture for each.
        images: Vec<Rgb8Image>,
    },
    /// A LoRA is finished, or was stopped and kept.
    TuneDone {
        /// The job.
        job: JobId,
        /// The file.
        path: PathBuf,
        /// Updates made.
        step: u64,
        /// Updates there were to be.
        steps: u64,
    },
    /// The job was stopped by the user.
    Cancelled {
        /// The job.
        job: JobId,
    },
    /// The job stopped for this reason.
    Failed {
        /// The job.
        job: JobId,
        /// Why; shown to the user.
        error: EngineError,
    },
}

impl Event {
    /// The job that ends with this event.
    pub fn ends(&self) -> Option<JobId> {
        match self {
            Self::ImageDone { job, .. }
            | Self::DraftsDone { job, .. }
            | Self::Rebuilt { job, .. }
            | Self::PicturesFound { job, .. }
            | Self::TuneDone { job, .. }
            | Self::Cancelled { job }
            | Self::Failed { job, .. } => Some(*job),
            Self::DeviceReady { .. }
            | Self::ModelLoaded { .. }
            | Self::ModelFailed { .. }
            | Self::Started { .. }
            | Self::Stage { .. }
            | Self::ScaleDone { .. }
            | Self::DraftDone { .. }
            | Self::TuneFitted { .. }
            | Self::TuneStepDone { .. }
            | Self::TuneSamples { .. } => None,
        }
    }
}
