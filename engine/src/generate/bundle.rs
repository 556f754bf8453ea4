//! A model ready to draw: transformer, picture tokenizer, text encoder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use burn::tensor::Device;

use super::{Codes, Layout, Outcome, Plan, ScaleView, Texts, Watcher, generate};
use crate::api::{
    EngineError, GenerateSpec, Keeping, LoraWish, ModelInfo, RatioInfo, Rgb8Image, Storage,
};
use crate::device::OpenDevice;
use crate::kernels::{self, Precision, with_precision};
use crate::lora::{self, LoraInfo};
use crate::memory::{self, Sizes};
use crate::model::{ModelConfig, Transformer};
use crate::read_back::read_back;
use crate::schedule::{MAX_SCALES, PIXELS_PER_TOKEN, RATIOS, Scale, ScaleSchedule};
use crate::text::{PromptTokenizer, T5Config, T5Encoder, TextFeatures};
use crate::vae::bsq::ResidualSum;
use crate::vae::{Decoding, Vae, VaeConfig};
use crate::weights::{
    KeyMap, ModelFolder, ModelJson, Network, SaveType, WeightFile, atomic_write, load_as,
    load_into, save,
};

/// A model ready to draw.
pub struct Bundle {
    /// The transformer.
    pub transformer: Transformer,
    /// The picture tokenizer.
    pub vae: Vae,
    /// The text encoder, while it is there.
    text: OnceLock<T5Encoder>,
    text_config: T5Config,
    /// Words to ids.
    pub tokenizer: PromptTokenizer,
    /// What `model.json` says.
    pub description: ModelJson,
    /// What the window needs to know.
    pub info: ModelInfo,
    /// Where it came from.
    pub folder: PathBuf,
    /// The adapters that are on, with the time their file was written.
    pub(super) worn: Vec<(LoraWish, Option<SystemTime>)>,
    pub(super) worn_infos: Vec<LoraInfo>,
    /// The transformer as it is dressed scale by scale, where that differs.
    pub(super) by_scale: Vec<Transformer>,
    tokenizer_identity: OnceLock<String>,
}

fn open_text(
    files: &ModelFolder,
    config: &T5Config,
    device: &Device,
    weights: Storage,
) -> Result<T5Encoder, EngineError> {
    let mut text = T5Encoder::new(config, device);
    let file = WeightFile::open(files.text_weights_path())?;
    let names = KeyMap::text();
    let kept = |name: &str| weights.only_if(T5Config::is_large(name));
    load_as(&mut text, &file, &names, device, kept)?;
    Ok(text)
}

impl Bundle {
    /// Loads the model folder at `folder` onto `device`.
    ///
    /// # Errors
    /// [`EngineError::BadModel`], [`EngineError::BadWeights`], [`EngineError::BadSetting`],
    /// [`EngineError::NotFinite`] or [`EngineError::Read`], naming the file.
    pub fn open(folder: &Path, device: &OpenDevice) -> Result<Self, EngineError> {
        let files = ModelFolder::open(folder)?;
        let model_config: ModelConfig = files.transformer_config()?;
        let vae_config: VaeConfig = files.vae_config()?;
        model_config.check()?;
        vae_config.check()?;
        let text_config = T5Config::open(&files.text_config_path())?;
        if !fit_together(&model_config, &vae_config, &text_config) {
            let reason = "the sizes of transformer, tokenizer and text encoder do not fit each other; import them again";
            return Err(EngineError::bad_model(
                ModelFolder::description_path(folder),
                reason,
            ));
        }
        let tokenizer =
            PromptTokenizer::open(&files.text_tokenizer_path(), model_config.text_maxlen)?;
        if tokenizer.id_limit() > text_config.vocab_size {
            let reason = "the tokenizer has more words than the text encoder; the two belong to different models";
            return Err(EngineError::bad_model(files.text_tokenizer_path(), reason));
        }
        let (burn, limit) = (&device.device, device.max_elements);
        let sizes = Sizes::new(&model_config, &vae_config, &text_config);
        let scales = files.model.defaults.scale_count;
        let weights = WeightFile::open(files.transformer_path())?;
        let is_half = weights.is_half() && WeightFile::open(files.text_weights_path())?.is_half();
        let keeping = memory::keeping(&sizes, scales, device, device.weights, is_half)?;
        let mut transformer = Transformer::new(&model_config, burn, limit);
        load_as(
            &mut transformer,
            &weights,
            &KeyMap::published(),
            burn,
            |name| keeping.weights.only_if(ModelConfig::is_in_block(name)),
        )?;
        let mut vae = Vae::new(&vae_config, burn, limit);
        load_into(
            &mut vae,
            &WeightFile::open(files.vae_path())?,
            &KeyMap::vae(),
            burn,
        )?;
        if keeping.halves_tokenizer() {
            vae.keep_half();
        }
        transformer.keep_cache(keeping.cache);
        let text = open_text(&files, &text_config, burn, keeping.weights)?;
        let mut bundle = Self::from_parts(transformer, vae, text, tokenizer, files.model, folder)?;
        bundle.info.keeping = keeping;
        bundle.info.memory = (1..=MAX_SCALES)
            .map(|count| memory::square_picture(&sizes, count, device, keeping))
            .collect::<Result<_, _>>()?;
        bundle.leave_text();
        Ok(bundle)
    }

