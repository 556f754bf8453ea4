//! Kinds of numbers in weight files, and how their bytes become `f32`.

use std::io::{self, Read};

use half::slice::HalfFloatSliceExt as _;
use half::vec::HalfBitsVecExt as _;
use half::{bf16, f16};

/// Values converted at a time, so that a tensor is in memory once.
const CHUNK: usize = 1 << 18;

/// How a weight file stores a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberType {
    /// 16 bits, 5 of them exponent.
    F16,
    /// 16 bits, 8 of them exponent.
    Bf16,
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
    /// Whole numbers, truth values and the small floating formats: never read as weights.
    Other,
}

impl NumberType {
    /// Bytes a value takes; `None` for kinds that are not read.
    pub(super) const fn size(self) -> Option<usize> {
        match self {
            Self::F16 | Self::Bf16 => Some(2),
            Self::F32 => Some(4),
            Self::F64 => Some(8),
            Self::Other => None,
        }
    }
}

/// Appends the little-endian `bytes` to `values`. A 64-bit value too large for 32 bits becomes infinite.
#[allow(
    clippy::cast_possible_truncation,
    reason = "weights are used with 32 bits"
)]
pub(super) fn push_f32(kind: NumberType, bytes: &[u8], values: &mut Vec<f32>) {
    match kind {
        NumberType::F16 => {
            let halves: Vec<f16> = bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| f16::from_le_bytes(*b))
                .collect();
            let before = values.len();
            values.resize(before + halves.len(), 0.0);
            halves.convert_to_f32_slice(&mut values[before..]);
        }
        NumberType::Bf16 => {
            values.extend(
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|b| bf16::from_le_bytes(*b).to_f32()),
            );
        }
        NumberType::F32 => {
            values.extend(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b)),
            );
        }
        NumberType::F64 => {
            values.extend(
                bytes
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|b| f64::from_le_bytes(*b) as f32),
            );
        }
        NumberType::Other => {}
    }
}

/// Values of a weight as they are taken from a file.
#[derive(Clone, Debug)]
pub enum Values {
    /// f32.
    Single(Vec<f32>),
    /// Half precision, as the file has them.
    Half(Vec<f16>),
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Single(values) => values.len(),
            Self::Half(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the first value is that is no finite number.
    pub fn not_finite(&self) -> Option<usize> {
        match self {
            Self::Single(values) => first(values, |value| !value.is_finite()),
            Self::Half(values) => first(values, |value| !value.is_finite()),
        }
    }
}

/// The first value that `is`; looks through pieces without stopping inside of one, which is much faster.
pub(super) fn first<T: Copy>(values: &[T], is: impl Fn(T) -> bool) -> Option<usize> {
    const PIECE: usize = 4096;
    let any = |piece: &[T]| piece.iter().fold(false, |any, &value| any | is(value));
    let (index, piece) = values.chunks(PIECE).enumerate().find(|(_, p)| any(p))?;
    let inside = piece.iter().position(|&value| is(value))?;
    Some(index * PIECE + inside)
}

/// Reads `count` values in half precision from `reader`, as they are.
pub(super) fn read_f16(reader: &mut impl Read, count: usize) -> io::Result<Vec<f16>> {
    drop(room_for::<u16>(count)?);
    // The system gives zeros without writing them.
    let mut values = vec![0_u16; count];
    reader.read_exact(bytemuck::cast_slice_mut(&mut values))?;
    if cfg!(target_endian = "big") {
        values
            .iter_mut()
            .for_each(|value| *value = value.swap_bytes());
    }
    Ok(values.reinterpret_into())
}

/// Room for `count` values, or an error instead of an abort when memory is short.
pub(super) fn room_for<T>(count: usize) -> io::Result<Vec<T>> {
    let mut values = Vec::new();
    values
        .try_reserve_exact(count)
        .map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
    Ok(values)
}

/// Reads `count` values of `kind` from `reader`, a chunk at a time.
pub(super) fn read_f32(
    reader: &mut impl Read,
    kind: NumberType,
    count: usize,
) -> io::Result<Vec<f32>> {
    let size = kind.size().ok_or(io::ErrorKind::Unsupported)?;
    let mut values = room_for(count)?;
    let mut buffer = Vec::new();
    while values.len() < count {
        let chunk = CHUNK.min(count - values.len());
        buffer.resize(chunk * size, 0);
        reader.read_exact(&mut buffer)?;
        push_f32(kind, &buffer, &mut values);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_value_is_found_wherever_it_is() {
        for count in [1, 4095, 4096, 4097, 9001] {
            let mut single: Vec<f32> = (0..count).map(|i| i as f32 - 7.5).collect();
            let half = |single: &[f32]| {
                Values::Half(Vec::from_iter(single.iter().map(|&v| f16::from_f32(v))))
            };
            assert_eq!(half(&single).not_finite(), None);
            assert_eq!(Values::Single(single.clone()).not_finite(), None);
            for (at, bad) in [(count - 1, f32::NAN), (count / 2, f32::NEG_INFINITY)] {
                single[at] = bad;
                let slowly = single.iter().position(|value| !value.is_finite());
                assert_eq!(half(&single).not_finite(), slowly);
                assert_eq!(Values::Single(single.clone()).not_finite(), slowly);
            }
        }
    }

    #[test]
    fn halves_are_read_as_they_are() {
        let values: Vec<f16> = (0..1025)
            .map(|i| f16::from_f32(0.37 * i as f32 - 90.0))
            .collect();
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(read_f16(&mut &bytes[..], 1025).unwrap(), values);
        let wide: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
        let read = read_f32(&mut &bytes[..], NumberType::F16, 1025).unwrap();
        assert_eq!(read, wide);
        assert!(read_f16(&mut &bytes[..], 1026).is_err());
    }
}
