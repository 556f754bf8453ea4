//! From words to features: the prompt tokenizer and the T5 encoder.
//!
//! A prompt becomes token ids ([`PromptTokenizer`]), the ids become one feature
//! row per token ([`T5Encoder`]). [`Unigram`] makes a tokenizer for a model that
//! is trained from scratch. Reading weights is left to the `weights` room.

mod config;
mod encoder;
#[cfg(test)]
mod golden;
mod layers;
mod position;
mod tokenizer;
mod unigram;

pub use config::T5Config;
pub use encoder::{T5Encoder, TextFeatures};
pub use position::bucket;
pub use tokenizer::PromptTokenizer;
pub use unigram::Unigram;
