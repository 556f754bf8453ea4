//! What a postcard shows, with a sampler by seed and the rule for held-out combinations.
//!
//! The sampler leaves out what nobody could read back from the pixels: a thing of the land's colour, an orange body in
//! the orange sunset, a body before mountains of its own colour, and a balloon in the body's third.
//! [`Postcard::is_legal`] is the whole rule.

use serde::{Deserialize, Serialize};

use super::attributes::{BodyKind, Colour, Land, Place, Sky, ThingKind, Time};
use super::rng::SplitMix64;

/// The sun or the moon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Body {
    /// Sun or moon.
    pub kind: BodyKind,
    /// One of [`Colour::OF_BODIES`].
    pub colour: Colour,
    /// Third of the sky.
    pub place: Place,
}

/// The thing in front.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Thing {
    /// What it is.
    pub kind: ThingKind,
    /// One of [`Colour::OF_THINGS`]; of the wall, crown, sail, envelope or tower.
    pub colour: Colour,
    /// Third of the picture; `None` for trees, which are spread evenly.
    pub place: Option<Place>,
    /// How many: 1 to 3 for trees, else 1.
    pub count: u8,
}

impl Thing {
    /// Whether pictures with this thing, colour and place are kept out of training.
    pub fn is_held_out(self) -> bool {
        let thing = position(ThingKind::ALL, self.kind);
        let colour = position(Colour::OF_THINGS, self.colour);
        let place = self.place.map_or(0, |place| position(Place::ALL, place));
        (5 * thing + 3 * colour + place) % 7 == 3
    }
}

/// Which postcards a sampler may give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Only combinations that training sees.
    #[default]
    Train,
    /// Only combinations that training never sees; each has a thing.
    HeldOut,
    /// All of them.
    Any,
}

/// Everything that a postcard shows; the painter adds only jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Postcard {
    /// Time of day.
    pub time: Time,
    /// Kind of land.
    pub land: Land,
    /// Colour of the land, one of [`Land::colours`].
    pub land_colour: Colour,
    /// Sun or moon, if any.
    pub body: Option<Body>,
    /// Thing in front, if any.
    pub thing: Option<Thing>,
    /// Clouds or stars.
    pub sky: Sky,
}

impl Postcard {
    /// The postcard of this seed among those that may be learned from.
    pub fn learned(seed: u64) -> Self {
        Self::sample(seed, Split::Train)
    }

    /// The postcard of this seed: the same seed and split always give the same one.
    pub fn sample(seed: u64, split: Split) -> Self {
        let mut rng = SplitMix64::stream(seed, 1);
        // About one draw in two is legal and one in seven held out, so this ends after a few rounds.
        loop {
            let postcard = Self::draw(&mut rng);
            if postcard.is_legal() && postcard.is_in(split) {
                return postcard;
            }
        }
    }

    /// Whether training never sees the thing of this postcard.
    pub fn is_held_out(&self) -> bool {
        self.thing.is_some_and(Thing::is_held_out)
    }

    /// Whether `split` contains this postcard.
    pub fn is_in(&self, split: Split) -> bool {
        match split {
            Split::Train => !self.is_held_out(),
            Split::HeldOut => self.is_held_out(),
            Split::Any => true,
        }
    }

    /// Whether this postcard belongs to the world and can be read back; the module page lists what is left out.
    pub fn is_legal(&self) -> bool {
        let fits_land = self.land.colours().contains(&self.land_colour)
            && Sky::at(self.time).contains(&self.sky);
        let body_shows = self.body.is_none_or(|body| {
            Colour::OF_BODIES.contains(&body.colour)
                && !(self.time == Time::Sunset && body.colour == Colour::Orange)
                && !(self.land == Land::Mountains && body.colour == self.land_colour)
        });
        let thing_shows = self.thing.is_none_or(|thing| {
            let hides_body =
                thing.kind == ThingKind::Balloon && self.body.map(|body| body.place) == thing.place;
            self.land.things().contains(&thing.kind)
                && Colour::OF_THINGS.contains(&thing.colour)
                && (thing.kind == ThingKind::Tree) == thing.place.is_none()
                && (1..=if thing.kind == ThingKind::Tree { 3 } else { 1 }).contains(&thing.count)
                && thing.colour != self.land_colour
                && !hides_body
        });
        fits_land && body_shows && thing_shows
    }

