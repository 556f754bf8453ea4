//! Scales that are given: one pass over their tokens instead of one per scale.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{Run, Watcher};
use crate::api::EngineError;
use crate::model::{Mask, Rope};

impl Run<'_> {
    /// Takes in the bits that are given and fills the caches; `false` when the watcher stopped the run.
    ///
    /// Every token sees its own scale and those before, as if they had been drawn one after the other.
    pub(super) fn take_kept(&mut self, watcher: &mut dyn Watcher) -> Result<bool, EngineError> {
        let (plan, transformer) = (self.plan, self.wardrobe.at(0));
        let mut inputs = Vec::new();
        for (index, kept) in plan.kept.iter().enumerate() {
            inputs.push(
                (index > 0).then(|| self.layout.next_input(&self.sums, plan, index, transformer)),
            );
            let mut bits = vec![kept.clone(); plan.seeds.len()];
            self.add(index, &mut bits);
            self.show(index, &[], &bits, watcher)?;
            watcher.shown()?;
        }
        if plan.kept.len() == plan.drawn {
            return Ok(true);
        }
        for scales in self.passes() {
            let transformer = self.wardrobe.at(scales.start);
            self.dress(scales.start);
            let condition = self.conditions.at(scales.start);
            let tokens = scales.clone().map(|index| match &inputs[index] {
                None => transformer.first_token(condition),
                Some(features) => {
                    transformer.embed(self.conditions.with_rows(features.clone()), index)
                }
            });
            let x = Tensor::cat(tokens.collect(), 1);
            let width = transformer.config.head_width();
            let device = transformer.device();
            let rope = Rope::new(&plan.schedule, scales.clone(), width, device);
            let mask = (scales.len() > 1).then(|| Mask::causal(&plan.schedule, &scales));
            if self
                .through(x, scales, &rope, mask.as_ref(), watcher)
                .is_none()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The given scales in as few passes as texts and the device's largest tensor allow.
    fn passes(&self) -> Vec<Range<usize>> {
        let scales = &self.plan.schedule.scales;
        let detail = self.plan.detail_from.unwrap_or(usize::MAX);
        let mut passes: Vec<Range<usize>> = Vec::new();
        let tokens = |range: Range<usize>| scales[range].iter().map(|s| s.tokens()).sum::<usize>();
        for index in 0..self.plan.kept.len() {
            let seen = tokens(0..index + 1);
            match passes.last_mut() {
                Some(pass)
                    if self.plan.together
                        && self.wardrobe.is_plain()
                        && index != detail
                        && tokens(pass.start..index + 1) * seen
                            <= self.wardrobe.at(0).max_elements() =>
                {
                    pass.end = index + 1;
                }
                _ => passes.push(index..index + 1),
            }
        }
        passes
    }
}
