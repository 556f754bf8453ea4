//! Does a device compute right? A small fixed model draws one picture on it.
//!
//! The bits it must draw are written down here, its pixels are held against the processor's. A driver that computes wrong
//! draws noise and says nothing, so this runs before a graphics device is first used and again after its driver changed.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};

use crate::api::{DeviceInfo, EngineError, GenerateSpec, Rgb8Image};
use crate::device::OpenDevice;
use crate::generate::{Outcome, Plan, ScaleView, Texts, Watcher, generate};
use crate::model::{ModelConfig, Transformer};
use crate::random::Stream;
use crate::text::TextFeatures;
use crate::vae::{Vae, VaeConfig};
use crate::weights::{Network, atomic_write};

/// Scales of the picture: grids of 1, 2, 4 and 6 squared.
const SCALES: usize = 4;
const BITS: usize = 16;
const DEPTH: usize = 2;
/// So low that bits follow the signs of logits.
const TAU: f32 = 0.002;
const TEXT_TOKENS: usize = 5;
/// Share of bits that may differ: a bit that was nearly a toss-up may fall the other way and take a few along.
const TOLERANCE: f32 = 0.02;
/// Mean difference of pixels, in steps of 255, that rounding can make.
const PIXEL_TOLERANCE: f32 = 1.0;
/// Raised when the test changes, so that devices are tried again.
const VERSION: u32 = 1;

/// What the model drew.
struct Drawn {
    bits: Vec<u8>,
    image: Rgb8Image,
}

/// Draws the test picture on `device`.
fn draw(device: &Device, max_elements: usize, depth: usize) -> Result<Drawn, EngineError> {
    let model = ModelConfig {
        depth,
        width: 64,
        heads: 2,
        mlp_hidden: 128,
        block_chunks: 1,
        text_channels: 128,
        text_maxlen: 8,
        codebook_dim: BITS,
        patchify: false,
    };
    let vae = VaeConfig {
        codebook_dim: BITS,
        patch_size: 16,
        stem: 4,
        base_ch: 32,
        encoder_res_blocks: 1,
        decoder_res_blocks: 1,
        encoder_ch_mult: vec![1, 1, 1],
        decoder_ch_mult: vec![1, 1, 1],
    };
    let mut transformer = Transformer::new(&model, device, max_elements);
    transformer.initialise(1, device);
    let mut decoder = Vae::new(&vae, device, max_elements);
    decoder.initialise(2, device);
    let stream = Stream::new(3, 0);
    let values: Vec<f32> = (0..(TEXT_TOKENS * model.text_channels) as u64)
        .map(|counter| stream.normal(counter) as f32)
        .collect();
    let shape = [1, TEXT_TOKENS, model.text_channels];
    let texts = Texts::from(TextFeatures {
        padded: Tensor::from_data(TensorData::new(values, shape), device),
        lens: vec![TEXT_TOKENS],
    });
    let spec = GenerateSpec {
        tau: vec![TAU],
        ..GenerateSpec::new("", 4)
    };
    let plan = Plan::new(&spec, SCALES, model.depth)?;
    let mut seen = Bits::default();
    let Outcome::Done(sums) = generate(&transformer, &texts, &plan, &mut seen)? else {
        return Err(EngineError::internal("the self-test was stopped"));
    };
    let sum = sums.first();
    let sum = sum.ok_or_else(|| EngineError::internal("the self-test drew nothing"))?;
    Ok(Drawn {
        bits: seen.0,
        image: decoder.picture(sum.latents(), plan.schedule.last())?,
    })
}

#[derive(Default)]
struct Bits(Vec<u8>);

impl Watcher for Bits {
    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        self.0.extend(view.bits.iter().flatten());
        Ok(())
    }
}

/// What is wrong with `drawn`, in words; `right` is what another device drew.
fn judge(drawn: &Drawn, stored: &[u8], right: &Drawn) -> Option<String> {
    let count = stored.len();
    let differ = stored.iter().zip(&drawn.bits).filter(|(a, b)| a != b);
    let differ = differ.count() + count.abs_diff(drawn.bits.len());
    if differ as f32 > TOLERANCE * count as f32 {
        return Some(format!("{differ} of {count} bits of a test picture differ"));
    }
    if differ > 0 {
        // The pictures differ for that reason.
        return None;
    }
    let pairs = drawn.image.pixels.iter().zip(right.image.pixels.iter());
    let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    let mean = sum as f32 / drawn.image.pixels.len().max(1) as f32;
    (mean > PIXEL_TOLERANCE)
        .then(|| format!("pixels of a test picture are off by {mean:.1} of 255 in the mean"))
}

/// The bits of [`STORED`], one per entry.
fn stored() -> Vec<u8> {
    let nibbles = STORED.bytes().filter_map(|c| (c as char).to_digit(16));
    nibbles
        .flat_map(|nibble| (0..4).rev().map(move |place| (nibble >> place & 1) as u8))
        .collect()
}

