//! A checked wish: everything the drawing loop needs, one value per scale.

use super::Outside;
use super::sampling::Rule;
use crate::api::{EngineError, GenerateSpec};
use crate::random::Stream;
use crate::schedule::{MAX_SCALES, ScaleSchedule};

/// What to draw, scale by scale.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The grids.
    pub schedule: ScaleSchedule,
    /// Guidance per scale.
    pub cfg: Vec<f32>,
    /// Temperature per scale.
    pub tau: Vec<f32>,
    /// Highest mean probability of the likelier values of a scale; its temperature is raised until that is met.
    pub certainty: Option<f32>,
    /// How bits are drawn.
    pub rule: Rule,
    /// Where guidance is applied: 0 for the logits, `-n` for the n-th last block.
    pub cfg_insertion_layers: Vec<i32>,
    /// Blocks of the model.
    pub depth: usize,
    /// Bits of the first scales that are kept of another picture, `[L, d']` each.
    pub kept: Vec<Vec<u8>>,
    /// Whether kept scales pass through the network together; the same bits either way.
    pub together: bool,
    /// How many scales are drawn, the kept ones among them; fewer than the schedule has for a draft.
    pub drawn: usize,
    /// The scale from which the second prompt holds.
    pub detail_from: Option<usize>,
    /// The picture that stays outside of a mask.
    pub outside: Option<Outside>,
    /// Bits flipped on purpose while drawing, to see how well the model mends them.
    pub damage: Option<Damage>,
    /// A seed per picture of the batch.
    pub seeds: Vec<u64>,
    /// Things done otherwise than asked, each a sentence for the user.
    pub notes: Vec<String>,
}

/// Bits flipped on purpose.
#[derive(Clone, Copy, Debug)]
pub struct Damage {
    /// Share of the bits of a scale.
    pub share: f32,
    /// How many first scales.
    pub scales: usize,
    /// Seed of the choice.
    pub seed: u64,
}

impl Damage {
    /// Flips bits of scale `index`.
    pub(super) fn apply(&self, index: usize, bits: &mut [u8]) {
        if index >= self.scales {
            return;
        }
        let stream = Stream::new(self.seed ^ 0xDA3A, index as u64);
        for (counter, bit) in bits.iter_mut().enumerate() {
            *bit ^= u8::from(stream.uniform(counter as u64) < f64::from(self.share));
        }
    }
}

impl Plan {
    /// Tokens of the scales that later ones look back on: all that are drawn but the last.
    pub fn looked_back_on(&self) -> usize {
        let scales = &self.schedule.scales[..self.drawn.saturating_sub(1)];
        scales.iter().map(|scale| scale.tokens()).sum()
    }

