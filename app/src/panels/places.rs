//! Where pictures are drawn: this machine's devices, and another machine.

use eframe::egui;
use infinity_engine::api::{DeviceChoice, DeviceInfo, DeviceKind, bytes_text};

use crate::command::Command;
use crate::place::{Place, numbered};
use crate::state::UiState;
use crate::theme;

/// A device for people: its kind, and its name where that says more.
pub(super) fn device_text(device: &DeviceInfo) -> String {
    let kind = match device.kind {
        DeviceKind::Gpu => "Graphics card",
        DeviceKind::Cpu => "Processor",
        DeviceKind::Software => "Software graphics, slow",
    };
    if device.name.eq_ignore_ascii_case(kind) {
        return kind.to_owned();
    }
    format!("{kind}: {}", device.name)
}

/// The choice of where to draw.
#[derive(Default)]
pub(super) struct Places {
    /// What is typed for another machine; its last address when `None`.
    address: Option<String>,
}

impl Places {
    /// The choice, in a menu that closes when one is made.
    pub(super) fn ui(&mut self, ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
        let Some(place) = &state.place else { return };
        if state.devices.is_none() {
            commands.push(Command::FindDevices);
        }
        ui.label(theme::caption_text(ui, "Draw with"));
        let auto = Place::default();
        let tip = "The graphics card when there is one, else the processor.";
        choice_ui(ui, place, auto, "The best device here", tip, commands);
        let devices = state.devices.as_deref().unwrap_or_default();
        for (choice, device) in numbered(devices) {
            let name = device_text(device);
            let memory = device
                .memory
                .map(|bytes| format!("{}. ", bytes_text(bytes)));
            let tip = format!("{}{}", memory.unwrap_or_default(), device.reason);
            choice_ui(ui, place, Place::Here(choice), &name, &tip, commands);
        }
        let cards: Vec<DeviceChoice> = numbered(devices)
            .filter(|(_, device)| device.kind == DeviceKind::Gpu)
            .map(|(choice, _)| choice)
            .collect();
        if cards.len() > 1 {
            let all = Place::Together(cards);
            let name = "All graphics cards together";
            let tip = "Pictures that wait and drafts are spread over them.";
            choice_ui(ui, place, all, name, tip, commands);
        }
        self.remote_ui(ui, state, place, commands);
    }

    fn remote_ui(
        &mut self,
        ui: &mut egui::Ui,
        state: &UiState,
        place: &Place,
        commands: &mut Vec<Command>,
    ) {
        let last = || state.settings.remote.clone();
        let address = self.address.get_or_insert_with(last);
        let there = Place::remote(address);
        let label = theme::caption_text(ui, "Another machine, where infinity serve runs");
        let label = ui.label(label);
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = theme::STEP;
            let width = ui.available_width() - 76.0;
            let field = egui::TextEdit::singleline(address)
                .hint_text("host:7860")
                .desired_width(width);
            let field = ui.add(field).labelled_by(label.id).on_hover_text(
                "Its name or address and the port that infinity serve names there. It asks for the key of that machine \
                 on this one; docs/devices.md says how.",
            );
            let entered = field.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
            let in_use = there.as_ref() == Some(place) && (state.loading || state.model.is_some());
            let name = if in_use { "In use" } else { "Connect" };
            let can = there.is_some() && !in_use;
            let pressed = ui.add_enabled(can, egui::Button::new(name)).clicked();
            if let Some(there) = there
                && can
                && (pressed || entered)
            {
                commands.push(Command::SetPlace(there));
                ui.close();
            }
        });
    }
}

fn choice_ui(
    ui: &mut egui::Ui,
    place: &Place,
    choice: Place,
    name: &str,
    tip: &str,
    commands: &mut Vec<Command>,
) {
    let label = egui::Button::selectable(*place == choice, name).truncate();
    let label = ui.add(label).on_hover_text(format!("{name}\n{tip}"));
    if label.clicked() {
        commands.push(Command::SetPlace(choice));
        ui.close();
    }
}
