//! How long each part of drawing takes, with random weights of known shapes.
//!
//! Times do not depend on the values of weights, so no model is needed, and two
//! machines or two versions can be compared. Decoding is measured apart from
//! drawing, as published figures are.

mod launches;
mod loading;
mod operations;
mod training;

use launches::Launches;
pub use loading::{Load, LoadingReport, loading};
pub use operations::{OperationTime, OperationsReport, operations};
use training::peaks;
pub use training::{TrainingReport, TrainingSpeed, training};

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::api::{DeviceInfo, EngineError, GenerateSpec, Keeping, WeightStorage, bytes_text};
use crate::device::OpenDevice;
use crate::generate::{Plan, ScaleView, Watcher, generate};
use crate::kernels::{self, Precision, with_precision};
use crate::memory::{self, Drawing, Sizes};
use crate::model::{ModelConfig, Transformer};
use crate::random::Stream;
use crate::read_back::{read_back, readings};
use crate::schedule::{Scale, ScaleSchedule};
use crate::text::{T5Config, T5Encoder, TextFeatures};
use crate::train::TrainConfig;
use crate::vae::bsq::ResidualSum;
use crate::vae::{Vae, VaeConfig};
use crate::weights::Network;

/// Tokens of the prompt.
const TEXT_TOKENS: usize = 20;
/// Guidance of the run.
const CFG: f32 = 3.0;
/// Shapes to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The model that comes along.
    Starter,
    /// The published 125M transformer and the f16 tokenizer with 32 bits.
    M125,
    /// The published 1B size with 16 bits.
    B1,
    /// The released 2B.
    B2,
    /// The released 8B, with 2×2 places of the code map per token.
    B8,
}

