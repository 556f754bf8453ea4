//! Makes a model folder of released files.
//!
//! The files are compared with the network their shapes describe, name by name,
//! before anything is written; then tensors pass through one at a time. The
//! folder is made beside its place and renamed when it is whole.

mod sizes;

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::api::EngineError;
use crate::generate::fit_together;
use crate::model::Transformer;
use crate::text::{PromptTokenizer, T5Config, T5Encoder};
use crate::vae::Vae;
use crate::weights::{
    Defaults, KeyMap, ModelFolder, ModelJson, SaveType, WeightFile, atomic_write, check, convert,
};

/// Names of a text encoder's weights, the likelier first.
const TEXT_WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// What to import, and how.
#[derive(Clone, Debug)]
pub struct ImportSpec {
    /// Weights of the transformer: a file, an index or a folder with an index.
    pub transformer: PathBuf,
    /// Weights of the picture tokenizer.
    pub vae: PathBuf,
    /// Folder of the text encoder, as published.
    pub text: PathBuf,
    /// The model folder to make; absent or empty.
    pub out: PathBuf,
    /// Bits per weight.
    pub kind: SaveType,
    /// Name for people.
    pub name: String,
    /// One quiet line: what the model can draw.
    pub about: String,
    /// Settings that suit the model.
    pub defaults: Defaults,
}

/// Makes the model folder that `spec` describes; `progress` is told each step, a phrase for people.
///
/// # Errors
/// [`EngineError::BadModel`], [`EngineError::BadWeights`], [`EngineError::BadSetting`],
/// [`EngineError::NotFinite`], [`EngineError::Read`] or [`EngineError::Write`]; nothing is left behind.
pub fn import(spec: &ImportSpec, progress: &mut dyn FnMut(&str)) -> Result<(), EngineError> {
    refuse_taken(&spec.out)?;
    progress("comparing names and shapes");
    let vae_file = WeightFile::open(&spec.vae)?;
    let vae_config = sizes::vae_sizes(&vae_file)?;
    let transformer_file = WeightFile::open(&spec.transformer)?;
    let model_config = sizes::transformer_sizes(&transformer_file, vae_config.codebook_dim)?;
    let text_config = T5Config::open(&spec.text.join("config.json"))?;
    if !fit_together(&model_config, &vae_config, &text_config) {
        let reason = format!(
            "transformer ({} text channels), picture tokenizer ({} pixels per code) and text encoder ({} channels) do not belong together; choose files of one model",
            model_config.text_channels, vae_config.patch_size, text_config.d_model
        );
        return Err(EngineError::bad_model(&spec.transformer, reason));
    }
    let tokenizer_path = spec.text.join("tokenizer.json");
    let tokenizer = PromptTokenizer::open(&tokenizer_path, model_config.text_maxlen)?;
    if tokenizer.id_limit() > text_config.vocab_size {
        let reason = "it has more words than the text encoder; the two belong to different models";
        return Err(EngineError::bad_model(tokenizer_path, reason));
    }
    let text_file = WeightFile::open(text_weights(&spec.text)?)?;
    // Networks without weights: they know names and shapes and hold nothing.
    let device = Device::flex();
    let mut transformer = Transformer::new(&model_config, &device, usize::MAX);
    let mut vae = Vae::new(&vae_config, &device, usize::MAX);
    let mut text = T5Encoder::new(&text_config, &device);
    check(&mut transformer, &transformer_file, &KeyMap::published())?;
    check(&mut vae, &vae_file, &KeyMap::vae())?;
    check(&mut text, &text_file, &KeyMap::text())?;

    let json = |error| EngineError::internal(format!("writing sizes: {error}"));
    let mut model = ModelJson::new(
        spec.name.clone(),
        spec.defaults.clone(),
        serde_json::to_value(&model_config).map_err(json)?,
        serde_json::to_value(&vae_config).map_err(json)?,
    );
    model.about.clone_from(&spec.about);
    let beside = folder_beside(&spec.out)?;
    let parts = Parts {
        transformer: (transformer, transformer_file),
        vae: (vae, vae_file),
        text: (text, text_file),
    };
    // The user knows nothing of the folder beside.
    fill(beside.path(), spec, parts, &model, &text_config, progress).map_err(
        |error| match error {
            EngineError::Write { source, .. } => EngineError::Write {
                path: spec.out.clone(),
                source,
            },
            error => error,
        },
    )?;
    put_in_place(beside, &spec.out)
}

