//! A batch of pictures as it is put together and learned.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;

use super::FinetuneConfig;
use super::examples::{Example, text_of};
use crate::api::EngineError;
use crate::lora::Tuned;
use crate::memory::PIECE_VALUES;
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::train::config::{Phase, place_of};
use crate::train::course::Measures;
use crate::train::optimizer::{Rows, gradient_rows};
use crate::train::self_correction::{Lesson, flip_at_random, lesson};
use crate::train::transformer::{input_tensor, with_dropped};
use crate::train::transformer_loss::{BitLoss, bit_loss};

/// A batch as it is learned.
pub(super) struct Prepared {
    pub(super) step: u64,
    pub(super) schedule: ScaleSchedule,
    pub(super) examples: Vec<Arc<Example>>,
    pub(super) lessons: Vec<Lesson>,
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
        let mut examples = Vec::new();
        for index in 0..self.config.batch as u64 {
            let takes_prior =
                !prior.is_empty() && stream.uniform(3 * index + 1) < f64::from(self.config.prior);
            let list = if takes_prior { &prior } else { &own };
            examples.push(list[stream.below(3 * index + 2, list.len())].clone());
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
        Some(Prepared {
            step,
            schedule,
            examples,
            lessons,
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
    let text = text_of(&prepared.examples[part.clone()], &device);
    let text = with_dropped(transformer, text, stream, first, config.caption_drop);
    let condition = transformer.condition(text.padded, &text.lens);
    let lessons = &prepared.lessons[part];
    let bits = transformer.config.token_bits();
    let inputs = input_tensor(lessons, bits, &device);
    let learned = |logits: Tensor<3>| {
        let loss = bit_loss(logits, lessons);
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
