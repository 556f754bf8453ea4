//! What a training run tells while it runs: log lines, sheets of pictures, progress.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::api::{EngineError, Rgb8Image};
use crate::weights::atomic_write;

/// One line of `log.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Updates made.
    pub step: u64,
    /// Updates there will be.
    pub steps: u64,
    /// Mean loss since the line before.
    pub loss: f32,
    /// Learning rate.
    pub learning_rate: f32,
    /// Gradient norm before clipping.
    pub gradient_norm: f32,
    /// Pictures per second since the line before.
    pub pictures_per_sec: f32,
    /// Seconds to go at this pace.
    pub eta_secs: f32,
    /// Peak signal-to-noise ratio in dB, for a tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psnr: Option<f32>,
    /// Share of bits predicted right, per scale, for a transformer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bit_accuracy: Vec<f32>,
    /// Cross entropy per bit, per scale, for a transformer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scale_loss: Vec<f32>,
}

/// Appends a line to the run's log.
///
/// # Errors
/// [`EngineError::Write`] with the path.
pub fn append_line(path: &Path, line: &LogLine) -> Result<(), EngineError> {
    let wrong = |error| EngineError::write(path, error);
    let mut text =
        serde_json::to_string(line).map_err(|error| EngineError::internal(error.to_string()))?;
    text.push('\n');
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(wrong)?;
    file.write_all(text.as_bytes()).map_err(wrong)
}

/// The lines of a run's log, `log.jsonl`; a last line that was cut off is left out.
///
/// # Errors
/// [`EngineError::Read`] with the path, [`EngineError::BadModel`] with the line that makes no sense.
pub fn read_log(path: &Path) -> Result<Vec<LogLine>, EngineError> {
    let text = std::fs::read_to_string(path).map_err(|error| EngineError::read(path, error))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |(index, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| EngineError::bad_config(path, format!("line {}: {error}", index + 1)))
    };
    whole.lines().enumerate().map(line).collect()
}

/// Takes out of the log what came after `step`: a run that was killed goes on from there.
pub(super) fn cut_log(path: &Path, step: u64) -> Result<(), EngineError> {
    if !path.exists() {
        return Ok(());
    }
    let mut kept = String::new();
    for line in read_log(path)?.iter().filter(|line| line.step <= step) {
        let line = serde_json::to_string(line);
        kept.push_str(&line.map_err(|error| EngineError::internal(error.to_string()))?);
        kept.push('\n');
    }
    atomic_write(path, kept.as_bytes())
}

/// Counts pictures and time between log lines.
pub struct Pace {
    since: Instant,
    pictures: usize,
    spent: Duration,
    updates: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            pictures: 0,
            spent: Duration::ZERO,
            updates: 0,
        }
    }
}

impl Pace {
    /// Counts one update of `pictures`.
    pub fn count(&mut self, pictures: usize) {
        self.pictures += pictures;
        self.updates += 1;
        self.spent = self.since.elapsed();
    }

    /// Pictures per second and seconds per update; starts over.
    pub fn take(&mut self) -> (f32, f32) {
        let secs = self.spent.as_secs_f32().max(1e-6);
        let pace = (
            self.pictures as f32 / secs,
            secs / self.updates.max(1) as f32,
        );
        *self = Self::default();
        pace
    }
}

/// Puts pictures of one size on a sheet, `columns` in a row, and writes it as PNG.
///
/// # Errors
/// [`EngineError::Write`] with the path.
pub fn write_sheet(path: &Path, images: &[Rgb8Image], columns: usize) -> Result<(), EngineError> {
    let Some(first) = images.first() else {
        return Ok(());
    };
    let (cell_w, cell_h) = (first.width + 4, first.height + 4);
    let columns = columns.clamp(1, images.len());
    let rows = images.len().div_ceil(columns);
    let mut sheet = image::RgbImage::from_pixel(
        cell_w * columns as u32,
        cell_h * rows as u32,
        image::Rgb([32, 32, 36]),
    );
    for (index, picture) in images.iter().enumerate() {
        let (left, top) = (
            (index % columns) as u32 * cell_w + 2,
            (index / columns) as u32 * cell_h + 2,
        );
        for y in 0..picture.height {
            for x in 0..picture.width {
                if let (Some(colour), true) =
                    (picture.pixel(x, y), x < first.width && y < first.height)
                {
                    sheet.put_pixel(left + x, top + y, image::Rgb(colour));
                }
            }
        }
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    sheet
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|error| EngineError::internal(format!("writing a sheet: {error}")))?;
    atomic_write(path, bytes.get_ref())
}
