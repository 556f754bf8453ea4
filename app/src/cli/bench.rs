//! `infinity bench`: how fast this machine draws.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use infinity_engine::api::{DeviceChoice, EngineError, PixelBudget, WeightStorage, bytes_text};
use infinity_engine::bench::{
    Measure, PartTime, Preset, Report, loading, operations, picture_giga_operations,
    run as measure, training,
};
use infinity_engine::device::{self, OpenDevice};
use infinity_engine::model::ModelConfig;
use infinity_engine::weights::atomic_write;

use super::{CliError, values};

/// Seconds of the reference program for the transformer of `125m` (torch 2.5.1, f32, 2 threads of an EPYC).
const REFERENCE_DRAW_SECS: f32 = 1.62;
/// Seconds of the reference program for decoding its picture.
const REFERENCE_DECODE_SECS: f32 = 2.16;

/// Measure how long each part of drawing a picture takes.
///
/// The weights are random: times depend on shapes only. `starter` is the model
/// that comes along, whole; the others are published sizes without their text encoder, in f32;
/// of `125m` the reference program's times on two processor cores are known. `training` makes a few updates of the
/// starter's own settings; `operations` times each operation written by hand beside the tensor operations that define
/// it; `loading` writes a 2B of random weights (4.4 GB, into the folder for passing use) and loads it. `card` is the one to run on a graphics
/// card: the starter, 125m and 2b in all sizes, with factors as they are and rounded, whatever fits and does not take too long.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  infinity bench
  infinity bench --preset 125m --device cpu --json times.json
  infinity bench --preset 2b --pn 1M --weights half --half-products
  infinity bench --preset card --json card.json
  infinity bench --compare before.json after.json")]
pub(super) struct Args {
    /// What to measure: starter, 125m, 1b, 2b, 8b, card, training, operations or loading.
    #[arg(long, default_value = "starter", value_parser = ["starter", "125m", "1b", "2b", "8b", "card", "training", "operations", "loading"])]
    preset: String,
    /// Size of the picture by its published name: 0.06M (256×256), 0.25M, 0.60M or 1M (1024×1024).
    #[arg(long, value_name = "NAME", default_value = "0.06M", value_parser = values::budget)]
    pn: PixelBudget,
    /// Measure nothing: compare the times in two files written by --json.
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    compare: Vec<PathBuf>,
    /// Where to compute: auto, gpu, gpu:N, cpu or software.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = values::device)]
    device: DeviceChoice,
    /// Round factors of matrix products, as `draw --half-products` does.
    #[arg(long)]
    half_products: bool,
    /// How the transformer is kept: auto (here f32), single, half, small, smaller or eight, as for `draw`.
    #[arg(long, value_name = "KIND", default_value = "auto", value_parser = values::weights)]
    weights: WeightStorage,
    /// With `card`: seconds that one of its lines may be expected to take.
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    at_most: f32,
    /// Runs after the first; the quickest of them counts.
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Also write the times to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Args {
    /// Whether it is training that is measured.
    pub(super) fn trains(&self) -> bool {
        self.preset == "training"
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if let [a, b] = args.compare.as_slice() {
        return side_by_side(&read(a)?, &read(b)?);
    }
    let begun = Instant::now();
    let open = device::open(args.device)?;
    let opening = begun.elapsed().as_secs_f32();
    if args.trains() {
        return run_training(args, &open);
    }
    if args.preset == "operations" {
        return run_operations(args, &open);
    }
    if args.preset == "loading" {
        return run_loading(args, &open);
    }
    if args.preset == "card" {
        return run_card(args, &open);
    }
    let preset = Preset::ALL
        .into_iter()
        .find(|preset| preset.name() == args.preset)
        .ok_or_else(|| CliError::Usage(format!("--preset {} is not known", args.preset)))?;
    let report = measure(
        &Measure {
            preset,
            scales: args.pn.scale_count(),
            warm_runs: args.runs.clamp(1, 1000),
            weights: args.weights,
            half_products: args.half_products,
        },
        &open,
    )?;
    print(&report, opening);
    if preset == Preset::M125 && args.pn == PixelBudget::P006M {
        compare("drawing", report.sum("scale").1, REFERENCE_DRAW_SECS);
        compare("decoding", report.sum("decode").1, REFERENCE_DECODE_SECS);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&report).context("writing the times")?;
        atomic_write(path, &text)?;
    }
    Ok(())
}

/// Pictures that `card` draws, from small to large.
const CARD: [(Preset, PixelBudget); 6] = [
    (Preset::Starter, PixelBudget::P006M),
    (Preset::M125, PixelBudget::P006M),
    (Preset::B2, PixelBudget::P006M),
    (Preset::B2, PixelBudget::P025M),
    (Preset::B2, PixelBudget::P060M),
    (Preset::B2, PixelBudget::P1M),
];

/// In how little a model may be kept where it does not fit otherwise.
const SMALLER: [WeightStorage; 4] = [
    WeightStorage::Half,
    WeightStorage::Small,
    WeightStorage::Smaller,
    WeightStorage::Eight,
];

fn run_card(args: &Args, open: &OpenDevice) -> Result<(), CliError> {
    let mut reports: Vec<Report> = Vec::new();
    for (preset, pn) in CARD {
        for half_products in [false, true] {
            if half_products && !open.info.half_products {
                continue;
            }
            let name = format!(
                "{} {}{}",
                preset.name(),
                pn.name(),
                if half_products { ", rounded" } else { "" }
            );
            let scales = pn.scale_count();
            let operations = picture_giga_operations(preset, scales)?;
            let runs = args.runs.clamp(1, 1000);
            let speeds = reports.iter().map(Report::giga_operations_per_sec);
            if let Some(speed) = speeds.reduce(f32::max) {
                let expected = operations * (runs + 1) as f32 / speed;
                if expected > args.at_most {
                    let minutes = (expected / 60.0).ceil();
                    println!("{name:<20} left out: it may take {minutes:.0} min");
                    continue;
                }
            }
            let kept_as = |weights| {
                let wish = Measure {
                    preset,
                    scales,
                    warm_runs: runs,
                    weights,
                    half_products,
                };
                measure(&wish, open)
            };
            // Large weights as they are published and as they are multiplied; where they do not fit, in less.
            let first = if half_products && preset == Preset::B2 {
                WeightStorage::Half
            } else {
                args.weights
            };
            let mut measured = kept_as(first);
            for smaller in SMALLER {
                if let Err(EngineError::BadSetting { .. }) = &measured {
                    measured = kept_as(smaller);
                }
            }
            match measured {
                Ok(report) => {
                    if reports.is_empty() {
                        print_device(&report);
                        println!(
                            "{:<20} {:>9} {:>9} {:>9} {:>8} {:>9} {:>8} {:>10}",
                            "",
                            "drawing s",
                            "previews",
                            "decoding",
                            "kernels",
                            "GFLOP/s",
                            "of peak",
                            "memory, kept"
                        );
                    }
                    let speed = report.giga_operations_per_sec();
                    let kernels: u64 = report.parts.iter().map(|part| part.launches).sum();
                    println!(
                        "{name:<20} {:>9.3} {:>9.3} {:>9.3} {kernels:>8} {speed:>9.0} {:>6.0} % {:>10} {}",
                        report.sum("scale").1,
                        report.sum("preview").1,
                        report.sum("decode").1,
                        100.0 * speed / report.peak(),
                        bytes_text(report.allocated.map_or(report.memory, |[_, most]| most)),
                        format!("{:?}, {:?}", report.keeping.weights, report.keeping.cache)
                            .to_lowercase(),
                    );
                    reports.push(report);
                }
                Err(error) => println!("{name:<20} left out: {error}"),
            }
        }
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&reports).context("writing the times")?;
        atomic_write(path, &text)?;
    }
    Ok(())
}

