//! The picture: growing scale by scale, finished, or the place where it will be.
//!
//! Zoom and pan live in [`ImageView`]; which picture or scale is shown is
//! decided by [`UiState`].

use eframe::egui::{self, Align2, Color32, Rect, Sense, Stroke, vec2};
use infinity_engine::api::{Doubt, Rgb8Image};

use super::Panel;
use crate::command::Command;
use crate::state::UiState;
use crate::theme::{self, Palette};
use crate::widgets::image_view::{ImageView, fitted};
use crate::widgets::textures::Textures;

/// Least width of the text in an empty canvas.
const LEAST_TEXT: f32 = 240.0;

/// The canvas with the picture.
#[derive(Default)]
pub struct Preview {
    view: ImageView,
    textures: Textures,
}

/// What the canvas shows.
struct Shown<'a> {
    image: &'a Rgb8Image,
    /// Size of the finished picture; early scales are stretched to it.
    size_px: (u32, u32),
    label: String,
}

impl Panel for Preview {
    fn title(&self) -> &'static str {
        "Picture"
    }

    fn ui(&mut self, ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
        let canvas = ui.max_rect();
        if let Some(shown) = shown(state) {
            let texture = self.textures.full(ui.ctx(), shown.image);
            let (_, place) = self
                .view
                .ui(ui, canvas, texture, shown.size_px, &shown.label);
            if let Some(doubt) = doubt_of(state) {
                doubt_ui(ui, canvas, place, doubt);
            }
        } else {
            self.empty_ui(ui, canvas, state, commands);
        }
        self.textures.end_frame();
        if ui.input(|input| !input.raw.hovered_files.is_empty()) {
            drop_hint_ui(ui, canvas);
        }
    }
}

impl Preview {
    /// The place where the picture will be, true to shape, and what to do.
    fn empty_ui(
        &mut self,
        ui: &mut egui::Ui,
        canvas: Rect,
        state: &UiState,
        commands: &mut Vec<Command>,
    ) {
        let palette = Palette::of(ui);
        let size_px = state
            .shown_work()
            .map(|work| work.size_px)
            .or_else(|| state.draft_size_px())
            .unwrap_or((1, 1));
        let place = fitted(canvas, size_px, ui.pixels_per_point());
        let text_fits = place.width() >= LEAST_TEXT + 2.0 * theme::GROUP;
        if text_fits || state.shown_work().is_some() {
            ui.painter().rect(
                place,
                0.0,
                palette.panel.gamma_multiply(0.6),
                Stroke::new(1.0, palette.line),
                egui::StrokeKind::Inside,
            );
        }
        if state.shown_work().is_some() {
            return;
        }
        let width = if text_fits {
            (place.width() - 2.0 * theme::GROUP).min(440.0)
        } else {
            (canvas.width() - 2.0 * theme::GROUP).min(440.0)
        };
        let middle = Rect::from_center_size(place.center(), vec2(width, 96.0));
        ui.scope_builder(egui::UiBuilder::new().max_rect(middle), |ui| {
            ui.vertical_centered(|ui| {
                ui.add_space(theme::GROUP);
                match (&state.model, state.loading) {
                    (Some(model), _) => {
                        let keys = Command::Draw.shortcut().unwrap_or_else(|| {
                            egui::KeyboardShortcut::new(egui::Modifiers::NONE, egui::Key::Enter)
                        });
                        let keys = ui.ctx().format_shortcut(&keys);
                        ui.label(format!("Press {keys} to draw"));
                        ui.add_space(theme::STEP);
                        let about = format!("{} Bigger models can be added.", model.about);
                        ui.label(theme::caption_text(ui, about));
                    }
                    (None, true) => {
                        ui.label("Loading the model…");
                    }
                    (None, false) => {
                        ui.label("No model is loaded.");
                        ui.add_space(theme::GAP);
                        if ui.button(Command::OpenModel.text()).clicked() {
                            commands.push(Command::OpenModel);
                        }
                    }
                }
            });
        });
    }
}

/// Chooses the image: a peeked or held scale, the work so far, or the picture.
fn shown(state: &UiState) -> Option<Shown<'_>> {
    let (_, scales) = state.shown_scales();
    let wanted = state.peeked_scale.or(state.held_scale);
    let one_scale = wanted.and_then(|index| Some((index, scales.get(index)?)));
    if let Some(work) = state.shown_work() {
        let (index, image) = one_scale.or_else(|| {
            let last = work.scales.len().checked_sub(1)?;
            Some((last, work.scales.get(last)?))
        })?;
        return Some(Shown {
            image,
            size_px: work.size_px,
            label: format!("Picture being drawn, scale {}", index + 1),
        });
    }
    let picture = state.shown_picture()?;
    let size_px = (picture.image.width, picture.image.height);
    Some(match one_scale {
        Some((index, image)) => Shown {
            image,
            size_px,
            label: format!("Scale {} of the picture", index + 1),
        },
        None => Shown {
            image: &picture.image,
            size_px,
            label: format!("Picture: {}", picture.spec.prompt),
        },
    })
}

/// Where the shown picture's bits were uncertain, when that is to be seen.
fn doubt_of(state: &UiState) -> Option<&Doubt> {
    let picture = state.shown_picture()?;
    let wanted = state.show_doubt && state.held_scale.is_none() && state.peeked_scale.is_none();
    picture.doubt.as_ref().filter(|_| wanted)
}

/// Lays squares over the places, the brighter the less certain.
fn doubt_ui(ui: &egui::Ui, canvas: Rect, place: Rect, doubt: &Doubt) {
    let painter = ui.painter_at(canvas);
    painter.rect_filled(place, 0.0, Color32::from_black_alpha(110));
    let most = doubt.values.iter().copied().max().unwrap_or(1).max(1);
    let size = vec2(
        place.width() / doubt.width.max(1) as f32,
        place.height() / doubt.height.max(1) as f32,
    );
    let colour = Palette::of(ui).warn;
    for (index, &value) in doubt.values.iter().enumerate() {
        let (x, y) = (index % doubt.width.max(1), index / doubt.width.max(1));
        let corner = place.min + vec2(x as f32 * size.x, y as f32 * size.y);
        let share = f32::from(value) / f32::from(most);
        let square = Rect::from_min_size(corner, size);
        painter.rect_filled(square, 0.0, colour.gamma_multiply(0.8 * share * share));
    }
}

fn drop_hint_ui(ui: &egui::Ui, canvas: Rect) {
    let palette = Palette::of(ui);
    let painter = ui.painter();
    let place = canvas.shrink(theme::GAP);
    painter.rect(
        place,
        f32::from(theme::RADIUS),
        Color32::from_black_alpha(120),
        Stroke::new(2.0, palette.accent),
        egui::StrokeKind::Inside,
    );
    painter.text(
        place.center(),
        Align2::CENTER_CENTER,
        "Drop a picture to draw from it",
        theme::semibold(theme::HEADING),
        Color32::WHITE,
    );
    let hint = Rect::from_center_size(place.center(), vec2(1.0, 1.0));
    let hint = ui.interact(hint, ui.scope_id().with("drop hint"), Sense::hover());
    hint.widget_info(|| {
        egui::WidgetInfo::labeled(egui::Role::Label, true, "Drop a picture to draw from it")
    });
}
