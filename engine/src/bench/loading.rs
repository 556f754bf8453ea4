//! How long weights take from a file into memory, beside reading the file and doing nothing with it.

use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use half::f16;
use serde::Serialize;

use crate::api::{DeviceInfo, EngineError, Storage};
use crate::device::OpenDevice;
use crate::memory;
use crate::model::{ModelConfig, Transformer};
use crate::weights::{KeyMap, Network as _, WeightFile, load_as};

/// Bytes read or written at a time.
const PIECE: usize = 1 << 20;
/// Between two looks at the memory of the process.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One way to keep what is loaded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Load {
    /// What large matrices are kept in.
    pub storage: Storage,
    /// Seconds.
    pub secs: f32,
    /// Memory that the process holds more afterwards, in bytes.
    pub held: u64,
    /// How much more than that it held on the way, in bytes.
    pub on_top: u64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadingReport {
    /// Where.
    pub device: DeviceInfo,
    /// Length of the file, in bytes; half precision.
    pub bytes: u64,
    /// Seconds to read it without keeping anything, once the system has it in memory.
    pub read_secs: f32,
    /// Ways to keep it.
    pub loads: Vec<Load>,
}

/// Writes a transformer of `config` with random weights in half precision.
fn write_random(config: &ModelConfig, device: &OpenDevice, path: &Path) -> std::io::Result<u64> {
    let mut network = Transformer::new(config, &device.device, usize::MAX);
    let mut table = serde_json::Map::new();
    let mut end = 0;
    for slot in network.all_slots().list {
        let start = end;
        end += 2 * slot.len();
        let about = serde_json::json!({ "dtype": "F16", "shape": slot.shape, "data_offsets": [start, end] });
        table.insert(slot.name, about);
    }
    let mut head = serde_json::to_vec(&table)?;
    // Values that are aligned can be used where they lie.
    head.resize(head.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(PIECE, File::create(path)?);
    file.write_all(&(head.len() as u64).to_le_bytes())?;
    file.write_all(&head)?;
    let mut state = 1_u32;
    for _ in 0..end / 2 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let value = f16::from_f32((state >> 16) as f32 / 65_536.0 - 0.5);
        file.write_all(&value.to_le_bytes())?;
    }
    file.into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()?;
    Ok((8 + head.len() + end) as u64)
}

fn read_through(path: &Path) -> std::io::Result<f32> {
    let begun = Instant::now();
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    while file.read(&mut piece)? > 0 {}
    Ok(begun.elapsed().as_secs_f32())
}

/// Loads `path` and says how long it took, and what the process held beyond `before`.
fn load(
    config: &ModelConfig,
    device: &OpenDevice,
    path: &Path,
    storage: Storage,
    before: u64,
) -> Result<Load, EngineError> {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !is_done.load(Ordering::Relaxed) {
                most = most.max(memory::held_by_process());
                std::thread::sleep(LOOK_EVERY);
            }
            most
        });
        let begun = Instant::now();
        let mut network = Transformer::new(config, &device.device, usize::MAX);
        let kept = |name: &str| storage.only_if(ModelConfig::is_in_block(name));
        // Whatever comes of it, the watcher is told to stop.
        let loaded = WeightFile::open(path).and_then(|file| {
            let names = KeyMap::published();
            load_as(&mut network, &file, &names, &device.device, kept)
        });
        let secs = begun.elapsed().as_secs_f32();
        is_done.store(true, Ordering::Relaxed);
        let most = watch.join().unwrap_or(0);
        loaded?;
        let after = memory::held_by_process();
        Ok(Load {
            storage,
            secs,
            held: after.saturating_sub(before),
            on_top: most.saturating_sub(after),
        })
    })
}

/// Writes a transformer of `config` into `folder` and loads it in all ways.
///
/// # Errors
/// File errors with the path, and what loading returns.
pub fn loading(
    config: &ModelConfig,
    device: &OpenDevice,
    folder: &Path,
) -> Result<LoadingReport, EngineError> {
    let path = folder.join("transformer.safetensors");
    let failed = |error| EngineError::write(&path, error);
    let bytes = write_random(config, device, &path).map_err(failed)?;
    let mut read_secs = f32::INFINITY;
    for _ in 0..3 {
        let secs = read_through(&path).map_err(|error| EngineError::read(&path, error))?;
        read_secs = read_secs.min(secs);
    }
    let before = memory::held_by_process();
    // From small to large: what the allocator does not give back at once is used again.
    let ways = [Storage::Eight, Storage::Half, Storage::Single];
    let loads = ways.map(|storage| load(config, device, &path, storage, before));
    Ok(LoadingReport {
        device: device.info.clone(),
        bytes,
        read_secs,
        loads: loads.into_iter().collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DeviceChoice;
    use crate::device;

    #[test]
    fn a_small_file_is_loaded_in_all_ways() {
        let device = device::open(DeviceChoice::Cpu).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let report = loading(&ModelConfig::m125(32), &device, folder.path()).unwrap();
        let length = std::fs::metadata(folder.path().join("transformer.safetensors")).unwrap();
        assert_eq!(length.len(), report.bytes);
        assert_eq!(report.loads.len(), 3);
        let [eight, half, single] = [0, 1, 2].map(|way| report.loads[way].held);
        assert!(eight < single && half < single, "{report:?}");
        // Half precision is used where the file lies, and Linux tells that apart.
        assert_eq!(half < eight, cfg!(target_os = "linux"), "{report:?}");
        assert!(single > report.bytes, "{report:?}");
    }
}
