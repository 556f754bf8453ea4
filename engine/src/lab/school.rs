//! A small world in which transformers learn from nothing, one beside the other: the same pictures, captions, text
//! encoder and tokenizer for all, so that they differ in what a study is about and in nothing else.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::Effort;
use super::exam::Exam;
use super::frechet::Cloud;
use super::measures::{psnr_of, share};
use crate::api::{EngineError, GenerateSpec, Rgb8Image};
use crate::generate::{Bundle, Damage, Layout, Outcome, Plan, Texts, generate};
use crate::kernels::Precision;
use crate::model::{Condition, ModelConfig, Transformer};
use crate::postcards::{Caption, Colour, Land, Named, Postcard, Sky, Split, Time, check, paint};
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::text::TextFeatures;
use crate::train::optimizer::{AdamW, AdamWConfig, gradient_rows};
use crate::train::parallel::{self, Crew};
use crate::train::self_correction::{Lesson, lesson};
use crate::train::transformer::{input_tensor, with_dropped};
use crate::train::transformer_loss::bit_loss;
use crate::vae::bsq::ResidualSum;
use crate::vae::{Vae, pixels_from_images};
use crate::weights::Network;

/// Grids of every picture: 1, 2, 4, 6 and 8 squared, 128×128 pixels.
pub(super) const SCALES: usize = 5;
/// Pictures of an update.
const BATCH: usize = 8;
/// Pictures drawn or encoded together.
const TOGETHER: usize = 16;
/// Updates in which the learning rate rises.
const WARMUP: u64 = 100;
/// Learning rates at the start and at the end.
const RATES: [f32; 2] = [1.5e-3, 2e-5];
/// Captions replaced by "no text".
const CAPTIONS_DROPPED: f32 = 0.1;
/// What is flipped to see whether it is mended: a tenth of the bits of the first three scales.
const DAMAGE: (f32, usize) = (0.1, 3);

/// What is asked of a picture: all else is the same in every one.
const OF_THING: [&str; 4] = ["thing", "thing colour", "thing place", "count"];

/// How much every arm of a study gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Runs of every arm, each with a seed of its own.
    pub(super) runs: u64,
    /// Updates of a transformer, of eight pictures each.
    pub(super) steps: u64,
    /// Different pictures.
    pub(super) pool: usize,
    /// Prompts drawn after each run.
    pub(super) prompts: usize,
    /// Updates of a tokenizer.
    pub(super) tokenizer_steps: u64,
    /// Threads that train.
    pub(super) workers: usize,
}

impl Budget {
    pub(super) fn of(effort: Effort) -> Self {
        if effort.is_quick() {
            Self {
                runs: 2,
                steps: 3,
                pool: 32,
                prompts: 4,
                tokenizer_steps: 2,
                workers: effort.workers,
            }
        } else {
            Self {
                runs: 3,
                steps: 1600 * effort.times,
                pool: 3072 * effort.times as usize,
                prompts: 128,
                tokenizer_steps: 1500 * effort.times,
                workers: effort.workers,
            }
        }
    }

    /// Pictures that a transformer learns from.
    pub(super) fn pictures(self) -> u64 {
        self.steps * BATCH as u64
    }
}

/// A postcard as the tokenizer sees it.
struct Sample {
    card: Postcard,
    seed: u64,
    features: Vec<f32>,
}

/// What all transformers of a study share.
pub(super) struct World<'a> {
    bundle: &'a Bundle,
    vae: &'a Vae,
    schedule: ScaleSchedule,
    painted: Vec<Sample>,
    /// Never learned from.
    asked: Vec<Sample>,
    of_painted: Cloud,
}

/// A network that learns to draw.
pub(super) trait Pupil: Network + Send + Sync {
    /// Its transformer.
    fn transformer(&self) -> &Transformer;

    /// The loss of `lessons`, per bit in nats, scales weighted as in training.
    fn loss(
        &self,
        condition: &Condition,
        inputs: Option<Tensor<3>>,
        lessons: &[Lesson],
        schedule: &ScaleSchedule,
    ) -> Tensor<1>;

    /// Draws the pictures of `plan`, by its seeds, guidance, temperature and rule at least.
    ///
    /// # Errors
    /// What drawing returns.
    fn draw(&self, texts: &Texts, plan: &Plan) -> Result<Vec<ResidualSum>, EngineError>;
}

