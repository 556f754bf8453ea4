//! Teaches the starter twelve windmills and says what came of it: the best settings found, or those of a file, to look for
//! better ones.
//!
//! `windmill_trial OUT [SETTINGS.json]`; OUT receives the run and `sheet.png`, fifty windmill prompts.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example stops at the first surprise, and says what it measured"
)]

use infinity_tests::lessons::{
    ORDINARY, WINDMILLS, following, settings, taught, trial_arguments, windmills, write_sheet,
};
use infinity_tests::windmill::write_folder;

fn main() {
    let (out, text) = trial_arguments();
    write_folder(&out.join("data"), 12);
    let bundle = taught(&settings(text.as_deref()), &out);
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
