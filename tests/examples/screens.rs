//! Renders the window in all its states, to be looked at.
//!
//! `cargo run --release -p infinity-tests --example screens -- FOLDER [PART]`
//! writes one PNG per state, size and theme whose name contains PART. Needs a
//! Vulkan driver; a software one will do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;

use eframe::egui::{self, Theme, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use infinity::WindowOptions;
use infinity::app::App;
use infinity::settings::{Settings, ThemeChoice};
use infinity_engine::api::{EngineError, Event, GenerateSpec, JobId, Task};
use infinity_tests::loras::write_lora;
use infinity_tests::scripted::{ScriptedEngine, dropped, paint};

const STATES: [&str; 20] = [
    "loading",
    "empty",
    "drawing",
    "done",
    "failed",
    "many",
    "wide",
    "menu",
    "long",
    "drop",
    "teach-empty",
    "teach-found",
    "teach-running",
    "lora",
    "lora-scales",
    "shelf",
    "sheet",
    "part",
    "unsure",
    "by-scale",
];

struct Screen {
    engine: ScriptedEngine,
    harness: Harness<'static, App>,
}

impl Screen {
    fn new(size: egui::Vec2, scale: f32, folder: &Path, settings: Settings) -> Self {
        let (engine, handle) = ScriptedEngine::new();
        let options = WindowOptions {
            settings,
            pictures_folder: folder.join("Pictures"),
            ..WindowOptions::default()
        };
        let harness = Harness::builder()
            .with_size(size)
            .with_pixels_per_point(scale)
            .wgpu()
            .build_eframe(|creation| App::new(&creation.egui_ctx, handle, options));
        Self { engine, harness }
    }

    fn click(&mut self, label: &str) {
        self.harness.get_by_label(label).click();
        self.harness.run();
    }

    fn draw(&mut self) -> (JobId, GenerateSpec) {
        self.click("Draw");
        self.engine.job().expect("Draw asks for a picture")
    }

    fn draw_to_end(&mut self) -> (JobId, GenerateSpec) {
        let (job, spec) = self.draw();
        self.engine.start(job, &spec);
        self.engine.finish(job, &spec);
        self.harness.run();
        std::thread::sleep(std::time::Duration::from_millis(60));
        self.harness.run();
        (job, spec)
    }

    fn half_drawn(&mut self) {
        let (job, spec) = self.draw();
        self.engine.start(job, &spec);
        for index in 0..4 {
            self.engine.draw_scale(job, &spec, index);
        }
        self.harness.run_steps(20);
    }

    fn bring_about(&mut self, state: &str, folder: &Path) {
        self.harness.run();
        if state == "loading" {
            return;
        }
        self.engine.get_ready();
        self.harness.run();
        match state {
            "drawing" => {
                self.half_drawn();
                self.click("Draw");
                self.click("Draw");
            }
            "done" => {
                self.draw_to_end();
            }
            "failed" => {
                self.draw_to_end();
                let (job, spec) = self.draw();
                self.engine.start(job, &spec);
                let what = "attention of scale 5".to_owned();
                let advice = "Lower the guidance or try another seed.".to_owned();
                let error = EngineError::NotFinite { what, advice };
                self.engine.fail(job, error);
            }
            "many" => {
                for _ in 0..9 {
                    self.draw_to_end();
                }
                self.click("Leave out");
                self.click("Scale 3 of 7");
            }
            "wide" => {
                self.click("Ratio 5:3 (160 × 96)");
                self.draw_to_end();
                self.half_drawn();
            }
            "menu" => {
                self.draw_to_end();
                self.click("Preferences");
            }
            "long" => {
                let prompt =
                    "purple mountains at sunset with a very long and winding road, ".repeat(14);
                self.harness.get_by_label("Prompt").focus();
                self.harness.run();
                self.harness.get_by_label("Prompt").type_text(&prompt);
                self.harness.run();
                self.click("Ratio 3:5 (96 × 160)");
                self.draw_to_end();
                let reason = "the file model.json names a transformer with 32 blocks, \
                              but the weights hold 40";
                let error = EngineError::bad_model("/home/someone/models/infinity-2b", reason);
                self.engine.tell(Event::ModelFailed { error });
            }
            "drop" => {
                self.draw_to_end();
                let file = egui::HoveredFile::default();
                self.harness.input_mut().hovered_files.push(file);
            }
            "teach-empty" => self.click("Teaching"),
            "teach-found" | "teach-running" => {
                let file = dropped(Path::new(env!("CARGO_MANIFEST_DIR")));
                self.harness.input_mut().dropped_files.push(file);
                self.harness.run();
                let (job, _) = self.engine.task().expect("the folder is looked through");
                self.engine.find_pictures(job, 12);
                self.harness.run();
                if state == "teach-running" {
                    self.click("Teach");
                    let (job, _) = self.engine.task().expect("Teach asks for it");
                    self.engine.teach(job, 160);
                } else {
                    self.click("More");
                }
            }
            "lora" => {
                for name in ["windmill.safetensors", "night ink.safetensors"] {
                    let file = dropped(Path::new(name));
                    self.harness.input_mut().dropped_files.push(file);
                    self.harness.run();
                }
                self.draw_to_end();
            }
            "lora-scales" => {
                let file = dropped(Path::new("windmill.safetensors"));
                self.harness.input_mut().dropped_files.push(file);
                self.harness.run();
                self.click("By scale");
                self.click("Layout of windmill");
                self.draw_to_end();
            }
            "shelf" => {
                let folder = folder.join("Pictures/LoRAs");
                for (index, name) in ["windmills", "night ink", "my cat", "paper"]
                    .into_iter()
                    .enumerate()
                {
                    let picture = (index != 2).then(|| paint(128, 128, 5 + 9 * index as u64));
                    write_lora(&folder.join(name).join("lora.safetensors"), name, picture);
                }
                self.click("LoRAs");
                let sees = |screen: &Self| screen.harness.query_by_label("Put on paper").is_some();
                for _ in 0..100 {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    self.harness.run();
                    if sees(self) {
                        break;
                    }
                }
            }
            "sheet" => {
                self.click("Drafts");
                let Some((job, Task::Drafts { spec, scales, .. })) = self.engine.task() else {
                    panic!("Drafts asks for drafts");
                };
                self.engine.start(job, &spec);
                self.engine.draw_drafts(job, &spec, 0..13, scales);
            }
            "part" => {
                self.draw_to_end();
                self.click("Change a part");
                let place = self
                    .harness
                    .get_by_label_contains("Mask: paint")
                    .rect()
                    .center();
                for (step, pressed) in [(0.0, true), (60.0, true), (60.0, false)] {
                    let at = place + vec2(step, step / 3.0);
                    self.harness.event(egui::Event::PointerMoved(at));
                    if step == 0.0 || !pressed {
                        self.harness.event(egui::Event::PointerButton {
                            pos: at,
                            button: egui::PointerButton::Primary,
                            pressed,
                            modifiers: egui::Modifiers::NONE,
                        });
                    }
                    self.harness.run();
                }
            }
            "unsure" => {
                self.draw_to_end();
                self.click("Unsure");
                self.click("More like this");
            }
            "by-scale" => {
                self.draw_to_end();
                self.click("By scale");
                self.click("Strong start");
            }
            _ => {}
        }
        self.harness.run_steps(3);
        if state == "drop" {
            let file = egui::HoveredFile::default();
            self.harness.input_mut().hovered_files.push(file);
            self.harness.step();
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder for the pictures");
    let part = arguments.next().unwrap_or_default();
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).expect("the folder can be made");
    for state in STATES {
        for (width, height, scale) in [(1280, 800, 1.0), (800, 600, 1.0), (1280, 800, 2.0)] {
            for theme in [Theme::Dark, Theme::Light] {
                let name = format!("{state}-{width}x{height}@{scale}-{theme:?}.png");
                if !name.contains(&part) {
                    continue;
                }
                let size = vec2(width as f32, height as f32);
                let settings = Settings {
                    theme: match theme {
                        Theme::Dark => ThemeChoice::Dark,
                        Theme::Light => ThemeChoice::Light,
                    },
                    ..Settings::default()
                };
                let mut screen = Screen::new(size, scale, folder, settings);
                screen.bring_about(state, folder);
                match screen.harness.render() {
                    Ok(image) => image.save(folder.join(&name)).expect("can be saved"),
                    Err(error) => panic!("{name}: {error}"),
                }
            }
        }
    }
}
