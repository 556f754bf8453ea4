//! Postcards: a small painted world whose every attribute can be read back from the pixels.
//!
//! [`Postcard`] says what a picture shows, [`Caption`] puts it in words, [`paint()`] draws it. The bundled starter model
//! is trained on these pictures, and [`check()`] measures whether a picture follows its prompt.
//! What could not be read back is never sampled; [`Postcard::is_legal`] says what that is.
//! The module knows nothing of models or files; everything follows from seeds.

mod attributes;
mod backdrop;
mod caption;
mod fit;
mod front;
mod geometry;
mod grade;
mod inks;
mod paint;
mod postcard;
mod read;
mod rng;
mod scene;
mod scribble;
mod view;

pub use attributes::{BodyKind, Colour, Land, Place, Sky, ThingKind, Time};
pub use caption::{Caption, corpus, phrases, vocabulary};
pub use grade::grade;
pub use inks::Inks;
pub use paint::{paint, paint_in};
pub use postcard::{Body, Named, Postcard, Split, Thing};
pub use read::{Checks, check, read};
pub use rng::SplitMix64;
pub use scene::star_cells;
pub use scribble::scribble;
