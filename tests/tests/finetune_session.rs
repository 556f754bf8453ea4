#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise"
)]
//! Fine-tuning on the starter: a thing that it never saw, and what an adapter may and may not change.

use std::cell::Cell;
use std::path::Path;

use infinity_engine::api::{DeviceChoice, LoraWish};
use infinity_engine::device::{self, OpenDevice};
use infinity_engine::finetune::{self, FinetuneConfig, look_through};
use infinity_engine::generate::Bundle;
use infinity_engine::kernels;
use infinity_engine::schedule::ScaleSchedule;
use infinity_engine::train::checkpoint::Checkpoint;
use infinity_engine::train::vae::reconstruct;
use infinity_engine::train::{Limits, Progress};
use infinity_tests::lessons::{following, settings, starter, teach, windmills_right};
use infinity_tests::models::{STARTER_SCALES, STARTER_SIDE};
use infinity_tests::windmill::{Windmill, read, write_folder};

fn open() -> (OpenDevice, Bundle) {
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let bundle = Bundle::open(&starter(), &device).unwrap();
    (device, bundle)
}

/// The best settings found, with fewer pictures a step.
fn config(steps: u64) -> FinetuneConfig {
    FinetuneConfig {
        steps,
        batch: 8,
        log_every: 1,
        ..settings(None)
    }
}

/// Fine-tunes into `out`, stopping after `stop` updates; gives the losses.
fn tune(config: &FinetuneConfig, data: &Path, out: &Path, resume: bool, stop: u64) -> Vec<f32> {
    let made = Cell::new(0);
    let limits = Limits {
        resume,
        until: None,
        cancelled: &|| made.get() >= stop,
    };
    let mut losses = Vec::new();
    teach(config, (data, out), &limits, |line| {
        made.set(made.get() + 1);
        losses.push(line.loss);
    });
    losses
}

/// Of 48 painted windmills, those that are read back after the tokenizer alone: the ceiling of what is drawn.
fn windmills_kept(bundle: &Bundle) -> usize {
    let schedule = ScaleSchedule::nearest(1.0, STARTER_SCALES).unwrap();
    let mills: Vec<Windmill> = (0..48)
        .map(|i| Windmill::sample(100 + i, i as usize))
        .collect();
    let paint =
        |(index, mill): (usize, &Windmill)| mill.paint(index as u64, STARTER_SIDE, STARTER_SIDE);
    let painted: Vec<_> = mills.iter().enumerate().map(paint).collect();
    let kept = reconstruct(&bundle.vae, &painted, &schedule.scales).unwrap();
    let right = kept.iter().zip(&mills);
    right
        .filter(|(image, mill)| read(image) == Some((mill.colour, mill.place)))
        .count()
}

fn wish(out: &Path, strength: f32) -> LoraWish {
    LoraWish::new(out.join("lora.safetensors"), strength)
}

/// A dozen pictures move the model towards a thing it never saw, and it forgets little.
///
/// The aim is 0.8 of the prompts with at most 0.03 of the following lost (docs/finetune.md). Here are 8 pictures a step, for
/// the time it takes; what is held is what was measured, 44 and 0.03, with room for other processors. Where the processor
/// has no bf16 products the lesson is a beginning only, as the whole of it takes a quarter of an hour there; 32
/// windmills were drawn after it.
#[test]
fn a_new_thing_is_learned() {
    let is_whole = kernels::has_half_products();
    let steps = if is_whole { 300 } else { 60 };
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), 12);
    let out = folder.path().join("run");
    let begun = std::time::Instant::now();
    let losses = tune(&config(steps), folder.path(), &out, false, 1000);
    let secs = begun.elapsed().as_secs_f32();
    let (_, mut bundle) = open();
    let ceiling = windmills_kept(&bundle);
    let (before, kept_before) = (windmills_right(&bundle), following(&bundle));
    bundle.wear(&[wish(&out, 1.0)]).unwrap();
    let (after, kept) = (windmills_right(&bundle), following(&bundle));
    eprintln!(
        "through the tokenizer {ceiling} of 48, windmills {before} -> {after}, following {kept_before} -> {kept}, {secs:.0} s, loss {} -> {}",
        losses[0],
        losses[losses.len() - 1]
    );
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    let (first, last) = (mean(&losses[..20]), mean(&losses[losses.len() - 20..]));
    assert!(
        last < if is_whole { 0.85 } else { 0.97 } * first,
        "{losses:?}"
    );
    assert!(ceiling >= 40, "{ceiling}");
    assert!(before <= 2, "{before}");
    assert!(after >= if is_whole { 36 } else { 12 }, "{after}");
    assert!(kept + 5 >= kept_before, "{kept_before} -> {kept}");
}

