//! The model folder: `model.json`, the weights it names, and the text encoder's files.
//!
//! The hyper-parameters of the networks pass through untyped: each network's
//! room turns its part into its own configuration type.

use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::save::atomic_write;
use super::sharded::read_limited;
use crate::api::EngineError;

/// The description's name inside a model folder.
const FILE_NAME: &str = "model.json";
/// Longest description.
const MAX_LENGTH: u64 = 1 << 20;
/// The format this program reads and writes.
const FORMAT: u64 = 1;
/// The one kind of model this program draws with.
const KIND: &str = "infinity";

/// Settings that suit a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// Guidance; 1 is off.
    pub cfg: f32,
    /// Sampling temperature.
    pub tau: f32,
    /// Scales to draw.
    pub scale_count: usize,
}

/// Where the parts are, relative to the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileNames {
    /// Weights of the transformer: a file, an index or a folder with an index.
    pub transformer: String,
    /// Weights of the picture tokenizer.
    pub vae: String,
    /// Folder of the text encoder.
    pub text: String,
}

impl Default for FileNames {
    fn default() -> Self {
        Self {
            transformer: "transformer.safetensors".to_owned(),
            vae: "vae.safetensors".to_owned(),
            text: "text".to_owned(),
        }
    }
}

/// The contents of `model.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelJson {
    format: u64,
    kind: String,
    /// Name for people.
    pub name: String,
    /// One quiet line: what this model can draw.
    #[serde(default)]
    pub about: String,
    /// Prompts that work well.
    #[serde(default)]
    pub example_prompts: Vec<String>,
    /// Prompts of pictures that the model draws itself for lessons, so that it does not forget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub practice_prompts: Vec<String>,
    /// Settings that suit the model.
    pub defaults: Defaults,
    /// Hyper-parameters of the transformer.
    pub transformer: Value,
    /// Hyper-parameters of the picture tokenizer.
    pub vae: Value,
    /// Where the parts are.
    #[serde(default)]
    pub files: FileNames,
}

impl ModelJson {
    /// A description with the usual file names and nothing to say yet.
    pub fn new(
        name: impl Into<String>,
        defaults: Defaults,
        transformer: Value,
        vae: Value,
    ) -> Self {
        Self {
            format: FORMAT,
            kind: KIND.to_owned(),
            name: name.into(),
            about: String::new(),
            example_prompts: Vec::new(),
            practice_prompts: Vec::new(),
            defaults,
            transformer,
            vae,
            files: FileNames::default(),
        }
    }

    /// Reads the description at `path`.
    ///
    /// # Errors
    /// [`EngineError::Read`] when there is none, [`EngineError::BadModel`] when it is of another
    /// kind or format, too long, or not understood.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        let path = path.as_ref();
        let bytes = read_limited(path, MAX_LENGTH)?;
        let refused = |reason: String| EngineError::bad_model(path, reason);
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
            refused(format!(
                "its text is not JSON: {error}; get the folder again"
            ))
        })?;
        // Before anything else, so that a later format is not called damaged.
        check_kind(&value).map_err(refused)?;
        let model: Self = serde_json::from_value(value).map_err(|error| {
            refused(format!("{error}; correct the line or get the folder again"))
        })?;
        model.check().map_err(refused)?;
        Ok(model)
    }

    /// Writes the description to `path`.
    ///
    /// # Errors
    /// [`EngineError::Write`] when the disk says no; [`EngineError::BadModel`] when the
    /// description would not be read back.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), EngineError> {
        let path = path.as_ref();
        self.check()
            .map_err(|reason| EngineError::bad_model(path, reason))?;
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| EngineError::internal(format!("writing {FILE_NAME}: {error}")))?;
        text.push(b'\n');
        atomic_write(path, &text)
    }

    /// What is wrong with the values, when something is.
    fn check(&self) -> Result<(), String> {
        let Defaults {
            cfg,
            tau,
            scale_count,
        } = self.defaults;
        if !(cfg.is_finite() && cfg >= 0.0 && tau.is_finite() && tau > 0.0 && scale_count > 0) {
            return Err(format!(
                "the defaults cfg {cfg}, tau {tau}, scale_count {scale_count} draw nothing; correct them"
            ));
        }
        for file in [&self.files.transformer, &self.files.vae, &self.files.text] {
            if !is_inside(file) {
                return Err(format!(
                    "{file:?} is not the name of a file inside the model folder; correct it"
                ));
            }
        }
        Ok(())
    }
}

