//! Many small questions or one large: a classifier per bit against one softmax over all `2^d` words, each from nothing
//! and with the same budget (infinite-vocabulary classifier, Infinity, arXiv 2412.04431, table 5). No bits are flipped:
//! so short a training follows most without.

use std::time::Instant;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use serde::Serialize;

use super::exam::Runs;
use super::school::{Budget, Pupil, World, small};
use super::table::spread;
use super::tokenizers::{read_back, tokenizer};
use super::{Effort, Table};
use crate::api::EngineError;
use crate::generate::sampling::Rule;
use crate::generate::texts::Conditions;
use crate::generate::{Bundle, Layout, Plan, Texts};
use crate::layers::Linear;
use crate::model::{Condition, Look, ModelConfig, Rope, Transformer};
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::train::self_correction::{Lesson, token_weights};
use crate::vae::bsq::ResidualSum;
use crate::weights::{Init, Network, Slots};

/// Bits of the tokenizers.
const BITS: [usize; 2] = [10, 12];
/// Most updates of a transformer: there are many arms.
const MOST_STEPS: u64 = 800;

/// One kind of head on one tokenizer, by run.
#[derive(Clone, Debug, Serialize)]
pub struct ClassifierArm {
    /// `bits` or `words`.
    pub head: String,
    /// Bits per token.
    pub bits: usize,
    /// Values in the weights of the head.
    pub head_parameters: u64,
    /// Values in all weights.
    pub parameters: u64,
    /// Size of one table of logits for the pictures of an update, in MB.
    pub logits_mb: f32,
    /// Seconds of training.
    pub secs: Vec<f32>,
    /// What every run came to.
    #[serde(flatten)]
    pub runs: Runs,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct ClassifierReport {
    /// Pictures that every run learned from.
    pub pictures: u64,
    /// Bits, signal to noise in dB and share read back right of each tokenizer: what could be reached.
    pub tokenizers: Vec<(usize, f32, f32)>,
    /// Heads.
    pub arms: Vec<ClassifierArm>,
}

/// A transformer whose head answers with one of `2^d` words.
struct WordPupil {
    transformer: Transformer,
    words: Linear,
}

impl WordPupil {
    fn new(config: &ModelConfig, device: &Device) -> Self {
        let deviation = (1.0 / (3.0 * config.width as f32)).sqrt();
        let words = 1 << config.token_bits();
        Self {
            transformer: Transformer::new(config, device, usize::MAX),
            words: Linear::new(
                config.width,
                words,
                true,
                Init::Normal(0.02 * deviation),
                device,
            ),
        }
    }

    /// Log-probabilities are asked of this, `[R, L, 2^d]`.
    fn logits(&self, hidden: Tensor<3>, condition: &Condition) -> Tensor<3> {
        let input = self.transformer.head_input(hidden, condition);
        self.words.forward(input)
    }
}

impl Network for WordPupil {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        self.transformer
            .slots(&format!("{prefix}transformer."), slots);
        self.words.slots(&format!("{prefix}words."), slots);
    }
}

/// The number of the word that `bits` spell, the first bit the least.
fn word_of(bits: &[u8]) -> i64 {
    let add = |word: i64, &bit: &u8| word << 1 | i64::from(bit);
    bits.iter().rev().fold(0, add)
}

/// The bits of word `word`.
fn bits_of(word: usize, d: usize) -> impl Iterator<Item = u8> {
    (0..d).map(move |bit| (word >> bit & 1) as u8)
}

/// The word at which the sum of probabilities passes `lot`, of those that `rule` leaves: the likeliest `top_k`, without
/// the unlikeliest that hold `1 - top_p` together.
fn draw_word(logits: &[f32], lot: f64, rule: Rule) -> usize {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |word: usize| f64::from((logits[word] - top).exp());
    let mut words: Vec<usize> = (0..logits.len()).collect();
    words.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    if rule.top_k > 0 {
        words.truncate(rule.top_k);
    }
    if rule.top_p > 0.0 {
        let all: f64 = words.iter().copied().map(weight).sum();
        let mut cut = all * f64::from(1.0 - rule.top_p);
        while let [_, .., last] = words[..] {
            cut -= weight(last);
            if cut < 0.0 {
                break;
            }
            words.pop();
        }
    }
    let mut left = lot * words.iter().copied().map(weight).sum::<f64>();
    let passes = |word: &usize| {
        left -= weight(*word);
        left < 0.0
    };
    let first = words.first().copied().unwrap_or(0);
    words.into_iter().find(passes).unwrap_or(first)
}

