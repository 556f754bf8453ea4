//! Drawing: one loop over scales.
//!
//! Every scale is predicted from the text and all scales before it, its bits
//! are drawn and added to the running sum of residual codes, and the sum,
//! resized, is what the next scale sees (Infinity, arXiv 2412.04431, figure 2;
//! spec section 4). A run is a prefix of bits that are given and a [`Plan`] for
//! the rest: drafts, branches, pictures from pictures and masks are plans. The
//! loop knows nothing of windows, files or previews.

mod bundle;
mod codes;
mod outside;
mod plan;
mod prefix;
pub mod sampling;
pub(crate) mod texts;
mod wardrobe;

pub use bundle::{Bundle, fit_together};
pub use codes::{Codes, Layout, token_features};
pub use outside::{Keeping, Outside};
pub use plan::{Damage, Plan};
pub use texts::Texts;
pub use wardrobe::Wardrobe;

use std::ops::Range;

use burn::tensor::Tensor;

use crate::api::EngineError;
use crate::model::{KvCache, Mask, PassScales, Rope};
use crate::read_back::read_back;
use crate::schedule::Scale;
use crate::vae::bsq::ResidualSum;
use texts::Conditions;

/// What a scale has brought, for whoever watches.
pub struct ScaleView<'a> {
    /// Which scale, from 0.
    pub index: usize,
    /// Its grid of tokens.
    pub scale: Scale,
    /// Guided logits per picture, `[L, d', 2]` each; none for a scale that was given.
    pub logits: &'a [Vec<f32>],
    /// Bits per picture, `[L, d']` each.
    pub bits: &'a [Vec<u8>],
    /// The running sums, one per picture.
    pub sums: &'a [ResidualSum],
}

/// Watches a run: sees inner tensors by name and every finished scale.
pub trait Watcher {
    /// A tensor inside scale `index`: `input_features`, `block_first_in`, `block_last_out`, and for those who look inside
    /// `block_first_out`.
    fn tensor(&mut self, _index: usize, _name: &str, _tensor: &Tensor<3>) {}

    /// Whether blocks are to be run one by one.
    fn looks_inside(&self) -> bool {
        false
    }

    /// A scale is finished.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError>;

    /// Whether the next scale is to be given to the device between `scale` and `shown`: where the device works by itself, it
    /// then has something to do while a picture of the finished scale is awaited.
    fn works_ahead(&self) -> bool {
        false
    }

    /// Ends what `scale` began.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn shown(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Asked before every scale and every block, or every few where those take some hundredths of a second; the run ends early on
    /// `true`.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// All scales of the plan are drawn; the sums are the latents to decode.
    Done(Vec<ResidualSum>),
    /// The watcher stopped it.
    Cancelled,
}

/// What a run carries from scale to scale.
struct Run<'a> {
    wardrobe: Wardrobe<'a>,
    texts: &'a Texts,
    plan: &'a Plan,
    conditions: Conditions,
    layout: Layout,
    sums: Vec<ResidualSum>,
    caches: Vec<KvCache>,
}

/// Draws a batch of pictures, one per seed of the plan, row `i` from text `i`, or all from the only text.
///
/// # Errors
/// [`EngineError::NotFinite`] for broken weights, [`EngineError::Internal`] when the device
/// fails, and whatever the watcher returns.
pub fn generate<'a>(
    transformer: impl Into<Wardrobe<'a>>,
    texts: &'a Texts,
    plan: &'a Plan,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, EngineError> {
    let wardrobe = transformer.into();
    let transformer = wardrobe.at(0);
    let layout = Layout::of(&transformer.config, plan.schedule.last());
    let mut run = Run {
        wardrobe,
        texts,
        plan,
        conditions: Conditions::new(transformer, texts, plan),
        layout,
        sums: vec![layout.empty(); plan.seeds.len()],
        caches: transformer.caches(plan.looked_back_on()),
    };
    if !run.take_kept(watcher)? {
        return Ok(Outcome::Cancelled);
    }
    let mut next = None;
    for index in plan.kept.len()..plan.drawn {
        let queued = match next.take() {
            Some(queued) => Some(queued),
            None => run.queue(index, watcher)?,
        };
        let Some(queued) = queued else {
            return Ok(Outcome::Cancelled);
        };
        let logits = run.read(index, queued)?;
        let rows = logits.iter().zip(&plan.seeds);
        let mut bits: Vec<Vec<u8>> = rows
            .map(|(logits, &seed)| sampling::draw_bits(logits, plan.rule, seed, index))
            .collect();
        run.add(index, &mut bits);
        run.show(index, &logits, &bits, watcher)?;
        if index + 1 < plan.drawn && watcher.works_ahead() {
            next = run.queue(index + 1, watcher)?;
            if next.is_none() {
                return Ok(Outcome::Cancelled);
            }
        }
        watcher.shown()?;
    }
    Ok(Outcome::Done(run.sums))
}

