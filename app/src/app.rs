//! The window: takes in events, draws the panels, carries out commands.
//!
//! `logic` drains what the engine and the file thread have to tell, `ui` draws
//! from [`UiState`] only, then commands run. Nothing here waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eframe::egui;
use infinity_engine::EngineHandle;
use infinity_engine::api::{EngineError, Event};

use crate::command::Command;
use crate::execute::{self, Hands, moving};
use crate::panels::{
    Panel,
    drafts::{self, DraftTools, DraftsView},
    edit::{self, EditTools, EditView},
    loras::LorasView,
    messages::Messages,
    preview::Preview,
    prompt::Prompt,
    recent::Recent,
    scales::Scales,
    status::Status,
    teach::TeachView,
    teach_settings::{SETTINGS_WIDTH, TeachSettings},
};
use crate::place::Place;
use crate::settings::{self, Settings, ThemeChoice};
use crate::state::{Tone, UiState};
use crate::tasks::{Tasks, Wake};
use crate::theme::{self, Palette};

/// Least width of the window with room for the pictures of this session.
const RECENT_MIN_WIDTH: f32 = 960.0;
/// Width of that column.
const RECENT_WIDTH: f32 = 152.0;
/// Said when there is no model to load.
const NO_MODEL: &str =
    "No model was found. Open a model folder in the preferences at the lower right.";

/// An engine that was just started.
pub struct Started {
    /// The engine.
    pub engine: EngineHandle,
    /// Whether it has a model to load.
    pub expects_model: bool,
}

/// Starts an engine somewhere with the model in a folder, or with its usual one; the callback has the window drawn
/// again, and the engine must call it after every event.
pub type Starter = dyn Fn(&Place, Option<&Path>, Box<dyn Fn() + Send>) -> Started;

/// What a window starts with.
#[derive(Default)]
pub struct WindowOptions {
    /// Preferences.
    pub settings: Settings,
    /// Where preferences are kept; `None` keeps them in memory only.
    pub settings_path: Option<PathBuf>,
    /// Where pictures are saved unless the preferences name a folder.
    pub pictures_folder: PathBuf,
    /// A sentence for the user about something that went wrong before.
    pub warning: Option<String>,
    /// Where the first engine runs.
    pub place: Place,
    /// Starts engines; a window without it stays with the one it has.
    pub start: Option<Box<Starter>>,
    /// The icon of the window as a PNG file.
    pub icon_png: Option<&'static [u8]>,
}

impl WindowOptions {
    /// Reads the preferences of this user.
    pub fn of_this_user() -> Self {
        let settings_path = settings::default_path();
        let (settings, warning) = settings_path
            .as_deref()
            .map_or_else(Default::default, Settings::read);
        Self {
            place: Place::parse(&settings.device).unwrap_or_default(),
            start: None,
            settings,
            settings_path,
            pictures_folder: settings::default_pictures_folder(),
            warning,
            icon_png: None,
        }
    }
}

/// Opens the window and returns when it is closed.
///
/// # Errors
/// When the desktop gives no window or no way to draw in it.
pub fn run_window(options: WindowOptions) -> eframe::Result {
    let mut viewport = egui::ViewportBuilder::default()
        .with_title("Infinity")
        .with_app_id("alt.infinity_draw.infinity")
        .with_inner_size([1280.0, 800.0])
        .with_min_inner_size([720.0, 520.0])
        .with_drag_and_drop(true);
    if let Some(png) = options.icon_png {
        match eframe::icon_data::from_png_bytes(png) {
            Ok(icon) => viewport = viewport.with_icon(icon),
            Err(error) => tracing::warn!("the window has no icon: {error}"),
        }
    }
    let native = eframe::NativeOptions {
        viewport,
        renderer: eframe::Renderer::Wgpu,
        ..Default::default()
    };
    eframe::run_native(
        "infinity",
        native,
        Box::new(move |creation| {
            let ctx = &creation.egui_ctx;
            let started = options
                .start
                .as_deref()
                .map_or_else(nowhere, |start| start(&options.place, None, woken(ctx)));
            let mut app = App::new(ctx, started.engine, options);
            app.expect_model(started.expects_model);
            Ok(Box::new(app))
        }),
    )
}

/// A callback that has the window drawn again.
fn woken(ctx: &egui::Context) -> Box<dyn Fn() + Send> {
    let ctx = ctx.clone();
    Box::new(move || ctx.request_repaint())
}

/// No engine at all.
fn nowhere() -> Started {
    Started {
        engine: EngineHandle::failed(EngineError::EngineGone),
        expects_model: false,
    }
}

