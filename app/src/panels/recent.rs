//! The pictures of this session, newest first.
//!
//! A column beside the canvas; clicking a picture shows it.

use eframe::egui::{self, Color32, Rect, Role, Sense, Stroke, StrokeKind, Vec2, WidgetInfo, vec2};

use super::Panel;
use crate::command::Command;
use crate::state::{Picture, UiState};
use crate::theme::{self, Palette};
use crate::widgets::textures::Textures;

/// Pixels of the longer side of a small picture, enough for a sharp display.
const SMALL_PX: u32 = 256;

/// The column of pictures.
#[derive(Default)]
pub struct Recent {
    textures: Textures,
}

impl Panel for Recent {
    fn title(&self) -> &'static str {
        "Pictures"
    }

    fn ui(&mut self, ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
        let panel = ui.max_rect();
        let line = Rect::from_min_size(panel.min, vec2(1.0, panel.height()));
        ui.painter().rect_filled(line, 0.0, Palette::of(ui).line);
        let frame = egui::Frame::new().inner_margin(egui::Margin {
            left: 16,
            right: 16,
            top: 16,
            bottom: 0,
        });
        frame.show(ui, |ui| {
            ui.label(theme::caption_text(ui, self.title()));
            ui.add_space(theme::STEP);
            if state.pictures.is_empty() {
                ui.label(theme::caption_text(ui, "Finished pictures appear here."));
                return;
            }
            egui::ScrollArea::vertical()
                .auto_shrink(false)
                .show(ui, |ui| {
                    ui.spacing_mut().item_spacing.y = theme::GAP;
                    for picture in state.pictures.iter().rev() {
                        self.picture_ui(ui, picture, state, commands);
                    }
                    ui.add_space(theme::GROUP);
                });
        });
        self.textures.end_frame();
    }
}

impl Recent {
    fn picture_ui(
        &mut self,
        ui: &mut egui::Ui,
        picture: &Picture,
        state: &UiState,
        commands: &mut Vec<Command>,
    ) {
        let palette = Palette::of(ui);
        let width = ui.available_width();
        let image = &picture.image;
        let aspect = image.height.max(1) as f32 / image.width.max(1) as f32;
        let height = (width * aspect.min(1.5)).round();
        let (place, response) = ui.allocate_exact_size(vec2(width, height), Sense::click());
        let is_shown = state
            .shown_picture()
            .is_some_and(|shown| shown.job == picture.job);
        if ui.is_rect_visible(place) {
            let texture = self.textures.small(ui.ctx(), image, SMALL_PX);
            let size = vec2((height / aspect).min(width), height);
            let rect = Rect::from_center_size(place.center(), size);
            let whole = Rect::from_min_size(egui::Pos2::ZERO, Vec2::splat(1.0));
            ui.painter().image(texture, rect, whole, Color32::WHITE);
            let edge = if is_shown || response.has_focus() {
                Some((palette.accent, 2.0))
            } else if response.hovered() {
                Some((palette.text, 1.0))
            } else {
                None
            };
            if let Some((colour, width)) = edge {
                let stroke = Stroke::new(width, colour);
                ui.painter()
                    .rect_stroke(rect, 2.0, stroke, StrokeKind::Inside);
            }
        }
        response.widget_info(|| {
            let name = format!("Show picture {}: {}", picture.job.0, picture.spec.prompt);
            WidgetInfo::selected(Role::Button, true, is_shown, name)
        });
        let parent = picture.parent.and_then(|parent| state.picture(parent));
        if let Some(parent) = parent {
            // The family tree, one step at a time.
            let name = theme::caption_text(ui, format!("from {}", parent.name()));
            let link = egui::Label::new(name).truncate().sense(Sense::click());
            let link = ui.add(link).on_hover_text("Show the picture it came from.");
            if link.clicked() {
                commands.push(Command::ShowPicture(parent.job));
            }
        }
        let clicked = response.clicked();
        response.on_hover_text(&picture.spec.prompt);
        if clicked {
            commands.push(Command::ShowPicture(picture.job));
        }
    }
}
