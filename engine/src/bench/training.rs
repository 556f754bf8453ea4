//! How fast the starter trains, and what share of the processor's matrix speed that is.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::Serialize;

use super::{starter_transformer, starter_vae};
use crate::api::{DeviceInfo, EngineError};
use crate::device::OpenDevice;
use crate::kernels::{self, Precision, with_precision};
use crate::layers;
use crate::random::Stream;
use crate::train::{self, Limits, Progress, TrainConfig};

/// Side of the matrices whose product gives the speed to compare with, four times as much on quick devices.
const SIDE: usize = 1024;

/// One training run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingSpeed {
    /// `tokenizer` or `transformer`.
    pub name: String,
    /// Pictures per second.
    pub pictures_per_sec: f32,
    /// Operations (a multiplication and an addition are two) in matrix products per second, in 10⁹.
    ///
    /// Counted in the processor's own operations; 0 where those do not apply.
    pub gigaflops: f32,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingReport {
    /// Where.
    pub device: DeviceInfo,
    /// Side of the matrices whose product is measured to compare with.
    pub matrix_side: usize,
    /// Their product in f32, in 10⁹ operations per second.
    pub single_peak: f32,
    /// The same with rounded factors; `None` where the device has no such operation.
    pub half_peak: Option<f32>,
    /// The runs.
    pub runs: Vec<TrainingSpeed>,
}

/// Trains tokenizer and transformer of the starter for `updates` updates each, in the empty folder `out`.
///
/// # Errors
/// What training returns.
pub fn training(
    device: &OpenDevice,
    updates: u64,
    out: &Path,
) -> Result<TrainingReport, EngineError> {
    let peaks = peaks(&device.device)?;
    let mut runs = Vec::new();
    for (name, mut config) in [
        ("tokenizer", starter_vae()?),
        ("transformer", starter_transformer()?),
    ] {
        match &mut config {
            TrainConfig::Vae {
                phases,
                log_every,
                save_every,
                ..
            } => shorten(phases, log_every, save_every, updates),
            TrainConfig::Transformer {
                phases,
                log_every,
                save_every,
                vae_folder,
                loss,
                ..
            } => {
                shorten(phases, log_every, save_every, updates);
                *vae_folder = out.join("tokenizer");
                loss.caption_steps = 0;
            }
        }
        // Two log lines: the first takes in what happens only once.
        let mut marks: Vec<(u64, f32, f32)> = Vec::new();
        let begun = Instant::now();
        let limits = Limits {
            resume: false,
            until: None,
            cancelled: &|| false,
        };
        train::run(&config, device, &out.join(name), &limits, &mut |progress| {
            if let Progress::Line(line) = progress {
                let secs = begun.elapsed().as_secs_f32();
                marks.push((kernels::products(), secs, line.pictures_per_sec));
            }
        })?;
        if let [first, .., last] = marks.as_slice() {
            let operations = 2.0 * (last.0 - first.0) as f32;
            runs.push(TrainingSpeed {
                name: name.to_owned(),
                pictures_per_sec: last.2,
                gigaflops: operations / (last.1 - first.1).max(1e-6) / 1e9,
            });
        }
    }
    Ok(TrainingReport {
        device: device.info.clone(),
        matrix_side: peaks.side,
        single_peak: peaks.single,
        half_peak: peaks.half,
        runs,
    })
}

/// Keeps the last phase alone, for twice `updates` updates.
fn shorten(
    phases: &mut Vec<train::config::Phase>,
    log_every: &mut u64,
    save_every: &mut u64,
    updates: u64,
) {
    let mut last = phases.pop();
    phases.clear();
    if let Some(last) = &mut last {
        last.steps = 2 * updates.max(1);
        last.ratios = vec![1.0];
        *log_every = updates.max(1);
        *save_every = last.steps;
    }
    phases.extend(last);
}

/// What a device multiplies.
pub(super) struct Peaks {
    /// Side of the matrices.
    pub(super) side: usize,
    /// In f32, in 10⁹ operations per second.
    pub(super) single: f32,
    /// With rounded factors; `None` where there is no such product.
    pub(super) half: Option<f32>,
}

/// Speed of a large product in f32 and with rounded factors, the best of six.
pub(super) fn peaks(device: &Device) -> Result<Peaks, EngineError> {
    let small = peak(device, SIDE, Precision::Single)?;
    // Where that is over in no time, what is measured is the way there and back.
    let is_quick = 2.0 * (SIDE as f32).powi(3) / small / 1e9 < 2e-3;
    let (side, single) = if is_quick {
        let side = 4 * SIDE;
        (side, peak(device, side, Precision::Single)?)
    } else {
        (SIDE, small)
    };
    let on_processor = device.clone().without_autodiff() == Device::flex();
    let has_half = if on_processor {
        kernels::has_half_products()
    } else {
        device.supports_dtype(DType::F16)
    };
    let half = has_half.then(|| peak(device, side, Precision::Rounded));
    Ok(Peaks {
        side,
        single,
        half: half.transpose()?,
    })
}

fn peak(device: &Device, side: usize, precision: Precision) -> Result<f32, EngineError> {
    let stream = Stream::new(5, 5);
    let values: Vec<f32> = (0..(side * side) as u64)
        .map(|i| stream.cut_normal(i))
        .collect();
    let matrix = Tensor::<2>::from_data(TensorData::new(values, [side, side]), device);
    let mut secs = f32::MAX;
    for _ in 0..6 {
        let begun = Instant::now();
        let product: Tensor<3> = match precision {
            Precision::Single => matrix.clone().matmul(matrix.clone()).unsqueeze(),
            _ => with_precision(precision, || {
                layers::product(matrix.clone().unsqueeze(), &matrix, None)
            }),
        };
        super::wait_for(&product)?;
        secs = secs.min(begun.elapsed().as_secs_f32());
    }
    Ok(2.0 * (side as f32).powi(3) / secs / 1e9)
}
