//! The T5 encoder: token ids to one feature row per token.
//!
//! The word table stays on the processor while drawing, because the one of
//! flan-t5-xl is larger than a graphics buffer; only the rows of a prompt move.
//! Source: Raffel et al. 2019, arXiv 1910.10683 (version 1.1 of its blocks).

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::T5Config;
use super::layers::{Block, STREAM, placeholder, rms_norm};
use super::position::bucket_table;
use crate::weights::{Init, Network, Slots};

/// Most attention scores held at once (64 MiB), half of the smallest graphics buffer.
const MOST_SCORES: usize = 16 * 1024 * 1024;

/// Added to the scores of padding, which leaves it no weight.
const PADDING_BIAS: f32 = -1e9;

/// Features of a batch of prompts.
#[derive(Clone, Debug)]
pub struct TextFeatures {
    /// Features `[B, T, C]`, `T` tokens of the longest prompt; rows past a prompt's end mean nothing.
    pub padded: Tensor<3>,
    /// Number of tokens of each prompt.
    pub lens: Vec<usize>,
}

/// The encoder half of a T5 language model.
pub struct T5Encoder {
    config: T5Config,
    words: Tensor<2>,
    position: Tensor<2>,
    blocks: Vec<Block>,
    final_norm: Tensor<1>,
}

impl T5Encoder {
    /// An encoder without weights; they come through [`Network::slots`].
    pub fn new(config: &T5Config, device: &Device) -> Self {
        Self {
            config: config.clone(),
            words: placeholder(device),
            position: placeholder(device),
            blocks: (0..config.num_layers).map(|_| Block::new(device)).collect(),
            final_norm: placeholder(device),
        }
    }

    /// The sizes this encoder was made with.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// Features of tokenised prompts; every id must be below `vocab_size`.
    ///
    /// Prompts are padded to the longest, and padding is never attended to, so a prompt's
    /// features do not depend on its neighbours.
    ///
    /// # Shapes
    /// - `ids`: `B` prompts of any length
    /// - returns: `[B, T, C]`, `T` at least 1
    pub fn forward(&self, ids: &[Vec<u32>]) -> TextFeatures {
        let lens: Vec<usize> = ids.iter().map(Vec::len).collect();
        let longest = lens.iter().copied().max().unwrap_or(0).max(1);
        if ids.is_empty() {
            let padded = Tensor::zeros([0, longest, self.config.d_model], &self.device());
            return TextFeatures { padded, lens };
        }
        let position = self.position_bias(longest);
        let row_scores = self.config.num_heads * longest * longest;
        let rows_at_once = (MOST_SCORES / row_scores).max(1);
        let parts = ids
            .chunks(rows_at_once)
            .map(|rows| self.encode(rows, longest, &position))
            .collect();
        TextFeatures {
            padded: Tensor::cat(parts, 0),
            lens,
        }
    }

    fn device(&self) -> Device {
        self.final_norm.device()
    }

    /// Runs all blocks on a few prompts: `[B, T, C]` with `T` = `length`.
    fn encode(&self, rows: &[Vec<u32>], length: usize, position: &Tensor<4>) -> Tensor<3> {
        let bias = position.clone() + self.padding_bias(rows, length); // [B, N, T, T]
        let features = self.look_up(rows, length);
        let features = self.blocks.iter().fold(features, |x, block| {
            block.forward(x, bias.clone(), &self.config)
        });
        rms_norm(features, &self.final_norm, self.config.layer_norm_epsilon)
    }

    /// Rows of the word table, gathered where the table lies and moved to the device.
    fn look_up(&self, rows: &[Vec<u32>], length: usize) -> Tensor<3> {
        let ids: Vec<i64> = rows
            .iter()
            .flat_map(|row| padded_to(row.iter().map(|id| i64::from(*id)), length, 0))
            .collect();
        let count = ids.len();
        let home = self.words.device();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), &home);
        let gathered = self.words.clone().select(0, ids); // [B*T, C]
        let device = self.device();
        let gathered = if home == device {
            gathered
        } else {
            gathered.to_device(&device)
        };
        gathered.reshape([rows.len(), length, self.config.d_model])
    }

    /// The bias for the distance between tokens: `[1, N, T, T]`.
    fn position_bias(&self, length: usize) -> Tensor<4> {
        let classes = TensorData::new(bucket_table(length), [length * length]);
        let classes = Tensor::<1, Int>::from_data(classes, &self.device());
        self.position
            .clone()
            .select(0, classes) // [T*T, N]
            .reshape([length, length, self.config.num_heads])
            .permute([2, 0, 1])
            .unsqueeze::<4>()
    }

    /// The bias that hides padding: `[B, 1, 1, T]`.
    fn padding_bias(&self, rows: &[Vec<u32>], length: usize) -> Tensor<4> {
        let bias: Vec<f32> = rows
            .iter()
            .flat_map(|row| padded_to(row.iter().map(|_| 0.0), length, PADDING_BIAS))
            .collect();
        let bias = TensorData::new(bias, [rows.len(), 1, 1, length]);
        Tensor::from_data(bias, &self.device())
    }
}

