//! `infinity draw`: pictures without a window.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use infinity_engine::api::{
    Doubt, EngineError, Event, GenerateSpec, LoraWish, Mode, ModelInfo, PixelBudget, Rgb8Image,
    Task, WeightStorage,
};
use infinity_engine::{EngineHandle, Previews, SpawnOptions};

use super::CliError;
use super::place;
use super::places::{Places, prompts_in};
use super::start::{Opened, Start};
use super::values::{self, Numbers, Shape};
use crate::place::Place;
use crate::recipe::{Recipe, write_new_png, write_png};
use crate::settings::passed_path;

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
  infinity draw --prompts lines.txt --out pictures/ --device gpu:0+gpu:1        on both at the same time
  infinity draw \"a blue house\" --from card.png --keep 3         same layout, other details
  infinity draw \"a blue house\" --from photo.jpg --keep 2        any picture as a start
  infinity draw \"a tree\" --from card.png --mask mask.png        anew where the mask is white
  infinity draw \"a boat\" --from card.png --extend 0,0,64,0      64 pixels more at the right
  infinity draw \"a boat\" --drafts 16 --draft-scales 3 --out drafts/
  infinity draw \"a red windmill\" --lora mill.safetensors=0.8
  infinity draw \"a lighthouse\" --cfg 3,3,3,4,4,5,5 --tau 0.4 --steps-out steps/")]
pub(super) struct Args {
    /// What the picture shows.
    #[arg(required_unless_present_any = ["prompts", "from"], conflicts_with = "prompts")]
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
    /// How much of the guidance is drawn: exact (as the paper), balanced (none at the last quarter of the scales) or draft (none at the last half): quicker.
    #[arg(long, value_name = "MODE", default_value = "exact", value_parser = values::mode)]
    mode: Mode,
    /// Round factors of matrix products, to bf16 where the processor multiplies those (quicker), to f16 on graphics devices; where the model was in doubt, the picture may differ.
    #[arg(long)]
    half_products: bool,
    /// Temperature, one number or one per scale: 0.5 to 1 usual; the model's own when left out.
    #[arg(long, value_name = "X[,X…]", value_parser = values::numbers, allow_hyphen_values = true)]
    tau: Option<Numbers>,
    #[command(flatten)]
    start: Start,
    /// What the picture shows from scale --detail-from on: one prompt for the layout, another for the details.
    #[arg(long, value_name = "PROMPT", requires = "detail_from")]
    detail: Option<String>,
    /// The first scale, from 1, that --detail makes.
    #[arg(long, value_name = "K", requires = "detail", value_parser = clap::value_parser!(u16).range(1..=64))]
    detail_from: Option<u16>,
    /// Draw so many drafts instead, each with a seed of its own; --from DRAFT finishes one.
    #[arg(long, value_name = "N", requires = "draft_scales", conflicts_with_all = ["prompts", "steps_out", "mask", "extend", "doubt_out"])]
    drafts: Option<usize>,
    /// How many scales of each draft to draw.
    #[arg(long, value_name = "K", requires = "drafts")]
    draft_scales: Option<usize>,
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
    /// Highest mean probability of the likelier bits of a scale, 0.5 to 1: lower gives livelier pictures.
    #[arg(long, value_name = "P")]
    certainty: Option<f32>,
    /// What the picture should not show.
    #[arg(long, value_name = "PROMPT")]
    negative: Option<String>,
    /// A LoRA to put on, by itself or with its strength; again for more than one.
    #[arg(long, value_name = "FILE[=STRENGTH]", value_parser = values::lora)]
    lora: Vec<LoraWish>,
    /// Also write the picture after every scale into this folder.
    #[arg(long, value_name = "DIR")]
    steps_out: Option<PathBuf>,
    /// Also write where the bits were uncertain, white for a coin toss, to this PNG file.
    #[arg(long, value_name = "FILE", conflicts_with = "prompts")]
    doubt_out: Option<PathBuf>,
    /// Where to compute: auto, gpu, gpu:N, cpu, software, several with + between (gpu:0+gpu:1), or remote:HOST:PORT, where `infinity serve` runs.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = Place::parse)]
    device: Place,
    /// How the model is kept in memory: single (f32), half, small (keys and values in half precision too), smaller (these in eight bits), eight (the model in eight bits too), or the first of these that fits (auto; half at once where the files are so and the processor multiplies that as it lies).
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = values::weights)]
    weights: WeightStorage,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let start = args.start.open()?;
    let own = start.as_ref().and_then(Opened::prompt);
    let prompts = match (&args.prompt, &args.prompts, own) {
        (Some(prompt), _, _) => vec![prompt.trim().to_owned()],
        (None, Some(file), _) => prompts_in(file)?,
        (None, None, Some(own)) => vec![own.to_owned()],
        (None, None, None) => return Err(CliError::Usage("a prompt is needed".to_owned())),
    };
    let many = args.prompts.is_some() || args.drafts.is_some();
    let places = Places::new(args.out.as_deref(), args.steps_out.as_deref(), many)?;
    if args.device.is_remote() && args.steps_out.is_some() {
        return Err(CliError::Usage(
            "another machine decides for itself which steps it shows: --steps-out works here only"
                .to_owned(),
        ));
    }
    place::check(&args.device, args.model.as_deref(), args.weights)?;
    let options = place::options(&args.device, args.model.as_deref())?;
    let previews = if args.steps_out.is_some() {
        Previews::Full
    } else {
        Previews::Off
    };
    let engine = args.device.start(SpawnOptions {
        previews,
        weights: args.weights,
        passed: passed_path(),
        ..options
    })?;
    let result = draw_all(args, start.as_ref(), &prompts, &places, &engine);
    engine.shut_down()?;
    result
}

