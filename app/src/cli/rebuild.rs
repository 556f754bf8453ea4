//! `infinity rebuild`: the scales of a saved picture, from the bits inside it.

use std::path::PathBuf;

use infinity_engine::api::{DeviceChoice, EngineError, Event, Task};
use infinity_engine::{SpawnOptions, spawn};

use super::places::Places;
use super::{CliError, models, values};
use crate::recipe::{Recipe, read_recipe, write_png};

/// Make a saved picture and its scales again from the bits inside it.
///
/// The transformer is not asked, so it takes no longer than decoding.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  infinity rebuild card.png --out again.png --steps-out steps/")]
pub(super) struct Args {
    /// A picture this program drew.
    picture: PathBuf,
    /// Where the picture goes: a name ending in .png.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Also write the picture after every scale into this folder.
    #[arg(long, value_name = "DIR")]
    steps_out: Option<PathBuf>,
    /// Model folder; `$INFINITY_MODEL` or the starter when left out.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Where to compute: auto, gpu, gpu:N, cpu or software.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = values::device)]
    device: DeviceChoice,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let places = Places::new(Some(&args.out), args.steps_out.as_deref(), false)?;
    let Some(out) = places.file() else {
        return Err(CliError::Usage(
            "--out must be a name ending in .png".to_owned(),
        ));
    };
    let recipe = read_recipe(&args.picture)?;
    let folder = models::find_or_say(args.model.as_deref())?;
    let engine = spawn(SpawnOptions::new(args.device, Some(folder)))?;
    engine.run(Task::Rebuild(recipe.spec))?;
    let (spec, scales) = loop {
        match engine.wait_event() {
            Some(Event::Rebuilt { spec, scales, .. }) => break (spec, scales),
            Some(Event::Failed { error, .. } | Event::ModelFailed { error }) => {
                return Err(error.into());
            }
            Some(_) => {}
            None => return Err(EngineError::EngineGone.into()),
        }
    };
    engine.shut_down()?;
    for (index, image) in scales.iter().enumerate() {
        let recipe = Recipe::new(recipe.model.as_str(), spec.clone(), image);
        if let Some(path) = places.step(None, index) {
            write_png(&path, image, &recipe)?;
        }
        if index + 1 == scales.len() {
            write_png(out, image, &recipe)?;
            println!("{}", out.display());
        }
    }
    Ok(())
}
