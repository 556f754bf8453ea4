//! Teaching the model one's own pictures: the folder, and how it goes.

use std::path::PathBuf;

use eframe::egui::{self, Align, Layout, Ui, vec2};
use egui_plot::{Corner, Legend, Line, Plot, PlotPoints};
use infinity_engine::api::{FoundPicture, Rgb8Image};

use super::Panel;
use crate::command::Command;
use crate::state::{Found, Lesson, UiState};
use crate::theme::{self, Palette, icons};
use crate::widgets::textures::Textures;

/// Side of a small picture of the folder.
const CARD: f32 = 116.0;
/// Side of a sample.
const SAMPLE: f32 = 88.0;
/// Height of the curves.
const CURVES: f32 = 190.0;

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
                            "Choose a folder, or drop one here: .png, .jpg or .webp pictures and, beside each, a .txt file that says what it shows.",
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
        // Tops in line, whatever lies below a picture.
        let rows = Layout::left_to_right(Align::TOP).with_main_wrap(true);
        ui.with_layout(rows, |ui| {
            ui.spacing_mut().item_spacing = vec2(theme::GAP, theme::GAP);
            for picture in &found.pictures {
                ui.allocate_ui(vec2(CARD, CARD + 64.0), |ui| {
                    ui.vertical(|ui| {
                        ui.set_width(CARD);
                        ui.set_min_height(CARD + 64.0);
                        ui.spacing_mut().item_spacing.y = 2.0;
                        self.picture_ui(ui, &picture.image, CARD, &picture.caption);
                        ui.label(theme::caption_text(ui, shape_text(picture)))
                            .on_hover_text("Its size, the size it is learned at, and what is cut off to get there.");
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
        let (place, response) = ui.allocate_exact_size(vec2(side, side), egui::Sense::hover());
        self.textures.paint_small(ui, image, place);
        response.on_hover_text(words);
    }
}

/// `640×480 → 128×128, 25 % cut`.
fn shape_text(picture: &FoundPicture) -> String {
    let (width, height) = picture.original;
    let (to_width, to_height) = (picture.image.width, picture.image.height);
    let cut = (100.0 * picture.cut()).round();
    let cut = if cut > 0.0 {
        format!(", {cut:.0} % cut")
    } else {
        String::new()
    };
    format!("{width}×{height} → {to_width}×{to_height}{cut}")
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
