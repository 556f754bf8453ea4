//! The engine: an Infinity model on its own thread.

pub mod api;
pub mod random;
mod runner;
pub mod text;
pub mod weights;

pub use runner::{CancelBoard, EngineHandle};
