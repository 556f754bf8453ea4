//! Variety against following: temperatures, fixed, higher at the first scales, and raised until the model is no surer
//! than it should be.

use serde::Serialize;

use super::table::spread;
use super::{Effort, Table};
use crate::api::EngineError;
use crate::eval::{EvalSpec, Variety, followed};
use crate::generate::Bundle;
use crate::schedule::MAX_SCALES;

/// Seeds of every arm.
const SEEDS: u64 = 3;

/// One way of drawing.
#[derive(Clone, Debug, Serialize)]
pub struct VarietyArm {
    /// What is done.
    pub name: String,
    /// Share of seen and held-out prompts followed, by seed.
    pub followed: Vec<f32>,
    /// How often pairs of pictures differ in what a prompt leaves free, as a share of how often painted ones do,
    /// mean over attributes, by seed.
    pub variety: Vec<f32>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct VarietyReport {
    /// Name of the model.
    pub model: String,
    /// Ways of drawing.
    pub arms: Vec<VarietyArm>,
}

/// Temperatures of the first scales, then the rest.
fn loose_start(first: f32, scales: usize, rest: f32) -> Vec<f32> {
    (0..MAX_SCALES)
        .map(|index| if index < scales { first } else { rest })
        .collect()
}

fn arms(own: f32) -> Vec<(String, Vec<f32>, Option<f32>)> {
    let fixed = |tau: f32| (format!("tau {tau}"), vec![tau], None);
    let start = |first: f32, scales: usize| {
        let name = format!("tau {first} at the first {scales} scales, then {own}");
        (name, loose_start(first, scales, own), None)
    };
    let sure = |certainty: f32| {
        let name = format!("tau {own}, certainty at most {certainty}");
        (name, vec![own], Some(certainty))
    };
    vec![
        fixed(0.3),
        fixed(own),
        fixed(1.0),
        start(1.0, 2),
        start(1.5, 2),
        sure(0.95),
        sure(0.9),
        sure(0.85),
    ]
}

impl VarietyReport {
    /// Draws in all ways; `progress` hears of each.
    ///
    /// # Errors
    /// What drawing returns.
    pub fn measure(
        bundle: &Bundle,
        effort: Effort,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, EngineError> {
        let (seeds, prompts) = if effort.is_quick() {
            (1, 2)
        } else {
            (SEEDS, 8)
        };
        let loose: Vec<Variety> = (0..seeds)
            .map(|seed| Variety::new(effort.seed + seed, prompts))
            .collect();
        let mut done = Vec::new();
        for (name, tau, certainty) in arms(bundle.info.tau) {
            progress(&name);
            let mut arm = VarietyArm {
                name,
                followed: Vec::new(),
                variety: Vec::new(),
            };
            for (seed, loose) in (0..).zip(&loose) {
                let spec = EvalSpec {
                    tau: tau.clone(),
                    certainty,
                    ..EvalSpec::new(effort.cases, effort.seed + seed)
                };
                arm.followed.push(followed(bundle, &spec)?);
                let rows = loose.measure(bundle, &spec)?;
                let shares = rows.iter().map(|row| row.drawn / row.painted);
                arm.variety
                    .push(shares.sum::<f32>() / rows.len().max(1) as f32);
            }
            done.push(arm);
        }
        Ok(Self {
            model: bundle.info.name.clone(),
            arms: done,
        })
    }
}

impl std::fmt::Display for VarietyReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new(["", "followed", "variety, of the painter's"]);
        for arm in &self.arms {
            table.row([
                arm.name.clone(),
                spread(&arm.followed, 3),
                spread(&arm.variety, 3),
            ]);
        }
        write!(f, "{table}")
    }
}
