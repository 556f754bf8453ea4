//! A postcard with its jitter settled: where everything stands, in fractions of the picture.
//!
//! Each element has its own random stream, so that changing one attribute leaves the rest of the picture in place.

use super::attributes::{BodyKind, Land, Sky, ThingKind};
use super::geometry::{
    BODY_JITTER_X, BODY_RADIUS, BODY_Y, THING_JITTER_X, anchor_y, place_x, tree_xs,
};
use super::postcard::Postcard;
use super::rng::SplitMix64;

/// Everything the painter needs besides the colours.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// Stars: x, y, radius.
    pub(super) stars: Vec<(f32, f32, f32)>,
    /// Clouds, each a group of discs.
    pub(super) clouds: Vec<Cloud>,
    /// Sun or moon: kind, middle, radius.
    pub(super) body: Option<(BodyKind, (f32, f32), f32)>,
    /// Outlines of the land's bands, far to near: points from left to right.
    pub(super) bands: Vec<Vec<(f32, f32)>>,
    /// Lighter strokes on the sea: x, y, length.
    pub(super) strokes: Vec<(f32, f32, f32)>,
    /// Anchors of the things.
    pub(super) anchors: Vec<(f32, f32)>,
}

/// Discs around a middle; their offsets and radii are measured in the shorter side.
#[derive(Clone, Debug)]
pub(super) struct Cloud {
    /// Middle, in fractions of the picture.
    pub(super) at: (f32, f32),
    /// Offset x, offset y, radius.
    pub(super) discs: [(f32, f32, f32); 3],
}

impl Scene {
    /// Settles the jitter of `postcard` by `seed`.
    pub(super) fn settle(postcard: &Postcard, seed: u64) -> Self {
        let body = body(postcard, &mut SplitMix64::stream(seed, 10));
        let anchors = anchors(postcard, &mut SplitMix64::stream(seed, 11));
        let horizon = SplitMix64::stream(seed, 12).range(0.58, 0.66);
        let is_starry = postcard.sky == Sky::Starry;
        let is_sea = postcard.land == Land::Sea;
        let balloon = postcard
            .thing
            .filter(|thing| thing.kind == ThingKind::Balloon);
        let clouds = if postcard.sky == Sky::Cloudy {
            let balloon_at = balloon.and_then(|_| anchors.first().copied());
            clouds(body, balloon_at, &mut SplitMix64::stream(seed, 13))
        } else {
            Vec::new()
        };
        Self {
            stars: if is_starry { stars() } else { Vec::new() },
            clouds,
            body,
            bands: bands(postcard.land, horizon, &mut SplitMix64::stream(seed, 15)),
            strokes: if is_sea {
                strokes(horizon, &mut SplitMix64::stream(seed, 16))
            } else {
                Vec::new()
            },
            anchors,
        }
    }
}

fn body(postcard: &Postcard, rng: &mut SplitMix64) -> Option<(BodyKind, (f32, f32), f32)> {
    let body = postcard.body?;
    let x = rng.around(place_x(body.place), BODY_JITTER_X);
    let y = rng.range(BODY_Y.0, BODY_Y.1);
    Some((body.kind, (x, y), rng.range(BODY_RADIUS.0, BODY_RADIUS.1)))
}

fn anchors(postcard: &Postcard, rng: &mut SplitMix64) -> Vec<(f32, f32)> {
    let Some(thing) = postcard.thing else {
        return Vec::new();
    };
    let (top, bottom) = anchor_y(thing.kind);
    let mut anchor = |x: f32| (rng.around(x, THING_JITTER_X), rng.range(top, bottom));
    match thing.place {
        Some(place) => vec![anchor(place_x(place))],
        None => tree_xs(thing.count).iter().map(|&x| anchor(x)).collect(),
    }
}

/// Places and radii of the stars, in fractions of the picture; there is one sky, as there is over us.
///
/// A star is in one token of five. Where it may be anywhere every bit of it is unlikely, and bits are drawn apart from each
/// other, so that stars were never drawn.
pub(super) fn stars() -> Vec<(f32, f32, f32)> {
    let rng = &mut SplitMix64::stream(7, 14);
    let count = 20 + rng.below(11);
    (0..count)
        .map(|_| {
            (
                rng.range(0.01, 0.99),
                rng.range(0.01, 0.5),
                rng.range(0.002, 0.004),
            )
        })
        .collect()
}

