//! Training the transformer and its text encoder on a trained tokenizer.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};

use super::checkpoint::Checkpoint;
use super::config::{Phase, TransformerLossConfig};
use super::course::{self, Course, Measures, Subject};
use super::feed::{self, Batch};
use super::optimizer::{AdamW, AdamWConfig, Rows, gradient_rows};
use super::parallel::Crew;
use super::report::write_sheet;
use super::self_correction::Lesson;
use super::teacher::{FeatureCache, Teacher};
use super::text_probe::TextProbe;
use super::transformer_loss::{BitLoss, bit_loss, star_weights};
use super::{Limits, Progress};
use crate::api::{EngineError, GenerateSpec};
use crate::generate::Bundle;
use crate::model::{ModelConfig, Transformer};
use crate::postcards::{Caption, Postcard, Split, corpus};
use crate::random::Stream;
use crate::text::{PromptTokenizer, T5Config, T5Encoder, TextFeatures, Unigram};
use crate::vae::Vae;
use crate::weights::{KeyMap, ModelFolder, Network, Slots, WeightFile, atomic_write, load_into};

const WARMUP_STEPS: u64 = 100;
const MOST_WORDS: usize = 512;
const PROBE_BATCH: usize = 64;
const PROBE_RATE: f32 = 1e-3;

/// What [`run`] trains.
pub struct TransformerRun<'a> {
    /// Seed of pictures, captions, weights and flips.
    pub seed: u64,
    /// A model folder whose weights and words come first, in place of random ones.
    pub start: Option<&'a Path>,
    /// A second model folder of the same sizes; the mean of both comes first.
    pub mean_with: Option<&'a Path>,
    /// The trained tokenizer, on the plain device.
    pub vae: &'a Vae,
    /// Sizes of the transformer.
    pub transformer: &'a ModelConfig,
    /// Sizes of the text encoder; the vocabulary is set from the captions.
    pub text: &'a T5Config,
    /// Training signal.
    pub loss: &'a TransformerLossConfig,
    /// Optimizer.
    pub optimizer: &'a AdamWConfig,
    /// The run.
    pub phases: &'a [Phase],
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between checkpoints and sheets.
    pub save_every: u64,
}

/// The networks that learn together.
struct Learner {
    transformer: Transformer,
    text: T5Encoder,
}

impl Network for Learner {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        self.transformer
            .slots(&format!("{prefix}transformer."), slots);
        self.text.slots(&format!("{prefix}text."), slots);
    }
}

impl Learner {
    /// Reads the weights of a model folder.
    fn load(
        &mut self,
        folder: &ModelFolder,
        with_text: bool,
        device: &Device,
    ) -> Result<(), EngineError> {
        let file = WeightFile::open(folder.transformer_path())?;
        load_into(&mut self.transformer, &file, &KeyMap::published(), device)?;
        if with_text {
            let file = WeightFile::open(folder.text_weights_path())?;
            load_into(&mut self.text, &file, &KeyMap::text(), device)?;
        }
        Ok(())
    }

    /// Becomes the mean of itself and `other`.
    fn mix_with(&mut self, other: &mut Self, device: &Device) -> Result<(), EngineError> {
        let own = self.all_slots().list.into_iter();
        for (mut own, other) in own.zip(other.all_slots().list) {
            let mut values = own.weight.values()?;
            for (value, other) in values.iter_mut().zip(other.weight.values()?) {
                *value = 0.5 * (*value + other);
            }
            own.fill(values, device);
        }
        Ok(())
    }
}

/// The text encoder with the questions that teach it.
struct Probed<'a> {
    text: &'a mut T5Encoder,
    probe: &'a mut TextProbe,
}

impl Network for Probed<'_> {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        self.text.slots(&format!("{prefix}text."), slots);
        self.probe.slots(&format!("{prefix}probe."), slots);
    }
}

