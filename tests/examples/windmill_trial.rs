//! Teaches the starter twelve windmills and says what came of it: the best settings found, or those of a file, to look for
//! better ones.
//!
//! `windmill_trial OUT [SETTINGS.json]`; OUT receives the run and `sheet.png`, fifty windmill prompts.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example stops at the first surprise, and says what it measured"
)]

use std::path::Path;

use infinity_engine::api::{DeviceChoice, GenerateSpec, LoraWish};
use infinity_engine::device;
use infinity_engine::finetune::{self, FinetuneConfig, look_through};
use infinity_engine::generate::Bundle;
use infinity_engine::postcards::{Caption, Postcard, Split, check};
use infinity_engine::train::{Limits, Progress};
use infinity_tests::models::STARTER_SCALES;
use infinity_tests::windmill::{Windmill, read, write_folder};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let settings = arguments.get(2).map_or_else(
        || include_str!("windmill_trial.json").to_owned(),
        |path| std::fs::read_to_string(path).unwrap(),
    );
    let config: FinetuneConfig = serde_json::from_str(&settings).unwrap();
    let config = FinetuneConfig {
        prior_prompts: (0..48)
            .map(|seed| Caption::sample(&Postcard::sample(9000 + seed, Split::Train), seed).text)
            .collect(),
        save_every: 10_000,
        ..config
    };
    let out = Path::new(&arguments[1]);
    let data = out.join("data");
    std::fs::create_dir_all(&data).unwrap();
    write_folder(&data, 12);
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let mut bundle = Bundle::open(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter"),
        &device,
    )
    .unwrap();
    let collection = look_through(&data, STARTER_SCALES, "").unwrap();
    let limits = Limits {
        resume: true,
        until: None,
        cancelled: &|| false,
    };
    let begun = std::time::Instant::now();
    finetune::run(
        &config,
        &mut bundle,
        &collection,
        &device,
        out,
        &limits,
        &mut |progress| {
            if let Progress::Line(line) = progress {
                let bits: Vec<String> = line
                    .bit_accuracy
                    .iter()
                    .map(|a| format!("{a:.3}"))
                    .collect();
                println!("{} {:.4} {}", line.step, line.loss, bits.join(" "));
            }
        },
        &mut |_| {},
    )
    .unwrap();
    println!("{:.0} s", begun.elapsed().as_secs_f32());
    bundle
        .wear(&[LoraWish::new(out.join("lora.safetensors"), 1.0)])
        .unwrap();
    let spec = |text: String, seed: u64| GenerateSpec {
        cfg: vec![bundle.info.cfg],
        tau: vec![bundle.info.tau],
        ..GenerateSpec::new(text, seed)
    };
    let (mut right, mut any, mut sheet) = (0, 0, image::RgbImage::new(1280, 640));
    for index in 0..50_usize {
        let mill = Windmill::sample(5000 + index as u64, index);
        let text = mill.caption(900 + index as u64);
        let picture = bundle.draw(&spec(text, index as u64)).unwrap();
        let seen = read(&picture);
        right += u32::from(seen == Some((mill.colour, mill.place)));
        any += u32::from(seen.is_some());
        let own = image::RgbImage::from_raw(256, 256, picture.pixels.to_vec()).unwrap();
        let own = image::imageops::thumbnail(&own, 128, 128);
        let (x, y) = (index % 10 * 128, index / 10 * 128);
        image::imageops::replace(&mut sheet, &own, x as i64, y as i64);
    }
    sheet.save(out.join("sheet.png")).unwrap();
    let followed = (0..100_u64).filter(|&seed| {
        let card = Postcard::sample(3000 + seed, Split::Train);
        let caption = Caption::regular(&card, seed);
        let picture = bundle.draw(&spec(caption.text, seed)).unwrap();
        check(&picture, &card, caption.named).followed()
    });
    println!(
        "windmills {right} of 50 right, {any} seen; following {} of 100",
        followed.count()
    );
}
