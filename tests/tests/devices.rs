//! The same wish on two devices: how far apart are the pictures?
//!
//! Draws are counter-based and bits and codes are summed on the host, so two
//! devices differ only where a logit's last digits tip a draw over.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and says what it measured"
)]

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use infinity_engine::api::{
    DeviceChoice, EngineError, Event, GenerateSpec, Rgb8Image, WeightStorage,
};
use infinity_engine::device::{self, OpenDevice};
use infinity_engine::generate::{Bundle, Plan, ScaleView, Watcher, generate};
use infinity_engine::kernels::{Precision, matrix_units, with_precision};
use infinity_engine::schedule::Scale;
use infinity_engine::vae::Decoding;
use infinity_engine::{SpawnOptions, spawn};

/// Logits of the first scale: two for each of 32 bits.
const FIRST_LOGITS: usize = 64;
/// Pictures compared.
const PICTURES: u64 = 8;

#[derive(Default)]
struct Record {
    logits: Vec<f32>,
    bits: Vec<u8>,
}

impl Watcher for Record {
    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        self.logits.extend(&view.logits[0]);
        self.bits.extend(&view.bits[0]);
        Ok(())
    }
}

fn record(bundle: &Bundle, seed: u64) -> Record {
    let prompt = &bundle.info.example_prompts[seed as usize % bundle.info.example_prompts.len()];
    let spec = GenerateSpec::new(prompt, seed);
    let depth = bundle.transformer.config.depth;
    let plan = Plan::new(&spec, bundle.info.scale_count, depth).unwrap();
    let mut record = Record::default();
    let text = bundle.encode(&[prompt]).unwrap();
    generate(&bundle.transformer, &text.into(), &plan, &mut record).unwrap();
    record
}

/// The starter's folder and the software driver; `None` where there is none, said.
fn starter_and_software() -> Option<(PathBuf, OpenDevice)> {
    let Ok(software) = device::open(DeviceChoice::Software) else {
        eprintln!("SKIPPED: no software graphics driver, so nothing to compare with");
        return None;
    };
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter");
    Some((starter, software))
}

/// Decodes every scale, the next one being with the device meanwhile; notes what happened when.
struct Ahead<'a> {
    bundle: &'a Bundle,
    last: Scale,
    bits: Vec<u8>,
    order: Vec<(&'static str, usize)>,
    decoding: Option<(usize, Decoding)>,
    pictures: Vec<Rgb8Image>,
}

impl Watcher for Ahead<'_> {
    fn tensor(&mut self, index: usize, name: &str, _tensor: &Tensor<3>) {
        if name == "block_last_out" {
            self.order.push(("given", index));
        }
    }

    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        self.bits.extend(&view.bits[0]);
        self.order.push(("drawn", view.index));
        let begun = self
            .bundle
            .begin_preview(&view.sums[0], view.scale, self.last);
        self.decoding = Some((view.index, begun));
        Ok(())
    }

    fn works_ahead(&self) -> bool {
        true
    }

    fn shown(&mut self) -> Result<(), EngineError> {
        let (index, decoding) = self.decoding.take().unwrap();
        self.pictures.push(decoding.finish()?);
        self.order.push(("shown", index));
        Ok(())
    }
}

/// A device has its next scale before a picture of the one before is awaited, and draws the same.
#[test]
fn the_next_scale_is_given_while_a_picture_is_on_its_way() {
    let cpu = device::open(DeviceChoice::Cpu).unwrap();
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter");
    let software = starter_and_software().map(|(_, software)| software);
    for device in [Some(cpu), software].into_iter().flatten() {
        let bundle = Bundle::open(&starter, &device).unwrap();
        let spec = GenerateSpec {
            scale_count: Some(4),
            ..GenerateSpec::new(&bundle.info.example_prompts[0], 3)
        };
        let plan = Plan::new(&spec, 4, bundle.transformer.config.depth).unwrap();
        let text = bundle
            .encode(&[&bundle.info.example_prompts[0]])
            .unwrap()
            .into();
        let mut plain = Record::default();
        generate(&bundle.transformer, &text, &plan, &mut plain).unwrap();
        let mut ahead = Ahead {
            bundle: &bundle,
            last: plan.schedule.last(),
            bits: Vec::new(),
            order: Vec::new(),
            decoding: None,
            pictures: Vec::new(),
        };
        generate(&bundle.transformer, &text, &plan, &mut ahead).unwrap();
        assert!(ahead.bits == plain.bits);
        let mut order = vec![("given", 0)];
        for index in 0..4 {
            order.push(("drawn", index));
            if index < 3 {
                order.push(("given", index + 1));
            }
            order.push(("shown", index));
        }
        assert_eq!(ahead.order, order);
        let sides: Vec<u32> = ahead.pictures.iter().map(|picture| picture.width).collect();
        assert_eq!(sides, [16, 32, 64, 96]);
    }
}

