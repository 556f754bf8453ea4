//! Features of pictures and captions, computed once and kept on the disk by their content.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use image::imageops::FilterType;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest as _, Sha256};

use super::captions::{mirrored, variants};
use super::prior::Draughtsman;
use super::{Collection, FinetuneConfig};
use crate::api::{EngineError, Rgb8Image};
use crate::generate::Bundle;
use crate::lora;
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::text::TextFeatures;
use crate::train::Limits;
use crate::weights::{ModelFolder, atomic_write};

/// Captions of a picture where parts of it are left out.
const CAPTIONS: usize = 16;

/// A caption as the network sees it.
#[derive(Debug)]
pub(super) struct Words {
    /// Text features, `[T, Ct]`.
    pub(super) features: Vec<f32>,
    pub(super) tokens: usize,
}

/// A picture as the network sees it.
#[derive(Debug)]
pub(super) struct Example {
    /// Its file, or its prompt.
    pub(super) name: String,
    /// The grids of its shape.
    pub(super) schedule: ScaleSchedule,
    /// Tokenizer features, `[d, h, w]`.
    pub(super) features: Vec<f32>,
    /// Its captions: the whole one first.
    pub(super) captions: Arc<[Arc<Words>]>,
}

/// What a run learns from.
pub(super) struct Examples {
    /// The artist's pictures, repeated as often as they count.
    pub(super) own: Vec<Arc<Example>>,
    /// The model's own.
    pub(super) prior: Vec<Arc<Example>>,
}

/// Features of all pictures, from `cache` where they are known.
pub(super) fn examples(
    config: &FinetuneConfig,
    bundle: &Bundle,
    collection: &Collection,
    base: &str,
    cache: &Path,
    limits: &Limits<'_>,
) -> Result<Option<Examples>, EngineError> {
    let store = Store::new(bundle, cache)?;
    let mut own = Vec::new();
    let mut shapes: Vec<ScaleSchedule> = Vec::new();
    for picture in &collection.pictures {
        if limits.reached() {
            return Ok(None);
        }
        let mut sides = vec![(picture.image.clone(), picture.caption.clone())];
        if config.mirror {
            let other = (mirror(&picture.image)?, mirrored(&picture.caption));
            sides.push(other);
        }
        for (image, caption) in &sides {
            let captions = variants(caption, &config.trigger, config.part_drop, CAPTIONS);
            let captions = captions.iter().map(|caption| words(bundle, caption));
            let captions: Arc<[Arc<Words>]> = captions.collect::<Result<_, _>>()?;
            for index in 0..=config.views {
                if limits.reached() {
                    return Ok(None);
                }
                let seen;
                let image = if index == 0 {
                    image
                } else {
                    seen = view(image, index - 1)?;
                    &seen
                };
                let example = Arc::new(Example {
                    name: picture.path.display().to_string(),
                    schedule: picture.schedule.clone(),
                    features: store.features(image)?,
                    captions: captions.clone(),
                });
                own.extend(std::iter::repeat_n(example, picture.repeats));
            }
        }
        if !shapes.contains(&picture.schedule) {
            shapes.push(picture.schedule.clone());
        }
    }
    if config.prior <= 0.0 {
        let prior = Vec::new();
        return Ok(Some(Examples { own, prior }));
    }
    let artist = Draughtsman {
        config,
        store: &store,
        base,
        limits,
    };
    let prior = artist.prior(&shapes)?;
    Ok(prior.map(|prior| Examples { own, prior }))
}

/// Features of pictures beside a run, by their content.
pub(super) struct Store<'a> {
    /// The model.
    pub(super) bundle: &'a Bundle,
    cache: &'a Path,
    /// Identity of the tokenizer.
    encoder: String,
}

impl<'a> Store<'a> {
    fn new(bundle: &'a Bundle, cache: &'a Path) -> Result<Self, EngineError> {
        std::fs::create_dir_all(cache).map_err(|error| EngineError::write(cache, error))?;
        let files = ModelFolder::open(&bundle.folder)?;
        let encoder = lora::file_identity(&files.vae_path())?;
        Ok(Self {
            bundle,
            cache,
            encoder,
        })
    }

    /// Tokenizer features of `image`, `[d, h, w]`.
    pub(super) fn features(&self, image: &Rgb8Image) -> Result<Vec<f32>, EngineError> {
        let vae = &self.bundle.vae;
        let (width, height) = (image.width.to_string(), image.height.to_string());
        let parts = [
            self.encoder.as_bytes(),
            &image.pixels,
            width.as_bytes(),
            height.as_bytes(),
        ];
        let patch = vae.config.patch_size;
        let places = (image.width as usize / patch) * (image.height as usize / patch);
        let made = self.kept_or(&parts, vae.config.codebook_dim * places, || {
            let features = vae.encode(vae.pixels(image)).try_into_vec_as::<f32>();
            features
                .map(Some)
                .map_err(|error| EngineError::internal(format!("encoding: {error}")))
        });
        Ok(made?.unwrap_or_default())
    }

    /// The `size` values that depend on `parts` alone: those that are kept, else those that `make` gives.
    ///
    /// # Errors
    /// What `make` returns, [`EngineError::Write`] with the path.
    pub(super) fn kept_or(
        &self,
        parts: &[&[u8]],
        size: usize,
        make: impl FnOnce() -> Result<Option<Vec<f32>>, EngineError>,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let path = self.cache.join(format!("{}.safetensors", key_of(parts)));
        if let Some(values) = kept(&path, size) {
            return Ok(Some(values));
        }
        let made = make()?;
        if let Some(values) = &made {
            keep(&path, values)?;
        }
        Ok(made)
    }
}

