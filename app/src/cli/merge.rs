//! `infinity merge`: a model folder with adapters worked in.

use std::path::PathBuf;

use infinity_engine::api::{DeviceChoice, LoraWish};
use infinity_engine::device;
use infinity_engine::generate::Bundle;

use super::{CliError, models, values};

/// Make a model folder of a model and its LoRAs, so that it needs none.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  infinity merge --lora mill.safetensors=0.8 --lora ink.safetensors --out models/mill-ink"
)]
pub(super) struct Args {
    /// A LoRA, by itself or with its strength; again for more than one.
    #[arg(long, value_name = "FILE[=STRENGTH]", value_parser = values::lora, required = true)]
    lora: Vec<LoraWish>,
    /// The model folder to make; absent or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name for people; the model's and the LoRAs' when left out.
    #[arg(long)]
    name: Option<String>,
    /// Model folder; `$INFINITY_MODEL` or the starter when left out.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let folder = models::find_or_say(args.model.as_deref())?;
    let is_taken = std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some());
    if is_taken || args.out.is_file() {
        return Err(CliError::failed(format!(
            "There is something at this place already. Choose another: {:?}",
            args.out
        )));
    }
    let device = device::open(DeviceChoice::Cpu)?;
    let mut bundle = Bundle::open(&folder, &device)?;
    let infos = bundle.merge(&args.lora)?;
    let names: Vec<String> = infos.into_iter().map(|info| info.name).collect();
    let name = args.name.clone();
    bundle.description.name =
        name.unwrap_or_else(|| format!("{} + {}", bundle.info.name, names.join(" + ")));
    bundle.save_copy(&args.out)?;
    println!("{}", args.out.display());
    Ok(())
}
