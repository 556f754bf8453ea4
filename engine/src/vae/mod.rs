//! The picture tokenizer: pixels to residual bit codes, scale by scale, and back.
//!
//! A convolutional network without attention on either side of a multi-scale
//! binary spherical quantiser (Infinity, arXiv 2412.04431, section 3.2; spec
//! section 7). The networks run on the device, the quantiser on the host.

mod bands;
mod blocks;
pub mod bsq;
mod config;
mod decoder;
mod encoder;

pub use config::VaeConfig;
pub use decoder::Decoder;
pub use encoder::Encoder;

use burn::tensor::{Device, Tensor, TensorData};

use crate::api::{EngineError, Rgb8Image};
use crate::read_back::Reading;
use crate::schedule::Scale;
use crate::weights::{Network, Slots};

/// Group normalisation of a map `[B, C, H, W]`, scale and shift per channel, then `SiLU`, as the tokenizer does it.
pub(crate) fn group_norm_silu(
    map: Tensor<4>,
    groups: usize,
    scale: &Tensor<1>,
    shift: &Tensor<1>,
    epsilon: f32,
) -> Tensor<4> {
    let map = bands::Bands::new(map, usize::MAX);
    map.group_norm_silu(groups, scale, shift, epsilon).join()
}

/// Convolution of a map `[B, in, H, W]`, enlarged before if `double`, as the tokenizer does it.
pub(crate) fn convolve(
    map: Tensor<4>,
    weight: &Tensor<4>,
    bias: &Tensor<1>,
    double: bool,
) -> Tensor<4> {
    let is_single = weight.dims()[3] == 1;
    let map = bands::Bands::new(map, usize::MAX);
    match (double, is_single) {
        (true, _) => map.double_conv3(weight, bias),
        (false, true) => map.conv1(weight, bias),
        (false, false) => map.conv3(weight, bias),
    }
    .join()
}

/// The whole tokenizer.
#[derive(Clone, Debug)]
pub struct Vae {
    /// Its sizes.
    pub config: VaeConfig,
    /// Pixels to features.
    pub encoder: Encoder,
    /// Latents to pixels.
    pub decoder: Decoder,
    device: Device,
    max_elements: usize,
}

impl Vae {
    /// Keeps the filters of convolutions in half precision from now on.
    pub fn keep_half(&mut self) {
        for mut slot in self.all_slots().list {
            slot.halve();
        }
    }

    /// A tokenizer whose weights come later; no tensor will exceed `max_elements` values.
    pub fn new(config: &VaeConfig, device: &Device, max_elements: usize) -> Self {
        Self {
            config: config.clone(),
            encoder: Encoder::new(config, device),
            decoder: Decoder::new(config, device),
            device: device.clone(),
            max_elements,
        }
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Pixels in [-1, 1], `[B, 3, H, W]`, to features `[B, d, H/patch, W/patch]`.
    pub fn encode(&self, pixels: Tensor<4>) -> Tensor<4> {
        self.encoder.forward(pixels, self.max_elements)
    }

    /// Latents `[B, d, h, w]` to pixels in [-1, 1], `[B, 3, h*patch, w*patch]`.
    pub fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        self.decoder
            .forward(latents, self.max_elements)
            .clamp(-1.0, 1.0)
    }

    /// One picture from latents `[d, h, w]` on the host, as the reference rounds it (truncated).
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] for broken weights, [`EngineError::Internal`] for a failed device.
    pub fn picture(&self, latents: &[f32], size: Scale) -> Result<Rgb8Image, EngineError> {
        self.begin_picture(latents, size).finish()
    }

    /// The same, asked of the device and not waited for.
    pub fn begin_picture(&self, latents: &[f32], size: Scale) -> Decoding {
        let shape = [1, self.config.codebook_dim, size.h, size.w];
        let latents = Tensor::from_data(TensorData::new(latents.to_vec(), shape), &self.device);
        // What leaves the range is cut off when it becomes bytes.
        let pixels = self.decoder.forward(latents, self.max_elements);
        let [_, _, h, w] = pixels.dims();
        Decoding {
            pixels: Reading::begin(pixels),
            size: [w, h],
        }
    }

    /// Pixels of a picture in [-1, 1], `[1, 3, H, W]`.
    pub fn pixels(&self, image: &Rgb8Image) -> Tensor<4> {
        pixels_from_images(std::slice::from_ref(image), &self.device)
    }
}

