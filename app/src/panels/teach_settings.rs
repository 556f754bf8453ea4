//! Teaching the model one's own pictures: the settings, what they will take, and the buttons.

use eframe::egui::{self, RichText, Ui};
use infinity_engine::api::{TuneRates, TuneWish, bytes_text};

use super::{Panel, secs_text};
use crate::command::Command;
use crate::state::{Lesson, Preset, UiState};
use crate::theme::{self, Palette, icons};

/// Width of the settings.
pub const SETTINGS_WIDTH: f32 = 296.0;
/// The settings, at the left.
#[derive(Default)]
pub struct TeachSettings {
    more_open: bool,
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
            self.controls_ui(ui, state, commands);
        });
        if let (Some(found), false) = (&teach.found, teach.is_running()) {
            estimate_ui(ui, &teach.wish, &found.rates);
        }
        ui.add_space(theme::STEP);
        buttons_ui(ui, state, commands);
    }
}

impl TeachSettings {
    fn controls_ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
        let wish = &state.teach.wish;
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
            more_ui(ui, &mut changed, state);
        }
        if changed.steps != wish.steps {
            changed.save_every = (changed.steps / 6).max(10);
        }
        if changed != *wish {
            let resized = changed.scale_count != wish.scale_count;
            commands.push(Command::SetTeach(Box::new(changed)));
            if resized && !wish.data.as_os_str().is_empty() {
                commands.push(Command::LookThrough(wish.data.clone()));
            }
        } else if trigger_left && !wish.data.as_os_str().is_empty() {
            commands.push(Command::LookThrough(wish.data.clone()));
        }
    }
}

/// Smallest side that pictures are worth learning at, in pixels.
const LEAST_SIDE: u32 = 64;

/// At which size pictures are learned.
fn size_ui(ui: &mut Ui, wish: &mut TuneWish, state: &UiState) {
    let Some(model) = &state.model else { return };
    let text = |count: usize| {
        let side = model.sides.get(count.wrapping_sub(1)).copied().unwrap_or(0);
        format!("{side}×{side}")
    };
    let own = wish.scale_count.unwrap_or(model.scale_count);
    ui.label(theme::caption_text(ui, "Size"));
    let list = egui::ComboBox::from_id_salt("size").selected_text(text(own));
    let list = list.show_ui(ui, |ui| {
        for (index, &side) in model.sides.iter().enumerate().rev() {
            if side >= LEAST_SIDE {
                ui.selectable_value(&mut wish.scale_count, Some(index + 1), text(index + 1));
            }
        }
    });
    if wish.scale_count == Some(model.scale_count) {
        wish.scale_count = None;
    }
    list.response.accessible_name("Size of the pictures").on_hover_text(
        "Pictures are learned at this many pixels; smaller is quicker, in less memory, and says less about details.",
    );
    ui.end_row();
}

fn more_ui(ui: &mut Ui, wish: &mut TuneWish, state: &UiState) {
    let scales = wish
        .scale_count
        .unwrap_or(state.model.as_ref().map_or(2, |model| model.scale_count));
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
        size_ui(ui, wish, state);
        row(
            ui,
            "Rank",
            "How much the LoRA can hold.",
            egui::DragValue::new(&mut wish.rank).range(1..=128),
        );
        let mut alpha = wish.alpha.unwrap_or(wish.rank as f32);
        row(
            ui,
            "Alpha",
            "How strongly it counts: alpha over rank. The rank unless changed.",
            egui::DragValue::new(&mut alpha).range(1.0..=512.0),
        );
        wish.alpha = Some(alpha).filter(|&alpha| alpha != wish.rank as f32);
        ui.label(theme::caption_text(ui, "Layers"));
        ui.horizontal(|ui| {
            // All four fit into the panel.
            ui.spacing_mut().item_spacing.x = 5.0;
            ui.spacing_mut().icon_spacing = 3.0;
            for (part, name, tip) in [
                (
                    TuneWish::LAYERS[0],
                    "Self",
                    "Layers that look at the picture so far.",
                ),
                (TuneWish::LAYERS[1], "Text", "Layers that look at the text."),
                (
                    TuneWish::LAYERS[2],
                    "FFN",
                    "Layers that look at nothing else: feed-forward.",
                ),
                (
                    TuneWish::LAYERS[3],
                    "Last",
                    "The layer that says the bits: colours of everything.",
                ),
            ] {
                let mut is_on = wish.layers.iter().any(|own| own == part);
                if ui.checkbox(&mut is_on, name).on_hover_text(tip).changed() {
                    let last = wish.layers.len() == 1;
                    match is_on {
                        true => wish.layers.push(part.to_owned()),
                        // One learns at least.
                        false if !last => wish.layers.retain(|own| own != part),
                        false => {}
                    }
                    wish.layers.sort_by_key(|own| {
                        TuneWish::LAYERS
                            .iter()
                            .position(|&part| part == own.as_str())
                    });
                }
            }
        });
        ui.end_row();
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
        // The last scale has none after it that could mend.
        let most = scales.saturating_sub(1).max(1);
        let mut flipped = wish.flip_scales.min(most);
        row(
            ui,
            "Scales corrected",
            "In how many of the first scales bits are flipped.",
            egui::DragValue::new(&mut flipped).range(1..=most),
        );
        if flipped != wish.flip_scales.min(most) {
            wish.flip_scales = if flipped == most {
                TuneWish::default().flip_scales
            } else {
                flipped
            };
        }
        row(
            ui,
            "Views",
            "Every picture is learned from so many more sides: a little larger, cut to one corner.",
            egui::DragValue::new(&mut wish.views).range(0..=16),
        );
        ui.label("");
        ui.checkbox(&mut wish.mirror, "Mirrored too").on_hover_text(
            "Every picture is learned mirrored as well, with left and right changed in its caption; not for writing, or things with a left and a right side.",
        );
        ui.end_row();
        let dropped = egui::DragValue::new(&mut wish.caption_drop)
            .range(0.0..=0.5)
            .speed(0.005);
        row(
            ui,
            "Captions left out",
            "Share of pictures learned without their text, so that guidance goes on to work.",
            dropped,
        );
        let parts = egui::DragValue::new(&mut wish.part_drop)
            .range(0.0..=0.5)
            .speed(0.005);
        row(
            ui,
            "Parts left out",
            "Chance that a part of a caption, between commas, is left out; the others change places. A few pictures then say more.",
            parts,
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

/// What the lesson will take, before it starts.
fn estimate_ui(ui: &mut Ui, wish: &TuneWish, rates: &TuneRates) {
    let bytes = bytes_text(rates.bytes(wish));
    let memory = match rates.free {
        Some(free) => format!("{bytes} of {} memory", bytes_text(free)),
        None => format!("{bytes} of memory"),
    };
    let text = match rates.secs(wish) {
        Some(secs) => format!("About {} and {memory}", secs_text(secs)),
        None => format!("About {memory}"),
    };
    ui.label(theme::caption_text(ui, text)).on_hover_text(
        "Time from an update that was measured on this device; samples come on top.",
    );
    if !rates.fits(wish) {
        ui.label(
            RichText::new("It does not fit: fewer pictures per step will be taken.")
                .font(theme::caption())
                .color(Palette::of(ui).warn),
        );
    }
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
    for note in &lesson.notes {
        ui.label(theme::caption_text(ui, note));
    }
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
            "Step {} of {}, {:.0} pictures a second, {} left, about {} of memory",
            step.step,
            step.steps,
            step.pictures_per_sec,
            secs_text(step.eta_secs),
            bytes_text(lesson.memory.unwrap_or(0))
        ),
    }
}
