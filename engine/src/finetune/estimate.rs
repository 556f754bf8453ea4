//! What a lesson takes, before it starts: memory from sizes, time from a measured update.

use std::sync::Arc;
use std::time::Instant;

use super::batch::{Prepared, Teacher, learn};
use super::examples::{Example, Words};
use super::{FinetuneConfig, tuned_replicas};
use crate::api::{DeviceKind, EngineError, MemoryNeed, Storage, TuneRates, TuneWish, bytes_text};
use crate::device::OpenDevice;
use crate::generate::Bundle;
use crate::memory::{self, Teaching};
use crate::model::ModelConfig;
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::train::parallel::{self, Crew};
use crate::weights::Network as _;

/// Text tokens of the caption that the measured update learns.
const CAPTION_TOKENS: usize = 24;

/// A lesson as it fits into the device's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Pictures per update.
    pub batch: usize,
    /// Whether blocks are computed again for the gradient instead of kept.
    pub by_block: bool,
    /// What it takes.
    pub memory: MemoryNeed,
    /// What was changed so that it fits, each a sentence for the user.
    pub notes: Vec<String>,
}

/// Threads that share a batch on `device`: one feeds a graphics card.
pub(super) fn workers(config: &FinetuneConfig, device: &OpenDevice) -> usize {
    if device.info.kind == DeviceKind::Cpu {
        config.optimizer.workers.max(1)
    } else {
        1
    }
}

/// What a lesson over pictures of `schedule` takes, and what of it must change for `available` bytes of memory.
///
/// First blocks are computed again instead of kept, unless the configuration says which; then fewer pictures are
/// taken at once.
pub fn fit(
    config: &FinetuneConfig,
    bundle: &Bundle,
    device: &OpenDevice,
    schedule: &ScaleSchedule,
    available: Option<u64>,
) -> Fit {
    let sizes = bundle.sizes();
    let need = |batch: usize, by_block: bool| {
        let job = Teaching {
            schedule,
            batch,
            rank: config.rank,
            layers: &config.layers,
            workers: workers(config, device),
            by_block,
            keeping: bundle.info.keeping,
            own_operations: device.has_own_operations(),
        };
        memory::teaching(&sizes, &job)
    };
    let fits = |need: &MemoryNeed| available.is_none_or(|there| need.bytes() <= there);
    let mut notes = Vec::new();
    let mut by_block = config.by_block.unwrap_or(false);
    if config.by_block.is_none() && !fits(&need(config.batch, false)) {
        by_block = true;
        notes.push(
            "Parts of the model are computed twice instead of kept, so that it fits in memory: slower, with the same result but for rounding."
                .to_owned(),
        );
    }
    let mut batch = config.batch.max(1);
    while batch > 1 && !fits(&need(batch, by_block)) {
        batch -= 1;
    }
    let memory = need(batch, by_block);
    let there = bytes_text(available.unwrap_or(0));
    if batch < config.batch {
        notes.push(format!(
            "{} pictures at once take {}, and {there} are free: {batch} are taken at once.",
            config.batch,
            bytes_text(need(config.batch, by_block).bytes())
        ));
    }
    if !fits(&memory) {
        let smaller = match bundle.info.keeping.weights {
            Storage::Single => "half",
            Storage::Half | Storage::Eight => "eight",
        };
        notes.push(format!(
            "This takes about {}, and {there} are free: it may not go well. Close other programs, lower the rank, or start with --weights {smaller}.",
            bytes_text(memory.bytes())
        ));
    }
    Fit {
        batch,
        by_block,
        memory,
        notes,
    }
}

/// Memory that a lesson may take on `device` beside what is loaded, in bytes, with the model itself.
pub fn available(bundle: &Bundle, device: &OpenDevice) -> Option<u64> {
    if device.info.kind != DeviceKind::Cpu {
        return device.memory();
    }
    // The model lies in memory already and counts in what is needed; what of it lies in mapped files counts as free.
    let loaded = memory::loaded(&bundle.sizes(), bundle.info.keeping);
    let loaded = loaded.min(memory::held_by_process());
    let there = memory::free_on_host().map(|free| free + loaded);
    there.map(|there| there.min(device.most_memory.unwrap_or(u64::MAX)))
}

