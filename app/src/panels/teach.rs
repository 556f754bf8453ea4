//! Teaching the model one's own pictures: the folder, the settings, and how it goes.

use std::path::PathBuf;

use eframe::egui::{self, Color32, RichText, Ui, vec2};
use egui_plot::{Corner, Legend, Line, Plot, PlotPoints};
use infinity_engine::api::{FoundPicture, Rgb8Image, TuneWish};

use super::{Panel, secs_text};
use crate::command::Command;
use crate::state::{Found, Lesson, Preset, UiState};
use crate::theme::{self, Palette, icons};
use crate::widgets::textures::Textures;

/// Width of the settings.
pub const SETTINGS_WIDTH: f32 = 296.0;
/// Side of a small picture of the folder.
const CARD: f32 = 116.0;
/// Side of a sample.
const SAMPLE: f32 = 88.0;
/// Height of the curves.
const CURVES: f32 = 190.0;

/// The settings, at the left.
#[derive(Default)]
pub struct TeachSettings {
    more_open: bool,
}

/// The pictures, then the curves and samples.
#[derive(Default)]
pub struct TeachView {
    textures: Textures,
    /// Words being typed, and the picture they are for.
    typed: Option<(PathBuf, String)>,
    /// What to look for in all captions, and what to put there.
    find: String,
    replace: String,
}

impl Panel for TeachSettings {
    fn title(&self) -> &'static str {
        "Teach your own pictures"
    }

    fn ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
        ui.spacing_mut().item_spacing.y = theme::GAP;
        ui.label(RichText::new(self.title()).font(theme::semibold(theme::HEADING)));
        ui.label(theme::caption_text(
            ui,
            "The model learns a style or a thing from a folder of your pictures. The result is a small file, a LoRA, that can be put on and taken off.",
        ));
        let teach = &state.teach;
        ui.add_enabled_ui(!teach.is_running(), |ui| {
            self.controls_ui(ui, &teach.wish, commands);
        });
        ui.add_space(theme::STEP);
        buttons_ui(ui, state, commands);
    }
}

impl TeachSettings {
    fn controls_ui(&mut self, ui: &mut Ui, wish: &TuneWish, commands: &mut Vec<Command>) {
        let choose = Command::ChooseTeachFolder;
        let folder = (theme::icon(icons::FOLDER, theme::ICON), choose.text());
        let button = ui.button(folder).on_hover_text(choose.tooltip());
        if button.accessible_name(choose.text()).clicked() {
            commands.push(choose);
        }
        if !wish.data.as_os_str().is_empty() {
            let text = wish.data.display().to_string();
            let label = egui::Label::new(theme::caption_text(ui, &text)).truncate();
            ui.add(label).on_hover_text(text);
        }
        let mut changed = wish.clone();
        ui.label(theme::caption_text(ui, "Name"));
        let width = ui.available_width();
        let name = egui::TextEdit::singleline(&mut changed.name).desired_width(width);
        ui.add(name).accessible_name("Name of the LoRA");
        ui.label(theme::caption_text(ui, "Word that calls it up"));
        let trigger = egui::TextEdit::singleline(&mut changed.trigger)
            .hint_text("none: the captions are enough")
            .desired_width(width);
        let trigger = ui.add(trigger).accessible_name("Word that calls it up");
        let trigger_left = trigger.lost_focus();
        ui.label(theme::caption_text(ui, "What to learn"));
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = theme::STEP;
            for preset in Preset::ALL {
                let chosen = Preset::of(wish) == Some(preset);
                let label = ui.selectable_label(chosen, preset.name());
                if label.on_hover_text(preset.about()).clicked() {
                    preset.set(&mut changed);
                }
            }
        });
        let (caret, tip) = if self.more_open {
            (icons::CARET_DOWN, "Fewer settings")
        } else {
            (icons::CARET_RIGHT, "More settings")
        };
        if ui
            .button((theme::icon(caret, 12.0), "More"))
            .on_hover_text(tip)
            .accessible_name("More")
            .clicked()
        {
            self.more_open = !self.more_open;
        }
        if self.more_open {
            more_ui(ui, &mut changed);
        }
        if changed.steps != wish.steps {
            changed.save_every = (changed.steps / 6).max(10);
        }
        if changed != *wish {
            commands.push(Command::SetTeach(Box::new(changed)));
        } else if trigger_left && !wish.data.as_os_str().is_empty() {
            commands.push(Command::LookThrough(wish.data.clone()));
        }
    }
}

