//! A batch of pictures as it is put together and learned.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Tensor, activation};

use super::FinetuneConfig;
use super::examples::{Example, Words, text_of};
use crate::api::EngineError;
use crate::lora::Tuned;
use crate::memory::PIECE_VALUES;
use crate::model::Transformer;
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::text::TextFeatures;
use crate::train::config::{Phase, place_of};
use crate::train::course::Measures;
use crate::train::optimizer::{Rows, gradient_rows};
use crate::train::self_correction::{Lesson, flip_at_random, lesson};
use crate::train::transformer::{input_tensor, with_dropped};
use crate::train::transformer_loss::{BitLoss, bit_loss_towards, differences, labels};

/// How often what the model says to no text is what it shall keep, of its own pictures.
const NO_TEXT: f32 = 0.15;

/// A batch as it is learned.
pub(super) struct Prepared {
    pub(super) step: u64,
    pub(super) schedule: ScaleSchedule,
    pub(super) examples: Vec<Arc<Example>>,
    /// The caption that each is learned by.
    pub(super) captions: Vec<Arc<Words>>,
    pub(super) lessons: Vec<Lesson>,
    /// For which of them the network shall say what it said before.
    pub(super) stays: Vec<bool>,
}

/// Puts batches together, on the thread that prepares them.
pub(super) struct Teacher {
    pub(super) config: FinetuneConfig,
    pub(super) phases: Vec<Phase>,
    pub(super) d: usize,
    pub(super) patchify: bool,
    /// The artist's pictures, repeated as often as they count.
    pub(super) own: Vec<Arc<Example>>,
    /// The model's own pictures.
    pub(super) prior: Vec<Arc<Example>>,
}

