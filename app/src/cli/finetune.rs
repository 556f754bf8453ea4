//! `infinity finetune`: a LoRA from a folder of pictures.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use infinity_engine::api::{DeviceChoice, EngineError, WeightStorage, bytes_text};
use infinity_engine::device;
use infinity_engine::finetune::{self, FinetuneConfig, look_through};
use infinity_engine::generate::Bundle;
use infinity_engine::train::{Limits, Progress};

use super::{CliError, models, places, values};
use crate::place::Place;

/// Teach the model your own pictures: a LoRA from a folder.
///
/// The folder holds .png, .jpg or .webp pictures and, beside each, a .txt or .caption file that says what it shows.
/// A subfolder whose name starts with 10 and an underscore counts its pictures ten times; Infinity's .jsonl lists are read too. The result,
/// lora.safetensors, goes to `infinity draw --lora`. Stop with Ctrl+C and go on later with `--resume`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  infinity finetune --data windmills --out runs/windmill --trigger windmill\n  infinity finetune --data ink --out runs/ink --config ink.json --resume\n  infinity finetune --data windmills --check"
)]
pub(super) struct Args {
    /// Folder with the pictures.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder of the run; made when it is not there.
    #[arg(long, value_name = "DIR", required_unless_present = "check")]
    out: Option<PathBuf>,
    /// Only look through the folder and say what is wrong.
    #[arg(long)]
    check: bool,
    /// Settings as a JSON file; the options below go before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Model folder; `$INFINITY_MODEL` or the starter when left out.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Name of the LoRA; the folder's when left out.
    #[arg(long)]
    name: Option<String>,
    /// Word that calls it up; goes before every caption, or where one says [trigger].
    #[arg(long)]
    trigger: Option<String>,
    /// Updates.
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Pictures per update.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Rows of the thin matrices: 4 to 64.
    #[arg(long, value_name = "N")]
    rank: Option<usize>,
    /// Numerator of the scale alpha / rank; the rank when left out.
    #[arg(long, value_name = "X")]
    alpha: Option<f32>,
    /// Learning rate.
    #[arg(long, value_name = "X")]
    rate: Option<f32>,
    /// Views of each picture, a little larger and cut to one side, that are learned beside it: 0 to 8.
    #[arg(long, value_name = "N")]
    views: Option<usize>,
    /// Each picture is learned mirrored as well, with left and right changed in its caption; not for pictures with writing.
    #[arg(long)]
    mirror: bool,
    /// Chance that a part of a caption, between commas, is left out and the others change places, so that few pictures say more: 0 to 0.5.
    #[arg(long, value_name = "X")]
    drop_parts: Option<f32>,
    /// Scales that the pictures are learned at, and so their size; the model's own number when left out.
    #[arg(long, value_name = "N")]
    scales: Option<usize>,
    /// Number of first scales in which bits are flipped.
    #[arg(long, value_name = "N")]
    flip_scales: Option<usize>,
    /// Largest share of bits flipped (bitwise self-correction): 0 to 0.3.
    #[arg(long, value_name = "X")]
    flips: Option<f32>,
    /// Share of pictures that the model drew itself, so that it does not forget: 0 to 0.5.
    #[arg(long, value_name = "X")]
    prior: Option<f32>,
    /// A text file with the prompts of those pictures, one per line.
    #[arg(long, value_name = "FILE")]
    prior_prompts: Option<PathBuf>,
    /// Seed of everything random.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Go on from the checkpoint in the folder.
    #[arg(long)]
    resume: bool,
    /// Stop, with a checkpoint, after this many minutes.
    #[arg(long, value_name = "N")]
    minutes: Option<f32>,
    /// Where to compute: auto, gpu, gpu:N, cpu, software, or several with + between (gpu:0+gpu:1): each learns a share of every update.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = Place::parse)]
    device: Place,
    /// How the model is kept in memory: single (f32), half, small (keys and values in half precision too), smaller (these in eight bits), eight (the model in eight bits too), or the first of these that fits (auto; half at once where the files are so and the processor multiplies that as it lies).
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = values::weights)]
    weights: WeightStorage,
}

