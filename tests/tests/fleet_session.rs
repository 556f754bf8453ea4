//! Several devices behind one handle: what they draw together is what one draws alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;

use infinity_engine::api::{
    DeviceChoice, DeviceInfo, Event, GenerateSpec, JobId, PictureBits, Rgb8Image, Task, TuneWish,
};
use infinity_engine::{EngineHandle, SpawnOptions, spawn, spawn_fleet};
use infinity_tests::lessons::starter;
use infinity_tests::windmill::write_folder;

fn options() -> SpawnOptions {
    SpawnOptions::new(DeviceChoice::Cpu, Some(starter()))
}

/// An engine whose model is loaded, and its device as told last.
fn ready(handle: EngineHandle) -> (EngineHandle, DeviceInfo) {
    let mut last = None;
    loop {
        match handle.wait_event().expect("the engine runs") {
            Event::DeviceReady { device } => last = Some(device),
            Event::ModelLoaded { .. } => return (handle, last.expect("a device was told")),
            event => panic!("{event:?}"),
        }
    }
}

fn two() -> EngineHandle {
    let devices = [DeviceChoice::Cpu, DeviceChoice::Cpu];
    ready(spawn_fleet(&devices, options()).unwrap()).0
}

fn spec(seed: u64) -> GenerateSpec {
    GenerateSpec::new("a red house on the left, green hills, at sunset", seed)
}

/// A draft: its picture, its seed and its bits.
type Draft = (Rgb8Image, u64, Option<Box<PictureBits>>);

/// Draws drafts to their end; gives them by number, and how many times a start was told.
fn drafts(handle: &EngineHandle, count: usize) -> (BTreeMap<usize, Draft>, usize) {
    let task = Task::Drafts {
        spec: spec(40),
        count,
        scales: 3,
    };
    let asked = handle.run(task).unwrap();
    let (mut all, mut starts) = (BTreeMap::new(), 0);
    loop {
        match handle.wait_event().expect("the engine runs") {
            Event::Started { .. } => starts += 1,
            Event::DraftDone {
                index, image, spec, ..
            } => {
                let twice = all.insert(index, (image, spec.seed, spec.bits));
                assert!(twice.is_none(), "draft {index} came twice");
            }
            Event::DraftsDone { job, cost, .. } => {
                assert!(job == asked && cost > 0.0);
                return (all, starts);
            }
            Event::Stage { .. } => {}
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn drafts_are_shared_out_and_the_same() {
    let (alone, _) = ready(spawn(options()).unwrap());
    let (whole, _) = drafts(&alone, 7);
    let fleet = two();
    let (shared, starts) = drafts(&fleet, 7);
    assert_eq!((shared.len(), starts), (7, 1));
    assert!(shared == whole);
    // One draft is nobody's to share.
    let (one, _) = drafts(&fleet, 1);
    assert_eq!(one.get(&0), whole.get(&0));
    fleet.shut_down().unwrap();
}

#[test]
fn pictures_in_the_queue_are_drawn_at_the_same_time() {
    let fleet = two();
    let jobs: Vec<JobId> = (0..3)
        .map(|seed| fleet.run(Task::Generate(spec(seed))).unwrap())
        .collect();
    let (mut started, mut done) = (Vec::new(), BTreeMap::new());
    let mut at_once = 0;
    while done.len() < 3 {
        match fleet.wait_event().expect("the engine runs") {
            Event::Started { job, .. } => started.push(job),
            Event::ImageDone { job, image, .. } => {
                done.insert(job, image);
            }
            Event::Failed { error, .. } => panic!("{error}"),
            _ => {}
        }
        at_once = at_once.max(started.len() - done.len());
    }
    assert_eq!(at_once, 2);
    assert_eq!(started[2], jobs[2], "the third waits for one of the others");
    let (alone, _) = ready(spawn(options()).unwrap());
    alone.run(Task::Generate(spec(1))).unwrap();
    let image = loop {
        if let Event::ImageDone { image, .. } = alone.wait_event().unwrap() {
            break image;
        }
    };
    assert!(done[&jobs[1]] == image);
}

#[test]
fn a_stop_ends_all_parts_at_once() {
    let fleet = two();
    let task = Task::Drafts {
        spec: spec(1),
        count: 64,
        scales: 6,
    };
    let job = fleet.run(task).unwrap();
    let waiting = fleet.run(Task::Generate(spec(2))).unwrap();
    fleet.cancel(waiting);
    let mut ends = Vec::new();
    while ends.len() < 2 {
        let event = fleet.wait_event().expect("the engine runs");
        if let Event::Started { job: own, .. } = &event {
            assert_eq!(*own, job);
            fleet.cancel(job);
        }
        if event.ends().is_some() {
            assert!(matches!(event, Event::Cancelled { .. }), "{event:?}");
            ends.push(event.ends().unwrap());
        }
    }
    ends.sort_unstable();
    assert_eq!(ends, [job, waiting]);
    // Nothing of it is left over.
    assert_eq!(drafts(&fleet, 4).0.len(), 4);
}

#[test]
fn a_device_that_is_missing_is_left_out() {
    let devices = [DeviceChoice::Gpu(Some(99)), DeviceChoice::Cpu];
    let (fleet, device) = ready(spawn_fleet(&devices, options()).unwrap());
    assert!(
        device.reason.contains("left out") && device.reason.contains("gpu:99"),
        "{device:?}"
    );
    assert_eq!(drafts(&fleet, 4).0.len(), 4);
    let devices = [DeviceChoice::Gpu(Some(98)), DeviceChoice::Gpu(Some(99))];
    let fleet = spawn_fleet(&devices, options()).unwrap();
    let event = fleet.wait_event().expect("a word about it");
    assert!(matches!(&event, Event::ModelFailed { .. }), "{event:?}");
}

/// A lesson is the first engine's; the other one draws meanwhile, and a stop keeps what was learned.
#[test]
fn the_others_draw_during_a_lesson() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    write_folder(&data, 2);
    let fleet = two();
    let wish = TuneWish {
        data,
        out: folder.path().join("run"),
        name: "mill".to_owned(),
        steps: 10_000,
        batch: 1,
        rank: 2,
        prior: 0.0,
        ..TuneWish::default()
    };
    let lesson = fleet.run(Task::Tune(wish)).unwrap();
    let pictures: Vec<JobId> = (0..2)
        .map(|seed| fleet.run(Task::Generate(spec(seed))).unwrap())
        .collect();
    let (mut drawn, mut at_once, mut running) = (Vec::new(), 0, 0);
    let mut has_learned = false;
    loop {
        match fleet.wait_event().expect("the engine runs") {
            Event::Started { .. } => running += 1,
            Event::ImageDone { job, .. } => {
                running -= 1;
                drawn.push(job);
            }
            Event::TuneStepDone { .. } => has_learned = true,
            Event::Cancelled { .. } => panic!("stopped before it had learned anything"),
            Event::TuneDone { job, path, .. } => {
                assert!(job == lesson && path.exists());
                break;
            }
            Event::Failed { error, .. } => panic!("{error}"),
            _ => {}
        }
        at_once = at_once.max(running);
        // A lesson that is stopped before its first step leaves nothing.
        if has_learned && drawn.len() == 2 {
            fleet.cancel(lesson);
        }
    }
    // The engine that teaches draws nothing: one picture after the other.
    assert_eq!((drawn, at_once), (pictures, 1));
    assert_eq!(drafts(&fleet, 4).0.len(), 4);
}