fn more_ui(ui: &mut Ui, wish: &mut TuneWish) {
    egui::Grid::new("more").num_columns(2).show(ui, |ui| {
        let row = |ui: &mut Ui, name: &str, tip: &str, value: egui::DragValue<'_>| {
            ui.label(theme::caption_text(ui, name));
            ui.add(value).on_hover_text(tip);
            ui.end_row();
        };
        row(
            ui,
            "Steps",
            "How often the model is corrected.",
            egui::DragValue::new(&mut wish.steps).range(10..=20_000),
        );
        row(
            ui,
            "Pictures per step",
            "More is steadier and slower.",
            egui::DragValue::new(&mut wish.batch).range(1..=64),
        );
        row(
            ui,
            "Rank",
            "How much the LoRA can hold.",
            egui::DragValue::new(&mut wish.rank).range(1..=128),
        );
        let rate = egui::DragValue::new(&mut wish.learning_rate)
            .range(1e-5..=1e-2)
            .speed(1e-5)
            .max_decimals(5);
        row(
            ui,
            "Learning rate",
            "How far each step goes; lower it when pictures fall apart.",
            rate,
        );
        let flips = egui::DragValue::new(&mut wish.flip_strength)
            .range(0.0..=0.3)
            .speed(0.005);
        row(
            ui,
            "Self-correction",
            "Share of bits that are flipped, so that the model learns to mend its own mistakes.",
            flips,
        );
        let prior = egui::DragValue::new(&mut wish.prior)
            .range(0.0..=0.5)
            .speed(0.005);
        row(
            ui,
            "Old pictures",
            "Share of pictures that the model drew itself, so that it does not forget.",
            prior,
        );
        row(
            ui,
            "Seed",
            "The same seed gives the same LoRA.",
            egui::DragValue::new(&mut wish.seed),
        );
    });
}

fn buttons_ui(ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
    let palette = Palette::of(ui);
    let teach = &state.teach;
    let running = teach.is_running();
    let ready = !running && teach.found.is_some() && state.model.is_some();
    ui.horizontal(|ui| {
        let (fill, colour) = if ready {
            (palette.accent, palette.on_accent)
        } else {
            (palette.raised, palette.dim)
        };
        let text = RichText::new(Command::Teach.text())
            .font(theme::semibold(14.0))
            .color(colour);
        let button = egui::Button::new(text)
            .fill(fill)
            .stroke(egui::Stroke::NONE);
        let button = ui
            .add_enabled_ui(ready, |ui| ui.add_sized([140.0, 36.0], button))
            .inner
            .on_hover_text(Command::Teach.tooltip())
            .on_disabled_hover_text("Choose a folder with pictures first.");
        if button.clicked() {
            commands.push(Command::Teach);
        }
        let stop = egui::Button::new(Command::StopTeaching.text());
        let stop = ui
            .add_enabled_ui(running, |ui| ui.add_sized([120.0, 36.0], stop))
            .inner
            .on_hover_text(Command::StopTeaching.tooltip())
            .on_disabled_hover_text("Nothing is being learned.");
        if stop.clicked() {
            commands.push(Command::StopTeaching);
        }
    });
    let Some(lesson) = &teach.lesson else {
        return;
    };
    if lesson.running && !lesson.stopping {
        let pause = Command::PauseTeaching(!lesson.paused);
        let button = ui.button(pause.text()).on_hover_text(pause.tooltip());
        if button.clicked() {
            commands.push(pause);
        }
    }
    ui.label(theme::caption_text(ui, progress_text(lesson)));
    if lesson.is_overfit() {
        ui.horizontal_wrapped(|ui| {
            ui.label(theme::icon(icons::WARNING, 14.0).color(palette.warn));
            ui.label(
                "The pictures are known by heart: more steps only copy them. Stop and keep, or take fewer steps next time.",
            );
        });
    }
}

