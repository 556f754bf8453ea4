//! What a postcard shows, as typed attributes, with a sampler by seed and the rule for held-out combinations.
//!
//! The sampler leaves out what nobody could read back from the pixels: a thing of the land's colour, an orange body in
//! the orange sunset, a body before mountains of its own colour, and a balloon in front of the body.
//! [`Postcard::is_legal`] is the whole rule. The order of the enum values is part of the held-out rule: do not reorder.

use serde::{Deserialize, Serialize};

use super::rng::SplitMix64;

/// Defines an attribute: an enum whose values are listed in `ALL` and have a word each.
macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$value_doc])* $value),+ }

        impl $name {
            /// Every value, in the order of the specification.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The word a caption uses.
            pub fn word(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
        }
    };
}

attribute! {
    /// Time of day; decides the sky's colours.
    Time {
        /// Pink over cream.
        #[default]
        Dawn = "dawn",
        /// Blue over pale blue.
        Day = "day",
        /// Red over orange.
        Sunset = "sunset",
        /// Dark blue.
        Night = "night",
    }
}

attribute! {
    /// The kind of land below the horizon.
    Land {
        /// Two rows of triangles.
        #[default]
        Mountains = "mountains",
        /// Three wavy bands.
        Hills = "hills",
        /// Flat water with short strokes.
        Sea = "sea",
        /// Two wide dunes.
        Desert = "desert",
    }
}

impl Land {
    /// The colours this land comes in.
    pub fn colours(self) -> &'static [Colour] {
        use Colour::{Blue, Gray, Green, Orange, Purple, Yellow};
        match self {
            Self::Mountains | Self::Hills => &[Blue, Green, Purple, Gray, Orange],
            Self::Sea => &[Blue, Green, Purple],
            Self::Desert => &[Orange, Gray, Yellow],
        }
    }

    /// The things that may stand here.
    pub fn things(self) -> &'static [ThingKind] {
        use ThingKind::{Balloon, Boat, House, Lighthouse, Tree};
        match self {
            Self::Sea => &[Boat, Balloon, Lighthouse],
            Self::Mountains | Self::Hills | Self::Desert => &[House, Tree, Balloon, Lighthouse],
        }
    }
}

attribute! {
    /// The palette. Each attribute uses a part of it.
    Colour {
        /// #D7322D
        #[default]
        Red = "red",
        /// #FAD23C
        Yellow = "yellow",
        /// #F5F5F0
        White = "white",
        /// #3C64C8
        Blue = "blue",
        /// #469650
        Green = "green",
        /// #8250A0
        Purple = "purple",
        /// #F08C32
        Orange = "orange",
        /// #82878C
        Gray = "gray",
    }
}

impl Colour {
    /// The colours of a sun or moon.
    pub const OF_BODIES: &'static [Self] = &[Self::Red, Self::Yellow, Self::White, Self::Orange];
    /// The colours of things, in the order of the held-out rule.
    pub const OF_THINGS: &'static [Self] = &[
        Self::Red,
        Self::Yellow,
        Self::White,
        Self::Blue,
        Self::Purple,
    ];
    /// The colours of lands.
    pub const OF_LANDS: &'static [Self] = &[
        Self::Blue,
        Self::Green,
        Self::Purple,
        Self::Gray,
        Self::Orange,
        Self::Yellow,
    ];

    /// The colour in sRGB bytes.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [0xD7, 0x32, 0x2D],
            Self::Yellow => [0xFA, 0xD2, 0x3C],
            Self::White => [0xF5, 0xF5, 0xF0],
            Self::Blue => [0x3C, 0x64, 0xC8],
            Self::Green => [0x46, 0x96, 0x50],
            Self::Purple => [0x82, 0x50, 0xA0],
            Self::Orange => [0xF0, 0x8C, 0x32],
            Self::Gray => [0x82, 0x87, 0x8C],
        }
    }
}

attribute! {
    /// A third of the picture's width.
    Place {
        /// Around x = .22.
        #[default]
        Left = "left",
        /// Around x = .5.
        Center = "center",
        /// Around x = .78.
        Right = "right",
    }
}

attribute! {
    /// What shines in the sky.
    BodyKind {
        /// A disc.
        #[default]
        Sun = "sun",
        /// A crescent.
        Moon = "moon",
    }
}

attribute! {
    /// What stands, swims or flies in front.
    ThingKind {
        /// A house on land.
        #[default]
        House = "house",
        /// One to three trees on land.
        Tree = "tree",
        /// A sailing boat at sea.
        Boat = "boat",
        /// A hot-air balloon.
        Balloon = "balloon",
        /// A lighthouse, on land or in the sea.
        Lighthouse = "lighthouse",
    }
}

attribute! {
    /// What else is in the sky.
    Sky {
        /// Nothing.
        #[default]
        Clear = "clear",
        /// Clouds, by day and at dawn.
        Cloudy = "clouds",
        /// Stars, at night.
        Starry = "stars",
    }
}

impl Sky {
    /// The skies a time of day can have.
    pub fn at(time: Time) -> &'static [Self] {
        match time {
            Time::Dawn | Time::Day => &[Self::Clear, Self::Cloudy],
            Time::Sunset => &[Self::Clear],
            Time::Night => &[Self::Clear, Self::Starry],
        }
    }
}

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
    use super::{Colour, Place, Postcard, Split, Thing, ThingKind};

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