impl Pupil for WordPupil {
    fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    fn loss(
        &self,
        condition: &Condition,
        inputs: Option<Tensor<3>>,
        lessons: &[Lesson],
        schedule: &ScaleSchedule,
    ) -> Tensor<1> {
        let d = self.transformer.config.token_bits();
        let hidden = self.transformer.hidden_all(condition, inputs, schedule);
        let logits = self.logits(hidden, condition);
        let ([rows, tokens, _], device) = (logits.dims(), logits.device());
        let words = lessons
            .iter()
            .flat_map(|lesson| lesson.labels.chunks_exact(d).map(word_of));
        let words = TensorData::new(words.collect::<Vec<i64>>(), [rows, tokens, 1]);
        let words = Tensor::<3, Int>::from_data(words, &device);
        let weights = token_weights(&schedule.scales, true, 0);
        let weights = TensorData::new(weights, [1, tokens, 1]);
        let weights = Tensor::<3>::from_data(weights, &device);
        let own = activation::log_softmax(logits, 2).gather(2, words);
        (own * weights).sum().neg() / (rows * d) as f32
    }

    fn draw(&self, texts: &Texts, plan: &Plan) -> Result<Vec<ResidualSum>, EngineError> {
        let transformer = &self.transformer;
        let (d, width) = (
            transformer.config.token_bits(),
            transformer.config.head_width(),
        );
        let layout = Layout::of(&transformer.config, plan.schedule.last());
        let conditions = Conditions::new(transformer, texts, plan);
        let rows = plan.seeds.len();
        let mut sums = vec![layout.empty(); rows];
        let mut caches = transformer.caches(plan.looked_back_on());
        for (index, &scale) in plan.schedule.scales.iter().enumerate() {
            let condition = conditions.at(index);
            let mut x = if index == 0 {
                transformer.first_token(condition)
            } else {
                let features = layout.next_input(&sums, plan, index, transformer);
                transformer.embed(conditions.with_rows(features), index)
            };
            let device = transformer.device();
            let rope = Rope::new(&plan.schedule, index..index + 1, width, device);
            for (block, cache) in caches.iter_mut().enumerate() {
                x = transformer.block(block, x, condition, &rope, Look::Cache(cache, None));
            }
            let logits = self.logits(x, condition) / plan.tau[index];
            let logits = if conditions.guided {
                let cfg = plan.cfg[index];
                logits.clone().narrow(0, 0, rows) * cfg + logits.narrow(0, rows, rows) * (1.0 - cfg)
            } else {
                logits
            };
            let logits = logits
                .try_into_vec_as::<f32>()
                .map_err(|error| EngineError::internal(format!("reading logits: {error}")))?;
            let pictures = logits.chunks_exact(scale.tokens() << d);
            for ((sum, logits), &seed) in sums.iter_mut().zip(pictures).zip(&plan.seeds) {
                let stream = Stream::new(seed, index as u64);
                let tokens = logits.chunks_exact(1 << d).zip(0..);
                let bits: Vec<u8> = tokens
                    .flat_map(|(own, at)| bits_of(draw_word(own, stream.uniform(at), plan.rule), d))
                    .collect();
                layout.add(sum, &bits, scale);
            }
        }
        Ok(sums)
    }
}

