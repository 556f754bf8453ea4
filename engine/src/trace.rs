//! What happens inside: every tensor worth comparing, named as in the golden tests.
//!
//! For reports of mistakes and for comparing devices. A file holds one picture:
//! drawn from a prompt (`gen/…`, `text/…`) or taken apart by the tokenizer (`vae/…`).

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Tensor;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::api::{EngineError, GenerateSpec, Rgb8Image};
use crate::generate::{Bundle, Plan, ScaleView, Texts, Watcher, generate};
use crate::schedule::{Scale, ScaleSchedule};
use crate::vae::bsq::encode;
use crate::weights::atomic_write;

/// Largest side of a picture that is read, in pixels.
const MAX_SIDE: u32 = 16_384;

/// Named tensors of one run.
#[derive(Default)]
pub struct Trace {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Trace {
    /// Draws `spec` with `bundle` and keeps what happens inside.
    ///
    /// # Errors
    /// As drawing.
    pub fn draw(bundle: &Bundle, spec: &GenerateSpec) -> Result<Self, EngineError> {
        let plan = Plan::new(
            spec,
            bundle.info.scale_count,
            bundle.transformer.config.depth,
        )?;
        let mut trace = Self::default();
        let ids = bundle.tokenizer.encode(&spec.prompt)?;
        let bytes = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        trace.put("text/input_ids", Dtype::U32, &[1, ids.len()], bytes);
        let text = bundle.encode(&[&spec.prompt])?;
        trace.tensor("text/t5_last_hidden_state", &text.padded)?;
        let wants_negative = plan.is_guided() && !spec.negative_prompt.is_empty();
        let negative = wants_negative
            .then(|| bundle.encode(&[&spec.negative_prompt]))
            .transpose()?;
        if let Some(negative) = &negative {
            trace.tensor("text/neg_t5_last_hidden_state", &negative.padded)?;
        }
        let last = plan.schedule.last();
        let mut watch = Watch {
            trace,
            bundle,
            last,
            failed: None,
        };
        let texts = Texts {
            negative,
            ..text.into()
        };
        generate(bundle.wardrobe(), &texts, &plan, &mut watch)?;
        match watch.failed {
            Some(error) => Err(error),
            None => Ok(watch.trace),
        }
    }

    /// Takes the picture at `path` apart with the tokenizer of `bundle`, after cutting it to the nearest ratio.
    ///
    /// # Errors
    /// [`EngineError::Read`] or [`EngineError::BadSetting`] for a file that is no picture.
    pub fn take_apart(
        bundle: &Bundle,
        path: &Path,
        scale_count: Option<usize>,
    ) -> Result<Self, EngineError> {
        let (image, schedule) = read_picture(path, scale_count.unwrap_or(bundle.info.scale_count))?;
        let d = bundle.vae.config.codebook_dim;
        let fold = if bundle.transformer.config.patchify {
            2
        } else {
            1
        };
        let scales: Vec<Scale> = schedule
            .scales
            .iter()
            .map(|s| Scale {
                h: fold * s.h,
                w: fold * s.w,
            })
            .collect();
        let last = scales.last().copied().unwrap_or(Scale { h: 1, w: 1 });
        let mut trace = Self::default();
        let pixels = bundle.vae.pixels(&image);
        trace.tensor("vae/image_pm1", &pixels)?;
        let features = bundle.vae.encode(pixels);
        trace.tensor("vae/encoder_features", &features)?;
        let features = features
            .try_into_vec_as::<f32>()
            .map_err(|error| EngineError::internal(format!("reading features: {error}")))?;
        let (bits, sum) = encode(&features, d, &scales);
        for (index, (bits, scale)) in bits.into_iter().zip(&scales).enumerate() {
            trace.put(
                &format!("vae/s{index}/bit_labels"),
                Dtype::U8,
                &[1, 1, scale.h, scale.w, d],
                bits,
            );
        }
        trace.values("vae/z_quantized", &[1, d, last.h, last.w], sum.latents());
        let latents = Tensor::<4>::from_data(
            burn::tensor::TensorData::new(sum.latents().to_vec(), [1, d, last.h, last.w]),
            bundle.vae.device(),
        );
        trace.tensor("vae/recon_pm1", &bundle.vae.decode(latents))?;
        Ok(trace)
    }

