//! The colours a postcard is painted in: those of its attributes, or any.

use super::attributes::Colour;
use super::geometry::sky_at;
use super::postcard::{Postcard, Thing};
use super::rng::SplitMix64;

/// sRGB colours of the parts that the attributes colour; a part that is not there is not painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inks {
    /// The land.
    pub land: [u8; 3],
    /// The sun or moon.
    pub body: [u8; 3],
    /// The thing, or all trees.
    pub thing: [u8; 3],
}

/// A free colour of a thing is at least this far, in steps of a channel, from those held out.
const KEPT_AWAY: f32 = 48.0;

/// A free colour of a body or thing is at least this far from what is behind it: a moon in the colour of its sky is no
/// picture of a moon.
const STANDS_OUT: f32 = 80.0;
/// Heights where the sky is behind a body, and where it is behind a thing.
const BEHIND_BODIES: [f32; 2] = [0.1, 0.4];
const BEHIND_THINGS: [f32; 2] = [0.35, 0.6];

impl Inks {
    /// The colours that the attributes name.
    pub fn of(postcard: &Postcard) -> Self {
        let white = Colour::White;
        Self {
            land: postcard.land_colour.rgb(),
            body: postcard.body.map_or(white, |body| body.colour).rgb(),
            thing: postcard.thing.map_or(white, |thing| thing.colour).rgb(),
        }
    }

    /// Any colours that stand out from what is behind them, but none near one that would make `postcard` a held-out
    /// combination.
    ///
    /// A tokenizer that sees every shape in every colour does not take the colour from the shape.
    pub fn any(postcard: &Postcard, seed: u64) -> Self {
        let mut rng = SplitMix64::stream(seed, 30);
        let mut free = || [0; 3].map(|_| rng.below(256) as u8);
        let sky = |y: f32| sky_at(postcard.time, y).map(|channel| channel.round() as u8);
        let stands_out = |ink: [u8; 3], behind: &[[u8; 3]]| {
            behind
                .iter()
                .all(|&other| distance(ink, other) >= STANDS_OUT)
        };
        let land = free();
        let behind_body = BEHIND_BODIES.map(sky);
        let body = loop {
            let ink = free();
            if stands_out(ink, &behind_body) {
                break ink;
            }
        };
        let [upper, lower] = BEHIND_THINGS.map(sky);
        let is_held_out = |ink| {
            postcard
                .thing
                .is_some_and(|thing| is_near_held_out(thing, ink))
        };
        let thing = loop {
            let ink = free();
            if stands_out(ink, &[land, upper, lower]) && !is_held_out(ink) {
                break ink;
            }
        };
        Self { land, body, thing }
    }
}

fn is_near_held_out(thing: Thing, ink: [u8; 3]) -> bool {
    Colour::OF_THINGS.iter().any(|&colour| {
        Thing { colour, ..thing }.is_held_out() && distance(colour.rgb(), ink) < KEPT_AWAY
    })
}

fn distance(a: [u8; 3], b: [u8; 3]) -> f32 {
    let squares = a.into_iter().zip(b).map(|(a, b)| {
        let apart = f32::from(a) - f32::from(b);
        apart * apart
    });
    squares.sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::{Inks, KEPT_AWAY, STANDS_OUT, distance};
    use crate::postcards::geometry::sky_at;
    use crate::postcards::{Colour, Postcard, Split, Thing, paint, paint_in};

    #[test]
    fn the_named_colours_are_the_painter_s_own() {
        let card = Postcard::sample(3, Split::Any);
        assert!(paint(&card, 3, 64, 48) == paint_in(&card, &Inks::of(&card), 3, 64, 48));
    }

    #[test]
    fn free_colours_stand_out() {
        for seed in 0..1000 {
            let card = Postcard::sample(seed, Split::Train);
            let inks = Inks::any(&card, seed);
            assert!(distance(inks.thing, inks.land) >= STANDS_OUT, "{seed}");
            for percent in [10, 25, 40] {
                let sky = sky_at(card.time, percent as f32 / 100.0).map(|channel| channel as u8);
                let apart = distance(inks.body, sky);
                // The sky between two heights can be a little nearer than at either.
                assert!(apart > STANDS_OUT - 8.0, "{seed}: {apart}");
            }
        }
    }

    #[test]
    fn free_colours_keep_away_from_what_is_held_out() {
        let mut trees = 0;
        for seed in 0..4000 {
            let card = Postcard::sample(seed, Split::Train);
            let Some(thing) = card.thing else { continue };
            let inks = Inks::any(&card, seed);
            for &colour in Colour::OF_THINGS {
                if (Thing { colour, ..thing }).is_held_out() {
                    trees += u32::from(thing.place.is_none());
                    assert!(distance(colour.rgb(), inks.thing) >= KEPT_AWAY, "{seed}");
                }
            }
        }
        assert!(trees > 100, "{trees}");
    }
}
