//! Hyper-parameters read off the names and shapes of released weights.
//!
//! Only what decides a size is looked at. Whether everything else fits is for
//! the strict comparison that follows.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::EngineError;
use crate::model::ModelConfig;
use crate::vae::VaeConfig;
use crate::weights::{KeyMap, WeightFile};

/// Shapes by name, in the common spelling.
struct Shapes<'a> {
    file: &'a WeightFile,
    names: BTreeMap<String, &'a str>,
    what: &'static str,
}

impl<'a> Shapes<'a> {
    fn new(file: &'a WeightFile, names: &KeyMap, what: &'static str) -> Self {
        let names = file
            .names()
            .map(|name| (names.spelled(name), name))
            .collect();
        Self { file, names, what }
    }

    /// Size of one axis of a tensor of known rank.
    fn axis<const D: usize>(&self, name: &str, axis: usize) -> Result<usize, EngineError> {
        let shape = self.names.get(name).and_then(|name| self.file.shape(name));
        match shape {
            Some(shape) if shape.len() == D => Ok(shape.get(axis).copied().unwrap_or(0)),
            Some(shape) => Err(self.refused(&format!("{name} has the shape {shape:?}"))),
            None => Err(self.refused(&format!("it has no {name}"))),
        }
    }

    /// The numbers that stand between `before` and the next dot.
    fn numbers(&self, before: &str) -> BTreeSet<usize> {
        let number = |name: &String| name.strip_prefix(before)?.split('.').next()?.parse().ok();
        self.names.keys().filter_map(number).collect()
    }

    /// The shapes fit no network that can be built.
    fn no_network(&self, error: &EngineError) -> EngineError {
        let reason = format!(
            "its shapes are not those of {}: {error} Choose another file",
            self.what
        );
        EngineError::bad_model(self.file.path(), reason)
    }

    fn refused(&self, why: &str) -> EngineError {
        let reason = format!(
            "{why}, so these are not the weights of {}; choose another file",
            self.what
        );
        EngineError::bad_model(self.file.path(), reason)
    }
}