/// Trains until the phases end, the limits are reached or the user stops.
///
/// `out` receives `checkpoint.safetensors`, `log.jsonl`, `sheet.png` and, in
/// `model/`, the model folder so far.
///
/// # Errors
/// File errors, and [`EngineError::NotFinite`] when the loss diverges; the last
/// checkpoint stays as it was.
pub fn run(
    run: &TransformerRun<'_>,
    device: &Device,
    out: &Path,
    limits: &Limits<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), EngineError> {
    run.transformer.check()?;
    let model = out.join("model");
    let text_folder = model.join("text");
    std::fs::create_dir_all(&text_folder)
        .map_err(|error| EngineError::write(&text_folder, error))?;
    let start = run.start.map(ModelFolder::open).transpose()?;
    let text_config = prepare_text(run, start.as_ref(), &text_folder)?;
    let tokenizer = PromptTokenizer::open(
        &text_folder.join("tokenizer.json"),
        run.transformer.text_maxlen,
    )?;

    let training = device.clone().autodiff();
    let mut learner = Learner {
        transformer: Transformer::new(run.transformer, &training, usize::MAX),
        text: T5Encoder::new(&text_config, &training),
    };
    learner.initialise(run.seed, &training);
    if let Some(start) = &start {
        learner.load(start, run.loss.caption_steps == 0, &training)?;
    }
    if let Some(folder) = run.mean_with {
        let mut other = Learner {
            transformer: Transformer::new(run.transformer, &training, usize::MAX),
            text: T5Encoder::new(&text_config, &training),
        };
        other.load(&ModelFolder::open(folder)?, true, &training)?;
        learner.mix_with(&mut other, &training)?;
    }
    let checkpoint_path = out.join("checkpoint.safetensors");
    let saved = if limits.resume && checkpoint_path.exists() {
        Some(Checkpoint::load(&checkpoint_path)?)
    } else {
        None
    };
    if saved.is_none() && run.loss.caption_steps > 0 {
        learn_captions(
            run,
            &tokenizer,
            &mut learner.text,
            &training,
            limits,
            progress,
        )?;
    }
    let mut optimizer = AdamW::new(&mut learner, run.optimizer.clone())?;
    if let Some(saved) = saved {
        let wrong = optimizer.restore(saved.state, saved.step);
        super::refuse_other_network(&checkpoint_path, wrong)?;
    }

    let mut replicas: Vec<Learner> = (0..run.optimizer.workers.max(1))
        .map(|_| Learner {
            transformer: Transformer::new(run.transformer, &training, usize::MAX),
            text: T5Encoder::new(&text_config, &training),
        })
        .collect();
    drop(learner);

    let mut teacher = Teacher {
        seed: run.seed,
        vae: run.vae.clone(),
        transformer: run.transformer.clone(),
        loss: run.loss.clone(),
        phases: run.phases.to_vec(),
        features: FeatureCache::default(),
    };
    let batches = feed::start(optimizer.steps(), move |step| teacher.prepare(step))?;
    let subject = Drawer {
        run,
        text_config: &text_config,
        tokenizer: &tokenizer,
        device,
        training: &training,
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
    let whole = optimizer.steps() == run.phases.iter().map(|phase| phase.steps).sum::<u64>();
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
    // A run that was killed after its last checkpoint still lacks the model.
    if let (true, Some(last)) = (whole, run.phases.last()) {
        subject.save(&optimizer, last)?;
    }
    Ok(())
}

/// The transformer with its text encoder as a subject of the loop.
struct Drawer<'a> {
    run: &'a TransformerRun<'a>,
    text_config: &'a T5Config,
    tokenizer: &'a PromptTokenizer,
    device: &'a Device,
    training: &'a Device,
    out: &'a Path,
}