impl Preset {
    /// All of them, the smallest first.
    pub const ALL: [Self; 5] = [Self::Starter, Self::M125, Self::B1, Self::B2, Self::B8];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starter => "starter",
            Self::M125 => "125m",
            Self::B1 => "1b",
            Self::B2 => "2b",
            Self::B8 => "8b",
        }
    }

    /// Sizes of transformer, picture tokenizer and text encoder.
    ///
    /// The text encoder of the published model is larger than its transformer and left out.
    ///
    /// # Errors
    /// [`EngineError::BadModel`] when the starter's settings are damaged.
    pub fn sizes(self) -> Result<(ModelConfig, VaeConfig, Option<T5Config>), EngineError> {
        let published = match self {
            Self::Starter => None,
            Self::M125 => Some((ModelConfig::m125(32), VaeConfig::published_f16(32))),
            Self::B1 => Some((ModelConfig::b1(), VaeConfig::published_f16(16))),
            Self::B2 => Some((ModelConfig::b2(), VaeConfig::published_f16(32))),
            Self::B8 => Some((ModelConfig::b8(), VaeConfig::published_f8(14))),
        };
        if let Some((model, vae)) = published {
            return Ok((model, vae, None));
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartTime {
    /// `text`, `scale 1`, …, `preview 1`, …, `decode`.
    pub name: String,
    /// Tokens of the grid, or of the prompt.
    pub tokens: usize,
    /// Seconds in the first run.
    pub first_secs: f32,
    /// Seconds in the quickest run after it.
    pub warm_secs: f32,
    /// Kernels that a graphics device was given in a warm run.
    #[serde(default)]
    pub launches: u64,
    /// How often a warm run waited for the device to read values.
    #[serde(default)]
    pub readings: u64,
    /// Seconds that the device itself says those kernels took, in a run of their own; `None` where it has no clock.
    #[serde(default)]
    pub device_secs: Option<f32>,
    /// Operations in matrix products (a multiplication and an addition are two), in 10⁹; 0 for parts that are no scale.
    pub giga_operations: f32,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub device: DeviceInfo,
    /// Shapes that were measured.
    pub preset: String,
    /// Size of the picture in pixels, width first.
    pub size_px: (u32, u32),
    /// Weights of transformer, tokenizer and text encoder.
    pub parameters: u64,
    /// Side of the matrices whose product is measured to compare with.
    #[serde(default = "small_side")]
    pub matrix_side: usize,
    /// Their product in f32 on this device, in 10⁹ operations per second.
    pub matrix_peak: f32,
    /// The same with rounded factors; `None` where there is no such product.
    #[serde(default)]
    pub half_peak: Option<f32>,
    /// Side of the pieces that the device's matrix units multiply, where products with rounded factors use them.
    #[serde(default)]
    pub matrix_units: Option<u32>,
    /// How the model was kept.
    #[serde(default)]
    pub keeping: Keeping,
    /// Whether factors of the networks' products were rounded.
    #[serde(default)]
    pub half_products: bool,
    /// Bytes that a picture takes with everything loaded, computed.
    pub memory: u64,
    /// Bytes that the device's allocator holds after the last run, and the most it ever took from the device; `None`
    /// where it does not tell, as on the processor.
    #[serde(default)]
    pub allocated: Option<[u64; 2]>,
    /// The parts in the order they run.
    pub parts: Vec<PartTime>,
}

fn small_side() -> usize {
    1024
}

impl Report {
    /// The product to compare scales with: of factors as they were.
    pub fn peak(&self) -> f32 {
        let half = self.half_peak.filter(|_| self.half_products);
        half.unwrap_or(self.matrix_peak)
    }

    /// Operations in matrix products per second of warm drawing, in 10⁹.
    pub fn giga_operations_per_sec(&self) -> f32 {
        let operations: f32 = self.parts.iter().map(|part| part.giga_operations).sum();
        operations / self.sum("scale").1.max(1e-6)
    }

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

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// Shapes.
    pub preset: Preset,
    /// Scales of the square picture.
    pub scales: usize,
    /// Runs after the first.
    pub warm_runs: usize,
    /// How the model is kept.
    pub weights: WeightStorage,
    /// Whether factors of products are rounded.
    pub half_products: bool,
}

/// Operations in matrix products of all scales of a square picture with guidance, in 10⁹.
///
/// # Errors
/// [`EngineError::BadSetting`] for a number of scales outside the table.
pub fn picture_giga_operations(preset: Preset, scales: usize) -> Result<f32, EngineError> {
    let (model, ..) = preset.sizes()?;
    let mut seen = 0;
    let mut sum = 0.0;
    for scale in &ScaleSchedule::nearest(1.0, scales)?.scales {
        sum += giga_operations(&model, scale.tokens(), seen);
        seen += scale.tokens();
    }
    Ok(sum)
}

/// Draws a square picture with guidance `1 + warm_runs` times.
///
/// # Errors
/// [`EngineError::BadSetting`] for shapes that do not fit into the device's memory, [`EngineError::Internal`] when
/// the device fails.
pub fn run(measure: &Measure, device: &OpenDevice) -> Result<Report, EngineError> {
    let wished = Precision::wished(measure.half_products);
    with_precision(wished, || run_as_set(measure, device))
}

fn run_as_set(measure: &Measure, device: &OpenDevice) -> Result<Report, EngineError> {
    let Measure {
        preset,
        scales,
        warm_runs,
        ..
    } = *measure;
    let (burn, limit) = (&device.device, device.max_elements);
    let (model, vae, text) = preset.sizes()?;
    let schedule = ScaleSchedule::nearest(1.0, scales)?;
    let keeping = memory::quickest(measure.weights);
    let memory = memory_of(preset, &schedule, device, keeping)?;
    if let Some(there) = device.info.memory.filter(|&there| there < memory) {
        return Err(EngineError::BadSetting {
            what: "The preset",
            value: preset.name().to_owned(),
            advice: format!(
                "It takes {} so, and {} has {}; choose a smaller one, or --weights half or eight.",
                bytes_text(memory),
                device.info.name,
                bytes_text(there)
            ),
        });
    }
    let peaks = peaks(burn)?;
    let mut networks = Networks {
        transformer: Transformer::new(&model, burn, limit),
        vae: Vae::new(&vae, burn, limit),
        text: text.map(|config| T5Encoder::new(&config, burn)),
    };
    let kept = |name: &str| keeping.weights.only_if(ModelConfig::is_in_block(name));
    networks.transformer.initialise_as(1, burn, &kept);
    networks.transformer.keep_cache(keeping.cache);
    networks.vae.initialise(2, burn);
    if keeping.halves_tokenizer() {
        networks.vae.keep_half();
    }
    let mut parameters = networks.transformer.parameter_count() + networks.vae.parameter_count();
    if let Some(text) = &mut networks.text {
        text.initialise(3, burn);
        parameters += text.parameter_count();
    }
    let mut parts: Vec<PartTime> = Vec::new();
    for run in 0..=warm_runs {
        let times = networks.draw(scales, false)?;
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
            (known.launches, known.readings) = (new.launches, new.readings);
        }
    }
    if parts.iter().any(|part| part.launches > 0) {
        for (known, new) in parts.iter_mut().zip(networks.draw(scales, true)?) {
            known.device_secs = new.device_secs;
        }
    }
    Ok(Report {
        device: device.info.clone(),
        preset: preset.name().to_owned(),
        size_px: schedule.size_px(),
        parameters,
        matrix_side: peaks.side,
        matrix_peak: peaks.single,
        half_peak: peaks.half,
        matrix_units: kernels::matrix_units(burn).map(|units| units.tile),
        keeping,
        half_products: measure.half_products && device.info.half_products,
        memory,
        allocated: burn
            .memory_pool_usage()
            .map(|usage| [usage.bytes_in_use, usage.bytes_reserved]),
        parts,
    })
}

/// What a guided picture takes with everything loaded.
fn memory_of(
    preset: Preset,
    schedule: &ScaleSchedule,
    device: &OpenDevice,
    keeping: Keeping,
) -> Result<u64, EngineError> {
    let (model, vae, text) = preset.sizes()?;
    let no_text = text.is_none();
    let mut sizes = Sizes::new(&model, &vae, &text.unwrap_or_default());
    if no_text {
        sizes.weights[2] = 0;
    }
    let job = Drawing {
        schedule,
        pictures: 1,
        guided: true,
        max_elements: device.max_elements,
        keeping,
        work: device.work(),
    };
    Ok(memory::drawing(&sizes, &job).bytes())
}

/// Operations in matrix products of one scale: `tokens` new ones, `seen` before them, two rows with guidance.
fn giga_operations(config: &ModelConfig, tokens: usize, seen: usize) -> f32 {
    let [width, hidden, tokens, seen] =
        [config.width, config.mlp_hidden, tokens, seen].map(|value| value as f64);
    let text = TEXT_TOKENS as f64;
    // Attention to pictures has four square matrices, that to text two and its keys and values once per run.
    let dense = 6.0 * width * width + 2.0 * width * hidden;
    let attention = 2.0 * width * (seen + tokens + text);
    let head = 2.0 * width * config.token_bits() as f64;
    let products = tokens * (config.depth as f64 * (dense + attention) + head);
    (2.0 * 2.0 * products / 1e9) as f32
}

impl Networks {
    /// One run; times are in `first_secs`. `timed` by the device itself as well.
    fn draw(&self, scales: usize, timed: bool) -> Result<Vec<PartTime>, EngineError> {
        let mut parts = Vec::new();
        let config = &self.transformer.config;
        let mut clock = Clock::start(timed);
        let text = match &self.text {
            Some(encoder) => {
                let text = encoder.forward(&[(3..3 + TEXT_TOKENS as u32).collect()]);
                wait_for(&text.padded)?;
                parts.push(clock.part("text", TEXT_TOKENS));
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
        let plan = Plan::new(&spec, scales, config.depth)?;
        let _prepared = clock.part("", 0);
        let mut watch = Watch {
            clock,
            parts,
            sums: Vec::new(),
        };
        generate(&self.transformer, &text.into(), &plan, &mut watch)?;
        let Watch {
            mut clock,
            mut parts,
            sums,
        } = watch;
        let mut seen = 0;
        for part in parts
            .iter_mut()
            .filter(|part| part.name.starts_with("scale"))
        {
            part.giga_operations = giga_operations(config, part.tokens, seen);
            seen += part.tokens;
        }
        let last = plan.schedule.scales.len();
        for (index, (scale, sum)) in plan.schedule.scales.iter().zip(sums).enumerate() {
            self.vae.picture(&sum.at(*scale), *scale)?;
            let name = if index + 1 == last {
                "decode".to_owned()
            } else {
                format!("preview {}", index + 1)
            };
            parts.push(clock.part(&name, scale.tokens()));
        }
        Ok(parts)
    }
}

/// What runs along with a run: the time, what the device is given, and what is read back.
struct Clock {
    begun: Instant,
    readings: u64,
    launches: Launches,
}

impl Clock {
    fn start(timed: bool) -> Self {
        Self {
            launches: Launches::watch(timed),
            readings: readings(),
            begun: Instant::now(),
        }
    }

    /// All since the last part.
    fn part(&mut self, name: &str, tokens: usize) -> PartTime {
        let first_secs = self.begun.elapsed().as_secs_f32();
        let (launches, device_secs) = self.launches.take();
        let part = PartTime {
            name: name.to_owned(),
            tokens,
            first_secs,
            warm_secs: 0.0,
            launches,
            readings: readings() - self.readings,
            device_secs,
            giga_operations: 0.0,
        };
        (self.readings, self.begun) = (readings(), Instant::now());
        part
    }
}

/// Reads a value back, so that the device has finished.
fn wait_for(tensor: &Tensor<3>) -> Result<(), EngineError> {
    read_back(tensor.clone().sum(), "reading back").map(|_| ())
}

/// Times the scales; their logits are read back by the drawing loop, so each is finished when told.
struct Watch {
    clock: Clock,
    parts: Vec<PartTime>,
    sums: Vec<ResidualSum>,
}

impl Watcher for Watch {
    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        let Scale { h, w } = view.scale;
        let name = format!("scale {}", view.index + 1);
        self.parts.push(self.clock.part(&name, h * w));
        self.sums.extend(view.sums.first().cloned());
        Ok(())
    }
}