/// Sizes of the tokenizer in `file`.
///
/// # Errors
/// [`EngineError::BadModel`] when these are no sizes of a tokenizer.
pub(super) fn vae_sizes(file: &WeightFile) -> Result<VaeConfig, EngineError> {
    let shapes = Shapes::new(file, &KeyMap::vae(), "a picture tokenizer of this family");
    let base_ch = shapes.axis::<4>("encoder.conv_in.weight", 0)?;
    let colours = shapes.axis::<4>("encoder.conv_in.weight", 1)?;
    let stem = [1, 2, 4, 8]
        .into_iter()
        .find(|stem| 3 * stem * stem == colours)
        .ok_or_else(|| shapes.refused(&format!("its first layer takes {colours} channels")))?;
    let half = |side: &str| -> Result<(usize, Vec<usize>), EngineError> {
        let levels = shapes.numbers(&format!("{side}."));
        let blocks = shapes.numbers(&format!("{side}.0.block.")).len();
        let mult = (0..levels.len())
            .map(|level| {
                let channels =
                    shapes.axis::<4>(&format!("{side}.{level}.block.0.conv1.weight"), 0)?;
                if base_ch == 0 || !channels.is_multiple_of(base_ch) {
                    return Err(shapes.refused(&format!("{side}.{level} has {channels} channels")));
                }
                Ok(channels / base_ch)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok((blocks, mult))
    };
    let (encoder_res_blocks, encoder_ch_mult) = half("encoder.down")?;
    let (decoder_res_blocks, decoder_ch_mult) = half("decoder.up")?;
    let halvings = encoder_ch_mult.len().saturating_sub(1).min(16);
    let config = VaeConfig {
        codebook_dim: shapes.axis::<4>("decoder.conv_in.weight", 1)?,
        patch_size: stem << halvings,
        stem,
        base_ch,
        encoder_res_blocks,
        decoder_res_blocks,
        encoder_ch_mult,
        decoder_ch_mult,
    };
    config.check().map_err(|error| shapes.no_network(&error))?;
    Ok(config)
}

/// Sizes of the transformer in `file`, which draws codes of `codebook_dim` bits.
///
/// # Errors
/// [`EngineError::BadModel`] when these are no sizes of a transformer.
pub(super) fn transformer_sizes(
    file: &WeightFile,
    codebook_dim: usize,
) -> Result<ModelConfig, EngineError> {
    let shapes = Shapes::new(file, &KeyMap::published(), "an Infinity transformer");
    let width = shapes.axis::<3>("pos_start", 2)?;
    let token_bits = shapes.axis::<2>("word_embed.weight", 1)?;
    let patchify = token_bits == 4 * codebook_dim;
    if !patchify && token_bits != codebook_dim {
        let why = format!(
            "it draws {token_bits} bits per token and the picture tokenizer has {codebook_dim}"
        );
        let reason = format!("{why}; the two belong to different models");
        return Err(EngineError::bad_model(file.path(), reason));
    }
    let chunks = shapes.numbers("block_chunks.");
    let (block_chunks, depth, first) = if chunks.is_empty() {
        (1, shapes.numbers("blocks.").len(), "blocks.0.")
    } else {
        let blocks = |chunk: &usize| {
            shapes
                .numbers(&format!("block_chunks.{chunk}.module."))
                .len()
        };
        (
            chunks.len(),
            chunks.iter().map(blocks).sum(),
            "block_chunks.0.module.0.",
        )
    };
    let config = ModelConfig {
        depth,
        width,
        heads: shapes.axis::<4>(&format!("{first}sa.scale_mul_1H11"), 1)?,
        mlp_hidden: shapes.axis::<2>(&format!("{first}ffn.fc1.weight"), 0)?,
        block_chunks,
        text_channels: shapes.axis::<2>("cfg_uncond", 1)?,
        text_maxlen: shapes.axis::<2>("cfg_uncond", 0)?,
        codebook_dim,
        patchify,
    };
    config.check().map_err(|error| shapes.no_network(&error))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn golden(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/golden")
            .join(path)
    }

    fn check(case: &str) {
        let folder = golden(case);
        let text = std::fs::read(folder.join("config.json")).unwrap();
        let wanted: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let number = |part: &str, name: &str| wanted[part][name].as_u64().unwrap() as usize;
        let list = |name: &str| -> Vec<usize> {
            serde_json::from_value(wanted["vae"][name].clone()).unwrap()
        };
        let vae = vae_sizes(&WeightFile::open(folder.join("vae.pth")).unwrap()).unwrap();
        assert_eq!(vae.codebook_dim, number("vae", "codebook_dim"));
        assert_eq!(vae.patch_size, number("vae", "patch_size"));
        assert_eq!(vae.base_ch, number("vae", "base_ch"));
        assert_eq!(
            (vae.encoder_ch_mult, vae.decoder_ch_mult),
            (list("encoder_ch_mult"), list("decoder_ch_mult"))
        );
        let file = WeightFile::open(folder.join("transformer.pth")).unwrap();
        let model = transformer_sizes(&file, vae.codebook_dim).unwrap();
        for (name, found) in [
            ("embed_dim", model.width),
            ("depth", model.depth),
            ("num_heads", model.heads),
            ("mlp_hidden", model.mlp_hidden),
            ("block_chunks", model.block_chunks),
            ("text_channels", model.text_channels),
            ("text_maxlen", model.text_maxlen),
            ("apply_spatial_patchify", usize::from(model.patchify)),
        ] {
            assert_eq!(found, number("transformer", name), "{case}: {name}");
        }
    }

    #[test]
    fn sizes_of_the_reference_models_are_found() {
        check("infinity-open");
        check("infinity-open-patchify");
    }

    #[test]
    fn foreign_weights_are_refused() {
        let transformer = WeightFile::open(golden("infinity-open/transformer.pth")).unwrap();
        let vae = WeightFile::open(golden("infinity-open/vae.pth")).unwrap();
        assert!(
            vae_sizes(&transformer)
                .unwrap_err()
                .to_string()
                .contains("conv_in")
        );
        assert!(
            transformer_sizes(&vae, 16)
                .unwrap_err()
                .to_string()
                .contains("pos_start")
        );
        let error = transformer_sizes(&transformer, 5).unwrap_err().to_string();
        assert!(error.contains("different models"), "{error}");
    }
}
