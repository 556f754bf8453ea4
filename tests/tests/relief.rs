//! A device runs out of memory, or is lost: through the real channels, the job goes on in a smaller way or fails in
//! one sentence, and the engine lives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use infinity_engine::api::{
    DeviceChoice, EngineError, Event, GenerateSpec, Rgb8Image, Task, TuneWish,
};
use infinity_engine::{EngineHandle, Previews, SpawnOptions, device, spawn};
use infinity_tests::models::tiny;

fn model() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    tiny(&path);
    (folder, path)
}

/// How often the device still fails.
type Failures = Arc<AtomicU32>;

/// Whether it fails now.
fn fails(failures: &Failures) -> bool {
    let left = failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        left.checked_sub(1)
    });
    left.is_ok()
}

/// An engine that has loaded `model`, and `on_step` within its jobs.
fn ready(model: &Path, choice: DeviceChoice, on_step: Box<dyn FnMut() + Send>) -> EngineHandle {
    let engine = spawn(SpawnOptions {
        previews: Previews::Full,
        on_step: Some(on_step),
        ..SpawnOptions::new(choice, Some(model.to_owned()))
    })
    .unwrap();
    loop {
        match engine.wait_event() {
            Some(Event::ModelLoaded { .. }) => return engine,
            Some(Event::DeviceReady { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

struct Ended {
    result: Result<Rgb8Image, EngineError>,
    /// Of the last attempt.
    notes: Vec<String>,
    /// Models that were loaded meanwhile.
    loads: usize,
}

fn draw(engine: &EngineHandle) -> Ended {
    let spec = GenerateSpec::new("a bowl of cherries", 5);
    engine.run(Task::Generate(spec)).unwrap();
    let (mut notes, mut loads) = (Vec::new(), 0);
    loop {
        let result = match engine.wait_event().expect("the engine lives") {
            Event::Started { notes: own, .. } => {
                notes = own;
                continue;
            }
            Event::ModelLoaded { .. } => {
                loads += 1;
                continue;
            }
            Event::ImageDone { image, .. } => Ok(image),
            Event::Failed { error, .. } => Err(error),
            Event::Stage { .. } | Event::ScaleDone { .. } => continue,
            other => panic!("{other:?}"),
        };
        return Ended {
            result,
            notes,
            loads,
        };
    }
}

/// However often memory runs out, the picture is drawn in a smaller way, or it is said plainly that it cannot be.
#[test]
fn full_memory_steps_down() {
    let (_folder, model) = model();
    let mut told: Vec<Vec<String>> = Vec::new();
    let mut sizes = Vec::new();
    let failed = loop {
        let failures = Failures::new(AtomicU32::new(told.len() as u32));
        let planted = failures.clone();
        let engine = ready(
            &model,
            DeviceChoice::Cpu,
            Box::new(move || {
                assert!(!fails(&planted), "wgpu error: Out of Memory");
            }),
        );
        let ended = draw(&engine);
        assert_eq!(failures.load(Ordering::SeqCst), 0);
        // The engine lives, and draws.
        let again = draw(&engine);
        assert!(again.result.is_ok() && again.loads == 0);
        engine.shut_down().unwrap();
        match ended.result {
            Ok(image) => {
                told.push(ended.notes);
                sizes.push((image.width, image.height));
            }
            Err(error) => break error,
        }
        assert!(told.len() < 30, "{told:#?}");
    };
    assert!(
        matches!(&failed, EngineError::OutOfMemory { device } if device == "processor"),
        "{failed}"
    );
    for (count, notes) in told.iter().enumerate() {
        assert_eq!(notes.len(), count, "{told:#?}");
        if let Some(before) = count.checked_sub(1) {
            assert_eq!(
                &notes[..before],
                told[before],
                "one sentence more each time"
            );
        }
    }
    let last = told.last().unwrap().join("\n");
    for part in [
        "the text encoder leaves",
        "large weights are kept in half precision",
        "large weights are kept in eight bits",
        "keys and values are kept in eight bits",
        "smaller pieces",
        "without guidance",
    ] {
        assert!(last.contains(part), "{part}: {last}");
    }
    eprintln!("{last}\nsizes: {sizes:?}");
}

/// Pieces and a text encoder that leaves change nothing but rounding; here not even that.
#[test]
fn the_first_steps_keep_the_picture() {
    let (_folder, model) = model();
    let drawn = |count: u32| {
        let failures = Failures::new(AtomicU32::new(count));
        let engine = ready(
            &model,
            DeviceChoice::Cpu,
            Box::new(move || {
                assert!(!fails(&failures), "out of device memory allocating 5 bytes");
            }),
        );
        let ended = draw(&engine);
        engine.shut_down().unwrap();
        ended.result.unwrap()
    };
    assert!(drawn(0).pixels == drawn(1).pixels);
}

/// A lesson that runs out of memory is planned anew for less and finished.
#[test]
fn a_lesson_steps_down() {
    let (folder, model) = model();
    let data = folder.path().join("pictures");
    std::fs::create_dir(&data).unwrap();
    for seed in 0..3_u8 {
        let pixels = (0..96 * 96 * 3).map(|at: u32| (at * (7 + u32::from(seed))) as u8);
        let path = data.join(format!("{seed}.png"));
        image::RgbImage::from_vec(96, 96, pixels.collect())
            .unwrap()
            .save(&path)
            .unwrap();
        std::fs::write(path.with_extension("txt"), "a cherry").unwrap();
    }
    let failures = Failures::new(AtomicU32::new(2));
    let engine = ready(
        &model,
        DeviceChoice::Cpu,
        Box::new(move || {
            assert!(!fails(&failures), "wgpu error: Out of Memory");
        }),
    );
    let wish = TuneWish {
        steps: 2,
        batch: 2,
        prior: 0.0,
        data,
        out: folder.path().join("cherry"),
        name: "cherry".to_owned(),
        ..TuneWish::default()
    };
    engine.run(Task::Tune(wish)).unwrap();
    let mut told = Vec::new();
    loop {
        match engine.wait_event().expect("the engine lives") {
            Event::TuneFitted { memory, notes, .. } => told.push((memory.bytes(), notes)),
            Event::TuneDone { step, .. } => {
                assert_eq!(step, 2);
                break;
            }
            Event::Failed { error, .. } => panic!("{error}; {told:#?}"),
            _ => {}
        }
    }
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[1].0 < told[0].0, "{told:#?}");
    assert!(
        told[2]
            .1
            .iter()
            .filter(|note| note.contains("ran out"))
            .count()
            == 2,
        "{told:#?}"
    );
    engine.shut_down().unwrap();
}

/// A graphics device that is lost is opened again, and the picture drawn as if nothing had happened; lost twice, the
/// job ends with a sentence and the next one goes well.
#[test]
fn a_lost_device_is_opened_again() {
    if device::open(DeviceChoice::Software).is_err() {
        eprintln!("SKIPPED: no software graphics driver to lose");
        return;
    }
    let (_folder, model) = model();
    let failures = Failures::default();
    let planted = failures.clone();
    let engine = ready(
        &model,
        DeviceChoice::Software,
        Box::new(move || {
            if fails(&planted) {
                // What is open now, under the engine.
                let open = device::open(DeviceChoice::Software).unwrap();
                open.handle.unwrap().destroy();
            }
        }),
    );
    let whole = draw(&engine).result.unwrap();
    failures.store(1, Ordering::SeqCst);
    let ended = draw(&engine);
    assert_eq!(
        (ended.loads, ended.notes.len()),
        (1, 1),
        "{:?}",
        ended.notes
    );
    assert!(
        ended.notes[0].contains("stopped answering"),
        "{:?}",
        ended.notes
    );
    assert!(ended.result.unwrap().pixels == whole.pixels);
    failures.store(2, Ordering::SeqCst);
    let ended = draw(&engine);
    assert!(
        matches!(&ended.result, Err(EngineError::DeviceLost { .. })),
        "{:?}",
        ended.result.err()
    );
    let ended = draw(&engine);
    assert!(ended.result.unwrap().pixels == whole.pixels && ended.notes.is_empty());
    engine.shut_down().unwrap();
}
