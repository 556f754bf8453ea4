//! Teaches the real engine a folder in the window, and takes a picture of it: `teach_shot FOLDER OUT.png [STEPS]`.
//!
//! `cargo run --release -p infinity-tests --example windmills -- FOLDER` makes such a folder. Needs a Vulkan driver.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an example stops at the first surprise"
)]

use std::path::{Path, PathBuf};

use eframe::egui::vec2;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use infinity::WindowOptions;
use infinity::app::App;
use infinity_engine::api::DeviceChoice;
use infinity_engine::{SpawnOptions, spawn};
use infinity_tests::scripted::dropped;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder: PathBuf = arguments.next().expect("a folder with pictures").into();
    let out = arguments.next().expect("where the picture goes");
    let steps: u64 = arguments
        .next()
        .map_or(150, |text| text.parse().expect("a number"));
    let pictures = tempfile::tempdir().expect("a passing folder");
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter");
    let engine = spawn(SpawnOptions::new(DeviceChoice::Cpu, Some(starter))).expect("an engine");
    let options = WindowOptions {
        pictures_folder: pictures.path().to_owned(),
        ..WindowOptions::default()
    };
    let mut harness = Harness::builder()
        .with_size(vec2(1280.0, 800.0))
        .wgpu()
        .build_eframe(|creation| App::new(&creation.egui_ctx, engine, options));
    let wait = |harness: &mut Harness<'static, App>, done: &dyn Fn(&App) -> bool| {
        while !done(harness.state()) {
            std::thread::sleep(std::time::Duration::from_millis(50));
            harness.step();
        }
        harness.step();
    };
    wait(&mut harness, &|app| app.state().model.is_some());
    harness.input_mut().dropped_files.push(dropped(&folder));
    harness.step();
    wait(&mut harness, &|app| app.state().teach.found.is_some());
    harness.get_by_label("Teach").click();
    harness.step();
    let made = |app: &App| {
        let lesson = app.state().teach.lesson.as_ref();
        lesson
            .and_then(|lesson| lesson.steps.last())
            .map_or(0, |step| step.step)
    };
    wait(&mut harness, &|app| made(app) >= steps);
    harness
        .render()
        .expect("a picture")
        .save(out)
        .expect("can be saved");
}
