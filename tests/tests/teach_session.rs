//! Teaching through the real channels of the real engine thread, on a tiny model.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use infinity_engine::EngineHandle;
use infinity_engine::api::{EngineError, Event, GenerateSpec, JobId, LoraWish, Task, TuneWish};
use infinity_tests::models::{engine, tiny};

/// Draws to the end: the picture, or why there is none.
fn drawn(
    engine: &EngineHandle,
    change: impl FnOnce(&mut GenerateSpec),
) -> Result<Vec<u8>, EngineError> {
    let mut spec = GenerateSpec::new("a bowl of cherries", 5);
    change(&mut spec);
    engine.run(Task::Generate(spec)).unwrap();
    loop {
        match engine.wait_event().expect("the engine is there") {
            Event::ImageDone { image, .. } => return Ok(image.pixels.to_vec()),
            Event::Failed { error, .. } => return Err(error),
            _ => {}
        }
    }
}

fn picture(engine: &EngineHandle, change: impl FnOnce(&mut GenerateSpec)) -> Vec<u8> {
    drawn(engine, change).unwrap()
}

/// Events of a teaching job up to its last one.
fn lessons_of(engine: &EngineHandle, job: JobId, stop_after: u64) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = engine.wait_event().expect("the engine is there");
        if matches!(event, Event::DeviceReady { .. } | Event::ModelLoaded { .. }) {
            continue;
        }
        let ends = matches!(
            event,
            Event::TuneDone { .. } | Event::PicturesFound { .. } | Event::Failed { .. }
        );
        if let Event::TuneStepDone { step, .. } = &event
            && step.step >= stop_after
        {
            engine.cancel(job);
        }
        events.push(event);
        if ends {
            return events;
        }
    }
}

/// Looking, teaching, stopping, going on, drawing with the result: all through the channels.
#[test]
fn a_folder_is_taught_and_drawn_with() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    tiny(&model);
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let engine = engine(&model);
    let look = |engine: &EngineHandle| {
        let task = Task::LookThrough {
            folder: data.clone(),
            trigger: "zwm".to_owned(),
            scale_count: None,
        };
        let job = engine.run(task).unwrap();
        lessons_of(engine, job, u64::MAX)
    };
    assert!(
        matches!(&look(&engine)[..], [Event::Failed { error, .. }] if error.to_string().contains("data"))
    );
    for index in 0..3_u32 {
        let picture = image::RgbImage::from_fn(96, 96, |x, y| {
            image::Rgb([(x * 2) as u8, (y * (index + 1)) as u8, 90])
        });
        picture.save(data.join(format!("{index}.png"))).unwrap();
    }
    match &look(&engine)[..] {
        [
            Event::PicturesFound {
                pictures, findings, ..
            },
        ] => {
            assert_eq!((pictures.len(), findings.len()), (3, 3));
            assert_eq!(pictures[0].caption, "zwm");
        }
        other => panic!("{other:?}"),
    }
    // In fewer scales the same pictures are learned smaller.
    let task = Task::LookThrough {
        folder: data.clone(),
        trigger: String::new(),
        scale_count: Some(2),
    };
    let job = engine.run(task).unwrap();
    match &lessons_of(&engine, job, u64::MAX)[..] {
        [Event::PicturesFound { pictures, .. }] => {
            assert_eq!(
                (pictures[0].image.width, pictures[0].image.height),
                (32, 32)
            );
        }
        other => panic!("{other:?}"),
    }
    let wish = TuneWish {
        data: data.clone(),
        out: folder.path().join("run"),
        name: "stripes".to_owned(),
        trigger: "zwm".to_owned(),
        steps: 20,
        batch: 2,
        rank: 2,
        prior: 0.0,
        save_every: 10,
        ..TuneWish::default()
    };
    let plain = picture(&engine, |_| {});
    let job = engine.run(Task::Tune(wish.clone())).unwrap();
    let events = lessons_of(&engine, job, 5);
    assert!(matches!(
        &events[0],
        Event::TuneFitted { memory, .. } if memory.bytes() > 0
    ));
    let Some(Event::TuneDone {
        path, step, steps, ..
    }) = events.last()
    else {
        panic!("{events:?}")
    };
    assert!(*step < *steps && path.exists());
    // Nothing of it is on the model unless it is asked for.
    assert!(picture(&engine, |_| {}) == plain);
    let job = engine.run(Task::Tune(wish.clone())).unwrap();
    let events = lessons_of(&engine, job, u64::MAX);
    let Some(Event::TuneDone { path, step: 20, .. }) = events.last().cloned() else {
        panic!("{events:?}")
    };
    // Other settings under the same name leave the first run alone.
    let other = TuneWish { rank: 3, ..wish };
    let job = engine.run(Task::Tune(other)).unwrap();
    let events = lessons_of(&engine, job, u64::MAX);
    assert!(
        matches!(events.last(), Some(Event::TuneDone { path, .. }) if path.ends_with("stripes-2/lora.safetensors")),
        "{events:?}"
    );
    let lora = LoraWish::new(path.clone(), 1.0);
    picture(&engine, |spec| spec.loras = vec![lora.clone()]);
    assert!(picture(&engine, |_| {}) == plain);
    // A file that went away fails the picture, not the engine.
    std::fs::remove_file(&path).unwrap();
    let error = drawn(&engine, |spec| spec.loras = vec![lora]).unwrap_err();
    assert!(error.to_string().contains("lora.safetensors"), "{error}");
    assert!(picture(&engine, |_| {}) == plain);
    engine.shut_down().unwrap();
}

