//! What came of a lesson on windmills: how many are drawn, and how many ordinary prompts are still followed.

use std::path::{Path, PathBuf};

use infinity_engine::api::{GenerateSpec, Rgb8Image};
use infinity_engine::finetune::FinetuneConfig;
use infinity_engine::generate::Bundle;
use infinity_engine::postcards::{Caption, Postcard, Split, check};

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
        prior_prompts: (0..48)
            .map(|seed| Caption::sample(&Postcard::sample(9000 + seed, Split::Train), seed).text)
            .collect(),
        save_every: 10_000,
        ..serde_json::from_str(text).unwrap()
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
