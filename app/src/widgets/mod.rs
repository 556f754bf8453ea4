//! Pieces of interface that know nothing of the program's state.

pub mod curve;
pub mod image_view;
pub mod ratio_row;
pub mod scale_strip;
pub mod textures;