impl Subject for Drawer<'_> {
    type Network = Learner;
    type Prepared = (Batch, Vec<Lesson>);

    fn step_and_len(&self, (batch, _): &(Batch, Vec<Lesson>)) -> (u64, usize) {
        (batch.step, batch.images.len())
    }

    fn name_of(&self, (batch, _): &(Batch, Vec<Lesson>), part: Range<usize>) -> String {
        format!("{:?}", &batch.card_seeds[part])
    }

    fn device_of<'a>(&'a self, _network: &'a Learner) -> &'a Device {
        self.training
    }

    fn learn(
        &self,
        learner: &mut Learner,
        (batch, lessons): &(Batch, Vec<Lesson>),
        part: Range<usize>,
    ) -> Result<(Rows, Measures), EngineError> {
        let (run, lessons) = (self.run, &lessons[part.clone()]);
        let text = encode_captions(run, self.tokenizer, learner, batch, part.clone())?;
        let condition = learner.transformer.condition(text.padded, &text.lens);
        let inputs = input_tensor(lessons, run.transformer.token_bits(), self.training);
        let logits = learner
            .transformer
            .forward_all(&condition, inputs, &batch.learned);
        let loss = bit_loss(logits, lessons);
        let weights = star_weights(batch, part, run.loss.stars, self.training);
        let counted = BitLoss {
            per_bit: loss.per_bit.clone() * weights,
            right: loss.right.clone(),
        };
        let total = counted.total(&batch.learned, run.loss.reweight_by_scale, batch.given);
        let measures = Measures {
            loss: total.clone().into_scalar(),
            mean_square: None,
            given: batch.given,
            bit_accuracy: BitLoss::by_scale(&loss.right, &batch.learned),
            scale_loss: BitLoss::by_scale(&loss.per_bit, &batch.learned),
        };
        Ok((gradient_rows(learner, &total.backward())?, measures))
    }

    fn save(&self, optimizer: &AdamW, phase: &Phase) -> Result<(), EngineError> {
        let (run, model) = (self.run, self.out.join("model"));
        let mut average = Learner {
            transformer: Transformer::new(run.transformer, self.device, usize::MAX),
            text: T5Encoder::new(self.text_config, self.device),
        };
        optimizer.copy_average_to(&mut average, self.device);
        let mut bundle = Bundle::from_parts(
            average.transformer,
            run.vae.clone(),
            average.text,
            PromptTokenizer::open(
                &model.join("text/tokenizer.json"),
                run.transformer.text_maxlen,
            )?,
            super::starter_description(run.transformer, run.vae, phase.scale_count)?,
            &model,
        )?;
        bundle.save(&model)?;
        sheet(&bundle, &self.out.join("sheet.png"))
    }
}

/// Writes the word list of the run to `folder` and gives the sizes of its text encoder.
fn prepare_text(
    run: &TransformerRun<'_>,
    start: Option<&ModelFolder>,
    folder: &Path,
) -> Result<T5Config, EngineError> {
    let words_path = folder.join("tokenizer.json");
    if let Some(start) = start {
        let path = start.text_tokenizer_path();
        let words = std::fs::read(&path).map_err(|error| EngineError::read(&path, error))?;
        atomic_write(&words_path, &words)?;
        let path = start.text_config_path();
        let text = std::fs::read_to_string(&path).map_err(|e| EngineError::read(&path, e))?;
        return serde_json::from_str(&text)
            .map_err(|error| EngineError::bad_model(&path, error.to_string()));
    }
    let captions = corpus(20_000, run.seed);
    let words = Unigram::from_captions(captions.iter().map(String::as_str), MOST_WORDS)?;
    words.save(&words_path)?;
    Ok(T5Config {
        vocab_size: words.vocab_size(),
        ..run.text.clone()
    })
}

