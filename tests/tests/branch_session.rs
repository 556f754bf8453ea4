//! Branching: some first scales of a picture are kept, the rest is drawn anew, through the real channels.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use infinity_engine::EngineHandle;
use infinity_engine::api::{EngineError, Event, GenerateSpec, PictureBits, Rgb8Image, Task};
use infinity_tests::models;

fn engine() -> EngineHandle {
    models::engine(&models::starter())
}

fn drawn(
    engine: &EngineHandle,
    spec: &GenerateSpec,
) -> Result<(Rgb8Image, GenerateSpec), EngineError> {
    engine.run(Task::Generate(spec.clone())).unwrap();
    loop {
        match engine.wait_event().expect("the engine is there") {
            Event::ImageDone { image, spec, .. } => return Ok((image, spec)),
            Event::Failed { error, .. } => return Err(error),
            _ => {}
        }
    }
}

fn scales(spec: &GenerateSpec) -> Vec<Vec<u8>> {
    spec.bits
        .as_ref()
        .expect("a drawn picture has bits")
        .scales()
        .expect("and they are whole")
}

/// Every branch keeps the first scales bit for bit; with the parent's own seed the parent comes back.
#[test]
fn branches_keep_the_first_scales() {
    let engine = engine();
    for seed in 0..5 {
        let parent = GenerateSpec {
            ratio: if seed % 2 == 0 { 1.0 } else { 1.5 },
            ..GenerateSpec::new("green hills, a red house on the left, at night", seed)
        };
        let (image, spec) = drawn(&engine, &parent).unwrap();
        let own = scales(&spec);
        let count = own.len();
        assert!(count > 3);
        let mut shared = Vec::new();
        for keep in 1..count {
            let branch = GenerateSpec {
                keep,
                bits: spec.bits.clone(),
                seed: seed + 1000,
                ..parent.clone()
            };
            let (_, other) = drawn(&engine, &branch).unwrap();
            let other = scales(&other);
            assert!(own[..keep] == other[..keep], "{seed} {keep}");
            let all = own.concat();
            let same = all
                .iter()
                .zip(other.concat())
                .filter(|(a, b)| **a == *b)
                .count();
            shared.push(same as f32 / all.len() as f32);
            let again = GenerateSpec { seed, ..branch };
            assert!(drawn(&engine, &again).unwrap().0 == image, "{seed} {keep}");
        }
        assert!(shared.last() > shared.first(), "{shared:?}");
    }
    engine.shut_down().unwrap();
}

#[test]
fn bits_that_do_not_fit_are_refused() {
    let engine = engine();
    let parent = GenerateSpec::new("a boat", 3);
    let (_, spec) = drawn(&engine, &parent).unwrap();
    let with = |keep: usize, bits: Option<Box<PictureBits>>, ratio: f32| GenerateSpec {
        keep,
        bits,
        ratio,
        ..parent.clone()
    };
    let whole = spec.bits.clone();
    let count = scales(&spec).len();
    let other = Box::new(PictureBits::new(7, vec![(1, 1)], &[vec![0; 7]]));
    for (wish, word) in [
        (with(2, None, 1.0), "no picture"),
        (with(count, whole.clone(), 1.0), "last scale"),
        (with(count + 4, whole.clone(), 1.0), "last scale"),
        (with(3, whole.clone(), 1.5), "another shape"),
        (with(1, Some(other), 1.0), "another model"),
    ] {
        let error = drawn(&engine, &wish).unwrap_err().to_string();
        assert!(
            error.contains("kept scales") && error.contains(word),
            "{error}"
        );
    }
    // Nothing kept: bits that happen to be there are no matter.
    drawn(&engine, &with(0, whole, 1.5)).unwrap();
    engine.shut_down().unwrap();
}