    /// Checks `spec` against a model with `default_scales` grids and `depth` blocks.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] naming the setting.
    pub fn new(
        spec: &GenerateSpec,
        default_scales: usize,
        depth: usize,
    ) -> Result<Self, EngineError> {
        let count = spec.scale_count.unwrap_or(default_scales);
        let schedule = ScaleSchedule::nearest(spec.ratio, count)?;
        let mut notes = Vec::new();
        if (schedule.ratio - spec.ratio).abs() > 0.005 {
            let (width, height) = schedule.size_px();
            notes.push(format!(
                "The nearest shape this model knows is {width}×{height} (height to width {}); {} was asked for.",
                schedule.ratio, spec.ratio
            ));
        }
        if count > default_scales {
            notes.push(format!(
                "This model was made for {default_scales} scales; {count} may look wrong."
            ));
        }
        let cfg = per_scale(
            "CFG",
            &spec.cfg,
            count,
            |v| (0.0..=100.0).contains(&v),
            "Use 0 to 100; 1 is off, 3 to 5 usual.",
        )?;
        let tau = per_scale(
            "tau",
            &spec.tau,
            count,
            |v| v > 0.0 && v <= 100.0,
            "Use a number above 0, at most 100; 0.5 to 1 is usual.",
        )?;
        if let Some(wrong) = spec.certainty.filter(|c| !(0.5..=1.0).contains(c)) {
            return Err(EngineError::BadSetting {
                what: "certainty",
                value: wrong.to_string(),
                advice: "Use 0.5 to 1; 0.9 gives livelier pictures, 1 changes nothing.".to_owned(),
            });
        }
        if !(0.0..=1.0).contains(&spec.top_p) {
            return Err(EngineError::BadSetting {
                what: "top-p",
                value: spec.top_p.to_string(),
                advice: "Use 0 (off) to 1.".to_owned(),
            });
        }
        if !spec.detail_prompt.trim().is_empty() && spec.detail_from >= count {
            return Err(EngineError::BadSetting {
                what: "The scale from which the second prompt holds",
                value: (spec.detail_from + 1).to_string(),
                advice: format!("Use 1 to {count}."),
            });
        }
        for &layer in &spec.cfg_insertion_layers {
            if layer > 1 || layer < -(depth as i32) {
                return Err(EngineError::BadSetting {
                    what: "A guidance layer",
                    value: layer.to_string(),
                    advice: format!(
                        "Use 0 for the logits or -1 to -{depth} for a block from the end."
                    ),
                });
            }
        }
        Ok(Self {
            schedule,
            cfg,
            tau,
            certainty: spec.certainty,
            rule: Rule {
                top_k: spec.top_k,
                top_p: spec.top_p,
            },
            cfg_insertion_layers: spec.cfg_insertion_layers.clone(),
            depth,
            kept: Vec::new(),
            together: true,
            drawn: count,
            detail_from: (!spec.detail_prompt.trim().is_empty()).then_some(spec.detail_from),
            outside: None,
            damage: None,
            seeds: vec![spec.seed],
            notes,
        })
    }

    /// Keeps what `spec` says of its bits, for a model with `token_bits` bits per token and this tokenizer.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] when there are no such bits or they belong to another shape or model.
    pub fn keep(
        &mut self,
        spec: &GenerateSpec,
        token_bits: usize,
        tokenizer: &str,
    ) -> Result<(), EngineError> {
        if spec.keep == 0 {
            return Ok(());
        }
        if spec.keep >= self.schedule.scales.len() {
            return Err(refused(spec, "Leave at least the last scale to be drawn."));
        }
        self.keep_all(spec, token_bits, tokenizer)
    }

    /// As [`Self::keep`], but all scales may be kept, so that nothing is left to draw.
    ///
    /// # Errors
    /// As [`Self::keep`].
    pub fn keep_all(
        &mut self,
        spec: &GenerateSpec,
        token_bits: usize,
        tokenizer: &str,
    ) -> Result<(), EngineError> {
        let bits = spec.bits.as_ref();
        let bits = bits.ok_or_else(|| refused(spec, "There is no picture to keep them of."))?;
        if !bits.tokenizer.is_empty() && !tokenizer.is_empty() && bits.tokenizer != tokenizer {
            return Err(refused(
                spec,
                "The picture was drawn with another model, whose bits mean something else; open that model first.",
            ));
        }
        let same =
            |(grid, scale): (&(usize, usize), &crate::schedule::Scale)| *grid == (scale.h, scale.w);
        let fits = bits.grids.len() >= spec.keep
            && spec.keep <= self.schedule.scales.len()
            && bits.per_token == token_bits
            && bits
                .grids
                .iter()
                .zip(&self.schedule.scales)
                .take(spec.keep)
                .all(same);
        let scales = bits.scales().filter(|_| fits);
        let scales = scales.ok_or_else(|| {
            refused(
                spec,
                "The picture is of another shape, of another model, or its bits are damaged.",
            )
        })?;
        self.kept = scales.into_iter().take(spec.keep).collect();
        Ok(())
    }

    /// Stops after the first `scales`, for a draft that can be finished later.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] when nothing or everything would be drawn.
    pub fn stop_after(&mut self, scales: usize) -> Result<(), EngineError> {
        let count = self.schedule.scales.len();
        if scales <= self.kept.len() || scales >= count {
            return Err(EngineError::BadSetting {
                what: "The number of scales of a draft",
                value: scales.to_string(),
                advice: format!("Use {} to {}.", self.kept.len() + 1, count - 1),
            });
        }
        self.drawn = scales;
        Ok(())
    }

