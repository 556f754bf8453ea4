//! Teaching the model one's own pictures, as the window sees it.

use std::path::PathBuf;

use infinity_engine::api::{
    Event, Finding, FoundPicture, JobId, Rgb8Image, TuneRates, TuneStep, TuneWish,
};

/// Rows of samples that are kept.
const KEPT_SAMPLES: usize = 8;

/// How much is to be learned, in three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A few minutes, to see whether it goes anywhere.
    QuickLook,
    /// How pictures look.
    Style,
    /// A thing.
    Subject,
}

impl Preset {
    /// All presets, quickest first.
    pub const ALL: [Self; 3] = [Self::QuickLook, Self::Style, Self::Subject];

    /// The word on the button.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QuickLook => "Quick look",
            Self::Style => "Style",
            Self::Subject => "Subject",
        }
    }

    /// What it is for.
    pub const fn about(self) -> &'static str {
        match self {
            Self::QuickLook => "100 steps: a first impression.",
            Self::Style => "300 steps: how your pictures look, on everything the model draws.",
            Self::Subject => {
                "300 large steps: a thing the model should draw by its name; its pictures are learned mirrored as well."
            }
        }
    }

    /// Puts its settings into `wish`; the size of pictures and self-correction stay as they are.
    pub fn set(self, wish: &mut TuneWish) {
        let usual = TuneWish::default();
        (wish.steps, wish.learning_rate, wish.rank) = match self {
            Self::QuickLook => (100, usual.learning_rate, 8),
            Self::Style => (300, 2.5e-3, 16),
            Self::Subject => (300, 1e-2, 48),
        };
        // What taught windmills and a style best (docs/finetune.md).
        let layers = |parts: &[&str]| parts.iter().map(|&part| part.to_owned()).collect();
        (wish.batch, wish.layers, wish.caption_drop, wish.prior) = match self {
            Self::Subject => (20, layers(&TuneWish::LAYERS[..3]), 0.0, 0.33),
            // A style is for everything: the model's own pictures would hold it back, and what is where is not to change.
            Self::Style => (16, layers(&TuneWish::LAYERS[2..]), 0.15, 0.0),
            Self::QuickLook => (usual.batch, usual.layers, usual.caption_drop, usual.prior),
        };
        (wish.alpha, wish.part_drop) = (None, 0.0);
        wish.views = if self == Self::Style { 8 } else { usual.views };
        wish.mirror = matches!(self, Self::Subject);
        wish.save_every = (wish.steps / 6).max(10);
    }

    /// The preset whose settings these are.
    pub fn of(wish: &TuneWish) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| {
            let mut own = wish.clone();
            preset.set(&mut own);
            own == *wish
        })
    }
}

/// What was found in a folder.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Pictures to learn from.
    pub pictures: Vec<FoundPicture>,
    /// What is wrong with some.
    pub findings: Vec<Finding>,
    /// What a lesson takes.
    pub rates: TuneRates,
}

/// A teaching job, running or over.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// Its job.
    pub job: JobId,
    /// Every step told so far.
    pub steps: Vec<TuneStep>,
    /// The prompts of the samples.
    pub prompts: Vec<String>,
    /// Updates made and the pictures drawn then.
    pub samples: Vec<(u64, Vec<Rgb8Image>)>,
    /// Whether the user has asked to stop it.
    pub stopping: bool,
    /// Whether it waits.
    pub paused: bool,
    /// Whether it goes on.
    pub running: bool,
    /// What it takes in memory, in bytes.
    pub memory: Option<u64>,
    /// What was changed so that it fits, each a sentence.
    pub notes: Vec<String>,
    /// Updates made in all and asked for, when it is over.
    pub done: Option<(u64, u64)>,
}

/// Bits of a picture right beyond this share are known by heart.
const BY_HEART: f32 = 0.985;
/// Steps told that are looked at.
const LOOKED_AT: usize = 5;

impl Lesson {
    /// A lesson that was just asked for.
    pub fn new(job: JobId) -> Self {
        Self {
            job,
            steps: Vec::new(),
            prompts: Vec::new(),
            samples: Vec::new(),
            stopping: false,
            paused: false,
            running: true,
            memory: None,
            notes: Vec::new(),
            done: None,
        }
    }