    /// A model from networks that are in memory already.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] for a scale count outside the table.
    pub fn from_parts(
        mut transformer: Transformer,
        mut vae: Vae,
        mut text: T5Encoder,
        tokenizer: PromptTokenizer,
        description: ModelJson,
        folder: &Path,
    ) -> Result<Self, EngineError> {
        let parameters =
            transformer.parameter_count() + vae.parameter_count() + text.parameter_count();
        let info = model_info(&description, parameters)?;
        Ok(Self {
            transformer,
            vae,
            text_config: text.config().clone(),
            text: text.into(),
            tokenizer,
            description,
            info,
            folder: folder.to_owned(),
            worn: Vec::new(),
            worn_infos: Vec::new(),
            by_scale: Vec::new(),
            tokenizer_identity: OnceLock::new(),
        })
    }

    /// Sizes of its networks.
    pub fn sizes(&self) -> Sizes {
        Sizes::new(
            &self.transformer.config,
            &self.vae.config,
            &self.text_config,
        )
    }

    /// The text encoder; loaded again when it had left.
    ///
    /// # Errors
    /// What loading returns.
    pub fn text(&self) -> Result<&T5Encoder, EngineError> {
        if let Some(text) = self.text.get() {
            return Ok(text);
        }
        let files = ModelFolder::open(&self.folder)?;
        let text = open_text(
            &files,
            &self.text_config,
            self.transformer.device(),
            self.info.keeping.weights,
        )?;
        Ok(self.text.get_or_init(|| text))
    }

    /// The text encoder, to look at its weights; loaded again when it had left.
    ///
    /// # Errors
    /// What loading returns.
    pub fn text_mut(&mut self) -> Result<&mut T5Encoder, EngineError> {
        self.text()?;
        let gone = || EngineError::internal("the text encoder is gone");
        self.text.get_mut().ok_or_else(gone)
    }

    /// Has the text encoder leave memory where it and a picture do not fit together; the next text loads it again.
    pub fn leave_text(&mut self) {
        if !self.info.keeping.text_stays {
            self.text.take();
        }
    }

