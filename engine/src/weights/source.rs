//! Weight files of all kinds behind one type.
//!
//! [`WeightFile`] knows `.safetensors`, `PyTorch` checkpoints, and models cut into
//! several of either. Opening reads and checks headers only; values come one
//! tensor at a time, so a file is never in memory whole.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::container::{Container, TensorHead, no_such_tensor};
use super::mapped::Mapped;
use super::number::{NumberType, Values};
use super::pytorch::PytorchFile;
use super::safetensors_file::SafetensorsFile;
use super::sharded::{ShardIndex, index_in};
use crate::api::{EngineError, Storage};

/// Weights on disk: names, shapes, and values on demand.
pub struct WeightFile {
    path: PathBuf,
    containers: Vec<Box<dyn Container>>,
    /// The place in `containers` of every tensor.
    places: BTreeMap<String, usize>,
}

impl std::fmt::Debug for WeightFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeightFile")
            .field("path", &self.path)
            .field("tensors", &self.places.len())
            .finish_non_exhaustive()
    }
}

impl WeightFile {
    /// Opens a weight file, an `*.index.json`, or a folder with one such index.
    ///
    /// In a `PyTorch` checkpoint the weights may be at the top, under `vae`
    /// (tokenizer files) or under `trainer`, `gpt_fsdp` (training checkpoints).
    ///
    /// # Errors
    /// [`EngineError::Read`] when the disk says no, [`EngineError::BadModel`] when the
    /// contents are damaged, cut short, foreign or no weights at all.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        let path = path.as_ref();
        let about = std::fs::metadata(path).map_err(|error| EngineError::read(path, error))?;
        if about.is_dir() {
            return Self::open_sharded(&index_in(path)?);
        }
        if !about.is_file() {
            return Err(EngineError::bad_model(
                path,
                "it is neither a file nor a folder; choose a weight file",
            ));
        }
        if path
            .to_str()
            .is_some_and(|name| name.ends_with(".index.json"))
        {
            return Self::open_sharded(path);
        }
        Ok(Self::from_container(path, open_container(path)?))
    }

    /// Opens a `PyTorch` checkpoint whose weights are under `keys`, outermost first; none for the top.
    ///
    /// # Errors
    /// As [`Self::open`]; also [`EngineError::BadModel`] when nothing is there.
    pub fn open_with_key(path: impl AsRef<Path>, keys: &[&str]) -> Result<Self, EngineError> {
        let path = path.as_ref();
        let about = std::fs::metadata(path).map_err(|error| EngineError::read(path, error))?;
        if !about.is_file() {
            return Err(EngineError::bad_model(
                path,
                "it is not a file; choose a PyTorch checkpoint",
            ));
        }
        Ok(Self::from_container(
            path,
            Box::new(PytorchFile::open(path, Some(keys))?),
        ))
    }

    fn from_container(path: &Path, container: Box<dyn Container>) -> Self {
        Self {
            path: path.to_owned(),
            places: container
                .heads()
                .keys()
                .map(|name| (name.clone(), 0))
                .collect(),
            containers: vec![container],
        }
    }

    /// Opens all files of an index and checks that they hold what it says, no more and no less.
    fn open_sharded(path: &Path) -> Result<Self, EngineError> {
        let index = ShardIndex::read(path)?;
        let mut containers = Vec::new();
        let mut places = BTreeMap::new();
        let mut problems = crate::api::KeyProblems::default();
        for (place, shard) in index.shards.iter().enumerate() {
            let container = open_container(shard)?;
            for name in container.heads().keys() {
                if index.weight_map.get(name) == Some(shard) {
                    places.insert(name.clone(), place);
                } else {
                    problems.unexpected.push(name.clone());
                }
            }
            containers.push(container);
        }
        problems.missing = index
            .weight_map
            .into_keys()
            .filter(|name| !places.contains_key(name))
            .collect();
        if !problems.is_empty() {
            let path = path.to_owned();
            return Err(EngineError::BadWeights { problems, path });
        }
        Ok(Self {
            path: path.to_owned(),
            containers,
            places,
        })
    }

    /// The file, or the index of several.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no tensor at all.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The shape of the tensor called `name`.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.head(name).map(|head| head.shape.as_slice())
    }

    /// How the values of the tensor called `name` are stored.
    pub fn dtype(&self, name: &str) -> Option<NumberType> {
        self.head(name).map(|head| head.kind)
    }

    /// Whether every matrix is in half precision.
    pub fn is_half(&self) -> bool {
        let heads = self.places.keys().filter_map(|name| self.head(name));
        let mut matrices = heads.filter(|head| head.shape.len() == 2);
        matrices.all(|head| head.kind == NumberType::F16)
    }

    /// Text that a `.safetensors` writer left under `key`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.containers
            .iter()
            .find_map(|container| container.metadata().get(key))
            .map(String::as_str)
    }

    /// The values of the tensor called `name`, last axis fastest.
    ///
    /// # Errors
    /// [`EngineError::BadWeights`] when there is none, [`EngineError::BadModel`] when it holds
    /// no floating-point numbers or is damaged, [`EngineError::Read`] when the disk says no.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, EngineError> {
        self.container(name)
            .ok_or_else(|| no_such_tensor(&self.path, name))?
            .read_f32(name)
    }

    /// The values of the tensor called `name`, in half precision if `half` and the file has them so.
    ///
    /// # Errors
    /// As [`Self::read_f32`].
    pub fn read(&self, name: &str, half: bool) -> Result<Values, EngineError> {
        if half
            && let Some(container) = self.container(name)
            && let Some(values) = container.read_f16(name)?
        {
            return Ok(Values::Half(values));
        }
        self.read_f32(name).map(Values::Single)
    }

    /// The values of the tensor called `name` where the file lies, if they can be used there and are as `storage` keeps
    /// them.
    pub(super) fn mapped(&self, name: &str, storage: Storage) -> Option<Mapped> {
        self.container(name)?.mapped(name, storage)
    }

    fn container(&self, name: &str) -> Option<&dyn Container> {
        self.places
            .get(name)
            .and_then(|&place| self.containers.get(place))
            .map(Box::as_ref)
    }

    fn head(&self, name: &str) -> Option<&TensorHead> {
        self.container(name)?.heads().get(name)
    }
}

/// Opens one file by its ending, or by its first bytes when the ending says nothing.
fn open_container(path: &Path) -> Result<Box<dyn Container>, EngineError> {
    let ending = path
        .extension()
        .and_then(OsStr::to_str)
        .map(str::to_ascii_lowercase);
    match ending.as_deref() {
        Some("safetensors") => Ok(Box::new(SafetensorsFile::open(path)?)),
        Some("pth" | "pt" | "bin" | "ckpt") => Ok(Box::new(PytorchFile::open(path, None)?)),
        _ if starts_like_safetensors(path)? => Ok(Box::new(SafetensorsFile::open(path)?)),
        _ if starts_like_zip(path)? => Ok(Box::new(PytorchFile::open(path, None)?)),
        _ => Err(EngineError::bad_model(
            path,
            "it is no weight file; choose one that ends in .safetensors, .pth or .pt",
        )),
    }
}

fn starts_like_safetensors(path: &Path) -> Result<bool, EngineError> {
    Ok(first_bytes(path)?.get(8) == Some(&b'{'))
}

fn starts_like_zip(path: &Path) -> Result<bool, EngineError> {
    Ok(first_bytes(path)?.starts_with(b"PK\x03\x04"))
}

fn first_bytes(path: &Path) -> Result<Vec<u8>, EngineError> {
    let failed = |error| EngineError::read(path, error);
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(9)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}
