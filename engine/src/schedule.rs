//! Scale schedules: which token grids a picture is drawn on, coarse to fine.
//!
//! Pure integer code. The table is that of Infinity (arXiv 2412.04431, section
//! 3.1 and the published `dynamic_resolution` table): eight ratios of height to
//! width with thirteen grids each, and the same turned on their side. A pixel
//! budget takes a prefix of the thirteen.

use crate::api::EngineError;

/// Pixels along one side of a token at full resolution.
pub const PIXELS_PER_TOKEN: usize = 16;

/// One token grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scale {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

impl Scale {
    /// Number of tokens.
    pub const fn tokens(self) -> usize {
        self.h * self.w
    }
}

/// The grids of one ratio, coarse to fine.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleSchedule {
    /// Height over width, as the table names it.
    pub ratio: f32,
    /// Grids to draw.
    pub scales: Vec<Scale>,
    /// The last of all thirteen grids of this ratio; rotary positions are stretched to it.
    pub rope_base: Scale,
}

/// Number of grids in a full schedule.
pub const MAX_SCALES: usize = 13;

const fn grids(rows: [(usize, usize); MAX_SCALES]) -> [(usize, usize); MAX_SCALES] {
    rows
}

/// Upright and square grids; the others are these, transposed.
const TABLE: [(f32, [(usize, usize); MAX_SCALES]); 8] = [
    (
        1.0,
        grids([
            (1, 1),
            (2, 2),
            (4, 4),
            (6, 6),
            (8, 8),
            (12, 12),
            (16, 16),
            (20, 20),
            (24, 24),
            (32, 32),
            (40, 40),
            (48, 48),
            (64, 64),
        ]),
    ),
    (
        1.25,
        grids([
            (1, 1),
            (2, 2),
            (3, 3),
            (5, 4),
            (10, 8),
            (15, 12),
            (20, 16),
            (25, 20),
            (30, 24),
            (35, 28),
            (45, 36),
            (55, 44),
            (70, 56),
        ]),
    ),
    (
        1.333,
        grids([
            (1, 1),
            (2, 2),
            (4, 3),
            (8, 6),
            (12, 9),
            (16, 12),
            (20, 15),
            (24, 18),
            (28, 21),
            (36, 27),
            (48, 36),
            (60, 45),
            (72, 54),
        ]),
    ),
    (
        1.5,
        grids([
            (1, 1),
            (2, 2),
            (3, 2),
            (6, 4),
            (9, 6),
            (15, 10),
            (21, 14),
            (27, 18),
            (33, 22),
            (39, 26),
            (48, 32),
            (63, 42),
            (78, 52),
        ]),
    ),
    (
        1.75,
        grids([
            (1, 1),
            (2, 2),
            (3, 3),
            (7, 4),
            (11, 6),
            (14, 8),
            (21, 12),
            (28, 16),
            (35, 20),
            (42, 24),
            (56, 32),
            (70, 40),
            (84, 48),
        ]),
    ),
    (
        2.0,
        grids([
            (1, 1),
            (2, 2),
            (4, 2),
            (6, 3),
            (10, 5),
            (16, 8),
            (22, 11),
            (30, 15),
            (38, 19),
            (46, 23),
            (60, 30),
            (74, 37),
            (90, 45),
        ]),
    ),
    (
        2.5,
        grids([
            (1, 1),
            (2, 2),
            (5, 2),
            (10, 4),
            (15, 6),
            (20, 8),
            (25, 10),
            (30, 12),
            (40, 16),
            (50, 20),
            (65, 26),
            (80, 32),
            (100, 40),
        ]),
    ),
    (
        3.0,
        grids([
            (1, 1),
            (2, 2),
            (6, 2),
            (9, 3),
            (15, 5),
            (21, 7),
            (27, 9),
            (36, 12),
            (45, 15),
            (54, 18),
            (72, 24),
            (90, 30),
            (111, 37),
        ]),
    ),
];

/// All ratios (height over width), in the order in which the nearest is searched.
pub const RATIOS: [f32; 15] = [
    1.0, 1.25, 0.8, 1.333, 0.75, 1.5, 0.666, 1.75, 0.571, 2.0, 0.5, 2.5, 0.4, 3.0, 0.333,
];

