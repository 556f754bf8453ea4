//! `infinity lab`: studies that the documentation quotes, to be made again.

mod plots;

use std::path::PathBuf;

use anyhow::Context as _;
use infinity_engine::api::DeviceChoice;
use infinity_engine::device;
use infinity_engine::generate::Bundle;
use infinity_engine::lab::{
    ClassifierReport, CorrectionReport, CostReport, Effort, GuidanceReport, PowersReport,
    SidesReport, SizesReport, VarietyReport, VocabularyReport,
};
use serde::Serialize;

use self::plots::Plot;
use super::{CliError, models, report, values};

/// Measure what a model that draws in scales can do; prints tables.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  infinity lab powers                 what each scale locks, masks, larger canvases, pictures from pictures
  infinity lab guidance               guidance off at the last scales
  infinity lab variety                temperatures against variety and following
  infinity lab sides                  cost by the length of a side, in scales and token after token
  infinity lab self-correction        teacher forcing, flips alone and self-correction, from nothing
  infinity lab classifier             a question per bit against one softmax over all words, from nothing
  infinity lab vocabulary             tokenizers of 8 to 64 bits, from nothing
  infinity lab sizes                  three transformers, from nothing
  infinity lab cost --scales 7        drafts and branches against a picture drawn in one go")]
pub(super) struct Args {
    /// The study.
    study: Study,
    /// Only enough cases to see that every arm runs.
    #[arg(long)]
    quick: bool,
    /// Seed of cases and pictures.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Let small networks learn N times as long, from N times as many pictures (studies from nothing).
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    times: u64,
    /// Number of scales (`cost` only); the model's own when left out.
    #[arg(long, value_name = "N")]
    scales: Option<usize>,
    /// Also draw the figures into this .svg or .png file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Also write the figures to this JSON file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Model folder; `$INFINITY_MODEL` or the starter when left out.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Where to compute: auto, gpu, gpu:N, cpu or software.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = values::device)]
    device: DeviceChoice,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Study {
    Powers,
    Cost,
    Guidance,
    Sides,
    Variety,
    SelfCorrection,
    Classifier,
    Vocabulary,
    Sizes,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let folder = models::find_or_say(args.model.as_deref())?;
    let device = device::open(args.device)?;
    let bundle = Bundle::open(&folder, &device)?;
    let mut effort = if args.quick {
        Effort::quick(args.seed)
    } else {
        Effort::whole(args.seed)
    };
    effort.times = args.times;
    if !device.has_own_operations() {
        effort.workers = 1;
    }
    let say = &mut |what: &str| eprintln!("{what} …");
    match args.study {
        Study::Powers => tell(args, &PowersReport::measure(&bundle, effort, say)?),
        Study::Sides => tell(args, &SidesReport::measure(&bundle, effort)?),
        Study::Variety => tell(args, &VarietyReport::measure(&bundle, effort, say)?),
        Study::Guidance => tell(args, &GuidanceReport::measure(&bundle, effort)?),
        Study::Cost => tell(args, &CostReport::measure(&bundle, args.scales, effort)?),
        Study::SelfCorrection => tell(args, &CorrectionReport::measure(&bundle, effort, say)?),
        Study::Classifier => tell(args, &ClassifierReport::measure(&bundle, effort, say)?),
        Study::Vocabulary => tell(
            args,
            &VocabularyReport::measure(&device.device, effort, say)?,
        ),
        Study::Sizes => tell(args, &SizesReport::measure(&bundle, effort, say)?),
    }
}

/// Prints the tables; writes what was asked for beside.
fn tell(args: &Args, report: &(impl std::fmt::Display + Serialize + Plot)) -> Result<(), CliError> {
    print!("{report}");
    if let Some(path) = &args.plot {
        report::save(&report.panels(), path)?;
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(report).context("writing the figures")?;
        std::fs::write(path, text)
            .with_context(|| format!("the figures cannot be written: {path:?}"))?;
    }
    Ok(())
}