fn draw_all(
    args: &Args,
    start: Option<&Opened>,
    prompts: &[String],
    places: &Places,
    engine: &EngineHandle,
) -> Result<(), CliError> {
    let model = model(engine)?;
    let draft = start.and_then(Opened::draft);
    let seed = args.seed.or_else(|| Some(draft?.seed));
    let seed = seed.unwrap_or_else(crate::execute::random_seed);
    let mut waiting = BTreeMap::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let spec = spec(args, prompt, seed, &model, draft);
        let task = match start {
            Some(start) => start.task(spec),
            None => Task::Generate(spec),
        };
        if let (Some(count), Some(scales)) = (args.drafts, args.draft_scales) {
            return drafts(task, (count, scales), places, engine, &model);
        }
        let ordered = Ordered {
            numbered: places.numbered(index, prompts.len()),
            steps: Vec::new(),
        };
        waiting.insert(engine.run(task)?, ordered);
    }
    // Several devices finish in no order.
    while !waiting.is_empty() {
        match engine.wait_event() {
            Some(Event::Started { size_px, notes, .. }) => say_start(args, size_px, &notes),
            Some(Event::ScaleDone {
                job,
                scale_index,
                preview,
                ..
            }) => {
                if let Some(ordered) = waiting.get_mut(&job) {
                    ordered.steps.push((scale_index, preview));
                }
            }
            Some(Event::ImageDone {
                job,
                image,
                spec,
                elapsed_secs,
                doubt,
                ..
            }) => {
                let Some(ordered) = waiting.remove(&job) else {
                    continue;
                };
                if let (Some(path), Some(doubt)) = (&args.doubt_out, &doubt) {
                    write_doubt(path, doubt)?;
                }
                let recipe = Recipe::new(&model.name, spec, &image);
                let path = ordered.write(places, &image, &recipe)?;
                println!("{}", path.display());
                let (width, height) = (image.width, image.height);
                eprintln!("{width}×{height}, seed {seed}, {elapsed_secs:.2} s");
            }
            Some(Event::Failed { error, .. } | Event::ModelFailed { error }) => {
                return Err(error.into());
            }
            Some(Event::Cancelled { job }) => {
                return Err(CliError::failed(format!("job {} was stopped", job.0)));
            }
            Some(_) => {}
            None => return Err(EngineError::EngineGone.into()),
        }
    }
    Ok(())
}

/// A picture that was asked for.
struct Ordered {
    /// Its name among several.
    numbered: Option<String>,
    /// The pictures of its scales so far.
    steps: Vec<(usize, Rgb8Image)>,
}

impl Ordered {
    /// Writes the picture and, where they are wanted, its scales; gives the file of the picture.
    fn write(
        self,
        places: &Places,
        image: &Rgb8Image,
        recipe: &Recipe,
    ) -> Result<PathBuf, CliError> {
        for (index, preview) in self.steps {
            let recipe = Recipe::new(&recipe.model, recipe.spec.clone(), &preview);
            if let Some(path) = places.step(self.numbered.as_deref(), index) {
                write_png(&path, &preview, &recipe)?;
            }
        }
        Ok(match (places.file(), self.numbered) {
            (Some(file), _) => {
                write_png(file, image, recipe)?;
                file.to_owned()
            }
            (None, Some(name)) => {
                let path = places.folder().join(format!("{name}.png"));
                write_png(&path, image, recipe)?;
                path
            }
            (None, None) => {
                let stem = crate::recipe::file_stem(&recipe.spec.prompt, recipe.spec.seed);
                write_new_png(places.folder(), &stem, image, recipe)?
            }
        })
    }
}

