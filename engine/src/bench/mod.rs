//! How long each part of drawing takes, with random weights of known shapes.
//!
//! Times do not depend on the values of weights, so no model is needed, and two
//! machines or two versions can be compared. Decoding is measured apart from
//! drawing, as published figures are.

mod training;

pub use training::{TrainingReport, TrainingSpeed, training};

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

use crate::api::{DeviceInfo, EngineError, GenerateSpec};
use crate::device::OpenDevice;
use crate::generate::{Plan, ScaleView, Watcher, generate};
use crate::model::{ModelConfig, Transformer};
use crate::random::Stream;
use crate::schedule::Scale;
use crate::text::{T5Config, T5Encoder, TextFeatures};
use crate::train::TrainConfig;
use crate::vae::bsq::ResidualSum;
use crate::vae::{Vae, VaeConfig};
use crate::weights::Network;

/// Tokens of the prompt.
const TEXT_TOKENS: usize = 20;
/// Guidance of the run.
const CFG: f32 = 3.0;
/// Scales of 256×256 pixels.
const SCALES: usize = 7;

/// Shapes to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The model that comes along.
    Starter,
    /// The published 125M transformer and the f16 tokenizer with 32 bits.
    M125,
}

impl Preset {
    /// Sizes of transformer, picture tokenizer and text encoder.
    ///
    /// The text encoder of the published model is larger than its transformer and left out.
    ///
    /// # Errors
    /// [`EngineError::BadModel`] when the starter's settings are damaged.
    pub fn sizes(self) -> Result<(ModelConfig, VaeConfig, Option<T5Config>), EngineError> {
        if self == Self::M125 {
            return Ok((ModelConfig::m125(32), VaeConfig::published_f16(32), None));
        }
        match (starter_transformer()?, starter_vae()?) {
            (
                TrainConfig::Transformer {
                    transformer, text, ..
                },
                TrainConfig::Vae { vae, .. },
            ) => {
                let text = T5Config {
                    vocab_size: 1024,
                    ..text
                };
                Ok((transformer, vae, Some(text)))
            }
            _ => Err(EngineError::internal("the starter's settings are mixed up")),
        }
    }
}

/// The settings that the starter's transformer was trained with.
fn starter_transformer() -> Result<TrainConfig, EngineError> {
    let text = include_str!("../../../assets/starter/training/transformer.json");
    TrainConfig::parse(text, Path::new("assets/starter/training/transformer.json"))
}

/// The settings that the starter's tokenizer was trained with.
fn starter_vae() -> Result<TrainConfig, EngineError> {
    let text = include_str!("../../../assets/starter/training/vae.json");
    TrainConfig::parse(text, Path::new("assets/starter/training/vae.json"))
}

/// How long one part took, once cold and once warm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartTime {
    /// `text`, `scale 1`, …, `preview 1`, …, `decode`.
    pub name: String,
    /// Tokens of the grid, or of the prompt.
    pub tokens: usize,
    /// Seconds in the first run.
    pub first_secs: f32,
    /// Seconds in the quickest run after it.
    pub warm_secs: f32,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Where.
    pub device: DeviceInfo,
    /// Weights of transformer, tokenizer and text encoder.
    pub parameters: u64,
    /// The parts in the order they run.
    pub parts: Vec<PartTime>,
}

impl Report {
    /// Seconds of the parts whose name starts with `start`: first and warm run.
    pub fn sum(&self, start: &str) -> (f32, f32) {
        let chosen = self
            .parts
            .iter()
            .filter(|part| part.name.starts_with(start));
        chosen.fold((0.0, 0.0), |sum, part| {
            (sum.0 + part.first_secs, sum.1 + part.warm_secs)
        })
    }
}

struct Networks {
    transformer: Transformer,
    vae: Vae,
    text: Option<T5Encoder>,
}