impl ClassifierReport {
    /// Trains and asks all arms with the texts of `bundle`; `progress` hears of each.
    ///
    /// # Errors
    /// What training and drawing return.
    pub fn measure(
        bundle: &Bundle,
        effort: Effort,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, EngineError> {
        let budget = Budget::of(effort);
        let budget = Budget {
            steps: budget.steps.min(MOST_STEPS * effort.times),
            ..budget
        };
        let mut report = Self {
            pictures: budget.pictures(),
            tokenizers: Vec::new(),
            arms: Vec::new(),
        };
        for bits in BITS {
            progress(&format!("tokenizer of {bits} bits"));
            // Twice as long as in the study of tokenizers: what is drawn can be no better.
            let longer = Budget {
                tokenizer_steps: 2 * budget.tokenizer_steps,
                ..budget
            };
            let vae = tokenizer(bits, longer, effort.seed, bundle.vae.device())?;
            let [psnr, share] = read_back(&vae, budget, effort.seed)?;
            report.tokenizers.push((bits, psnr, share));
            let world = World::new(bundle, &vae, budget, effort.seed)?;
            let config = small(4, 4, bundle, bits);
            for head in ["bits", "words"] {
                let mut arm = ClassifierArm::new(head, &config, world.tokens_of_update());
                for run in 0..budget.runs {
                    let (runs, seed) = (budget.runs, effort.seed + run);
                    progress(&format!("{bits} bits, {head}, run {} of {runs}", run + 1));
                    if head == "bits" {
                        let make = |device: &_| Transformer::new(&config, device, usize::MAX);
                        arm.run(&world, budget, seed, make, 0, progress)?;
                    } else {
                        let make = |device: &_| WordPupil::new(&config, device);
                        // Its head for bits is there and is not used.
                        let unused = ClassifierArm::head_of(&config, 2 * bits);
                        arm.run(&world, budget, seed, make, unused, progress)?;
                    }
                }
                report.arms.push(arm);
            }
        }
        Ok(report)
    }
}

impl ClassifierArm {
    fn head_of(config: &ModelConfig, outputs: usize) -> u64 {
        (config.width as u64 + 1) * outputs as u64
    }

    fn new(head: &str, config: &ModelConfig, tokens: usize) -> Self {
        let bits = config.token_bits();
        let outputs = if head == "bits" { 2 * bits } else { 1 << bits };
        Self {
            head: head.to_owned(),
            bits,
            head_parameters: Self::head_of(config, outputs),
            parameters: 0,
            logits_mb: 4e-6 * (tokens * outputs) as f32,
            secs: Vec::new(),
            runs: Runs::default(),
        }
    }