/// Teaches the text encoder what captions name, without pictures.
fn learn_captions(
    run: &TransformerRun<'_>,
    tokenizer: &PromptTokenizer,
    text: &mut T5Encoder,
    training: &Device,
    limits: &Limits<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), EngineError> {
    let mut probe = TextProbe::new(run.text.d_model, training);
    probe.initialise(run.seed ^ 0x9B0B, training);
    let mut optimizer = AdamW::new(
        &mut Probed {
            text,
            probe: &mut probe,
        },
        AdamWConfig::default(),
    )?;
    for step in 0..run.loss.caption_steps {
        if limits.reached() {
            break;
        }
        let stream = Stream::new(run.seed ^ 0xCA97, step);
        let cards: Vec<Postcard> = (0..PROBE_BATCH as u64)
            .map(|index| Postcard::sample(stream.bits(index), Split::Train))
            .collect();
        let captions: Vec<Caption> = cards
            .iter()
            .enumerate()
            .map(|(index, card)| Caption::sample(card, stream.bits(index as u64)))
            .collect();
        let ids = captions
            .iter()
            .map(|c| tokenizer.encode(&c.text))
            .collect::<Result<Vec<_>, _>>()?;
        let (loss, right) = probe.loss(&text.forward(&ids), &cards, &captions);
        let rows = gradient_rows(
            &mut Probed {
                text,
                probe: &mut probe,
            },
            &loss.backward(),
        )?;
        let part = 1.0 - step as f32 / run.loss.caption_steps as f32;
        let warm = ((step + 1) as f32 / WARMUP_STEPS as f32).min(1.0);
        if optimizer.update(&rows, PROBE_RATE * part * warm).is_none() {
            return Err(EngineError::NotFinite {
                what: format!("gradient of caption step {}", step + 1),
                advice: "Start anew with another seed.".to_owned(),
            });
        }
        optimizer.copy_to(
            &mut Probed {
                text,
                probe: &mut probe,
            },
            training,
        );
        if (step + 1).is_multiple_of(run.log_every) {
            progress(&Progress::Captions {
                step: step + 1,
                loss: loss.into_scalar(),
                right: right.into_scalar(),
            });
        }
    }
    Ok(())
}

/// Text features of the batch's captions; some rows replaced by "no text" (spec section 8.2).
fn encode_captions(
    run: &TransformerRun<'_>,
    tokenizer: &PromptTokenizer,
    learner: &Learner,
    batch: &Batch,
    part: Range<usize>,
) -> Result<TextFeatures, EngineError> {
    let first = part.start as u64;
    let ids = batch.captions[part]
        .iter()
        .map(|c| tokenizer.encode(&c.text))
        .collect::<Result<Vec<_>, _>>()?;
    let text = learner.text.forward(&ids);
    let stream = Stream::new(run.seed ^ 0xD209, batch.step);
    let chance = run.loss.condition_drop;
    Ok(with_dropped(
        &learner.transformer,
        text,
        stream,
        first,
        |_| chance,
    ))
}

/// Text features of which some rows, by `chance`, are replaced by "no text"; `first` is the number of the first row.
pub(crate) fn with_dropped(
    transformer: &Transformer,
    text: TextFeatures,
    stream: Stream,
    first: u64,
    chance: impl Fn(usize) -> f32,
) -> TextFeatures {
    let rows = text.lens.len();
    let drop = |row: usize| stream.uniform(first + row as u64) < f64::from(chance(row));
    let dropped: Vec<f32> = (0..rows)
        .map(|row| f32::from(u8::from(drop(row))))
        .collect();
    if dropped.iter().all(|&d| d == 0.0) {
        return text;
    }
    let mask = TensorData::new(dropped, [rows, 1, 1]);
    let mask = Tensor::<3>::from_data(mask, &text.padded.device());
    let nothing = transformer.unconditional(&text.lens, text.padded.dims()[1]);
    let kept = text.padded * mask.clone().neg().add_scalar(1.0);
    TextFeatures {
        padded: kept + nothing * mask,
        lens: text.lens,
    }
}

/// Inputs of scales 2 and up of `lessons`, `[B, L, d']`; `None` for a single scale.
pub(crate) fn input_tensor(lessons: &[Lesson], bits: usize, device: &Device) -> Option<Tensor<3>> {
    let tokens = lessons.first()?.inputs.len() / bits;
    if tokens == 0 {
        return None;
    }
    let values: Vec<f32> = lessons
        .iter()
        .flat_map(|lesson| lesson.inputs.iter().copied())
        .collect();
    Some(Tensor::from_data(
        TensorData::new(values, [lessons.len(), tokens, bits]),
        device,
    ))
}

/// Sixteen pictures from held-out captions.
fn sheet(bundle: &Bundle, path: &Path) -> Result<(), EngineError> {
    let mut images = Vec::new();
    for seed in 0..16 {
        let caption = Caption::regular(&Postcard::sample(seed, Split::HeldOut), seed);
        let mut spec = GenerateSpec::new(caption.text, seed);
        spec.cfg = vec![bundle.info.cfg];
        spec.tau = vec![bundle.info.tau];
        images.push(bundle.draw(&spec)?);
    }
    write_sheet(path, &images, 8)
}
