//! Small tokenizers, each from nothing, of the cards that the transformers of the studies learn.

use burn::tensor::Device;

use super::measures::{psnr_of, share};
use super::school::{Budget, SCALES, asked_cards, of_thing, simple};
use crate::api::{EngineError, Rgb8Image};
use crate::kernels::Precision;
use crate::postcards::paint;
use crate::schedule::ScaleSchedule;
use crate::train::Limits;
use crate::train::config::{Phase, VaeLossConfig};
use crate::train::optimizer::AdamWConfig;
use crate::train::vae::{VaeRun, reconstruct, run};
use crate::vae::{Vae, VaeConfig};

/// Pictures of an update.
pub(super) const BATCH: usize = 8;

/// A small tokenizer of `bits` bits.
fn small(bits: usize) -> VaeConfig {
    VaeConfig {
        stem: 4,
        base_ch: 32,
        encoder_res_blocks: 1,
        decoder_res_blocks: 1,
        encoder_ch_mult: vec![1, 2, 3],
        decoder_ch_mult: vec![1, 2, 3],
        ..VaeConfig::published_f16(bits)
    }
}

/// Trains a small tokenizer from nothing.
pub(super) fn tokenizer(
    bits: usize,
    budget: Budget,
    seed: u64,
    device: &Device,
) -> Result<Vae, EngineError> {
    let out = tempfile::tempdir()
        .map_err(|error| EngineError::write(tempfile::env::temp_dir(), error))?;
    let steps = budget.tokenizer_steps;
    let config = small(bits);
    let study = VaeRun {
        seed,
        start: None,
        vae: &config,
        world: simple,
        loss: &VaeLossConfig {
            detail: 4.0,
            scale_drop: 0.1,
            ..VaeLossConfig::default()
        },
        optimizer: &AdamWConfig {
            ema_decay: 0.98,
            workers: budget.workers,
            precision: Precision::Half,
            ..AdamWConfig::default()
        },
        phases: &[Phase {
            steps,
            batch: BATCH,
            scale_count: SCALES,
            first_scales: Vec::new(),
            finish: 0.0,
            finish_from: 0,
            contradict: 0.0,
            ratios: vec![1.0],
            learning_rate: [2e-3, 2e-5],
            recolour: 0.0,
            scribble: 0.0,
            grade: 0.0,
            starry: 0.0,
        }],
        log_every: steps,
        save_every: steps,
    };
    let limits = Limits {
        resume: false,
        until: None,
        cancelled: &|| false,
    };
    run(&study, device, out.path(), &limits, &mut |_| ())
}

/// Cards through `vae` that were not learned from: mean signal to noise in dB, and the share whose thing is read back
/// right.
pub(super) fn read_back(vae: &Vae, budget: Budget, seed: u64) -> Result<[f32; 2], EngineError> {
    let schedule = ScaleSchedule::nearest(1.0, SCALES)?;
    let (width, height) = schedule.size_px();
    let mut sums = [0.0; 2];
    let cards = asked_cards(budget, seed);
    for part in cards.chunks(BATCH) {
        let painted: Vec<Rgb8Image> = part
            .iter()
            .map(|(card, seed)| paint(card, *seed, width, height))
            .collect();
        let again = reconstruct(vae, &painted, &schedule.scales)?;
        for (((card, _), before), after) in part.iter().zip(&painted).zip(&again) {
            let checks = of_thing(after, card);
            sums[0] += psnr_of(before, after);
            sums[1] += share(checks.iter().all(|is| *is));
        }
    }
    Ok(sums.map(|sum| sum / cards.len().max(1) as f32))
}
