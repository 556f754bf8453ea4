//! Postcards: a small painted world whose every attribute can be read back from the pixels.
//!
//! [`Postcard`] says what a picture shows, [`Caption`] puts it in words, [`paint()`] draws it. The bundled starter model
//! is trained on these pictures, and "does it follow the prompt" is measured with the reader.
//! The module knows nothing of models or files; everything follows from seeds.

mod attributes;
mod caption;
mod geometry;
mod paint;
mod rng;
mod scene;

pub use attributes::{
    Body, BodyKind, Colour, Land, Named, Place, Postcard, Sky, Split, Thing, ThingKind, Time,
};
pub use caption::{Caption, corpus, phrases, vocabulary};
pub use paint::paint;
pub use rng::SplitMix64;