fn progress_text(lesson: &Lesson) -> String {
    if let Some((step, steps)) = lesson.done {
        return format!("Learned in {step} of {steps} steps.");
    }
    match (lesson.steps.last(), lesson.running) {
        (None, true) => "Looking at the pictures…".to_owned(),
        (_, false) => "Nothing was learned.".to_owned(),
        (Some(_), true) if lesson.paused => "Paused. Pictures can be drawn.".to_owned(),
        (Some(_), true) if lesson.stopping => "Stopping; what was learned is kept.".to_owned(),
        (Some(step), true) => format!(
            "Step {} of {}, {:.0} pictures a second, {} left",
            step.step,
            step.steps,
            step.pictures_per_sec,
            secs_text(step.eta_secs)
        ),
    }
}

impl Panel for TeachView {
    fn title(&self) -> &'static str {
        "Lessons"
    }

    fn ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
        let teach = &state.teach;
        egui::Frame::new().inner_margin(egui::Margin::same(16)).show(ui, |ui| {
            egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = theme::GAP;
                if let Some(lesson) = &teach.lesson {
                    self.lesson_ui(ui, lesson);
                    ui.add_space(theme::GROUP);
                }
                match &teach.found {
                    Some(found) => self.found_ui(ui, found, commands),
                    None if teach.looking.is_some() => {
                        ui.label(theme::caption_text(ui, "Looking through the folder…"));
                    }
                    None => {
                        ui.label(theme::caption_text(
                            ui,
                            "Choose a folder, or drop one here: .png or .jpg pictures and, beside each, a .txt file that says what it shows.",
                        ));
                    }
                }
            });
        });
        self.textures.end_frame();
    }
}

impl TeachView {
    fn lesson_ui(&mut self, ui: &mut Ui, lesson: &Lesson) {
        if lesson.steps.len() > 1 {
            ui.columns(2, |columns| {
                let loss = lesson
                    .steps
                    .iter()
                    .map(|step| [step.step as f64, f64::from(step.loss)]);
                plot_ui(
                    &mut columns[0],
                    "Loss",
                    vec![("loss".to_owned(), loss.collect())],
                );
                let scales = lesson
                    .steps
                    .iter()
                    .map(|step| step.bit_accuracy.len())
                    .max();
                let curve = |scale: usize| {
                    let points = lesson.steps.iter().filter_map(|step| {
                        let value = step.bit_accuracy.get(scale)?;
                        Some([step.step as f64, 100.0 * f64::from(*value)])
                    });
                    (format!("scale {}", scale + 1), points.collect())
                };
                let curves = (0..scales.unwrap_or(0)).map(curve).collect();
                plot_ui(&mut columns[1], "Bits right, %", curves);
            });
        }
        for (step, images) in &lesson.samples {
            let caption = if *step == 0 {
                "Before".to_owned()
            } else {
                format!("After {step} steps")
            };
            ui.label(theme::caption_text(ui, caption));
            ui.horizontal_wrapped(|ui| {
                ui.spacing_mut().item_spacing = vec2(theme::STEP, theme::STEP);
                for (image, prompt) in images.iter().zip(&lesson.prompts) {
                    self.picture_ui(ui, image, SAMPLE, prompt);
                }
            });
        }
    }