/// Stopping and going on gives the same adapter as not stopping, to the bit.
#[test]
fn a_stopped_run_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), 3);
    let config = FinetuneConfig {
        batch: 2,
        ..config(6)
    };
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let straight = tune(&config, folder.path(), &whole, false, 100);
    let mut stopped = tune(&config, folder.path(), &parts, false, 2);
    stopped.extend(tune(&config, folder.path(), &parts, true, 100));
    assert_eq!(straight, stopped);
    let load = |out: &Path| Checkpoint::load(&out.join("checkpoint.safetensors")).unwrap();
    assert!(load(&whole).state == load(&parts).state);
    let lora = |out: &Path| std::fs::read(out.join("lora.safetensors")).unwrap();
    assert!(lora(&whole) == lora(&parts));
}

/// Several devices learn what one learns: to the bit where both are the processor, closely on graphics.
#[test]
fn several_devices_share_every_update() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), 3);
    let config = FinetuneConfig {
        batch: 3,
        ..config(4)
    };
    let alone = folder.path().join("alone");
    let expected = tune(&config, folder.path(), &alone, false, 100);
    let together = |choice: DeviceChoice, name: &str| {
        let other = device::open(choice).ok()?;
        let other = Bundle::open(&starter(), &other).unwrap().transformer;
        let (device, mut bundle) = open();
        let collection = look_through(folder.path(), STARTER_SCALES, "").unwrap();
        let limits = Limits {
            resume: false,
            until: None,
            cancelled: &|| false,
        };
        let mut losses = Vec::new();
        let mut told = |progress: &Progress| {
            if let Progress::Line(line) = progress {
                losses.push(line.loss);
            }
        };
        let out = folder.path().join(name);
        finetune::run(
            &config,
            &mut bundle,
            &collection,
            &device,
            &[other],
            &out,
            &limits,
            &mut told,
            &mut |_| {},
        )
        .unwrap();
        Some(losses)
    };
    assert_eq!(together(DeviceChoice::Cpu, "two").unwrap(), expected);
    let lora = |name: &str| std::fs::read(folder.path().join(name).join("lora.safetensors"));
    assert!(lora("alone").unwrap() == lora("two").unwrap());
    let Some(losses) = together(DeviceChoice::Software, "software") else {
        eprintln!("SKIPPED: no software graphics driver, so no second device");
        return;
    };
    for (own, expected) in losses.iter().zip(&expected) {
        assert!((own - expected).abs() < 0.02 * expected, "{own} {expected}");
    }
}

/// A lesson that does not fit is made smaller, step by step, and says so; what it learns is the same but for rounding.
#[test]
fn a_lesson_fits_into_what_there_is() {
    let (device, bundle) = open();
    let schedule = ScaleSchedule::nearest(1.0, STARTER_SCALES).unwrap();
    let wished = FinetuneConfig {
        batch: 8,
        ..FinetuneConfig::default()
    };
    let fit = |free: u64| finetune::fit(&wished, &bundle, &device, &schedule, Some(free));
    let whole = fit(u64::MAX);
    assert_eq!(
        (whole.batch, whole.by_block, whole.notes.len()),
        (8, false, 0)
    );
    let again = fit(whole.memory.bytes() - 1);
    assert_eq!(
        (again.batch, again.by_block, again.notes.len()),
        (8, true, 1)
    );
    assert!(again.memory.bytes() < whole.memory.bytes());
    let fewer = fit(again.memory.bytes() - 1);
    assert!((1..8).contains(&fewer.batch) && fewer.by_block);
    assert!(
        fewer.notes[1].contains("8 pictures at once"),
        "{:?}",
        fewer.notes
    );
    let least = fit(1);
    assert_eq!(least.batch, 1);
    assert!(
        least.notes[2].contains("may not go well"),
        "{:?}",
        least.notes
    );

    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), 3);
    let learned = |by_block: bool| {
        let config = FinetuneConfig {
            by_block: Some(by_block),
            batch: 2,
            ..config(4)
        };
        let out = tempfile::tempdir().unwrap();
        tune(&config, folder.path(), out.path(), false, u64::MAX)
    };
    let (kept, again) = (learned(false), learned(true));
    assert_eq!(kept.len(), 4);
    for (kept, again) in kept.iter().zip(&again) {
        assert!((kept - again).abs() < 0.02 * kept, "{kept} {again}");
    }
}
