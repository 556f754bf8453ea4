#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops at the first surprise"
)]
//! Memory: what is computed beforehand against what the allocator really gave.
//!
//! One test, for the counter sees the whole process.

use infinity_engine::api::{DeviceChoice, GenerateSpec, MemoryNeed, WeightStorage, bytes_text};
use infinity_engine::device::{self, OpenDevice};
use infinity_engine::finetune::{self, Collection, FinetuneConfig, look_through};
use infinity_engine::generate::Bundle;
use infinity_engine::kernels::{self, Precision};
use infinity_engine::memory::{self, Drawing, Teaching};
use infinity_engine::schedule::ScaleSchedule;
use infinity_engine::train::{Limits, Progress};
use infinity_tests::models::{STARTER_SCALES, starter};
use infinity_tests::windmill::write_folder;
use peak_alloc::PeakAlloc;

#[global_allocator]
static COUNTER: PeakAlloc = PeakAlloc;

/// What was taken is at most what was computed, and that is not far more.
fn hold(what: &str, took: u64, need: &MemoryNeed) {
    let (took, computed) = (took as f64, need.bytes() as f64);
    eprintln!(
        "{what}: took {}, computed {}",
        bytes_text(took as u64),
        bytes_text(computed as u64)
    );
    assert!(took <= computed, "{what} takes more: {need:?}");
    assert!(computed < 1.6 * took, "{what} takes less: {need:?}");
}

/// Highest memory while two updates are made.
fn taught(
    config: &FinetuneConfig,
    bundle: &mut Bundle,
    collection: &Collection,
    device: &OpenDevice,
) -> u64 {
    let out = tempfile::tempdir().unwrap();
    let limits = Limits {
        resume: false,
        until: None,
        cancelled: &|| false,
    };
    let mut peak = 0;
    let mut watch = |progress: &Progress| match progress {
        Progress::Samples { .. } => COUNTER.reset_peak_usage(),
        Progress::Line(_) => peak = COUNTER.peak_usage() as u64,
        _ => {}
    };
    finetune::run(
        config,
        bundle,
        collection,
        device,
        &[],
        out.path(),
        &limits,
        &mut watch,
        &mut |_| {},
    )
    .unwrap();
    peak
}

/// Highest memory while a picture of `scales` scales is drawn.
fn drawn(bundle: &Bundle, scales: usize, half_products: bool) -> u64 {
    let mut spec = GenerateSpec::new("blue sea, a red boat", 1);
    spec.scale_count = Some(scales);
    spec.half_products = half_products;
    COUNTER.reset_peak_usage();
    bundle.draw(&spec).unwrap();
    COUNTER.peak_usage() as u64
}

/// What such a picture is computed to take.
fn drawing(bundle: &Bundle, device: &OpenDevice, scales: usize) -> MemoryNeed {
    let job = Drawing {
        schedule: &ScaleSchedule::nearest(1.0, scales).unwrap(),
        pictures: 1,
        guided: true,
        max_elements: device.max_elements,
        keeping: bundle.info.keeping,
        work: device.work(),
    };
    memory::drawing(&bundle.sizes(), &job)
}

#[test]
fn what_is_computed_beforehand_is_what_it_takes() {
    let mut device = device::open(DeviceChoice::Cpu).unwrap();
    device.weights = WeightStorage::Single;
    let before = COUNTER.current_usage() as u64;
    let mut bundle = Bundle::open(&starter(), &device).unwrap();
    let sizes = bundle.sizes();
    let single = COUNTER.current_usage() as u64 - before;
    let mut halved = device.clone();
    halved.weights = WeightStorage::Half;
    let before_half = COUNTER.current_usage() as u64;
    let half = Bundle::open(&starter(), &halved).unwrap();
    let both = COUNTER.current_usage() as u64 - before;
    let blocks = single - (both - single);
    assert!(
        blocks * 2 > sizes.weights[0] * 4 * 8 / 10,
        "half precision saves {blocks} bytes"
    );
    // Weights in half precision are not widened as a whole to be multiplied.
    let took = drawn(&half, 7, false) - before_half;
    hold(
        "a picture, weights halved",
        took,
        &drawing(&half, &device, 7),
    );
    drop(half);
    let before_eight = COUNTER.current_usage() as u64;
    halved.weights = WeightStorage::Eight;
    let eight = Bundle::open(&starter(), &halved).unwrap();
    let took = COUNTER.current_usage() as u64 - before_eight;
    assert!(
        took < both - single - sizes.weights[0] / 2,
        "eight bits take {took} bytes, half precision {}",
        both - single
    );
    drop(eight);
    for (scales, half_products) in [(5, false), (7, false), (9, false), (7, true)] {
        let took = drawn(&bundle, scales, half_products) - before;
        let need = drawing(&bundle, &device, scales);
        let what = format!("a picture of {scales} scales, rounded: {half_products}");
        hold(&what, took, &need);
    }

    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), 4);
    let collection = look_through(folder.path(), STARTER_SCALES, "").unwrap();
    for (precision, by_block, batch, weights) in [
        (Precision::Half, false, 8, WeightStorage::Single),
        (Precision::Half, true, 2, WeightStorage::Single),
        (Precision::Half, true, 8, WeightStorage::Single),
        (Precision::Off, false, 2, WeightStorage::Single),
        (Precision::Off, false, 8, WeightStorage::Single),
        (Precision::Off, true, 8, WeightStorage::Single),
        (Precision::Half, false, 2, WeightStorage::Half),
    ] {
        if weights != device.weights {
            device.weights = weights;
            bundle = Bundle::open(&starter(), &device).unwrap();
        }
        let mut config = FinetuneConfig {
            steps: 2,
            batch,
            prior: 0.0,
            by_block: Some(by_block),
            save_every: 100,
            ..FinetuneConfig::default()
        };
        config.optimizer.precision = precision;
        let took = taught(&config, &mut bundle, &collection, &device) - before;
        let need = memory::teaching(
            &sizes,
            &Teaching {
                schedule: &ScaleSchedule::nearest(1.0, STARTER_SCALES).unwrap(),
                batch,
                rank: config.rank,
                layers: &config.layers,
                workers: config.optimizer.workers,
                by_block,
                keeping: bundle.info.keeping,
                own_operations: precision != Precision::Off && kernels::available(),
            },
        );
        let what =
            format!("teaching {batch} at once, by block: {by_block}, {precision:?}, {weights:?}");
        hold(&what, took, &need);
    }
}
