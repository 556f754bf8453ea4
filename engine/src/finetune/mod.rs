//! Fine-tuning: a LoRA from an artist's own pictures, with bitwise self-correction.
//!
//! Pictures and captions are turned into features once and kept beside the run; then the text encoder and the
//! picture tokenizer are only needed for samples. The network itself stays as it is: low-rank additions learn.

mod batch;
mod captions;
mod config;
mod estimate;
mod examples;
mod folder;
mod pictures;
mod prior;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use burn::tensor::Device;

pub use config::FinetuneConfig;
pub use estimate::{Fit, available, fit, rates};
pub use pictures::{Collection, TrainingPicture, look_through};

use crate::api::{EngineError, GenerateSpec, Rgb8Image};
use crate::device::OpenDevice;
use crate::generate::Bundle;
use crate::lora::{self, Lora, LoraInfo, Tuned};
use crate::model::Transformer;
use crate::train::checkpoint::Checkpoint;
use crate::train::config::Phase;
use crate::train::course::{self, Course, Measures, Subject};
use crate::train::feed;
use crate::train::optimizer::{AdamW, Rows};
use crate::train::parallel::Crew;
use crate::train::report::write_sheet;
use crate::train::{Limits, Progress};
use crate::weights::{ModelFolder, Network};
use batch::{Prepared, Teacher};
use examples::{examples, key_of};

/// Prompts drawn for the sheet of samples.
const SAMPLES: usize = 8;

/// Trains a LoRA for the model in `model` on the pictures of `collection`; `out` receives `lora.safetensors`, a
/// checkpoint, a log, sheets of samples and the features. Gives the number of updates that were made in all.
/// `between` is called after every update with the model, which may draw meanwhile. `others` are the same model's
/// transformers on further devices: each computes an equal share of every update.
///
/// # Errors
/// [`EngineError::BadSetting`] for a configuration without sense, file errors with their path,
/// [`EngineError::NotFinite`] when the loss diverges.
pub fn run(
    config: &FinetuneConfig,
    bundle: &mut Bundle,
    collection: &Collection,
    device: &OpenDevice,
    others: &[Transformer],
    out: &Path,
    limits: &Limits<'_>,
    progress: &mut dyn FnMut(&Progress),
    between: &mut dyn FnMut(&mut Bundle),
) -> Result<u64, EngineError> {
    config.check()?;
    let largest = collection.pictures.iter().map(|picture| &picture.schedule);
    let largest = largest.max_by_key(|schedule| schedule.tokens());
    let devices = 1 + others.len();
    let fit = largest.map(|schedule| {
        let there = estimate::available(bundle, device);
        let share = FinetuneConfig {
            batch: config.batch.div_ceil(devices),
            ..config.clone()
        };
        estimate::fit(&share, bundle, device, schedule, there)
    });
    let base = lora::identity(&ModelFolder::open(&bundle.folder)?)?;
    let about = about(config, collection, &base);
    let mut config = config.clone();
    config.optimizer.workers = match others {
        [] => estimate::workers(&config, device),
        _ => 1,
    };
    let mut by_block = false;
    if let Some(fit) = fit {
        config.batch = config.batch.min(fit.batch * devices);
        by_block = fit.by_block;
        progress(&Progress::Fitted {
            memory: fit.memory,
            notes: fit.notes,
        });
    }
    let config = &config;
    std::fs::create_dir_all(out).map_err(|error| EngineError::write(out, error))?;
    bundle.wear(&[])?;
    let scale_count = config.scale_count.unwrap_or(bundle.info.scale_count);
    let checkpoint_path = out.join("checkpoint.safetensors");
    let saved = if limits.resume && checkpoint_path.exists() {
        let saved = Checkpoint::load(&checkpoint_path)?;
        refuse_other_run(&checkpoint_path, &saved, &about, config.steps)?;
        Some(saved)
    } else {
        None
    };
    let features = out.join("features");
    let all = examples(config, bundle, collection, &base, &features, limits)?;
    bundle.leave_text();
    let Some(all) = all else {
        return Ok(saved.map_or(0, |saved| saved.step));
    };

    let training = device.device.clone().autodiff();
    let sizes = bundle.transformer.config.clone();
    let mut replicas = tuned_replicas(config, bundle, 1 + config.optimizer.workers)?;
    let mut first = replicas.remove(0);
    for other in others {
        replicas.push(tuned(config, other)?);
    }
    let crew = match others {
        [] => Crew::sharing(replicas.len())?,
        _ => Crew::apart(replicas.len())?,
    };
    first.initialise(config.seed, &training);
    let mut optimizer = AdamW::new(&mut first, config.optimizer.clone())?;
    if let Some(saved) = saved {
        let wrong = optimizer.restore(saved.state, saved.step);
        crate::train::refuse_other_network(&checkpoint_path, wrong)?;
    }

    let phases = config.phases(scale_count);
    let teacher = Teacher {
        config: config.clone(),
        phases: phases.clone(),
        d: sizes.codebook_dim,
        patchify: sizes.patchify,
        own: all.own,
        prior: all.prior,
    };
    let batches = feed::start(optimizer.steps(), move |step| Ok(teacher.prepare(step)))?;
    let subject = Tuning {
        config,
        by_block,
        training: &training,
        saver: std::sync::Mutex::new(Saver {
            tuned: first,
            bundle,
            base,
            pictures: collection.pictures.len(),
            prompts: sample_prompts(config, collection),
            out,
            samples: Vec::new(),
        }),
    };
    let course = Course {
        optimizer: &config.optimizer,
        phases: &phases,
        warmup: (config.steps / 20).clamp(1, 50),
        log_every: config.log_every.max(1),
        save_every: config.save_every.max(1),
        about,
    };
    let begun = optimizer.steps();
    if begun == 0 {
        subject.save_sheet(0)?;
    }
    let mut with_samples = |told: &Progress| {
        if matches!(told, Progress::Step) {
            if let Ok(mut saver) = subject.saver() {
                between(saver.bundle);
            }
            return;
        }
        progress(told);
        subject.tell_samples(progress);
    };
    let optimizer = course::run(
        &subject,
        &course,
        &crew,
        &mut replicas,
        optimizer,
        &batches,
        out,
        limits,
        &mut with_samples,
    )?;
    subject.tell_samples(progress);
    // A run that was killed after its last checkpoint still lacks the file.
    if let (true, Some(last)) = (begun == config.steps, phases.last()) {
        subject.save(&optimizer, last)?;
    }
    Ok(optimizer.steps())
}

