//! Lessons on windmills and on a style, and what came of them: how many windmills are drawn and how many ordinary prompts
//! still followed; how near the colours are to the style, and how many layouts are still as named.

use std::path::{Path, PathBuf};

use infinity_engine::api::{DeviceChoice, GenerateSpec, LoraWish, Rgb8Image};
use infinity_engine::device;
use infinity_engine::finetune::{self, FinetuneConfig, look_through};
use infinity_engine::generate::Bundle;
use infinity_engine::postcards::{Caption, Postcard, Split, check, paint};
use infinity_engine::schedule::ScaleSchedule;
use infinity_engine::train::report::LogLine;
use infinity_engine::train::vae::reconstruct;
use infinity_engine::train::{Limits, Progress};

use crate::ink::{inked, palette_distance, shows_layout, shows_layout_in_style};
use crate::models::{STARTER_SCALES, STARTER_SIDE};
use crate::windmill::{Windmill, read};

/// Windmill prompts that are drawn.
pub const WINDMILLS: usize = 50;
/// Ordinary prompts that are drawn.
pub const ORDINARY: u64 = 100;

/// The folder of the starter.
pub fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter")
}

/// The best settings found for windmills, in `tests/examples/windmill_trial.json`, or those of another text.
pub fn settings(text: Option<&str>) -> FinetuneConfig {
    let text = text.unwrap_or(include_str!("../examples/windmill_trial.json"));
    FinetuneConfig {
        save_every: 10_000,
        ..serde_json::from_str(text).unwrap()
    }
}

/// The best settings found for the style, in `tests/examples/style_trial.json`, or those of another text.
pub fn style_settings(text: Option<&str>) -> FinetuneConfig {
    let text = text.unwrap_or(include_str!("../examples/style_trial.json"));
    FinetuneConfig {
        save_every: 10_000,
        ..serde_json::from_str(text).unwrap()
    }
}

/// Teaches the starter the pictures of `data` within `limits` and tells of every line of the log; gives the starter,
/// without the LoRA.
pub fn teach(
    config: &FinetuneConfig,
    (data, out): (&Path, &Path),
    limits: &Limits<'_>,
    mut line: impl FnMut(&LogLine),
) -> Bundle {
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let mut bundle = Bundle::open(&starter(), &device).unwrap();
    let collection = look_through(data, STARTER_SCALES, "").unwrap();
    finetune::run(
        config,
        &mut bundle,
        &collection,
        &device,
        &[],
        out,
        limits,
        &mut |progress| {
            if let Progress::Line(own) = progress {
                line(own);
            }
        },
        &mut |_| {},
    )
    .unwrap();
    bundle
}

/// For an example called with `OUT [SETTINGS.json]`: OUT, with an empty folder `data` in it, and the text of the settings.
pub fn trial_arguments() -> (PathBuf, Option<String>) {
    let mut arguments = std::env::args().skip(1);
    let out = PathBuf::from(arguments.next().expect("a folder to write into"));
    std::fs::create_dir_all(out.join("data")).unwrap();
    let text = arguments.next();
    (out, text.map(|path| std::fs::read_to_string(path).unwrap()))
}

/// Teaches the starter the pictures in `out/data`, or goes on with it, and says how it goes; gives the starter with the
/// LoRA on.
pub fn taught(config: &FinetuneConfig, out: &Path) -> Bundle {
    let limits = Limits {
        resume: true,
        until: None,
        cancelled: &|| false,
    };
    let begun = std::time::Instant::now();
    let mut bundle = teach(config, (&out.join("data"), out), &limits, |line| {
        let bits = line.bit_accuracy.iter().map(|share| format!("{share:.3}"));
        let bits: Vec<String> = bits.collect();
        println!("{} {:.4} {}", line.step, line.loss, bits.join(" "));
    });
    println!("{:.0} s", begun.elapsed().as_secs_f32());
    bundle
        .wear(&[LoraWish::new(out.join("lora.safetensors"), 1.0)])
        .unwrap();
    bundle
}

/// Writes pictures of the starter's size as a sheet of small ones, ten in a row.
pub fn write_sheet<'a>(pictures: impl Iterator<Item = &'a Rgb8Image>, path: &Path) {
    let mut sheet = image::RgbImage::new(1280, 640);
    for (index, picture) in pictures.enumerate() {
        let (width, height) = (picture.width, picture.height);
        let own = image::RgbImage::from_raw(width, height, picture.pixels.to_vec()).unwrap();
        let own = image::imageops::thumbnail(&own, 128, 128);
        let (x, y) = (index % 10 * 128, index / 10 * 128);
        image::imageops::replace(&mut sheet, &own, x as i64, y as i64);
    }
    sheet.save(path).unwrap();
}

