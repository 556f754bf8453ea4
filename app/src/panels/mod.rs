//! The parts of the window.
//!
//! A panel reads [`UiState`] and pushes [`Command`]s; it changes nothing else
//! and knows no other panel.

pub mod drafts;
pub mod edit;
pub mod fine;
pub mod loras;
pub mod messages;
mod places;
pub mod preview;
pub mod prompt;
pub mod recent;
pub mod scales;
pub mod status;
pub mod teach;
pub mod teach_settings;

use eframe::egui;

use crate::command::Command;
use crate::state::UiState;

/// One part of the window.
pub trait Panel {
    /// What it is, for people and for tests.
    fn title(&self) -> &'static str;

    /// Draws it and pushes what the user asked for.
    fn ui(&mut self, ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>);
}

/// A span of time for people: `1.4 s`, `2 min 5 s`.
pub fn secs_text(secs: f32) -> String {
    let secs = secs.max(0.0);
    if secs < 59.95 {
        format!("{secs:.1} s")
    } else {
        let whole = secs.round();
        format!("{} min {} s", (whole / 60.0).floor(), whole % 60.0)
    }
}

/// The tooltip of a command: what it does and its keys.
pub fn tooltip(ui: &egui::Ui, command: &Command) -> String {
    match command.shortcut() {
        Some(keys) => format!(
            "{} ({})",
            command.tooltip(),
            ui.ctx().format_shortcut(&keys)
        ),
        None => command.tooltip().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::secs_text;

    #[test]
    fn times_read_well() {
        for (secs, expected) in [
            (-1.0, "0.0 s"),
            (1.44, "1.4 s"),
            (59.96, "1 min 0 s"),
            (125.4, "2 min 5 s"),
        ] {
            assert_eq!(secs_text(secs), expected);
        }
    }
}
