//! A model ready to draw: transformer, picture tokenizer, text encoder.

use std::path::{Path, PathBuf};

use crate::api::{EngineError, ModelInfo, RatioInfo, Rgb8Image};
use crate::device::OpenDevice;
use crate::model::{ModelConfig, Transformer};
use crate::schedule::{PIXELS_PER_TOKEN, RATIOS, Scale, ScaleSchedule};
use crate::text::{PromptTokenizer, T5Config, T5Encoder, TextFeatures};
use crate::vae::bsq::ResidualSum;
use crate::vae::{Vae, VaeConfig};
use crate::weights::{Defaults, KeyMap, ModelFolder, Network, WeightFile, load_into};

/// A model ready to draw.
pub struct Bundle {
    /// The transformer.
    pub transformer: Transformer,
    /// The picture tokenizer.
    pub vae: Vae,
    /// The text encoder.
    pub text: T5Encoder,
    /// Words to ids.
    pub tokenizer: PromptTokenizer,
    /// What the window needs to know.
    pub info: ModelInfo,
    /// Where it came from.
    pub folder: PathBuf,
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
        let code_places = if model_config.patchify { 8 } else { 16 };
        if vae_config.patch_size != code_places
            || vae_config.codebook_dim != model_config.codebook_dim
            || text_config.d_model != model_config.text_channels
        {
            let reason = "the sizes of transformer, tokenizer and text encoder do not fit each other; import them again";
            return Err(EngineError::bad_model(ModelFolder::description_path(folder), reason));
        }
        let tokenizer = PromptTokenizer::open(&files.text_tokenizer_path(), model_config.text_maxlen)?;
        if tokenizer.id_limit() > text_config.vocab_size {
            let reason = "the tokenizer has more words than the text encoder; the two belong to different models";
            return Err(EngineError::bad_model(files.text_tokenizer_path(), reason));
        }
        let (burn, limit) = (&device.device, device.max_elements);
        let mut transformer = Transformer::new(&model_config, burn, limit);
        load_into(&mut transformer, &WeightFile::open(files.transformer_path())?, &KeyMap::published(), burn)?;
        let mut vae = Vae::new(&vae_config, burn, limit);
        load_into(&mut vae, &WeightFile::open(files.vae_path())?, &KeyMap::vae(), burn)?;
        let mut text = T5Encoder::new(&text_config, burn);
        load_into(&mut text, &WeightFile::open(files.text_weights_path())?, &KeyMap::text(), burn)?;
        let parameters = transformer.parameter_count() + vae.parameter_count() + text.parameter_count();
        let description = &files.model;
        let info = model_info(&description.name, &description.about, &description.example_prompts, &description.defaults, parameters)?;
        Ok(Self { transformer, vae, text, tokenizer, info, folder: folder.to_owned() })
    }

    /// Text features of `prompts`, one row each.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the tokenizer fails.
    pub fn encode(&self, prompts: &[&str]) -> Result<TextFeatures, EngineError> {
        let ids = prompts
            .iter()
            .map(|prompt| self.tokenizer.encode(prompt))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(self.text.forward(&ids))
    }

    /// The picture so far, at the resolution of `scale`; `last` is the plan's finest grid.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] or [`EngineError::Internal`] from decoding.
    pub fn preview(&self, sum: &ResidualSum, scale: Scale, last: Scale) -> Result<Rgb8Image, EngineError> {
        let fold = if self.transformer.config.patchify { 2 } else { 1 };
        let size = Scale { h: fold * scale.h, w: fold * scale.w };
        if scale == last {
            self.vae.picture(sum.latents(), size)
        } else {
            self.vae.picture(&sum.at(size), size)
        }
    }
}

fn model_info(name: &str, about: &str, prompts: &[String], defaults: &Defaults, parameters: u64) -> Result<ModelInfo, EngineError> {
    let ratios = RATIOS
        .iter()
        .map(|&ratio| {
            let last = ScaleSchedule::nearest(ratio, defaults.scale_count)?.last();
            let px = |count: usize| (count * PIXELS_PER_TOKEN) as u32;
            Ok(RatioInfo { ratio, width: px(last.w), height: px(last.h) })
        })
        .collect::<Result<_, EngineError>>()?;
    Ok(ModelInfo {
        name: name.to_owned(),
        about: about.to_owned(),
        parameters,
        scale_count: defaults.scale_count,
        cfg: defaults.cfg,
        tau: defaults.tau,
        ratios,
        example_prompts: prompts.to_vec(),
    })
}