/// Networks without weights, and the files that have them.
struct Parts {
    transformer: (Transformer, WeightFile),
    vae: (Vae, WeightFile),
    text: (T5Encoder, WeightFile),
}

/// Writes everything into `folder`.
fn fill(
    folder: &Path,
    spec: &ImportSpec,
    parts: Parts,
    model: &ModelJson,
    text_config: &T5Config,
    progress: &mut dyn FnMut(&str),
) -> Result<(), EngineError> {
    let Parts {
        transformer: (mut transformer, transformer_file),
        vae: (mut vae, vae_file),
        text: (mut text, text_file),
    } = parts;
    let text_folder = folder.join(&model.files.text);
    std::fs::create_dir(&text_folder).map_err(|error| EngineError::write(&text_folder, error))?;
    progress("writing the transformer");
    let path = folder.join(&model.files.transformer);
    convert(
        &mut transformer,
        &transformer_file,
        &KeyMap::published(),
        path,
        spec.kind,
    )?;
    progress("writing the picture tokenizer");
    convert(
        &mut vae,
        &vae_file,
        &KeyMap::vae(),
        folder.join(&model.files.vae),
        spec.kind,
    )?;
    progress("writing the text encoder");
    convert(
        &mut text,
        &text_file,
        &KeyMap::text(),
        text_folder.join("model.safetensors"),
        spec.kind,
    )?;
    let text_json = serde_json::to_vec_pretty(text_config)
        .map_err(|error| EngineError::internal(format!("writing sizes: {error}")))?;
    atomic_write(text_folder.join("config.json"), &text_json)?;
    let tokenizer_path = spec.text.join("tokenizer.json");
    let words = std::fs::read(&tokenizer_path)
        .map_err(|error| EngineError::read(&tokenizer_path, error))?;
    atomic_write(text_folder.join("tokenizer.json"), &words)?;
    model.write(ModelFolder::description_path(folder))
}

/// Refuses a place where something is.
fn refuse_taken(out: &Path) -> Result<(), EngineError> {
    let entries = match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(EngineError::write(out, error)),
    };
    if entries {
        let error =
            std::io::Error::new(std::io::ErrorKind::AlreadyExists, "the folder is not empty");
        return Err(EngineError::write(out, error));
    }
    Ok(())
}

/// The file with the weights of the text encoder in `folder`.
fn text_weights(folder: &Path) -> Result<PathBuf, EngineError> {
    let found = TEXT_WEIGHTS
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        let reason = format!(
            "none of {} is in it; choose the folder of the text encoder",
            TEXT_WEIGHTS.join(", ")
        );
        EngineError::bad_model(folder, reason)
    })
}

/// A folder that removes itself unless it is renamed, on the same disk as `out`.
fn folder_beside(out: &Path) -> Result<tempfile::TempDir, EngineError> {
    let failed = |error| EngineError::write(out, error);
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".importing-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // The default would let only the owner see the finished folder; the umask still applies.
        builder.permissions(std::fs::Permissions::from_mode(0o777));
    }
    builder.tempdir_in(parent).map_err(failed)
}

/// Renames the finished folder to its place.
fn put_in_place(beside: tempfile::TempDir, out: &Path) -> Result<(), EngineError> {
    if out.is_dir() {
        // Empty, as seen before; renaming onto a folder does not work everywhere.
        std::fs::remove_dir(out).map_err(|error| EngineError::write(out, error))?;
    }
    std::fs::rename(beside.path(), out).map_err(|error| EngineError::write(out, error))?;
    // Nothing is left under the old name to remove.
    let _gone = beside.keep();
    Ok(())
}
