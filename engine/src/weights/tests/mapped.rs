//! Large matrices are used where their file lies, and nobody can tell but by the time and the memory.

use burn::tensor::DType;
use half::f16;

use super::super::load_as;
use super::*;
use crate::api::{DeviceChoice, Storage};
use crate::device;

/// Rows and columns of a matrix of 66 MiB in half precision.
const SHAPE: [usize; 2] = [33 << 10, 1 << 10];

struct Large(Tensor<2>);

impl Network for Large {
    fn slots<'a>(&'a mut self, _prefix: &str, slots: &mut Slots<'a>) {
        slots.add("weight".to_owned(), &mut self.0, SHAPE, Init::Constant(0.0));
    }
}

fn value(index: usize) -> f16 {
    f16::from_f32((index % 2039) as f32 - 1000.0)
}

/// A file of such a matrix, its header longer by some blanks.
fn file(blanks: usize, bad: Option<usize>) -> Vec<u8> {
    let count = SHAPE[0] * SHAPE[1];
    let header = serde_json::json!({
        "weight": { "dtype": "F16", "shape": SHAPE, "data_offsets": [0, 2 * count] }
    });
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8) + blanks, b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    for index in 0..count {
        let value = if bad == Some(index) {
            f16::INFINITY
        } else {
            value(index)
        };
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

fn load_half(path: &Path, device: &Device) -> Result<Large, EngineError> {
    let mut large = Large(Tensor::zeros([1, 1], device));
    let file = WeightFile::open(path)?;
    load_as(&mut large, &file, &KeyMap::published(), device, |_| {
        Storage::Half
    })?;
    Ok(large)
}

fn assert_right(large: &Large) {
    assert_eq!((large.0.dtype(), large.0.dims()), (DType::F16, SHAPE));
    let values: Vec<f16> = large.0.clone().try_into_vec_as().unwrap();
    let wrong = values
        .iter()
        .enumerate()
        .find(|(index, found)| **found != value(*index));
    assert_eq!(wrong, None);
}

#[test]
fn a_large_matrix_stays_where_it_lies() {
    let folder = folder();
    let path = write(&folder, "large.safetensors", &file(0, None));
    let is_mapped = |path: &Path| {
        WeightFile::open(path)
            .unwrap()
            .mapped("weight", Storage::Half)
            .is_some()
    };
    assert_eq!(is_mapped(&path), cfg!(all(unix, target_endian = "little")));
    // A graphics device takes it from there.
    match device::open(DeviceChoice::Software) {
        Ok(open) => assert_right(&load_half(&path, &open.device).unwrap()),
        Err(_) => eprintln!("SKIPPED: no software graphics driver"),
    }
    let large = load_half(&path, &Device::flex()).unwrap();
    // Another file may take its place meanwhile.
    let other = write(&folder, "other.safetensors", &file(1, None));
    std::fs::rename(&other, &path).unwrap();
    assert_right(&large);
    // Values at odd places are read.
    assert!(!is_mapped(&path));
    assert_right(&load_half(&path, &Device::flex()).unwrap());
    // Other precisions are made of it.
    assert!(
        WeightFile::open(&path)
            .unwrap()
            .mapped("weight", Storage::Single)
            .is_none()
    );
}

#[test]
fn a_value_that_is_none_is_found_where_it_lies() {
    let folder = folder();
    let bad = SHAPE[0] * SHAPE[1] - 2;
    let path = write(&folder, "bad.safetensors", &file(0, Some(bad)));
    match load_half(&path, &Device::flex()).map(|_| ()) {
        Err(EngineError::NotFinite { what, .. }) => {
            assert!(what.contains(&format!("value {bad}")), "{what}");
        }
        other => panic!("{other:?}"),
    }
}