impl Run<'_> {
    /// Reads the texts again with what is worn at scale `index`, where that differs from scale to scale.
    fn dress(&mut self, index: usize) {
        if !self.wardrobe.is_plain() {
            let guided = self.conditions.guided;
            self.conditions = Conditions::new(self.wardrobe.at(index), self.texts, self.plan);
            if self.conditions.guided && !guided {
                self.conditions.end_guidance(self.plan.seeds.len());
            }
        }
    }

    /// Logits of scale `index` as the device will have them; `None` when the watcher stopped the run.
    fn queue(
        &mut self,
        index: usize,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<Tensor<3>>, EngineError> {
        if watcher.is_cancelled() {
            return Ok(None);
        }
        let (transformer, plan) = (self.wardrobe.at(index), self.plan);
        self.dress(index);
        if self.conditions.guided && plan.cfg[index..].iter().all(|&cfg| cfg == 1.0) {
            // Nothing asks for the pictures without text any more.
            self.conditions.end_guidance(plan.seeds.len());
            for cache in &mut self.caches {
                cache.keep_rows(plan.seeds.len());
            }
        }
        let condition = self.conditions.at(index);
        let x = if index == 0 {
            transformer.first_token(condition)
        } else {
            let features = self.layout.next_input(&self.sums, plan, index, transformer);
            watcher.tensor(index, "input_features", &features);
            transformer.embed(self.conditions.with_rows(features), index)
        };
        watcher.tensor(index, "block_first_in", &x);
        let width = transformer.config.head_width();
        let rope = Rope::new(
            &plan.schedule,
            index..index + 1,
            width,
            transformer.device(),
        );
        let Some(x) = self.through(x, index..index + 1, &rope, None, watcher) else {
            return Ok(None);
        };
        watcher.tensor(index, "block_last_out", &x);
        let condition = self.conditions.at(index);
        Ok(Some(transformer.logits(x, condition)))
    }

    /// The tokens `x` of `scales` through all blocks; `None` when the watcher stopped the run.
    fn through(
        &mut self,
        mut x: Tensor<3>,
        scales: Range<usize>,
        rope: &Rope,
        mask: Option<&Mask>,
        watcher: &mut dyn Watcher,
    ) -> Option<Tensor<3>> {
        let (transformer, plan) = (self.wardrobe.at(scales.start), self.plan);
        let condition = self.conditions.at(scales.start);
        let [rows, tokens, _] = x.dims();
        let at_once = if watcher.looks_inside() {
            1
        } else {
            transformer.blocks_at_once(rows * tokens)
        };
        let depth = self.caches.len();
        let over = PassScales {
            rope,
            mask,
            are_last: scales.end == plan.drawn,
        };
        let mut block = 0;
        while block < depth {
            if watcher.is_cancelled() {
                return None;
            }
            let most = depth.min(block + at_once);
            let guided = (block + 1..most).find(|&end| self.conditions.guides_after(end - 1, plan));
            let blocks = block..guided.unwrap_or(most);
            x = transformer.pass(blocks.clone(), x, condition, over, &mut self.caches);
            if blocks == (0..1) {
                watcher.tensor(scales.start, "block_first_out", &x);
            }
            x = self
                .conditions
                .guide_inside(x, blocks.end - 1, scales.clone(), plan);
            block = blocks.end;
        }
        Some(x)
    }

    /// Guided logits of scale `index`, one list per picture, from those that the device has.
    fn read(&self, index: usize, logits: Tensor<3>) -> Result<Vec<Vec<f32>>, EngineError> {
        let (transformer, plan) = (self.wardrobe.at(index), self.plan);
        let values = read_back(logits, "reading logits")?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(EngineError::NotFinite {
                what: format!("while drawing scale {}", index + 1),
                advice: "The model file may be damaged; copy it again, or try --device cpu."
                    .to_owned(),
            });
        }
        let tokens = plan.schedule.scales[index].tokens();
        let mut per_row = values.chunks_exact(2 * tokens * transformer.config.token_bits());
        let rows = plan.seeds.len();
        let cond: Vec<&[f32]> = per_row.by_ref().take(rows).collect();
        let uncond: Vec<&[f32]> = per_row.collect();
        let (cfg, tau) = (plan.cfg[index], plan.tau[index]);
        let mixes = self.conditions.guided && cfg != 1.0 && plan.cfg_insertion_layers.contains(&0);
        let guide = |row: usize| {
            let mut logits = sampling::guide(cond[row], mixes.then(|| uncond[row]), cfg, tau);
            if let Some(certainty) = plan.certainty {
                sampling::loosen(&mut logits, certainty);
            }
            logits
        };
        Ok((0..rows).map(guide).collect())
    }

    /// Adds the bits of scale `index` to the sums; what is outside of a mask stays as it was.
    fn add(&mut self, index: usize, bits: &mut [Vec<u8>]) {
        let scale = self.plan.schedule.scales[index];
        for (sum, bits) in self.sums.iter_mut().zip(bits) {
            if let Some(damage) = &self.plan.damage {
                damage.apply(index, bits);
            }
            if let Some(outside) = &self.plan.outside {
                outside.keep_bits(index, scale, bits);
            }
            self.layout.add(sum, bits, scale);
            if let Some(outside) = &self.plan.outside {
                outside.keep_sum(index, sum);
            }
        }
    }

    fn show(
        &self,
        index: usize,
        logits: &[Vec<f32>],
        bits: &[Vec<u8>],
        watcher: &mut dyn Watcher,
    ) -> Result<(), EngineError> {
        watcher.scale(&ScaleView {
            index,
            scale: self.plan.schedule.scales[index],
            logits,
            bits,
            sums: &self.sums,
        })
    }
}