/// Networks of which only additions learn; their frozen weights are those that draw: there is one copy of them.
fn tuned_replicas(
    config: &FinetuneConfig,
    bundle: &Bundle,
    count: usize,
) -> Result<Vec<Tuned>, EngineError> {
    (0..count)
        .map(|_| tuned(config, &bundle.transformer))
        .collect()
}

/// A network of which only additions learn; its frozen weights are those of `transformer`.
fn tuned(config: &FinetuneConfig, transformer: &Transformer) -> Result<Tuned, EngineError> {
    let network = transformer.recorded();
    Tuned::new(network, &config.layers, config.rank, config.alpha())
}

/// What a run must keep when it goes on; learning rate and number of steps may change.
fn about(config: &FinetuneConfig, collection: &Collection, base: &str) -> BTreeMap<String, String> {
    let pictures: Vec<String> = collection
        .pictures
        .iter()
        .map(|one| {
            key_of(&[
                one.caption.as_bytes(),
                &one.image.pixels,
                &one.repeats.to_le_bytes(),
            ])
        })
        .collect();
    let bytes: Vec<&[u8]> = pictures.iter().map(|key| key.as_bytes()).collect();
    let entries = [
        ("model", base.to_owned()),
        ("pictures or captions", key_of(&bytes)),
        ("rank", config.rank.to_string()),
        ("alpha", config.alpha().to_string()),
        ("layers", config.layers.join(" ")),
        ("trigger", config.trigger.clone()),
        ("batch", config.batch.to_string()),
        ("prompts of old pictures", config.prior_prompts.join("\n")),
        ("number of views", config.views.to_string()),
        ("mirror", config.mirror.to_string()),
        ("share of dropped captions", config.caption_drop.to_string()),
        ("share of left out parts", config.part_drop.to_string()),
        ("seed", config.seed.to_string()),
        (
            "self-correction",
            format!("{} {}", config.flip_strength, config.flip_scales),
        ),
        ("share of old pictures", config.prior.to_string()),
    ];
    entries.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Refuses to go on with a run that is another one.
fn refuse_other_run(
    path: &Path,
    saved: &Checkpoint,
    about: &BTreeMap<String, String>,
    steps: u64,
) -> Result<(), EngineError> {
    let differs = |(name, value): &(&String, &String)| saved.about.get(*name) != Some(*value);
    let names: Vec<&str> = about
        .iter()
        .filter(differs)
        .map(|(name, _)| name.as_str())
        .collect();
    if !names.is_empty() {
        let what = format!(
            "it is of a run with another {}; choose another folder",
            names.join(", ")
        );
        return Err(EngineError::OtherRun {
            what,
            path: path.to_owned(),
        });
    }
    if saved.step > steps {
        let what = format!(
            "it has {} steps already, and {steps} are asked for; ask for more or choose another folder",
            saved.step
        );
        return Err(EngineError::OtherRun {
            what,
            path: path.to_owned(),
        });
    }
    Ok(())
}

fn sample_prompts(config: &FinetuneConfig, collection: &Collection) -> Vec<String> {
    let mut prompts: Vec<String> = Vec::new();
    for picture in &collection.pictures {
        if !prompts.contains(&picture.caption) && prompts.len() < SAMPLES / 2 {
            prompts.push(picture.caption.clone());
        }
    }
    prompts.extend(
        config
            .prior_prompts
            .iter()
            .take(SAMPLES - prompts.len())
            .cloned(),
    );
    prompts
}

/// Low-rank additions as a subject of the training loop.
struct Tuning<'a> {
    config: &'a FinetuneConfig,
    /// Whether blocks are computed again for the gradient instead of kept.
    by_block: bool,
    training: &'a Device,
    saver: std::sync::Mutex<Saver<'a>>,
}