/// Clouds keep clear of the body, the balloon and each other: a white moon in a cloud could not be read.
fn clouds(
    body: Option<(BodyKind, (f32, f32), f32)>,
    balloon: Option<(f32, f32)>,
    rng: &mut SplitMix64,
) -> Vec<Cloud> {
    let count = 2 + rng.below(2);
    let mut clouds: Vec<Cloud> = Vec::with_capacity(count);
    // A third cloud may find no room; it is left out then.
    for _ in 0..60 {
        if clouds.len() == count {
            break;
        }
        let at = (rng.range(0.08, 0.92), rng.range(0.08, 0.40));
        let is_near = |other: (f32, f32), x: f32, y: f32| {
            (at.0 - other.0).abs() < x && (at.1 - other.1).abs() < y
        };
        let in_body =
            body.is_some_and(|(_, middle, radius)| is_near(middle, radius + 0.11, radius + 0.06));
        let in_balloon = balloon.is_some_and(|middle| is_near(middle, 0.20, 0.17));
        if in_body || in_balloon || clouds.iter().any(|cloud| is_near(cloud.at, 0.20, 0.11)) {
            continue;
        }
        let mut disc = |x: f32| {
            (
                rng.around(x, 0.006),
                rng.around(0.0, 0.006),
                rng.range(0.03, 0.05),
            )
        };
        clouds.push(Cloud {
            at,
            discs: [disc(-0.045), disc(0.0), disc(0.045)],
        });
    }
    clouds
}

fn strokes(horizon: f32, rng: &mut SplitMix64) -> Vec<(f32, f32, f32)> {
    (0..8)
        .map(|_| {
            (
                rng.range(0.0, 0.92),
                rng.range(horizon + 0.02, 0.98),
                rng.range(0.06, 0.14),
            )
        })
        .collect()
}

fn bands(land: Land, horizon: f32, rng: &mut SplitMix64) -> Vec<Vec<(f32, f32)>> {
    match land {
        Land::Mountains => vec![
            ridge(horizon + 0.01, (0.10, 0.18), rng),
            ridge(horizon + 0.09, (0.06, 0.12), rng),
        ],
        Land::Hills => [0.0, 0.11, 0.21]
            .iter()
            .map(|&below| {
                let cycles = rng.range(1.8, 2.8);
                wave(horizon + 0.01 + below, rng.range(0.025, 0.035), cycles, rng)
            })
            .collect(),
        Land::Sea => vec![vec![(0.0, horizon), (1.0, horizon)]],
        Land::Desert => [0.0, 0.13]
            .iter()
            .map(|&below| {
                let cycles = rng.range(0.55, 0.9);
                wave(horizon + 0.02 + below, rng.range(0.02, 0.03), cycles, rng)
            })
            .collect(),
    }
}

/// A row of triangles that stand on `foot` and rise by `rise`.
fn ridge(foot: f32, rise: (f32, f32), rng: &mut SplitMix64) -> Vec<(f32, f32)> {
    let mut points = Vec::new();
    let mut x = -rng.range(0.05, 0.25);
    while x < 1.1 {
        let half = rng.range(0.10, 0.14);
        points.push((x, foot - rng.range(0.0, 0.02)));
        points.push((x + half, foot - rng.range(rise.0, rise.1)));
        x += 2.0 * half;
    }
    points.push((x, foot));
    points
}

fn wave(middle: f32, height: f32, cycles: f32, rng: &mut SplitMix64) -> Vec<(f32, f32)> {
    const STEPS: u8 = 48;
    let phase = rng.range(0.0, std::f32::consts::TAU);
    (0..=STEPS)
        .map(|step| {
            let x = f32::from(step) / f32::from(STEPS);
            (
                x,
                middle + height * (x * cycles * std::f32::consts::TAU + phase).sin(),
            )
        })
        .collect()
}

/// Cells of a grid of `width` by `height` that a star of the starry sky stands in, row by row.
pub fn star_cells(width: usize, height: usize) -> Vec<bool> {
    let mut cells = vec![false; width * height];
    for (x, y, _) in stars() {
        let place = |at: f32, count: usize| ((at * count as f32) as usize).min(count - 1);
        cells[place(y, height) * width + place(x, width)] = true;
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::{star_cells, stars};

    #[test]
    fn every_star_has_its_cell() {
        let stars = stars();
        assert!((20..=30).contains(&stars.len()));
        assert!(stars.iter().all(|&(x, y, radius)| {
            (0.0..1.0).contains(&x) && (0.0..=0.5).contains(&y) && radius >= 0.002
        }));
        let cells = star_cells(16, 12);
        let counted = cells.iter().filter(|&&star| star).count();
        assert!(counted <= stars.len() && counted > stars.len() / 2);
        for (x, y, _) in stars {
            assert!(cells[(y * 12.0) as usize * 16 + (x * 16.0) as usize]);
        }
        assert_eq!(star_cells(1, 1), [true]);
    }
}
