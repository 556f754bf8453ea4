//! What small networks of a study are measured by.

use serde::Serialize;

use super::table::spread;

/// What was measured of a transformer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exam {
    /// Cross entropy per bit on pictures that were not learned from, in nats, weighted by scale as in training.
    pub(super) loss: f32,
    /// Share of prompts followed.
    pub(super) followed: f32,
    /// Share of named attributes found.
    pub(super) found: f32,
    /// Fréchet distance of the drawn pictures to painted ones.
    pub(super) frechet: f32,
    /// Peak signal-to-noise ratio between pictures drawn with flipped bits and without, in dB.
    pub(super) recovery: f32,
    /// Share of named attributes found although bits were flipped.
    pub(super) found_flipped: f32,
}

impl std::fmt::Display for Exam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            loss,
            followed,
            found,
            ..
        } = self;
        write!(
            f,
            "loss {loss:.4}, followed {followed:.2}, attributes found {found:.3}"
        )
    }
}

/// What was measured of an arm, by run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Runs {
    /// Cross entropy per bit on pictures that were not learned from, in nats.
    pub loss: Vec<f32>,
    /// Share of prompts followed.
    pub followed: Vec<f32>,
    /// Share of named attributes found.
    pub found: Vec<f32>,
}

impl Runs {
    /// What stands above [`cells`](Self::cells).
    pub(super) const HEAD: [&str; 3] = ["loss per bit", "followed", "attributes found"];

    pub(super) fn push(&mut self, exam: &Exam) {
        self.loss.push(exam.loss);
        self.followed.push(exam.followed);
        self.found.push(exam.found);
    }

    pub(super) fn cells(&self) -> [String; 3] {
        [
            spread(&self.loss, 4),
            spread(&self.followed, 2),
            spread(&self.found, 3),
        ]
    }
}
