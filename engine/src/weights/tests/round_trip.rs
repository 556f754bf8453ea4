//! What is saved is what is loaded.

use half::{bf16, f16};

use super::super::{NumberType, atomic_write};
use super::*;

fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("step".to_owned(), "12".to_owned()),
        ("note".to_owned(), "a \"quote\" é".to_owned()),
    ])
}

#[test]
fn full_precision_comes_back_exactly() {
    let folder = folder();
    let path = folder.path().join("tiny.safetensors");
    let mut first = Tiny::new(1);
    save(&mut first, &path, SaveType::F32, &metadata()).unwrap();
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(
        file.names().collect::<Vec<_>>(),
        ["conv_in.conv.bias", "conv_in.conv.weight"]
    );
    assert_eq!(file.shape("conv_in.conv.weight"), Some([2, 3].as_slice()));
    assert_eq!(file.dtype("conv_in.conv.bias"), Some(NumberType::F32));
    assert_eq!(file.metadata("note"), Some("a \"quote\" é"));
    assert_eq!(
        (file.len(), file.shape("x"), file.metadata("x")),
        (2, None, None)
    );
    let mut second = Tiny::new(2);
    assert_ne!(first.values(), second.values());
    load(&mut second, &path).unwrap();
    assert_eq!(first.values(), second.values());
}

#[test]
fn other_programs_can_read_it() {
    let folder = folder();
    let mut tiny = Tiny::new(1);
    let bytes = saved(&mut tiny, &folder);
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(
        theirs.tensor("conv_in.conv.weight").unwrap().shape(),
        [2, 3]
    );
    assert_eq!(theirs.len(), 2);
}

#[test]
fn same_weights_give_same_bytes() {
    let folder = folder();
    let save_one = || {
        let path = folder.path().join("tiny.safetensors");
        save(&mut Tiny::new(1), &path, SaveType::F16, &metadata()).unwrap();
        std::fs::read(path).unwrap()
    };
    assert_eq!(save_one(), save_one());
}

#[test]
fn half_precision_is_the_nearest_half() {
    let folder = folder();
    let path = folder.path().join("tiny.safetensors");
    let mut first = Tiny::new(1);
    save(&mut first, &path, SaveType::F16, &BTreeMap::new()).unwrap();
    let mut second = Tiny::new(2);
    load(&mut second, &path).unwrap();
    let nearest: Vec<f32> = first
        .values()
        .into_iter()
        .map(|v| f16::from_f32(v).to_f32())
        .collect();
    assert_eq!(second.values(), nearest);
}

#[test]
fn unfit_numbers_are_not_saved_and_the_old_file_stays() {
    let folder = folder();
    let path = write(&folder, "tiny.safetensors", b"old");
    let check = |value: f32, kind| {
        let mut tiny = Tiny::new(1);
        tiny.bias = Tensor::from_floats([1.0, value, 2.0], &Device::flex());
        let error = save(&mut tiny, &path, kind, &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, EngineError::NotFinite { .. }), "{error}");
        assert!(error.to_string().contains("conv_in.conv.bias"), "{error}");
    };
    check(f32::NAN, SaveType::F32);
    check(f32::INFINITY, SaveType::F16);
    check(70_000.0, SaveType::F16);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn every_floating_kind_is_read() {
    let values = [1.5_f32, -0.25, 0.0, 3.0e-2];
    let check = |kind: Dtype, bytes: Vec<u8>, named: NumberType, wanted: Vec<f32>| {
        let folder = folder();
        let view = TensorView::new(kind, vec![4], &bytes).unwrap();
        let path = write(
            &folder,
            "a.safetensors",
            &safetensors::serialize([("a", view)], None).unwrap(),
        );
        let file = WeightFile::open(&path).unwrap();
        assert_eq!(file.dtype("a"), Some(named));
        assert_eq!(file.read_f32("a").unwrap(), wanted);
    };
    let half = values.map(f16::from_f32);
    let brain = values.map(bf16::from_f32);
    let bytes = half.iter().flat_map(|v| v.to_le_bytes()).collect();
    check(
        Dtype::F16,
        bytes,
        NumberType::F16,
        half.map(f16::to_f32).to_vec(),
    );
    let bytes = brain.iter().flat_map(|v| v.to_le_bytes()).collect();
    check(
        Dtype::BF16,
        bytes,
        NumberType::Bf16,
        brain.map(bf16::to_f32).to_vec(),
    );
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    check(Dtype::F32, bytes, NumberType::F32, values.to_vec());
    let bytes = values
        .iter()
        .flat_map(|v| f64::from(*v).to_le_bytes())
        .collect();
    check(Dtype::F64, bytes, NumberType::F64, values.to_vec());
}

#[test]
fn tensors_longer_than_a_chunk_are_whole() {
    let folder = folder();
    let values: Vec<f32> = (0..300_000).map(|i| i as f32).collect();
    let path = write(
        &folder,
        "a.safetensors",
        &safetensors(&[("a", &[300, 1000], &values)]),
    );
    assert_eq!(
        WeightFile::open(&path).unwrap().read_f32("a").unwrap(),
        values
    );
}

#[test]
fn integers_are_listed_and_not_read() {
    let folder = folder();
    let view = TensorView::new(Dtype::I64, vec![1], &[0; 8]).unwrap();
    let path = write(
        &folder,
        "a.safetensors",
        &safetensors::serialize([("a", view)], None).unwrap(),
    );
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.dtype("a"), Some(NumberType::Other));
    assert_refused(file.read_f32("a"), &path);
    assert_refused(file.read_f32("b"), &path);
}

#[test]
fn an_empty_tensor_is_no_trouble() {
    let folder = folder();
    let path = write(
        &folder,
        "a.safetensors",
        &safetensors(&[("a", &[0, 3], &[])]),
    );
    assert_eq!(
        WeightFile::open(&path).unwrap().read_f32("a").unwrap(),
        Vec::<f32>::new()
    );
}

#[test]
fn a_write_replaces_or_fails() {
    let folder = folder();
    let path = write(&folder, "note.txt", b"old");
    atomic_write(&path, b"new").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
    let below_a_file = path.join("below.txt");
    for bad in [
        below_a_file,
        folder.path().to_owned(),
        folder.path().join("no/such/folder.txt"),
    ] {
        let error = atomic_write(&bad, b"x").unwrap_err();
        assert!(
            matches!(&error, EngineError::Write { path, .. } if *path == bad),
            "{error}"
        );
        let error = save(&mut Tiny::new(1), &bad, SaveType::F32, &BTreeMap::new()).unwrap_err();
        assert!(
            matches!(&error, EngineError::Write { path, .. } if *path == bad),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_written_file_has_usual_rights() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let usual = write(&folder, "usual", b"");
    let ours = folder.path().join("ours");
    atomic_write(&ours, b"").unwrap();
    let rights = |path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(rights(ours), rights(usual));
}
