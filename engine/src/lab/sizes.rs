//! Do larger transformers follow better, and does the loss tell? Three sizes, each from nothing and with the same
//! pictures (Infinity, arXiv 2412.04431, figure 8). No bits are flipped: so short a training follows most without.

use serde::Serialize;

use super::exam::Runs;
use super::school::{Budget, World, small};
use super::table::mean;
use super::{Effort, Table};
use crate::api::EngineError;
use crate::generate::Bundle;
use crate::model::Transformer;
use crate::weights::Network as _;

/// Blocks and heads, each 32 wide.
const SIZES: [(usize, usize); 3] = [(2, 2), (3, 3), (4, 4)];

/// One size, by run.
#[derive(Clone, Debug, Serialize)]
pub struct SizeArm {
    /// Number of blocks.
    pub depth: usize,
    /// Token width.
    pub width: usize,
    /// Values in its weights.
    pub parameters: u64,
    /// What every run came to.
    #[serde(flatten)]
    pub runs: Runs,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct SizesReport {
    /// Pictures that every run learned from.
    pub pictures: u64,
    /// Sizes, small to large.
    pub arms: Vec<SizeArm>,
    /// Pearson's correlation of loss and attributes found, over all runs.
    pub correlation: f32,
}

impl SizesReport {
    /// Trains and asks all sizes with the texts and the tokenizer of `bundle`; `progress` hears of each.
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
        let mut arms = Vec::new();
        for (depth, heads) in SIZES {
            let config = small(depth, heads, bundle, bundle.vae.config.codebook_dim);
            let mut arm = SizeArm {
                depth,
                width: config.width,
                parameters: 0,
                runs: Runs::default(),
            };
            for run in 0..budget.runs {
                let (width, runs) = (config.width, budget.runs);
                progress(&format!(
                    "{depth} blocks of width {width}, run {} of {runs}",
                    run + 1
                ));
                let make = |device: &_| Transformer::new(&config, device, usize::MAX);
                let teach = |features: &[f32], _| world.lesson(features, |_, _| ());
                let mut pupil = world.train(budget, effort.seed + run, make, teach)?;
                let exam = world.examine(&pupil, false)?;
                progress(&exam.to_string());
                arm.parameters = pupil.parameter_count();
                arm.runs.push(&exam);
            }
            arms.push(arm);
        }
        let all = |value: fn(&SizeArm) -> &Vec<f32>| -> Vec<f32> {
            arms.iter().flat_map(value).copied().collect()
        };
        let correlation = correlation(&all(|arm| &arm.runs.loss), &all(|arm| &arm.runs.found));
        Ok(Self {
            pictures: budget.pictures(),
            arms,
            correlation,
        })
    }
}

/// Pearson's correlation; 0 where one side does not vary.
fn correlation(a: &[f32], b: &[f32]) -> f32 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |one: &dyn Fn(f32, f32) -> f32| -> f32 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| one(a - mean_a, b - mean_b)).sum()
    };
    let scale = (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
    if scale > 0.0 {
        sum(&|a, b| a * b) / scale
    } else {
        0.0
    }
}

impl std::fmt::Display for SizesReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = ["blocks", "width", "parameters"];
        let mut table = Table::new(first.into_iter().chain(Runs::HEAD));
        for arm in &self.arms {
            let first = [
                arm.depth.to_string(),
                arm.width.to_string(),
                format!("{:.2} M", arm.parameters as f32 / 1e6),
            ];
            table.row(first.into_iter().chain(arm.runs.cells()));
        }
        write!(
            f,
            "{} pictures a run:\n\n{table}\nCorrelation of loss and attributes found over all runs: {:.3}\n",
            self.pictures, self.correlation
        )
    }
}

#[cfg(test)]
mod tests {
    use super::correlation;

    #[test]
    fn correlation_knows_lines() {
        let x = [1.0, 2.0, 4.0];
        assert!((correlation(&x, &[5.0, 3.0, -1.0]) + 1.0).abs() < 1e-6);
        assert!((correlation(&x, &[2.0, 4.0, 8.0]) - 1.0).abs() < 1e-6);
        assert_eq!(correlation(&x, &[7.0, 7.0, 7.0]), 0.0);
    }
}
