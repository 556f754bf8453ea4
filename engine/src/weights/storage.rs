//! Values that are kept in less than f32, and widened where they are used or as they are multiplied.

use burn::tensor::quantization::{QuantScheme, QuantValue, ScaleDtype};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use half::vec::HalfFloatVecExt as _;
use rayon::prelude::*;

use super::number::Values;
use crate::api::Storage;

/// Neighbours along the last axis that share the scale of their eight-bit values.
pub(crate) const BLOCK: u8 = 32;

/// `x` as `storage` keeps it. Where the last axis is no whole number of blocks, half precision stands in for eight bits.
pub fn stored<const D: usize>(x: Tensor<D>, storage: Storage) -> Tensor<D> {
    let last = x.dims().last().copied().unwrap_or(0);
    match storage {
        Storage::Single => x,
        Storage::Eight if last.is_multiple_of(BLOCK.into()) => {
            stored_on_processor(&x).unwrap_or_else(|| x.quantize_dynamic(&scheme()))
        }
        Storage::Half | Storage::Eight => x.cast(DType::F16),
    }
}

fn scheme() -> QuantScheme {
    QuantScheme::default()
        .with_value(QuantValue::Q8S)
        .per_block([BLOCK], ScaleDtype::F32)
}

/// A matrix of `values` on `device` as `storage` keeps it, made so on the processor: the same everywhere.
pub(super) fn stored_matrix(
    values: Values,
    shape: [usize; 2],
    storage: Storage,
    device: &Device,
) -> Tensor<2> {
    let halved =
        |values: Vec<f16>| Tensor::from_data(TensorData::new(values, shape), (device, DType::F16));
    match (values, storage) {
        (Values::Half(values), Storage::Half) => halved(values),
        (Values::Half(values), storage) => {
            stored_matrix(Values::Single(values.to_f32_vec()), shape, storage, device)
        }
        (Values::Single(values), Storage::Single) => {
            Tensor::from_data(TensorData::new(values, shape), device)
        }
        (Values::Single(values), Storage::Eight) if shape[1].is_multiple_of(BLOCK.into()) => {
            in_eight_bits(&values, shape, device)
        }
        (Values::Single(values), Storage::Half | Storage::Eight) => {
            halved(Vec::from_f32_slice(&values))
        }
    }
}

/// What `quantize_dynamic` makes, where that asks for the block of every single value.
fn stored_on_processor<const D: usize>(x: &Tensor<D>) -> Option<Tensor<D>> {
    let device = x.device();
    if device.clone().without_autodiff() != Device::flex() {
        return None;
    }
    let values = x.try_to_vec_as::<f32>().ok()?;
    Some(in_eight_bits(&values, x.dims(), &device))
}

/// `values` in eight bits, made by whole blocks.
fn in_eight_bits<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    let blocks = values.as_chunks::<{ BLOCK as usize }>().0;
    let one = |block: &[f32; BLOCK as usize]| {
        let most = block
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        let scale = (2.0 * most / 254.0).max(f32::MIN_POSITIVE);
        let parts = 1.0 / scale;
        // Halves away from zero, as `round` does, in instructions that every processor has.
        let round = |value: f32| (value + 0.5_f32.copysign(value)).clamp(-127.0, 127.0) as i8;
        let values = block.map(|value| round(value * parts));
        (values, scale)
    };
    let blocks = blocks.par_iter().with_min_len(1024);
    let (values, scales): (Vec<[i8; BLOCK as usize]>, Vec<f32>) = blocks.map(one).unzip();
    // Values, then scales, without the room that bytes which grow would keep.
    let mut bytes = Vec::with_capacity(values.len() * BLOCK as usize + size_of_val(&scales[..]));
    bytes.extend_from_slice(bytemuck::cast_slice(&values));
    bytes.extend_from_slice(bytemuck::cast_slice(&scales));
    let data = TensorData::from_bytes_vec(bytes, shape, DType::QFloat(scheme()));
    Tensor::from_data(data, device)
}

