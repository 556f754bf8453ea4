//! A window without a screen, on an engine under the test's control.

use std::path::Path;
use std::time::{Duration, Instant};

use eframe::egui::vec2;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use infinity::WindowOptions;
use infinity::app::App;
use infinity::settings::Settings;
use infinity_engine::api::{GenerateSpec, JobId};

use crate::scripted::{ScriptedEngine, dropped};

/// A window in a folder of its own, on an engine under the test's control.
pub struct Desk {
    /// The engine's end of the channels.
    pub engine: ScriptedEngine,
    /// Moves the window.
    pub harness: Harness<'static, App>,
    /// Where its preferences and pictures are.
    pub folder: tempfile::TempDir,
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

impl Desk {
    /// A window that has heard nothing from its engine.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// A window with other options.
    pub fn with(change: impl FnOnce(&mut WindowOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (engine, handle) = ScriptedEngine::new();
        let mut options = WindowOptions {
            settings: Settings::default(),
            settings_path: Some(folder.path().join("settings.json")),
            pictures_folder: folder.path().join("Pictures"),
            ..WindowOptions::default()
        };
        change(&mut options);
        let harness = Harness::builder()
            .with_max_steps(16)
            .with_size(vec2(1280.0, 800.0))
            .build_eframe(|creation| App::new(&creation.egui_ctx, handle, options));
        Self {
            engine,
            harness,
            folder,
        }
    }

    /// A window whose model is loaded.
    pub fn ready() -> Self {
        let mut desk = Self::new();
        desk.engine.get_ready();
        desk.harness.run();
        desk
    }

    /// Clicks what bears this label.
    pub fn click(&mut self, label: &str) {
        self.harness.get_by_label(label).click();
        self.harness.run();
    }

    /// Presses Draw; gives what the engine was asked for.
    pub fn draw(&mut self) -> (JobId, GenerateSpec) {
        self.click("Draw");
        self.engine.job().expect("Draw asks for a picture")
    }

    /// Draws a picture to its end.
    pub fn draw_to_end(&mut self) -> (JobId, GenerateSpec) {
        let (job, spec) = self.draw();
        self.engine.start(job, &spec);
        self.engine.finish(job, &spec);
        self.harness.run();
        (job, spec)
    }

    /// Whether some words are in the window.
    pub fn sees(&self, text: &str) -> bool {
        let mut found = self.harness.query_all_by_label_contains(text);
        found.next().is_some()
    }

    /// Fails when some words are not in the window.
    #[track_caller]
    pub fn assert_sees(&self, text: &str) {
        assert!(self.sees(text), "{text:?} is not in the window");
    }

    /// Runs frames until the file thread has done what `done` looks for.
    #[track_caller]
    pub fn wait_until(&mut self, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(10), "nothing came");
            std::thread::sleep(Duration::from_millis(5));
            self.harness.run();
        }
    }

    /// Drops a file or folder on the window.
    pub fn drop_file(&mut self, path: &Path) {
        let file = dropped(path);
        self.harness.input_mut().dropped_files.push(file);
        self.harness.run();
    }
}
