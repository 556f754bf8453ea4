//! The single things the window's state is made of.

use std::path::PathBuf;

use infinity_engine::api::{Doubt, GenerateSpec, JobId, Rgb8Image, Stage};

use super::family::Ancestor;

/// What the controls say; becomes a [`GenerateSpec`] when drawn.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The wish, with one value for cfg and tau.
    pub spec: GenerateSpec,
    /// Whether every picture gets a new seed.
    pub roll_seed: bool,
    /// LoRAs of the wish that are off for the moment.
    pub loras_off: Vec<std::path::PathBuf>,
}

/// The picture being drawn.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its job.
    pub job: JobId,
    /// Token grids `(height, width)`, coarse to fine.
    pub schedule: Vec<(usize, usize)>,
    /// Size of the finished picture in pixels, `(width, height)`.
    pub size_px: (u32, u32),
    /// Where the engine is.
    pub stage: Option<Stage>,
    /// The scales drawn so far.
    pub scales: Vec<Rgb8Image>,
    /// When it left the queue, in seconds of [`super::UiState::now`].
    pub started_at: f64,
    /// Whether the user has asked to stop it.
    pub stopping: bool,
}

impl Work {
    /// Scale being drawn, from 1, and how many there are.
    pub fn scale_of(&self) -> (usize, usize) {
        let count = self.schedule.len();
        (
            (self.scales.len() + 1).min(count.max(1)),
            count.max(self.scales.len()),
        )
    }

    /// Share of the work that is done, 0–1, by the number of tokens.
    pub fn share_done(&self) -> f32 {
        let tokens = |grids: &[(usize, usize)]| grids.iter().map(|(h, w)| h * w).sum::<usize>();
        let all = tokens(&self.schedule).max(1);
        // Every scale costs something besides its tokens.
        let each = all as f32 / 4.0 / self.schedule.len().max(1) as f32;
        let done = self.scales.len().min(self.schedule.len());
        let part = tokens(&self.schedule[..done]) as f32 + each * done as f32;
        part / (all as f32 + each * self.schedule.len() as f32).max(1.0)
    }
}

/// Whether a picture is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// Only in this window.
    No,
    /// Being written.
    Writing,
    /// In this file.
    In(PathBuf),
}

/// A finished picture.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The job that drew it.
    pub job: JobId,
    /// The picture.
    pub image: Rgb8Image,
    /// The wish it fulfils, as carried out.
    pub spec: GenerateSpec,
    /// Name of the model that drew it.
    pub model: String,
    /// Token grids `(height, width)`, coarse to fine.
    pub schedule: Vec<(usize, usize)>,
    /// Its scales, coarse to fine; empty for old pictures.
    pub scales: Vec<Rgb8Image>,
    /// Seconds it took.
    pub elapsed_secs: f32,
    /// Whether it is on disk.
    pub saved: Saved,
    /// Where its bits were uncertain, when it was drawn in this session.
    pub doubt: Option<Doubt>,
    /// The pictures it came from, nearest first.
    pub ancestors: Vec<Ancestor>,
    /// The nearest of them in the list of this session.
    pub parent: Option<JobId>,
}

impl Picture {
    /// A name for people: its file, or its number in this session.
    pub fn name(&self) -> String {
        match &self.saved {
            Saved::In(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                name.to_string_lossy().into_owned()
            }
            Saved::No | Saved::Writing => format!("picture {}", self.job.0),
        }
    }

    /// Whether it was drawn by a model, as opposed to any picture from a file.
    pub fn is_drawn(&self) -> bool {
        self.spec.bits.is_some()
    }
}

/// How serious a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Good to know.
    Note,
    /// Something was not done, or failed.
    Trouble,
}

/// A sentence for the user: what happened, to what, what to do.
#[derive(Clone, Debug)]
pub struct Message {
    /// Tells messages apart.
    pub id: u64,
    /// How serious it is.
    pub tone: Tone,
    /// The sentence.
    pub text: String,
}