/// `x` as numbers of `dtype`, however it is kept.
pub fn widened<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    let x = match x.dtype() {
        DType::QFloat(_) => widened_on_processor(&x).unwrap_or_else(|| x.dequantize()),
        _ => x,
    };
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}

/// What `dequantize` gives, which asks for the block of every single value: here blocks are taken whole, by all cores.
/// With this and [`in_eight_bits`], `draw --weights eight` takes 0.33 s for a picture of the starter where it took 0.7 s (two
/// cores, AVX-512).
fn widened_on_processor<const D: usize>(x: &Tensor<D>) -> Option<Tensor<D>> {
    let device = x.device();
    if device.clone().without_autodiff() != Device::flex() {
        return None;
    }
    let data = x.clone().try_into_data().ok()?;
    let shape = x.dims();
    // Values, then the scales of their blocks.
    let (values, scales) = data
        .as_bytes()
        .split_at_checked(shape.iter().product::<usize>())?;
    let (blocks, []) = values.as_chunks::<{ BLOCK as usize }>() else {
        return None;
    };
    let (scales, []) = scales.as_chunks::<4>() else {
        return None;
    };
    if scales.len() != blocks.len() {
        return None;
    }
    let mut wide = vec![0.0; values.len()];
    let rows = wide.as_chunks_mut::<{ BLOCK as usize }>().0;
    rows.par_iter_mut()
        .zip(blocks)
        .zip(scales)
        .with_min_len(1024)
        .for_each(|((row, block), scale)| {
            let scale = f32::from_ne_bytes(*scale);
            for (wide, &value) in row.iter_mut().zip(block) {
                *wide = scale * f32::from(value.cast_signed());
            }
        });
    Some(Tensor::from_data(TensorData::new(wide, shape), &device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_are_near_and_take_a_block_as_it_comes() {
        let values: Vec<f32> = (0..3 * 64)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * if i < 32 { 10.0 } else { 0.01 })
            .collect();
        let data = TensorData::new(values.clone(), [3, 64]);
        let whole = Tensor::<2>::from_data(data, &Device::flex());
        let kept = whole.clone().quantize_dynamic(&scheme());
        assert!(matches!(kept.dtype(), DType::QFloat(_)));
        let again: Vec<f32> = widened(kept.clone(), DType::F32).try_into_vec_as().unwrap();
        for (index, (a, b)) in values.iter().zip(&again).enumerate() {
            // Half a step of 127 that reach to the largest of the block, whatever is large elsewhere.
            let step = if index < 32 { 500.0 } else { 0.5 } / 127.0;
            assert!((a - b).abs() <= 0.51 * step, "{index}: {a} {b}");
        }
        // Made by whole blocks, it is the same.
        let single = Values::Single(values.clone());
        for made in [
            stored_matrix(single, [3, 64], Storage::Eight, &Device::flex()),
            stored(whole.clone(), Storage::Eight),
        ] {
            assert_eq!(made.dtype(), kept.dtype());
            let made: Vec<f32> = widened(made, DType::F32).try_into_vec_as().unwrap();
            assert!(made == again);
        }
        // The slow way back gives the same.
        let slowly: Vec<f32> = kept.clone().dequantize().try_into_vec_as().unwrap();
        assert!(widened_on_processor(&kept).is_some() && slowly == again);
        // Kept once more, nothing changes.
        let twice = stored(widened(kept, DType::F32), Storage::Eight);
        let twice: Vec<f32> = widened(twice, DType::F32).try_into_vec_as().unwrap();
        let apart = again.iter().zip(&twice).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f32::max) < 1e-4);
        // 48 are no whole number of blocks.
        let odd = stored(whole.reshape([4, 48]), Storage::Eight);
        assert_eq!(odd.dtype(), DType::F16);
    }
}
