//! Teaches the starter a style from ten pictures and says what came of it: the settings found, or those of a file.
//!
//! `style_trial OUT [SETTINGS.json]`; OUT receives the run and `sheet.png`, the first fifty prompts in the style.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example stops at the first surprise, and says what it measured"
)]

use infinity_engine::api::{DeviceChoice, LoraWish};
use infinity_engine::device;
use infinity_engine::generate::Bundle;
use infinity_tests::ink::write_folder;
use infinity_tests::lessons::{
    ORDINARY, in_style, in_style_at_best, painted_over, starter, style_settings, taught,
    trial_arguments, write_sheet,
};

/// How strongly the LoRA is put on: a little less of it moves things less.
const STRENGTHS: [f32; 3] = [0.97, 0.98, 1.0];

fn main() {
    let (out, text) = trial_arguments();
    write_folder(&out.join("data"), 10);
    let mut bundle = taught(&style_settings(text.as_deref()), &out);
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let before = Bundle::open(&starter(), &device).unwrap();
    let best = in_style_at_best(&before, ORDINARY);
    let over = painted_over(&before, ORDINARY);
    let before = in_style(&before, ORDINARY);
    println!(
        "painted in the style and through the tokenizer: palette distance {:.1}, layouts {} of {ORDINARY}",
        best.palette_distance, best.layouts.0,
    );
    println!(
        "the starter's own pictures painted over and through the tokenizer: palette distance {:.1}, layouts {} of {ORDINARY}",
        over.palette_distance, over.layouts.0,
    );
    for strength in STRENGTHS {
        let worn = LoraWish::new(out.join("lora.safetensors"), strength);
        bundle.wear(&[worn]).unwrap();
        let after = in_style(&bundle, ORDINARY);
        write_sheet(after.pictures.iter().take(50), &out.join("sheet.png"));
        println!(
            "strength {strength}: palette distance {:.1} -> {:.1}, {:.3} less; layouts {} -> {} of {ORDINARY}",
            before.palette_distance,
            after.palette_distance,
            1.0 - after.palette_distance / before.palette_distance,
            before.layouts.1,
            after.layouts.0,
        );
    }
}
