//! The index of a model cut into several files: which tensor is in which file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::container::read_error;
use crate::api::EngineError;

/// Longest index file; the published ones are under a megabyte.
const MAX_INDEX: u64 = 100_000_000;
/// Most files a model may be cut into: each stays open.
const MAX_SHARDS: usize = 200;

#[derive(serde::Deserialize)]
struct IndexJson {
    weight_map: BTreeMap<String, String>,
}

/// What an index file says.
pub(super) struct ShardIndex {
    /// The file of every tensor, beside the index.
    pub(super) weight_map: BTreeMap<String, PathBuf>,
    /// The files, each once.
    pub(super) shards: BTreeSet<PathBuf>,
}

impl ShardIndex {
    /// Reads `path`, a `*.index.json`.
    pub(super) fn read(path: &Path) -> Result<Self, EngineError> {
        let bytes = read_limited(path, MAX_INDEX)?;
        let index: IndexJson = serde_json::from_slice(&bytes).map_err(|error| {
            let reason = format!("it is no index of weight files: {error}; get the file again");
            EngineError::bad_model(path, reason)
        })?;
        let mut weight_map = BTreeMap::new();
        for (name, file) in index.weight_map {
            if !is_plain_name(&file) || file.ends_with(".index.json") {
                let reason = format!(
                    "{file:?} is not the name of a weight file beside the index; get the index again"
                );
                return Err(EngineError::bad_model(path, reason));
            }
            weight_map.insert(name, path.with_file_name(file));
        }
        let shards: BTreeSet<PathBuf> = weight_map.values().cloned().collect();
        if shards.len() > MAX_SHARDS {
            let reason = format!(
                "it names {} files, more than {MAX_SHARDS}; join them first",
                shards.len()
            );
            return Err(EngineError::bad_model(path, reason));
        }
        Ok(Self { weight_map, shards })
    }
}

/// The one `*.index.json` of `folder`.
pub(super) fn index_in(folder: &Path) -> Result<PathBuf, EngineError> {
    let failed = |error| EngineError::read(folder, error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .to_str()
            .is_some_and(|name| name.ends_with(".index.json"))
        {
            found.push(path);
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        (None, _) => Err(EngineError::bad_model(
            folder,
            "it is a folder without an .index.json of weight files; choose the weight file itself",
        )),
        (Some(_), false) => Err(EngineError::bad_model(
            folder,
            "it has several .index.json files; choose one of them",
        )),
    }
}

/// All bytes of a file of at most `limit` bytes.
pub(super) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, EngineError> {
    let failed = |error| EngineError::read(path, error);
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(EngineError::bad_model(
            path,
            "it is not a file; choose another one",
        ));
    }
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| read_error(path, error))?;
    if bytes.len() as u64 > limit {
        let reason = format!("it is longer than {limit} bytes; choose another file");
        return Err(EngineError::bad_model(path, reason));
    }
    Ok(bytes)
}

/// Whether `name` names a file in the same folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    ) && !name.contains(['/', '\\'])
}
