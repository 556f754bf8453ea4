//! AdamW over the weight table of a network, with gradient clipping and an
//! exponential moving average.
//!
//! Loshchilov and Hutter, arXiv 1711.05101. Master weights and moments live on
//! the host in f32 and every weight is updated in one pass, so a step is the
//! same on every device and a checkpoint is a plain copy.

use std::collections::BTreeMap;

use burn::tensor::{Device, Gradients};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::api::EngineError;
use crate::kernels::Precision;
use crate::weights::Network;

/// Settings of [`AdamW`] (spec section 8.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Decay of the first and of the second moment.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Pull towards zero per step and learning rate; not for vectors and embeddings.
    pub weight_decay: f32,
    /// Largest global gradient norm.
    pub clip_norm: f32,
    /// Decay of the moving average of the weights; 0 for none.
    pub ema_decay: f32,
    /// Threads that share a batch; 1 on a graphics card, a thread per core on the processor.
    pub workers: usize,
    /// How the processor's own operations multiply while training.
    pub precision: Precision,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.97],
            epsilon: 1e-8,
            weight_decay: 0.005,
            clip_norm: 5.0,
            ema_decay: 0.0,
            workers: 1,
            precision: Precision::Single,
        }
    }
}

/// Name parts of weights that are never decayed.
const NO_DECAY: [&str; 7] = [
    "cfg_uncond",
    "pos_start",
    "lvl_embed",
    "ada_gss",
    "scale_mul",
    "text_proj_for_sos.ca.mat_q",
    "shared.weight",
];

struct Entry {
    name: String,
    decays: bool,
    weight: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    average: Vec<f32>,
}

/// Gradients on the host, one row per weight that took part.
pub type Rows = Vec<Option<Vec<f32>>>;

/// The gradients of `network`, in the order of its table.
///
/// # Errors
/// [`EngineError::Internal`] when the device fails.
pub fn gradient_rows(
    network: &mut impl Network,
    gradients: &Gradients,
) -> Result<Rows, EngineError> {
    network
        .all_slots()
        .list
        .iter()
        .map(|slot| slot.weight.gradient(gradients))
        .collect()
}

/// The optimizer of one network.
pub struct AdamW {
    config: AdamWConfig,
    entries: Vec<Entry>,
    step: u64,
}

/// Named rows of numbers, as a checkpoint stores them.
pub type State = BTreeMap<String, Vec<f32>>;

impl AdamW {
    /// Starts from the present weights of `network`.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the device fails.
    pub fn new(network: &mut impl Network, config: AdamWConfig) -> Result<Self, EngineError> {
        let keeps_average = config.ema_decay > 0.0;
        let entries = network
            .all_slots()
            .list
            .iter()
            .map(|slot| {
                let weight = slot.weight.values()?;
                Ok(Entry {
                    decays: slot.shape.len() > 1
                        && !NO_DECAY.iter().any(|part| slot.name.contains(part)),
                    name: slot.name.clone(),
                    first: vec![0.0; weight.len()],
                    second: vec![0.0; weight.len()],
                    average: if keeps_average {
                        weight.clone()
                    } else {
                        Vec::new()
                    },
                    weight,
                })
            })
            .collect::<Result<_, EngineError>>()?;
        Ok(Self {
            config,
            entries,
            step: 0,
        })
    }

    /// Steps made.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// One update of the master weights; returns the gradient norm before clipping.
    ///
    /// `None`, and nothing is changed, when a gradient is not finite.
    pub fn update(&mut self, rows: &Rows, learning_rate: f32) -> Option<f32> {
        let square: f64 = rows
            .par_iter()
            .flatten()
            .map(|row| {
                row.iter()
                    .map(|&g| f64::from(g) * f64::from(g))
                    .sum::<f64>()
            })
            .collect::<Vec<_>>()
            .into_iter()
            .sum();
        let norm = square.sqrt() as f32;
        if !norm.is_finite() {
            return None;
        }
        self.step += 1;
        let clip = (self.config.clip_norm / norm.max(1e-12)).min(1.0);
        let config = &self.config;
        let step = self.step as i32;
        let correct = [
            1.0 - config.betas[0].powi(step),
            1.0 - config.betas[1].powi(step),
        ];
        // The average follows quickly at first, so that the start is soon forgotten.
        let keep = config
            .ema_decay
            .min((1.0 + step as f32) / (10.0 + step as f32));
        self.entries
            .par_iter_mut()
            .zip(rows)
            .for_each(|(entry, row)| {
                let Some(row) = row else { return };
                let decay = if entry.decays {
                    learning_rate * config.weight_decay
                } else {
                    0.0
                };
                for (i, &raw) in row.iter().enumerate() {
                    let g = raw * clip;
                    let m = config.betas[0] * entry.first[i] + (1.0 - config.betas[0]) * g;
                    let v = config.betas[1] * entry.second[i] + (1.0 - config.betas[1]) * g * g;
                    entry.first[i] = m;
                    entry.second[i] = v;
                    let towards = (m / correct[0]) / ((v / correct[1]).sqrt() + config.epsilon);
                    entry.weight[i] -= decay * entry.weight[i] + learning_rate * towards;
                }
                for (average, weight) in entry.average.iter_mut().zip(&entry.weight) {
                    *average = keep * *average + (1.0 - keep) * weight;
                }
            });
        Some(norm)
    }

    /// Puts the master weights into `network`.
    pub fn copy_to(&self, network: &mut impl Network, device: &Device) {
        for (slot, entry) in network.all_slots().list.iter_mut().zip(&self.entries) {
            slot.fill(entry.weight.clone(), device);
        }
    }

    /// Puts the averaged weights (or the plain ones, without an average) into `network`.
    pub fn copy_average_to(&self, network: &mut impl Network, device: &Device) {
        for (slot, entry) in network.all_slots().list.iter_mut().zip(&self.entries) {
            let values = if entry.average.is_empty() {
                &entry.weight
            } else {
                &entry.average
            };
            slot.fill(values.clone(), device);
        }
    }

    /// Everything needed to go on later.
    pub fn state(&self) -> State {
        let mut state = State::new();
        for entry in &self.entries {
            state.insert(format!("weight/{}", entry.name), entry.weight.clone());
            state.insert(format!("first/{}", entry.name), entry.first.clone());
            state.insert(format!("second/{}", entry.name), entry.second.clone());
            if !entry.average.is_empty() {
                state.insert(format!("average/{}", entry.name), entry.average.clone());
            }
        }
        state
    }

    /// Goes on from `state` after `step` updates.
    ///
    /// Returns the names that are missing or have another size; nothing is changed then.
    pub fn restore(&mut self, mut state: State, step: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        let kinds: &[&str] = if self.config.ema_decay > 0.0 {
            &["weight", "first", "second", "average"]
        } else {
            &["weight", "first", "second"]
        };
        for entry in &self.entries {
            for kind in kinds {
                let name = format!("{kind}/{}", entry.name);
                if state
                    .get(&name)
                    .is_none_or(|row| row.len() != entry.weight.len())
                {
                    wrong.push(name);
                }
            }
        }
        if !wrong.is_empty() {
            return wrong;
        }
        for entry in &mut self.entries {
            let mut take = |kind: &str| {
                state
                    .remove(&format!("{kind}/{}", entry.name))
                    .unwrap_or_default()
            };
            entry.weight = take("weight");
            entry.first = take("first");
            entry.second = take("second");
            entry.average = take("average");
        }
        self.step = step;
        Vec::new()
    }
}
