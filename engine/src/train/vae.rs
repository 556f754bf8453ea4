//! Training the picture tokenizer on painted postcards.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};

use super::checkpoint::Checkpoint;
use super::config::{Phase, VaeLossConfig};
use super::course::{self, Course, Measures, Subject};
use super::feed::{self, Batch};
use super::optimizer::{AdamW, AdamWConfig, Rows, gradient_rows};
use super::parallel::Crew;
use super::report::write_sheet;
use super::vae_loss::{Before, vae_loss};
use super::{Limits, Progress};
use crate::api::{EngineError, Rgb8Image};
use crate::postcards::{Postcard, Split, paint};
use crate::random::Stream;
use crate::schedule::{Scale, ScaleSchedule};
use crate::vae::{Vae, VaeConfig, bsq, pixels_from_images};
use crate::weights::{KeyMap, Network, WeightFile, atomic_write, load_into};

const WARMUP_STEPS: u64 = 50;

/// What [`run`] trains.
pub struct VaeRun<'a> {
    /// Seed of pictures, weights and drops.
    pub seed: u64,
    /// A folder whose weights come first, in place of random ones.
    pub start: Option<&'a Path>,
    /// Sizes.
    pub vae: &'a VaeConfig,
    /// What its pictures show, by their numbers.
    pub world: fn(u64) -> Postcard,
    /// Losses.
    pub loss: &'a VaeLossConfig,
    /// Optimizer.
    pub optimizer: &'a AdamWConfig,
    /// The run.
    pub phases: &'a [Phase],
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between checkpoints and sheets.
    pub save_every: u64,
}

/// Trains until the phases end, the limits are reached or the user stops.
///
/// `out` receives `checkpoint.safetensors`, `log.jsonl`, `sheet.png` and in the
/// end the weights, `vae.safetensors`.
///
/// # Errors
/// File errors, and [`EngineError::NotFinite`] when the loss diverges; the last
/// checkpoint stays as it was.
pub fn run(
    run: &VaeRun<'_>,
    device: &Device,
    out: &Path,
    limits: &Limits<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Vae, EngineError> {
    run.vae.check()?;
    let training = device.clone().autodiff();
    let mut vae = Vae::new(run.vae, &training, usize::MAX);
    vae.initialise(run.seed, &training);
    if let Some(start) = run.start {
        let file = WeightFile::open(start.join("vae.safetensors"))?;
        load_into(&mut vae, &file, &KeyMap::vae(), &training)?;
    }
    let before = match run.start {
        Some(start) if run.loss.keep > 0.0 => Some(super::open_vae(start, device)?),
        _ => None,
    };
    let mut optimizer = AdamW::new(&mut vae, run.optimizer.clone())?;
    let mut replicas: Vec<Vae> = (0..run.optimizer.workers.max(1))
        .map(|_| vae.clone())
        .collect();
    let checkpoint_path = out.join("checkpoint.safetensors");
    if limits.resume && checkpoint_path.exists() {
        let saved = Checkpoint::load(&checkpoint_path)?;
        let wrong = optimizer.restore(saved.state, saved.step);
        super::refuse_other_network(&checkpoint_path, wrong)?;
    }
    let (seed, phases, world) = (run.seed, run.phases.to_vec(), run.world);
    let batches = feed::start(optimizer.steps(), move |step| {
        feed::make_batch(seed, step, &phases, 0, world)
    })?;
    let subject = Tokenizer {
        run,
        device,
        training: &training,
        before,
        out,
    };
    let course = Course {
        optimizer: run.optimizer,
        phases: run.phases,
        warmup: WARMUP_STEPS,
        log_every: run.log_every,
        save_every: run.save_every,
        about: std::collections::BTreeMap::new(),
    };
    let optimizer = course::run(
        &subject,
        &course,
        &Crew::sharing(replicas.len())?,
        &mut replicas,
        optimizer,
        &batches,
        out,
        limits,
        progress,
    )?;
    let mut trained = Vae::new(run.vae, device, usize::MAX);
    optimizer.copy_average_to(&mut trained, device);
    super::save_network(&mut trained, &out.join("vae.safetensors"))?;
    let sizes = serde_json::to_vec_pretty(run.vae)
        .map_err(|error| EngineError::internal(error.to_string()))?;
    atomic_write(out.join("vae.json"), &sizes)?;
    Ok(trained)
}

/// The tokenizer as a subject of the loop.
struct Tokenizer<'a> {
    run: &'a VaeRun<'a>,
    device: &'a Device,
    training: &'a Device,
    /// The tokenizer that the run started from, where features of plain postcards are to stay.
    before: Option<Vae>,
    out: &'a Path,
}

