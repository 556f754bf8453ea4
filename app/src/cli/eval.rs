//! `infinity eval`: how well a model follows its prompts.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use infinity_engine::api::{DeviceChoice, LoraWish, Mode, WeightStorage};
use infinity_engine::device::{self, OpenDevice};
use infinity_engine::eval::{EvalSpec, GroupScore, evaluate, through_tokenizer};
use infinity_engine::generate::Bundle;
use infinity_engine::kernels::{Precision, with_precision};
use infinity_engine::schedule::ScaleSchedule;
use infinity_engine::train::open_vae;
use infinity_engine::train::report::write_sheet;

use super::values::Numbers;
use super::{CliError, models, values};

/// Draw postcard prompts and read the pictures back: how many show everything they should?
///
/// Prompts come in three groups: combinations seen in training, combinations never seen, and
/// loosely worded ones. Postcards through the tokenizer alone are the ceiling of all three.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  infinity eval --prompts 500\n  infinity eval --model runs/transformer/model --prompts 64 --cfg 3 --tau 0.6 --json report.json"
)]
pub(super) struct Args {
    /// Model folder, or the folder of a tokenizer's training run; `$INFINITY_MODEL` or the starter when left out.
    #[arg(long)]
    model: Option<PathBuf>,
    /// A LoRA to put on, by itself or with its strength; again for more than one.
    #[arg(long, value_name = "FILE[=STRENGTH]", value_parser = values::lora)]
    lora: Vec<LoraWish>,
    /// Prompts per group.
    #[arg(long, default_value_t = 64)]
    prompts: usize,
    /// Seed of prompts and pictures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Height over width.
    #[arg(long, default_value_t = 1.0)]
    ratio: f32,
    /// Scales to draw; the model's own number unless given.
    #[arg(long)]
    scales: Option<usize>,
    /// Guidance, one number or one per scale; the model's own unless given.
    #[arg(long, value_parser = values::numbers)]
    cfg: Option<Numbers>,
    /// How much of the guidance is drawn: exact (as the paper), balanced (none at the last quarter of the scales) or draft (none at the last half): quicker.
    #[arg(long, value_name = "MODE", default_value = "exact", value_parser = values::mode)]
    mode: Mode,
    /// Round factors of matrix products, as `draw --half-products` does.
    #[arg(long)]
    half_products: bool,
    /// Temperature, one number or one per scale; the model's own unless given.
    #[arg(long, value_parser = values::numbers)]
    tau: Option<Numbers>,
    /// Highest mean probability of the likelier bits of a scale, 0.5 to 1; temperatures rise until that is met.
    #[arg(long)]
    certainty: Option<f32>,
    /// Writes the whole report to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the first 24 held-out pictures to this file, eight in a row, and lists their prompts.
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Where to compute: auto, gpu, gpu:N, cpu or software.
    #[arg(long, default_value = "auto", value_parser = values::device)]
    device: DeviceChoice,
    /// How the model is kept in memory: single (f32), half, small (keys and values in half precision too), smaller (these in eight bits), eight (the model in eight bits too), or the first of these that fits (auto; half at once where the files are so and the processor multiplies that as it lies).
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = values::weights)]
    weights: WeightStorage,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let folder = models::find_or_say(args.model.as_deref())?;
    let mut device = device::open(args.device)?;
    device.weights = args.weights;
    let mut spec = EvalSpec {
        prompts: args.prompts.max(1),
        seed: args.seed,
        ratio: args.ratio,
        scale_count: args.scales,
        cfg: args.cfg.clone().map(|list| list.0).unwrap_or_default(),
        tau: args.tau.clone().map(|list| list.0).unwrap_or_default(),
        certainty: args.certainty,
    };
    if folder.join("vae.json").exists() {
        return run_tokenizer(&folder, &device, &spec);
    }
    let mut bundle = Bundle::open(&folder, &device)?;
    bundle.wear(&args.lora)?;
    let scales = spec.scale_count.unwrap_or(bundle.info.scale_count);
    if spec.cfg.is_empty() {
        spec.cfg.push(bundle.info.cfg);
    }
    spec.cfg = args.mode.guidance(&spec.cfg, scales);
    let mut tell = |done, total| eprint!("\r{done} of {total} pictures");
    let work = || evaluate(&bundle, &spec, &mut tell);
    let report = with_precision(Precision::wished(args.half_products), work)?;
    eprintln!();
    let (width, height) = report.size_px;
    println!(
        "{} at {width}×{height}, CFG {:?}, tau {:?}",
        report.model, report.cfg, report.tau
    );
    println!(
        "tokenizer: {:.2} dB on held-out postcards",
        report.reconstruction_psnr
    );
    for group in report.reconstructions.iter().chain(&report.groups) {
        print_group(group);
    }
    println!(
        "how often two of sixteen pictures of one prompt differ in what it leaves free (painted)"
    );
    for row in &report.variety {
        println!("  {:14} {:.3} ({:.3})", row.name, row.drawn, row.painted);
    }
    if let Some(path) = &args.sheet {
        for (index, (prompt, _)) in report.samples.iter().enumerate() {
            println!("{:2}. {prompt}", index + 1);
        }
        let images: Vec<_> = report
            .samples
            .iter()
            .map(|(_, image)| image.clone())
            .collect();
        write_sheet(path, &images, 8)?;
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_vec_pretty(&report).context("writing the report")?;
        infinity_engine::weights::atomic_write(path, &text)?;
    }
    Ok(())
}

/// Scales at which a tokenizer without a model is looked at, those of the starter.
const TOKENIZER_SCALES: usize = 7;

/// The tokenizer of a training run, before there is a transformer.
fn run_tokenizer(folder: &Path, device: &OpenDevice, spec: &EvalSpec) -> Result<(), CliError> {
    let vae = open_vae(folder, &device.device)?;
    let schedule =
        ScaleSchedule::nearest(spec.ratio, spec.scale_count.unwrap_or(TOKENIZER_SCALES))?;
    let (psnr, groups) = through_tokenizer(&vae, spec, &schedule)?;
    let (width, height) = schedule.size_px();
    println!("tokenizer at {width}×{height}: {psnr:.2} dB on held-out postcards");
    for group in &groups {
        print_group(group);
    }
    Ok(())
}

fn print_group(group: &GroupScore) {
    println!(
        "{:20} {:.3} followed ({} of {}); clouds and stars as well: {:.3}",
        group.group,
        group.share(),
        group.followed,
        group.prompts,
        group.followed_with_sky as f32 / group.prompts.max(1) as f32
    );
    for attribute in &group.attributes {
        let share = attribute.right as f32 / attribute.named.max(1) as f32;
        println!(
            "  {:14} {share:.3} ({} of {})",
            attribute.name, attribute.right, attribute.named
        );
    }
}
