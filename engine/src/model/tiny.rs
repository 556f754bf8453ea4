//! A small network for tests of several files.

use burn::tensor::{Device, Tensor, TensorData};

use super::{ModelConfig, Transformer};
use crate::random::Stream;
use crate::weights::Network as _;

/// Width of its tokens and of texts, and of a head.
pub(super) const WIDTH: usize = 128;
/// See [`WIDTH`].
pub(super) const HEAD: usize = 32;

/// A network of `depth` blocks on the processor.
pub(super) fn transformer(depth: usize) -> Transformer {
    let config = ModelConfig {
        depth,
        width: WIDTH,
        heads: WIDTH / HEAD,
        mlp_hidden: 96,
        block_chunks: 1,
        text_channels: WIDTH,
        text_maxlen: 8,
        codebook_dim: 16,
        patchify: false,
    };
    let device = Device::flex();
    let mut transformer = Transformer::new(&config, &device, usize::MAX);
    transformer.initialise(3, &device);
    transformer
}

/// Tokens `[rows, length, WIDTH]`.
pub(super) fn tokens([rows, length]: [usize; 2], seed: u64) -> Tensor<3> {
    let stream = Stream::new(seed, 0);
    let count = (rows * length * WIDTH) as u64;
    let values: Vec<f32> = (0..count).map(|i| stream.normal(i) as f32).collect();
    let data = TensorData::new(values, [rows, length, WIDTH]);
    Tensor::from_data(data, &Device::flex())
}
