//! Damaged and foreign files are refused, and never end the program.

use super::pickles::checkpoint;
use super::*;

/// Opening and loading either fails, or gives what the whole file gives.
fn assert_error_or_same(path: &Path, wanted: &[f32]) {
    let mut tiny = Tiny::new(9);
    if load(&mut tiny, path).is_ok() {
        assert_eq!(tiny.values(), wanted, "{path:?}");
    }
}

#[test]
fn every_shorter_file_is_refused() {
    let folder = folder();
    for (name, whole) in [
        ("short.safetensors", saved(&mut Tiny::new(1), &folder)),
        ("short.pth", checkpoint()),
    ] {
        for length in 0..whole.len() {
            let path = write(&folder, name, &whole[..length]);
            assert_refused(load(&mut Tiny::new(2), &path), &path);
        }
    }
}

#[test]
fn a_longer_file_is_refused() {
    let folder = folder();
    let mut bytes = saved(&mut Tiny::new(1), &folder);
    bytes.push(0);
    let path = write(&folder, "long.safetensors", &bytes);
    assert_refused(WeightFile::open(&path), &path);
}

#[test]
fn a_flipped_bit_in_a_header_is_an_error_or_nothing() {
    let folder = folder();
    let mut tiny = Tiny::new(1);
    let whole = saved(&mut tiny, &folder);
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    for bit in 0..header * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_error_or_same(
            &write(&folder, "flipped.safetensors", &bytes),
            &tiny.values(),
        );
    }
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_an_error_or_nothing() {
    let folder = folder();
    let whole = checkpoint();
    let mut tiny = Tiny::new(1);
    load(&mut tiny, &write(&folder, "whole.pth", &whole)).unwrap();
    // Every bit would take many seconds; steps of five meet every byte and every place in a byte.
    for bit in (0..whole.len() * 8).step_by(5) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_error_or_same(&write(&folder, "flipped.pth", &bytes), &tiny.values());
    }
}

#[test]
fn files_of_other_kinds_are_refused() {
    let folder = folder();
    let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &[0; 300]].concat();
    let contents: [&[u8]; 7] = [
        &png,
        b"",
        b"{}",
        b"not weights at all",
        &[0; 64],
        &[0xff; 64],
        b"\x02\0\0\0\0\0\0\0[]",
    ];
    for ending in ["safetensors", "pth", "pt", "bin", "png", "index.json", ""] {
        for bytes in contents {
            let path = write(&folder, &format!("a.{ending}"), bytes);
            assert_refused(WeightFile::open(&path), &path);
        }
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let folder = folder();
    let check = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        let path = write(&folder, "lie.safetensors", &bytes);
        assert_refused(WeightFile::open(&path), &path);
    };
    let huge = u64::MAX;
    check(
        &format!(r#"{{"a":{{"dtype":"F32","shape":[{huge},{huge}],"data_offsets":[0,4]}}}}"#),
        4,
    );
    check(
        &format!(r#"{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,{huge}]}}}}"#),
        4,
    );
    check(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        4,
    );
    check(
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        4,
    );
    check(
        r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#,
        4,
    );
    let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    check(twice, 4);
    check(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        8,
    );
    let deep = "[".repeat(100_000);
    check(&deep, 0);
}

#[test]
fn folders_and_absent_files_are_refused() {
    let folder = folder();
    assert_refused(WeightFile::open(folder.path()), folder.path());
    assert_refused(WeightFile::open_with_key(folder.path(), &[]), folder.path());
    let absent = folder.path().join("absent.pth");
    assert_refused(WeightFile::open(&absent), &absent);
    write(&folder, "a.index.json", b"{}");
    write(&folder, "b.index.json", b"{}");
    assert_refused(WeightFile::open(folder.path()), folder.path());
}

#[test]
fn the_ending_may_be_missing() {
    let folder = folder();
    let mut tiny = Tiny::new(1);
    let path = write(&folder, "plain", &saved(&mut tiny, &folder));
    assert_eq!(WeightFile::open(path).unwrap().len(), 2);
    let path = write(&folder, "archive.download", &checkpoint());
    assert_eq!(WeightFile::open(path).unwrap().len(), 2);
}

#[cfg(unix)]
#[test]
fn devices_are_refused() {
    let path = Path::new("/dev/zero");
    assert_refused(WeightFile::open(path), path);
}