/// Says what is drawn otherwise than asked.
fn say_start(args: &Args, (width, height): (u32, u32), notes: &[String]) {
    for note in notes {
        eprintln!("note: {note}");
    }
    if let Some((asked_width, asked_height)) = args.ratio.size_px
        && (asked_width, asked_height) != (width, height)
    {
        eprintln!("note: {asked_width}×{asked_height} was asked for; {width}×{height} is drawn.");
    }
}

/// Draws `count` drafts of `scales` scales and writes them down, numbered.
fn drafts(
    task: Task,
    (count, scales): (usize, usize),
    places: &Places,
    engine: &EngineHandle,
    model: &ModelInfo,
) -> Result<(), CliError> {
    let Task::Generate(spec) = task else {
        return Err(CliError::Usage(
            "drafts start from scales of a picture that this program drew".to_owned(),
        ));
    };
    engine.run(Task::Drafts {
        spec,
        count,
        scales,
    })?;
    loop {
        match engine.wait_event() {
            Some(Event::Started { notes, .. }) => {
                for note in notes {
                    eprintln!("note: {note}");
                }
            }
            Some(Event::DraftDone {
                index, image, spec, ..
            }) => {
                let name = places.numbered(index, count).unwrap_or_default();
                let path = places.folder().join(format!("{name}.png"));
                write_png(&path, &image, &Recipe::new(&model.name, spec, &image))?;
                println!("{}", path.display());
            }
            Some(Event::DraftsDone {
                elapsed_secs, cost, ..
            }) => {
                eprintln!(
                    "{count} drafts for the price of {cost:.1} pictures, {elapsed_secs:.2} s"
                );
                return Ok(());
            }
            Some(Event::Failed { error, .. } | Event::ModelFailed { error }) => {
                return Err(error.into());
            }
            Some(_) => {}
            None => return Err(EngineError::EngineGone.into()),
        }
    }
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

/// The wish; where nothing was given, the settings of the draft that is finished, else the model's own.
fn spec(
    args: &Args,
    prompt: &str,
    seed: u64,
    model: &ModelInfo,
    draft: Option<&GenerateSpec>,
) -> GenerateSpec {
    let usual = draft.cloned().unwrap_or_else(|| GenerateSpec {
        cfg: vec![model.cfg],
        tau: vec![model.tau],
        ratio: args.ratio.ratio,
        ..GenerateSpec::new(prompt, seed)
    });
    let list = |given: &Option<Numbers>, own: &[f32]| {
        given
            .as_ref()
            .map_or_else(|| own.to_vec(), |list| list.0.clone())
    };
    let words = |given: Option<&String>, own: &str| {
        given.map_or_else(|| own.to_owned(), |text| text.trim().to_owned())
    };
    let scales = args.scales.or(args.pn.map(PixelBudget::scale_count));
    let detail_from = args.detail_from.map(|from| usize::from(from) - 1);
    let scale_count = scales.or(usual.scale_count);
    let cfg = list(&args.cfg, &usual.cfg);
    GenerateSpec {
        prompt: prompt.to_owned(),
        seed,
        negative_prompt: words(args.negative.as_ref(), &usual.negative_prompt),
        detail_prompt: words(args.detail.as_ref(), &usual.detail_prompt),
        detail_from: detail_from.unwrap_or(usual.detail_from),
        scale_count,
        cfg: args
            .mode
            .guidance(&cfg, scale_count.unwrap_or(model.scale_count)),
        tau: list(&args.tau, &usual.tau),
        top_k: args.top_k.unwrap_or(usual.top_k),
        top_p: args.top_p.unwrap_or(usual.top_p),
        certainty: args.certainty.or(usual.certainty),
        half_products: args.half_products || usual.half_products,
        loras: if args.lora.is_empty() {
            usual.loras
        } else {
            args.lora.clone()
        },
        ..usual
    }
}

/// Writes where bits were uncertain as a grey picture, a pixel per token.
fn write_doubt(path: &Path, doubt: &Doubt) -> Result<(), CliError> {
    let size = (doubt.width as u32, doubt.height as u32);
    let image = image::GrayImage::from_raw(size.0, size.1, doubt.values.clone());
    let image = image.ok_or_else(|| CliError::failed("the size of the map makes no sense"))?;
    image
        .save_with_format(path, image::ImageFormat::Png)
        .with_context(|| format!("the map of doubt cannot be written: {path:?}"))?;
    Ok(())
}
