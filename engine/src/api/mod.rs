//! Everything that may cross the boundary between the window and the engine.
//!
//! Plain data only: no tensor, no device, no file handle. The window and the
//! command line know the engine through this module, [`crate::spawn`] and
//! [`crate::EngineHandle`].

mod bits;
mod bytes;
mod card;
mod error;
mod event;
mod image;
mod info;
mod memory;
mod mode;
mod request;
mod source;
mod spec;
mod tune;

pub use bits::PictureBits;
pub use card::LoraCard;
pub use error::{EngineError, KeyProblems};
pub use event::{Doubt, Event, Stage};
pub use image::Rgb8Image;
pub use info::{
    DeviceChoice, DeviceInfo, DeviceKind, Keeping, ModelInfo, RatioInfo, Storage, WeightStorage,
};
pub use memory::{MemoryNeed, MemoryPart, bytes_text};
pub use mode::Mode;
pub use request::{JobId, Request, Task};
pub use source::{Mask, Sides, Source};
pub use spec::{GenerateSpec, LoraWish, PixelBudget};
pub use tune::{Finding, FoundPicture, TuneRates, TuneStep, TuneWish};