impl Pupil for Transformer {
    fn transformer(&self) -> &Transformer {
        self
    }

    fn loss(
        &self,
        condition: &Condition,
        inputs: Option<Tensor<3>>,
        lessons: &[Lesson],
        schedule: &ScaleSchedule,
    ) -> Tensor<1> {
        let logits = self.forward_all(condition, inputs, schedule);
        bit_loss(logits, lessons).total(schedule, true, 0)
    }

    fn draw(&self, texts: &Texts, plan: &Plan) -> Result<Vec<ResidualSum>, EngineError> {
        match generate(self, texts, plan, &mut super::Bits::default())? {
            Outcome::Done(sums) => Ok(sums),
            Outcome::Cancelled => Err(EngineError::internal("drawing stopped by nobody")),
        }
    }
}

/// A small transformer for the codes of `d` bits.
pub(super) fn small(depth: usize, heads: usize, bundle: &Bundle, d: usize) -> ModelConfig {
    ModelConfig {
        depth,
        width: 32 * heads,
        heads,
        mlp_hidden: 96 * heads,
        codebook_dim: d,
        ..bundle.transformer.config.clone()
    }
}

/// A postcard of green hills by day under an empty sky, with something in front: what it is, its colour and its place
/// are all there is to learn, which takes minutes where the whole world takes hours.
pub(super) fn simple(seed: u64) -> Postcard {
    let stream = Stream::new(seed, 0x51E1);
    let tries = (0..u64::MAX).map(|index| Postcard {
        time: Time::Day,
        land: Land::Hills,
        land_colour: Colour::Green,
        body: None,
        sky: Sky::Clear,
        ..Postcard::sample(stream.bits(index), Split::Train)
    });
    let mut legal = tries.filter(|card| card.thing.is_some() && card.is_legal());
    legal.next().unwrap_or_default()
}

fn cards(stream: Stream, count: usize) -> Vec<(Postcard, u64)> {
    let seeds = (0..count as u64).map(|index| stream.bits(index));
    seeds.map(|seed| (simple(seed), seed)).collect()
}

/// What is asked for, with the number that each is painted from: never learned from.
pub(super) fn asked_cards(budget: Budget, seed: u64) -> Vec<(Postcard, u64)> {
    cards(Stream::new(seed, 0x5C01), budget.prompts)
}

/// Whether `image` shows the thing of `card`: kind, colour, and place or number.
pub(super) fn of_thing(image: &Rgb8Image, card: &Postcard) -> Vec<bool> {
    let checks = check(image, card, Named::all_of(card))
        .entries()
        .into_iter();
    let own = checks.filter(|(name, _)| OF_THING.contains(name));
    own.filter_map(|(_, is)| is).collect()
}

/// Features of `cards`, painted.
fn encoded(
    vae: &Vae,
    schedule: &ScaleSchedule,
    cards: Vec<(Postcard, u64)>,
) -> Result<Vec<Sample>, EngineError> {
    let (width, height) = schedule.size_px();
    let parts = cards.par_chunks(TOGETHER).map(|part| {
        let images: Vec<Rgb8Image> = part
            .iter()
            .map(|(card, seed)| paint(card, *seed, width, height))
            .collect();
        let features = maps_of(vae, &images)?;
        let one = |((card, seed), features): (&(Postcard, u64), Vec<f32>)| Sample {
            card: *card,
            seed: *seed,
            features,
        };
        Ok(part.iter().zip(features).map(one).collect::<Vec<_>>())
    });
    let parts: Result<Vec<_>, EngineError> = parts.collect();
    Ok(parts?.into_iter().flatten().collect())
}

/// Features `[d, h, w]` of every picture.
fn maps_of(vae: &Vae, images: &[Rgb8Image]) -> Result<Vec<Vec<f32>>, EngineError> {
    let features = vae.encode(pixels_from_images(images, vae.device()));
    let size = features.dims()[1..].iter().product();
    let values = features
        .try_into_vec_as::<f32>()
        .map_err(|error| EngineError::internal(format!("encoding: {error}")))?;
    Ok(values.chunks_exact(size).map(<[f32]>::to_vec).collect())
}

