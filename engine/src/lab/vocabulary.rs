//! How many bits should a place have? Tokenizers of 8 to 64 bits, each from nothing and with the same pictures
//! (Infinity, arXiv 2412.04431, table 4); and what the entropy term costs with one vocabulary of `2^d` words (LFQ)
//! against one bit after the other (BSQ), which is why more bits can be afforded at all (table 3).

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData, activation};
use serde::Serialize;

use super::school::{Budget, SCALES};
use super::table::spread;
use super::tokenizers::{BATCH, read_back, tokenizer};
use super::{Effort, Table};
use crate::api::{DeviceChoice, EngineError};
use crate::device;
use crate::memory;
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::train::vae_loss::{INVERSE_TEMPERATURE, bit_entropies};

/// Bits of the tokenizers.
const BITS: [usize; 4] = [8, 16, 32, 64];
/// Bits at which one vocabulary is still tried, and those for which its size is only computed.
const TRIED: [usize; 4] = [8, 10, 12, 14];
const COMPUTED: [usize; 3] = [16, 32, 64];

/// Tokenizers of one width, by run.
#[derive(Clone, Debug, Serialize)]
pub struct VocabularyArm {
    /// Bits per place.
    pub bits: usize,
    /// Peak signal-to-noise ratio of cards that were not learned from, in dB.
    pub psnr: Vec<f32>,
    /// Share of cards whose thing is read back right.
    pub read_back: Vec<f32>,
}