    /// What drawing costs, in pictures drawn in one go: the share of all tokens, times the pictures.
    pub fn cost(&self) -> f32 {
        let scales = &self.schedule.scales;
        let all: usize = scales.iter().map(|scale| scale.tokens()).sum();
        let own = scales.iter().take(self.drawn).map(|scale| scale.tokens());
        self.seeds.len() as f32 * own.sum::<usize>() as f32 / all.max(1) as f32
    }

    /// Whether any scale is guided, so that a second, unconditional row is drawn along.
    pub fn is_guided(&self) -> bool {
        self.cfg.iter().any(|&cfg| cfg != 1.0)
    }
}

fn refused(spec: &GenerateSpec, advice: &str) -> EngineError {
    EngineError::BadSetting {
        what: "The number of kept scales",
        value: spec.keep.to_string(),
        advice: advice.to_owned(),
    }
}

/// One value for all scales, or one per scale.
fn per_scale(
    what: &'static str,
    values: &[f32],
    count: usize,
    is_fine: impl Fn(f32) -> bool,
    advice: &str,
) -> Result<Vec<f32>, EngineError> {
    if let Some(&bad) = values
        .iter()
        .find(|&&value| !value.is_finite() || !is_fine(value))
    {
        return Err(EngineError::BadSetting {
            what,
            value: bad.to_string(),
            advice: advice.to_owned(),
        });
    }
    match values {
        [one] => Ok(vec![*one; count]),
        // A list for a longer schedule serves its prefix, as in the reference.
        list if list.len() >= count && list.len() <= MAX_SCALES => {
            Ok(list.iter().copied().take(count).collect())
        }
        list => Err(EngineError::BadSetting {
            what,
            value: format!("a list of {}", list.len()),
            advice: format!("Give one value, or one for each of the {count} scales."),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(&mut GenerateSpec)) -> bool {
        let mut spec = GenerateSpec::new("a", 1);
        change(&mut spec);
        Plan::new(&spec, 5, 6).is_err()
    }

    #[test]
    fn meaningless_settings_are_refused() {
        assert!(!refused(|_| ()));
        assert!(refused(|s| s.cfg = vec![f32::NAN]));
        assert!(refused(|s| s.cfg = vec![-1.0]));
        assert!(refused(|s| s.tau = vec![0.0]));
        assert!(refused(|s| s.tau = vec![f32::INFINITY]));
        assert!(refused(|s| s.cfg = vec![]));
        assert!(refused(|s| s.cfg = vec![1.0, 2.0]));
        assert!(refused(|s| s.top_p = 2.0));
        assert!(refused(|s| s.ratio = f32::NAN));
        assert!(refused(|s| s.scale_count = Some(0)));
        assert!(refused(|s| s.cfg_insertion_layers = vec![-7]));
        assert!(refused(|s| {
            (s.detail_prompt, s.detail_from) = ("b".to_owned(), 5);
        }));
    }

    #[test]
    fn drafts_cost_their_share() {
        let mut plan = Plan::new(&GenerateSpec::new("a", 1), 5, 6).unwrap();
        assert_eq!(plan.cost(), 1.0);
        plan.seeds = vec![0; 16];
        for bad in [0, 5, 6] {
            assert!(plan.stop_after(bad).is_err());
        }
        plan.stop_after(3).unwrap();
        assert_eq!(plan.cost(), 16.0 * 21.0 / 121.0);
    }

    #[test]
    fn odd_shapes_are_said() {
        let mut spec = GenerateSpec::new("a", 1);
        spec.ratio = 1.4;
        let plan = Plan::new(&spec, 5, 6).unwrap();
        assert_eq!(plan.schedule.ratio, 1.333);
        assert_eq!(plan.notes.len(), 1);
    }
}