/// Products in f16 move logits a little, and only bits that were in doubt.
#[test]
fn rounded_products_draw_nearly_the_same_on_software_graphics() {
    let Some((starter, software)) = starter_and_software() else {
        return;
    };
    eprintln!("{:?}", matrix_units(&software.device));
    for weights in [
        WeightStorage::Single,
        WeightStorage::Half,
        WeightStorage::Small,
    ] {
        let mut software = software.clone();
        software.weights = weights;
        let bundle = Bundle::open(&starter, &software).unwrap();
        let exact = record(&bundle, 1);
        let half = with_precision(Precision::Rounded, || record(&bundle, 1));
        let logits = |record: &Record| record.logits[..FIRST_LOGITS].to_vec();
        let pairs = logits(&exact).into_iter().zip(logits(&half));
        let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let same = exact.bits.iter().zip(&half.bits).filter(|(a, b)| a == b);
        let share = same.count() as f32 / exact.bits.len() as f32;
        eprintln!("first logits {apart:.1e} apart, {share:.4} of the bits the same");
        assert!(
            apart > 0.0 && apart < 0.2 && share > 0.95,
            "{apart} {share}"
        );
    }
}

#[test]
fn the_starter_draws_the_same_on_processor_and_software_graphics() {
    let Some((starter, software)) = starter_and_software() else {
        return;
    };
    let one = Bundle::open(&starter, &device::open(DeviceChoice::Cpu).unwrap()).unwrap();
    let other = Bundle::open(&starter, &software).unwrap();
    let (mut same, mut different_bits, mut all_bits, mut furthest) = (0, 0, 0, 0.0_f32);
    for seed in 0..PICTURES {
        let (a, b) = (record(&one, seed), record(&other, seed));
        let differ = a.bits.iter().zip(&b.bits).filter(|(a, b)| a != b).count();
        same += u32::from(differ == 0);
        different_bits += differ;
        all_bits += a.bits.len();
        if differ == 0 {
            let distances = a.logits.iter().zip(&b.logits).map(|(a, b)| (a - b).abs());
            furthest = furthest.max(distances.fold(0.0, f32::max));
        }
    }
    eprintln!(
        "{same} of {PICTURES} pictures equal to the bit, {different_bits} of {all_bits} bits differ, \
         logits at most {furthest:.1e} apart where all bits agree"
    );
    assert!(
        same >= PICTURES as u32 / 2,
        "only {same} of {PICTURES} pictures agree"
    );
    assert!(furthest < 2e-3, "logits are {furthest} apart");
}

/// Weights, keys and values in eight bits mean the same on both, and on both they are in eight bits.
#[test]
fn eight_bits_are_the_same_on_software_graphics() {
    let Ok(mut software) = device::open(DeviceChoice::Software) else {
        eprintln!("SKIPPED: no software graphics driver, so nothing to compare with");
        return;
    };
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter");
    let mut processor = device::open(DeviceChoice::Cpu).unwrap();
    let whole = record(&Bundle::open(&starter, &processor).unwrap(), 1);
    software.weights = WeightStorage::Eight;
    processor.weights = WeightStorage::Eight;
    let a = record(&Bundle::open(&starter, &processor).unwrap(), 1);
    let b = record(&Bundle::open(&starter, &software).unwrap(), 1);
    // The first scale has seen no draw yet: its logits differ by rounding alone, and from those in f32 by more.
    let apart = |a: &Record, b: &Record| {
        let first = a.logits.iter().zip(&b.logits).take(FIRST_LOGITS);
        first.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let (devices, widths) = (apart(&a, &b), apart(&a, &whole));
    let differ = a.bits.iter().zip(&b.bits).filter(|(a, b)| a != b).count();
    eprintln!(
        "first logits {devices:.1e} apart, {widths:.1e} from f32; {differ} of {} bits differ",
        a.bits.len()
    );
    assert!(devices < 2e-3 && widths > 2.0 * devices);
    assert!(10 * differ < a.bits.len());
}

/// An engine that opens a graphics device tries it with a small fixed model, once per driver.
#[test]
fn a_graphics_device_is_tried_before_it_draws() {
    if device::open(DeviceChoice::Software).is_err() {
        eprintln!("SKIPPED: no software graphics driver to try");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let passed = folder.path().join("devices.txt");
    let mut times = Vec::new();
    for _ in 0..2 {
        let begun = std::time::Instant::now();
        let engine = spawn(SpawnOptions {
            passed: Some(passed.clone()),
            ..SpawnOptions::new(DeviceChoice::Software, None)
        })
        .unwrap();
        let Some(Event::DeviceReady { device }) = engine.wait_event() else {
            panic!("the software driver computes right");
        };
        times.push(begun.elapsed().as_secs_f32());
        let lines = std::fs::read_to_string(&passed).unwrap();
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains(&device.driver) && !device.driver.is_empty());
        engine.shut_down().unwrap();
    }
    eprintln!("opened in {times:.2?} s, the second time without the test");
}
