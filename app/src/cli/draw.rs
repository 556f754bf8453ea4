//! `infinity draw`: pictures without a window.

use std::path::PathBuf;

use infinity_engine::api::{
    DeviceChoice, EngineError, Event, GenerateSpec, JobId, LoraWish, ModelInfo, PixelBudget,
    Rgb8Image, Task,
};
use infinity_engine::{EngineHandle, Previews, SpawnOptions, spawn};

use super::places::{Places, prompts_in};
use super::values::{self, Numbers, Shape};
use super::{CliError, models};
use crate::recipe::{Recipe, read_recipe, write_new_png, write_png};

/// Draw a picture, or one for each line of a file.
///
/// The picture carries its recipe; drop it on the window to draw it again.
/// The same seed, model and settings give the same picture.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  infinity draw \"a red house on the left, green hills, at sunset\" --out card.png
  infinity draw \"a boat at night\" --seed 7 --ratio 3:2 --out pictures/
  infinity draw --prompts lines.txt --out pictures/        pictures/001.png, 002.png, …
  infinity draw \"a blue house\" --from card.png --keep 3         same layout, other details
  infinity draw \"a red windmill\" --lora mill.safetensors=0.8
  infinity draw \"a lighthouse\" --cfg 3,3,3,4,4,5,5 --tau 0.4 --steps-out steps/")]
pub(super) struct Args {
    /// What the picture shows.
    #[arg(required_unless_present = "prompts", conflicts_with = "prompts")]
    prompt: Option<String>,
    /// A text file with one prompt per line; empty lines are passed over.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Where the picture goes: a name ending in .png, or a folder; this folder when left out.
    #[arg(long, short, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
    /// Model folder; `$INFINITY_MODEL` or the starter when left out.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Seed of the random numbers; drawn by lot when left out.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Shape: height over width (1.5), width to height (3:2), or a size (1024x768); the nearest known is drawn.
    #[arg(long, value_name = "SHAPE", default_value = "1", value_parser = values::shape)]
    ratio: Shape,
    /// Guidance, one number or one per scale: 1 is off, 3 to 5 usual; the model's own when left out.
    #[arg(long, value_name = "X[,X…]", value_parser = values::numbers, allow_hyphen_values = true)]
    cfg: Option<Numbers>,
    /// Temperature, one number or one per scale: 0.5 to 1 usual; the model's own when left out.
    #[arg(long, value_name = "X[,X…]", value_parser = values::numbers, allow_hyphen_values = true)]
    tau: Option<Numbers>,
    /// A picture this program drew, to keep the first scales of (with --keep): same layout, other details.
    #[arg(long, value_name = "PNG", requires = "keep", conflicts_with = "ratio")]
    from: Option<PathBuf>,
    /// How many first scales to keep of --from.
    #[arg(long, value_name = "K", requires = "from")]
    keep: Option<usize>,
    /// Number of scales, 1 to 13; the model's own when left out.
    #[arg(long, value_name = "N", conflicts_with = "pn")]
    scales: Option<usize>,
    /// Pixel budget instead of a number of scales: 0.06M, 0.25M, 0.60M or 1M.
    #[arg(long, value_name = "BUDGET", value_parser = values::budget)]
    pn: Option<PixelBudget>,
    /// 1 takes the likelier value of every bit; other numbers change nothing.
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Values of bits less likely than 1 minus this are never drawn; 0 is off.
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    top_p: Option<f32>,
    /// What the picture should not show.
    #[arg(long, value_name = "PROMPT", default_value = "")]
    negative: String,
    /// A LoRA to put on, by itself or with its strength; again for more than one.
    #[arg(long, value_name = "FILE[=STRENGTH]", value_parser = values::lora)]
    lora: Vec<LoraWish>,
    /// Also write the picture after every scale into this folder.
    #[arg(long, value_name = "DIR")]
    steps_out: Option<PathBuf>,
    /// Where to compute: auto, gpu, gpu:N, cpu or software.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = values::device)]
    device: DeviceChoice,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let prompts = match (&args.prompt, &args.prompts) {
        (Some(prompt), _) => vec![prompt.trim().to_owned()],
        (None, Some(file)) => prompts_in(file)?,
        (None, None) => return Err(CliError::Usage("a prompt is needed".to_owned())),
    };
    let places = Places::new(
        args.out.as_deref(),
        args.steps_out.as_deref(),
        args.prompts.is_some(),
    )?;
    let folder = models::find_or_say(args.model.as_deref())?;
    let previews = if args.steps_out.is_some() {
        Previews::Full
    } else {
        Previews::Off
    };
    let engine = spawn(SpawnOptions {
        previews,
        ..SpawnOptions::new(args.device, Some(folder))
    })?;
    let result = draw_all(args, &prompts, &places, &engine);
    engine.shut_down()?;
    result
}

