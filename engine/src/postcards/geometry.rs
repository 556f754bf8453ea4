//! Shapes and measures that the painter and the reader share, so that neither can drift from the other.
//!
//! A thing is a list of parts around its anchor: the middle of its base, or of a balloon's envelope. Parts are measured
//! in the picture's shorter side, x right and y down; anchors in fractions of the width and height.

use super::attributes::{BodyKind, Land, Place, ThingKind, Time};

/// The sky is a gradient down to here, and constant below.
pub(super) const SKY_END: f32 = 0.77;
/// How far a body strays from the middle of its place.
pub(super) const BODY_JITTER_X: f32 = 0.06;
/// Highest and lowest middle of a body.
pub(super) const BODY_Y: (f32, f32) = (0.16, 0.32);
/// Smallest and largest radius of a body.
pub(super) const BODY_RADIUS: (f32, f32) = (0.08, 0.11);
/// How far a thing strays from the middle of its place.
pub(super) const THING_JITTER_X: f32 = 0.05;
/// Radius of the disc of sky that makes a moon of a disc of radius 1.
pub(super) const CUT_RADIUS: f32 = 0.95;
/// Middle of that disc of sky.
pub(super) const CUT_AT: (f32, f32) = (0.58, -0.12);

/// Top and bottom colour of the sky.
pub(super) fn sky_colours(time: Time) -> [[u8; 3]; 2] {
    match time {
        Time::Dawn => [[0xFF, 0xBE, 0xAA], [0xFF, 0xEB, 0xC8]],
        Time::Day => [[0x6E, 0xB4, 0xF5], [0xCD, 0xEB, 0xFF]],
        Time::Sunset => [[0xEB, 0x5A, 0x3C], [0xFF, 0xBE, 0x5A]],
        Time::Night => [[0x0C, 0x10, 0x30], [0x28, 0x32, 0x64]],
    }
}

/// Colour of the sky at height `y` (fraction of the picture), in 0..255.
pub(super) fn sky_at(time: Time, y: f32) -> [f32; 3] {
    let [top, bottom] = sky_colours(time);
    mix(
        top.map(f32::from),
        bottom.map(f32::from),
        (y / SKY_END).clamp(0.0, 1.0),
    )
}

/// `from` at 0, `to` at 1.
pub(super) fn mix(from: [f32; 3], to: [f32; 3], amount: f32) -> [f32; 3] {
    let [[r, g, b], [to_r, to_g, to_b]] = [from, to];
    [
        r + (to_r - r) * amount,
        g + (to_g - g) * amount,
        b + (to_b - b) * amount,
    ]
}

/// Brightness of each band of a land, far to near.
pub(super) fn land_shades(land: Land) -> &'static [f32] {
    match land {
        Land::Mountains => &[1.0, 0.75],
        Land::Hills => &[1.0, 0.82, 0.82 * 0.82],
        Land::Sea => &[1.0],
        Land::Desert => &[1.0, 0.85],
    }
}

/// The x in the middle of a place.
pub(super) fn place_x(place: Place) -> f32 {
    match place {
        Place::Left => 0.22,
        Place::Center => 0.5,
        Place::Right => 0.78,
    }
}

/// The third of the picture that `x` lies in; the borders are halfway between the places.
pub(super) fn place_of(x: f32) -> Place {
    if x < 0.36 {
        Place::Left
    } else if x < 0.64 {
        Place::Center
    } else {
        Place::Right
    }
}

/// Highest and lowest anchor of a thing, as a fraction of the height.
pub(super) fn anchor_y(kind: ThingKind) -> (f32, f32) {
    match kind {
        ThingKind::House => (0.86, 0.86),
        ThingKind::Tree => (0.82, 0.90),
        ThingKind::Boat => (0.87, 0.87),
        ThingKind::Balloon => (0.37, 0.47),
        ThingKind::Lighthouse => (0.84, 0.84),
    }
}

/// Where trees stand.
pub(super) fn tree_xs(count: u8) -> &'static [f32] {
    match count {
        0 | 1 => &[0.5],
        2 => &[0.3, 0.7],
        _ => &[0.2, 0.5, 0.8],
    }
}

/// What a part is painted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// The colour that the caption names.
    Own,
    /// Always this colour.
    Fixed([u8; 3]),
}

/// Outline of a part.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// Middle and half axes.
    Ellipse { at: (f32, f32), radii: (f32, f32) },
    /// Convex corners in clockwise order on the screen.
    Polygon(&'static [(f32, f32)]),
}

impl Shape {
    /// Whether the point lies inside.
    pub(super) fn contains(self, x: f32, y: f32) -> bool {
        match self {
            Self::Ellipse { at, radii } => {
                let (dx, dy) = ((x - at.0) / radii.0, (y - at.1) / radii.1);
                dx * dx + dy * dy <= 1.0
            }
            Self::Polygon(corners) => {
                let next = corners.iter().cycle().skip(1);
                corners.iter().zip(next).all(|(from, to)| {
                    (to.0 - from.0) * (y - from.1) - (to.1 - from.1) * (x - from.0) >= 0.0
                })
            }
        }
    }
}

