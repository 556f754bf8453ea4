//! A checked wish: everything the drawing loop needs, one value per scale.

use super::sampling::Rule;
use crate::api::{EngineError, GenerateSpec};
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
    /// How bits are drawn.
    pub rule: Rule,
    /// Where guidance is applied: 0 for the logits, `-n` for the n-th last block.
    pub cfg_insertion_layers: Vec<i32>,
    /// Bits of the first scales that are kept of another picture, `[L, d']` each.
    pub kept: Vec<Vec<u8>>,
    /// A seed per picture of the batch.
    pub seeds: Vec<u64>,
    /// Things done otherwise than asked, each a sentence for the user.
    pub notes: Vec<String>,
}

impl Plan {
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
        if !(0.0..=1.0).contains(&spec.top_p) {
            return Err(EngineError::BadSetting {
                what: "top-p",
                value: spec.top_p.to_string(),
                advice: "Use 0 (off) to 1.".to_owned(),
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
            rule: Rule {
                top_k: spec.top_k,
                top_p: spec.top_p,
            },
            cfg_insertion_layers: spec.cfg_insertion_layers.clone(),
            kept: Vec::new(),
            seeds: vec![spec.seed],
            notes,
        })
    }

    /// Keeps what `spec` says of its bits, for a model with `token_bits` bits per token.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] when there are no such bits or they belong to another shape or model.
    pub fn keep(&mut self, spec: &GenerateSpec, token_bits: usize) -> Result<(), EngineError> {
        if spec.keep == 0 {
            return Ok(());
        }
        let refused = |advice: &str| EngineError::BadSetting {
            what: "The number of kept scales",
            value: spec.keep.to_string(),
            advice: advice.to_owned(),
        };
        let bits = spec.bits.as_ref();
        let bits = bits.ok_or_else(|| refused("There is no picture to keep them of."))?;
        if spec.keep >= self.schedule.scales.len() {
            return Err(refused("Leave at least the last scale to be drawn."));
        }
        let same =
            |(grid, scale): (&(usize, usize), &crate::schedule::Scale)| *grid == (scale.h, scale.w);
        let fits = bits.grids.len() >= spec.keep
            && bits.per_token == token_bits
            && bits
                .grids
                .iter()
                .zip(&self.schedule.scales)
                .take(spec.keep)
                .all(same);
        let scales = bits.scales().filter(|_| fits);
        let scales = scales.ok_or_else(|| {
            refused("The picture is of another shape, of another model, or its bits are damaged.")
        })?;
        self.kept = scales.into_iter().take(spec.keep).collect();
        Ok(())
    }

    /// Whether any scale is guided, so that a second, unconditional row is drawn along.
    pub fn is_guided(&self) -> bool {
        self.cfg.iter().any(|&cfg| cfg != 1.0)
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
