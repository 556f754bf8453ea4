//! LoRA files for the shelf.

use std::path::Path;

use burn::tensor::Device;
use infinity_engine::api::Rgb8Image;
use infinity_engine::lora::{LoraInfo, Tuned};
use infinity_engine::model::{ModelConfig, Transformer};
use infinity_engine::weights::Network as _;

/// Writes a LoRA of a tiny network to `path`, called `name`, with `picture` in it.
pub fn write_lora(path: &Path, name: &str, picture: Option<Rgb8Image>) {
    let config = ModelConfig {
        depth: 1,
        width: 8,
        heads: 1,
        mlp_hidden: 8,
        block_chunks: 1,
        text_channels: 128,
        text_maxlen: 4,
        codebook_dim: 4,
        patchify: false,
    };
    let device = Device::flex();
    let transformer = Transformer::new(&config, &device, usize::MAX);
    let mut tuned = Tuned::new(transformer, &["ffn.".to_owned()], 2, 2.0).unwrap();
    tuned.initialise(1, &device);
    let info = LoraInfo {
        name: name.to_owned(),
        trigger: format!("{name}-word"),
        base_name: "Postcards".to_owned(),
        rank: 2,
        alpha: 2.0,
        pictures: 12,
        steps: 300,
        picture,
        ..LoraInfo::default()
    };
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    tuned.save(path, &info).unwrap();
}
