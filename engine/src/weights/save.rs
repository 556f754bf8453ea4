//! Writing files so that a crash leaves the old one or the new one, never half of one.
//!
//! A file is written under a passing name beside its place, flushed to the
//! disk and renamed. Weights leave the device one tensor at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, TensorInfo};
use tempfile::NamedTempFile;

use super::load::matched;
use super::{KeyMap, Network, Slots, WeightFile};
use crate::api::EngineError;

/// Values converted at a time.
const CHUNK: usize = 1 << 18;

/// How many bits a saved value gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveType {
    /// 32 bits: exact.
    F32,
    /// 16 bits: half the size, about three digits.
    F16,
}

impl SaveType {
    const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    const fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
        }
    }
}

/// Writes the weights of `network` to `path`, a `.safetensors` file, with `metadata` in its header.
///
/// The same weights give the same bytes.
///
/// # Errors
/// [`EngineError::Write`] when the disk says no, [`EngineError::NotFinite`] when a weight is
/// not a number or too large for 16 bits; whatever was at `path` is then still there.
pub fn save<N: Network + ?Sized>(
    network: &mut N,
    path: impl AsRef<Path>,
    kind: SaveType,
    metadata: &BTreeMap<String, String>,
) -> Result<(), EngineError> {
    let slots = network.all_slots();
    let mut list = slots.list.iter();
    let values = |name: &str| match list.next() {
        Some(slot) => slot.weight.values(),
        None => Err(EngineError::internal(format!("no value for {name}"))),
    };
    write_tensors(path.as_ref(), &heads(&slots), kind, metadata, values)
}

/// Writes the weights that `network` asks for from `file` to `path`, under the network's names.
///
/// Names and shapes are compared first, as strictly as in [`super::load_into`]; then one tensor
/// at a time is read, checked and written. The network itself stays empty.
///
/// # Errors
/// As [`super::load_into`] and [`save`]; whatever was at `path` is then still there.
pub fn convert<N: Network + ?Sized>(
    network: &mut N,
    file: &WeightFile,
    names: &KeyMap,
    path: impl AsRef<Path>,
    kind: SaveType,
) -> Result<(), EngineError> {
    let slots = network.all_slots();
    let file_names = matched(&slots, file, names)?;
    let mut file_names = file_names.iter();
    let values = |name: &str| match file_names.next() {
        Some(file_name) => file.read_f32(file_name),
        None => Err(EngineError::internal(format!("no value for {name}"))),
    };
    let metadata = BTreeMap::new();
    write_tensors(path.as_ref(), &heads(&slots), kind, &metadata, values)
}

/// Name and shape of every weight.
fn heads(slots: &Slots<'_>) -> Vec<(String, Vec<usize>)> {
    slots
        .list
        .iter()
        .map(|slot| (slot.name.clone(), slot.shape.clone()))
        .collect()
}

/// Writes a `.safetensors` file of `heads`, asking `values` for each tensor once, in their order.
fn write_tensors(
    path: &Path,
    heads: &[(String, Vec<usize>)],
    kind: SaveType,
    metadata: &BTreeMap<String, String>,
    mut values: impl FnMut(&str) -> Result<Vec<f32>, EngineError>,
) -> Result<(), EngineError> {
    let header = header(heads, kind, metadata)?;
    let failed = |error| EngineError::write(path, error);
    write_beside(path, |file| {
        let mut out = BufWriter::new(file);
        out.write_all(&(header.len() as u64).to_le_bytes())
            .map_err(failed)?;
        out.write_all(&header).map_err(failed)?;
        for (name, shape) in heads {
            let values = values(name)?;
            if values.len() != shape.iter().product::<usize>() {
                let what = format!("{name} has another size than listed");
                return Err(EngineError::internal(what));
            }
            for chunk in values.chunks(CHUNK) {
                out.write_all(&bytes_from(chunk, kind, name)?)
                    .map_err(failed)?;
            }
        }
        out.flush().map_err(failed)
    })
}

/// Puts `bytes` at `path`, all of them or, after an error, none.
///
/// # Errors
/// [`EngineError::Write`] when the disk says no; whatever was at `path` is then still there.
pub fn atomic_write(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), EngineError> {
    let path = path.as_ref();
    write_beside(path, |file| {
        file.write_all(bytes)
            .map_err(|error| EngineError::write(path, error))
    })
}

/// Lets `fill` write a file beside `path`, flushes it to the disk and renames it to `path`.
fn write_beside(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let failed = |error| EngineError::write(path, error);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut beside = new_file_in(folder).map_err(failed)?;
    fill(beside.as_file_mut())?;
    beside.as_file().sync_all().map_err(failed)?;
    beside.persist(path).map_err(|error| failed(error.error))?;
    sync_folder(folder).map_err(failed)
}

/// A file that removes itself unless it is renamed, with the rights any new file gets.
#[cfg(unix)]
fn new_file_in(folder: &Path) -> io::Result<NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    // The default would let only the owner read the finished file; the umask still applies.
    let rights = std::fs::Permissions::from_mode(0o666);
    tempfile::Builder::new()
        .prefix(".saving-")
        .permissions(rights)
        .tempfile_in(folder)
}

/// A file that removes itself unless it is renamed.
#[cfg(not(unix))]
fn new_file_in(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".saving-")
        .tempfile_in(folder)
}

/// Makes the rename itself last.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Other systems do not open folders as files; their rename is logged by the file system.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// The JSON header, padded to eight bytes: values in slot order without gaps.
fn header(
    heads: &[(String, Vec<usize>)],
    kind: SaveType,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, EngineError> {
    let bad = |error| EngineError::internal(format!("writing a weight header: {error}"));
    let mut table = serde_json::Map::new();
    if !metadata.is_empty() {
        table.insert(
            "__metadata__".to_owned(),
            serde_json::to_value(metadata).map_err(bad)?,
        );
    }
    let mut start = 0;
    for (name, shape) in heads {
        let end = start + shape.iter().product::<usize>() * kind.size();
        let info = TensorInfo {
            dtype: kind.dtype(),
            shape: shape.clone(),
            data_offsets: (start, end),
        };
        let info = serde_json::to_value(info).map_err(bad)?;
        if table.insert(name.clone(), info).is_some() {
            return Err(EngineError::internal(format!(
                "two weights are called {name}"
            )));
        }
        start = end;
    }
    let mut bytes = serde_json::to_vec(&table).map_err(bad)?;
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

/// The bytes of a chunk of the weight called `name`.
fn bytes_from(values: &[f32], kind: SaveType, name: &str) -> Result<Vec<u8>, EngineError> {
    if !values.iter().all(|value| value.is_finite()) {
        let advice = "Nothing was saved; use an earlier or another file.";
        return Err(not_finite(format!("the weight {name}"), advice));
    }
    match kind {
        SaveType::F32 => Ok(values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()),
        SaveType::F16 => {
            let halves = halves_from(values).ok_or_else(|| {
                not_finite(
                    format!("{name} is too large for 16 bits"),
                    "Nothing was saved; save with 32 bits.",
                )
            })?;
            Ok(halves
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect())
        }
    }
}

fn not_finite(what: String, advice: &str) -> EngineError {
    EngineError::NotFinite {
        what,
        advice: advice.to_owned(),
    }
}

/// The values with 16 bits, unless one does not fit.
fn halves_from(values: &[f32]) -> Option<Vec<f16>> {
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(values);
    halves.iter().all(|half| half.is_finite()).then_some(halves)
}
