//! Weights used where their file lies, without a copy.
//!
//! On the processor a network can read its matrices from the file as the system has it in memory: loading is then looking
//! through the file once, no memory is taken beside the system's own, and what the system needs more urgently it takes
//! back and reads again. To a graphics device they go from there, without a copy of ours between.
//!
//! A file that is replaced by renaming, as this program and downloaders do, stays as it was for those who use it. One that
//! is written over in place changes the weights that are in use, and one that is shortened, as copying over it does first,
//! ends the program, as it would end any that maps files.

use std::fs::File;

use burn::tensor::{AllocationProperty, Bytes, DType, Device, Tensor, TensorData};
use half::f16;

use super::number::{NumberType, first};
use crate::api::Storage;

/// Shorter files are read: that takes no time worth saving.
const WORTH_MAPPING: u64 = 64 << 20;

/// All of `file`, of `length` bytes, where that pays and other programs can still replace it.
pub(super) fn map(file: &File, length: u64) -> Option<bytes::Bytes> {
    // Windows refuses to replace a file that is mapped.
    let can_be = cfg!(all(unix, target_endian = "little")) && length >= WORTH_MAPPING;
    if !can_be {
        return None;
    }
    // SAFETY: the mapping is only read, and any bits are numbers, so what others write shows as other numbers; the
    // module's documentation says what else they can do.
    #[expect(unsafe_code, reason = "others could change the file")]
    let map = unsafe { memmap2::Mmap::map(file) }.ok()?;
    #[cfg(unix)]
    if let Err(error) = map.advise(memmap2::Advice::WillNeed) {
        tracing::debug!("a mapped file is not read ahead: {error}");
    }
    Some(bytes::Bytes::from_owner(map))
}

/// Values of a tensor where its file lies.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    bytes: bytes::Bytes,
    storage: Storage,
}

impl Mapped {
    /// Whether values of `kind` are as `storage` keeps them.
    pub(super) fn fits(kind: NumberType, storage: Storage) -> bool {
        matches!(
            (kind, storage),
            (NumberType::F16, Storage::Half) | (NumberType::F32, Storage::Single)
        )
    }

    /// `bytes` as `storage` keeps them, if they are aligned.
    pub(super) fn new(bytes: bytes::Bytes, storage: Storage) -> Option<Self> {
        let is_aligned = match storage {
            Storage::Half => bytemuck::try_cast_slice::<u8, f16>(&bytes).is_ok(),
            Storage::Single => bytemuck::try_cast_slice::<u8, f32>(&bytes).is_ok(),
            Storage::Eight => false,
        };
        is_aligned.then_some(Self { bytes, storage })
    }

    /// Where the first value is that is no finite number.
    pub(super) fn not_finite(&self) -> Option<usize> {
        match self.storage {
            Storage::Half => first(bytemuck::cast_slice(&self.bytes), |value: f16| {
                !value.is_finite()
            }),
            _ => first(bytemuck::cast_slice(&self.bytes), |value: f32| {
                !value.is_finite()
            }),
        }
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        match self.storage {
            Storage::Half => self.bytes.len() / size_of::<f16>(),
            _ => self.bytes.len() / size_of::<f32>(),
        }
    }

    /// A matrix of them on `device`; on the processor it stays where it lies.
    pub(super) fn into_matrix(self, shape: [usize; 2], device: &Device) -> Tensor<2> {
        let dtype = match self.storage {
            Storage::Half => DType::F16,
            _ => DType::F32,
        };
        let bytes = Bytes::from_shared(self.bytes, AllocationProperty::File);
        let data = TensorData::from_bytes(bytes, shape, dtype);
        Tensor::from_data(data, (device, dtype))
    }
}
