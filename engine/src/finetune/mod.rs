//! Fine-tuning: a LoRA from an artist's own pictures, with bitwise self-correction.
//!
//! Pictures and captions are turned into features once and kept beside the run; then the text encoder and the
//! picture tokenizer are only needed for samples. The network itself stays as it is: low-rank additions learn.

mod examples;
mod pictures;

use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use pictures::{Collection, TrainingPicture, look_through};

use crate::api::{EngineError, GenerateSpec, Rgb8Image, TuneWish};
use crate::generate::Bundle;
use crate::kernels::Precision;
use crate::lora::{self, Lora, LoraInfo, Tuned};
use crate::model::Transformer;
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::train::checkpoint::Checkpoint;
use crate::train::config::{Phase, place_of};
use crate::train::course::{self, Course, Measures, Subject};
use crate::train::feed;
use crate::train::optimizer::{AdamW, AdamWConfig};
use crate::train::report::write_sheet;
use crate::train::self_correction::{Lesson, flip_at_random, lesson};
use crate::train::transformer::{input_tensor, with_dropped};
use crate::train::transformer_loss::{BitLoss, bit_loss};
use crate::train::{Limits, Progress};
use crate::weights::{KeyMap, ModelFolder, Network, WeightFile, load_into};
use examples::{Example, examples, text_of};

/// Prompts drawn for the sheet of samples.
const SAMPLES: usize = 8;

/// How to fine-tune.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FinetuneConfig {
    /// Name of the LoRA.
    pub name: String,
    /// Word that calls it up; goes before every caption, or where one says `[trigger]`.
    pub trigger: String,
    /// Rows of the thin matrices.
    pub rank: usize,
    /// Numerator of the scale `alpha / rank`.
    pub alpha: f32,
    /// Parts of the names of layers that learn: `sa.`, `ca.`, `ffn.`.
    pub layers: Vec<String>,
    /// Learning rate; falls to a tenth in the second half.
    pub learning_rate: f32,
    /// Updates.
    pub steps: u64,
    /// Pictures per update.
    pub batch: usize,
    /// Scales to learn at; the model's own number when `None`.
    pub scale_count: Option<usize>,
    /// Chance that a caption is replaced by "no text".
    pub caption_drop: f32,
    /// Largest share of bits flipped per scale (bitwise self-correction).
    pub flip_strength: f32,
    /// Number of first scales that flips are applied to.
    pub flip_scales: usize,
    /// Whether coarse scales count more.
    pub reweight_by_scale: bool,
    /// Share of every batch that are pictures the model itself drew before, so that it does not forget.
    pub prior: f32,
    /// Prompts of those pictures; the model's examples when empty.
    pub prior_prompts: Vec<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Optimizer.
    pub optimizer: AdamWConfig,
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between checkpoints and sheets.
    pub save_every: u64,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            trigger: String::new(),
            rank: 16,
            alpha: 16.0,
            layers: ["ca.", "ffn."].map(str::to_owned).to_vec(),
            learning_rate: 1e-3,
            steps: 300,
            batch: 8,
            scale_count: None,
            caption_drop: 0.1,
            flip_strength: 0.2,
            flip_scales: 13,
            reweight_by_scale: true,
            prior: 0.25,
            prior_prompts: Vec::new(),
            seed: 1,
            optimizer: AdamWConfig {
                weight_decay: 0.0,
                workers: 2,
                precision: Precision::Half,
                ..AdamWConfig::default()
            },
            log_every: 10,
            save_every: 100,
        }
    }
}

impl From<&TuneWish> for FinetuneConfig {
    fn from(wish: &TuneWish) -> Self {
        Self {
            name: wish.name.clone(),
            trigger: wish.trigger.clone(),
            rank: wish.rank,
            alpha: wish.rank as f32,
            learning_rate: wish.learning_rate,
            steps: wish.steps,
            batch: wish.batch,
            flip_strength: wish.flip_strength,
            prior: wish.prior,
            seed: wish.seed,
            log_every: 5,
            save_every: wish.save_every,
            ..Self::default()
        }
    }
}

