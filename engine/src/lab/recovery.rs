//! How well a model mends bits that were flipped while it drew, and what guidance at the last scales is worth.

use std::time::Instant;

use serde::Serialize;

use super::measures::{psnr_of, share};
use super::table::spread;
use super::{Effort, Table, drawn};
use crate::api::{EngineError, GenerateSpec, Rgb8Image};
use crate::generate::{Bundle, Damage, Plan, Texts};
use crate::postcards::{Caption, Postcard, Split, check};
use crate::random::Stream;

/// Share of bits that are flipped.
const FLIPPED: f32 = 0.1;
/// First scales they are flipped at.
const SCALES: usize = 3;

/// Seeds of guidance.
const SEEDS: usize = 3;

/// What flipped bits do to pictures.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Recovery {
    /// Share of prompts followed without flips.
    pub followed: f32,
    /// Share followed although a tenth of the bits of the first three scales was flipped.
    pub followed_flipped: f32,
    /// Mean peak signal-to-noise ratio between the two pictures, in dB.
    pub psnr: f32,
}

/// Guidance off at some last scales.
#[derive(Clone, Debug, Serialize)]
pub struct Guidance {
    /// Last scales without.
    pub off: usize,
    /// Share of prompts followed, by seed.
    pub followed: Vec<f32>,
    /// Mean peak signal-to-noise ratio to the pictures guided throughout, in dB; 99 for the same; by seed.
    pub psnr: Vec<f32>,
    /// Milliseconds of a picture, by seed.
    pub ms: Vec<f32>,
}

/// A prompt with its postcard.
fn cases(effort: Effort) -> Vec<(Postcard, Caption, u64)> {
    let stream = Stream::new(effort.seed, 0x6ECD);
    let one = |index: usize| {
        let seed = stream.bits(index as u64);
        let card = Postcard::sample(seed, Split::Train);
        (card, Caption::regular(&card, seed), seed)
    };
    (0..2 * effort.cases).map(one).collect()
}

fn plan(bundle: &Bundle, prompt: &str, seed: u64) -> Result<Plan, EngineError> {
    let spec = GenerateSpec {
        cfg: vec![bundle.info.cfg],
        tau: vec![bundle.info.tau],
        ..GenerateSpec::new(prompt, seed)
    };
    let depth = bundle.transformer.config.depth;
    Plan::new(&spec, bundle.info.scale_count, depth)
}

fn picture(bundle: &Bundle, texts: &Texts, plan: &Plan) -> Result<Rgb8Image, EngineError> {
    let (sums, _) = drawn(bundle, texts, plan)?;
    let sum = sums
        .first()
        .ok_or_else(|| EngineError::internal("no picture"))?;
    let last = plan.schedule.last();
    bundle.preview(sum, last, last)
}

/// Draws every prompt with and without flips, with what the model wears.
///
/// # Errors
/// What drawing returns.
pub fn recovery(bundle: &Bundle, effort: Effort) -> Result<Recovery, EngineError> {
    let mut result = Recovery {
        followed: 0.0,
        followed_flipped: 0.0,
        psnr: 0.0,
    };
    let cases = cases(effort);
    let each = 1.0 / cases.len().max(1) as f32;
    for (card, caption, seed) in &cases {
        let texts: Texts = bundle.encode(&[&caption.text])?.into();
        let mut plan = plan(bundle, &caption.text, *seed)?;
        let whole = picture(bundle, &texts, &plan)?;
        plan.damage = Some(Damage {
            share: FLIPPED,
            scales: SCALES,
            seed: *seed,
        });
        let flipped = picture(bundle, &texts, &plan)?;
        let follows = |image: &Rgb8Image| check(image, card, caption.named).followed();
        result.followed += each * f32::from(u8::from(follows(&whole)));
        result.followed_flipped += each * f32::from(u8::from(follows(&flipped)));
        result.psnr += each * psnr_of(&whole, &flipped).min(99.0);
    }
    Ok(result)
}

/// Guidance off at 0 to 4 last scales.
#[derive(Clone, Debug, Serialize)]
pub struct GuidanceReport {
    /// Name of the model.
    pub model: String,
    /// Prompts asked, by seed.
    pub prompts: usize,
    /// A row for every number of last scales.
    pub rows: Vec<Guidance>,
}

impl GuidanceReport {
    /// Measures `bundle`.
    ///
    /// # Errors
    /// What drawing returns.
    pub fn measure(bundle: &Bundle, effort: Effort) -> Result<Self, EngineError> {
        let seeds = if effort.is_quick() { 1 } else { SEEDS };
        let count = bundle.info.scale_count;
        let mut rows: Vec<Guidance> = (0..count.min(5))
            .map(|off| Guidance {
                off,
                followed: vec![0.0; seeds],
                psnr: vec![0.0; seeds],
                ms: vec![0.0; seeds],
            })
            .collect();
        for run in 0..seeds {
            let effort = Effort {
                seed: effort.seed + run as u64,
                ..effort
            };
            measure_once(bundle, effort, run, &mut rows)?;
        }
        Ok(Self {
            model: bundle.info.name.clone(),
            prompts: cases(effort).len(),
            rows,
        })
    }
}

/// Draws the prompts of one seed, number `run`, with guidance off at every number of last scales.
fn measure_once(
    bundle: &Bundle,
    effort: Effort,
    run: usize,
    rows: &mut [Guidance],
) -> Result<(), EngineError> {
    let cases = cases(effort);
    let each = 1.0 / cases.len().max(1) as f32;
    for (card, caption, seed) in &cases {
        let texts: Texts = bundle.encode(&[&caption.text])?.into();
        let mut guided = None;
        for row in &mut *rows {
            let mut plan = plan(bundle, &caption.text, *seed)?;
            for cfg in plan.cfg.iter_mut().rev().take(row.off) {
                *cfg = 1.0;
            }
            let begun = Instant::now();
            let image = picture(bundle, &texts, &plan)?;
            row.ms[run] += each * 1000.0 * begun.elapsed().as_secs_f32();
            let followed = check(&image, card, caption.named).followed();
            row.followed[run] += each * share(followed);
            let first = guided.get_or_insert_with(|| image.clone());
            row.psnr[run] += each * psnr_of(first, &image).min(99.0);
        }
    }
    Ok(())
}

impl std::fmt::Display for GuidanceReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new([
            "last scales without guidance",
            "followed",
            "like the guided one, dB",
            "ms",
        ]);
        for row in &self.rows {
            table.row([
                row.off.to_string(),
                spread(&row.followed, 2),
                spread(&row.psnr, 1),
                spread(&row.ms, 0),
            ]);
        }
        write!(f, "{} prompts a seed:\n\n{table}", self.prompts)
    }
}
