//! Does a model draw what it is told? Prompts in, pictures out, read back.
//!
//! Postcards can be read from their pixels, so following a prompt is a number:
//! a prompt is followed when every attribute it names is found. Combinations
//! never trained on are counted apart, and so are loosely worded prompts.

mod variety;

use serde::Serialize;

pub use variety::AttributeSpread;

use crate::api::{EngineError, GenerateSpec, Rgb8Image};
use crate::generate::{Bundle, Outcome, Plan, ScaleView, Watcher, generate};
use crate::postcards::{Caption, Checks, Postcard, Split, check, paint, read};
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::train::vae::{psnr_from_square, reconstruct};
use crate::vae::Vae;

/// Pictures drawn together.
const BATCH: usize = 16;
/// Loosely worded prompts whose pictures are compared.
const PROMPTS: usize = 16;
/// Pictures kept to be looked at.
const SAMPLES: usize = 24;

/// What to ask.
#[derive(Clone, Debug)]
pub struct EvalSpec {
    /// Prompts per group.
    pub prompts: usize,
    /// Seed of prompts and pictures.
    pub seed: u64,
    /// Height over width.
    pub ratio: f32,
    /// Scales to draw; the model's own number when `None`.
    pub scale_count: Option<usize>,
    /// Guidance, one value or one per scale; the model's own when empty.
    pub cfg: Vec<f32>,
    /// Temperature, one value or one per scale; the model's own when empty.
    pub tau: Vec<f32>,
    /// Certainty, see [`GenerateSpec::certainty`].
    pub certainty: Option<f32>,
}

impl EvalSpec {
    /// `prompts` per group, square, drawn as the model usually draws.
    pub fn new(prompts: usize, seed: u64) -> Self {
        Self {
            prompts,
            seed,
            ratio: 1.0,
            scale_count: None,
            cfg: Vec::new(),
            tau: Vec::new(),
            certainty: None,
        }
    }
}

/// How often one attribute was right.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AttributeScore {
    /// Its name.
    pub name: String,
    /// Prompts that named it.
    pub named: usize,
    /// Of those, pictures that show it.
    pub right: usize,
}

/// One group of prompts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GroupScore {
    /// `seen`, `held_out` or `free`; with `tokenizer, ` before it for pictures that were only encoded and decoded.
    pub group: String,
    /// Prompts asked.
    pub prompts: usize,
    /// Prompts of which every named attribute was found, clouds and stars aside.
    pub followed: usize,
    /// The same, clouds and stars included.
    pub followed_with_sky: usize,
    /// By attribute.
    pub attributes: Vec<AttributeScore>,
}

impl GroupScore {
    fn count(&mut self, checks: &Checks) {
        self.prompts += 1;
        self.followed += usize::from(checks.followed());
        self.followed_with_sky += usize::from(checks.followed_with_sky());
        for (name, result) in checks.entries() {
            let Some(right) = result else { continue };
            let place = match self.attributes.iter().position(|a| a.name == name) {
                Some(place) => place,
                None => {
                    self.attributes.push(AttributeScore {
                        name: name.to_owned(),
                        ..AttributeScore::default()
                    });
                    self.attributes.len() - 1
                }
            };
            if let Some(score) = self.attributes.get_mut(place) {
                score.named += 1;
                score.right += usize::from(right);
            }
        }
    }

    /// Share of prompts followed, 0–1.
    pub fn share(&self) -> f32 {
        self.followed as f32 / self.prompts.max(1) as f32
    }
}

/// Everything `infinity eval` says.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// Name of the model.
    pub model: String,
    /// Size of the pictures, width and height in pixels.
    pub size_px: (u32, u32),
    /// Guidance, one value or one per scale.
    pub cfg: Vec<f32>,
    /// Temperature, one value or one per scale.
    pub tau: Vec<f32>,
    /// Peak signal-to-noise ratio of held-out postcards through the tokenizer, in dB.
    pub reconstruction_psnr: f32,
    /// Seen and held-out postcards read back from their reconstructions: the ceiling of everything below.
    pub reconstructions: [GroupScore; 2],
    /// Groups of prompts.
    pub groups: Vec<GroupScore>,
    /// How different sixteen pictures of one loosely worded prompt are.
    pub variety: Vec<AttributeSpread>,
    /// The first held-out prompts with their pictures, as they come.
    #[serde(skip)]
    pub samples: Samples,
}

