//! Sentences for the user, over the upper edge of the canvas.
//!
//! They lie over the picture instead of pushing it, so that nothing jumps, and
//! stay until they are taken away.

use eframe::egui::{self, Align, Layout, vec2};

use super::Panel;
use crate::command::Command;
use crate::state::{Message, Tone, UiState};
use crate::theme::{self, Palette, icons};

const MAX_WIDTH: f32 = 640.0;

/// The messages.
pub struct Messages;

impl Panel for Messages {
    fn title(&self) -> &'static str {
        "Messages"
    }

    fn ui(&mut self, ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
        let canvas = ui.max_rect();
        let width = (canvas.width() - 2.0 * theme::GROUP).min(MAX_WIDTH);
        let mut top = canvas.top() + 12.0;
        for message in &state.messages {
            let left = canvas.center().x - width / 2.0;
            let place = egui::Rect::from_min_size(egui::pos2(left, top), vec2(width, 0.0));
            let builder = egui::UiBuilder::new()
                .max_rect(place)
                .id_salt(("message", message.id));
            let mut lying = ui.new_child(builder);
            let bar = message_ui(&mut lying, message, commands);
            top = bar.rect.bottom() + theme::GAP;
        }
    }
}

fn message_ui(ui: &mut egui::Ui, message: &Message, commands: &mut Vec<Command>) -> egui::Response {
    let palette = Palette::of(ui);
    let (icon, colour) = match message.tone {
        Tone::Note => (icons::INFO, palette.accent),
        Tone::Trouble => (icons::WARNING, palette.danger),
    };
    let frame = egui::Frame::new()
        .fill(palette.raised)
        .stroke(egui::Stroke::new(1.0, palette.edge))
        .corner_radius(theme::RADIUS)
        .shadow(ui.visuals().popup_shadow)
        .inner_margin(egui::Margin {
            left: 12,
            right: 4,
            top: 4,
            bottom: 4,
        });
    frame
        .show(ui, |ui| {
            let width = ui.available_width();
            let columns = Layout::left_to_right(Align::Min);
            ui.with_layout(columns, |ui| {
                ui.set_width(width);
                ui.spacing_mut().item_spacing.x = theme::GAP;
                ui.vertical(|ui| {
                    ui.add_space(5.0);
                    ui.label(theme::icon(icon, theme::ICON).color(colour));
                });
                let text_width = ui.available_width() - theme::CONTROL - theme::GAP;
                ui.vertical(|ui| {
                    ui.set_width(text_width);
                    ui.add_space(6.0);
                    ui.add(egui::Label::new(&message.text).wrap().selectable(true));
                    ui.add_space(6.0);
                });
                let close = theme::icon_button(ui, icons::CLOSE, false)
                    .on_hover_text("Take this message away");
                if close.accessible_name("Dismiss message").clicked() {
                    commands.push(Command::Dismiss(message.id));
                }
            });
        })
        .response
}