/// What lessons on square pictures of `scale_count` scales take, per piece of a wish; one update is measured.
///
/// # Errors
/// What an update returns.
pub fn rates(
    bundle: &Bundle,
    device: &OpenDevice,
    scale_count: usize,
) -> Result<TuneRates, EngineError> {
    let schedule = ScaleSchedule::nearest(1.0, scale_count)?;
    let free = available(bundle, device);
    // Additions to all layers: fewer take less.
    let bytes = |rank: usize, batch: usize, by_block: bool| {
        let config = FinetuneConfig {
            rank,
            batch,
            layers: TuneWish::LAYERS.map(str::to_owned).to_vec(),
            by_block: Some(by_block),
            ..FinetuneConfig::default()
        };
        let fit = fit(&config, bundle, device, &schedule, None);
        fit.memory.bytes()
    };
    let one = bytes(1, 1, false);
    let rank_bytes = bytes(2, 1, false) - one;
    let picture_bytes = [false, true].map(|again| bytes(1, 2, again) - bytes(1, 1, again));
    let mut rates = TuneRates {
        secs_per_picture: None,
        fixed_bytes: one - rank_bytes - picture_bytes[0],
        rank_bytes,
        picture_bytes,
        free,
    };
    let config = FinetuneConfig::default();
    let fit = fit(&config, bundle, device, &schedule, free);
    if free.is_none_or(|free| fit.memory.bytes() <= free) {
        let secs = measure(&config, bundle, device, &schedule, &fit)?;
        rates.secs_per_picture = Some(secs);
    }
    Ok(rates)
}

/// A batch of random features, for an update that teaches nothing.
///
/// # Errors
/// [`EngineError::Internal`] when the configuration asks for no update.
pub(super) fn random_batch(
    config: &FinetuneConfig,
    sizes: &ModelConfig,
    schedule: &ScaleSchedule,
) -> Result<Prepared, EngineError> {
    let fold = if sizes.patchify { 4 } else { 1 };
    let random = |seed: u64, count: usize| -> Vec<f32> {
        let stream = Stream::new(seed, 0x57E9);
        (0..count as u64).map(|i| stream.normal(i) as f32).collect()
    };
    let words = Words {
        features: random(2, CAPTION_TOKENS * sizes.text_channels),
        tokens: CAPTION_TOKENS,
    };
    let example = Arc::new(Example {
        name: "random features".to_owned(),
        schedule: schedule.clone(),
        features: random(1, sizes.codebook_dim * fold * schedule.last().tokens()),
        captions: Arc::new([Arc::new(words)]),
    });
    let teacher = Teacher {
        phases: config.phases(schedule.scales.len()),
        d: sizes.codebook_dim,
        patchify: sizes.patchify,
        own: vec![example.clone()],
        prior: vec![example],
        config: config.clone(),
    };
    teacher
        .prepare(0)
        .ok_or_else(|| EngineError::internal("no update to measure"))
}

/// Seconds that an update takes per picture of `schedule`: the second of two updates on random features.
///
/// # Errors
/// What an update returns.
fn measure(
    config: &FinetuneConfig,
    bundle: &Bundle,
    device: &OpenDevice,
    schedule: &ScaleSchedule,
    fit: &Fit,
) -> Result<f32, EngineError> {
    let config = FinetuneConfig {
        batch: fit.batch.min(workers(config, device)),
        prior: 0.0,
        ..config.clone()
    };
    let training = device.device.clone().autodiff();
    let mut replicas = tuned_replicas(&config, bundle, workers(&config, device))?;
    for replica in &mut replicas {
        replica.initialise(config.seed, &training);
    }
    let prepared = random_batch(&config, &bundle.transformer.config, schedule)?;
    let parts = parallel::parts(config.batch, replicas.len());
    let crew = Crew::sharing(replicas.len())?;
    let mut secs = 0.0;
    for _ in 0..2 {
        let begun = Instant::now();
        let precision = config.optimizer.precision;
        crew.update(&mut replicas, precision, &parts, |network, part| {
            learn(&config, fit.by_block, network, &prepared, part)
        })?;
        secs = begun.elapsed().as_secs_f32();
    }
    Ok(secs / config.batch as f32)
}
