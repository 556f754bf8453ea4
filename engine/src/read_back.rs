//! Values from the device to the host. Each reading waits until the device has done all before it, so they are counted:
//! drawing is to wait once per scale.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use burn::tensor::{ExecutionError, Tensor, TensorData};

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

type Pending = Pin<Box<dyn Future<Output = Result<TensorData, ExecutionError>> + Send>>;

/// Values on their way: they were asked for, and the device goes on with what it is given later.
pub(crate) enum Reading {
    /// There already.
    Done(Result<TensorData, ExecutionError>),
    /// On their way.
    Pending(Pending),
}

impl Reading {
    /// Asks for the values of `tensor`.
    pub(crate) fn begin<const D: usize>(tensor: Tensor<D>) -> Self {
        READINGS.fetch_add(1, Ordering::Relaxed);
        let mut pending: Pending = Box::pin(tensor.into_data_async());
        // The first look is what sends the wish to the device.
        match pending
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(done) => Self::Done(done),
            Poll::Pending => Self::Pending(pending),
        }
    }

    /// Waits for the values; `what` was going on says the error.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the device fails.
    pub(crate) fn finish(self, what: &str) -> Result<Vec<f32>, EngineError> {
        let failed = |error: String| EngineError::internal(format!("{what}: {error}"));
        let data = match self {
            Self::Done(done) => done,
            Self::Pending(pending) => pollster::block_on(pending),
        };
        let data = data.map_err(|error| failed(error.to_string()))?;
        data.try_into_vec::<f32>()
            .map_err(|error| failed(error.to_string()))
    }
}

/// How often this process has read back so far.
pub(crate) fn readings() -> u64 {
    READINGS.load(Ordering::Relaxed)
}
