//! Sizes of a T5 encoder, read from the `config.json` beside its weights.
//!
//! Only what the encoder needs is kept. The file is untrusted: sizes are
//! checked before any memory is taken for them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::position::{BUCKETS, MAX_DISTANCE};
use crate::api::EngineError;

/// Settings of [`T5Encoder`](super::T5Encoder), spelled as in the published `config.json`.
///
/// The default is the shape of flan-t5-xl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct T5Config {
    /// Width of a token's features, `C`.
    pub d_model: usize,
    /// Width of one head, `D`; `num_heads * d_kv` need not be `d_model`.
    pub d_kv: usize,
    /// Width inside the feed-forward step.
    pub d_ff: usize,
    /// Number of encoder blocks.
    pub num_layers: usize,
    /// Number of decoder blocks a published file carries; `num_layers` when not said. Never run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_decoder_layers: Option<usize>,
    /// Number of heads, `N`.
    pub num_heads: usize,
    /// Rows of the word table, at least the number of ids of the tokenizer.
    pub vocab_size: usize,
    /// Number of distance classes of the position bias; 32 in every T5.
    #[serde(default = "default_buckets")]
    pub relative_attention_num_buckets: usize,
    /// Distance from which the last class holds; 128 in every T5.
    #[serde(default = "default_distance")]
    pub relative_attention_max_distance: usize,
    /// Added to the mean square before its root is taken.
    #[serde(default = "default_epsilon")]
    pub layer_norm_epsilon: f64,
    /// Kind of feed-forward step; only `gated-gelu` (T5 1.1 and flan-t5) is known.
    #[serde(default = "default_feed_forward")]
    pub feed_forward_proj: String,
}

fn default_buckets() -> usize {
    BUCKETS
}

fn default_distance() -> usize {
    MAX_DISTANCE
}

fn default_epsilon() -> f64 {
    1e-6
}

fn default_feed_forward() -> String {
    "gated-gelu".to_owned()
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            d_model: 2048,
            d_kv: 64,
            d_ff: 5120,
            num_layers: 24,
            num_decoder_layers: None,
            num_heads: 32,
            vocab_size: 32_128,
            relative_attention_num_buckets: default_buckets(),
            relative_attention_max_distance: default_distance(),
            layer_norm_epsilon: default_epsilon(),
            feed_forward_proj: default_feed_forward(),
        }
    }
}

impl T5Config {
    /// Shape small enough for a test on a processor, with `vocab_size` words.
    pub fn tiny(vocab_size: usize) -> Self {
        Self {
            d_model: 32,
            d_kv: 8,
            d_ff: 48,
            num_layers: 2,
            num_heads: 4,
            vocab_size,
            ..Self::default()
        }
    }

    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// [`EngineError::Read`] when the file cannot be read, [`EngineError::BadModel`] when it is
    /// not the settings of a T5 encoder of the known kind.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let text = std::fs::read(path).map_err(|error| EngineError::read(path, error))?;
        let config: Self = serde_json::from_slice(&text).map_err(|error| {
            EngineError::bad_model(path, format!("the text encoder's settings: {error}"))
        })?;
        config
            .check()
            .map_err(|reason| EngineError::bad_model(path, reason))?;
        Ok(config)
    }

    /// Whether these settings can be built; says why not.
    ///
    /// # Errors
    /// A sentence naming the setting.
    pub fn check(&self) -> Result<(), String> {
        let decoder_layers = self.decoder_layers().max(1);
        for (name, value, largest) in [
            ("d_model", self.d_model, 16_384),
            ("d_kv", self.d_kv, 1_024),
            ("d_ff", self.d_ff, 131_072),
            ("num_layers", self.num_layers, 256),
            ("num_decoder_layers", decoder_layers, 256),
            ("num_heads", self.num_heads, 1_024),
            ("num_heads * d_kv", self.inner(), 65_536),
            ("vocab_size", self.vocab_size, 1 << 20),
        ] {
            if value == 0 || value > largest {
                return Err(format!(
                    "the text encoder's {name} is {value}, expected 1 to {largest}"
                ));
            }
        }
        let classes = (
            self.relative_attention_num_buckets,
            self.relative_attention_max_distance,
        );
        if classes != (BUCKETS, MAX_DISTANCE) {
            return Err(format!(
                "the text encoder's position classes are {classes:?}, expected ({BUCKETS}, {MAX_DISTANCE})"
            ));
        }
        if self.feed_forward_proj != default_feed_forward() {
            return Err(format!(
                "the text encoder's feed_forward_proj is {:?}, expected \"gated-gelu\"",
                self.feed_forward_proj
            ));
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon < 1.0) {
            return Err(format!(
                "the text encoder's layer_norm_epsilon is {}, expected about 1e-6",
                self.layer_norm_epsilon
            ));
        }
        Ok(())
    }

    /// Whether a weight of this published name is a large matrix of a layer, which may be kept in half precision.
    pub fn is_large(name: &str) -> bool {
        let norm_or_table = name.contains("layer_norm") || name.contains("relative_attention_bias");
        name.contains(".layer.") && !norm_or_table
    }

    /// Width of all heads together, `N * D`.
    pub(super) fn inner(&self) -> usize {
        self.num_heads.saturating_mul(self.d_kv)
    }

    /// Number of decoder blocks of a whole published file.
    pub(super) fn decoder_layers(&self) -> usize {
        self.num_decoder_layers.unwrap_or(self.num_layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_published_config_and_refuses_another_kind() {
        let text = r#"{"architectures":["T5ForConditionalGeneration"],"d_ff":5120,"d_kv":64,"d_model":2048,
            "feed_forward_proj":"gated-gelu","layer_norm_epsilon":1e-06,"num_decoder_layers":24,"num_heads":32,
            "num_layers":24,"relative_attention_max_distance":128,"relative_attention_num_buckets":32,"vocab_size":32128}"#;
        let config: T5Config = serde_json::from_str(text).unwrap();
        let wanted = T5Config {
            num_decoder_layers: Some(24),
            ..T5Config::default()
        };
        assert_eq!(config, wanted);
        assert_eq!(config.check(), Ok(()));

        let relu = T5Config {
            feed_forward_proj: "relu".to_owned(),
            ..T5Config::default()
        };
        assert!(relu.check().unwrap_err().contains("feed_forward_proj"));
        let huge = T5Config {
            vocab_size: usize::MAX,
            ..T5Config::default()
        };
        assert!(huge.check().unwrap_err().contains("vocab_size"));
    }

    #[test]
    fn a_bad_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(matches!(
            T5Config::open(&path),
            Err(EngineError::Read { .. })
        ));
        std::fs::write(&path, "{}").unwrap();
        let error = T5Config::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("d_model") && error.contains("config.json"),
            "{error}"
        );
    }
}
