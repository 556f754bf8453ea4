//! The line at the bottom: device, model, last run; and the preferences.

use eframe::egui::{self, Align, Layout, RichText};
use infinity_engine::api::{Storage, bytes_text};

use super::places::{Places, device_text};
use super::{Panel, secs_text};
use crate::command::Command;
use crate::settings::ThemeChoice;
use crate::state::UiState;
use crate::theme::{self, Palette, icons};

/// The status bar.
#[derive(Default)]
pub struct Status {
    places: Places,
}

impl Panel for Status {
    fn title(&self) -> &'static str {
        "Status"
    }

    fn ui(&mut self, ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
        theme::top_line(ui, ui.max_rect().expand2(egui::vec2(theme::GROUP, 0.0)));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            self.preferences_ui(ui, state, commands);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                modes_ui(ui, state, commands);
                ui.spacing_mut().item_spacing.x = theme::GROUP;
                ui.add_space(theme::GAP);
                facts_ui(ui, state);
            });
        });
    }
}

/// What the window is for at the moment.
fn modes_ui(ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
    ui.spacing_mut().item_spacing.x = theme::STEP;
    let running = if state.teach.is_running() {
        "Teaching…"
    } else {
        "Teaching"
    };
    let (teaching, shelf) = (state.teach.open, state.loras.is_some());
    for (chosen, name, tip, command) in [
        (
            !teaching && !shelf,
            "Drawing",
            "Draw pictures from words.",
            Command::SetTeachOpen(false),
        ),
        (
            teaching,
            running,
            "Teach the model your own pictures.",
            Command::SetTeachOpen(true),
        ),
        (
            shelf,
            "LoRAs",
            "What was taught: put it on, take it off, note what it is good for.",
            Command::OpenLoras,
        ),
    ] {
        let label = ui.selectable_label(chosen, name);
        if label.on_hover_text(tip).clicked() {
            commands.push(command);
        }
    }
}

fn facts_ui(ui: &mut egui::Ui, state: &UiState) {
    let palette = Palette::of(ui);
    let small = |text: String| {
        RichText::new(text)
            .font(theme::caption())
            .color(palette.dim)
    };
    let (device, reason) = match &state.device {
        Some(device) => (device_text(device), device.reason.as_str()),
        None => ("Looking for a device".to_owned(), ""),
    };
    let most = ui.available_width() * 0.45;
    let fact = |ui: &mut egui::Ui, text: String, more: &str| {
        ui.scope(|ui| {
            ui.set_max_width(most.min(ui.available_width()));
            let label = ui.add(egui::Label::new(small(text)).truncate());
            if !more.is_empty() {
                label.on_hover_text(more);
            }
        });
    };
    fact(ui, device, reason);
    match &state.model {
        Some(model) if !state.loading => {
            let text = format!("{}, {} weights", model.name, count_text(model.parameters));
            fact(ui, text, &model.about);
        }
        _ if state.loading => fact(ui, "Loading the model…".to_owned(), ""),
        _ => fact(ui, "No model".to_owned(), ""),
    }
    if let Some((text, more)) = memory_fact(state) {
        fact(ui, text, &more);
    }
    if let Some(picture) = state.pictures.last() {
        let text = format!("Last picture {}", secs_text(picture.elapsed_secs));
        fact(ui, text, "");
    }
}

/// What the next picture takes in memory against what there is, and the parts of it.
fn memory_fact(state: &UiState) -> Option<(String, String)> {
    let model = state.model.as_ref()?;
    let scales = state.draft.spec.scale_count.unwrap_or(model.scale_count);
    let need = model.memory.get(scales.checked_sub(1)?)?;
    let mut text = format!("Memory {}", bytes_text(need.bytes()));
    if let Some(there) = state.device.as_ref().and_then(|device| device.memory) {
        text = format!("{text} of {}", bytes_text(there));
    }
    let parts = need.parts.iter();
    let parts = parts.map(|part| format!("{}: {}", part.name, bytes_text(part.bytes)));
    let mut more = vec!["What a square picture takes, computed beforehand:".to_owned()];
    more.extend(parts);
    let keeping = model.keeping;
    for (applies, sentence) in [
        (
            keeping.weights == Storage::Half,
            "Weights are kept in half precision.",
        ),
        (
            keeping.weights == Storage::Eight,
            "Weights are kept in eight bits, so that it fits; pictures differ a little.",
        ),
        (
            keeping.cache == Storage::Half,
            "Keys and values are kept in half precision, so that it fits.",
        ),
        (
            keeping.cache == Storage::Eight,
            "Keys and values are kept in eight bits, so that it fits; pictures differ a little.",
        ),
        (
            !keeping.text_stays,
            "The text encoder leaves memory after each new prompt, so that it fits.",
        ),
    ] {
        if applies {
            more.push(sentence.to_owned());
        }
    }
    Some((text, more.join("\n")))
}