    /// Writes the model and its text tokenizer to a new folder, which appears only when it is whole.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_copy(&mut self, folder: &Path) -> Result<(), EngineError> {
        let failed = |error| EngineError::write(folder, error);
        let parent = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(failed)?;
        let beside = tempfile::tempdir_in(parent).map_err(failed)?;
        let tokenizer = ModelFolder::open(&self.folder)?.text_tokenizer_path();
        let bytes =
            std::fs::read(&tokenizer).map_err(|error| EngineError::read(&tokenizer, error))?;
        std::fs::create_dir_all(beside.path().join("text")).map_err(failed)?;
        atomic_write(beside.path().join("text/tokenizer.json"), &bytes)?;
        self.save(beside.path())?;
        std::fs::rename(beside.path(), folder).map_err(failed)?;
        let _gone = beside.keep();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            // Folders for passing use are closed to others; a model is not.
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(folder, open).map_err(failed)?;
        }
        Ok(())
    }

    /// Writes the model to `folder` in half precision; the text tokenizer must be there already.
    ///
    /// # Errors
    /// [`EngineError::Write`] or [`EngineError::NotFinite`], naming the file.
    pub fn save(&mut self, folder: &Path) -> Result<(), EngineError> {
        let none = BTreeMap::new();
        let text_folder = folder.join("text");
        std::fs::create_dir_all(&text_folder)
            .map_err(|error| EngineError::write(&text_folder, error))?;
        save(
            &mut self.transformer,
            folder.join("transformer.safetensors"),
            SaveType::F16,
            &none,
        )?;
        save(
            &mut self.vae,
            folder.join("vae.safetensors"),
            SaveType::F16,
            &none,
        )?;
        save(
            self.text_mut()?,
            text_folder.join("model.safetensors"),
            SaveType::F16,
            &none,
        )?;
        let config = serde_json::to_vec_pretty(&self.text_config)
            .map_err(|error| EngineError::internal(error.to_string()))?;
        atomic_write(text_folder.join("config.json"), &config)?;
        self.description
            .write(ModelFolder::description_path(folder))
    }

    /// Draws one picture from beginning to end.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] for a meaningless wish, else what drawing returns.
    pub fn draw(&self, spec: &GenerateSpec) -> Result<Rgb8Image, EngineError> {
        struct Nobody;
        impl Watcher for Nobody {
            fn scale(&mut self, _view: &ScaleView<'_>) -> Result<(), EngineError> {
                Ok(())
            }
        }
        let mut plan = Plan::new(spec, self.info.scale_count, self.transformer.config.depth)?;
        plan.keep(spec, self.transformer.config.token_bits(), "")?;
        let text = self.encode(&[&spec.prompt])?;
        let encoded = |text: &str| (!text.is_empty()).then(|| self.encode(&[text])).transpose();
        let texts = Texts {
            prompt: text,
            detail: encoded(&spec.detail_prompt)?,
            negative: encoded(&spec.negative_prompt)?,
        };
        let work = || match generate(self.wardrobe(), &texts, &plan, &mut Nobody)? {
            Outcome::Done(sums) => {
                let sum = sums
                    .first()
                    .ok_or_else(|| EngineError::internal("no picture"))?;
                let last = plan.schedule.last();
                self.preview(sum, last, last)
            }
            Outcome::Cancelled => Err(EngineError::internal("drawing stopped by nobody")),
        };
        with_precision(Precision::wished(spec.half_products), work)
    }

    /// Identity of the picture tokenizer, which says what bits mean.
    ///
    /// # Errors
    /// [`EngineError::Read`] with the path.
    pub fn tokenizer_identity(&self) -> Result<String, EngineError> {
        if let Some(known) = self.tokenizer_identity.get() {
            return Ok(known.clone());
        }
        let identity = lora::file_identity(&ModelFolder::open(&self.folder)?.vae_path())?;
        Ok(self.tokenizer_identity.get_or_init(|| identity).clone())
    }

    /// `picture`, brought to the size of `schedule`, in codes.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] for a picture without pixels, [`EngineError::NotFinite`] or
    /// [`EngineError::Internal`] from encoding.
    pub fn codes_of(
        &self,
        picture: &Rgb8Image,
        schedule: &ScaleSchedule,
    ) -> Result<Codes, EngineError> {
        let (width, height) = schedule.size_px();
        let picture = picture
            .resized(width, height)
            .ok_or_else(|| EngineError::BadSetting {
                what: "The picture",
                value: format!("{}×{}", picture.width, picture.height),
                advice: "It has no pixels.".to_owned(),
            })?;
        let encode = || self.vae.encode(self.vae.pixels(&picture));
        let features = with_precision(Precision::Single, encode);
        let features = read_back(features, "encoding the picture")?;
        if features.iter().any(|value| !value.is_finite()) {
            return Err(EngineError::NotFinite {
                what: "while encoding the picture".to_owned(),
                advice: "The model file may be damaged; copy it again.".to_owned(),
            });
        }
        let layout = Layout::of(&self.transformer.config, schedule.last());
        Ok(layout.encode(&features, &schedule.scales))
    }

    /// Text features of `prompts`, one row each; always in f32, as they are kept for other pictures.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the tokenizer fails.
    pub fn encode(&self, prompts: &[&str]) -> Result<TextFeatures, EngineError> {
        let ids = prompts
            .iter()
            .map(|prompt| self.tokenizer.encode(prompt))
            .collect::<Result<Vec<_>, _>>()?;
        let text = self.text()?;
        Ok(with_precision(Precision::Single, || text.forward(&ids)))
    }

    /// The picture so far, at the resolution of `scale`; `last` is the plan's finest grid.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] or [`EngineError::Internal`] from decoding.
    pub fn preview(
        &self,
        sum: &ResidualSum,
        scale: Scale,
        last: Scale,
    ) -> Result<Rgb8Image, EngineError> {
        self.begin_preview(sum, scale, last).finish()
    }

    /// The same of several pictures, one after the other; on the processor as many side by side as have no more places
    /// together than a picture at `last`.
    pub fn previews<'a>(
        &'a self,
        sums: &'a [ResidualSum],
        scale: Scale,
        last: Scale,
    ) -> impl Iterator<Item = Result<Rgb8Image, EngineError>> + 'a {
        let fit = last.tokens() / scale.tokens().max(1);
        let at_once = if self.works_by_itself() {
            1
        } else {
            fit.clamp(1, rayon::current_num_threads())
        };
        sums.chunks(at_once).flat_map(move |sums| {
            let one = |sum: &'a ResidualSum| move || self.preview(sum, scale, last);
            kernels::side_by_side(sums.iter().map(one).collect())
        })
    }

    /// Whether the device goes on by itself with what it was given.
    pub fn works_by_itself(&self) -> bool {
        self.transformer.device().clone().without_autodiff() != Device::flex()
    }

    /// The same, asked of the device and not waited for.
    pub fn begin_preview(&self, sum: &ResidualSum, scale: Scale, last: Scale) -> Decoding {
        let size = Layout::of(&self.transformer.config, last).code_scale(scale);
        if scale == last {
            self.vae.begin_picture(sum.latents(), size)
        } else {
            self.vae.begin_picture(&sum.at(size), size)
        }
    }
}

