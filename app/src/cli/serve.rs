//! `infinity serve`: this machine draws for another one's window.

use std::io::Write as _;
use std::path::PathBuf;

use infinity_engine::api::WeightStorage;
use infinity_engine::remote::{Key, Server, ServerOptions};

use super::{CliError, models, values};
use crate::place::Place;
use crate::settings::{passed_path, remote_key_path};

/// Draw for the window of another machine.
///
/// Who knows the key is drawn for, one at a time, with this machine's model, LoRAs and folders. The key never crosses
/// the network, but pictures and words are not encrypted: the server listens to this machine only unless told
/// otherwise, and a tunnel brings others here.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  infinity serve                                     here, for whoever comes through a tunnel
  ssh -N -L 7860:127.0.0.1:7860 WORKSTATION          there: the tunnel
  infinity --device remote:127.0.0.1:7860            there: the window
  infinity serve --listen 0.0.0.0:7860               for the whole network at home")]
pub(super) struct Args {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7860")]
    listen: String,
    /// File with the key, made when it is not there; one in the folder of the preferences when left out.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Model folder; `$INFINITY_MODEL` or the starter when left out.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Where to compute: auto, gpu, gpu:N, cpu, software, or several with + between (gpu:0+gpu:1).
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = Place::parse)]
    device: Place,
    /// How the model is kept in memory: single (f32), half, small (keys and values in half precision too), smaller (these in eight bits), eight (the model in eight bits too), or the first of these that fits (auto; half at once where the files are so and the processor multiplies that as it lies).
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = values::weights)]
    weights: WeightStorage,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    if args.device.is_remote() {
        let said = "a machine that serves draws itself: name a device of this one";
        return Err(CliError::Usage(said.to_owned()));
    }
    let path = args.key.clone().or_else(remote_key_path);
    let path = path.ok_or_else(|| CliError::Usage("name a file with --key".to_owned()))?;
    let key = Key::of_file(&path)?;
    let options = ServerOptions {
        devices: args.device.devices().to_vec(),
        weights: args.weights,
        model: Some(models::find_or_say(args.model.as_deref())?),
        passed: passed_path(),
    };
    let server = Server::listen(&args.listen, key, options)?;
    println!("listening on {}", server.address()?);
    println!("the key is in {}", path.display());
    // Whoever read these lines may have gone; visitors are drawn for all the same.
    server.run(&|line| {
        let _written = writeln!(std::io::stdout(), "{line}");
    });
    Ok(())
}
