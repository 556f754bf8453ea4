//! The transformer that predicts, scale after scale, the bits of the residual code.
//!
//! Source: Infinity, arXiv 2412.04431, section 3.3 and 3.4; spec sections 1–3.
//! Weights are named as published; arithmetic is f32.

mod attention;
mod block;
pub(crate) mod by_block;
mod condition;
mod config;
mod kv_cache;
mod rope2d;
mod side_by_side;
mod text_attention;
#[cfg(test)]
mod tiny;
mod transformer;

pub use attention::{Look, Mask, attend};
pub(crate) use attention::{MOST_SCORES, mix, split_and_turn, split_heads};
pub use by_block::LowRankGradients;
pub use condition::Condition;
pub use config::ModelConfig;
pub use kv_cache::{KvCache, head_groups};
pub use rope2d::{Rope, angles, stretched};
pub use side_by_side::PassScales;
pub use transformer::Transformer;
