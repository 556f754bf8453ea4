//! One `PyTorch` checkpoint (`.pth`, `.pt`, `.bin`), read without running anything in it.
//!
//! The `pytorch-reader` crate interprets the few pickle calls that rebuild
//! tensors and keeps every other call as an inert name. A file that holds such
//! names, apart from a short list of harmless settings, is refused here. The
//! parser is not ours and sees untrusted bytes, so a panic in it is caught and
//! becomes an error too. It also walks nested values by recursion, a thousand
//! levels at most, for which a usual thread's stack is too small: parsing has a
//! thread of its own.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader, Tensor};

use super::container::{
    Container, TensorHead, cut_short, no_such_tensor, not_floating, read_error,
};
use super::number::{self, NumberType};
use crate::api::EngineError;

/// Where published checkpoints keep their weights, when not at the top.
const KNOWN_PLACES: [&[&str]; 2] = [&["vae"], &["trainer", "gpt_fsdp"]];

/// Things other than tensors that training checkpoints hold and that are safe to pass over.
const HARMLESS: [&str; 12] = [
    "int",
    "torch.Tensor",
    "torch.TypedStorage",
    "torch.UntypedStorage",
    "torch.device",
    "torch.Size",
    "torch.torch_version.TorchVersion",
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "pathlib.PosixPath",
];

/// Stack for the deepest nesting the parser allows, with room to spare.
const PARSER_STACK: usize = 128 << 20;

/// An open `PyTorch` checkpoint.
pub(super) struct PytorchFile {
    path: PathBuf,
    heads: BTreeMap<String, TensorHead>,
    tensors: BTreeMap<String, Tensor>,
    metadata: BTreeMap<String, String>,
}

impl PytorchFile {
    /// Opens the dictionary under `keys`, or the usual one when `None`.
    pub(super) fn open(path: &Path, keys: Option<&[&str]>) -> Result<Self, EngineError> {
        std::thread::scope(|scope| {
            let parser = std::thread::Builder::new()
                .name("checkpoint parser".to_owned())
                .stack_size(PARSER_STACK)
                .spawn_scoped(scope, || Self::parse(path, keys))
                .map_err(|error| EngineError::read(path, error))?;
            parser.join().unwrap_or_else(|_| Err(senseless(path)))
        })
    }

    /// What [`Self::open`] does, on whatever stack there is. No nested value outlives it.
    fn parse(path: &Path, keys: Option<&[&str]>) -> Result<Self, EngineError> {
        let file_length = std::fs::metadata(path)
            .map_err(|error| EngineError::read(path, error))?
            .len();
        let root = guarded(path, || PytorchReader::read_pickle_data(path, None))?;
        refuse_foreign(path, &root)?;
        let keys = keys.unwrap_or_else(|| usual_place(&root));
        enter(path, &root, keys)?;
        // The crate flattens everything under the first key, so that is where names could meet.
        refuse_double_names(path, enter(path, &root, keys.get(..1).unwrap_or_default())?)?;
        let all = match keys.first() {
            Some(key) => guarded(path, || PytorchReader::with_top_level_key(path, key))?,
            None => guarded(path, || PytorchReader::new(path))?,
        };
        let prefix: String = keys.iter().skip(1).map(|key| format!("{key}.")).collect();
        let mut heads = BTreeMap::new();
        let mut tensors = BTreeMap::new();
        let all: BTreeMap<String, Tensor> = all.into_tensors().into_iter().collect();
        for (name, tensor) in all {
            let Some(name) = name.strip_prefix(&prefix) else {
                continue;
            };
            if tensor.byte_len() as u64 > file_length {
                let reason =
                    format!("{name} claims more values than the file holds; get the file again");
                return Err(EngineError::bad_model(path, reason));
            }
            let head = TensorHead {
                shape: tensor.shape().to_vec(),
                kind: number_type(tensor.dtype()),
            };
            heads.insert(name.to_owned(), head);
            tensors.insert(name.to_owned(), tensor);
        }
        Ok(Self {
            path: path.to_owned(),
            heads,
            tensors,
            metadata: BTreeMap::new(),
        })
    }
}

impl Container for PytorchFile {
    fn heads(&self) -> &BTreeMap<String, TensorHead> {
        &self.heads
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, EngineError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(no_such_tensor(&self.path, name));
        };
        let kind = number_type(tensor.dtype());
        if kind == NumberType::Other {
            return Err(not_floating(&self.path, name));
        }
        // The crate hands out the machine's byte order, which is little-endian wherever this program runs.
        let bytes = guarded(&self.path, || tensor.read().map_err(PytorchError::Io))?;
        if bytes.len() != tensor.byte_len() {
            return Err(cut_short(&self.path));
        }
        let mut values = number::room_for(tensor.num_elements())
            .map_err(|error| read_error(&self.path, error))?;
        number::push_f32(kind, &bytes, &mut values);
        Ok(values)
    }
}