/// The program behind the window.
pub struct App {
    state: UiState,
    engine: EngineHandle,
    start: Option<Box<Starter>>,
    tasks: Tasks,
    settings_path: Option<PathBuf>,
    prompt: Prompt,
    preview: Preview,
    draft_tools: DraftTools,
    drafts: DraftsView,
    edit_tools: EditTools,
    edit: EditView,
    messages: Messages,
    scales: Scales,
    recent: Recent,
    status: Status,
    teach_settings: TeachSettings,
    teach_view: TeachView,
    loras: LorasView,
    /// Height of the controls in the last frame, in points.
    prompt_height: f32,
}

impl App {
    /// A window on `engine`.
    pub fn new(ctx: &egui::Context, engine: EngineHandle, options: WindowOptions) -> Self {
        theme::install(ctx);
        let wake_ctx = ctx.clone();
        let wake: Wake = Arc::new(move || wake_ctx.request_repaint());
        let mut state = UiState::new(options.settings, options.pictures_folder);
        state.place = options.start.is_some().then_some(options.place);
        if let Some(warning) = options.warning {
            state.tell(Tone::Note, warning);
        }
        Self {
            state,
            engine,
            start: options.start,
            tasks: Tasks::start(wake),
            settings_path: options.settings_path,
            prompt: Prompt::default(),
            preview: Preview::default(),
            draft_tools: DraftTools,
            drafts: DraftsView::default(),
            edit_tools: EditTools,
            edit: EditView::default(),
            messages: Messages,
            scales: Scales::default(),
            recent: Recent::default(),
            status: Status::default(),
            teach_settings: TeachSettings::default(),
            teach_view: TeachView::default(),
            loras: LorasView::default(),
            prompt_height: 0.0,
        }
    }

    /// Whether the engine has a model to load; else the window says what to do about it.
    fn expect_model(&mut self, expected: bool) {
        self.state.loading = expected;
        if !expected {
            self.state.tell(Tone::Note, NO_MODEL);
        }
    }

    /// Leaves the engine for one elsewhere.
    fn move_to(&mut self, ctx: &egui::Context, place: Place) {
        let hands = Hands {
            engine: &self.engine,
            tasks: &self.tasks,
            settings_path: self.settings_path.as_ref(),
        };
        let Some(start) = &self.start else { return };
        if moving::leave(&place, &mut self.state, &hands) {
            let started = start(&place, self.state.model_folder.as_deref(), woken(ctx));
            self.engine = started.engine;
            self.expect_model(started.expects_model);
        }
    }

    /// What the window shows.
    pub fn state(&self) -> &UiState {
        &self.state
    }

    /// Takes in everything the engine and the file thread have to tell.
    fn drain(&mut self) {
        let hands = Hands {
            engine: &self.engine,
            tasks: &self.tasks,
            settings_path: self.settings_path.as_ref(),
        };
        while let Some(event) = self.engine.try_event() {
            self.state.apply(&event);
            match event {
                Event::ImageDone { job, .. } => {
                    execute::picture_finished(job, &mut self.state, &hands);
                }
                Event::ModelLoaded { .. } => moving::look_again(&mut self.state, &hands),
                _ => {}
            }
        }
        while let Some(result) = self.tasks.poll() {
            execute::file_done(result, &mut self.state, &hands);
        }
    }

    fn run_commands(&mut self, ctx: &egui::Context, commands: Vec<Command>) {
        for command in commands {
            if let Command::SetPlace(place) = command {
                self.move_to(ctx, place);
                continue;
            }
            let hands = Hands {
                engine: &self.engine,
                tasks: &self.tasks,
                settings_path: self.settings_path.as_ref(),
            };
            execute::execute(command, &mut self.state, &hands);
        }
    }

