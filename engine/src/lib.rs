//! The engine: an Infinity model on its own thread.

pub mod api;
pub mod postcards;
mod runner;

pub use runner::{CancelBoard, EngineHandle};
