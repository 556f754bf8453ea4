//! The drafts on the table: click one to finish it.

use eframe::egui::{
    self, Align, Color32, Layout, Rect, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2,
};

use super::{Panel, secs_text};
use crate::command::Command;
use crate::state::{DRAFT_COUNTS, Drafts, UiState};
use crate::theme::{self, Palette};
use crate::widgets::textures::Textures;

/// Height of the line above the drafts.
pub const HEIGHT: f32 = theme::CONTROL + 2.0 * theme::GAP;
/// Distance between drafts.
const GAP: f32 = 6.0;

/// The line above the drafts.
#[derive(Default)]
pub struct DraftTools;

impl Panel for DraftTools {
    fn title(&self) -> &'static str {
        "Drafts"
    }

    fn ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
        let Some(drafts) = &state.drafts else {
            return;
        };
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.spacing_mut().item_spacing.x = theme::GAP;
            let close = Command::SetDraftsOpen(false);
            if ui
                .button(close.text())
                .on_hover_text(close.tooltip())
                .clicked()
            {
                commands.push(close);
            }
            let again = Command::DrawDrafts;
            let ready = drafts.done.is_some() && state.model.is_some();
            let button = ui.add_enabled(ready, egui::Button::new("Draw other drafts"));
            if button.on_hover_text(again.tooltip()).clicked() {
                commands.push(again);
            }
            settings_ui(ui, state, commands);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                let text = egui::RichText::new(facts(drafts)).color(Palette::of(ui).dim);
                ui.add(egui::Label::new(text).truncate());
            });
        });
    }
}

/// How many drafts, and of how many scales.
fn settings_ui(ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
    let most = state.scale_count().saturating_sub(1).max(1);
    let mut scales = state.scales_of_drafts();
    let field = egui::DragValue::new(&mut scales)
        .range(1..=most)
        .speed(0.05)
        .suffix(format!(" of {} scales", most + 1));
    let field = ui
        .add(field)
        .on_hover_text("How many scales of each draft are drawn: fewer cost less and show less.");
    if field.accessible_name("Scales of each draft").changed() {
        commands.push(Command::SetDraftScales(scales));
    }
    let count = state.settings.draft_count;
    let menu = egui::ComboBox::from_id_salt("draft count")
        .width(88.0)
        .selected_text(format!("{count} drafts"));
    let shown = menu.show_ui(ui, |ui| {
        for choice in DRAFT_COUNTS {
            if ui
                .selectable_label(choice == count, format!("{choice} drafts"))
                .clicked()
            {
                commands.push(Command::SetDraftCount(choice));
            }
        }
    });
    let _named = shown.response.accessible_name("Number of drafts");
}

fn facts(drafts: &Drafts) -> String {
    let of = drafts.of;
    match drafts.done {
        None => format!(
            "{} of {} drafts, {} of {of} scales",
            drafts.items.len(),
            drafts.count,
            drafts.scales
        ),
        Some((secs, cost)) if cost > 0.0 => format!(
            "Click a draft to finish it. {} drafts for the price of {cost:.1} pictures · {}",
            drafts.count,
            secs_text(secs)
        ),
        Some(_) => format!(
            "Stopped. Click one of {} drafts to finish it.",
            drafts.count
        ),
    }
}

/// The drafts.
#[derive(Default)]
pub struct DraftsView {
    textures: Textures,
}

impl Panel for DraftsView {
    fn title(&self) -> &'static str {
        "Drafts"
    }

    fn ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
        let Some(drafts) = &state.drafts else {
            return;
        };
        let canvas = ui.max_rect().shrink(theme::GROUP);
        let first = drafts.items.first().map(|(image, _)| image);
        let aspect = first.map_or(1.0, |image| {
            image.width.max(1) as f32 / image.height.max(1) as f32
        });
        let (columns, size) = best_grid(canvas.size(), drafts.count.max(1), aspect);
        let rows = drafts.count.max(1).div_ceil(columns);
        let whole = vec2(
            columns as f32 * (size.x + GAP) - GAP,
            rows as f32 * (size.y + GAP) - GAP,
        );
        let corner = canvas.center() - whole / 2.0;
        let palette = Palette::of(ui);
        for index in 0..drafts.count {
            let (column, row) = (index % columns, index / columns);
            let step = vec2(column as f32 * (size.x + GAP), row as f32 * (size.y + GAP));
            let place = Rect::from_min_size((corner + step).round(), size.floor());
            let Some((image, spec)) = drafts.items.get(index) else {
                ui.painter().rect_filled(place, 2.0, palette.panel);
                continue;
            };
            let response = ui.interact(place, ui.scope_id().with(("draft", index)), Sense::click());
            let texture = self.textures.full(ui.ctx(), image);
            let all = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            ui.painter().image(texture, place, all, Color32::WHITE);
            if response.hovered() || response.has_focus() {
                let stroke = Stroke::new(2.0, palette.accent);
                ui.painter()
                    .rect_stroke(place, 2.0, stroke, StrokeKind::Outside);
            }
            response.widget_info(|| {
                WidgetInfo::labeled(Role::Button, true, format!("Finish draft {}", index + 1))
            });
            let clicked = response.clicked();
            response.on_hover_text(format!("Seed {}. Click to finish it.", spec.seed));
            if clicked {
                commands.push(Command::FinishDraft(index));
            }
        }
        self.textures.end_frame();
    }
}

/// The number of columns that makes `count` cells of `aspect` largest, and their size.
fn best_grid(room: egui::Vec2, count: usize, aspect: f32) -> (usize, egui::Vec2) {
    let size = |columns: usize| {
        let rows = count.div_ceil(columns);
        let width = (room.x - (columns - 1) as f32 * GAP) / columns as f32;
        let height = (room.y - (rows - 1) as f32 * GAP) / rows as f32;
        let width = width.min(height * aspect).max(8.0);
        vec2(width, width / aspect)
    };
    let best = (1..=count).max_by(|a, b| size(*a).x.total_cmp(&size(*b).x));
    let columns = best.unwrap_or(1);
    (columns, size(columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_fill_the_room() {
        for (room, count, aspect, columns) in [
            ((800.0, 800.0), 16, 1.0, 4),
            ((1600.0, 400.0), 16, 1.0, 8),
            ((800.0, 800.0), 1, 2.0, 1),
            ((900.0, 300.0), 3, 1.0, 3),
        ] {
            let (own, size) = best_grid(vec2(room.0, room.1), count, aspect);
            assert_eq!(own, columns, "{room:?} {count}");
            assert!(size.x * columns as f32 <= room.0 + 1.0);
            assert!(size.y * count.div_ceil(columns) as f32 <= room.1 + 1.0);
        }
    }
}
