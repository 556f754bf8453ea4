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

use infinity_tests::lessons::{
    ORDINARY, WINDMILLS, following, settings, taught, windmills, write_sheet,
};
use infinity_tests::windmill::write_folder;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let text = arguments
        .get(2)
        .map(|path| std::fs::read_to_string(path).unwrap());
    let out = Path::new(&arguments[1]);
    let data = out.join("data");
    std::fs::create_dir_all(&data).unwrap();
    write_folder(&data, 12);
    let bundle = taught(&settings(text.as_deref()), out);
    let mills = windmills(&bundle);
    write_sheet(
        mills.iter().map(|(picture, _)| picture),
        &out.join("sheet.png"),
    );
    println!(
        "windmills {} of {WINDMILLS} right; following {} of {ORDINARY}",
        mills.iter().filter(|(_, right)| *right).count(),
        following(&bundle)
    );
}
