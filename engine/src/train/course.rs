//! The loop that every training run goes through: batches in, updates, log lines, checkpoints.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use burn::tensor::Device;
use crossbeam_channel::Receiver;

use super::checkpoint::Checkpoint;
use super::config::{Phase, place_of};
use super::optimizer::{AdamW, AdamWConfig, Rows};
use super::parallel::{self, Crew};
use super::report::{self, LogLine, Pace};
use super::{Limits, Progress};
use crate::api::EngineError;
use crate::weights::Network;

/// How long a run is and what it keeps.
pub(crate) struct Course<'a> {
    /// Optimizer.
    pub(crate) optimizer: &'a AdamWConfig,
    /// The run.
    pub(crate) phases: &'a [Phase],
    /// Updates in which the learning rate rises from nothing.
    pub(crate) warmup: u64,
    /// Steps between log lines.
    pub(crate) log_every: u64,
    /// Steps between checkpoints and sheets.
    pub(crate) save_every: u64,
    /// What the run is, kept in its checkpoints.
    pub(crate) about: BTreeMap<String, String>,
}

/// What one kind of run adds to the loop.
pub(crate) trait Subject: Sync {
    /// What learns.
    type Network: Network + Send;
    /// A batch with all that is made of it before the update.
    type Prepared: Send + Sync;

    /// The number of the update that a batch is for, from 0, and its pictures.
    fn step_and_len(&self, prepared: &Self::Prepared) -> (u64, usize);

    /// What a part of a batch is called in messages: its pictures by number or file.
    fn name_of(&self, prepared: &Self::Prepared, part: Range<usize>) -> String;

    /// Where `network` learns.
    fn device_of<'a>(&'a self, network: &'a Self::Network) -> &'a Device;

    /// Gradients and measures of a part of a batch; none need be right when a measure is not a number.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the device fails.
    fn learn(
        &self,
        network: &mut Self::Network,
        prepared: &Self::Prepared,
        part: Range<usize>,
    ) -> Result<(Rows, Measures), EngineError>;

    /// Writes the weights and a sheet of pictures.
    ///
    /// # Errors
    /// [`EngineError::Write`] with the path.
    fn save(&self, optimizer: &AdamW, phase: &Phase) -> Result<(), EngineError>;
}

/// What is told of a part of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Measures {
    /// The loss.
    pub(crate) loss: f32,
    /// Mean squared difference of pixels in [-1, 1], for a tokenizer.
    pub(crate) mean_square: Option<f32>,
    /// How many first scales were given to a transformer, not learned.
    pub(crate) given: usize,
    /// Share of bits predicted right, per scale, for a transformer.
    pub(crate) bit_accuracy: Vec<f32>,
    /// Cross entropy per bit, per scale, for a transformer.
    pub(crate) scale_loss: Vec<f32>,
}

/// A weighted mean of measures; each scale counts where it was learned.
#[derive(Debug, Default)]
struct Mean {
    sum: Measures,
    shares: f32,
    scale_shares: Vec<f32>,
}

impl Mean {
    /// Adds `share` of `other`.
    fn add(&mut self, share: f32, other: &Measures) {
        self.shares += share;
        self.sum.loss += share * other.loss;
        if let Some(square) = other.mean_square {
            *self.sum.mean_square.get_or_insert(0.0) += share * square;
        }
        let learned = |index: usize| f32::from(u8::from(index >= other.given));
        let learned: Vec<f32> = (0..other.scale_loss.len()).map(learned).collect();
        for (sum, row) in [
            (&mut self.sum.bit_accuracy, &other.bit_accuracy),
            (&mut self.sum.scale_loss, &other.scale_loss),
            (&mut self.scale_shares, &learned),
        ] {
            sum.resize(sum.len().max(row.len()), 0.0);
            for ((sum, value), learned) in sum.iter_mut().zip(row).zip(&learned) {
                *sum += share * learned * value;
            }
        }
    }

    /// The mean; starts over.
    fn take(&mut self) -> Measures {
        let Self {
            mut sum,
            shares,
            scale_shares,
        } = std::mem::take(self);
        sum.loss /= shares;
        sum.mean_square = sum.mean_square.map(|square| square / shares);
        for row in [&mut sum.bit_accuracy, &mut sum.scale_loss] {
            let pairs = row.iter_mut().zip(&scale_shares);
            pairs.for_each(|(value, share)| *value /= share.max(f32::MIN_POSITIVE));
        }
        sum
    }
}

impl Measures {
    /// What is not a number, as words: the first such scale, if one is known.
    fn wrong(&self) -> Option<String> {
        let scale = self.scale_loss.iter().position(|value| !value.is_finite());
        match scale {
            Some(index) => Some(format!(", scale {}", index + 1)),
            None => (!self.loss.is_finite()).then(String::new),
        }
    }
}