impl Subject for Tuning<'_> {
    type Network = Tuned;
    type Prepared = Prepared;

    fn step_and_len(&self, prepared: &Prepared) -> (u64, usize) {
        (prepared.step, prepared.examples.len())
    }

    fn name_of(&self, prepared: &Prepared, part: Range<usize>) -> String {
        let names: Vec<&str> = prepared.examples[part]
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        names.join(", ")
    }

    fn device_of<'a>(&'a self, tuned: &'a Tuned) -> &'a Device {
        tuned.transformer.device()
    }

    fn learn(
        &self,
        tuned: &mut Tuned,
        prepared: &Prepared,
        part: Range<usize>,
    ) -> Result<(Rows, Measures), EngineError> {
        batch::learn(self.config, self.by_block, tuned, prepared, part)
    }

    fn save(&self, optimizer: &AdamW, _phase: &Phase) -> Result<(), EngineError> {
        // What is drawn needs the file, and the file shows what is drawn.
        self.save_lora(optimizer, None)?;
        let picture = self.save_sheet(optimizer.steps())?;
        self.save_lora(optimizer, picture)
    }
}

impl<'a> Tuning<'a> {
    fn saver(&self) -> Result<std::sync::MutexGuard<'_, Saver<'a>>, EngineError> {
        self.saver
            .lock()
            .map_err(|_poisoned| EngineError::internal("a sample fell over"))
    }

    fn tell_samples(&self, progress: &mut dyn FnMut(&Progress)) {
        if let Ok(mut saver) = self.saver() {
            saver.samples.drain(..).for_each(|sheet| progress(&sheet));
        }
    }

    /// Writes the LoRA, with the first sample that was drawn with it when there is one.
    fn save_lora(&self, optimizer: &AdamW, picture: Option<Rgb8Image>) -> Result<(), EngineError> {
        let mut saver = self.saver()?;
        optimizer.copy_average_to(&mut saver.tuned, self.training);
        let info = LoraInfo {
            name: self.config.name.clone(),
            trigger: self.config.trigger.clone(),
            base_name: saver.bundle.info.name.clone(),
            base: saver.base.clone(),
            rank: self.config.rank,
            alpha: self.config.alpha(),
            pictures: saver.pictures,
            steps: optimizer.steps(),
            picture,
        };
        let path = saver.out.join("lora.safetensors");
        saver.tuned.save(&path, &info)
    }

    /// Draws the samples of `step` with the LoRA that was saved last; without one at step 0.
    fn save_sheet(&self, step: u64) -> Result<Option<Rgb8Image>, EngineError> {
        let mut saver = self.saver()?;
        let path = saver.out.join("lora.safetensors");
        let base = saver.base.clone();
        let lora = (step > 0)
            .then(|| Lora::open(&path, &mut saver.bundle.transformer, &base))
            .transpose()?;
        // A picture drawn between two steps may have left others on.
        saver.bundle.wear(&[])?;
        let worn: Vec<(&Lora, f32)> = lora.iter().map(|lora| (lora, 1.0)).collect();
        lora::put_on(&mut saver.bundle.transformer, &worn);
        let drawn = saver.draw();
        saver.bundle.wear(&[])?;
        let images = drawn?;
        let told = Progress::Samples {
            step,
            prompts: saver.prompts.clone(),
            images: images.clone(),
        };
        saver.samples.push(told);
        write_sheet(
            &saver.out.join(format!("sheet-{step:05}.png")),
            &images,
            SAMPLES,
        )?;
        Ok(images.into_iter().next())
    }
}

/// What is needed to write the result and its samples.
struct Saver<'a> {
    tuned: Tuned,
    bundle: &'a mut Bundle,
    base: String,
    pictures: usize,
    prompts: Vec<String>,
    out: &'a Path,
    /// Sheets that nobody was told of yet.
    samples: Vec<Progress>,
}

impl Saver<'_> {
    /// A picture of every prompt, with what the model wears.
    fn draw(&self) -> Result<Vec<Rgb8Image>, EngineError> {
        let one = |(index, prompt): (usize, &String)| {
            let spec = GenerateSpec {
                cfg: vec![self.bundle.info.cfg],
                tau: vec![self.bundle.info.tau],
                ..GenerateSpec::new(prompt.as_str(), index as u64)
            };
            self.bundle.draw(&spec)
        };
        self.prompts.iter().enumerate().map(one).collect()
    }
}
