//! `infinity trace`: what happens inside, as a file.

use std::path::PathBuf;

use infinity_engine::api::{DeviceChoice, GenerateSpec, PixelBudget};
use infinity_engine::device;
use infinity_engine::generate::Bundle;
use infinity_engine::trace::Trace;

use super::values::{self, Numbers, Shape};
use super::{CliError, models};

/// Write what happens inside while a picture is drawn, or taken apart.
///
/// The file holds, for every scale, the features that go in, the logits after
/// guidance, the bits and the sum of codes, then the final codes and the
/// picture; for a given picture, the tokenizer's features, bits and
/// reconstruction. Names are those of the golden tests. For bug reports: attach
/// it, and say which command made it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  infinity trace --prompt \"a red house\" --greedy -o out.safetensors
  infinity trace --image photo.png --device cpu -o out.safetensors")]
pub(super) struct Args {
    /// Model folder; `$INFINITY_MODEL` or the starter when left out.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// What to draw.
    #[arg(long, required_unless_present = "image", conflicts_with = "image")]
    prompt: Option<String>,
    /// A PNG or JPEG file to take apart; cut to the nearest known shape.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Take the likelier value of every bit.
    #[arg(long)]
    greedy: bool,
    /// The file to write.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Seed of the random numbers.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Shape, as for draw.
    #[arg(long, value_name = "SHAPE", default_value = "1", value_parser = values::shape)]
    ratio: Shape,
    /// Guidance, as for draw.
    #[arg(long, value_name = "X[,X…]", value_parser = values::numbers, allow_hyphen_values = true)]
    cfg: Option<Numbers>,
    /// Temperature, as for draw.
    #[arg(long, value_name = "X[,X…]", value_parser = values::numbers, allow_hyphen_values = true)]
    tau: Option<Numbers>,
    /// Number of scales, 1 to 13.
    #[arg(long, value_name = "N", conflicts_with = "pn")]
    scales: Option<usize>,
    /// Pixel budget instead of a number of scales.
    #[arg(long, value_name = "BUDGET", value_parser = values::budget)]
    pn: Option<PixelBudget>,
    /// What the picture should not show.
    #[arg(long, value_name = "PROMPT", default_value = "")]
    negative: String,
    /// Where to compute: auto, gpu, gpu:N, cpu or software.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = values::device)]
    device: DeviceChoice,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let folder = models::find_or_say(args.model.as_deref())?;
    let bundle = Bundle::open(&folder, &device::open(args.device)?)?;
    let scale_count = args.scales.or(args.pn.map(PixelBudget::scale_count));
    let trace = match (&args.prompt, &args.image) {
        (Some(prompt), _) => {
            let usual = GenerateSpec::new(prompt.trim(), args.seed);
            let list = |given: &Option<Numbers>, own: f32| {
                given
                    .as_ref()
                    .map_or_else(|| vec![own], |list| list.0.clone())
            };
            let spec = GenerateSpec {
                negative_prompt: args.negative.trim().to_owned(),
                ratio: args.ratio.ratio,
                scale_count,
                cfg: list(&args.cfg, bundle.info.cfg),
                tau: list(&args.tau, bundle.info.tau),
                top_k: if args.greedy { 1 } else { usual.top_k },
                ..usual
            };
            Trace::draw(&bundle, &spec)?
        }
        (None, Some(image)) => Trace::take_apart(&bundle, image, scale_count)?,
        (None, None) => return Err(CliError::Usage("--prompt or --image is needed".to_owned())),
    };
    trace.write(&args.out)?;
    println!("{}", args.out.display());
    eprintln!("{} tensors", trace.names().count());
    Ok(())
}
