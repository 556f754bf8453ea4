//! Everything that may cross the boundary between the window and the engine.
//!
//! Plain data only: no tensor, no device, no file handle. The window and the
//! command line know the engine through this module, [`crate::spawn`] and
//! [`crate::EngineHandle`].

mod bits;
mod error;
mod event;
mod image;
mod info;
mod request;
mod spec;
mod tune;

pub use bits::PictureBits;
pub use error::{EngineError, KeyProblems};
pub use event::{Event, Stage};
pub use image::Rgb8Image;
pub use info::{DeviceChoice, DeviceInfo, DeviceKind, ModelInfo, RatioInfo};
pub use request::{JobId, Request, Task};
pub use spec::{GenerateSpec, LoraWish, PixelBudget};
pub use tune::{Finding, FoundPicture, TuneStep, TuneWish};