/// What one entropy term costs in an update, for the places of eight pictures.
#[derive(Clone, Debug, Serialize)]
pub struct EntropyCost {
    /// `BSQ` or `LFQ`.
    pub quantiser: String,
    /// Bits per place.
    pub bits: usize,
    /// Memory of the process that is held until the gradients are there, in MB.
    pub held_mb: f32,
    /// Milliseconds there and back.
    pub ms: f32,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct VocabularyReport {
    /// Pictures that every run learned from.
    pub pictures: u64,
    /// Widths.
    pub arms: Vec<VocabularyArm>,
    /// Entropy terms, measured.
    pub costs: Vec<EntropyCost>,
    /// Size of a single table `[places, 2^d]`, computed, in MB, by bits.
    pub computed_mb: Vec<(usize, f32)>,
}

/// E1 and E2 of normalised features `[B, d, places]`, as [`bit_entropies`], over all `2^d` words at once.
fn word_entropies(unit_features: Tensor<3>) -> (Tensor<1>, Tensor<1>) {
    let [batch, d, places] = unit_features.dims();
    let unit = 1.0 / (d as f32).sqrt();
    let codes = (0..d << d).map(|at| {
        let (bit, word) = (at >> d, at & ((1 << d) - 1));
        if word >> bit & 1 == 0 { -unit } else { unit }
    });
    let codes = TensorData::new(codes.collect::<Vec<f32>>(), [d, 1 << d]);
    let codes = Tensor::<2>::from_data(codes, &unit_features.device());
    let rows = unit_features.swap_dims(1, 2).reshape([batch * places, d]);
    let p = activation::softmax(rows.matmul(codes) * (2.0 * INVERSE_TEMPERATURE), 1);
    let entropy = |p: Tensor<2>| (p.clone() * p.add_scalar(1e-8).log()).neg();
    let per_place = entropy(p.clone()).sum() / (batch * places) as f32;
    (per_place, entropy(p.mean_dim(0)).sum())
}

/// Features as a tokenizer gives them, `[1, d, places]`.
fn features(d: usize, places: usize, device: &Device) -> Tensor<3> {
    let stream = Stream::new(d as u64, 7);
    let values = (0..(d * places) as u64).map(|i| stream.normal(i) as f32);
    let data = TensorData::new(values.collect::<Vec<f32>>(), [1, d, places]);
    let features = Tensor::<3>::from_data(data, device).require_grad();
    let norm = features.clone().square().sum_dim(1).sqrt();
    features / norm
}

/// Both terms at all widths they can be computed for, on the processor.
fn costs(places: usize, quick: bool) -> Result<Vec<EntropyCost>, EngineError> {
    let device = device::open(DeviceChoice::Cpu)?.device.autodiff();
    let mut costs = Vec::new();
    let mut one = |quantiser: &str, bits: usize, term: fn(Tensor<3>) -> (Tensor<1>, Tensor<1>)| {
        let features = features(bits, places, &device);
        let before = memory::held_by_process();
        let begun = Instant::now();
        let (first, second) = term(features);
        let loss = first - second;
        let held = memory::held_by_process().saturating_sub(before);
        let _gradients = loss.backward();
        costs.push(EntropyCost {
            quantiser: quantiser.to_owned(),
            bits,
            held_mb: held as f32 / 1e6,
            ms: 1000.0 * begun.elapsed().as_secs_f32(),
        });
    };
    let tried = if quick { &TRIED[..2] } else { &TRIED[..] };
    for &bits in tried.iter().chain(&COMPUTED) {
        one("BSQ", bits, bit_entropies);
        if tried.contains(&bits) {
            one("LFQ", bits, word_entropies);
        }
    }
    Ok(costs)
}

impl VocabularyReport {
    /// Trains and measures all arms on `device`; `progress` hears of each.
    ///
    /// # Errors
    /// What training returns.
    pub fn measure(
        device: &Device,
        effort: Effort,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, EngineError> {
        let budget = Budget::of(effort);
        let mut arms = Vec::new();
        let places = BATCH * ScaleSchedule::nearest(1.0, SCALES)?.tokens();
        progress("entropy terms");
        let costs = costs(places, effort.is_quick())?;
        for bits in BITS {
            let mut arm = VocabularyArm {
                bits,
                psnr: Vec::new(),
                read_back: Vec::new(),
            };
            for number in 0..budget.runs {
                progress(&format!(
                    "{bits} bits, run {} of {}",
                    number + 1,
                    budget.runs
                ));
                let vae = tokenizer(bits, budget, effort.seed + number, device)?;
                let [psnr, share] = read_back(&vae, budget, effort.seed)?;
                progress(&format!("{psnr:.2} dB, read back right {share:.3}"));
                arm.psnr.push(psnr);
                arm.read_back.push(share);
            }
            arms.push(arm);
        }
        let table = |bits: usize| (bits, places as f32 * 4e-6 * 2.0_f32.powi(bits as i32));
        Ok(Self {
            pictures: budget.tokenizer_steps * BATCH as u64,
            arms,
            costs,
            computed_mb: TRIED.into_iter().chain(COMPUTED).map(table).collect(),
        })
    }
}

impl std::fmt::Display for VocabularyReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new(["bits", "signal to noise, dB", "read back right"]);
        for arm in &self.arms {
            table.row([
                arm.bits.to_string(),
                spread(&arm.psnr, 2),
                spread(&arm.read_back, 3),
            ]);
        }
        writeln!(f, "{} pictures a run:\n\n{table}", self.pictures)?;
        let mut table = Table::new([
            "bits",
            "BSQ, MB held",
            "ms",
            "LFQ, MB held",
            "ms",
            "LFQ, MB of one table, computed",
        ]);
        for &(bits, computed) in &self.computed_mb {
            let of = |quantiser: &str| {
                let mut costs = self.costs.iter();
                costs
                    .find(|cost| cost.bits == bits && cost.quantiser == quantiser)
                    .map_or(["–".to_owned(), "–".to_owned()], |cost| {
                        [format!("{:.1}", cost.held_mb), format!("{:.0}", cost.ms)]
                    })
            };
            let ([bsq, bsq_ms], [lfq, lfq_ms]) = (of("BSQ"), of("LFQ"));
            let computed = if computed < 1e5 {
                format!("{computed:.0}")
            } else {
                format!("{computed:.0e}")
            };
            table.row([bits.to_string(), bsq, bsq_ms, lfq, lfq_ms, computed]);
        }
        write!(
            f,
            "The entropy term of an update, forth and back:\n\n{table}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bits_have_the_same_entropy() {
        let device = device::open(DeviceChoice::Cpu).unwrap().device.autodiff();
        let features = features(5, 21, &device);
        let (bits, words) = (bit_entropies(features.clone()), word_entropies(features));
        let value = |tensor: Tensor<1>| -> f32 { tensor.into_scalar() };
        let (bits, words) = (
            (value(bits.0), value(bits.1)),
            (value(words.0), value(words.1)),
        );
        // Bits are independent, given the features: one sum is the other. Over places they are not: the sum is a bound.
        assert!((bits.0 - words.0).abs() < 1e-3, "{bits:?} {words:?}");
        assert!(words.1 < bits.1 + 1e-3 && words.1 > 0.5 * bits.1);
    }
}