/// Trains `replicas`, which are equal and belong to a `crew`, until the phases end, the limits are reached or the user stops.
///
/// `saved` is the checkpoint to go on from.
///
/// # Errors
/// File errors; [`EngineError::NotFinite`] when the loss or a gradient is not a number: the last checkpoint
/// and the weights beside it stay as they were.
pub(crate) fn run<S: Subject>(
    subject: &S,
    course: &Course<'_>,
    crew: &Crew,
    replicas: &mut [S::Network],
    mut optimizer: AdamW,
    batches: &Receiver<Result<S::Prepared, EngineError>>,
    out: &Path,
    limits: &Limits<'_>,
    progress: &mut dyn FnMut(&Progress),
) -> Result<AdamW, EngineError> {
    let log = out.join("log.jsonl");
    let steps: u64 = course.phases.iter().map(|phase| phase.steps).sum();
    let mut last_saved = optimizer.steps();
    let mut pace = Pace::default();
    let mut mean = Mean::default();
    report::cut_log(&log, optimizer.steps())?;
    for prepared in batches {
        let prepared = prepared?;
        let (number, pictures) = subject.step_and_len(&prepared);
        let Some(place) = place_of(course.phases, number, course.warmup) else {
            break;
        };
        let not_finite = |part: Range<usize>, what: &str| EngineError::NotFinite {
            what: format!("{what} (pictures {})", subject.name_of(&prepared, part)),
            advice: if last_saved == 0 {
                "No checkpoint was written yet; start anew with a lower learning rate.".to_owned()
            } else {
                format!(
                    "The checkpoint of step {last_saved} is whole; go on from it with a lower learning rate."
                )
            },
        };
        let parts = parallel::parts(pictures, replicas.len());
        let precision = course.optimizer.precision;
        let (rows, results) = crew.update(replicas, precision, &parts, |network, part| {
            let device = subject.device_of(network).clone();
            optimizer.copy_to(network, &device);
            let (rows, measures) = subject.learn(network, &prepared, part.clone())?;
            if let Some(scale) = measures.wrong() {
                let what = format!("loss of step {}{scale}", number + 1);
                return Err(not_finite(part, &what));
            }
            Ok((rows, measures))
        })?;
        let Some(norm) = optimizer.update(&rows, place.learning_rate) else {
            let what = format!("gradient of step {}", number + 1);
            return Err(not_finite(0..pictures, &what));
        };
        for (measures, part) in results.iter().zip(&parts) {
            mean.add(part.len() as f32 / pictures as f32, measures);
        }
        pace.count(pictures);
        let step = optimizer.steps();
        if step.is_multiple_of(course.log_every) || step == steps {
            let mean = mean.take();
            let (pictures_per_sec, secs_per_step) = pace.take();
            let line = LogLine {
                step,
                steps,
                loss: mean.loss,
                learning_rate: place.learning_rate,
                gradient_norm: norm,
                pictures_per_sec,
                eta_secs: (steps - step) as f32 * secs_per_step,
                psnr: mean.mean_square.map(super::vae::psnr_from_square),
                bit_accuracy: mean.bit_accuracy,
                scale_loss: mean.scale_loss,
            };
            report::append_line(&log, &line)?;
            progress(&Progress::Line(line));
        }
        progress(&Progress::Step);
        let stopping = limits.reached();
        if step.is_multiple_of(course.save_every) || step == steps || stopping {
            Checkpoint {
                step,
                state: optimizer.state(),
                about: course.about.clone(),
            }
            .save(&out.join("checkpoint.safetensors"))?;
            last_saved = step;
            subject.save(&optimizer, place.phase)?;
        }
        if stopping {
            return Ok(optimizer);
        }
    }
    if optimizer.steps() < steps {
        return Err(EngineError::internal(
            "the thread that prepares batches fell over",
        ));
    }
    Ok(optimizer)
}

#[cfg(test)]
mod tests {
    use super::{Mean, Measures};

    #[test]
    fn measures_are_weighted_and_wrong_scales_named() {
        let measures = |loss: f32, scales: &[f32]| Measures {
            loss,
            given: 0,
            mean_square: Some(2.0),
            bit_accuracy: vec![0.5; scales.len()],
            scale_loss: scales.to_vec(),
        };
        let mut mean = Mean::default();
        mean.add(0.25, &measures(4.0, &[4.0, 8.0]));
        mean.add(0.75, &measures(8.0, &[4.0, 0.0]));
        assert_eq!(mean.take(), measures(7.0, &[4.0, 2.0]));
        // A scale that half of the batches learned is the mean of that half.
        mean.add(1.0, &measures(1.0, &[2.0]));
        mean.add(1.0, &measures(3.0, &[4.0, 8.0]));
        let sum = mean.take();
        assert_eq!(sum, measures(2.0, &[3.0, 8.0]));
        assert_eq!(sum.wrong(), None);
        // A scale that was given does not count.
        mean.add(0.5, &measures(1.0, &[2.0]));
        let mut finishing = measures(1.0, &[9.0, 8.0]);
        finishing.given = 1;
        mean.add(0.5, &finishing);
        assert_eq!(mean.take().scale_loss, [2.0, 8.0]);
        let wrong = measures(f32::NAN, &[1.0, f32::INFINITY]).wrong();
        assert_eq!(wrong.as_deref(), Some(", scale 2"));
        assert_eq!(measures(f32::NAN, &[1.0]).wrong().as_deref(), Some(""));
    }
}