/// Prompts with their pictures.
type Samples = Vec<(String, Rgb8Image)>;

struct Quiet;

impl Watcher for Quiet {
    fn scale(&mut self, _view: &ScaleView<'_>) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Asks `bundle` what `spec` says; `progress` hears of every batch, as done and total.
///
/// # Errors
/// [`EngineError::BadSetting`] for a meaningless spec, else what drawing returns.
pub fn evaluate(
    bundle: &Bundle,
    spec: &EvalSpec,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<EvalReport, EngineError> {
    let mut plan = plan_of(bundle, spec)?;
    let (reconstruction_psnr, reconstructions) =
        through_tokenizer(&bundle.vae, spec, &plan.schedule)?;
    let (scores, samples) = follow(bundle, spec, &mut plan, &GROUPS, progress)?;
    Ok(EvalReport {
        model: bundle.info.name.clone(),
        size_px: plan.schedule.size_px(),
        cfg: shortest(&plan.cfg),
        tau: shortest(&plan.tau),
        reconstruction_psnr,
        reconstructions,
        groups: scores,
        variety: Variety::new(spec.seed, PROMPTS).measure(bundle, spec)?,
        samples,
    })
}

/// What `spec` asks of `bundle`, for any text.
fn plan_of(bundle: &Bundle, spec: &EvalSpec) -> Result<Plan, EngineError> {
    let mut wish = GenerateSpec::new("", spec.seed);
    wish.ratio = spec.ratio;
    wish.scale_count = Some(spec.scale_count.unwrap_or(bundle.info.scale_count));
    let or_own = |list: &[f32], own: f32| {
        if list.is_empty() {
            vec![own]
        } else {
            list.to_vec()
        }
    };
    wish.cfg = or_own(&spec.cfg, bundle.info.cfg);
    wish.tau = or_own(&spec.tau, bundle.info.tau);
    wish.certainty = spec.certainty;
    Plan::new(
        &wish,
        bundle.info.scale_count,
        bundle.transformer.config.depth,
    )
}

/// One value when all are alike.
fn shortest(values: &[f32]) -> Vec<f32> {
    match values.first() {
        Some(first) if values.iter().all(|value| value == first) => vec![*first],
        _ => values.to_vec(),
    }
}

/// Groups of prompts: name, which postcards, and whether the captions are loose.
const GROUPS: [(&str, Split, bool); 3] = [
    ("seen", Split::Train, false),
    ("held_out", Split::HeldOut, false),
    ("free", Split::Any, true),
];

/// Scores of `groups`, and the first held-out pictures.
fn follow(
    bundle: &Bundle,
    spec: &EvalSpec,
    plan: &mut Plan,
    groups: &[(&str, Split, bool)],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Vec<GroupScore>, Samples), EngineError> {
    let total = groups.len() * spec.prompts;
    let mut scores = Vec::new();
    let mut samples = Vec::new();
    for (group_index, &(name, split, free)) in groups.iter().enumerate() {
        let stream = Stream::new(spec.seed ^ 0xE7A1, group_index as u64);
        let mut score = GroupScore {
            group: name.to_owned(),
            ..GroupScore::default()
        };
        let mut first = 0;
        while first < spec.prompts {
            let count = BATCH.min(spec.prompts - first);
            let seeds: Vec<u64> = (first..first + count)
                .map(|index| stream.bits(index as u64))
                .collect();
            let cards: Vec<Postcard> = seeds
                .iter()
                .map(|&seed| Postcard::sample(seed, split))
                .collect();
            let caption = |(card, &seed): (&Postcard, &u64)| {
                if free {
                    Caption::free(card, seed)
                } else {
                    Caption::regular(card, seed)
                }
            };
            let captions: Vec<Caption> = cards.iter().zip(&seeds).map(caption).collect();
            plan.seeds = seeds;
            let images = draw(bundle, plan, &captions)?;
            for ((image, card), caption) in images.into_iter().zip(&cards).zip(&captions) {
                score.count(&check(&image, card, caption.named));
                if name == "held_out" && samples.len() < SAMPLES {
                    samples.push((caption.text.clone(), image));
                }
            }
            first += count;
            progress(group_index * spec.prompts + first, total);
        }
        scores.push(score);
    }
    Ok((scores, samples))
}

/// Shares of seen and held-out prompts that are followed, in the mean.
///
/// # Errors
/// As [`evaluate`].
pub fn followed(bundle: &Bundle, spec: &EvalSpec) -> Result<f32, EngineError> {
    let named = &GROUPS[..2];
    let mut plan = plan_of(bundle, spec)?;
    let (scores, _) = follow(bundle, spec, &mut plan, named, &mut |_, _| ())?;
    Ok(scores.iter().map(GroupScore::share).sum::<f32>() / named.len() as f32)
}

/// Loosely worded prompts whose pictures are compared with each other.
pub struct Variety {
    prompts: Vec<variety::Prompt>,
}

impl Variety {
    /// `count` prompts, with painted postcards to compare with.
    pub fn new(seed: u64, count: usize) -> Self {
        Self {
            prompts: variety::prompts(seed, count),
        }
    }

    /// How different sixteen pictures of one prompt are.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn measure(
        &self,
        bundle: &Bundle,
        spec: &EvalSpec,
    ) -> Result<Vec<AttributeSpread>, EngineError> {
        let mut plan = plan_of(bundle, spec)?;
        plan.seeds = (0..variety::PICTURES as u64).collect();
        let mut drawn = Vec::new();
        for prompt in &self.prompts {
            let captions = vec![prompt.caption.clone(); variety::PICTURES];
            let images = draw(bundle, &plan, &captions)?;
            drawn.push(images.iter().map(read).collect());
        }
        Ok(variety::spread(&self.prompts, &drawn))
    }
}

fn draw(bundle: &Bundle, plan: &Plan, captions: &[Caption]) -> Result<Vec<Rgb8Image>, EngineError> {
    let prompts: Vec<&str> = captions
        .iter()
        .map(|caption| caption.text.as_str())
        .collect();
    let text = bundle.encode(&prompts)?;
    match generate(bundle.wardrobe(), &text.into(), plan, &mut Quiet)? {
        Outcome::Done(sums) => {
            let last = plan.schedule.last();
            sums.iter()
                .map(|sum| bundle.preview(sum, last, last))
                .collect()
        }
        Outcome::Cancelled => Err(EngineError::internal("drawing stopped by nobody")),
    }
}

/// Signal-to-noise ratio of held-out postcards through the tokenizer, and read-back of seen and held-out ones.
///
/// # Errors
/// What reading and computing return.
pub fn through_tokenizer(
    vae: &Vae,
    spec: &EvalSpec,
    schedule: &ScaleSchedule,
) -> Result<(f32, [GroupScore; 2]), EngineError> {
    let (_, seen) = reconstruct_group(vae, spec, schedule, Split::Train, "tokenizer, seen")?;
    let (psnr, held_out) =
        reconstruct_group(vae, spec, schedule, Split::HeldOut, "tokenizer, held out")?;
    Ok((psnr, [seen, held_out]))
}

fn reconstruct_group(
    vae: &Vae,
    spec: &EvalSpec,
    schedule: &ScaleSchedule,
    split: Split,
    name: &str,
) -> Result<(f32, GroupScore), EngineError> {
    let stream = Stream::new(spec.seed ^ 0x9EC0, 0);
    let (width, height) = schedule.size_px();
    let mut score = GroupScore {
        group: name.to_owned(),
        ..GroupScore::default()
    };
    let (mut square, mut values) = (0.0_f64, 0_usize);
    let mut first = 0;
    while first < spec.prompts {
        let count = BATCH.min(spec.prompts - first);
        let seeds: Vec<u64> = (first..first + count)
            .map(|index| stream.bits(index as u64))
            .collect();
        let cards: Vec<Postcard> = seeds
            .iter()
            .map(|&seed| Postcard::sample(seed, split))
            .collect();
        let painted: Vec<_> = cards
            .iter()
            .zip(&seeds)
            .map(|(card, &seed)| paint(card, seed, width, height))
            .collect();
        let again = reconstruct(vae, &painted, &schedule.scales)?;
        for (((card, &seed), before), after) in cards.iter().zip(&seeds).zip(&painted).zip(&again) {
            let differences = before.pixels.iter().zip(after.pixels.iter());
            square += differences
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
                .sum::<f64>();
            values += before.pixels.len();
            score.count(&check(after, card, Caption::regular(card, seed).named));
        }
        first += count;
    }
    let mean_square = square / values.max(1) as f64 / 127.5_f64.powi(2);
    Ok((psnr_from_square(mean_square as f32), score))
}
