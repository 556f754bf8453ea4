//! Sessions with the real engine thread through its real channels, on a tiny model.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use infinity_engine::api::{
    DeviceChoice, DeviceKind, EngineError, Event, GenerateSpec, JobId, Request, Stage, Task,
};
use infinity_engine::import::import;
use infinity_engine::{EngineHandle, Previews, SpawnOptions, spawn};
use infinity_tests::models::{import_spec, starter_shaped, tiny};

fn model() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    tiny(&path);
    (folder, path)
}

fn engine(model: Option<&Path>, previews: Previews) -> EngineHandle {
    let options = SpawnOptions::new(DeviceChoice::Cpu, model.map(Path::to_owned));
    spawn(SpawnOptions {
        previews,
        ..options
    })
    .unwrap()
}

/// An engine that has loaded its model.
fn ready(model: &Path, previews: Previews) -> EngineHandle {
    let engine = engine(Some(model), previews);
    match engine.wait_event() {
        Some(Event::DeviceReady { device }) => assert_eq!(device.kind, DeviceKind::Cpu),
        other => panic!("{other:?}"),
    }
    match engine.wait_event() {
        Some(Event::ModelLoaded { model }) => {
            assert_eq!((model.name.as_str(), model.scale_count), ("Tiny", 4));
        }
        other => panic!("{other:?}"),
    }
    engine
}

fn draw(engine: &EngineHandle, change: impl FnOnce(&mut GenerateSpec)) -> JobId {
    let mut spec = GenerateSpec::new("a bowl of cherries", 5);
    change(&mut spec);
    engine.run(Task::Generate(spec)).unwrap()
}

/// All events of a job up to its last one.
fn events_of(engine: &EngineHandle, job: JobId) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = engine.wait_event().expect("the engine is there");
        let (own, ends) = match &event {
            Event::ImageDone { job, .. } | Event::Cancelled { job } | Event::Failed { job, .. } => {
                (Some(*job), true)
            }
            Event::Started { job, .. }
            | Event::Stage { job, .. }
            | Event::ScaleDone { job, .. } => (Some(*job), false),
            _ => (None, false),
        };
        assert_eq!(own, Some(job), "{event:?}");
        events.push(event);
        if ends {
            return events;
        }
    }
}

