//! Studies: what a model that draws in scales can do, measured on the starter, as tables that anyone can make again.

mod classifier;
mod correction;
mod cost;
mod exam;
mod frechet;
mod measures;
mod powers;
mod recovery;
mod school;
mod sides;
mod sizes;
mod table;
mod tokenizers;
mod variety;
mod vocabulary;

pub use classifier::{ClassifierArm, ClassifierReport};
pub use correction::{CorrectionArm, CorrectionReport};
pub use cost::{Branch, CostReport, Drafts};
pub use exam::Runs;
pub use powers::{Layout, Likeness, Masks, Outpaint, PowersReport};
pub use recovery::{Guidance, GuidanceReport, Recovery, recovery};
pub use sides::{Side, SidesReport};
pub use sizes::{SizeArm, SizesReport};
pub use table::Table;
pub use variety::{VarietyArm, VarietyReport};
pub use vocabulary::{EntropyCost, VocabularyArm, VocabularyReport};

use crate::api::EngineError;
use crate::generate::{Bundle, Outcome, Plan, ScaleView, Texts, Watcher, generate};
use crate::vae::bsq::ResidualSum;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Cases of every arm.
    pub cases: usize,
    /// Seed of cases and pictures.
    pub seed: u64,
    /// Threads that train: [`Effort::WORKERS`] on the processor, where figures depend on their number to the last
    /// digits; 1 on a graphics card.
    pub workers: usize,
    /// How many times the usual number of updates, and of pictures to learn from, studies from nothing get.
    pub times: u64,
}

impl Effort {
    /// Threads that train on the processor, however many cores it has.
    pub const WORKERS: usize = 2;

    /// Enough for the numbers in the documentation.
    pub fn whole(seed: u64) -> Self {
        Self {
            cases: 50,
            ..Self::quick(seed)
        }
    }

    /// Enough to see that every arm runs.
    pub fn quick(seed: u64) -> Self {
        Self {
            cases: 3,
            seed,
            workers: Self::WORKERS,
            times: 1,
        }
    }

    /// Whether it is for seeing that every arm runs.
    fn is_quick(self) -> bool {
        self.cases < 10
    }
}

/// Bits of every scale of one picture.
type ScalesOfBits = Vec<Vec<u8>>;

/// Hears of nothing and keeps the bits.
#[derive(Default)]
struct Bits {
    rows: Vec<ScalesOfBits>,
}

impl Watcher for Bits {
    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        self.rows.resize(view.bits.len(), Vec::new());
        for (row, bits) in self.rows.iter_mut().zip(view.bits) {
            row.push(bits.clone());
        }
        Ok(())
    }
}

/// Draws `plan`; gives sums and bits.
fn drawn(
    bundle: &Bundle,
    texts: &Texts,
    plan: &Plan,
) -> Result<(Vec<ResidualSum>, Vec<ScalesOfBits>), EngineError> {
    let mut bits = Bits::default();
    match generate(bundle.wardrobe(), texts, plan, &mut bits)? {
        Outcome::Done(sums) => Ok((sums, bits.rows)),
        Outcome::Cancelled => Err(EngineError::internal("drawing stopped by nobody")),
    }
}