    fn run<P: Pupil>(
        &mut self,
        world: &World<'_>,
        budget: Budget,
        seed: u64,
        make: impl Fn(&Device) -> P,
        unused: u64,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), EngineError> {
        let begun = Instant::now();
        let teach = |features: &[f32], _| world.lesson(features, |_, _| ());
        let mut pupil = world.train(budget, seed, make, teach)?;
        self.secs.push(begun.elapsed().as_secs_f32());
        let exam = world.examine(&pupil, false)?;
        progress(&exam.to_string());
        self.parameters = pupil.parameter_count() - unused;
        self.runs.push(&exam);
        Ok(())
    }
}

impl std::fmt::Display for ClassifierReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = [
            "bits",
            "head",
            "values in the head",
            "in all",
            "logits, MB",
            "s",
        ];
        let mut table = Table::new(first.into_iter().chain(Runs::HEAD));
        for arm in &self.arms {
            let first = [
                arm.bits.to_string(),
                arm.head.clone(),
                arm.head_parameters.to_string(),
                arm.parameters.to_string(),
                format!("{:.1}", arm.logits_mb),
                spread(&arm.secs, 0),
            ];
            table.row(first.into_iter().chain(arm.runs.cells()));
        }
        writeln!(f, "{} pictures a run:\n\n{table}", self.pictures)?;
        for (bits, psnr, share) in &self.tokenizers {
            writeln!(
                f,
                "The tokenizer of {bits} bits: {psnr:.1} dB, {share:.2} of postcards read back right."
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::{DeviceChoice, GenerateSpec};
    use crate::device;
    use crate::text::TextFeatures;

    #[test]
    fn words_are_bits() {
        for word in [0, 1, 5, 1023] {
            let bits: Vec<u8> = bits_of(word, 10).collect();
            assert_eq!(word_of(&bits), word as i64);
        }
        assert_eq!(word_of(&[0, 1, 1]), 6);
    }

    #[test]
    fn words_are_drawn_by_their_probability() {
        let logits = [0.0, 3.0_f32.ln(), f32::NEG_INFINITY];
        let stream = Stream::new(1, 1);
        let all = Rule {
            top_k: 0,
            top_p: 0.0,
        };
        let drawn = (0..4000).map(|i| draw_word(&logits, stream.uniform(i), all));
        let counts = drawn.fold([0; 3], |mut counts, word| {
            counts[word] += 1;
            counts
        });
        assert_eq!(counts[2], 0);
        assert!(
            (counts[1] as f32 / 4000.0 - 0.75).abs() < 0.03,
            "{counts:?}"
        );
        assert_eq!(draw_word(&logits, 0.7, all), 1);
        assert_eq!(draw_word(&logits, 0.9999, all), 0);
        assert_eq!(draw_word(&logits, 0.9999, Rule { top_k: 1, ..all }), 1);
        // A quarter at the most is left out, and a fifth is not enough for it.
        let cut = |top_p| draw_word(&logits, 0.9999, Rule { top_p, ..all });
        assert_eq!((cut(0.7), cut(0.8)), (1, 0));
    }

    /// Words whose logits are the sums of those of their bits are drawn as the bits are.
    #[test]
    fn sums_of_bits_are_drawn_as_bits() {
        let device = device::open(DeviceChoice::Cpu).unwrap().device;
        let config: ModelConfig = serde_json::from_str(
            r#"{ "depth": 2, "width": 32, "heads": 2, "mlp_hidden": 48, "block_chunks": 1,
                "text_channels": 128, "text_maxlen": 8, "codebook_dim": 4, "patchify": false }"#,
        )
        .unwrap();
        let mut pupil = WordPupil::new(&config, &device);
        pupil.initialise(5, &device);
        let mut head = BTreeMap::new();
        for slot in &mut pupil.transformer.all_slots().list {
            if slot.name.starts_with("head.") {
                // It starts small; here draws should depend on what comes before it.
                let values = slot.weight.values().unwrap();
                let large: Vec<f32> = values.iter().map(|v| 50.0 * v).collect();
                slot.fill(large.clone(), &device);
                head.insert(slot.name.clone(), large);
            }
        }
        for slot in &mut pupil.all_slots().list {
            if let Some(part) = slot.name.strip_prefix("words.") {
                let rows = &head[&format!("head.{part}")];
                let columns = rows.len() / 8;
                let word = |word: usize| -> Vec<f32> {
                    let of_bits = bits_of(word, 4).enumerate();
                    let rows = of_bits.map(|(bit, is)| &rows[(2 * bit + is as usize) * columns..]);
                    rows.fold(vec![0.0; columns], |sum, row| {
                        sum.iter().zip(row).map(|(a, b)| a + b).collect()
                    })
                };
                slot.fill((0..16).flat_map(word).collect(), &device);
            }
        }
        let texts = |seed| {
            let stream = Stream::new(seed, 3);
            let values = (0..2 * 5 * 128).map(|i| stream.normal(i) as f32);
            let data = TensorData::new(values.collect::<Vec<f32>>(), [2, 5, 128]);
            TextFeatures {
                padded: Tensor::from_data(data, &device),
                lens: vec![5, 3],
            }
        };
        let mut spec = GenerateSpec::new("", 0);
        (spec.cfg, spec.top_k) = (vec![3.0], 1);
        let mut plan = Plan::new(&spec, 4, config.depth).unwrap();
        plan.seeds = vec![1, 2];
        let texts: Texts = texts(1).into();
        let words = pupil.draw(&texts, &plan).unwrap();
        let bits = pupil.transformer.draw(&texts, &plan).unwrap();
        for (words, bits) in words.iter().zip(&bits) {
            assert_eq!(words.latents(), bits.latents());
        }
        assert_ne!(bits[0].latents(), bits[1].latents());
    }
}