    fn draw(rng: &mut SplitMix64) -> Self {
        let time = rng.pick(Time::ALL);
        let land = rng.pick(Land::ALL);
        let body = rng.chance(0.75).then(|| Body {
            kind: rng.pick(BodyKind::ALL),
            colour: rng.pick(Colour::OF_BODIES),
            place: rng.pick(Place::ALL),
        });
        let thing = rng.chance(0.88).then(|| {
            let kind = rng.pick(land.things());
            let is_tree = kind == ThingKind::Tree;
            Thing {
                kind,
                colour: rng.pick(Colour::OF_THINGS),
                place: (!is_tree).then(|| rng.pick(Place::ALL)),
                count: if is_tree { rng.pick(&[1, 2, 3]) } else { 1 },
            }
        });
        Self {
            time,
            land,
            land_colour: rng.pick(land.colours()),
            body,
            thing,
            sky: rng.pick(Sky::at(time)),
        }
    }
}

/// The attributes that a caption names; the others are free.
///
/// A name for an attribute that the postcard lacks (the colour of no body) means nothing and stays `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Named {
    /// Time of day.
    pub time: bool,
    /// Kind of land.
    pub land: bool,
    /// Colour of the land.
    pub land_colour: bool,
    /// Sun or moon.
    pub body: bool,
    /// Colour of the body.
    pub body_colour: bool,
    /// Place of the body.
    pub body_place: bool,
    /// Kind of thing.
    pub thing: bool,
    /// Colour of the thing.
    pub thing_colour: bool,
    /// Place of the thing.
    pub thing_place: bool,
    /// Number of trees.
    pub count: bool,
    /// Clouds or stars.
    pub sky: bool,
}

impl Named {
    /// All that a regular caption of this postcard names.
    pub fn all_of(postcard: &Postcard) -> Self {
        let body = postcard.body.is_some();
        let thing = postcard.thing.is_some();
        let is_tree = postcard
            .thing
            .is_some_and(|thing| thing.kind == ThingKind::Tree);
        Self {
            time: true,
            land: true,
            land_colour: true,
            body,
            body_colour: body,
            body_place: body,
            thing,
            thing_colour: thing,
            thing_place: thing && !is_tree,
            count: is_tree,
            sky: postcard.sky != Sky::Clear,
        }
    }
}

fn position<T: PartialEq>(items: &[T], wanted: T) -> usize {
    items.iter().position(|item| *item == wanted).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{Postcard, Split, Thing};
    use crate::postcards::{Colour, Place, ThingKind};

    fn check_held_out(kind: ThingKind, colour: Colour, place: Option<Place>, expected: bool) {
        let thing = Thing {
            kind,
            colour,
            place,
            count: 1,
        };
        assert_eq!(thing.is_held_out(), expected, "{thing:?}");
    }

    #[test]
    fn held_out_follows_the_rule() {
        check_held_out(ThingKind::House, Colour::Yellow, Some(Place::Left), true); // 0 + 3 + 0
        check_held_out(ThingKind::House, Colour::Red, Some(Place::Left), false);
        check_held_out(ThingKind::Tree, Colour::Purple, None, true); // 5 + 12 = 17
        check_held_out(ThingKind::Boat, Colour::Red, Some(Place::Left), true); // 10
        check_held_out(
            ThingKind::Lighthouse,
            Colour::Purple,
            Some(Place::Center),
            false,
        ); // 20 + 12 + 1 = 33
        check_held_out(
            ThingKind::Lighthouse,
            Colour::Blue,
            Some(Place::Right),
            true,
        ); // 20 + 9 + 2 = 31
    }

    #[test]
    fn samples_are_legal_repeat_and_keep_to_their_split() {
        for seed in 0..2000 {
            for split in [Split::Train, Split::HeldOut, Split::Any] {
                let postcard = Postcard::sample(seed, split);
                assert!(postcard.is_legal() && postcard.is_in(split), "{postcard:?}");
                assert_eq!(postcard, Postcard::sample(seed, split));
            }
        }
        let held_out = (0..2000)
            .filter(|&seed| Postcard::sample(seed, Split::Any).is_held_out())
            .count();
        assert!((140..420).contains(&held_out), "{held_out}");
    }
}
