//! What the engine says about the device it runs on and the model it holds.

use super::MemoryNeed;
use serde::{Deserialize, Serialize};

/// Which device to compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A real GPU when there is one, else the CPU.
    #[default]
    Auto,
    /// The GPU with this place in the list, the best one when `None`.
    Gpu(Option<usize>),
    /// The processor, without any graphics driver.
    Cpu,
    /// A software Vulkan driver; slow, for tests.
    Software,
}

/// How the weights of the transformer are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WeightStorage {
    /// In half precision when they would not fit otherwise, or when the files are so and the processor multiplies that as it
    /// lies.
    #[default]
    Auto,
    /// In f32.
    Single,
    /// Large matrices of transformer and text encoder in half precision, half the memory; they are widened where they are used, or as they are multiplied. The same to the bit
    /// for a model that was saved in half precision.
    Half,
    /// As half, with the keys and values of finished scales in half precision too.
    Small,
    /// As small, with the keys and values of finished scales in eight bits; pictures differ a little.
    Smaller,
    /// Large matrices, keys and values in eight bits: little more than a quarter of the memory, and pictures that differ.
    Eight,
}

/// What values are kept in while they are not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// f32.
    #[default]
    Single,
    /// Half precision.
    Half,
    /// Eight bits a value, with an f32 scale for every 32 neighbours.
    Eight,
}

impl Storage {
    /// This where `large`, else f32.
    pub(crate) fn only_if(self, large: bool) -> Self {
        if large { self } else { Self::Single }
    }
}

/// How a loaded model is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeping {
    /// The large matrices of transformer and text encoder.
    pub weights: Storage,
    /// Keys and values of finished scales.
    pub cache: Storage,
    /// Whether the text encoder stays; else it is loaded for every new text and leaves again.
    pub text_stays: bool,
}

impl Keeping {
    /// Whether the picture tokenizer's filters are kept in half precision: where memory counts most.
    pub const fn halves_tokenizer(&self) -> bool {
        matches!(self.cache, Storage::Eight)
    }
}

impl Default for Keeping {
    fn default() -> Self {
        Self {
            weights: Storage::Single,
            cache: Storage::Single,
            text_stays: true,
        }
    }
}

/// Kind of a compute device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// A graphics card or the graphics part of a processor.
    Gpu,
    /// The processor.
    Cpu,
    /// A graphics driver that computes on the processor.
    Software,
}

/// The device the engine computes on, or one it could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// What sort of device.
    pub kind: DeviceKind,
    /// The name its driver gives, for people.
    pub name: String,
    /// Vulkan, Metal, Dx12, Gl; empty for the CPU.
    pub backend: String,
    /// The driver and its version, as it names itself; empty for the CPU.
    #[serde(default)]
    pub driver: String,
    /// Why this device was chosen, or why it was not; one sentence.
    pub reason: String,
    /// Memory for models and pictures, in bytes: a card's own, or what the machine has free; `None` when unknown.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Whether it can do [`GenerateSpec::half_products`](super::GenerateSpec::half_products); known once it is open.
    #[serde(default)]
    pub half_products: bool,
}

/// One aspect ratio a model can draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioInfo {
    /// Height over width.
    pub ratio: f32,
    /// Width in pixels at the model's usual number of scales.
    pub width: u32,
    /// Height in pixels at the model's usual number of scales.
    pub height: u32,
}

/// What the window needs to know of a loaded model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Name for people.
    pub name: String,
    /// One quiet line: what this model can draw.
    pub about: String,
    /// Number of weights of transformer, tokenizer and text encoder together.
    pub parameters: u64,
    /// Scales drawn unless asked otherwise.
    pub scale_count: usize,
    /// Guidance that suits the model.
    pub cfg: f32,
    /// Temperature that suits the model.
    pub tau: f32,
    /// Ratios it can draw, square first.
    pub ratios: Vec<RatioInfo>,
    /// Side in pixels of a square picture of so many scales: one scale first.
    #[serde(default)]
    pub sides: Vec<u32>,
    /// What a square picture of so many scales takes in memory: one scale first, with guidance.
    #[serde(default)]
    pub memory: Vec<MemoryNeed>,
    /// How it is kept in memory.
    #[serde(default)]
    pub keeping: Keeping,
    /// Prompts that work well.
    pub example_prompts: Vec<String>,
    /// Prompts of pictures that the model draws itself for lessons, so that it does not forget; its examples when empty.
    #[serde(default)]
    pub practice_prompts: Vec<String>,
}
