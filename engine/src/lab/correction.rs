//! Is bitwise self-correction worth it? Teacher forcing, flips alone, and flips that the next scales mend, each from
//! nothing and with the same budget (Infinity, arXiv 2412.04431, table 6).

use serde::Serialize;

use super::exam::{Exam, Runs};
use super::school::{Budget, World, small};
use super::table::spread;
use super::{Effort, Table};
use crate::api::EngineError;
use crate::generate::Bundle;
use crate::model::Transformer;
use crate::random::Stream;
use crate::train::self_correction::{Lesson, flip_at_random, lesson_without_correction};

/// Largest share of flipped bits, as the paper has it.
const STRENGTH: f32 = 0.3;

/// One way of training, by run.
#[derive(Clone, Debug, Serialize)]
pub struct CorrectionArm {
    /// What is done.
    pub name: String,
    /// What every run came to.
    #[serde(flatten)]
    pub runs: Runs,
    /// Fréchet distance to painted pictures.
    pub frechet: Vec<f32>,
    /// Likeness of pictures drawn with a tenth of the first bits flipped to those without, in dB.
    pub recovery: Vec<f32>,
    /// Share of named attributes found with flips.
    pub found_flipped: Vec<f32>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct CorrectionReport {
    /// Pictures that every run learned from.
    pub pictures: u64,
    /// Ways of training.
    pub arms: Vec<CorrectionArm>,
}

#[derive(Clone, Copy)]
enum Way {
    Forced,
    FlippedAlone,
    Corrected,
}

impl Way {
    const ALL: [(Self, &str); 3] = [
        (Self::Forced, "teacher forcing"),
        (Self::FlippedAlone, "flips alone"),
        (Self::Corrected, "self-correction"),
    ];

    fn lesson(self, world: &World<'_>, features: &[f32], stream: Stream) -> Lesson {
        let scales = &world.schedule().scales;
        let flip = flip_at_random(STRENGTH, scales.len(), stream);
        match self {
            Self::Forced => world.lesson(features, |_, _| ()),
            Self::FlippedAlone => lesson_without_correction(features, world.d(), scales, flip),
            Self::Corrected => world.lesson(features, flip),
        }
    }
}

impl CorrectionReport {
    /// Trains and asks all arms with the texts and the tokenizer of `bundle`; `progress` hears of each.
    ///
    /// # Errors
    /// What training and drawing return.
    pub fn measure(
        bundle: &Bundle,
        effort: Effort,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, EngineError> {
        let budget = Budget::of(effort);
        let world = World::new(bundle, &bundle.vae, budget, effort.seed)?;
        let config = small(4, 4, bundle, bundle.vae.config.codebook_dim);
        let mut arms = Vec::new();
        for (way, name) in Way::ALL {
            let mut exams = Vec::new();
            let mut runs = Runs::default();
            for run in 0..budget.runs {
                progress(&format!("{name}, run {} of {}", run + 1, budget.runs));
                let make = |device: &_| Transformer::new(&config, device, usize::MAX);
                let teach = |features: &[f32], stream| way.lesson(&world, features, stream);
                let pupil = world.train(budget, effort.seed + run, make, teach)?;
                let exam = world.examine(&pupil, true)?;
                progress(&exam.to_string());
                runs.push(&exam);
                exams.push(exam);
            }
            let all = |value: fn(&Exam) -> f32| exams.iter().map(value).collect();
            arms.push(CorrectionArm {
                name: name.to_owned(),
                runs,
                frechet: all(|exam| exam.frechet),
                recovery: all(|exam| exam.recovery),
                found_flipped: all(|exam| exam.found_flipped),
            });
        }
        Ok(Self {
            pictures: budget.pictures(),
            arms,
        })
    }
}

impl std::fmt::Display for CorrectionReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last = [
            "Fréchet distance",
            "recovery, dB",
            "attributes found with flips",
        ];
        let mut table = Table::new([""].into_iter().chain(Runs::HEAD).chain(last));
        for arm in &self.arms {
            let last = [
                spread(&arm.frechet, 3),
                spread(&arm.recovery, 1),
                spread(&arm.found_flipped, 3),
            ];
            let name = [arm.name.clone()].into_iter();
            table.row(name.chain(arm.runs.cells()).chain(last));
        }
        write!(f, "{} pictures a run:\n\n{table}", self.pictures)
    }
}