/// Draws a 256×256 picture with guidance `1 + warm_runs` times.
///
/// # Errors
/// [`EngineError::Internal`] when the device fails.
pub fn run(preset: Preset, device: &OpenDevice, warm_runs: usize) -> Result<Report, EngineError> {
    let (burn, limit) = (&device.device, device.max_elements);
    let (model, vae, text) = preset.sizes()?;
    let mut networks = Networks {
        transformer: Transformer::new(&model, burn, limit),
        vae: Vae::new(&vae, burn, limit),
        text: text.map(|config| T5Encoder::new(&config, burn)),
    };
    networks.transformer.initialise(1, burn);
    networks.vae.initialise(2, burn);
    let mut parameters = networks.transformer.parameter_count() + networks.vae.parameter_count();
    if let Some(text) = &mut networks.text {
        text.initialise(3, burn);
        parameters += text.parameter_count();
    }
    let mut parts: Vec<PartTime> = Vec::new();
    for run in 0..=warm_runs {
        let times = networks.draw()?;
        if run == 0 {
            parts = times;
            continue;
        }
        for (known, new) in parts.iter_mut().zip(times) {
            known.warm_secs = if run == 1 {
                new.first_secs
            } else {
                known.warm_secs.min(new.first_secs)
            };
        }
    }
    Ok(Report {
        device: device.info.clone(),
        parameters,
        parts,
    })
}

impl Networks {
    /// One run; times are in `first_secs`.
    fn draw(&self) -> Result<Vec<PartTime>, EngineError> {
        let mut parts = Vec::new();
        let config = &self.transformer.config;
        let begun = Instant::now();
        let text = match &self.text {
            Some(encoder) => {
                let text = encoder.forward(&[(3..3 + TEXT_TOKENS as u32).collect()]);
                wait_for(&text.padded)?;
                parts.push(part("text", TEXT_TOKENS, begun));
                text
            }
            None => {
                let stream = Stream::new(4, 0);
                let count = (TEXT_TOKENS * config.text_channels) as u64;
                let values: Vec<f32> = (0..count).map(|i| stream.cut_normal(i)).collect();
                let data = TensorData::new(values, [1, TEXT_TOKENS, config.text_channels]);
                TextFeatures {
                    padded: Tensor::from_data(data, self.transformer.device()),
                    lens: vec![TEXT_TOKENS],
                }
            }
        };
        let spec = GenerateSpec {
            cfg: vec![CFG],
            ..GenerateSpec::new("", 1)
        };
        let plan = Plan::new(&spec, SCALES, config.depth)?;
        let mut watch = Watch {
            begun: Instant::now(),
            parts,
            sums: Vec::new(),
        };
        generate(&self.transformer, &text.into(), &plan, &mut watch)?;
        let Watch {
            mut parts, sums, ..
        } = watch;
        let last = plan.schedule.scales.len();
        for (index, (scale, sum)) in plan.schedule.scales.iter().zip(sums).enumerate() {
            let begun = Instant::now();
            self.vae.picture(&sum.at(*scale), *scale)?;
            let name = if index + 1 == last {
                "decode".to_owned()
            } else {
                format!("preview {}", index + 1)
            };
            parts.push(part(&name, scale.tokens(), begun));
        }
        Ok(parts)
    }
}

fn part(name: &str, tokens: usize, begun: Instant) -> PartTime {
    PartTime {
        name: name.to_owned(),
        tokens,
        first_secs: begun.elapsed().as_secs_f32(),
        warm_secs: 0.0,
    }
}

/// Reads a value back, so that the device has finished.
fn wait_for(tensor: &Tensor<3>) -> Result<(), EngineError> {
    let values = tensor.clone().sum().try_into_vec_as::<f32>();
    values
        .map(|_| ())
        .map_err(|error| EngineError::internal(format!("reading back: {error}")))
}

/// Times the scales; their logits are read back by the drawing loop, so each is finished when told.
struct Watch {
    begun: Instant,
    parts: Vec<PartTime>,
    sums: Vec<ResidualSum>,
}

impl Watcher for Watch {
    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        let Scale { h, w } = view.scale;
        self.parts.push(part(
            &format!("scale {}", view.index + 1),
            h * w,
            self.begun,
        ));
        self.sums.extend(view.sums.first().cloned());
        self.begun = Instant::now();
        Ok(())
    }
}
