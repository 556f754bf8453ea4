//! The engine: an Infinity model on its own thread.

pub mod api;
pub mod layers;
pub mod random;
pub mod resize;
pub mod schedule;
pub mod train;
pub mod vae;
mod runner;
pub mod weights;

pub use runner::{CancelBoard, EngineHandle};