/// The table's ratio nearest to `ratio`; the first of equals.
///
/// # Errors
/// [`EngineError::BadSetting`] when `ratio` is not a positive number.
pub fn nearest_ratio(ratio: f32) -> Result<f32, EngineError> {
    if !(ratio.is_finite() && ratio > 0.0) {
        return Err(EngineError::BadSetting {
            what: "The ratio of height to width",
            value: ratio.to_string(),
            advice: "Use a positive number such as 1 (square) or 1.5 (upright).".to_owned(),
        });
    }
    let mut best = RATIOS[0];
    for candidate in RATIOS {
        if (ratio - candidate).abs() < (ratio - best).abs() {
            best = candidate;
        }
    }
    Ok(best)
}

impl ScaleSchedule {
    /// The first `scale_count` grids of the table's ratio nearest to `ratio`.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] for a ratio that is no positive number, or a count outside 1–13.
    pub fn nearest(ratio: f32, scale_count: usize) -> Result<Self, EngineError> {
        let ratio = nearest_ratio(ratio)?;
        if scale_count == 0 || scale_count > MAX_SCALES {
            return Err(EngineError::BadSetting {
                what: "The number of scales",
                value: scale_count.to_string(),
                advice: format!("Use 1 to {MAX_SCALES}."),
            });
        }
        let upright = |name: f32| if name < 1.0 { upright_of(name) } else { name };
        let row = TABLE
            .iter()
            .find(|(name, _)| (*name - upright(ratio)).abs() < 1e-6)
            .map_or(&TABLE[0].1, |(_, row)| row);
        let turned = ratio < 1.0;
        let grid = |&(h, w): &(usize, usize)| {
            if turned {
                Scale { h: w, w: h }
            } else {
                Scale { h, w }
            }
        };
        Ok(Self {
            ratio,
            scales: row.iter().take(scale_count).map(grid).collect(),
            rope_base: grid(&row[MAX_SCALES - 1]),
        })
    }

    /// The finest grid.
    pub fn last(&self) -> Scale {
        self.scales.last().copied().unwrap_or(Scale { h: 1, w: 1 })
    }

    /// Number of tokens of all grids.
    pub fn tokens(&self) -> usize {
        self.scales.iter().map(|scale| scale.tokens()).sum()
    }

    /// Size of the finished picture in pixels, `(width, height)`.
    pub fn size_px(&self) -> (u32, u32) {
        let last = self.last();
        (
            (last.w * PIXELS_PER_TOKEN) as u32,
            (last.h * PIXELS_PER_TOKEN) as u32,
        )
    }
}

/// The upright ratio whose grids, turned, belong to `ratio` below 1.
fn upright_of(ratio: f32) -> f32 {
    TABLE
        .iter()
        .map(|(name, _)| *name)
        .find(|name| ((1000.0 / name).floor() / 1000.0 - ratio).abs() < 1e-6)
        .unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_sums_are_the_published_ones() {
        for (count, tokens) in [(7, 521), (10, 2521), (12, 6425), (13, 10521)] {
            assert_eq!(ScaleSchedule::nearest(1.0, count).unwrap().tokens(), tokens);
        }
    }

    #[test]
    fn turned_ratios_are_transposed() {
        for ratio in RATIOS {
            let schedule = ScaleSchedule::nearest(ratio, 13).unwrap();
            assert_eq!(schedule.ratio, ratio);
            let last = schedule.last();
            assert!(
                (last.h as f32 / last.w as f32 - ratio).abs() < 0.02,
                "{ratio}: {last:?}"
            );
        }
        let flat = ScaleSchedule::nearest(0.333, 7).unwrap();
        assert_eq!(flat.size_px(), (432, 144));
    }

    #[test]
    fn odd_wishes_take_the_nearest() {
        assert_eq!(nearest_ratio(0.91).unwrap(), 1.0);
        assert_eq!(nearest_ratio(10.0).unwrap(), 3.0);
        assert!(nearest_ratio(f32::NAN).is_err());
        assert!(nearest_ratio(-1.0).is_err());
        assert!(ScaleSchedule::nearest(1.0, 14).is_err());
    }
}
