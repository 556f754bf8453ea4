//! One `.safetensors` file: a checked header, and tensors read on demand.
//!
//! The format is eight bytes of header length, a JSON header, then all values
//! (<https://huggingface.co/docs/safetensors>). The header is read whole; of the
//! rest, one tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use half::f16;
use safetensors::tensor::{Dtype, Metadata};

use super::container::{
    Container, TensorHead, cut_short, no_such_tensor, not_floating, read_error,
};
use super::mapped::{self, Mapped};
use super::number::{self, NumberType};
use crate::api::{EngineError, Storage};

/// Bytes of the header length.
const LENGTH_SIZE: u64 = 8;
/// The longest header the format allows.
const MAX_HEADER: u64 = 100_000_000;

/// An open `.safetensors` file.
pub(super) struct SafetensorsFile {
    path: PathBuf,
    file: File,
    heads: BTreeMap<String, TensorHead>,
    /// Where each tensor starts in the file.
    starts: BTreeMap<String, u64>,
    metadata: BTreeMap<String, String>,
    length: u64,
    /// The whole file, once it was asked for and if it can be had.
    map: OnceLock<Option<bytes::Bytes>>,
}

impl SafetensorsFile {
    /// Reads and checks the header.
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        let mut file = File::open(path).map_err(|error| EngineError::read(path, error))?;
        let file_length = file
            .metadata()
            .map_err(|error| EngineError::read(path, error))?
            .len();
        let header_length = read_header_length(&mut file, path, file_length)?;
        let header = read_header(&mut file, path, header_length)?;
        let data_start = LENGTH_SIZE + header_length;
        if data_start.checked_add(header.data_len() as u64) != Some(file_length) {
            return Err(cut_short(path));
        }
        let mut heads = BTreeMap::new();
        let mut starts = BTreeMap::new();
        for name in header.offset_keys() {
            let Some(info) = header.info(&name) else {
                continue;
            };
            starts.insert(name.clone(), data_start + info.data_offsets.0 as u64);
            let kind = number_type(info.dtype);
            heads.insert(
                name,
                TensorHead {
                    shape: info.shape.clone(),
                    kind,
                },
            );
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            heads,
            starts,
            metadata: header
                .metadata()
                .clone()
                .unwrap_or_default()
                .into_iter()
                .collect(),
            length: file_length,
            map: OnceLock::new(),
        })
    }
}

impl Container for SafetensorsFile {
    fn heads(&self) -> &BTreeMap<String, TensorHead> {
        &self.heads
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, EngineError> {
        let (head, mut reader) = self.find(name)?;
        if head.kind == NumberType::Other {
            return Err(not_floating(&self.path, name));
        }
        let count = head.shape.iter().product();
        number::read_f32(&mut reader, head.kind, count)
            .map_err(|error| read_error(&self.path, error))
    }

    fn read_f16(&self, name: &str) -> Result<Option<Vec<f16>>, EngineError> {
        let (head, mut reader) = self.find(name)?;
        if head.kind != NumberType::F16 {
            return Ok(None);
        }
        let values = number::read_f16(&mut reader, head.shape.iter().product());
        values
            .map(Some)
            .map_err(|error| read_error(&self.path, error))
    }

    fn mapped(&self, name: &str, storage: Storage) -> Option<Mapped> {
        let (head, &start) = self.heads.get(name).zip(self.starts.get(name))?;
        if !Mapped::fits(head.kind, storage) {
            return None;
        }
        let map = self
            .map
            .get_or_init(|| mapped::map(&self.file, self.length));
        let bytes = head.shape.iter().product::<usize>() * head.kind.size()?;
        let start = usize::try_from(start).ok()?;
        let map = map.as_ref().filter(|map| start + bytes <= map.len())?;
        Mapped::new(map.slice(start..start + bytes), storage)
    }
}

impl SafetensorsFile {
    /// What is said of a tensor, and a reader at its first value.
    fn find(&self, name: &str) -> Result<(&TensorHead, Reader<'_>), EngineError> {
        let found = self.heads.get(name).zip(self.starts.get(name));
        let (head, &start) = found.ok_or_else(|| no_such_tensor(&self.path, name))?;
        let file = &self.file;
        Ok((head, Reader { file, at: start }))
    }
}

/// Reads on from a place of a file of its own, whatever others read.
struct Reader<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let count = std::os::unix::fs::FileExt::read_at(self.file, bytes, self.at)?;
        #[cfg(windows)]
        let count = std::os::windows::fs::FileExt::seek_read(self.file, bytes, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The header's length, when the file can hold such a header.
fn read_header_length(file: &mut File, path: &Path, file_length: u64) -> Result<u64, EngineError> {
    let mut bytes = 0_u64.to_le_bytes();
    file.read_exact(&mut bytes)
        .map_err(|error| read_error(path, error))?;
    let length = u64::from_le_bytes(bytes);
    if length > MAX_HEADER || length > file_length.saturating_sub(LENGTH_SIZE) {
        let reason = "it does not start like a .safetensors file, or is cut short; copy or download it again";
        return Err(EngineError::bad_model(path, reason));
    }
    Ok(length)
}

/// The header; the crate checks that the tensors follow each other without gaps and fit their shapes.
fn read_header(file: &mut File, path: &Path, length: u64) -> Result<Metadata, EngineError> {
    let mut bytes = Vec::new();
    file.take(length)
        .read_to_end(&mut bytes)
        .map_err(|error| read_error(path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let reason = format!("its header is damaged: {error}; copy or download the file again");
        EngineError::bad_model(path, reason)
    })
}

fn number_type(kind: Dtype) -> NumberType {
    match kind {
        Dtype::F16 => NumberType::F16,
        Dtype::BF16 => NumberType::Bf16,
        Dtype::F32 => NumberType::F32,
        Dtype::F64 => NumberType::F64,
        _ => NumberType::Other,
    }
}