    /// Whether the pictures are known by heart, so that more steps only copy them: nearly all bits are right, over
    /// the last steps told and all scales.
    pub fn is_overfit(&self) -> bool {
        let last = self.steps.iter().rev().take(LOOKED_AT);
        let bits: Vec<f32> = last
            .flat_map(|step| step.bit_accuracy.iter().copied())
            .collect();
        self.steps.len() >= LOOKED_AT
            && !bits.is_empty()
            && bits.iter().sum::<f32>() / bits.len() as f32 > BY_HEART
    }
}

/// All about teaching.
#[derive(Clone, Debug)]
pub struct Teach {
    /// Whether the window shows it.
    pub open: bool,
    /// What the controls say.
    pub wish: TuneWish,
    /// The job that looks through the folder.
    pub looking: Option<JobId>,
    /// What is in the folder.
    pub found: Option<Found>,
    /// The last teaching job.
    pub lesson: Option<Lesson>,
}

impl Default for Teach {
    /// Nothing yet, set to learn a thing.
    fn default() -> Self {
        let mut wish = TuneWish::default();
        Preset::Subject.set(&mut wish);
        Self {
            open: false,
            wish,
            looking: None,
            found: None,
            lesson: None,
        }
    }
}

impl Teach {
    /// Whether the engine is teaching.
    pub fn is_running(&self) -> bool {
        self.lesson.as_ref().is_some_and(|lesson| lesson.running)
    }

    /// Takes in what the engine tells; gives the file of a LoRA that is finished.
    pub(super) fn apply(&mut self, event: &Event) -> Option<PathBuf> {
        match event {
            Event::PicturesFound {
                job,
                pictures,
                findings,
                rates,
            } if self.looking == Some(*job) => {
                self.looking = None;
                self.found = Some(Found {
                    pictures: pictures.clone(),
                    findings: findings.clone(),
                    rates: rates.clone(),
                });
            }
            Event::TuneFitted { job, memory, notes } => {
                if let Some(lesson) = self.lesson_of(*job) {
                    lesson.memory = Some(memory.bytes());
                    lesson.notes.clone_from(notes);
                }
            }
            Event::TuneStepDone { job, step } => {
                if let Some(lesson) = self.lesson_of(*job) {
                    lesson.steps.push(step.clone());
                }
            }
            Event::TuneSamples {
                job,
                step,
                prompts,
                images,
            } => {
                if let Some(lesson) = self.lesson_of(*job) {
                    lesson.prompts.clone_from(prompts);
                    lesson.samples.retain(|(known, _)| known != step);
                    lesson.samples.push((*step, images.clone()));
                    if lesson.samples.len() > KEPT_SAMPLES {
                        // The first stays to compare with.
                        lesson.samples.remove(1);
                    }
                }
            }
            Event::TuneDone {
                job,
                path,
                step,
                steps,
            } => {
                let lesson = self.lesson_of(*job)?;
                lesson.running = false;
                lesson.done = Some((*step, *steps));
                return Some(path.clone());
            }
            Event::Cancelled { job } | Event::Failed { job, .. } => {
                if self.looking == Some(*job) {
                    self.looking = None;
                    self.found = None;
                }
                if let Some(lesson) = self.lesson_of(*job) {
                    lesson.running = false;
                }
            }
            _ => {}
        }
        None
    }

    fn lesson_of(&mut self, job: JobId) -> Option<&mut Lesson> {
        self.lesson.as_mut().filter(|lesson| lesson.job == job)
    }
}

#[cfg(test)]
mod tests {
    use super::{JobId, Lesson, Preset, TuneStep, TuneWish};

    #[test]
    fn pictures_known_by_heart_are_noticed() {
        let lesson = |share: f32| Lesson {
            steps: vec![
                TuneStep {
                    bit_accuracy: vec![share; 5],
                    ..TuneStep::default()
                };
                6
            ],
            ..Lesson::new(JobId(1))
        };
        assert!(lesson(0.99).is_overfit() && !lesson(0.95).is_overfit());
        assert!(!Lesson::new(JobId(1)).is_overfit());
    }

    #[test]
    fn presets_are_recognised() {
        for preset in Preset::ALL {
            let mut wish = TuneWish::default();
            preset.set(&mut wish);
            assert_eq!(Preset::of(&wish), Some(preset));
            wish.steps += 1;
            assert_eq!(Preset::of(&wish), None);
        }
    }
}