/// The mean over places of every channel of a map of `d` channels.
fn pooled(map: &[f32], d: usize) -> Vec<f64> {
    let places = map.len() / d;
    let mean = |row: &[f32]| row.iter().map(|&v| f64::from(v)).sum::<f64>() / places as f64;
    map.chunks_exact(places).map(mean).collect()
}

impl<'a> World<'a> {
    /// Paints and encodes the pictures, with the tokenizer `vae` and the texts of `bundle`.
    pub(super) fn new(
        bundle: &'a Bundle,
        vae: &'a Vae,
        budget: Budget,
        seed: u64,
    ) -> Result<Self, EngineError> {
        let schedule = ScaleSchedule::nearest(1.0, SCALES)?;
        let d = vae.config.codebook_dim;
        let pool = cards(Stream::new(seed, 0x5C00), budget.pool);
        let asked = asked_cards(budget, seed);
        let painted = encoded(vae, &schedule, pool)?;
        let of_painted = Cloud::of(painted.iter().map(|own| pooled(&own.features, d)));
        Ok(Self {
            asked: encoded(vae, &schedule, asked)?,
            bundle,
            vae,
            schedule,
            painted,
            of_painted,
        })
    }

    /// Bits of a code.
    pub(super) fn d(&self) -> usize {
        self.vae.config.codebook_dim
    }

    /// The lesson of a picture, its bits flipped as `flip` does.
    pub(super) fn lesson(&self, features: &[f32], flip: impl FnMut(usize, &mut Vec<u8>)) -> Lesson {
        lesson(features, self.d(), &self.schedule.scales, false, flip)
    }

    /// Tokens of the pictures of an update.
    pub(super) fn tokens_of_update(&self) -> usize {
        BATCH * self.schedule.tokens()
    }

    /// The grids.
    pub(super) fn schedule(&self) -> &ScaleSchedule {
        &self.schedule
    }

    /// Captions as the text encoder gives them; on a device that records, without a way back into it.
    fn texts(&self, captions: &[String], training: bool) -> Result<TextFeatures, EngineError> {
        let prompts: Vec<&str> = captions.iter().map(String::as_str).collect();
        let text = self.bundle.encode(&prompts)?;
        Ok(TextFeatures {
            padded: if training {
                text.padded.autodiff()
            } else {
                text.padded
            },
            lens: text.lens,
        })
    }

    /// Trains what `make` gives, from random weights; `teach` makes the lesson of a picture's features.
    pub(super) fn train<P: Pupil>(
        &self,
        budget: Budget,
        seed: u64,
        make: impl Fn(&Device) -> P,
        teach: impl Fn(&[f32], Stream) -> Lesson + Sync,
    ) -> Result<P, EngineError> {
        let device = self.vae.device();
        let training = device.clone().autodiff();
        let workers = budget.workers;
        let mut first = make(&training);
        first.initialise(seed, &training);
        let config = AdamWConfig {
            ema_decay: 0.99,
            workers,
            precision: Precision::Half,
            ..AdamWConfig::default()
        };
        let mut optimizer = AdamW::new(&mut first, config)?;
        drop(first);
        let mut replicas: Vec<P> = (0..workers).map(|_| make(&training)).collect();
        let (crew, parts) = (Crew::sharing(workers)?, parallel::parts(BATCH, workers));
        for step in 0..budget.steps {
            let by_lot = Stream::new(seed ^ 0x1AB5, step);
            let work = |pupil: &mut P, part: std::ops::Range<usize>| {
                optimizer.copy_to(pupil, &training);
                let mut lessons = Vec::new();
                let mut captions = Vec::new();
                for index in part.clone() {
                    let own = &self.painted[by_lot.below(index as u64, self.painted.len())];
                    let words = by_lot.bits(1 << 20 | index as u64);
                    captions.push(Caption::sample(&own.card, words).text);
                    let stream = Stream::new(seed ^ 0xF11B, step << 16 | index as u64);
                    lessons.push(teach(&own.features, stream));
                }
                let dropped = Stream::new(seed ^ 0xD209, step);
                let text = with_dropped(
                    pupil.transformer(),
                    self.texts(&captions, true)?,
                    dropped,
                    part.start as u64,
                    |_| CAPTIONS_DROPPED,
                );
                let loss = self.loss_of(pupil, &text, &lessons, &training);
                let value: f32 = loss.clone().into_scalar();
                Ok((gradient_rows(pupil, &loss.backward())?, value))
            };
            let (rows, losses) = crew.update(&mut replicas, Precision::Half, &parts, work)?;
            let part = step as f32 / budget.steps as f32;
            let warm = ((step + 1) as f32 / WARMUP as f32).min(1.0);
            let rate = warm * (RATES[0] + (RATES[1] - RATES[0]) * part);
            let finite = losses.iter().all(|loss| loss.is_finite());
            if !finite || optimizer.update(&rows, rate).is_none() {
                return Err(EngineError::NotFinite {
                    what: format!("loss of step {} of a study", step + 1),
                    advice: "Start it again with another seed.".to_owned(),
                });
            }
        }
        let mut pupil = make(device);
        optimizer.copy_average_to(&mut pupil, device);
        Ok(pupil)
    }