/// Whether the three networks of a model speak of the same codes and text features.
pub fn fit_together(model: &ModelConfig, vae: &VaeConfig, text: &T5Config) -> bool {
    let code_places = if model.patchify { 8 } else { 16 };
    vae.patch_size == code_places
        && vae.codebook_dim == model.codebook_dim
        && text.d_model == model.text_channels
}

fn model_info(description: &ModelJson, parameters: u64) -> Result<ModelInfo, EngineError> {
    let defaults = &description.defaults;
    let ratios = RATIOS
        .iter()
        .map(|&ratio| {
            let last = ScaleSchedule::nearest(ratio, defaults.scale_count)?.last();
            let px = |count: usize| (count * PIXELS_PER_TOKEN) as u32;
            Ok(RatioInfo {
                ratio,
                width: px(last.w),
                height: px(last.h),
            })
        })
        .collect::<Result<_, EngineError>>()?;
    let square = ScaleSchedule::nearest(1.0, defaults.scale_count)?;
    let side = |scale: &Scale| (scale.w * PIXELS_PER_TOKEN) as u32;
    Ok(ModelInfo {
        name: description.name.clone(),
        about: description.about.clone(),
        parameters,
        scale_count: defaults.scale_count,
        cfg: defaults.cfg,
        tau: defaults.tau,
        ratios,
        sides: square.scales.iter().map(side).collect(),
        memory: Vec::new(),
        keeping: Keeping::default(),
        example_prompts: description.example_prompts.clone(),
        practice_prompts: description.practice_prompts.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::Bundle;
    use crate::api::{DeviceChoice, Rgb8Image};
    use crate::device;
    use crate::generate::Layout;
    use crate::random::Stream;
    use crate::schedule::ScaleSchedule;
    use std::path::Path;

    /// To the byte, however many threads there are, where the last of them are too few for all threads, and where more threads
    /// are there than may go side by side.
    #[test]
    fn previews_side_by_side_are_previews() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter");
        let device = device::open(DeviceChoice::Cpu).unwrap();
        let bundle = Bundle::open(&folder, &device).unwrap();
        let schedule = ScaleSchedule::nearest(1.0, 7).unwrap();
        let last = schedule.last();
        let layout = Layout::of(&bundle.transformer.config, last);
        for (scale, threads) in [(2, 1), (2, 2), (2, 3), (4, 5)] {
            let scale = schedule.scales[scale];
            let count = scale.tokens() * bundle.transformer.config.token_bits();
            let sum = |seed| {
                let stream = Stream::new(seed, 0);
                let bits = (0..count as u64).map(|i| u8::from(stream.normal(i) > 0.0));
                let mut sum = layout.empty();
                layout.add(&mut sum, &bits.collect::<Vec<_>>(), scale);
                sum
            };
            let sums: Vec<_> = (0..5).map(sum).collect();
            let alone = sums.iter().map(|sum| bundle.preview(sum, scale, last));
            let alone: Vec<Rgb8Image> = alone.map(Result::unwrap).collect();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let together: Vec<Rgb8Image> = pool.build().unwrap().install(|| {
                let previews = bundle.previews(&sums, scale, last);
                previews.map(Result::unwrap).collect()
            });
            assert!(together == alone, "{scale:?}, {threads} threads");
        }
    }
}
