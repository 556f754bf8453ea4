//! Draws with the real engine in the window and takes pictures of it: `powers_shot OUT_FOLDER`.
//!
//! Writes `window.png`, `drafts.png`, `part.png` and `part-result.png`. Needs a Vulkan driver; a software one will do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an example stops at the first surprise"
)]

use std::path::{Path, PathBuf};

use eframe::egui::{Event, Modifiers, PointerButton, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use infinity::WindowOptions;
use infinity::app::App;
use infinity::state::UiState;
use infinity_engine::api::DeviceChoice;
use infinity_engine::{SpawnOptions, spawn};

struct Shot {
    harness: Harness<'static, App>,
    out: PathBuf,
}

impl Shot {
    fn wait(&mut self, done: impl Fn(&UiState) -> bool) {
        while !done(self.harness.state().state()) {
            std::thread::sleep(std::time::Duration::from_millis(30));
            self.harness.step();
        }
        self.harness.run_steps(3);
    }

    fn click(&mut self, label: &str) {
        self.harness.get_by_label(label).click();
        self.harness.run_steps(3);
    }

    fn prompt(&mut self, text: &str) {
        let field = self.harness.get_by_label("Prompt");
        field.focus();
        self.harness.run_steps(2);
        let all = Modifiers::COMMAND;
        self.harness.key_press_modifiers(all, eframe::egui::Key::A);
        self.harness.get_by_label("Prompt").type_text(text);
        self.harness.run_steps(3);
    }

    fn save(&mut self, name: &str) {
        self.harness.hover_at(eframe::egui::pos2(640.0, 2.0));
        self.harness.run_steps(3);
        let image = self.harness.render().expect("a Vulkan driver");
        image.save(self.out.join(name)).expect("can be saved");
    }

    fn draw(&mut self) {
        let before = self.harness.state().state().pictures.len();
        self.click("Draw");
        self.wait(|state| state.pictures.len() > before && state.work.is_none());
    }
}

fn main() {
    let out: PathBuf = std::env::args()
        .nth(1)
        .expect("a folder for the pictures")
        .into();
    std::fs::create_dir_all(&out).expect("the folder can be made");
    let pictures = tempfile::tempdir().expect("a passing folder");
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter");
    let engine = spawn(SpawnOptions::new(DeviceChoice::Cpu, Some(starter))).expect("an engine");
    let options = WindowOptions {
        pictures_folder: pictures.path().to_owned(),
        ..WindowOptions::default()
    };
    let harness = Harness::builder()
        .with_size(vec2(1280.0, 800.0))
        .wgpu()
        .build_eframe(|creation| App::new(&creation.egui_ctx, engine, options));
    let mut shot = Shot { harness, out };
    shot.wait(|state| state.model.is_some());
    shot.prompt("a postcard of a balloon above hills");
    shot.click("Drafts");
    let done = |state: &UiState| {
        state
            .drafts
            .as_ref()
            .is_some_and(|drafts| drafts.done.is_some())
    };
    shot.wait(done);
    shot.save("drafts.png");
    shot.click("Close");
    shot.prompt("at night, a red house on the left, green hills, a white moon on the right");
    shot.draw();
    shot.save("window.png");
    shot.click("Change a part");
    let canvas = shot
        .harness
        .get_by_label_contains("Mask: paint over")
        .rect();
    // The left third of the picture, from the hills down.
    let side = canvas.height() - 32.0;
    let at = |x: f32, y: f32| canvas.center() + vec2((x - 0.5) * side, (y - 0.5) * side);
    let places = [
        (0.12, 0.5),
        (0.34, 0.5),
        (0.34, 0.7),
        (0.12, 0.7),
        (0.12, 0.88),
        (0.34, 0.88),
    ];
    for (index, (x, y)) in places.into_iter().enumerate() {
        let pos = at(x, y);
        shot.harness.event(Event::PointerMoved(pos));
        if index == 0 || index + 1 == places.len() {
            shot.harness.event(Event::PointerButton {
                pos,
                button: PointerButton::Primary,
                pressed: index == 0,
                modifiers: Modifiers::NONE,
            });
        }
        shot.harness.run_steps(2);
    }
    shot.prompt(
        "at night, a yellow lighthouse on the left, green hills, a white moon on the right",
    );
    shot.save("part.png");
    shot.draw();
    shot.save("part-result.png");
}