impl Subject for Tokenizer<'_> {
    type Network = Vae;
    type Prepared = Batch;

    fn step_and_len(&self, batch: &Batch) -> (u64, usize) {
        (batch.step, batch.images.len())
    }

    fn name_of(&self, batch: &Batch, part: Range<usize>) -> String {
        format!("{:?}", &batch.card_seeds[part])
    }

    fn device_of<'a>(&'a self, _network: &'a Vae) -> &'a Device {
        self.training
    }

    fn learn(
        &self,
        vae: &mut Vae,
        batch: &Batch,
        part: Range<usize>,
    ) -> Result<(Rows, Measures), EngineError> {
        let (run, scales) = (self.run, &batch.schedule.scales);
        let kept = kept_scales(run.seed, batch.step, scales, run.loss.scale_drop);
        let pixels = pixels_from_images(&batch.images[part.clone()], self.training);
        let before = self.before.as_ref().map(|before| {
            let images = &batch.images[part.clone()];
            let counts = batch.plain[part.clone()].iter();
            let counts: Vec<f32> = counts.map(|&plain| f32::from(u8::from(plain))).collect();
            let counts = TensorData::new(counts, [part.len(), 1, 1, 1]);
            Before {
                features: before
                    .encode(pixels_from_images(images, self.device))
                    .autodiff(),
                counts: Tensor::from_data(counts, self.training),
            }
        });
        let loss = vae_loss(vae, pixels, scales, &kept, before, run.loss);
        let measures = Measures {
            loss: loss.total.clone().into_scalar(),
            mean_square: Some(loss.mean_square.into_scalar()),
            ..Measures::default()
        };
        Ok((gradient_rows(vae, &loss.total.backward())?, measures))
    }

    fn save(&self, optimizer: &AdamW, phase: &Phase) -> Result<(), EngineError> {
        let mut drawn = Vae::new(self.run.vae, self.device, usize::MAX);
        optimizer.copy_average_to(&mut drawn, self.device);
        sheet(&drawn, phase.scale_count, &self.out.join("sheet.png"))
    }
}

/// Which scales take part in this update; the last always does.
fn kept_scales(seed: u64, step: u64, scales: &[Scale], drop: f32) -> Vec<bool> {
    let stream = Stream::new(seed ^ 0xD507, step);
    let last = scales.len().saturating_sub(1);
    (0..scales.len())
        .map(|index| index == last || stream.uniform(index as u64) >= f64::from(drop))
        .collect()
}

/// Peak signal-to-noise ratio of a mean squared difference of pixels in [-1, 1], in dB.
pub fn psnr_from_square(mean_square: f32) -> f32 {
    10.0 * (4.0 / mean_square.max(1e-12)).log10()
}

/// Pictures through the whole tokenizer, bits included, `[B]` in and out.
///
/// # Errors
/// [`EngineError::Internal`] when the device fails, [`EngineError::NotFinite`] for broken weights.
pub fn reconstruct(
    vae: &Vae,
    images: &[Rgb8Image],
    scales: &[Scale],
) -> Result<Vec<Rgb8Image>, EngineError> {
    let Some(first) = images.first() else {
        return Ok(Vec::new());
    };
    let device = vae.device().clone();
    let features = vae.encode(pixels_from_images(images, &device));
    let [batch, d, h, w] = features.dims();
    let values = features
        .try_into_vec_as::<f32>()
        .map_err(|error| EngineError::internal(format!("encoding: {error}")))?;
    let mut latents = Vec::with_capacity(values.len());
    for map in values.chunks_exact(d * h * w) {
        let (_, sum) = bsq::encode(map, d, scales);
        latents.extend_from_slice(sum.latents());
    }
    let pixels = vae.decode(Tensor::from_data(
        TensorData::new(latents, [batch, d, h, w]),
        &device,
    ));
    let values = pixels
        .try_into_vec_as::<f32>()
        .map_err(|error| EngineError::internal(format!("decoding: {error}")))?;
    let (width, height) = (first.width as usize, first.height as usize);
    values
        .chunks_exact(3 * width * height)
        .map(|planes| crate::vae::image_from_pixels(planes, width, height))
        .collect()
}

/// Eight held-out postcards above what the tokenizer makes of them.
fn sheet(vae: &Vae, scale_count: usize, path: &Path) -> Result<(), EngineError> {
    let schedule = ScaleSchedule::nearest(1.0, scale_count)?;
    let (width, height) = schedule.size_px();
    let originals: Vec<Rgb8Image> = (0..8)
        .map(|seed| paint(&Postcard::sample(seed, Split::HeldOut), seed, width, height))
        .collect();
    let mut images = originals.clone();
    images.extend(reconstruct(vae, &originals, &schedule.scales)?);
    write_sheet(path, &images, 8)
}
