//! `infinity train`: a model from nothing, told by one file.

use std::path::PathBuf;

use infinity_engine::api::DeviceChoice;
use infinity_engine::device;
use infinity_engine::train::{self, Limits, Progress, TrainConfig};

use super::{CliError, places, report, values};

/// Train a picture tokenizer, or a transformer with its text encoder, on painted postcards.
///
/// The folder receives checkpoints, a log (log.jsonl), a sheet of sample pictures and, for a
/// transformer, a model folder that `infinity draw --model` takes. Stop with Ctrl+C or
/// `--minutes` and go on later with `--resume`: the result is the same.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  infinity train --config vae.json --out runs/vae\n  infinity train --config transformer.json --out runs/transformer --resume --minutes 60\n  infinity train report runs/vae"
)]
pub(super) struct Args {
    #[command(subcommand)]
    report: Option<Report>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Report {
    Report(report::Args),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// What to train: a JSON file such as assets/starter/training/vae.json.
    #[arg(long, required = true)]
    config: Option<PathBuf>,
    /// Folder of the run; made when it is not there.
    #[arg(long, required = true)]
    out: Option<PathBuf>,
    /// Go on from the checkpoint in the folder.
    #[arg(long)]
    resume: bool,
    /// Stop, with a checkpoint, after this many minutes.
    #[arg(long)]
    minutes: Option<f32>,
    /// Where to compute: auto, gpu, gpu:N, cpu or software.
    #[arg(long, default_value = "auto", value_parser = values::device)]
    device: DeviceChoice,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if let Some(Report::Report(args)) = &args.report {
        return report::run(args);
    }
    let args = &args.run;
    let (Some(config), Some(out)) = (&args.config, &args.out) else {
        return Err(CliError::Usage("--config and --out are needed".to_owned()));
    };
    let config = TrainConfig::open(config)?;
    places::refuse_run(out, args.resume)?;
    let until = values::until(args.minutes)?;
    let device = device::open(args.device)?;
    println!("device: {} ({})", device.info.name, device.info.reason);
    let limits = Limits {
        resume: args.resume,
        until,
        cancelled: &|| false,
    };
    train::run(
        &config,
        &device,
        out,
        &limits,
        &mut |progress| match progress {
            Progress::Step | Progress::Samples { .. } => {}
            Progress::Fitted { .. } => {}
            Progress::Captions { step, loss, right } => {
                println!(
                    "captions, step {step}: loss {loss:.4}, {:.1} % of questions answered right",
                    100.0 * right
                );
            }
            Progress::Line(line) => {
                let minutes = line.eta_secs / 60.0;
                let quality = match line.psnr {
                    Some(psnr) => format!("{psnr:.2} dB"),
                    None => {
                        let bits: Vec<String> = line
                            .bit_accuracy
                            .iter()
                            .map(|a| format!("{a:.3}"))
                            .collect();
                        format!("bits right per scale {}", bits.join(" "))
                    }
                };
                println!(
                    "step {}/{}: loss {:.4}, {quality}, {:.1} pictures/s, {minutes:.0} min to go",
                    line.step, line.steps, line.loss, line.pictures_per_sec
                );
            }
        },
    )?;
    println!("done: {out:?}");
    Ok(())
}
