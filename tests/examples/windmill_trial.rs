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

use infinity_engine::api::{DeviceChoice, LoraWish};
use infinity_engine::device;
use infinity_engine::finetune::{self, look_through};
use infinity_engine::generate::Bundle;
use infinity_engine::train::{Limits, Progress};
use infinity_tests::lessons::{ORDINARY, WINDMILLS, following, settings, starter, windmills};
use infinity_tests::models::STARTER_SCALES;
use infinity_tests::windmill::write_folder;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = arguments
        .get(2)
        .map(|path| std::fs::read_to_string(path).unwrap());
    let config = settings(text.as_deref());
    let out = Path::new(&arguments[1]);
    let data = out.join("data");
    std::fs::create_dir_all(&data).unwrap();
    write_folder(&data, 12);
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let mut bundle = Bundle::open(&starter(), &device).unwrap();
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
    let mut sheet = image::RgbImage::new(1280, 640);
    let mills = windmills(&bundle);
    for (index, (picture, _)) in mills.iter().enumerate() {
        let own = image::RgbImage::from_raw(256, 256, picture.pixels.to_vec()).unwrap();
        let own = image::imageops::thumbnail(&own, 128, 128);
        let (x, y) = (index % 10 * 128, index / 10 * 128);
        image::imageops::replace(&mut sheet, &own, x as i64, y as i64);
    }
    sheet.save(out.join("sheet.png")).unwrap();
    println!(
        "windmills {} of {WINDMILLS} right; following {} of {ORDINARY}",
        mills.iter().filter(|(_, right)| *right).count(),
        following(&bundle)
    );
}