/// One part of a thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    /// Its outline.
    pub(super) shape: Shape,
    /// Its colour.
    pub(super) ink: Ink,
}

const fn polygon(corners: &'static [(f32, f32)], ink: Ink) -> Part {
    Part {
        shape: Shape::Polygon(corners),
        ink,
    }
}

const fn ellipse(at: (f32, f32), radii: (f32, f32), ink: Ink) -> Part {
    Part {
        shape: Shape::Ellipse { at, radii },
        ink,
    }
}

const ROOF: Ink = Ink::Fixed([0x5A, 0x32, 0x28]);
const DOOR: Ink = Ink::Fixed([0x3C, 0x23, 0x19]);
const TRUNK: Ink = Ink::Fixed([0x5A, 0x3C, 0x28]);
const HULL: Ink = Ink::Fixed([0x64, 0x3C, 0x28]);
const BASKET: Ink = Ink::Fixed([0x78, 0x50, 0x28]);
const LAMP: Ink = Ink::Fixed([0xFF, 0xE6, 0x96]);

const HOUSE: &[Part] = &[
    polygon(
        &[(-0.10, -0.14), (0.10, -0.14), (0.10, 0.0), (-0.10, 0.0)],
        Ink::Own,
    ),
    polygon(&[(0.0, -0.235), (0.125, -0.135), (-0.125, -0.135)], ROOF),
    polygon(
        &[
            (-0.025, -0.075),
            (0.025, -0.075),
            (0.025, 0.0),
            (-0.025, 0.0),
        ],
        DOOR,
    ),
];
const TREE: &[Part] = &[
    polygon(
        &[(-0.015, -0.10), (0.015, -0.10), (0.015, 0.0), (-0.015, 0.0)],
        TRUNK,
    ),
    ellipse((0.0, -0.175), (0.085, 0.095), Ink::Own),
];
const BOAT: &[Part] = &[
    polygon(
        &[(-0.13, -0.07), (0.13, -0.07), (0.09, 0.0), (-0.09, 0.0)],
        HULL,
    ),
    polygon(&[(-0.02, -0.30), (0.10, -0.08), (-0.02, -0.08)], Ink::Own),
];
const BALLOON: &[Part] = &[
    polygon(
        &[
            (-0.055, 0.08),
            (-0.045, 0.08),
            (-0.018, 0.145),
            (-0.024, 0.145),
        ],
        BASKET,
    ),
    polygon(
        &[(0.045, 0.08), (0.055, 0.08), (0.024, 0.145), (0.018, 0.145)],
        BASKET,
    ),
    polygon(
        &[
            (-0.028, 0.14),
            (0.028, 0.14),
            (0.028, 0.175),
            (-0.028, 0.175),
        ],
        BASKET,
    ),
    ellipse((0.0, 0.0), (0.09, 0.105), Ink::Own),
];
const LIGHTHOUSE: &[Part] = &[
    polygon(
        &[(-0.028, -0.34), (0.028, -0.34), (0.04, 0.0), (-0.04, 0.0)],
        Ink::Own,
    ),
    polygon(
        &[
            (-0.027, -0.38),
            (0.027, -0.38),
            (0.027, -0.34),
            (-0.027, -0.34),
        ],
        LAMP,
    ),
    polygon(&[(0.0, -0.41), (0.036, -0.378), (-0.036, -0.378)], ROOF),
];

/// The parts of one thing, those behind first.
pub(super) fn parts_of(kind: ThingKind) -> &'static [Part] {
    match kind {
        ThingKind::House => HOUSE,
        ThingKind::Tree => TREE,
        ThingKind::Boat => BOAT,
        ThingKind::Balloon => BALLOON,
        ThingKind::Lighthouse => LIGHTHOUSE,
    }
}

/// Whether a body of radius 1 around the origin covers the point.
pub(super) fn body_covers(kind: BodyKind, x: f32, y: f32) -> bool {
    let is_cut = kind == BodyKind::Moon && (x - CUT_AT.0).hypot(y - CUT_AT.1) < CUT_RADIUS;
    x.hypot(y) <= 1.0 && !is_cut
}

#[cfg(test)]
mod tests {
    use super::{Shape, parts_of, place_of, place_x};
    use crate::postcards::{Place, ThingKind};

    #[test]
    fn every_part_contains_its_middle() {
        for &kind in ThingKind::ALL {
            for part in parts_of(kind) {
                let (x, y) = match part.shape {
                    Shape::Ellipse { at, .. } => at,
                    Shape::Polygon(corners) => {
                        let count = corners.len() as f32;
                        let sum = corners
                            .iter()
                            .fold((0.0, 0.0), |sum, at| (sum.0 + at.0, sum.1 + at.1));
                        (sum.0 / count, sum.1 / count)
                    }
                };
                assert!(part.shape.contains(x, y), "{kind:?} {part:?}");
                assert!(!part.shape.contains(x + 1.0, y), "{kind:?} {part:?}");
            }
        }
    }

    #[test]
    fn places_hold_their_middles() {
        for &place in Place::ALL {
            assert_eq!(place_of(place_x(place)), place);
        }
    }
}