/// `row` followed by `filler` up to `length` values.
fn padded_to<T: Copy>(
    row: impl Iterator<Item = T>,
    length: usize,
    filler: T,
) -> impl Iterator<Item = T> {
    row.chain(std::iter::repeat(filler)).take(length)
}

impl Network for T5Encoder {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        let Self {
            config,
            words,
            position,
            blocks,
            final_norm,
        } = self;
        let shape = [config.vocab_size, config.d_model];
        let name = format!("{prefix}shared.weight");
        slots.add_host_table(name, words, shape, Init::Normal(STREAM));
        slots.allow_unused(format!("{prefix}encoder.embed_tokens.weight"), shape);
        let mut position = Some(position);
        for (index, block) in blocks.iter_mut().enumerate() {
            let name = format!("{prefix}encoder.block.{index}.");
            block.slots(config, &name, position.take(), slots);
        }
        let name = format!("{prefix}encoder.final_layer_norm.weight");
        slots.add(name, final_norm, [config.d_model], Init::Constant(1.0));
        allow_decoder(config, prefix, slots);
    }
}

/// Allows the decoder that a whole published T5 file carries and drawing has no use for.
fn allow_decoder(config: &T5Config, prefix: &str, slots: &mut Slots<'_>) {
    let (width, inner, feed) = (config.d_model, config.inner(), config.d_ff);
    for name in ["lm_head.weight", "decoder.embed_tokens.weight"] {
        slots.allow_unused(format!("{prefix}{name}"), [config.vocab_size, width]);
    }
    slots.allow_unused(format!("{prefix}decoder.final_layer_norm.weight"), [width]);
    for index in 0..config.decoder_layers() {
        let block = format!("{prefix}decoder.block.{index}.layer");
        for attention in ["0.SelfAttention", "1.EncDecAttention"] {
            for part in ["q", "k", "v"] {
                slots.allow_unused(format!("{block}.{attention}.{part}.weight"), [inner, width]);
            }
            slots.allow_unused(format!("{block}.{attention}.o.weight"), [width, inner]);
        }
        for part in ["wi_0", "wi_1"] {
            let name = format!("{block}.2.DenseReluDense.{part}.weight");
            slots.allow_unused(name, [feed, width]);
        }
        slots.allow_unused(format!("{block}.2.DenseReluDense.wo.weight"), [width, feed]);
        for step in 0..3 {
            slots.allow_unused(format!("{block}.{step}.layer_norm.weight"), [width]);
        }
        if index == 0 {
            let name = format!("{block}.0.SelfAttention.relative_attention_bias.weight");
            let shape = [config.relative_attention_num_buckets, config.num_heads];
            slots.allow_unused(name, shape);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(device: &Device) -> T5Encoder {
        let mut encoder = T5Encoder::new(&T5Config::tiny(50), device);
        encoder.initialise(3, device);
        encoder
    }

    fn values(tensor: Tensor<3>) -> Vec<f32> {
        tensor.try_to_vec_as::<f32>().unwrap()
    }

    /// Largest difference between row `row` of `features` and the same prompt encoded alone.
    fn gap(encoder: &T5Encoder, features: &TextFeatures, row: usize, ids: &[u32]) -> f32 {
        let width = encoder.config().d_model;
        let slice = features
            .padded
            .clone()
            .narrow(0, row, 1)
            .narrow(1, 0, ids.len());
        let alone = values(encoder.forward(&[ids.to_vec()]).padded);
        assert_eq!(alone.len(), ids.len() * width);
        let pairs = values(slice).into_iter().zip(alone);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn padding_changes_nothing() {
        let encoder = encoder(&Device::flex());
        let ids = [vec![5, 9, 1], (3..40).collect(), vec![1]];
        let features = encoder.forward(&ids);
        assert_eq!(features.padded.dims(), [3, 37, 32]);
        assert_eq!(features.lens, [3, 37, 1]);
        for (row, prompt) in ids.iter().enumerate() {
            let gap = gap(&encoder, &features, row, prompt);
            println!("text padding: row {row}, max error {gap:e}");
            assert!(gap < 1e-5, "row {row}: {gap}");
        }
    }

    #[test]
    fn no_prompts_and_empty_rows_are_fine() {
        let encoder = encoder(&Device::flex());
        assert_eq!(encoder.forward(&[]).padded.dims(), [0, 1, 32]);
        let empty = encoder.forward(&[vec![]]);
        assert_eq!(empty.lens, [0]);
        assert!(values(empty.padded).iter().all(|value| value.is_finite()));
    }

    #[test]
    fn long_batches_are_split_and_stay_the_same() {
        // 4 heads × 512² scores: 16 prompts at once, so 17 take two passes.
        let encoder = encoder(&Device::flex());
        let ids: Vec<Vec<u32>> = (0..17_u32)
            .map(|row| (0..512).map(|i| (row * 7 + i * 3) % 50).collect())
            .collect();
        let features = encoder.forward(&ids);
        assert_eq!(features.padded.dims(), [17, 512, 32]);
        for row in [0, 16] {
            let gap = gap(&encoder, &features, row, &ids[row]);
            assert!(gap < 1e-5, "row {row}: {gap}");
        }
    }

    #[test]
    fn every_weight_gets_a_gradient() {
        let device = Device::flex().autodiff();
        let mut encoder = encoder(&device);
        let features = encoder.forward(&[vec![4, 8, 20, 1], vec![7, 1]]).padded;
        let weights = Tensor::<3>::from_data(
            TensorData::new(
                (0..256).map(|i| (i as f32 * 0.7).sin()).collect(),
                [2, 4, 32],
            ),
            &device,
        );
        let gradients = (features * weights).sum().backward();
        for slot in encoder.all_slots().list {
            let gradient = slot.weight.gradient(&gradients).unwrap();
            let size = gradient.map_or(0.0, |g| g.iter().map(|v| v.abs()).sum::<f32>());
            assert!(size > 0.0 && size.is_finite(), "{}: {size}", slot.name);
        }
    }

    #[test]
    fn gradients_match_differences() {
        let device = Device::flex().autodiff();
        let ids = [vec![4, 8, 20, 1], vec![7, 1]];
        let loss = |encoder: &T5Encoder| {
            let features = encoder.forward(&ids).padded.narrow(1, 0, 2);
            (features.clone() * features.clone() * features).sum()
        };
        let mut encoder = encoder(&device);
        let gradients = loss(&encoder).backward();
        let count = encoder.all_slots().list.len();
        for index in 0..count {
            let slot = &encoder.all_slots().list[index];
            let (name, shape) = (slot.name.clone(), slot.shape.clone());
            let gradient = slot.weight.gradient(&gradients).unwrap().unwrap();
            let kept = slot.weight.values().unwrap();
            // The largest slope is the one differences in f32 can measure.
            let place = (0..gradient.len())
                .max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs()))
                .unwrap();
            let step = 0.01 * kept[place].abs().max(0.1);
            let mut at = |shift: f32| {
                let mut moved = kept.clone();
                moved[place] += shift;
                encoder.all_slots().list[index]
                    .weight
                    .set(moved, &shape, &device);
                loss(&encoder).try_to_vec_as::<f32>().unwrap()[0]
            };
            let slope = (at(step) - at(-step)) / (2.0 * step);
            at(0.0);
            let error = (slope - gradient[place]).abs() / gradient[place].abs().max(1.0);
            assert!(error < 0.03, "{name}: {slope} against {}", gradient[place]);
        }
    }

    #[test]
    fn a_whole_published_file_is_known() {
        let mut encoder = T5Encoder::new(&T5Config::default(), &Device::flex());
        let slots = encoder.all_slots();
        assert_eq!(slots.list.len(), 24 * 9 + 3);
        // 3 tables, a norm, 24 blocks of 2 × 4 + 3 + 3 weights, one bias table.
        assert_eq!(slots.unused.len(), 4 + 24 * 14 + 1);
        drop(slots);
        assert_eq!(encoder.parameter_count(), 1_223_527_424);
    }
}
