//! Values from the device to the host. Each reading waits until the device has done all before it, so they are counted:
//! drawing is to wait once per scale.

use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::Tensor;

use crate::api::EngineError;

static READINGS: AtomicU64 = AtomicU64::new(0);

/// The values of `tensor`; `what` was going on says the error.
///
/// # Errors
/// [`EngineError::Internal`] when the device fails.
pub(crate) fn read_back<const D: usize>(
    tensor: Tensor<D>,
    what: &str,
) -> Result<Vec<f32>, EngineError> {
    READINGS.fetch_add(1, Ordering::Relaxed);
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| EngineError::internal(format!("{what}: {error}")))
}

/// How often this process has read back so far.
pub(crate) fn readings() -> u64 {
    READINGS.load(Ordering::Relaxed)
}
