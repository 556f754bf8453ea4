//! A picture as it crosses the boundary: shared bytes and a size.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An 8-bit RGB picture, row by row from the top, three bytes a pixel.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Untrusted")]
pub struct Rgb8Image {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width * height * 3` bytes, red first.
    #[serde(with = "super::bytes")]
    pub pixels: Arc<[u8]>,
}

/// A picture as it comes over a wire, before anybody has counted its bytes.
#[derive(Deserialize)]
struct Untrusted {
    width: u32,
    height: u32,
    #[serde(with = "super::bytes")]
    pixels: Arc<[u8]>,
}

impl TryFrom<Untrusted> for Rgb8Image {
    type Error = &'static str;

    fn try_from(from: Untrusted) -> Result<Self, Self::Error> {
        Self::new(from.width, from.height, from.pixels.to_vec())
            .ok_or("a picture's bytes do not fit its size")
    }
}

impl Rgb8Image {
    /// Wraps `pixels`; `None` when their number does not fit the size.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let wanted = (width as usize)
            .checked_mul(height as usize)?
            .checked_mul(3)?;
        (pixels.len() == wanted).then(|| Self {
            width,
            height,
            pixels: pixels.into(),
        })
    }

    /// The picture at another size (Lanczos); itself when it has that size, `None` when either has no pixels.
    pub fn resized(&self, width: u32, height: u32) -> Option<Self> {
        if (width, height) == (self.width, self.height) {
            return Some(self.clone());
        }
        if [width, height, self.width, self.height].contains(&0) {
            return None;
        }
        let own = image::RgbImage::from_raw(self.width, self.height, self.pixels.to_vec())?;
        let filter = image::imageops::FilterType::Lanczos3;
        let other = image::imageops::resize(&own, width, height, filter);
        Self::new(width, height, other.into_raw())
    }

    /// The colour at (`x`, `y`); `None` outside.
    pub fn pixel(&self, x: u32, y: u32) -> Option<[u8; 3]> {
        if x >= self.width || y >= self.height {
            return None;
        }
        let start = (y as usize * self.width as usize + x as usize) * 3;
        self.pixels.get(start..start + 3)?.try_into().ok()
    }
}

impl std::fmt::Debug for Rgb8Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb8Image({}x{})", self.width, self.height)
    }
}
