//! Pictures that the model draws itself for a lesson, so that it forgets nothing.

use std::sync::Arc;

use super::FinetuneConfig;
use super::examples::{Example, Store, words};
use crate::api::{EngineError, GenerateSpec};
use crate::generate::{Outcome, Plan, ScaleView, Watcher, generate};
use crate::schedule::ScaleSchedule;
use crate::train::Limits;

/// The model's own pictures per shape, at least.
const PRIOR_PICTURES: usize = 32;

/// Stops drawing when the run shall stop.
struct Stopper<'a>(&'a Limits<'a>);

impl Watcher for Stopper<'_> {
    fn scale(&mut self, _view: &ScaleView<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.0.reached()
    }
}

/// Who draws them.
pub(super) struct Draughtsman<'a> {
    pub(super) config: &'a FinetuneConfig,
    pub(super) store: &'a Store<'a>,
    /// Identity of the transformer.
    pub(super) base: &'a str,
    pub(super) limits: &'a Limits<'a>,
}

impl Draughtsman<'_> {
    /// Pictures of the prior prompts in every shape; `None` when stopped.
    ///
    /// # Errors
    /// What drawing returns, [`EngineError::Write`] with the path.
    pub(super) fn prior(
        &self,
        shapes: &[ScaleSchedule],
    ) -> Result<Option<Vec<Arc<Example>>>, EngineError> {
        let info = &self.store.bundle.info;
        let given = [
            &self.config.prior_prompts,
            &info.practice_prompts,
            &info.example_prompts,
        ];
        let Some(prompts) = given.into_iter().find(|list| !list.is_empty()) else {
            return Ok(Some(Vec::new()));
        };
        let mut drawn = Vec::new();
        for schedule in shapes {
            for index in 0..PRIOR_PICTURES.max(prompts.len()) {
                let prompt = &prompts[index % prompts.len()];
                let Some(features) = self.drawing(prompt, index, schedule)? else {
                    return Ok(None);
                };
                drawn.push(Arc::new(Example {
                    name: format!("the model's own {prompt:?}"),
                    schedule: schedule.clone(),
                    features,
                    captions: Arc::new([words(self.store.bundle, prompt)?]),
                }));
            }
        }
        Ok(Some(drawn))
    }

    /// Features of what the model draws of `prompt`, `[d, h, w]`; `None` when stopped.
    fn drawing(
        &self,
        prompt: &str,
        index: usize,
        schedule: &ScaleSchedule,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let bundle = self.store.bundle;
        let spec = GenerateSpec {
            ratio: schedule.ratio,
            scale_count: Some(schedule.scales.len()),
            cfg: vec![bundle.info.cfg],
            tau: vec![bundle.info.tau],
            ..GenerateSpec::new(prompt, self.config.seed.wrapping_add(index as u64))
        };
        let wish =
            serde_json::to_vec(&spec).map_err(|error| EngineError::internal(error.to_string()))?;
        let fold = if bundle.transformer.config.patchify {
            4
        } else {
            1
        };
        let size = bundle.vae.config.codebook_dim * fold * schedule.last().tokens();
        let parts = [self.base.as_bytes(), &wish];
        self.store.kept_or(&parts, size, || {
            let depth = bundle.transformer.config.depth;
            let plan = Plan::new(&spec, bundle.info.scale_count, depth)?;
            let text = bundle.encode(&[prompt])?;
            let mut stopper = Stopper(self.limits);
            Ok(
                match generate(bundle.wardrobe(), &text.into(), &plan, &mut stopper)? {
                    Outcome::Done(sums) => sums.first().map(|sum| sum.latents().to_vec()),
                    Outcome::Cancelled => None,
                },
            )
        })
    }
}