    fn loss_of<P: Pupil>(
        &self,
        pupil: &P,
        text: &TextFeatures,
        lessons: &[Lesson],
        device: &Device,
    ) -> Tensor<1> {
        let transformer = pupil.transformer();
        let condition = transformer.condition(text.padded.clone(), &text.lens);
        let inputs = input_tensor(lessons, transformer.config.token_bits(), device);
        pupil.loss(&condition, inputs, lessons, &self.schedule)
    }

    /// How to draw, for any text.
    fn plan(&self, depth: usize) -> Result<Plan, EngineError> {
        let mut spec = GenerateSpec::new("", 0);
        spec.cfg = vec![self.bundle.info.cfg];
        spec.tau = vec![self.bundle.info.tau];
        Plan::new(&spec, SCALES, depth)
    }

    /// Asks `pupil` for pictures it has not seen; `damage` also while bits are flipped.
    pub(super) fn examine<P: Pupil>(&self, pupil: &P, damage: bool) -> Result<Exam, EngineError> {
        let mut plan = self.plan(pupil.transformer().config.depth)?;
        let device = self.vae.device();
        let size = Layout::of(&pupil.transformer().config, plan.schedule.last());
        let size = size.code_scale(plan.schedule.last());
        let mut exam = Exam::default();
        let mut drawn = Vec::new();
        let (mut named, mut found, mut found_flipped) = (0, 0, 0);
        for asked in self.asked.chunks(TOGETHER) {
            let each = 1.0 / self.asked.len() as f32;
            let words: Vec<String> = asked
                .iter()
                .map(|own| Caption::regular(&own.card, own.seed).text)
                .collect();
            let text = self.texts(&words, false)?;
            let lessons: Vec<Lesson> = asked
                .iter()
                .map(|own| self.lesson(&own.features, |_, _| ()))
                .collect();
            let loss: f32 = self.loss_of(pupil, &text, &lessons, device).into_scalar();
            exam.loss += each * asked.len() as f32 * loss;
            let texts: Texts = text.into();
            plan.seeds = asked.iter().map(|own| own.seed).collect();
            let mut draw = |damage: Option<Damage>| -> Result<Vec<Rgb8Image>, EngineError> {
                plan.damage = damage;
                let sums = pupil.draw(&texts, &plan)?;
                let picture = |sum: &ResidualSum| self.vae.picture(sum.latents(), size);
                sums.par_iter().map(picture).collect()
            };
            let whole = draw(None)?;
            let flipped = if damage {
                draw(Some(Damage {
                    share: DAMAGE.0,
                    scales: DAMAGE.1,
                    seed: asked[0].seed,
                }))?
            } else {
                whole.clone()
            };
            for ((own, image), flipped) in asked.iter().zip(&whole).zip(&flipped) {
                let right = |checks: &[bool]| checks.iter().filter(|is| **is).count();
                let checks = of_thing(image, &own.card);
                exam.followed += each * share(checks.iter().all(|is| *is));
                named += checks.len();
                found += right(&checks);
                found_flipped += right(&of_thing(flipped, &own.card));
                if damage {
                    exam.recovery += each * psnr_of(image, flipped).min(99.0);
                }
            }
            let maps = maps_of(self.vae, &whole)?;
            drawn.extend(maps.iter().map(|map| pooled(map, self.d())));
        }
        exam.found = found as f32 / named.max(1) as f32;
        exam.found_flipped = found_flipped as f32 / named.max(1) as f32;
        exam.frechet = Cloud::of(drawn.into_iter()).distance(&self.of_painted) as f32;
        Ok(exam)
    }
}
