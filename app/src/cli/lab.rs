//! `infinity lab`: studies that the documentation quotes, to be made again.

use std::path::PathBuf;

use anyhow::Context as _;
use infinity_engine::api::DeviceChoice;
use infinity_engine::device;
use infinity_engine::generate::Bundle;
use infinity_engine::lab::{
    CostReport, Effort, GuidanceReport, Layout, Likeness, PowersReport, SidesReport, VarietyReport,
};
use serde::Serialize;

use super::report::{self, Panel};
use super::{CliError, models, values};

/// Measure what a model that draws in scales can do; prints tables.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  infinity lab powers                 what each scale locks, masks, larger canvases, pictures from pictures
  infinity lab guidance               guidance off at the last scales
  infinity lab variety                temperatures against variety and following
  infinity lab sides                  cost by the length of a side, in scales and token after token
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
    /// Number of scales (`cost` only); the model's own when left out.
    #[arg(long, value_name = "N")]
    scales: Option<usize>,
    /// Also draw what is left against the scales kept (`powers` only) into this .svg or .png file.
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
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let folder = models::find_or_say(args.model.as_deref())?;
    let device = device::open(args.device)?;
    let bundle = Bundle::open(&folder, &device)?;
    let effort = if args.quick {
        Effort::quick(args.seed)
    } else {
        Effort::whole(args.seed)
    };
    match args.study {
        Study::Powers => {
            let mut progress = |what: &str| eprintln!("{what} …");
            let report = PowersReport::measure(&bundle, effort, &mut progress)?;
            print!("{report}");
            if let Some(path) = &args.plot {
                report::save(&panels(&report), path)?;
            }
            write(args, &report)
        }
        Study::Sides => {
            let report = SidesReport::measure(&bundle, effort)?;
            print!("{report}");
            write(args, &report)
        }
        Study::Variety => {
            let mut progress = |what: &str| eprintln!("{what} …");
            let report = VarietyReport::measure(&bundle, effort, &mut progress)?;
            print!("{report}");
            write(args, &report)
        }
        Study::Guidance => {
            let report = GuidanceReport::measure(&bundle, effort)?;
            print!("{report}");
            write(args, &report)
        }
        Study::Cost => {
            let report = CostReport::measure(&bundle, args.scales, effort)?;
            print!("{report}");
            write(args, &report)
        }
    }
}

/// Likeness to a source and to its prompt, and what each scale locks, by scales kept.
fn panels(powers: &PowersReport) -> [Panel; 3] {
    let points = |values: Vec<f32>| -> Vec<(f64, f64)> {
        let values = values.into_iter().enumerate();
        values
            .map(|(kept, value)| (kept as f64, f64::from(value)))
            .collect()
    };
    let of = |value: fn(&Likeness) -> f32| points(powers.likeness.iter().map(value).collect());
    let names = powers.layout.iter().flat_map(|row| row.of_parent.iter());
    let mut kinds: Vec<&str> = Vec::new();
    for (name, _) in names {
        if !kinds.contains(&name.as_str()) {
            kinds.push(name);
        }
    }
    let locked = |name: &str| {
        let value = |row: &Layout| {
            let found = row.of_parent.iter().find(|(own, _)| own == name);
            found.map_or(0.0, |(_, share)| *share)
        };
        (
            name.to_owned(),
            points(powers.layout.iter().map(value).collect()),
        )
    };
    [
        Panel {
            title: "like the source (dB) by scales kept",
            curves: vec![(String::new(), of(|row| row.psnr))],
        },
        Panel {
            title: "followed, by scales kept of a source",
            curves: vec![
                ("the prompt".to_owned(), of(|row| row.followed)),
                ("the source".to_owned(), of(|row| row.of_source)),
            ],
        },
        Panel {
            title: "as in the parent, by scales kept",
            curves: kinds.into_iter().map(locked).collect(),
        },
    ]
}

fn write(args: &Args, report: &impl Serialize) -> Result<(), CliError> {
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(report).context("writing the figures")?;
        std::fs::write(path, text)
            .with_context(|| format!("the figures cannot be written: {path:?}"))?;
    }
    Ok(())
}