fn picture(engine: &EngineHandle, change: impl FnOnce(&mut GenerateSpec)) -> Vec<u8> {
    let job = draw(engine, change);
    match events_of(engine, job).pop() {
        Some(Event::ImageDone { image, .. }) => image.pixels.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn failure(engine: &EngineHandle, change: impl FnOnce(&mut GenerateSpec)) -> EngineError {
    let job = draw(engine, change);
    match events_of(engine, job).pop() {
        Some(Event::Failed { error, .. }) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_come_in_order() {
    let (_folder, model) = model();
    let engine = ready(&model, Previews::Full);
    let job = draw(&engine, |spec| spec.ratio = 0.76);
    let mut told = Vec::new();
    let mut last_preview = None;
    for event in events_of(&engine, job) {
        told.push(match event {
            Event::Started {
                schedule,
                size_px,
                notes,
                ..
            } => {
                assert_eq!(schedule, [(1, 1), (2, 2), (3, 4), (6, 8)]);
                assert_eq!(size_px, (128, 96));
                assert_eq!(notes.len(), 1, "{notes:?}");
                "started".to_owned()
            }
            Event::Stage {
                stage: Stage::EncodingPrompt,
                ..
            } => "text".to_owned(),
            Event::Stage {
                stage: Stage::Scale(index),
                ..
            } => format!("scale {index}"),
            Event::Stage {
                stage: Stage::Decoding,
                ..
            } => "decoding".to_owned(),
            Event::ScaleDone {
                scale_index,
                scale_count,
                preview,
                elapsed_secs,
                ..
            } => {
                assert_eq!(scale_count, 4);
                assert!(elapsed_secs > 0.0);
                let size = (preview.width, preview.height);
                last_preview = Some(preview);
                format!("done {scale_index} {size:?}")
            }
            Event::ImageDone {
                image,
                spec,
                elapsed_secs,
                preview_share,
                ..
            } => {
                assert_eq!(Some(&image), last_preview.as_ref());
                assert_eq!((spec.ratio, spec.scale_count), (0.75, Some(4)));
                assert!(elapsed_secs > 0.0 && (0.0..1.0).contains(&preview_share));
                "image".to_owned()
            }
            other => panic!("{other:?}"),
        });
    }
    let wanted = [
        "started",
        "text",
        "scale 0",
        "done 0 (16, 16)",
        "scale 1",
        "done 1 (32, 32)",
        "scale 2",
        "done 2 (64, 48)",
        "scale 3",
        "decoding",
        "done 3 (128, 96)",
        "image",
    ];
    assert_eq!(told, wanted);
}

#[test]
fn the_same_wish_gives_the_same_picture() {
    let (_folder, model) = model();
    let engine = ready(&model, Previews::Budgeted);
    let first = picture(&engine, |_| ());
    assert_eq!(first.len(), 96 * 96 * 3);
    assert_eq!(picture(&engine, |_| ()), first);
    assert_ne!(picture(&engine, |spec| spec.seed = 6), first);
    assert_ne!(
        picture(&engine, |spec| spec.prompt = "old boat".to_owned()),
        first
    );
    let negative = |spec: &mut GenerateSpec| spec.negative_prompt = "grey wall".to_owned();
    assert_ne!(picture(&engine, negative), first);
    // Previews and an engine of its own change nothing.
    let other = ready(&model, Previews::Off);
    assert_eq!(picture(&other, |_| ()), first);
}

#[test]
fn without_previews_only_the_picture_is_told() {
    let (_folder, model) = model();
    let engine = ready(&model, Previews::Off);
    let job = draw(&engine, |_| ());
    let events = events_of(&engine, job);
    let scales = events.iter().filter_map(|event| match event {
        Event::ScaleDone { scale_index, .. } => Some(*scale_index),
        _ => None,
    });
    assert_eq!(scales.collect::<Vec<_>>(), [3]);
}

#[test]
fn odd_prompts_are_drawn() {
    let (_folder, model) = model();
    let engine = ready(&model, Previews::Off);
    for prompt in ["", "🏠🌊", "בית אדום על גבעה", "a\u{0}b\n\tc"] {
        picture(&engine, |spec| spec.prompt = prompt.to_owned());
    }
    let job = draw(&engine, |spec| spec.prompt = "cherries ".repeat(5000));
    let events = events_of(&engine, job);
    match &events[0] {
        Event::Started { notes, .. } => assert!(
            notes.iter().any(|note| note.contains("too long")),
            "{notes:?}"
        ),
        other => panic!("{other:?}"),
    }
    assert!(matches!(events.last(), Some(Event::ImageDone { .. })));
}

#[test]
fn jobs_wait_for_each_other_and_can_be_stopped_while_waiting() {
    let (_folder, model) = model();
    let engine = ready(&model, Previews::Full);
    let jobs = [1, 2, 3].map(|seed| draw(&engine, |spec| spec.seed = seed));
    engine.cancel(jobs[1]);
    assert!(matches!(
        events_of(&engine, jobs[0]).last(),
        Some(Event::ImageDone { .. })
    ));
    assert!(matches!(
        events_of(&engine, jobs[1]).as_slice(),
        [Event::Cancelled { .. }]
    ));
    assert!(matches!(
        events_of(&engine, jobs[2]).last(),
        Some(Event::ImageDone { .. })
    ));
}

#[test]
fn a_stopped_job_ends_within_a_scale() {
    let (_folder, model) = model();
    let engine = ready(&model, Previews::Full);
    // Thirteen scales of a tiny model still take seconds, most of them in the last ones.
    let job = draw(&engine, |spec| spec.scale_count = Some(13));
    let mut finished = None;
    loop {
        match engine.wait_event().unwrap() {
            Event::ScaleDone { scale_index, .. } => {
                if scale_index == 2 {
                    engine.cancel(job);
                }
                finished = Some(scale_index);
            }
            Event::Cancelled { .. } => break,
            Event::ImageDone { .. } | Event::Failed { .. } => panic!("the job went on"),
            _ => {}
        }
    }
    assert!(finished <= Some(4), "{finished:?}");
    picture(&engine, |_| ());
}

#[test]
fn meaningless_settings_fail_and_the_next_job_works() {
    let (_folder, model) = model();
    let engine = ready(&model, Previews::Off);
    let refuse = |change: &dyn Fn(&mut GenerateSpec), word: &str| {
        let error = failure(&engine, change);
        assert!(matches!(error, EngineError::BadSetting { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    refuse(&|spec| spec.cfg = vec![f32::NAN], "CFG");
    refuse(&|spec| spec.cfg = vec![3.0, 3.0], "list of 2");
    refuse(&|spec| spec.cfg = vec![], "list of 0");
    refuse(&|spec| spec.tau = vec![0.0], "tau");
    refuse(&|spec| spec.tau = vec![-1.0], "tau");
    refuse(&|spec| spec.ratio = f32::NAN, "ratio");
    refuse(&|spec| spec.scale_count = Some(14), "scales");
    refuse(&|spec| spec.top_p = f32::NAN, "top-p");
    refuse(&|spec| spec.cfg_insertion_layers = vec![-99], "layer");
    picture(&engine, |_| ());
}

#[test]
fn without_a_model_jobs_fail() {
    let engine = engine(None, Previews::Budgeted);
    assert!(matches!(
        engine.wait_event(),
        Some(Event::DeviceReady { .. })
    ));
    assert!(matches!(failure(&engine, |_| ()), EngineError::NoModel));
}

#[test]
fn a_device_that_is_not_there_is_said() {
    let options = SpawnOptions::new(DeviceChoice::Gpu(Some(99)), None);
    let engine = spawn(options).unwrap();
    let Some(Event::ModelFailed { error }) = engine.wait_event() else {
        panic!("no failure")
    };
    assert!(error.to_string().contains("gpu:99"), "{error}");
    assert!(matches!(
        failure(&engine, |_| ()),
        EngineError::NoDevice { .. }
    ));
    engine.shut_down().unwrap();
}

/// Loads the folder after `damage`; the model loaded before must go on drawing.
fn refused(damage: impl FnOnce(&Path)) -> EngineError {
    let (_whole, good) = model();
    let (_folder, bad) = model();
    damage(&bad);
    let engine = ready(&good, Previews::Off);
    engine
        .send(Request::LoadModel {
            folder: bad.clone(),
        })
        .unwrap();
    let Some(Event::ModelFailed { error }) = engine.wait_event() else {
        panic!("it was loaded")
    };
    picture(&engine, |_| ());
    error
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_models_are_refused() {
    refused(|folder| std::fs::remove_dir_all(folder).unwrap());
    refused(|folder| std::fs::remove_file(folder.join("vae.safetensors")).unwrap());
    for name in [
        "transformer.safetensors",
        "vae.safetensors",
        "text/model.safetensors",
        "text/tokenizer.json",
        "model.json",
        "text/config.json",
    ] {
        let error =
            refused(|folder| change(&folder.join(name), |bytes| bytes.truncate(bytes.len() / 2)));
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    // Bits flipped in the header, then in a value: an exponent of all ones is no number.
    refused(|folder| {
        change(&folder.join("transformer.safetensors"), |bytes| {
            bytes[20] ^= 0x10;
        });
    });
    let error = refused(|folder| {
        change(&folder.join("transformer.safetensors"), |bytes| {
            let end = bytes.len();
            bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        });
    });
    assert!(matches!(error, EngineError::NotFinite { .. }), "{error}");
    // The tokenizer of another model.
    let error = refused(|folder| {
        std::fs::copy(
            folder.join("transformer.safetensors"),
            folder.join("vae.safetensors"),
        )
        .unwrap();
    });
    assert!(matches!(error, EngineError::BadWeights { .. }), "{error}");
}

#[test]
fn a_closed_channel_ends_the_thread() {
    let (_folder, model) = model();
    let wakes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&wakes);
    let wake = Box::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let options = SpawnOptions {
        wake,
        ..SpawnOptions::new(DeviceChoice::Cpu, Some(model))
    };
    let engine = spawn(options).unwrap();
    draw(&engine, |spec| spec.scale_count = Some(13));
    draw(&engine, |_| ());
    while !matches!(
        engine.wait_event(),
        Some(Event::ScaleDone { scale_index: 1, .. })
    ) {}
    assert!(wakes.load(Ordering::Relaxed) >= 7);
    let begun = std::time::Instant::now();
    engine.shut_down().unwrap();
    assert!(
        begun.elapsed().as_secs_f32() < 20.0,
        "it finished the picture first"
    );
    // The wake callback lived on the thread and went with it.
    assert_eq!(Arc::strong_count(&wakes), 1);
}

#[test]
fn both_families_are_imported_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("patchify");
    import(&import_spec("infinity-open-patchify", &out), &mut |_| ()).unwrap();
    let engine = ready(&out, Previews::Full);
    assert_eq!(picture(&engine, |_| ()).len(), 96 * 96 * 3);

    // Taken places and foreign files leave everything as it was.
    let taken = import(&import_spec("infinity-open-patchify", &out), &mut |_| ()).unwrap_err();
    assert!(matches!(taken, EngineError::Write { .. }), "{taken}");
    let mut mixed = import_spec("infinity-open", &folder.path().join("mixed"));
    mixed.vae = import_spec("infinity-open-patchify", &out).vae;
    assert!(matches!(
        import(&mixed, &mut |_| ()),
        Err(EngineError::BadModel { .. })
    ));
    let mut swapped = import_spec("infinity-open", &folder.path().join("swapped"));
    std::mem::swap(&mut swapped.transformer, &mut swapped.vae);
    assert!(import(&swapped, &mut |_| ()).is_err());
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["patchify"]);
}

#[test]
fn previews_take_less_than_a_quarter() {
    let folder = tempfile::tempdir().unwrap();
    starter_shaped(folder.path());
    let engine = engine(Some(folder.path()), Previews::Budgeted);
    // Times are those of a busy machine: of a few runs, the best one shows what the budget does.
    let mut best = f32::INFINITY;
    for seed in 0..4 {
        let job = engine
            .run(Task::Generate(GenerateSpec::new("a red house", seed)))
            .unwrap();
        let (mut first, mut sizes) = (None, Vec::new());
        loop {
            match engine.wait_event().unwrap() {
                Event::ScaleDone {
                    preview,
                    elapsed_secs,
                    ..
                } => {
                    first.get_or_insert(elapsed_secs);
                    sizes.push(preview.width);
                }
                Event::ImageDone {
                    job: done,
                    preview_share,
                    elapsed_secs,
                    ..
                } => {
                    assert_eq!(done, job);
                    println!(
                        "previews {sizes:?}: first after {first:?} s, {preview_share:.3} of {elapsed_secs:.2} s"
                    );
                    best = best.min(preview_share);
                    break;
                }
                Event::Failed { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
        assert_eq!((sizes.len(), sizes.last()), (7, Some(&256)));
    }
    assert!(best < 0.25, "{best}");
}