    fn panels_ui(&mut self, ui: &mut egui::Ui, commands: &mut Vec<Command>) {
        let palette = *Palette::of(ui);
        let state = &self.state;
        let bar = |margin| egui::Frame::new().fill(palette.panel).inner_margin(margin);
        egui::Panel::bottom("status")
            .exact_size(theme::CONTROL)
            .show_separator_line(false)
            .frame(bar(egui::Margin::symmetric(16, 0)))
            .show(ui, |ui| self.status.ui(ui, state, commands));
        if state.teach.open {
            egui::Panel::left("teach")
                .exact_size(SETTINGS_WIDTH + 32.0)
                .resizable(false)
                .show_separator_line(false)
                .frame(bar(egui::Margin::same(16)))
                .show(ui, |ui| {
                    egui::ScrollArea::vertical()
                        .auto_shrink(false)
                        .show(ui, |ui| self.teach_settings.ui(ui, state, commands));
                });
            egui::CentralPanel::default()
                .frame(egui::Frame::new().fill(palette.canvas))
                .show(ui, |ui| {
                    self.teach_view.ui(ui, state, commands);
                    self.messages.ui(ui, state, commands);
                });
            return;
        }
        if state.loras.is_some() {
            egui::CentralPanel::default()
                .frame(egui::Frame::new().fill(palette.canvas))
                .show(ui, |ui| {
                    self.loras.ui(ui, state, commands);
                    self.messages.ui(ui, state, commands);
                });
            return;
        }
        if state.settings.recent_open && ui.available_width() >= RECENT_MIN_WIDTH {
            egui::Panel::right("recent")
                .exact_size(RECENT_WIDTH)
                .resizable(false)
                .show_separator_line(false)
                .frame(bar(egui::Margin::ZERO))
                .show(ui, |ui| self.recent.ui(ui, state, commands));
        }
        let prompt = egui::Panel::bottom("prompt")
            .resizable(false)
            .show_separator_line(false)
            .frame(bar(egui::Margin {
                left: 16,
                right: 16,
                top: 12,
                bottom: 12,
            }))
            .show(ui, |ui| self.prompt.ui(ui, state, commands));
        let height = prompt.response.rect.height();
        if height != self.prompt_height {
            // A panel takes its new height one frame late; nobody shall see that frame.
            self.prompt_height = height;
            ui.ctx().request_discard("the prompt grew");
        }
        egui::Panel::bottom("scales")
            .exact_size(crate::panels::scales::HEIGHT)
            .show_separator_line(false)
            .frame(bar(egui::Margin::symmetric(16, 0)))
            .show(ui, |ui| self.scales.ui(ui, state, commands));
        self.tools_ui(ui, &palette, commands);
        let state = &self.state;
        let drafting = state.drafts.as_ref().is_some_and(|drafts| drafts.open);
        let masking = state.edit.as_ref().is_some_and(|edit| !edit.show_result);
        egui::CentralPanel::default()
            .frame(egui::Frame::new().fill(palette.canvas))
            .show(ui, |ui| {
                if masking && state.shown_work().is_none() {
                    self.edit.ui(ui, state, commands);
                } else if drafting && state.edit.is_none() {
                    self.drafts.ui(ui, state, commands);
                } else {
                    self.preview.ui(ui, state, commands);
                }
                self.messages.ui(ui, state, commands);
            });
    }

    /// The tools above the canvas.
    fn tools_ui(&mut self, ui: &mut egui::Ui, palette: &Palette, commands: &mut Vec<Command>) {
        let state = &self.state;
        let frame = egui::Frame::new()
            .fill(palette.panel)
            .inner_margin(egui::Margin::symmetric(16, 0));
        let panel = |name: &'static str, height: f32| {
            egui::Panel::top(name)
                .exact_size(height)
                .show_separator_line(false)
                .frame(frame)
        };
        if state.edit.is_some() {
            let tools = &mut self.edit_tools;
            panel("edit", edit::HEIGHT).show(ui, |ui| tools.ui(ui, state, commands));
        } else if state.drafts.as_ref().is_some_and(|drafts| drafts.open) {
            let tools = &mut self.draft_tools;
            panel("drafts", drafts::HEIGHT).show(ui, |ui| tools.ui(ui, state, commands));
        }
    }

    /// Turns keys and dropped files into commands, before any field sees them.
    fn read_input(&self, ctx: &egui::Context, commands: &mut Vec<Command>) {
        for command in Command::WITH_SHORTCUT {
            let applies = match command {
                // Otherwise Esc leaves the field it is typed in.
                Command::Stop => self.state.is_busy(),
                _ => true,
            };
            if let Some(shortcut) = command.shortcut()
                && applies
                && ctx.input_mut(|input| input.consume_shortcut(&shortcut))
            {
                commands.push(command);
            }
        }
        let dropped = ctx.input(|input| {
            let files = &input.raw.dropped_files;
            files.first().map(|file| file.path().to_path_buf())
        });
        if let Some(path) = dropped {
            let is_lora = path
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case("safetensors"));
            commands.push(if path.is_dir() {
                Command::LookThrough(path)
            } else if is_lora {
                Command::PutOnLora(path)
            } else {
                Command::ReadPicture(path)
            });
        }
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.state.now = ctx.input(|input| input.time);
        self.drain();
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        ctx.set_theme(match self.state.settings.theme {
            ThemeChoice::System => egui::ThemePreference::System,
            ThemeChoice::Dark => egui::ThemePreference::Dark,
            ThemeChoice::Light => egui::ThemePreference::Light,
        });
        let mut commands = Vec::new();
        self.read_input(&ctx, &mut commands);
        self.panels_ui(ui, &mut commands);
        if !commands.is_empty() {
            self.run_commands(&ctx, commands);
            ctx.request_repaint();
        }
        if self.state.work.is_some() {
            // The seconds go on between two scales.
            ctx.request_repaint_after(std::time::Duration::from_millis(100));
        }
    }
}
