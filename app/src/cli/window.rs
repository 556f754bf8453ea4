//! The window: `infinity` without a command.

use std::path::PathBuf;

use infinity_engine::api::WeightStorage;
use infinity_engine::{Previews, SpawnOptions};

use super::place::{self, Place};
use super::{CliError, models, values};
use crate::settings::passed_path;
use crate::{WindowOptions, run_window};

/// The icon of the window.
const ICON: &[u8] = include_bytes!("../../../assets/icon-128.png");

/// What the window starts with.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Model folder to open; `$INFINITY_MODEL` or the starter when left out.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Where to compute: auto, gpu, gpu:N, cpu, software, or remote:HOST:PORT, where `infinity serve` runs.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = place::parse)]
    device: Place,
    /// How the model is kept in memory: single (f32), half, small (keys and values in half precision too), eight (all of these in eight bits), or the first of these that fits (auto).
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = values::weights)]
    weights: WeightStorage,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    if !has_display() {
        return Err(no_window("there is no display"));
    }
    let mut options = WindowOptions::of_this_user();
    options.icon_png = Some(ICON);
    args.device.check(args.model.as_deref(), args.weights)?;
    let is_here = matches!(args.device, Place::Here(_));
    let model = is_here
        .then(|| models::find(args.model.as_deref()))
        .flatten();
    if is_here && model.is_none() && options.warning.is_none() {
        options.warning = Some(
            "No model was found. Open a model folder in the preferences at the lower right."
                .to_owned(),
        );
    }
    let (place, weights) = (args.device, args.weights);
    let start = move |wake| {
        place.start_or_say(SpawnOptions {
            previews: Previews::Budgeted,
            weights,
            passed: passed_path(),
            wake,
            ..SpawnOptions::new(place.device(), model)
        })
    };
    run_window(options, start).map_err(|error| no_window(&error.to_string()))
}

fn no_window(why: &str) -> CliError {
    CliError::failed(format!(
        "the window could not be opened ({why}). `infinity draw \"PROMPT\"` draws without one"
    ))
}

/// Whether a desktop is there to show a window; asked first, for the libraries answer with riddles.
#[cfg(all(unix, not(target_os = "macos")))]
fn has_display() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("DISPLAY") || is_set("WAYLAND_DISPLAY") || is_set("WAYLAND_SOCKET")
}

/// Other systems always have one.
#[cfg(not(all(unix, not(target_os = "macos"))))]
const fn has_display() -> bool {
    true
}