fn draw_all(
    args: &Args,
    prompts: &[String],
    places: &Places,
    engine: &EngineHandle,
) -> Result<(), CliError> {
    let model = model(engine)?;
    let parent = args.from.as_deref().map(read_recipe).transpose()?;
    let seed = args.seed.unwrap_or_else(crate::execute::random_seed);
    for (index, prompt) in prompts.iter().enumerate() {
        let mut spec = spec(args, prompt, seed, &model);
        if let (Some(parent), Some(keep)) = (&parent, args.keep) {
            spec.keep = keep;
            spec.bits.clone_from(&parent.spec.bits);
            spec.ratio = parent.spec.ratio;
            spec.scale_count = spec.scale_count.or(parent.spec.scale_count);
        }
        let job = engine.run(Task::Generate(spec))?;
        let numbered = places.numbered(index, prompts.len());
        let (image, spec, secs) = finished(args, engine, job, &model, places, numbered.as_deref())?;
        let recipe = Recipe::new(&model.name, spec, &image);
        let path = match (places.file(), numbered) {
            (Some(file), _) => {
                write_png(file, &image, &recipe)?;
                file.to_owned()
            }
            (None, Some(name)) => {
                let path = places.folder().join(format!("{name}.png"));
                write_png(&path, &image, &recipe)?;
                path
            }
            (None, None) => {
                let stem = crate::recipe::file_stem(&recipe.spec.prompt, recipe.spec.seed);
                write_new_png(places.folder(), &stem, &image, &recipe)?
            }
        };
        println!("{}", path.display());
        eprintln!("{}×{}, seed {seed}, {secs:.2} s", image.width, image.height);
    }
    Ok(())
}

/// Waits until the model is loaded.
fn model(engine: &EngineHandle) -> Result<ModelInfo, CliError> {
    loop {
        match engine.wait_event() {
            Some(Event::ModelLoaded { model }) => return Ok(model),
            Some(Event::ModelFailed { error }) => return Err(error.into()),
            Some(Event::DeviceReady { device }) => {
                tracing::info!("{} {}: {}", device.name, device.backend, device.reason);
            }
            Some(_) => {}
            None => return Err(EngineError::EngineGone.into()),
        }
    }
}

/// The wish, the model's own settings where none were given.
fn spec(args: &Args, prompt: &str, seed: u64, model: &ModelInfo) -> GenerateSpec {
    let usual = GenerateSpec::new(prompt, seed);
    let list = |given: &Option<Numbers>, own: f32| {
        given
            .as_ref()
            .map_or_else(|| vec![own], |list| list.0.clone())
    };
    GenerateSpec {
        negative_prompt: args.negative.trim().to_owned(),
        ratio: args.ratio.ratio,
        scale_count: args.scales.or(args.pn.map(PixelBudget::scale_count)),
        cfg: list(&args.cfg, model.cfg),
        tau: list(&args.tau, model.tau),
        top_k: args.top_k.unwrap_or(usual.top_k),
        top_p: args.top_p.unwrap_or(usual.top_p),
        loras: args.lora.clone(),
        ..usual
    }
}

/// Waits for the picture of `job`, writing down its scales when wished.
fn finished(
    args: &Args,
    engine: &EngineHandle,
    job: JobId,
    model: &ModelInfo,
    places: &Places,
    numbered: Option<&str>,
) -> Result<(Rgb8Image, GenerateSpec, f32), CliError> {
    let mut steps = Vec::new();
    loop {
        match engine.wait_event() {
            Some(Event::Started {
                size_px: (width, height),
                notes,
                ..
            }) => {
                for note in notes {
                    eprintln!("note: {note}");
                }
                if let Some((asked_width, asked_height)) = args.ratio.size_px
                    && (asked_width, asked_height) != (width, height)
                {
                    eprintln!(
                        "note: {asked_width}×{asked_height} was asked for; {width}×{height} is drawn."
                    );
                }
            }
            Some(Event::ScaleDone {
                scale_index,
                preview,
                ..
            }) => steps.push((scale_index, preview)),
            Some(Event::ImageDone {
                image,
                spec,
                elapsed_secs,
                ..
            }) => {
                for (index, preview) in steps {
                    let recipe = Recipe::new(&model.name, spec.clone(), &preview);
                    if let Some(path) = places.step(numbered, index) {
                        write_png(&path, &preview, &recipe)?;
                    }
                }
                return Ok((image, spec, elapsed_secs));
            }
            Some(Event::Failed { error, .. } | Event::ModelFailed { error }) => {
                return Err(error.into());
            }
            Some(Event::Cancelled { .. }) => {
                return Err(CliError::failed(format!("job {} was stopped", job.0)));
            }
            Some(_) => {}
            None => return Err(EngineError::EngineGone.into()),
        }
    }
}