/// A picture as a mirror shows it.
fn mirror(image: &Rgb8Image) -> Result<Rgb8Image, EngineError> {
    let row = 3 * image.width.max(1) as usize;
    let rows = image.pixels.chunks_exact(row);
    let pixels = rows.flat_map(|row| row.chunks_exact(3).rev().flatten().copied());
    Rgb8Image::new(image.width, image.height, pixels.collect())
        .ok_or_else(|| EngineError::internal("a mirrored picture of another size"))
}

/// View `index` of a picture: a sixteenth larger, cut towards one corner after the other, then anywhere.
fn view(image: &Rgb8Image, index: usize) -> Result<Rgb8Image, EngineError> {
    let (width, height) = (image.width, image.height);
    let whole = image::RgbImage::from_raw(width, height, image.pixels.to_vec())
        .ok_or_else(|| EngineError::internal("a picture of no size"))?;
    let (wide, high) = (width + width / 16, height + height / 16);
    let larger = image::imageops::resize(&whole, wide, high, FilterType::CatmullRom);
    let stream = Stream::new(index as u64, 0x71E5);
    let shifts = match index {
        0..4 => [(index & 1) as f64, (index >> 1) as f64],
        _ => [0, 1].map(|axis| stream.uniform(axis)),
    };
    let [x, y] = [(shifts[0], wide - width), (shifts[1], high - height)]
        .map(|(shift, room)| (shift * f64::from(room)).round() as u32);
    let cut = image::imageops::crop_imm(&larger, x, y, width, height).to_image();
    Rgb8Image::new(width, height, cut.into_raw())
        .ok_or_else(|| EngineError::internal("a view of no size"))
}

/// What the model reads in `caption`.
pub(super) fn words(bundle: &Bundle, caption: &str) -> Result<Arc<Words>, EngineError> {
    let text = bundle.encode(&[caption])?;
    let tokens = text.lens.first().copied().unwrap_or(0);
    let features = text
        .padded
        .narrow(1, 0, tokens)
        .try_into_vec_as::<f32>()
        .map_err(|error| EngineError::internal(format!("encoding a caption: {error}")))?;
    Ok(Arc::new(Words { features, tokens }))
}

/// Text features of `captions`, padded alike.
pub(super) fn text_of(captions: &[Arc<Words>], device: &Device) -> TextFeatures {
    let tokens = captions.iter().map(|one| one.tokens).max().unwrap_or(0);
    let channels = captions
        .first()
        .map_or(0, |one| one.features.len() / one.tokens.max(1));
    let mut values = Vec::with_capacity(captions.len() * tokens * channels);
    for one in captions {
        values.extend_from_slice(&one.features);
        values.resize(values.len() + (tokens - one.tokens) * channels, 0.0);
    }
    let shape = [captions.len(), tokens, channels];
    TextFeatures {
        padded: Tensor::from_data(TensorData::new(values, shape), device),
        lens: captions.iter().map(|one| one.tokens).collect(),
    }
}

/// A name made from all that something depends on.
pub(super) fn key_of(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let bytes = digest.finalize();
    bytes
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The `size` features in the file at `path`; `None` when they are not there, or not whole.
fn kept(path: &Path, size: usize) -> Option<Vec<f32>> {
    let bytes = std::fs::read(path).ok()?;
    let tensors = SafeTensors::deserialize(&bytes).ok()?;
    let tensor = tensors.tensor("features").ok()?;
    if tensor.dtype() != Dtype::F32 {
        return None;
    }
    let features: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
    let whole = features.len() == size && features.iter().all(|value| value.is_finite());
    whole.then_some(features)
}

fn keep(path: &Path, features: &[f32]) -> Result<(), EngineError> {
    let failed = |error: safetensors::SafeTensorError| EngineError::internal(error.to_string());
    let view = TensorView::new(
        Dtype::F32,
        vec![features.len()],
        bytemuck::cast_slice(features),
    );
    let bytes =
        safetensors::serialize([("features", view.map_err(failed)?)], None).map_err(failed)?;
    atomic_write(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::{mirror, view};
    use crate::api::Rgb8Image;

    /// The size stays, and a bright corner is in the views that are cut towards it.
    #[test]
    fn views_are_cut_towards_the_corners() {
        let (width, height) = (64_u32, 48_u32);
        let pixels = (0..width * height).flat_map(|at| {
            let is_corner = at % width < 3 && at / width < 2;
            [if is_corner { 255 } else { 10 }; 3]
        });
        let image = Rgb8Image::new(width, height, pixels.collect()).unwrap();
        let mut corners = Vec::new();
        for index in 0..7 {
            let seen = view(&image, index).unwrap();
            assert_eq!((seen.width, seen.height), (width, height));
            corners.push(seen.pixel(0, 0).unwrap()[0] > 200);
        }
        assert_eq!(corners[..4], [true, false, false, false]);
        let alike = |a: usize, b: usize| view(&image, a).unwrap() == view(&image, b).unwrap();
        assert!(alike(5, 5) && !alike(5, 6));
    }

    #[test]
    fn a_mirror_turns_rows_around() {
        let image = Rgb8Image::new(3, 2, (0..18).collect()).unwrap();
        let seen = mirror(&image).unwrap();
        assert_eq!(seen.pixels[..9], [6, 7, 8, 3, 4, 5, 0, 1, 2]);
        assert_eq!(mirror(&seen).unwrap(), image);
    }
}