/// What a device is and what it multiplies.
fn print_device(report: &Report) {
    let device = &report.device;
    println!("{} {} {}", device.name, device.backend, device.driver);
    let side = report.matrix_side;
    println!(
        "product of {side}×{side} matrices, f32: {:.0} GFLOP/s",
        report.matrix_peak
    );
    if let Some(half) = report.half_peak {
        let units = report.matrix_units.map_or_else(
            || ", no matrix units in use".to_owned(),
            |tile| format!(", on matrix units of {tile}×{tile}"),
        );
        let units = if device.backend.is_empty() {
            ""
        } else {
            &units
        };
        println!("the same with rounded factors: {half:.0} GFLOP/s{units}");
    }
}

/// Updates between two looks at the clock.
const TRAINING_UPDATES: u64 = 12;

fn run_training(args: &Args, open: &OpenDevice) -> Result<(), CliError> {
    let out = tempfile::tempdir().context("making a folder for the training run")?;
    let report = training(open, TRAINING_UPDATES, out.path())?;
    let device = &report.device;
    println!("{} {} ({})", device.name, device.backend, device.reason);
    let side = report.matrix_side;
    println!(
        "product of {side}×{side} matrices, f32: {:.0} GFLOP/s",
        report.single_peak
    );
    if let Some(half) = report.half_peak {
        println!("the same with rounded factors: {half:.0} GFLOP/s");
    }
    for run in &report.runs {
        let share = |peak: f32| 100.0 * run.gigaflops / peak;
        print!("{:<12} {:>6.1} pictures/s", run.name, run.pictures_per_sec);
        if run.gigaflops > 0.0 {
            print!(
                ", {:.0} GFLOP/s: {:.0} % of the f32 product",
                run.gigaflops,
                share(report.single_peak)
            );
        }
        if let Some(half) = report.half_peak {
            print!(", {:.0} % of the rounded product", share(half));
        }
        println!();
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&report).context("writing the speeds")?;
        atomic_write(path, &text)?;
    }
    Ok(())
}