/// Runs the foreign parser; its errors and its panics become ours.
fn guarded<T>(
    path: &Path,
    parse: impl FnOnce() -> Result<T, PytorchError>,
) -> Result<T, EngineError> {
    match catch_unwind(AssertUnwindSafe(parse)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(PytorchError::Io(error))) if error.raw_os_error().is_some() => {
            Err(EngineError::read(path, error))
        }
        Ok(Err(error)) => Err(EngineError::bad_model(
            path,
            format!(
                "it is damaged or no PyTorch checkpoint of plain weights: {error}; get the file again"
            ),
        )),
        Err(_) => Err(senseless(path)),
    }
}

/// The parser panicked.
fn senseless(path: &Path) -> EngineError {
    EngineError::bad_model(
        path,
        "its contents make no sense to the checkpoint reader; get the file again",
    )
}

/// Refuses a file that names Python things beyond tensors and harmless settings.
///
/// None of them would be run; a weight file that carries them is not what it claims to be.
fn refuse_foreign(path: &Path, value: &PickleValue) -> Result<(), EngineError> {
    match value {
        PickleValue::Unsupported(name) if !is_harmless(name) => Err(EngineError::bad_model(
            path,
            format!(
                "it holds a Python object ({name}), which weights have no use for; nothing was run; get the weights as .safetensors from a source you trust"
            ),
        )),
        PickleValue::List(items) => items.iter().try_for_each(|item| refuse_foreign(path, item)),
        PickleValue::Dict(entries) => entries
            .values()
            .try_for_each(|item| refuse_foreign(path, item)),
        _ => Ok(()),
    }
}

fn is_harmless(name: &str) -> bool {
    const NUMBERS: [&str; 6] = ["float", "bfloat", "int", "uint", "bool", "half"];
    let number_type = |rest: &str| {
        let word = rest.trim_end_matches(|c: char| c.is_ascii_digit());
        NUMBERS.contains(&word)
    };
    HARMLESS.contains(&name) || name.strip_prefix("torch.").is_some_and(number_type)
}

/// The first known place that is there; the top otherwise.
fn usual_place(root: &PickleValue) -> &'static [&'static str] {
    let is_there = |keys: &&&[&str]| {
        keys.iter()
            .try_fold(root, |value, key| entry(value, key))
            .is_some_and(is_dict)
    };
    KNOWN_PLACES.iter().find(is_there).copied().unwrap_or(&[])
}

fn is_dict(value: &PickleValue) -> bool {
    matches!(value, PickleValue::Dict(_))
}

fn entry<'a>(value: &'a PickleValue, key: &str) -> Option<&'a PickleValue> {
    match value {
        PickleValue::Dict(entries) => entries.get(key),
        _ => None,
    }
}

/// The dictionary under `keys`.
fn enter<'a>(
    path: &Path,
    root: &'a PickleValue,
    keys: &[&str],
) -> Result<&'a PickleValue, EngineError> {
    let mut value = root;
    for key in keys {
        value = entry(value, key).ok_or_else(|| {
            let reason = format!(
                "it has no weights under \"{}\"; choose another file",
                keys.join(".")
            );
            EngineError::bad_model(path, reason)
        })?;
    }
    if is_dict(value) {
        Ok(value)
    } else {
        Err(EngineError::bad_model(
            path,
            "it holds no table of weights; choose another file",
        ))
    }
}

/// Refuses a nested and a dotted key that spell the same name, of which one would win by chance.
fn refuse_double_names(path: &Path, dict: &PickleValue) -> Result<(), EngineError> {
    let mut names = Vec::new();
    tensor_names(dict, "", &mut names);
    names.sort_unstable();
    match names
        .windows(2)
        .find(|pair| pair.first() == pair.last())
        .and_then(<[String]>::first)
    {
        Some(name) => Err(EngineError::bad_model(
            path,
            format!("it holds two tensors called {name}; get the file again"),
        )),
        None => Ok(()),
    }
}

fn tensor_names(value: &PickleValue, prefix: &str, names: &mut Vec<String>) {
    match value {
        PickleValue::Dict(entries) => {
            entries.iter().for_each(|(key, item)| {
                let name = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                tensor_names(item, &name, names);
            });
        }
        PickleValue::Unsupported(kind) if kind == "torch.Tensor" => names.push(prefix.to_owned()),
        _ => {}
    }
}

fn number_type(kind: DType) -> NumberType {
    match kind {
        DType::F16 => NumberType::F16,
        DType::BF16 => NumberType::Bf16,
        DType::F32 => NumberType::F32,
        DType::F64 => NumberType::F64,
        _ => NumberType::Other,
    }
}