/// Tries `device`.
///
/// # Errors
/// [`EngineError::DeviceWrong`] when it computes otherwise than the processor, and what drawing returns.
pub fn run(device: &OpenDevice) -> Result<(), EngineError> {
    let drawn = draw(&device.device, device.max_elements, DEPTH)?;
    let right = draw(&Device::flex(), usize::MAX, DEPTH)?;
    match judge(&drawn, &stored(), &right) {
        None => Ok(()),
        Some(what) => Err(EngineError::DeviceWrong {
            device: device.info.name.clone(),
            driver: device.info.driver.clone(),
            what,
        }),
    }
}

/// Tries `device` unless the file `passed` says that it, with this driver, computed right before; notes there that it does.
///
/// # Errors
/// As [`run`]; a file that cannot be read or written only means that the device is tried again.
pub fn run_once(device: &OpenDevice, passed: &Path) -> Result<(), EngineError> {
    let line = line_of(&device.info);
    let known = std::fs::read_to_string(passed).unwrap_or_default();
    if known.lines().any(|known| known == line) {
        return Ok(());
    }
    run(device)?;
    // The last few devices are enough.
    let kept = known.lines().rev().take(15).collect::<Vec<_>>();
    let lines: String = kept
        .into_iter()
        .rev()
        .chain([line.as_str()])
        .map(|line| format!("{line}\n"))
        .collect();
    let folder = passed.parent().map(std::fs::create_dir_all).transpose();
    if let Err(error) = folder
        .map_err(|error| EngineError::write(passed, error))
        .and_then(|_| atomic_write(passed, lines.as_bytes()))
    {
        tracing::warn!("{error}");
    }
    Ok(())
}

fn line_of(info: &DeviceInfo) -> String {
    let line = format!(
        "{VERSION} {} | {} | {}",
        info.backend, info.name, info.driver
    );
    line.replace(['\n', '\r'], " ")
}

/// What every device must draw, scale by scale, the first bit highest.
const STORED: &str = concat!(
    "c83bff5fff5fff5fff5f2b5e0b5c2f4e2b5e2b4e0b4e2b4f0b4e2f4e0b5e2f4f2b4e2f4e2b4e",
    "2f4f2b4e0d440d540d5e0d440d440d440d440d440d460d460d440d460d460d440d460d4e0d46",
    "0d440d440d440d560d4e0d460d448d4c0d440d440d460d440d440d440d440d440d4e0d440d44",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DeviceChoice;
    use crate::device;

    #[test]
    fn the_processor_draws_what_is_stored() {
        for limit in [usize::MAX, 4096] {
            let drawn = draw(&Device::flex(), limit, DEPTH).unwrap();
            let written: String = drawn
                .bits
                .chunks(4)
                .map(|four| format!("{:x}", four.iter().fold(0, |sum, bit| 2 * sum + bit)))
                .collect();
            assert_eq!(written, STORED);
        }
        assert_eq!(stored().len(), BITS * (1 + 4 + 16 + 36));
        let ones = stored().iter().filter(|&&bit| bit == 1).count();
        assert!((250..660).contains(&ones), "{ones}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let right = draw(&Device::flex(), usize::MAX, DEPTH).unwrap();
        let copy = || Drawn {
            bits: right.bits.clone(),
            image: right.image.clone(),
        };
        assert_eq!(judge(&right, &stored(), &right), None);
        let mut one_off = copy();
        one_off.bits[700] ^= 1;
        assert_eq!(judge(&one_off, &stored(), &right), None);
        let mut many_off = copy();
        many_off.bits[500..600].iter_mut().for_each(|bit| *bit ^= 1);
        let told = judge(&many_off, &stored(), &right).unwrap();
        assert!(told.contains("100 of 912 bits"), "{told}");
        let mut short = copy();
        short.bits.truncate(100);
        assert!(judge(&short, &stored(), &right).is_some());
        let mut other = copy();
        other.image.pixels = other.image.pixels.iter().map(|value| value / 2).collect();
        let told = judge(&other, &stored(), &right).unwrap();
        assert!(told.contains("pixels"), "{told}");
        // A network that lacks a block draws something else.
        let lacking = draw(&Device::flex(), usize::MAX, DEPTH - 1).unwrap();
        assert!(judge(&lacking, &stored(), &right).is_some());
    }

    #[test]
    fn a_device_is_tried_once_per_driver() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/passed.txt");
        let mut device = device::open(DeviceChoice::Cpu).unwrap();
        device.info.driver = "1.0".to_owned();
        for driver in ["1.0", "1.0", "2.0"] {
            device.info.driver = driver.to_owned();
            run_once(&device, &file).unwrap();
        }
        let lines = std::fs::read_to_string(&file).unwrap();
        assert_eq!(lines.lines().count(), 2, "{lines}");
        // What stands there is believed.
        std::fs::write(&file, lines.replace("2.0", "3.0")).unwrap();
        device.info.driver = "3.0".to_owned();
        run_once(&device, &file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2);
    }
}
