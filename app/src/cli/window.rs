//! The window: `infinity` without a command.

use std::path::PathBuf;

use infinity_engine::api::WeightStorage;
use infinity_engine::{EngineHandle, Previews, SpawnOptions};

use super::{CliError, models, place, values};
use crate::app::Started;
use crate::place::Place;
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
    /// Where to compute: auto, gpu, gpu:N, cpu, software, several with + between (gpu:0+gpu:1), or remote:HOST:PORT, where `infinity serve` runs; what was chosen in the window last when left out.
    #[arg(long, value_name = "DEVICE", value_parser = Place::parse)]
    device: Option<Place>,
    /// How the model is kept in memory: single (f32), half, small (keys and values in half precision too), smaller (these in eight bits), eight (the model in eight bits too), or the first of these that fits (auto; half at once where the files are so and the processor multiplies that as it lies).
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = values::weights)]
    weights: WeightStorage,
}

pub(super) fn run(args: Args) -> Result<(), CliError> {
    if !has_display() {
        return Err(no_window("there is no display"));
    }
    let mut options = WindowOptions::of_this_user();
    options.icon_png = Some(ICON);
    let is_own = args.model.is_some() || args.weights != WeightStorage::Auto;
    options.place = match args.device {
        Some(place) => {
            place::check(&place, args.model.as_deref(), args.weights)?;
            place
        }
        // Who names a model means this machine.
        None if is_own && options.place.is_remote() => Place::default(),
        None => options.place,
    };
    let (named, weights) = (args.model, args.weights);
    options.start = Some(Box::new(move |place, model, wake| {
        let is_here = !place.is_remote();
        let found = || models::find(named.as_deref());
        let model = model.map(PathBuf::from).or_else(found).filter(|_| is_here);
        let expects_model = model.is_some() || !is_here;
        let options = SpawnOptions {
            previews: Previews::Budgeted,
            weights,
            passed: passed_path(),
            wake,
            ..SpawnOptions::new(place.device(), model)
        };
        Started {
            // A window opens whatever happens, and says what did.
            engine: place.start(options).unwrap_or_else(EngineHandle::failed),
            expects_model,
        }
    }));
    run_window(options).map_err(|error| no_window(&error.to_string()))
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
