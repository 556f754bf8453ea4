//! The attributes of a postcard, each an enum with its words, and which values go together.
//!
//! `postcard` puts them together. The order of the values is part of the held-out rule: do not reorder them.

use serde::{Deserialize, Serialize};

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