/// What the colours and layouts of ordinary prompts are like.
#[derive(Clone, Debug)]
pub struct InStyle {
    /// The pictures.
    pub pictures: Vec<Rgb8Image>,
    /// Of their colours to those of postcards for the same prompts painted in the style, in steps of a channel.
    pub palette_distance: f32,
    /// How many layouts are as named, of pictures in the style and of ordinary ones.
    pub layouts: (usize, usize),
}

/// An ordinary prompt: what it describes, and the seed it is drawn with.
type Wish = (Postcard, Caption, u64);

fn wishes(count: u64) -> Vec<Wish> {
    let one = |seed: u64| {
        let card = Postcard::sample(3000 + seed, Split::Train);
        (card, Caption::regular(&card, seed), seed)
    };
    (0..count).map(one).collect()
}

/// Draws `count` ordinary prompts and compares them with the style.
pub fn in_style(bundle: &Bundle, count: u64) -> InStyle {
    let wishes = wishes(count);
    let pictures = wishes
        .iter()
        .map(|(_, caption, seed)| drawn(bundle, caption.text.clone(), *seed))
        .collect();
    compared(&wishes, pictures)
}

/// The same for postcards painted in the style that went through the tokenizer alone: no lesson can do better.
pub fn in_style_at_best(bundle: &Bundle, count: u64) -> InStyle {
    let wishes = wishes(count);
    let painted = wishes
        .iter()
        .map(|(card, _, seed)| paint(card, *seed, STARTER_SIDE, STARTER_SIDE));
    let pictures = inked_and_encoded(bundle, painted);
    compared(&wishes, pictures)
}

/// The same for ordinary pictures that the model draws, painted over in the style by hand: a lesson that changes
/// nothing but the style draws these.
pub fn painted_over(bundle: &Bundle, count: u64) -> InStyle {
    let drawn = in_style(bundle, count).pictures;
    compared(&wishes(count), inked_and_encoded(bundle, drawn.into_iter()))
}

/// Pictures in the style, through the tokenizer.
fn inked_and_encoded(bundle: &Bundle, pictures: impl Iterator<Item = Rgb8Image>) -> Vec<Rgb8Image> {
    let schedule = ScaleSchedule::nearest(1.0, STARTER_SCALES).unwrap();
    let all = pictures.flat_map(|picture| {
        reconstruct(&bundle.vae, &[inked(&picture)], &schedule.scales).unwrap()
    });
    all.collect()
}

fn compared(wishes: &[Wish], pictures: Vec<Rgb8Image>) -> InStyle {
    let painted: Vec<Rgb8Image> = wishes
        .iter()
        .zip(&pictures)
        .map(|((card, _, seed), own)| inked(&paint(card, *seed, own.width, own.height)))
        .collect();
    let layouts = |shows: fn(&Rgb8Image, &Postcard, &Caption) -> bool| {
        let shown = wishes.iter().zip(&pictures);
        shown
            .filter(|((card, caption, _), own)| shows(own, card, caption))
            .count()
    };
    InStyle {
        palette_distance: palette_distance(&pictures, &painted),
        layouts: (layouts(shows_layout_in_style), layouts(shows_layout)),
        pictures,
    }
}

fn drawn(bundle: &Bundle, text: String, seed: u64) -> Rgb8Image {
    let spec = GenerateSpec {
        cfg: vec![bundle.info.cfg],
        tau: vec![bundle.info.tau],
        ..GenerateSpec::new(text, seed)
    };
    bundle.draw(&spec).unwrap()
}

/// Pictures of windmill prompts, each with whether it shows one of the named colour in the named place.
pub fn windmills(bundle: &Bundle) -> Vec<(Rgb8Image, bool)> {
    let one = |index: usize| {
        let mill = Windmill::sample(5000 + index as u64, index);
        let picture = drawn(bundle, mill.caption(900 + index as u64), index as u64);
        let right = read(&picture) == Some((mill.colour, mill.place));
        (picture, right)
    };
    (0..WINDMILLS).map(one).collect()
}

/// How many windmills are right.
pub fn windmills_right(bundle: &Bundle) -> usize {
    windmills(bundle).iter().filter(|(_, right)| *right).count()
}

/// How many of [`ORDINARY`] prompts are followed.
pub fn following(bundle: &Bundle) -> usize {
    let followed = (0..ORDINARY).filter(|&seed| {
        let card = Postcard::sample(3000 + seed, Split::Train);
        let caption = Caption::regular(&card, seed);
        check(&drawn(bundle, caption.text, seed), &card, caption.named).followed()
    });
    followed.count()
}
