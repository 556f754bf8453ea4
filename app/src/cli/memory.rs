//! `infinity memory`: whether a model fits, before it is there.

use std::path::PathBuf;

use infinity_engine::api::{Keeping, PixelBudget, Storage, bytes_text};
use infinity_engine::finetune::FinetuneConfig;
use infinity_engine::memory::{self, Drawing, Sizes, Teaching, Work};
use infinity_engine::model::ModelConfig;
use infinity_engine::schedule::ScaleSchedule;
use infinity_engine::text::T5Config;
use infinity_engine::vae::VaeConfig;
use infinity_engine::weights::ModelFolder;

use super::{CliError, models};

/// Most values of a tensor on a usual graphics card: two GB.
const USUAL_ELEMENTS: usize = 1 << 29;

/// Compute what drawing and teaching take in memory, for a model folder or a published size.
///
/// Figures are for a graphics card and square pictures with guidance; nothing is loaded.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  infinity memory                        the starter
  infinity memory --size 2b --half       the published 2B with weights in half precision
  infinity memory --size 2b --rank 32 --batch 4")]
pub(super) struct Args {
    /// Model folder; `$INFINITY_MODEL` or the starter when left out.
    #[arg(long, value_name = "DIR", conflicts_with = "size")]
    model: Option<PathBuf>,
    /// A published size: 125m, 1b, 2b or 8b.
    #[arg(long, value_name = "SIZE")]
    size: Option<String>,
    /// Weights in half precision.
    #[arg(long)]
    half: bool,
    /// Weights, keys and values in half precision.
    #[arg(long)]
    small: bool,
    /// Weights in half precision, keys and values in eight bits.
    #[arg(long)]
    smaller: bool,
    /// Weights, keys and values in eight bits.
    #[arg(long)]
    eight: bool,
    /// The text encoder stays in memory; else it leaves before the first scale, or the first update.
    #[arg(long)]
    text_stays: bool,
    /// Rank of the LoRA that is taught.
    #[arg(long, value_name = "N", default_value_t = 16)]
    rank: usize,
    /// Pictures per update.
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn sizes(args: &Args) -> Result<Sizes, CliError> {
    let f16 = VaeConfig::published_f16;
    let (transformer, vae) = match args.size.as_deref() {
        Some("125m") => (ModelConfig::m125(32), f16(32)),
        Some("1b") => (ModelConfig::b1(), f16(16)),
        Some("2b") => (ModelConfig::b2(), f16(32)),
        Some("8b") => (ModelConfig::b8(), VaeConfig::published_f8(14)),
        Some(other) => {
            return Err(CliError::Usage(format!(
                "--size {other} is not known; use 125m, 1b, 2b or 8b"
            )));
        }
        None => {
            let files = ModelFolder::open(&models::find_or_say(args.model.as_deref())?)?;
            let text = T5Config::open(&files.text_config_path())?;
            let (transformer, vae) = (files.transformer_config()?, files.vae_config()?);
            return Ok(Sizes::new(&transformer, &vae, &text));
        }
    };
    Ok(Sizes::new(&transformer, &vae, &T5Config::default()))
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let sizes = sizes(args)?;
    let layers = FinetuneConfig::default().layers;
    let (weights, cache) = match (args.eight, args.smaller, args.small, args.half) {
        (true, ..) => (Storage::Eight, Storage::Eight),
        (_, true, ..) => (Storage::Half, Storage::Eight),
        (_, _, true, _) => (Storage::Half, Storage::Half),
        (.., true) => (Storage::Half, Storage::Single),
        _ => (Storage::Single, Storage::Single),
    };
    let keeping = Keeping {
        weights,
        cache,
        text_stays: args.text_stays,
    };
    let mut rows = Vec::new();
    for budget in PixelBudget::ALL {
        let schedule = ScaleSchedule::nearest(1.0, budget.scale_count())?;
        let drawing = Drawing {
            schedule: &schedule,
            pictures: 1,
            guided: true,
            max_elements: USUAL_ELEMENTS,
            keeping,
            work: Work::of_graphics(),
        };
        let teaching = |by_block: bool| Teaching {
            schedule: &schedule,
            batch: args.batch,
            rank: args.rank,
            layers: &layers,
            workers: 1,
            by_block,
            keeping,
            own_operations: false,
        };
        let needs = [
            memory::drawing(&sizes, &drawing),
            memory::teaching(&sizes, &teaching(false)),
            memory::teaching(&sizes, &teaching(true)),
        ];
        rows.push((budget.name(), needs));
    }
    if args.json {
        let object: Vec<_> = rows
            .iter()
            .map(|(name, [drawing, kept, again])| {
                serde_json::json!({ "budget": name, "drawing": drawing, "teaching": kept, "teaching by block": again })
            })
            .collect();
        println!("{}", serde_json::json!(object));
        return Ok(());
    }
    let names = ["transformer", "picture tokenizer", "text encoder"];
    for (name, count) in names.into_iter().zip(sizes.weights) {
        println!("{name:<18} {count} weights");
    }
    println!();
    println!("budget   drawing    teaching   teaching, blocks computed again");
    for (name, needs) in &rows {
        let [drawing, kept, again] = needs.each_ref().map(|need| bytes_text(need.bytes()));
        println!("{name:<8} {drawing:<10} {kept:<10} {again}");
    }
    println!("\nparts at the largest:");
    if let Some((_, [drawing, _, again])) = rows.last() {
        for (what, need) in [
            ("drawing", drawing),
            ("teaching, blocks computed again", again),
        ] {
            let parts: Vec<String> = need
                .parts
                .iter()
                .map(|part| format!("{} {}", part.name, bytes_text(part.bytes)))
                .collect();
            println!("  {what}: {}", parts.join(", "));
        }
    }
    Ok(())
}
