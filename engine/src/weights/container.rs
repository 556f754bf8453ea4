//! What every kind of weight file offers: a table of tensors and a way to read one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use half::f16;

use super::mapped::Mapped;
use super::number::NumberType;
use crate::api::{EngineError, Storage};

/// What a header says of one tensor, checked against the file it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorHead {
    /// Number of values along each axis.
    pub(super) shape: Vec<usize>,
    /// How a value is stored.
    pub(super) kind: NumberType,
}

/// One open weight file.
pub(super) trait Container: Send + Sync {
    /// All tensors by name.
    fn heads(&self) -> &BTreeMap<String, TensorHead>;

    /// Free text the writer left: name to value.
    fn metadata(&self) -> &BTreeMap<String, String>;

    /// The values of the tensor called `name`.
    fn read_f32(&self, name: &str) -> Result<Vec<f32>, EngineError>;

    /// The values of the tensor called `name` in half precision, where the file has them so.
    fn read_f16(&self, _name: &str) -> Result<Option<Vec<f16>>, EngineError> {
        Ok(None)
    }

    /// The values of the tensor called `name` where the file lies, if it can be used there and has them as `storage`
    /// keeps them.
    fn mapped(&self, _name: &str, _storage: Storage) -> Option<Mapped> {
        None
    }
}

/// An I/O error while reading `path`; a file that ends too early is a bad file, not a bad disk.
pub(super) fn read_error(path: &Path, error: io::Error) -> EngineError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        cut_short(path)
    } else {
        EngineError::read(path, error)
    }
}

/// The file has fewer bytes than it promises.
pub(super) fn cut_short(path: &Path) -> EngineError {
    EngineError::bad_model(
        path,
        "the file is cut short or damaged; copy or download it again",
    )
}

/// The tensor `name` holds no floating-point numbers.
pub(super) fn not_floating(path: &Path, name: &str) -> EngineError {
    EngineError::bad_model(
        path,
        format!(
            "{name} does not hold 16, 32 or 64 bit floating-point numbers; convert the file first"
        ),
    )
}

/// No tensor is called `name`.
pub(super) fn no_such_tensor(path: &Path, name: &str) -> EngineError {
    EngineError::BadWeights {
        problems: crate::api::KeyProblems {
            missing: vec![name.to_owned()],
            ..Default::default()
        },
        path: path.to_owned(),
    }
}
