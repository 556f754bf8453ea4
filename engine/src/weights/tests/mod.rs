//! Tests of the whole room, on tiny networks and files made by hand.

mod damaged;
mod folder;
mod golden;
mod mapped;
mod pickles;
mod round_trip;
mod strict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};

use super::{Init, KeyMap, Network, SaveType, Slots, WeightFile, load_into, save};
use crate::api::EngineError;

/// One matrix, one vector and a buffer nobody reads.
struct Tiny {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl Tiny {
    fn new(seed: u64) -> Self {
        let device = Device::flex();
        let mut tiny = Self {
            weight: Tensor::zeros([2, 3], &device),
            bias: Tensor::zeros([3], &device),
        };
        tiny.initialise(seed, &device);
        tiny
    }

    /// All values, to compare.
    fn values(&mut self) -> Vec<f32> {
        let slots = self.all_slots();
        slots
            .list
            .iter()
            .flat_map(|slot| slot.weight.values().unwrap())
            .collect()
    }
}

impl Network for Tiny {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        slots.add(
            format!("{prefix}conv_in.conv.weight"),
            &mut self.weight,
            [2, 3],
            Init::Normal(1.0),
        );
        slots.add(
            format!("{prefix}conv_in.conv.bias"),
            &mut self.bias,
            [3],
            Init::Normal(1.0),
        );
        slots.allow_unused(format!("{prefix}mask"), [4]);
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A `.safetensors` file with these tensors of `f32`.
fn safetensors(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (
            *name,
            TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap(),
        )
    });
    safetensors::serialize(views, None).unwrap()
}

/// Saves `network` without metadata and gives the file's bytes.
fn saved(network: &mut Tiny, folder: &tempfile::TempDir) -> Vec<u8> {
    let path = folder.path().join("saved.safetensors");
    save(network, &path, SaveType::F32, &BTreeMap::new()).unwrap();
    std::fs::read(path).unwrap()
}

fn load(network: &mut Tiny, path: &Path) -> Result<(), EngineError> {
    load_into(
        network,
        &WeightFile::open(path)?,
        &KeyMap::vae(),
        &Device::flex(),
    )
}

/// Refused, with an error about files that names `path`.
fn assert_refused<T: std::fmt::Debug>(result: Result<T, EngineError>, path: &Path) {
    match result {
        Err(
            EngineError::BadModel { path: named, .. }
            | EngineError::BadWeights { path: named, .. }
            | EngineError::Read { path: named, .. },
        ) => assert_eq!(named, path),
        other => panic!("{path:?} gave {other:?}"),
    }
}