/// A picture on its way from the device.
pub struct Decoding {
    pixels: Reading,
    size: [usize; 2],
}

impl Decoding {
    /// Waits for it.
    ///
    /// # Errors
    /// As [`Vae::picture`].
    pub fn finish(self) -> Result<Rgb8Image, EngineError> {
        let [w, h] = self.size;
        image_from_pixels(&self.pixels.finish("decoding")?, w, h)
    }
}

/// Pictures of one size as `[B, 3, H, W]` in [-1, 1].
pub fn pixels_from_images(images: &[Rgb8Image], device: &Device) -> Tensor<4> {
    let (w, h) = images
        .first()
        .map_or((1, 1), |i| (i.width as usize, i.height as usize));
    let mut values = Vec::with_capacity(images.len() * 3 * w * h);
    for image in images {
        for channel in 0..3 {
            let channel = image.pixels.iter().skip(channel).step_by(3);
            values.extend(channel.map(|&value| f32::from(value) / 127.5 - 1.0));
        }
    }
    Tensor::from_data(TensorData::new(values, [images.len(), 3, h, w]), device)
}

/// A picture from planes `[3, h, w]` in [-1, 1], what lies outside cut off; the reference truncates, so this does.
///
/// # Errors
/// [`EngineError::NotFinite`] when a value is infinite or not a number.
pub fn image_from_pixels(
    planes: &[f32],
    width: usize,
    height: usize,
) -> Result<Rgb8Image, EngineError> {
    let area = width * height;
    let wrong = || EngineError::internal("picture size");
    let colours = planes.get(..3 * area).ok_or_else(wrong)?;
    // Looked through to the end, which is quicker than to stop at the first.
    if !colours
        .iter()
        .fold(true, |all, value| all & value.is_finite())
    {
        return Err(EngineError::NotFinite {
            what: "while decoding the picture".to_owned(),
            advice: "The model file may be damaged; copy it again.".to_owned(),
        });
    }
    let (red, rest) = colours.split_at(area);
    let (green, blue) = rest.split_at(area);
    let byte = |value: &f32| ((value + 1.0) / 2.0 * 255.0).clamp(0.0, 255.0) as u8;
    let pixels = red.iter().zip(green).zip(blue);
    let pixels = pixels.flat_map(|((red, green), blue)| [red, green, blue].map(byte));
    let pixels = pixels.collect();
    Rgb8Image::new(width as u32, height as u32, pixels).ok_or_else(wrong)
}

impl Network for Vae {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        self.encoder.slots(&format!("{prefix}encoder."), slots);
        self.decoder.slots(&format!("{prefix}decoder."), slots);
        let d = self.config.codebook_dim;
        slots.allow_unused(format!("{prefix}quantizer.lfq.mask"), [d]);
        slots.allow_unused(format!("{prefix}quantize.lfq.mask"), [d]);
    }
}

#[cfg(test)]
mod tests {
    use super::image_from_pixels;

    #[test]
    fn planes_become_bytes() {
        let planes = [-1.0, 1.0, 0.0, -7.0, 0.999, 1e30];
        let image = image_from_pixels(&planes, 2, 1).unwrap();
        assert_eq!(image.pixels.to_vec(), [0, 127, 254, 255, 0, 255]);
        for (place, value) in [(0, f32::NAN), (5, f32::INFINITY)] {
            let mut planes = planes;
            planes[place] = value;
            assert!(image_from_pixels(&planes, 2, 1).is_err(), "{value}");
        }
        assert!(image_from_pixels(&planes, 3, 1).is_err(), "too few");
    }
}
