//! How much of the guidance is drawn: the paper's way, or quicker.

use serde::{Deserialize, Serialize};

/// A way of drawing. Guidance asks for a second picture, without text, beside every picture; the last scales, which
/// have the most tokens, follow what is there with or without it. `infinity lab guidance` measures what that costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As the paper draws: guidance at every scale.
    #[default]
    Exact,
    /// No guidance at the last quarter of the scales.
    Balanced,
    /// No guidance at the last half of the scales.
    Draft,
}

impl Mode {
    /// All modes, the slowest first.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Balanced, Self::Draft];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Balanced => "balanced",
            Self::Draft => "draft",
        }
    }

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// How many of `scales` last scales are drawn without guidance.
    pub const fn unguided(self, scales: usize) -> usize {
        match self {
            Self::Exact => 0,
            Self::Balanced => scales.div_ceil(4),
            Self::Draft => scales.div_ceil(2),
        }
    }

    /// Guidance `cfg`, one value or one per scale, as this mode draws `scales` scales.
    pub fn guidance(self, cfg: &[f32], scales: usize) -> Vec<f32> {
        let off = self.unguided(scales);
        // A list that is too long is refused when the picture is planned.
        let Some(&last) = cfg.last().filter(|_| off > 0 && cfg.len() <= scales) else {
            return cfg.to_vec();
        };
        let values = cfg.iter().copied().chain(std::iter::repeat(last));
        let guided = scales - off;
        values
            .take(guided)
            .chain(std::iter::repeat_n(1.0, off))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn modes_leave_guidance_out_at_the_end() {
        let exact = Mode::Exact.guidance(&[3.0], 7);
        assert_eq!(exact, [3.0]);
        let balanced = Mode::Balanced.guidance(&[3.0], 7);
        assert_eq!(balanced, [3.0, 3.0, 3.0, 3.0, 3.0, 1.0, 1.0]);
        let draft = Mode::Draft.guidance(&[5.0, 4.0, 3.0, 2.0], 4);
        assert_eq!(draft, [5.0, 4.0, 1.0, 1.0]);
        assert_eq!(Mode::Draft.guidance(&[5.0], 1), [1.0]);
        assert!(Mode::Balanced.guidance(&[], 3).is_empty());
        assert_eq!(Mode::Balanced.guidance(&[1.0, 2.0], 1), [1.0, 2.0]);
        for mode in Mode::ALL {
            assert_eq!(Mode::from_name(mode.name()), Some(mode));
        }
        assert_eq!(Mode::from_name("fast"), None);
    }
}