/// Pictures are drawn between two steps of a lesson, and while it is paused; they are those drawn without it, and the
/// lesson ends in the same LoRA.
#[test]
fn pictures_are_drawn_during_a_lesson() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    tiny(&model);
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    image::RgbImage::from_fn(96, 96, |x, y| image::Rgb([x as u8 * 2, y as u8, 90]))
        .save(data.join("a.png"))
        .unwrap();
    let engine = engine(&model);
    let wish = |name: &str| TuneWish {
        data: data.clone(),
        out: folder.path().join(name),
        name: name.to_owned(),
        steps: 40,
        batch: 2,
        rank: 2,
        prior: 0.0,
        save_every: 20,
        ..TuneWish::default()
    };
    let plain = picture(&engine, |_| {});
    let job = engine.run(Task::Tune(wish("alone"))).unwrap();
    lessons_of(&engine, job, u64::MAX);
    let lesson = engine.run(Task::Tune(wish("watched"))).unwrap();
    let (mut drawn, mut paused_at, mut done) = (Vec::new(), None, false);
    let ask = || {
        engine
            .run(Task::Generate(GenerateSpec::new("a bowl of cherries", 5)))
            .unwrap()
    };
    let mut asked = Vec::new();
    while !done {
        match engine.wait_event().expect("the engine is there") {
            Event::TuneStepDone { step, .. } => {
                if step.step == 5 {
                    asked.push(ask());
                }
                if step.step == 10 && paused_at.is_none() {
                    engine.pause(lesson, true);
                    asked.push(ask());
                    paused_at = Some(step.step);
                }
                assert!(
                    step.step <= 16 || drawn.len() == 2,
                    "it goes on only when told"
                );
            }
            Event::ImageDone { job, image, .. } => {
                drawn.push((job, image.pixels.to_vec()));
                if drawn.len() == 2 {
                    engine.pause(lesson, false);
                }
            }
            Event::TuneDone { step, .. } => {
                assert_eq!(step, 40);
                done = true;
            }
            Event::Failed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
    let expected: Vec<_> = asked.into_iter().map(|job| (job, plain.clone())).collect();
    assert!(drawn == expected, "two pictures, as without a lesson");
    let file =
        |name: &str| std::fs::read(folder.path().join(name).join("lora.safetensors")).unwrap();
    let tensors = |bytes: &[u8]| {
        bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..].to_vec()
    };
    assert!(tensors(&file("alone")) == tensors(&file("watched")));
    engine.shut_down().unwrap();
}