fn run_operations(args: &Args, open: &OpenDevice) -> Result<(), CliError> {
    let mut reports = Vec::new();
    for preset in [Preset::Starter, Preset::M125] {
        let report = operations(preset, open)?;
        let device = &report.device;
        println!(
            "{} {}: shapes of {}",
            device.name,
            device.backend,
            preset.name()
        );
        println!(
            "{:<20} {:>20} {:>9} {:>11} {:>6}",
            "operation", "result", "by hand", "defined, ms", "gain"
        );
        for one in &report.operations {
            println!(
                "{:<20} {:>20} {:>9.3} {:>11.3} {:>6.2}",
                one.name,
                format!("{:?}", one.shape),
                one.own_ms,
                one.defined_ms,
                one.defined_ms / one.own_ms
            );
        }
        reports.push(report);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&reports).context("writing the times")?;
        atomic_write(path, &text)?;
    }
    Ok(())
}

fn run_loading(args: &Args, open: &OpenDevice) -> Result<(), CliError> {
    let folder = tempfile::tempdir().context("making a folder for the weights")?;
    let report = loading(&ModelConfig::b2(), open, folder.path())?;
    println!(
        "{} of weights in half precision, in the memory of the system already: read in {:.2} s",
        bytes_text(report.bytes),
        report.read_secs
    );
    for load in &report.loads {
        println!(
            "kept in {:<6} {:>5.2} s, {:.1} times as long; {} held, {} more on the way",
            format!("{:?}", load.storage).to_lowercase(),
            load.secs,
            load.secs / report.read_secs,
            bytes_text(load.held),
            bytes_text(load.on_top)
        );
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&report).context("writing the times")?;
        atomic_write(path, &text)?;
    }
    Ok(())
}

fn print(report: &Report, opening: f32) {
    println!("opened in {opening:.2} s ({})", report.device.reason);
    print_device(report);
    println!(
        "{}: {:.1} million weights, {}×{} pixels, CFG 3; {} in memory (computed)",
        report.preset,
        report.parameters as f64 / 1e6,
        report.size_px.0,
        report.size_px.1,
        bytes_text(report.memory)
    );
    if let Some([held, most]) = report.allocated {
        println!(
            "allocator: {} taken from the device at most, {} of it in use at the end",
            bytes_text(most),
            bytes_text(held)
        );
    }
    if report.half_products {
        println!("factors of the networks' products are rounded");
    }
    println!();
    println!(
        "{:<10} {:>6} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "part", "tokens", "first s", "warm s", "device s", "kernels", "waits", "GFLOP/s", "of peak"
    );
    for PartTime {
        name,
        tokens,
        first_secs,
        warm_secs,
        launches,
        readings,
        device_secs,
        giga_operations,
    } in &report.parts
    {
        let device = device_secs.map_or("-".to_owned(), |secs| format!("{secs:.4}"));
        print!(
            "{name:<10} {tokens:>6} {first_secs:>9.4} {warm_secs:>9.4} {device:>9} {launches:>8} {readings:>8}"
        );
        if *giga_operations > 0.0 && *warm_secs > 0.0 {
            let speed = giga_operations / warm_secs;
            let share = 100.0 * speed / report.peak();
            print!(" {speed:>8.0} {share:>6.0} %");
        }
        println!();
    }
    println!();
    for (what, start) in [
        ("text", "text"),
        ("drawing", "scale"),
        ("previews", "preview"),
        ("decoding", "decode"),
        ("all", ""),
    ] {
        let (first, warm) = report.sum(start);
        println!("{what:<17} {first:>9.4} {warm:>9.4}");
    }
}

/// Reads what `--json` wrote.
fn read(path: &Path) -> Result<Report, CliError> {
    let why = || format!("these times cannot be read: {path:?}");
    let bytes = std::fs::read(path).with_context(why)?;
    Ok(serde_json::from_slice(&bytes).with_context(why)?)
}

/// Prints two reports beside each other.
fn side_by_side(a: &Report, b: &Report) -> Result<(), CliError> {
    if (&a.preset, a.size_px) != (&b.preset, b.size_px) {
        return Err(CliError::failed(format!(
            "these are times of different pictures: {} at {}×{} and {} at {}×{}",
            a.preset, a.size_px.0, a.size_px.1, b.preset, b.size_px.0, b.size_px.1
        )));
    }
    println!("A: {} {}", a.device.name, a.device.driver);
    println!("B: {} {}\n", b.device.name, b.device.driver);
    println!("{:<17} {:>9} {:>9} {:>8}", "warm", "A, s", "B, s", "A / B");
    let line = |what: &str, one: f32, other: f32| {
        println!("{what:<17} {one:>9.4} {other:>9.4} {:>8.2}", one / other);
    };
    for (one, other) in a.parts.iter().zip(&b.parts) {
        line(&one.name, one.warm_secs, other.warm_secs);
    }
    line("all", a.sum("").1, b.sum("").1);
    Ok(())
}

fn compare(what: &str, secs: f32, reference: f32) {
    println!(
        "{what}: {secs:.2} s; the reference on two processor cores {reference:.2} s: {:.2} times as fast",
        reference / secs
    );
}
