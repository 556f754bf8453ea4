//! Operations written by hand beside the tensor operations that define them, on one device.

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;

use super::{Preset, TEXT_TOKENS};
use crate::api::{DeviceInfo, EngineError};
use crate::device::OpenDevice;
use crate::kernels::{self, Precision, Seen, Then, with_precision};
use crate::layers;
use crate::model::{Rope, mix, split_and_turn, split_heads};
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::vae;

/// Calls between two looks at the clock, and how often that is done.
const CALLS: u32 = 3;
const ROUNDS: usize = 4;

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationTime {
    /// What it does.
    pub name: &'static str,
    /// Shape of its result.
    pub shape: Vec<usize>,
    /// Milliseconds of the one written by hand.
    pub own_ms: f32,
    /// Milliseconds of the tensor operations.
    pub defined_ms: f32,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperationsReport {
    /// Where.
    pub device: DeviceInfo,
    /// The operations.
    pub operations: Vec<OperationTime>,
}

fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let stream = Stream::new(seed, 3);
    let count = shape.iter().product::<usize>() as u64;
    let values: Vec<f32> = (0..count).map(|i| stream.uniform(i) as f32 - 0.5).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Milliseconds of one call, the best of some.
fn time(device: &Device, call: &dyn Fn() -> Tensor<1>) -> Result<f32, EngineError> {
    let failed = |error| EngineError::internal(format!("waiting for the device: {error}"));
    let mut best = f32::INFINITY;
    for _ in 0..=ROUNDS {
        device.sync().map_err(failed)?;
        let begun = Instant::now();
        for _ in 0..CALLS {
            drop(call());
        }
        device.sync().map_err(failed)?;
        best = best.min(begun.elapsed().as_secs_f32() * 1e3 / CALLS as f32);
    }
    Ok(best)
}

/// Times every operation at the shapes of the last of seven scales of `preset`, with guidance, and of its tokenizer
/// at a quarter of the picture's side.
///
/// # Errors
/// [`EngineError::Internal`] when the device fails.
pub fn operations(preset: Preset, open: &OpenDevice) -> Result<OperationsReport, EngineError> {
    let device = &open.device;
    let (config, vae_config, _) = preset.sizes()?;
    let (heads, width, hidden) = (config.heads, config.width, config.mlp_hidden);
    let schedule = ScaleSchedule::nearest(1.0, 7)?;
    let (all, last) = (schedule.tokens(), schedule.last());
    let length = last.tokens();
    let (head_width, rows) = (config.head_width(), 2);
    let x: Tensor<3> = random([rows, length, width], 1, device);
    let part: Tensor<3> = random([rows, 1, width], 2, device);
    let qkv: Tensor<3> = random([rows, length, 3 * width], 3, device);
    let lengths: Tensor<4> = random([1, heads, 1, 1], 4, device);
    let rope = Rope::new(&schedule, 6..7, head_width, device);
    let query: Tensor<4> = random([rows, heads, length, head_width], 5, device);
    let key: Tensor<4> = random([rows, heads, all, head_width], 6, device);
    let text: Tensor<3> = random([rows, TEXT_TOKENS, 2 * width], 7, device);
    let lens: Arc<[usize]> = vec![TEXT_TOKENS; rows].into();
    let inner: Tensor<3> = random([rows, length, hidden], 8, device);
    let (narrow, wide): (Tensor<1>, Tensor<1>) =
        (random([width], 12, device), random([hidden], 13, device));
    let channels = vae_config.base_ch * vae_config.decoder_ch_mult.first().copied().unwrap_or(1);
    let side = 4 * last.w;
    let map: Tensor<4> = random([1, channels, side, side], 9, device);
    let filters: Tensor<4> = random([channels, channels, 3, 3], 10, device);
    let per_channel: Tensor<1> = random([channels], 11, device);

    let mut list = Vec::new();
    let mut measure = |name, call: &dyn Fn() -> (Tensor<1>, Vec<usize>)| {
        let own_ms = time(device, &|| call().0)?;
        let defined = || with_precision(Precision::Off, || call().0);
        let defined_ms = time(device, &defined)?;
        list.push(OperationTime {
            name,
            shape: call().1,
            own_ms,
            defined_ms,
        });
        Ok::<(), EngineError>(())
    };
    fn flat<const D: usize>(tensor: Tensor<D>) -> (Tensor<1>, Vec<usize>) {
        let shape = tensor.dims().to_vec();
        (tensor.flatten(0, D - 1), shape)
    }
    measure("modulated norm", &|| {
        flat(layers::scaled_norm(&x, &part, &part, 1.0, 1e-6))
    })?;
    measure("heads turned", &|| {
        let [turned, _, _] = split_and_turn(qkv.clone(), &lengths, &rope);
        flat(turned)
    })?;
    measure("attention", &|| {
        let seen = Seen::all(key.clone(), key.clone());
        flat(mix(query.clone(), seen, None, open.max_elements))
    })?;
    measure("attention to text", &|| {
        let mixed = kernels::cross_attention(&x, &text, heads, &lens).unwrap_or_else(|| {
            let head = |from: Tensor<3>| split_heads(from, heads);
            let key = head(text.clone().narrow(2, 0, width));
            let value = head(text.clone().narrow(2, width, width));
            mix(head(x.clone()), Seen::all(key, value), None, usize::MAX)
        });
        flat(mixed)
    })?;
    measure("bias, GELU", &|| {
        flat(layers::finished(inner.clone(), Some(&wide), Then::Gelu))
    })?;
    measure("bias, gated sum", &|| {
        let then = Then::Added(&x, Some(&part));
        flat(layers::finished(x.clone(), Some(&narrow), then))
    })?;
    measure("gated sum", &|| {
        let then = Then::Added(&x, Some(&part));
        flat(layers::finished(x.clone(), None, then))
    })?;
    measure("group norm, SiLU", &|| {
        let map = map.clone();
        flat(vae::group_norm_silu(
            map,
            32,
            &per_channel,
            &per_channel,
            1e-6,
        ))
    })?;
    measure("convolution", &|| {
        flat(vae::convolve(map.clone(), &filters, &per_channel, false))
    })?;
    measure("doubled convolution", &|| {
        flat(vae::convolve(map.clone(), &filters, &per_channel, true))
    })?;
    Ok(OperationsReport {
        device: open.info.clone(),
        operations: list,
    })
}