/// A large number for people: `3.2 million`.
fn count_text(count: u64) -> String {
    let (unit, name) = match count {
        0..1_000_000 => return count.to_string(),
        1_000_000..1_000_000_000 => (1e6, "million"),
        _ => (1e9, "billion"),
    };
    format!("{:.1} {name}", count as f64 / unit)
}

impl Status {
    fn preferences_ui(&mut self, ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
        let gear = theme::icon_button(ui, icons::GEAR, false).accessible_name("Preferences");
        let closing = egui::PopupCloseBehavior::CloseOnClickOutside;
        egui::Popup::menu(&gear)
            .close_behavior(closing)
            .gap(theme::STEP)
            .show(|ui| {
                ui.set_width(264.0);
                self.menu_ui(ui, state, commands);
            });
        if !egui::Popup::is_id_open(ui.ctx(), egui::Popup::default_response_id(&gear)) {
            gear.on_hover_text("Preferences");
        }
    }

    fn menu_ui(&mut self, ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
        // The plain look of controls, not that of a list of menu entries.
        ui.reset_style();
        ui.spacing_mut().item_spacing.y = theme::GAP;
        ui.label(theme::caption_text(ui, "Colours"));
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = theme::STEP;
            for (theme, name) in [
                (ThemeChoice::System, "As the desktop"),
                (ThemeChoice::Dark, "Dark"),
                (ThemeChoice::Light, "Light"),
            ] {
                let chosen = state.settings.theme == theme;
                if ui.selectable_label(chosen, name).clicked() {
                    commands.push(Command::SetTheme(theme));
                }
            }
        });
        ui.separator();
        let mut autosave = state.settings.autosave;
        if ui
            .checkbox(&mut autosave, "Save every picture")
            .on_hover_text("Finished pictures are saved by themselves, with their settings inside.")
            .changed()
        {
            commands.push(Command::SetAutosave(autosave));
        }
        let folder = state.pictures_folder().display().to_string();
        let text = theme::caption_text(ui, &folder);
        ui.add(egui::Label::new(text).truncate())
            .on_hover_text(folder);
        let choose = Command::ChoosePicturesFolder;
        let icon = theme::icon(icons::FOLDER, theme::ICON);
        menu_button_ui(ui, (icon, choose.text()), choose, commands);
        ui.separator();
        let mut recent = state.settings.recent_open;
        if ui
            .checkbox(&mut recent, "Show the pictures of this session")
            .changed()
        {
            commands.push(Command::SetRecentOpen(recent));
        }
        ui.separator();
        if state.place.is_some() {
            self.places.ui(ui, state, commands);
            ui.separator();
        }
        let picture = Command::OpenPicture;
        menu_button_ui(ui, picture.text(), picture, commands);
        let lora = Command::OpenLora;
        menu_button_ui(ui, lora.text(), lora, commands);
        let open = Command::OpenModel;
        menu_button_ui(ui, open.text(), open, commands);
    }
}

/// A button that asks for something and closes the menu.
fn menu_button_ui<'a>(
    ui: &mut egui::Ui,
    content: impl egui::IntoAtoms<'a>,
    command: Command,
    commands: &mut Vec<Command>,
) {
    ui.horizontal(|ui| {
        let button = ui.button(content).on_hover_text(command.tooltip());
        if button.accessible_name(command.text()).clicked() {
            commands.push(command);
            ui.close();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::count_text;

    #[test]
    fn counts_read_well() {
        assert_eq!(count_text(999), "999");
        assert_eq!(count_text(3_210_000), "3.2 million");
        assert_eq!(count_text(2_200_000_000), "2.2 billion");
    }
}
