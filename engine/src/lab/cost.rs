//! What drafts and branches cost against a picture drawn in one go.

use std::time::Instant;

use serde::Serialize;

use super::{Effort, Table, drawn};
use crate::api::{EngineError, GenerateSpec};
use crate::generate::{Bundle, Plan, Texts};
use crate::kernels;

/// Drafts drawn together.
#[derive(Clone, Debug, Serialize)]
pub struct Drafts {
    /// How many.
    pub count: usize,
    /// Scales of each.
    pub scales: usize,
    /// Milliseconds, decoding included.
    pub ms: f32,
    /// Multiplications of matrix products, in thousands of millions; 0 where they are not counted.
    pub gmul: f32,
    /// Time in pictures drawn in one go.
    pub pictures: f32,
    /// Cost by tokens, in pictures.
    pub by_tokens: f32,
}

/// A picture of which the first scales are given.
#[derive(Clone, Debug, Serialize)]
pub struct Branch {
    /// Scales given.
    pub kept: usize,
    /// Milliseconds, decoding included, when they pass together.
    pub ms: f32,
    /// Milliseconds when they pass one after the other.
    pub one_by_one_ms: f32,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct CostReport {
    /// Name of the model.
    pub model: String,
    /// Milliseconds of a picture drawn in one go, decoding included.
    pub picture_ms: f32,
    /// Multiplications of that picture, in thousands of millions.
    pub picture_gmul: f32,
    /// Drafts.
    pub drafts: Vec<Drafts>,
    /// Branches.
    pub branches: Vec<Branch>,
}

/// Numbers of drafts.
const COUNTS: [usize; 3] = [4, 16, 64];
/// Drafts drawn at once, as the engine does.
const AT_ONCE: usize = 16;

impl CostReport {
    /// Measures `bundle` at `scales` scales, or the model's own number.
    ///
    /// # Errors
    /// What drawing returns.
    pub fn measure(
        bundle: &Bundle,
        scales: Option<usize>,
        effort: Effort,
    ) -> Result<Self, EngineError> {
        let mut spec = GenerateSpec::new(
            "green hills, a red house on the left, at night",
            effort.seed,
        );
        spec.scale_count = scales;
        spec.cfg = vec![bundle.info.cfg];
        let texts: Texts = bundle.encode(&[&spec.prompt])?.into();
        let depth = bundle.transformer.config.depth;
        let plan = Plan::new(&spec, bundle.info.scale_count, depth)?;
        let rounds = if effort.cases < 10 { 1 } else { 5 };
        let (_, bits) = drawn(bundle, &texts, &plan)?;
        let bits = bits.into_iter().next().unwrap_or_default();
        let (picture_ms, picture_gmul) = timed(bundle, &texts, &plan, rounds)?;
        let mut drafts = Vec::new();
        for count in COUNTS {
            for scales in 1..plan.schedule.scales.len() {
                let (mut ms, mut gmul, mut by_tokens) = (0.0, 0.0, 0.0);
                for first in (0..count).step_by(AT_ONCE) {
                    let mut plan = plan.clone();
                    let seeds = first..(first + AT_ONCE).min(count);
                    plan.seeds = seeds.map(|seed| seed as u64).collect();
                    plan.stop_after(scales)?;
                    let (own_ms, own_gmul) = timed(bundle, &texts, &plan, rounds.min(3))?;
                    (ms, gmul, by_tokens) = (ms + own_ms, gmul + own_gmul, by_tokens + plan.cost());
                }
                drafts.push(Drafts {
                    count,
                    scales,
                    ms,
                    gmul,
                    pictures: ms / picture_ms,
                    by_tokens,
                });
            }
        }
        let mut branches = Vec::new();
        for kept in 0..plan.schedule.scales.len() {
            let mut plan = plan.clone();
            plan.kept = bits.iter().take(kept).cloned().collect();
            let (ms, _) = timed(bundle, &texts, &plan, rounds)?;
            plan.together = false;
            let (one_by_one_ms, _) = timed(bundle, &texts, &plan, rounds)?;
            branches.push(Branch {
                kept,
                ms,
                one_by_one_ms,
            });
        }
        Ok(Self {
            model: bundle.info.name.clone(),
            picture_ms,
            picture_gmul,
            drafts,
            branches,
        })
    }
}

/// The best of some runs in milliseconds, and the multiplications of one, in thousands of millions.
fn timed(
    bundle: &Bundle,
    texts: &Texts,
    plan: &Plan,
    rounds: usize,
) -> Result<(f32, f32), EngineError> {
    let mut best = f32::INFINITY;
    let mut gmul = 0.0;
    for _ in 0..=rounds {
        let before = kernels::products();
        let begun = Instant::now();
        let (sums, _) = drawn(bundle, texts, plan)?;
        let last = plan.schedule.last();
        let grid = plan
            .schedule
            .scales
            .get(plan.drawn - 1)
            .copied()
            .unwrap_or(last);
        for image in bundle.previews(&sums, grid, last) {
            image?;
        }
        best = best.min(1000.0 * begun.elapsed().as_secs_f32());
        gmul = (kernels::products() - before) as f32 / 1e9;
    }
    Ok((best, gmul))
}

impl std::fmt::Display for CostReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "A picture in one go: {:.0} ms, {:.2} G multiplications\n",
            self.picture_ms, self.picture_gmul
        )?;
        let mut table = Table::new(["drafts", "scales", "ms", "G mul", "pictures", "by tokens"]);
        for row in &self.drafts {
            table.row([
                row.count.to_string(),
                row.scales.to_string(),
                format!("{:.0}", row.ms),
                format!("{:.2}", row.gmul),
                format!("{:.2}", row.pictures),
                format!("{:.2}", row.by_tokens),
            ]);
        }
        writeln!(f, "{table}")?;
        let mut table = Table::new(["scales given", "ms", "ms, one after the other"]);
        for row in &self.branches {
            table.row([
                row.kept.to_string(),
                format!("{:.0}", row.ms),
                format!("{:.0}", row.one_by_one_ms),
            ]);
        }
        write!(f, "{table}")
    }
}
