//! The engine: an Infinity model on its own thread.

pub mod api;
pub mod bench;
pub mod device;
pub mod eval;
pub mod finetune;
pub mod generate;
mod helpers;
pub mod import;
pub mod kernels;
pub mod lab;
pub mod layers;
pub mod lora;
pub mod memory;
pub mod model;
mod picture_file;
pub mod postcards;
pub mod random;
mod read_back;
pub mod remote;
pub mod resize;
mod runner;
pub mod schedule;
pub mod self_test;
pub mod text;
pub mod trace;
pub mod train;
pub mod vae;
pub mod weights;

pub use helpers::Helpers;
pub use lora::find_loras;
pub use picture_file::{read_mask, read_picture};
pub use runner::{CancelBoard, EngineHandle, Previews, SpawnOptions, spawn, spawn_fleet};