impl Teacher {
    /// A batch of one shape; `None` after the last update.
    pub(super) fn prepare(&self, step: u64) -> Option<Prepared> {
        place_of(&self.phases, step, 0)?;
        let stream = Stream::new(self.config.seed ^ 0xF17E, step);
        let schedule = self.own[stream.below(0, self.own.len())].schedule.clone();
        let of_shape = |list: &[Arc<Example>]| -> Vec<_> {
            list.iter()
                .filter(|one| one.schedule == schedule)
                .cloned()
                .collect()
        };
        let (own, prior) = (of_shape(&self.own), of_shape(&self.prior));
        let (mut examples, mut stays) = (Vec::new(), Vec::new());
        for index in 0..self.config.batch as u64 {
            let takes_prior =
                !prior.is_empty() && stream.uniform(3 * index + 1) < f64::from(self.config.prior);
            let list = if takes_prior { &prior } else { &own };
            examples.push(list[stream.below(3 * index + 2, list.len())].clone());
            stays.push(takes_prior);
        }
        let one = |(index, example): (usize, &Arc<Example>)| {
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
        let stream = Stream::new(self.config.seed ^ 0xCA97, step);
        let captions = examples.iter().enumerate().map(|(index, example)| {
            let list = &example.captions;
            list[stream.below(index as u64, list.len())].clone()
        });
        Some(Prepared {
            step,
            schedule,
            captions: captions.collect(),
            examples,
            lessons,
            stays,
        })
    }
}

/// Gradients and measures of a part of a batch.
///
/// # Errors
/// [`EngineError::Internal`] when the device fails.
pub(super) fn learn(
    config: &FinetuneConfig,
    by_block: bool,
    tuned: &mut Tuned,
    prepared: &Prepared,
    part: Range<usize>,
) -> Result<(Rows, Measures), EngineError> {
    let schedule = &prepared.schedule;
    let plain = by_block.then(|| tuned.transformer.plain());
    let transformer = plain.as_ref().unwrap_or(&tuned.transformer);
    let device = transformer.device().clone();
    let stream = Stream::new(config.seed ^ 0xD209, prepared.step);
    let first = part.start as u64;
    let text = text_of(&prepared.captions[part.clone()], &device);
    let stays = &prepared.stays[part.clone()];
    let chance = |row: usize| match stays[row] {
        true => config.caption_drop.max(NO_TEXT),
        false => config.caption_drop,
    };
    let text = with_dropped(transformer, text, stream, first, chance);
    let lessons = &prepared.lessons[part];
    let bits = transformer.config.token_bits();
    let inputs = input_tensor(lessons, bits, &device);
    let said = said_before(transformer, stays, &text, inputs.clone(), schedule);
    let condition = transformer.condition(text.padded, &text.lens);
    let learned = |logits: Tensor<3>| {
        let labels = labels(lessons, logits.dims(), &logits.device());
        let chances = match &said {
            Some(said) => with_rows(&labels, stays, said),
            None => labels.clone(),
        };
        let loss = bit_loss_towards(logits, labels, chances);
        let total = loss.total(schedule, config.reweight_by_scale, 0);
        let measures = Measures {
            loss: total.clone().into_scalar(),
            mean_square: None,
            given: 0,
            bit_accuracy: BitLoss::by_scale(&loss.right, schedule),
            scale_loss: BitLoss::by_scale(&loss.per_bit, schedule),
        };
        (total, measures)
    };
    let Some(plain) = &plain else {
        let logits = transformer.forward_all(&condition, inputs, schedule);
        let (total, measures) = learned(logits);
        return Ok((gradient_rows(tuned, &total.backward())?, measures));
    };
    let piece = PIECE_VALUES / (lessons.len() * plain.config.mlp_hidden);
    tuned
        .transformer
        .low_rank_gradients(plain, &condition, inputs, schedule, piece, learned)
}

/// What the network says without its additions to the rows that shall stay as they were: the chance of every bit to be
/// 1, `[rows, L, d']`, without gradients. `None` when there is no such row.
fn said_before(
    tuned: &Transformer,
    stays: &[bool],
    text: &TextFeatures,
    inputs: Option<Tensor<3>>,
    schedule: &ScaleSchedule,
) -> Option<Tensor<3>> {
    let rows: Vec<usize> = (0..stays.len()).filter(|&row| stays[row]).collect();
    if rows.is_empty() {
        return None;
    }
    let mut base = tuned.plain();
    for layer in base.adaptables() {
        layer.additions.clear();
    }
    let of_rows = |tensor: Tensor<3>| {
        let tensor = tensor.without_autodiff();
        let own = rows.iter().map(|&row| tensor.clone().narrow(0, row, 1));
        Tensor::cat(own.collect(), 0)
    };
    let lens: Vec<usize> = rows.iter().map(|&row| text.lens[row]).collect();
    let condition = base.condition(of_rows(text.padded.clone()), &lens);
    let logits = base.forward_all(&condition, inputs.map(of_rows), schedule);
    Some(activation::sigmoid(differences(logits)))
}

/// `all` `[B, ..]` with those rows that `take` marks in place of its own; `rows` has only those.
fn with_rows(all: &Tensor<3>, take: &[bool], rows: &Tensor<3>) -> Tensor<3> {
    let mut taken = 0;
    let each = take.iter().enumerate().map(|(row, &take)| {
        if take {
            taken += 1;
            let own = rows.clone().narrow(0, taken - 1, 1);
            return match all.device().is_autodiff() {
                true => own.autodiff(),
                false => own,
            };
        }
        all.clone().narrow(0, row, 1)
    });
    Tensor::cat(each.collect(), 0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::learn;
    use crate::api::{DeviceChoice, TuneWish};
    use crate::device::{self, OpenDevice};
    use crate::finetune::{FinetuneConfig, estimate::random_batch, tuned_replicas};
    use crate::generate::Bundle;
    use crate::random::Stream;
    use crate::schedule::ScaleSchedule;
    use crate::train::optimizer::Rows;
    use crate::weights::Network as _;

    /// Gradients of one update of additions with matrices of `size`, of which `prior` are pictures of the model's own,
    /// and its loss.
    fn update(device: &OpenDevice, by_block: bool, prior: f32, size: [f32; 2]) -> (Rows, f32) {
        let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter");
        let bundle = Bundle::open(&starter, device).unwrap();
        let config = FinetuneConfig {
            rank: 3,
            batch: 2,
            prior,
            caption_drop: 0.5,
            layers: TuneWish::LAYERS.map(str::to_owned).to_vec(),
            ..FinetuneConfig::default()
        };
        let mut tuned = tuned_replicas(&config, &bundle, 1).unwrap().remove(0);
        let training = device.device.clone().autodiff();
        for (place, slot) in tuned.all_slots().list.iter_mut().enumerate() {
            let stream = Stream::new(9, place as u64);
            let count: usize = slot.shape.iter().product();
            let values = (0..count as u64).map(|i| size[place % 2] * stream.normal(i) as f32);
            slot.fill(values.collect(), &training);
        }
        // An odd number of tokens, 1 + 9 + 30 …
        let schedule = ScaleSchedule::nearest(0.8, 5).unwrap();
        let batch = random_batch(&config, &bundle.transformer.config, &schedule).unwrap();
        assert_eq!(batch.stays, [prior > 0.5; 2]);
        let (rows, measures) = learn(&config, by_block, &mut tuned, &batch, 0..2).unwrap();
        (rows, measures.loss)
    }

    /// What a graphics device teaches is what the processor teaches, whether blocks are kept or computed again.
    #[test]
    fn lessons_are_the_same_on_software_graphics() {
        let Ok(software) = device::open(DeviceChoice::Software) else {
            eprintln!("SKIPPED: no software graphics driver, so nothing to compare with");
            return;
        };
        let cpu = device::open(DeviceChoice::Cpu).unwrap();
        for prior in [0.0, 0.999] {
            same_lessons(&cpu, &software, prior);
        }
    }

    fn same_lessons(cpu: &OpenDevice, software: &OpenDevice, prior: f32) {
        let update = |device, by_block| update(device, by_block, prior, [0.05; 2]);
        let (expected, loss) = update(cpu, false);
        assert!(expected.len() > 50);
        for (by_block, device) in [(true, cpu), (false, software), (true, software)] {
            let (rows, other) = update(device, by_block);
            assert!((loss - other).abs() < 1e-4 * loss, "{loss} {other}");
            assert_eq!(rows.len(), expected.len());
            for (place, (row, expected)) in rows.iter().zip(&expected).enumerate() {
                let (row, expected) = (row.as_ref().unwrap(), expected.as_ref().unwrap());
                let largest = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
                let apart = row.iter().zip(expected).map(|(a, b)| (a - b).abs());
                let apart = apart.fold(0.0_f32, f32::max);
                assert!(largest > 0.0, "{place}");
                assert!(
                    apart < 2e-3 * largest,
                    "row {place}, by block {by_block}: {apart} of {largest}"
                );
            }
        }
    }

    /// Pictures of the model's own pull it back to what it said, and nowhere else.
    #[test]
    fn a_model_that_learned_nothing_has_nothing_to_keep() {
        let cpu = device::open(DeviceChoice::Cpu).unwrap();
        let largest = |prior: f32, size: [f32; 2]| {
            let (rows, _) = update(&cpu, false, prior, size);
            let values = rows.into_iter().flatten().flatten();
            values.fold(0.0_f32, |most, value| most.max(value.abs()))
        };
        // A first update has no `B` yet.
        let artist = largest(0.0, [0.05, 0.0]);
        let own = largest(0.999, [0.05, 0.0]);
        assert!(artist > 1e-4 && own < 1e-3 * artist, "{artist} {own}");
        assert!(largest(0.999, [0.05; 2]) > 10.0 * own);
    }
}
