//! The texts of a run, and what the transformer makes of them.

use std::ops::Range;

use burn::tensor::Tensor;

use super::Plan;
use crate::model::{Condition, Transformer};
use crate::text::TextFeatures;

/// Encoded texts: one row for all pictures of a run, or a row for each.
#[derive(Clone, Debug)]
pub struct Texts {
    /// What the pictures show.
    pub prompt: TextFeatures,
    /// What they show from scale [`Plan::detail_from`] on.
    pub detail: Option<TextFeatures>,
    /// What they should not show, in place of the learned "no text".
    pub negative: Option<TextFeatures>,
}

impl From<TextFeatures> for Texts {
    fn from(prompt: TextFeatures) -> Self {
        Self {
            prompt,
            detail: None,
            negative: None,
        }
    }
}

/// The conditions of a run, below each other: the pictures with text and, when guided, without.
pub(crate) struct Conditions {
    prompt: Condition,
    detail: Option<(usize, Condition)>,
    /// Whether a second row per picture is drawn along.
    pub(crate) guided: bool,
}

impl Conditions {
    pub(crate) fn new(transformer: &Transformer, texts: &Texts, plan: &Plan) -> Self {
        let guided = plan.is_guided();
        let made = |text: &TextFeatures| {
            let (features, lens) = if guided {
                with_unconditional(transformer, text, texts.negative.as_ref())
            } else {
                (text.padded.clone(), text.lens.clone())
            };
            let condition = transformer.condition(features, &lens);
            if text.lens.len() < plan.seeds.len() {
                condition.spread(plan.seeds.len())
            } else {
                condition
            }
        };
        let from = plan.detail_from.filter(|&from| from < plan.drawn);
        let detail = from.zip(texts.detail.as_ref());
        Self {
            prompt: made(&texts.prompt),
            detail: detail.map(|(from, text)| (from, made(text))),
            guided,
        }
    }

    /// Leaves the pictures without text out of what is still to come.
    pub(super) fn end_guidance(&mut self, pictures: usize) {
        self.guided = false;
        self.prompt = self.prompt.rows(0, pictures);
        if let Some((_, detail)) = &mut self.detail {
            *detail = detail.rows(0, pictures);
        }
    }

    /// The condition of scale `index`.
    pub(crate) fn at(&self, index: usize) -> &Condition {
        match &self.detail {
            Some((from, detail)) if index >= *from => detail,
            _ => &self.prompt,
        }
    }

    /// Rows for the pictures with text, and the same again for those without.
    pub(crate) fn with_rows(&self, features: Tensor<3>) -> Tensor<3> {
        if self.guided {
            Tensor::cat(vec![features.clone(), features], 0)
        } else {
            features
        }
    }

    /// Whether guidance is drawn into the tokens that leave `block`.
    pub(super) fn guides_after(&self, block: usize, plan: &Plan) -> bool {
        let from_end = block as i32 - plan.depth as i32;
        self.guided && plan.cfg_insertion_layers.contains(&from_end)
    }

    /// Guidance after block `block` over the tokens `x` of `scales`, where the plan wants it there.
    pub(super) fn guide_inside(
        &self,
        x: Tensor<3>,
        block: usize,
        scales: Range<usize>,
        plan: &Plan,
    ) -> Tensor<3> {
        if !self.guides_after(block, plan) {
            return x;
        }
        let rows = plan.seeds.len();
        let mut start = 0;
        let parts = scales.map(|index| {
            let (tokens, cfg) = (plan.schedule.scales[index].tokens(), plan.cfg[index]);
            let own = x.clone().narrow(1, start, tokens);
            start += tokens;
            if cfg == 1.0 {
                return own;
            }
            let mixed =
                own.clone().narrow(0, 0, rows) * cfg + own.narrow(0, rows, rows) * (1.0 - cfg);
            Tensor::cat(vec![mixed.clone(), mixed], 0)
        });
        Tensor::cat(parts.collect(), 1)
    }
}

/// The rows of "no text", or of the negative prompt, below those of the prompts, padded alike.
fn with_unconditional(
    transformer: &Transformer,
    text: &TextFeatures,
    negative: Option<&TextFeatures>,
) -> (Tensor<3>, Vec<usize>) {
    let other = negative.cloned().unwrap_or_else(|| TextFeatures {
        padded: transformer.unconditional(&text.lens, text.padded.dims()[1]),
        lens: text.lens.clone(),
    });
    let tokens = text.padded.dims()[1].max(other.padded.dims()[1]);
    let pad = |features: Tensor<3>| {
        let [rows, own, channels] = features.dims();
        if own == tokens {
            return features;
        }
        let padding = Tensor::zeros([rows, tokens - own, channels], &features.device());
        Tensor::cat(vec![features, padding], 1)
    };
    let features = Tensor::cat(vec![pad(text.padded.clone()), pad(other.padded)], 0);
    (features, [text.lens.clone(), other.lens].concat())
}