/// A model folder whose parts are all there.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFolder {
    folder: PathBuf,
    /// The description.
    pub model: ModelJson,
}

impl ModelFolder {
    /// Reads the description of `folder` and checks that every file is there.
    ///
    /// # Errors
    /// As [`ModelJson::read`]; [`EngineError::BadModel`] also for a folder without a
    /// description or with a part missing.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, EngineError> {
        let folder = folder.as_ref();
        let about = std::fs::metadata(folder).map_err(|error| EngineError::read(folder, error))?;
        let description = Self::description_path(folder);
        if !about.is_dir() || !description.is_file() {
            let reason =
                format!("it is no folder with a {FILE_NAME}; choose the folder of a model");
            return Err(EngineError::bad_model(folder, reason));
        }
        let opened = Self {
            folder: folder.to_owned(),
            model: ModelJson::read(description)?,
        };
        for part in opened.parts() {
            if !part.exists() {
                let reason = "this part of the model is not there; copy the whole folder again";
                return Err(EngineError::bad_model(part, reason));
            }
        }
        Ok(opened)
    }

    /// Where the description of `folder` is.
    pub fn description_path(folder: impl AsRef<Path>) -> PathBuf {
        folder.as_ref().join(FILE_NAME)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Weights of the transformer.
    pub fn transformer_path(&self) -> PathBuf {
        self.folder.join(&self.model.files.transformer)
    }

    /// Weights of the picture tokenizer.
    pub fn vae_path(&self) -> PathBuf {
        self.folder.join(&self.model.files.vae)
    }

    /// Hyper-parameters of the text encoder.
    pub fn text_config_path(&self) -> PathBuf {
        self.text_path("config.json")
    }

    /// Weights of the text encoder.
    pub fn text_weights_path(&self) -> PathBuf {
        self.text_path("model.safetensors")
    }

    /// The word tokenizer of the text encoder.
    pub fn text_tokenizer_path(&self) -> PathBuf {
        self.text_path("tokenizer.json")
    }

    /// The transformer's hyper-parameters as its own configuration type.
    ///
    /// # Errors
    /// [`EngineError::BadModel`] when they are not understood.
    pub fn transformer_config<T: DeserializeOwned>(&self) -> Result<T, EngineError> {
        self.config("transformer", &self.model.transformer)
    }

    /// The picture tokenizer's hyper-parameters as its own configuration type.
    ///
    /// # Errors
    /// [`EngineError::BadModel`] when they are not understood.
    pub fn vae_config<T: DeserializeOwned>(&self) -> Result<T, EngineError> {
        self.config("vae", &self.model.vae)
    }

    fn config<T: DeserializeOwned>(&self, part: &str, value: &Value) -> Result<T, EngineError> {
        T::deserialize(value).map_err(|error| {
            let reason = format!("\"{part}\": {error}; correct it or get the folder again");
            EngineError::bad_model(Self::description_path(&self.folder), reason)
        })
    }

    fn text_path(&self, name: &str) -> PathBuf {
        self.folder.join(&self.model.files.text).join(name)
    }

    fn parts(&self) -> [PathBuf; 5] {
        [
            self.transformer_path(),
            self.vae_path(),
            self.text_config_path(),
            self.text_weights_path(),
            self.text_tokenizer_path(),
        ]
    }
}

/// Refuses other kinds and formats by name.
fn check_kind(value: &Value) -> Result<(), String> {
    match value.get("kind") {
        Some(Value::String(kind)) if kind == KIND => {}
        Some(kind) => {
            return Err(format!(
                "its kind is {kind}, and this program knows \"{KIND}\"; choose another model"
            ));
        }
        None => {
            return Err(format!(
                "it does not say its \"kind\"; choose a folder with an {KIND} model"
            ));
        }
    }
    match value.get("format") {
        Some(format) if format.as_u64() == Some(FORMAT) => Ok(()),
        Some(format) => Err(format!(
            "its format is {format}, and this program reads format {FORMAT}; get the latest version of this program"
        )),
        None => Err("it does not say its \"format\"; get the folder again".to_owned()),
    }
}

/// Whether `name` is a relative path that stays inside its folder.
fn is_inside(name: &str) -> bool {
    let path = Path::new(name);
    path.components().next().is_some()
        && !name.contains('\\')
        && path
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}