/// The settings: those of the file, then what was given by itself.
fn config(args: &Args) -> Result<FinetuneConfig, CliError> {
    let mut config = FinetuneConfig::default();
    if let Some(path) = &args.config {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {path:?}"))?;
        config = serde_json::from_str(&text).with_context(|| format!("in {path:?}"))?;
    }
    let folder = args.data.file_name().and_then(|name| name.to_str());
    if config.name.is_empty() {
        config.name = folder.unwrap_or("LoRA").to_owned();
    }
    macro_rules! set {
        ($($from:ident => $to:ident),*) => {
            $(if let Some(value) = args.$from.clone() {
                config.$to = value;
            })*
        };
    }
    set!(name => name, trigger => trigger, steps => steps, batch => batch, rank => rank, rate => learning_rate,
        views => views, flips => flip_strength, flip_scales => flip_scales, prior => prior,
        drop_parts => part_drop, seed => seed);
    config.alpha = args.alpha.or(config.alpha);
    config.mirror |= args.mirror;
    config.scale_count = args.scales.or(config.scale_count);
    if let Some(path) = &args.prior_prompts {
        config.prior_prompts = places::prompts_in(path)?;
    }
    Ok(config)
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let config = config(args)?;
    let folder = models::find_or_say(args.model.as_deref())?;
    let [first, others @ ..] = args.device.devices() else {
        let said = "pictures are taught on this machine: name a device of it";
        return Err(CliError::Usage(said.to_owned()));
    };
    let open = |choice: DeviceChoice| {
        let mut device = device::open(choice)?;
        device.weights = args.weights;
        let bundle = Bundle::open(&folder, &device)?;
        Ok::<_, EngineError>((device, bundle))
    };
    let (device, mut bundle) = open(*first)?;
    let scales = config.scale_count.unwrap_or(bundle.info.scale_count);
    let collection = look_through(&args.data, scales, &config.trigger)?;
    for finding in &collection.findings {
        let verdict = if finding.left_out { "left out" } else { "note" };
        println!("{verdict}: {}: {}", finding.path.display(), finding.what);
    }
    println!(
        "{} pictures, {} with words to learn them by",
        collection.pictures.len(),
        collection.captioned()
    );
    let Some(out) = args.out.as_deref().filter(|_| !args.check) else {
        return Ok(());
    };
    places::refuse_run(out, args.resume)?;
    let until = values::until(args.minutes)?;
    let limits = Limits {
        resume: args.resume,
        until,
        cancelled: &|| false,
    };
    println!("device: {} ({})", device.info.name, device.info.reason);
    let mut helpers = Vec::new();
    for &choice in others {
        let (device, bundle) = open(choice)?;
        println!("and: {}", device.info.name);
        helpers.push(bundle.transformer);
    }
    let same = |path: &Path| std::fs::canonicalize(path).ok();
    if same(out).is_some_and(|out| Some(out) == same(&args.data)) {
        return Err(CliError::failed(format!(
            "The run needs a folder of its own, apart from the pictures: {out:?}"
        )));
    }
    let made = finetune::run(
        &config,
        &mut bundle,
        &collection,
        &device,
        &helpers,
        out,
        &limits,
        &mut |progress| {
            if let Progress::Fitted { memory, notes } = progress {
                println!("about {} of memory", bytes_text(memory.bytes()));
                for note in notes {
                    println!("{note}");
                }
            }
            if let Progress::Line(line) = progress {
                let bits: Vec<String> = line
                    .bit_accuracy
                    .iter()
                    .map(|a| format!("{a:.3}"))
                    .collect();
                println!(
                    "step {}/{}: loss {:.4}, bits right per scale {}, {:.1} pictures/s, {:.0} s to go",
                    line.step,
                    line.steps,
                    line.loss,
                    bits.join(" "),
                    line.pictures_per_sec,
                    line.eta_secs
                );
            }
        },
        &mut |_| {},
    )?;
    let (file, steps) = (out.join("lora.safetensors"), config.steps);
    if made < steps {
        println!("stopped after {made} of {steps} steps; go on with --resume: {file:?}");
    } else {
        println!("done: {file:?}");
    }
    Ok(())
}