    /// Names of the tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Writes a `.safetensors` file, whole or not at all.
    ///
    /// # Errors
    /// [`EngineError::Write`] when the disk says no.
    pub fn write(&self, path: &Path) -> Result<(), EngineError> {
        let bad = |error| EngineError::internal(format!("writing a trace: {error}"));
        let views = self
            .tensors
            .iter()
            .map(|(name, (kind, shape, bytes))| {
                Ok((
                    name,
                    TensorView::new(*kind, shape.clone(), bytes).map_err(bad)?,
                ))
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        let bytes = safetensors::serialize(views, None).map_err(bad)?;
        atomic_write(path, &bytes)
    }

    fn put(&mut self, name: &str, kind: Dtype, shape: &[usize], bytes: Vec<u8>) {
        self.tensors
            .insert(name.to_owned(), (kind, shape.to_vec(), bytes));
    }

    fn values(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.put(name, Dtype::F32, shape, bytes);
    }

    fn tensor<const D: usize>(
        &mut self,
        name: &str,
        tensor: &Tensor<D>,
    ) -> Result<(), EngineError> {
        let values = tensor
            .try_to_vec_as::<f32>()
            .map_err(|error| EngineError::internal(format!("reading {name}: {error}")))?;
        self.values(name, &tensor.dims(), &values);
        Ok(())
    }
}

/// Keeps what the drawing loop shows.
struct Watch<'a> {
    trace: Trace,
    bundle: &'a Bundle,
    last: Scale,
    failed: Option<EngineError>,
}

impl Watcher for Watch<'_> {
    fn looks_inside(&self) -> bool {
        true
    }

    fn tensor(&mut self, index: usize, name: &str, tensor: &Tensor<3>) {
        if let Err(error) = self.trace.tensor(&format!("gen/s{index}/{name}"), tensor) {
            self.failed.get_or_insert(error);
        }
    }

    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        let config = &self.bundle.transformer.config;
        let (tokens, bits_per_token, d) = (
            view.scale.tokens(),
            config.token_bits(),
            config.codebook_dim,
        );
        let fold = if config.patchify { 2 } else { 1 };
        let (Some(logits), Some(bits), Some(sum)) =
            (view.logits.first(), view.bits.first(), view.sums.first())
        else {
            return Err(EngineError::internal("a scale without a picture"));
        };
        let name = |what: &str| format!("gen/s{}/{what}", view.index);
        self.trace
            .values(&name("logits"), &[1, tokens, 2 * bits_per_token], logits);
        self.trace.put(
            &name("bits"),
            Dtype::U8,
            &[1, tokens, bits_per_token],
            bits.clone(),
        );
        let codes = [1, d, fold * self.last.h, fold * self.last.w];
        self.trace
            .values(&name("summed_codes"), &codes, sum.latents());
        if view.scale == self.last {
            self.trace.values("gen/final_codes", &codes, sum.latents());
            let latents = burn::tensor::TensorData::new(sum.latents().to_vec(), codes);
            let pixels = self
                .bundle
                .vae
                .decode(Tensor::<4>::from_data(latents, self.bundle.vae.device()));
            self.trace.tensor("gen/image01", &((pixels + 1.0) / 2.0))?;
        }
        Ok(())
    }
}

/// A picture cut and resized to the nearest ratio of the table.
fn read_picture(
    path: &Path,
    scale_count: usize,
) -> Result<(Rgb8Image, ScaleSchedule), EngineError> {
    let refused = |error: image::ImageError| match error {
        image::ImageError::IoError(error) => EngineError::read(path, error),
        error => EngineError::BadSetting {
            what: "The picture",
            value: format!("{path:?}"),
            advice: format!("Use a PNG or JPEG file ({error})."),
        },
    };
    let mut reader = image::ImageReader::open(path)
        .and_then(image::ImageReader::with_guessed_format)
        .map_err(|error| EngineError::read(path, error))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    reader.limits(limits);
    let picture = reader.decode().map_err(refused)?;
    let ratio = picture.height() as f32 / picture.width() as f32;
    let schedule = ScaleSchedule::nearest(ratio, scale_count)?;
    let (width, height) = schedule.size_px();
    let rgb = picture
        .resize_to_fill(width, height, image::imageops::FilterType::Lanczos3)
        .to_rgb8();
    let image = Rgb8Image::new(width, height, rgb.into_raw())
        .ok_or_else(|| EngineError::internal("picture size"))?;
    Ok((image, schedule))
}
