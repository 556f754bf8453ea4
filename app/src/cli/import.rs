//! `infinity import`: released files become a model folder.

use std::path::PathBuf;

use infinity_engine::api::PixelBudget;
use infinity_engine::import::{ImportSpec, import};
use infinity_engine::weights::{Defaults, SaveType};

use super::{CliError, values};

/// Make a model folder of published files.
///
/// Takes .pth, .pt and .safetensors files, whole or cut into several with an
/// index. Nothing in them is ever run. Every name and shape must fit, and the
/// folder appears only when it is whole.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  infinity import --transformer infinity_2b_reg.pth --vae infinity_vae_d32reg.pth --text flan-t5-xl --out models/2b
  infinity import --transformer 8b/ --vae vae_d56.pth --text flan-t5-xl --out models/8b --precision f32 --cfg 4")]
pub(super) struct Args {
    /// Weights of the transformer: a file, an index, or a folder with one.
    #[arg(long, value_name = "FILE")]
    transformer: PathBuf,
    /// Weights of the picture tokenizer.
    #[arg(long, value_name = "FILE")]
    vae: PathBuf,
    /// Folder of the text encoder: config.json, tokenizer.json and weights.
    #[arg(long, value_name = "DIR")]
    text: PathBuf,
    /// The model folder to make; absent or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Bits per weight: f16 halves the size, f32 keeps every digit.
    #[arg(long, default_value = "f16", value_parser = ["f16", "f32"])]
    precision: String,
    /// Name for people; the folder's when left out.
    #[arg(long)]
    name: Option<String>,
    /// One line on what the model can draw.
    #[arg(long, default_value = "")]
    about: String,
    /// Pixel budget the model was made for: 0.06M, 0.25M, 0.60M or 1M.
    #[arg(long, value_name = "BUDGET", default_value = "1M", value_parser = values::budget)]
    pn: PixelBudget,
    /// Guidance that suits the model.
    #[arg(long, default_value_t = 4.0)]
    cfg: f32,
    /// Temperature that suits the model.
    #[arg(long, default_value_t = 0.5)]
    tau: f32,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let folder_name = || {
        args.out
            .file_name()
            .map_or_else(|| "model".into(), |name| name.to_string_lossy())
    };
    let spec = ImportSpec {
        transformer: args.transformer.clone(),
        vae: args.vae.clone(),
        text: args.text.clone(),
        out: args.out.clone(),
        kind: if args.precision == "f32" {
            SaveType::F32
        } else {
            SaveType::F16
        },
        name: args
            .name
            .clone()
            .unwrap_or_else(|| folder_name().into_owned()),
        about: args.about.clone(),
        defaults: Defaults {
            cfg: args.cfg,
            tau: args.tau,
            scale_count: args.pn.scale_count(),
        },
    };
    import(&spec, &mut |step| eprintln!("{step} …"))?;
    println!("{}", args.out.display());
    Ok(())
}
