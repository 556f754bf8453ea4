//! Windmills taught with and without self-correction, three seeds each: following, and how well flipped bits are mended.
//!
//! `cargo run --release -p infinity-tests --example self_correction -- [STEPS]` prints a table: the settings of the windmill
//! trial with eight pictures a step, as the tests teach it; 300 steps each take a few minutes on two cores.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example stops at the first surprise"
)]

use infinity_engine::api::{DeviceChoice, LoraWish};
use infinity_engine::device;
use infinity_engine::finetune::{self, FinetuneConfig, look_through};
use infinity_engine::generate::Bundle;
use infinity_engine::lab::{Effort, Table, recovery};
use infinity_engine::train::Limits;
use infinity_tests::lessons::{settings, starter, windmills_right};
use infinity_tests::windmill::write_folder;

fn main() {
    let steps = std::env::args()
        .nth(1)
        .map_or(300, |text| text.parse().expect("a number"));
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let mut bundle = Bundle::open(&starter(), &device).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    write_folder(&data, 12);
    let collection = look_through(&data, bundle.info.scale_count, "").unwrap();
    let mut table = Table::new([
        "self-correction",
        "seed",
        "windmills of 50",
        "followed of 100",
        "followed with flips",
        "flipped against not, dB",
    ]);
    let base = recovery(&bundle, Effort::whole(7)).unwrap();
    let row = |name: &str, seed: String, mills: usize, r: infinity_engine::lab::Recovery| {
        [
            name.to_owned(),
            seed,
            mills.to_string(),
            format!("{:.0}", 100.0 * r.followed),
            format!("{:.0}", 100.0 * r.followed_flipped),
            format!("{:.1}", r.psnr),
        ]
    };
    table.row(row(
        "no LoRA",
        "–".to_owned(),
        windmills_right(&bundle),
        base,
    ));
    for (name, flip_strength) in [
        ("on", FinetuneConfig::default().flip_strength),
        ("off", 0.0),
    ] {
        for seed in 1..=3 {
            let config = FinetuneConfig {
                steps,
                seed,
                flip_strength,
                batch: 8,
                ..settings(None)
            };
            let out = folder.path().join(format!("{seed}-{flip_strength}"));
            let limits = Limits {
                resume: false,
                until: None,
                cancelled: &|| false,
            };
            let (mut told, mut between) = (|_: &_| (), |_: &mut Bundle| ());
            finetune::run(
                &config,
                &mut bundle,
                &collection,
                &device,
                &[],
                &out,
                &limits,
                &mut told,
                &mut between,
            )
            .unwrap();
            let path = out.join("lora.safetensors");
            bundle.wear(&[LoraWish::new(path, 1.0)]).unwrap();
            let result = recovery(&bundle, Effort::whole(7)).unwrap();
            table.row(row(
                name,
                seed.to_string(),
                windmills_right(&bundle),
                result,
            ));
            bundle.wear(&[]).unwrap();
            eprintln!("{name}, seed {seed}: done");
        }
    }
    print!("{table}");
}