impl FinetuneConfig {
    /// # Errors
    /// [`EngineError::BadSetting`] naming the setting.
    fn check(&self) -> Result<(), EngineError> {
        let share = |value: f32| (0.0..1.0).contains(&value);
        let checks = [
            (
                "rank",
                (1..=256).contains(&self.rank),
                self.rank.to_string(),
                "Use 4 to 64.",
            ),
            (
                "alpha",
                self.alpha.is_finite() && self.alpha > 0.0,
                self.alpha.to_string(),
                "Use the rank, or half of it.",
            ),
            (
                "learning rate",
                self.learning_rate.is_finite() && self.learning_rate > 0.0,
                self.learning_rate.to_string(),
                "Use 0.0001 to 0.002.",
            ),
            (
                "number of steps",
                self.steps > 0,
                self.steps.to_string(),
                "Use 100 to 2000.",
            ),
            (
                "batch",
                (1..=256).contains(&self.batch),
                self.batch.to_string(),
                "Use 1 to 16.",
            ),
            (
                "share of dropped captions",
                share(self.caption_drop),
                self.caption_drop.to_string(),
                "Use 0.1.",
            ),
            (
                "share of flipped bits",
                share(self.flip_strength),
                self.flip_strength.to_string(),
                "Use 0 to 0.3.",
            ),
            (
                "share of the model's own pictures",
                share(self.prior),
                self.prior.to_string(),
                "Use 0 to 0.5.",
            ),
        ];
        match checks.into_iter().find(|(_, fine, _, _)| !fine) {
            Some((what, _, value, advice)) => Err(EngineError::BadSetting {
                what,
                value,
                advice: advice.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The run as phases of the training loop; ratios are those of the pictures.
    fn phases(&self, scale_count: usize) -> Vec<Phase> {
        let phase = |steps: u64, learning_rate: [f32; 2]| Phase {
            steps,
            batch: self.batch,
            scale_count,
            ratios: Vec::new(),
            learning_rate,
            recolour: 0.0,
            scribble: 0.0,
        };
        let (rate, half) = (self.learning_rate, self.steps / 2);
        vec![
            phase(self.steps - half, [rate, rate]),
            phase(half, [rate, 0.1 * rate]),
        ]
    }
}

/// Trains a LoRA for the model in `model` on the pictures of `collection`; `out` receives `lora.safetensors`, a
/// checkpoint, a log, sheets of samples and the features.
///
/// # Errors
/// [`EngineError::BadSetting`] for a configuration without sense, file errors with their path,
/// [`EngineError::NotFinite`] when the loss diverges.
pub fn run(
    config: &FinetuneConfig,
    bundle: &mut Bundle,
    collection: &Collection,
    device: &Device,
    out: &Path,
    limits: &Limits<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), EngineError> {
    config.check()?;
    std::fs::create_dir_all(out).map_err(|error| EngineError::write(out, error))?;
    let files = ModelFolder::open(&bundle.folder)?;
    let base = lora::identity(&files)?;
    bundle.wear(&[])?;
    let scale_count = config.scale_count.unwrap_or(bundle.info.scale_count);
    let all = examples(config, bundle, collection, &base, &out.join("features"))?;

    let training = device.clone().autodiff();
    let sizes = bundle.transformer.config.clone();
    let mut transformer = Transformer::new(&sizes, &training, usize::MAX);
    let file = WeightFile::open(files.transformer_path())?;
    load_into(&mut transformer, &file, &KeyMap::published(), &training)?;
    let tuned = |transformer: Transformer| {
        Tuned::new(transformer, &config.layers, config.rank, config.alpha)
    };
    let mut first = tuned(transformer)?;
    first.initialise(config.seed, &training);
    let mut optimizer = AdamW::new(&mut first, config.optimizer.clone())?;
    let checkpoint_path = out.join("checkpoint.safetensors");
    if limits.resume && checkpoint_path.exists() {
        let saved = Checkpoint::load(&checkpoint_path)?;
        let wrong = optimizer.restore(saved.state, saved.step);
        crate::train::refuse_other_network(&checkpoint_path, wrong)?;
    }
    let mut replicas = (0..config.optimizer.workers.max(1))
        .map(|_| tuned(first.transformer.clone()))
        .collect::<Result<Vec<_>, _>>()?;

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
    };
    let begun = optimizer.steps();
    if begun == 0 {
        subject.save_sheet(0)?;
    }
    let mut with_samples = |told: &Progress| {
        progress(told);
        subject.tell_samples(progress);
    };
    let optimizer = course::run(
        &subject,
        &course,
        &mut replicas,
        optimizer,
        &batches,
        &training,
        out,
        limits,
        &mut with_samples,
    )?;
    subject.tell_samples(progress);
    // A run that was killed after its last checkpoint still lacks the file.
    if begun == config.steps {
        subject.save_lora(&optimizer)?;
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

/// A batch as it is learned.
struct Prepared {
    step: u64,
    schedule: ScaleSchedule,
    examples: Vec<std::sync::Arc<Example>>,
    lessons: Vec<Lesson>,
}

/// Puts batches together, on the thread that prepares them.
struct Teacher {
    config: FinetuneConfig,
    phases: Vec<Phase>,
    d: usize,
    patchify: bool,
    /// The artist's pictures, repeated as often as they count.
    own: Vec<std::sync::Arc<Example>>,
    /// The model's own pictures.
    prior: Vec<std::sync::Arc<Example>>,
}

impl Teacher {
    /// A batch of one shape; `None` after the last update.
    fn prepare(&self, step: u64) -> Option<Prepared> {
        place_of(&self.phases, step, 0)?;
        let stream = Stream::new(self.config.seed ^ 0xF17E, step);
        let schedule = self.own[stream.below(0, self.own.len())].schedule.clone();
        let of_shape = |list: &[std::sync::Arc<Example>]| -> Vec<_> {
            list.iter()
                .filter(|one| one.schedule == schedule)
                .cloned()
                .collect()
        };
        let (own, prior) = (of_shape(&self.own), of_shape(&self.prior));
        let mut examples = Vec::new();
        for index in 0..self.config.batch as u64 {
            let takes_prior =
                !prior.is_empty() && stream.uniform(3 * index + 1) < f64::from(self.config.prior);
            let list = if takes_prior { &prior } else { &own };
            examples.push(list[stream.below(3 * index + 2, list.len())].clone());
        }
        let one = |(index, example): (usize, &std::sync::Arc<Example>)| {
            let stream = Stream::new(self.config.seed ^ 0xF11B, step << 16 | index as u64);
            let flip = flip_at_random(self.config.flip_strength, self.config.flip_scales, stream);
            lesson(
                &example.features,
                self.d,
                &schedule.scales,
                self.patchify,
                flip,
            )
        };
        let lessons = examples.iter().enumerate().map(one).collect();
        Some(Prepared {
            step,
            schedule,
            examples,
            lessons,
        })
    }
}

/// Low-rank additions as a subject of the training loop.
struct Tuning<'a> {
    config: &'a FinetuneConfig,
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

    fn learn(
        &self,
        tuned: &Tuned,
        prepared: &Prepared,
        part: Range<usize>,
    ) -> Result<(Tensor<1>, Measures), EngineError> {
        let (transformer, schedule) = (&tuned.transformer, &prepared.schedule);
        let stream = Stream::new(self.config.seed ^ 0xD209, prepared.step);
        let first = part.start as u64;
        let text = text_of(&prepared.examples[part.clone()], self.training);
        let text = with_dropped(transformer, text, stream, first, self.config.caption_drop);
        let condition = transformer.condition(text.padded, &text.lens);
        let lessons = &prepared.lessons[part];
        let bits = transformer.config.token_bits();
        let inputs = input_tensor(lessons, bits, self.training);
        let loss = bit_loss(
            transformer.forward_all(&condition, inputs, schedule),
            lessons,
        );
        let total = loss.total(schedule, self.config.reweight_by_scale);
        let measures = Measures {
            loss: total.clone().into_scalar(),
            mean_square: None,
            bit_accuracy: BitLoss::by_scale(&loss.right, schedule),
            scale_loss: BitLoss::by_scale(&loss.per_bit, schedule),
        };
        Ok((total, measures))
    }

    fn save(&self, optimizer: &AdamW, _phase: &Phase) -> Result<(), EngineError> {
        self.save_lora(optimizer)?;
        self.save_sheet(optimizer.steps())
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

    fn save_lora(&self, optimizer: &AdamW) -> Result<(), EngineError> {
        let mut saver = self.saver()?;
        optimizer.copy_average_to(&mut saver.tuned, self.training);
        let info = LoraInfo {
            name: self.config.name.clone(),
            trigger: self.config.trigger.clone(),
            base_name: saver.bundle.info.name.clone(),
            base: saver.base.clone(),
            rank: self.config.rank,
            alpha: self.config.alpha,
            pictures: saver.pictures,
            steps: optimizer.steps(),
        };
        let path = saver.out.join("lora.safetensors");
        saver.tuned.save(&path, &info)
    }

    /// Draws the samples of `step` with the LoRA that was saved last; without one at step 0.
    fn save_sheet(&self, step: u64) -> Result<(), EngineError> {
        let mut saver = self.saver()?;
        let path = saver.out.join("lora.safetensors");
        let base = saver.base.clone();
        let lora = (step > 0)
            .then(|| Lora::open(&path, &mut saver.bundle.transformer, &base))
            .transpose()?;
        let worn: Vec<(&Lora, f32)> = lora.iter().map(|lora| (lora, 1.0)).collect();
        lora::put_on(&mut saver.bundle.transformer, &worn);
        let drawn = saver.draw();
        lora::put_on(&mut saver.bundle.transformer, &[]);
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
        )
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