    fn found_ui(&mut self, ui: &mut Ui, found: &Found, commands: &mut Vec<Command>) {
        let captioned = found
            .pictures
            .iter()
            .filter(|one| !one.caption.is_empty())
            .count();
        let count = found.pictures.len();
        ui.label(format!(
            "{count} pictures, {captioned} with words to learn them by"
        ));
        self.all_words_ui(ui, commands);
        let palette = Palette::of(ui);
        for finding in &found.findings {
            let name = finding
                .path
                .file_name()
                .unwrap_or(finding.path.as_os_str())
                .to_string_lossy();
            let (word, colour) = if finding.left_out {
                ("Left out", palette.danger)
            } else {
                ("Note", palette.warn)
            };
            ui.horizontal_wrapped(|ui| {
                ui.label(theme::icon(icons::WARNING, 14.0).color(colour));
                ui.label(format!("{word}: {name}: {}", finding.what));
            });
        }
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(theme::GAP, theme::GAP);
            for picture in &found.pictures {
                ui.allocate_ui(vec2(CARD, CARD + 34.0), |ui| {
                    ui.vertical(|ui| {
                        ui.set_width(CARD);
                        ui.spacing_mut().item_spacing.y = 2.0;
                        self.picture_ui(ui, &picture.image, CARD, &picture.caption);
                        self.words_ui(ui, picture, commands);
                    });
                });
            }
        });
    }

    /// What is done to the words of all pictures.
    fn all_words_ui(&mut self, ui: &mut Ui, commands: &mut Vec<Command>) {
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = theme::GAP;
            for (text, hint, name) in [
                (&mut self.find, "words", "Words to look for"),
                (&mut self.replace, "other words", "Words to put there"),
            ] {
                let field = egui::TextEdit::singleline(text).hint_text(hint).desired_width(120.0);
                ui.add(field).accessible_name(name);
            }
            let ready = !self.find.is_empty();
            let replace = ui.add_enabled(ready, egui::Button::new("Replace in all captions"));
            if replace.clicked() {
                let (find, with) = (self.find.clone(), self.replace.clone());
                commands.push(Command::ReplaceWords(find, with));
            }
            let tags = ui.button("Tags to sentences").on_hover_text(
                "Captions that are lists of tags become sentences, which the text encoder reads better.",
            );
            if tags.clicked() {
                commands.push(Command::TagsToSentences);
            }
        });
    }

    /// The words beside a picture; they are written to its file when the field is left.
    fn words_ui(&mut self, ui: &mut Ui, picture: &FoundPicture, commands: &mut Vec<Command>) {
        let mut words = match &self.typed {
            Some((path, words)) if *path == picture.path => words.clone(),
            _ => picture.words.clone(),
        };
        let field = egui::TextEdit::singleline(&mut words)
            .font(theme::caption())
            .hint_text("what it shows")
            .desired_width(CARD - 16.0);
        let name = picture
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let field = ui.add(field).accessible_name(format!("Words for {name}"));
        if field.changed() {
            self.typed = Some((picture.path.clone(), words.clone()));
        }
        if field.lost_focus() && words != picture.words {
            commands.push(Command::SetCaption(picture.path.clone(), words));
            self.typed = None;
        }
        field.on_hover_text(&picture.caption);
    }

    fn picture_ui(&mut self, ui: &mut Ui, image: &Rgb8Image, side: f32, words: &str) {
        let aspect = image.width as f32 / image.height.max(1) as f32;
        let size = if aspect > 1.0 {
            vec2(side, side / aspect)
        } else {
            vec2(side * aspect, side)
        };
        let (place, response) = ui.allocate_exact_size(vec2(side, side), egui::Sense::hover());
        let texture = self.textures.small(ui.ctx(), image, 256);
        let whole = egui::Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0));
        let rect = egui::Rect::from_center_size(place.center(), size);
        ui.painter().image(texture, rect, whole, Color32::WHITE);
        response.on_hover_text(words);
    }
}

fn plot_ui(ui: &mut Ui, title: &str, curves: Vec<(String, Vec<[f64; 2]>)>) {
    ui.label(theme::caption_text(ui, title));
    let mut plot = Plot::new(title)
        .height(CURVES)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_scroll(false)
        .show_background(false);
    if curves.len() > 1 {
        plot = plot.legend(Legend::default().position(Corner::RightBottom));
    }
    plot.show(ui, |plot| {
        for (name, points) in curves {
            plot.line(Line::new(name, PlotPoints::from(points)));
        }
    });
}
