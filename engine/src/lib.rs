//! The engine: an Infinity model on its own thread.

pub mod api;
mod runner;

pub use runner::{CancelBoard, EngineHandle};
