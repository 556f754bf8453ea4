//! What a picture costs by the length of its side: drawn in scales, and token after token (VAR, arXiv 2404.02905,
//! appendix B).

use std::time::Instant;

use serde::Serialize;

use super::table::{mean, spread};
use super::{Effort, Table, drawn};
use crate::api::{EngineError, GenerateSpec};
use crate::generate::{Bundle, Plan, Texts};
use crate::model::ModelConfig;
use crate::schedule::ScaleSchedule;

/// Numbers of scales: 256, 512, 768 and 1024 pixels a side.
const SCALES: [usize; 4] = [7, 10, 12, 13];
/// Pictures of every side.
const SEEDS: u64 = 3;

/// One length of side.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Pixels.
    pub px: u32,
    /// Passes through the network: scales.
    pub passes: usize,
    /// Tokens of all scales.
    pub tokens: usize,
    /// Multiplications of the blocks for one row, computed, in thousands of millions.
    pub gmul: f64,
    /// Seconds with guidance, without decoding, by seed; empty where it was not run.
    pub secs: Vec<f32>,
    /// Passes token after token: tokens of the last grid alone.
    pub raster_passes: usize,
    /// Multiplications token after token, keys and values kept.
    pub raster_gmul: f64,
    /// Multiplications token after token, everything computed anew for each, as the paper counts.
    pub raster_anew_gmul: f64,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct SidesReport {
    /// Rows by side.
    pub sides: Vec<Side>,
    /// Exponents of the side, fitted: multiplications of attention alone in scales, token after token, and the same
    /// computed anew; multiplications of all in scales; seconds in scales.
    pub exponents: [f64; 5],
}

/// Multiplications per token outside of self attention.
fn per_token(config: &ModelConfig) -> f64 {
    let (width, hidden) = (config.width as f64, config.mlp_hidden as f64);
    config.depth as f64 * (6.0 * width * width + 2.0 * width * hidden)
}

/// Multiplications of `queries` that see `keys`.
fn looking(config: &ModelConfig, queries: f64, keys: f64) -> f64 {
    config.depth as f64 * 2.0 * config.width as f64 * queries * keys
}

/// Attention of a picture in scales, token after token, and token after token anew.
fn attention(config: &ModelConfig, schedule: &ScaleSchedule) -> [f64; 3] {
    let mut seen = 0.0;
    let mut in_scales = 0.0;
    for scale in &schedule.scales {
        let own = scale.tokens() as f64;
        seen += own;
        in_scales += looking(config, own, seen);
    }
    let last = schedule.last().tokens() as f64;
    // Σ i = n²/2 and Σ i² = n³/3, in the limit of many tokens.
    let raster = looking(config, last, last / 2.0);
    let anew = looking(config, last * last, last / 3.0);
    [in_scales, raster, anew]
}

/// The slope of `log y` over `log x`.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / count;
    let above: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let below: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    above / below
}

impl SidesReport {
    /// Computes and measures; the quick form runs the two smallest sides only.
    ///
    /// # Errors
    /// What drawing returns.
    pub fn measure(bundle: &Bundle, effort: Effort) -> Result<Self, EngineError> {
        let config = &bundle.transformer.config;
        let run = if effort.cases < 10 { 2 } else { SCALES.len() };
        let mut sides = Vec::new();
        let mut costs = Vec::new();
        for (index, scales) in SCALES.into_iter().enumerate() {
            let mut spec = GenerateSpec::new("green hills, a red house on the left", effort.seed);
            spec.scale_count = Some(scales);
            spec.cfg = vec![bundle.info.cfg];
            let mut plan = Plan::new(&spec, bundle.info.scale_count, config.depth)?;
            let secs = if index < run {
                let texts: Texts = bundle.encode(&[&spec.prompt])?.into();
                let timed = (0..SEEDS).map(|seed| {
                    plan.seeds = vec![effort.seed + seed];
                    let begun = Instant::now();
                    drawn(bundle, &texts, &plan)?;
                    Ok(begun.elapsed().as_secs_f32())
                });
                timed.collect::<Result<_, EngineError>>()?
            } else {
                Vec::new()
            };
            let schedule = &plan.schedule;
            let looks = attention(config, schedule);
            let tokens = schedule.tokens();
            let raster = schedule.last().tokens();
            let giga = |count: f64| count / 1e9;
            let anew = per_token(config) * (raster as f64).powi(2) / 2.0 + looks[2];
            costs.push(looks);
            sides.push(Side {
                px: schedule.size_px().0,
                passes: scales,
                tokens,
                gmul: giga(per_token(config) * tokens as f64 + looks[0]),
                secs,
                raster_passes: raster,
                raster_gmul: giga(per_token(config) * raster as f64 + looks[1]),
                raster_anew_gmul: giga(anew),
            });
        }
        let of_attention = |which: usize| -> Vec<(f64, f64)> {
            let costs = sides.iter().zip(&costs);
            costs
                .map(|(side, looks)| (f64::from(side.px), looks[which]))
                .collect()
        };
        let whole: Vec<_> = sides
            .iter()
            .map(|side| (f64::from(side.px), side.gmul))
            .collect();
        let timed = sides.iter().filter(|side| !side.secs.is_empty());
        let timed = timed.map(|side| (f64::from(side.px), f64::from(mean(&side.secs))));
        let timed: Vec<_> = timed.collect();
        let exponents = [
            exponent(&of_attention(0)),
            exponent(&of_attention(1)),
            exponent(&of_attention(2)),
            exponent(&whole),
            exponent(&timed),
        ];
        Ok(Self { sides, exponents })
    }
}

impl std::fmt::Display for SidesReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new([
            "side, px",
            "passes",
            "tokens",
            "G mul",
            "s",
            "passes, token after token",
            "G mul",
            "G mul, all anew",
        ]);
        for side in &self.sides {
            table.row([
                side.px.to_string(),
                side.passes.to_string(),
                side.tokens.to_string(),
                format!("{:.2}", side.gmul),
                if side.secs.is_empty() {
                    "–".to_owned()
                } else {
                    spread(&side.secs, 2)
                },
                side.raster_passes.to_string(),
                format!("{:.2}", side.raster_gmul),
                format!("{:.0}", side.raster_anew_gmul),
            ]);
        }
        writeln!(f, "{table}")?;
        let [scales, raster, anew, whole, secs] = self.exponents;
        writeln!(
            f,
            "Attention grows with the side to the power of {scales:.2} in scales, {raster:.2} token after token, {anew:.2} with all computed anew; all of a picture in scales to {whole:.2}, its time to {secs:.2}."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::exponent;

    #[test]
    fn powers_are_found() {
        let cubes: Vec<(f64, f64)> = [2.0, 3.0, 5.0_f64]
            .iter()
            .map(|&x| (x, 7.0 * x.powi(3)))
            .collect();
        assert!((exponent(&cubes) - 3.0).abs() < 1e-9);
    }
}
