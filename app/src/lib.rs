//! The desktop program: a window on the engine, and what the command line shares with it.
//!
//! A library beside the program, so that tests can build [`app::App`] over a
//! scripted engine without a window.

pub mod app;
pub mod cli;
pub mod command;
pub mod execute;
mod memory;
pub mod panels;
pub mod place;
pub mod recipe;
pub mod settings;
pub mod state;
pub mod tasks;
pub mod theme;
pub mod widgets;

pub use app::{WindowOptions, run_window};
