//! What to draw: prompt, shape, guidance, looseness, seed; Draw and Stop.

use eframe::egui::{self, Align, Layout, RichText, TextEdit, Ui, vec2};

use super::{Panel, fine, tooltip};
use infinity_engine::api::LoraWish;

use crate::command::Command;
use crate::state::UiState;
use crate::theme::{self, Palette, icons};
use crate::widgets::ratio_row;

/// Least height of the row with the prompt.
const ROW: f32 = 68.0;
/// Width of the Draw button.
const DRAW: f32 = 132.0;
/// Distance from a caption to its control.
const CAPTION_GAP: f32 = 2.0;
/// Rows the prompt grows to before it scrolls.
const MAX_ROWS: f32 = 6.0;
/// Most characters of a prompt; far more than a text encoder reads.
const MAX_CHARS: usize = 8000;

/// The controls.
#[derive(Default)]
pub struct Prompt {
    /// The seed as typed, and the seed it stands for.
    seed: (String, u64),
}

impl Panel for Prompt {
    fn title(&self) -> &'static str {
        "Prompt"
    }

    fn ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
        theme::top_line(ui, ui.max_rect().expand2(vec2(16.0, 12.0)));
        ui.spacing_mut().item_spacing.y = theme::GAP;
        first_row_ui(ui, state, commands);
        self.second_row_ui(ui, state, commands);
        let starts = state.start.is_some() || state.draft.spec.keep > 0;
        if starts && state.edit.is_none() {
            kept_ui(ui, state, commands);
        }
        if !state.draft.spec.loras.is_empty() {
            loras_ui(ui, state, commands);
        }
        if state.settings.fine_open {
            fine::ui(ui, state, commands);
        }
        if state.settings.negative_open {
            negative_ui(ui, state, commands);
        }
    }
}

/// What the next picture keeps of another one.
fn kept_ui(ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
    ui.horizontal(|ui| {
        let most = state.scale_count().saturating_sub(1).max(1);
        let mut count = state.draft.spec.keep;
        let name = state
            .start
            .as_ref()
            .map_or("a picture", |start| &start.name);
        ui.label(theme::caption_text(ui, "Similar to"));
        ui.scope(|ui| {
            ui.set_max_width(160.0);
            ui.add(egui::Label::new(name).truncate());
        });
        // Bits of a draft reach no further than it was drawn.
        let bits = state.draft.spec.bits.as_ref();
        let most = bits.map_or(most, |bits| bits.grids.len().min(most));
        ui.scope(|ui| {
            ui.spacing_mut().interact_size.y = 18.0;
            let slider = egui::Slider::new(&mut count, 0..=most).show_value(false);
            let slider = ui.add(slider).on_hover_text(
                "How many of its first scales are kept: its layout, more and more of its details.",
            );
            if slider.accessible_name("Similarity").changed() {
                commands.push(Command::SetKeep(count));
            }
        });
        ui.label(match count {
            0 => "keeps nothing".to_owned(),
            1 => "keeps the first scale".to_owned(),
            count => format!("keeps the first {count} scales"),
        });
        let off = theme::icon_button(ui, icons::CLOSE, false).accessible_name("Keep nothing");
        if off
            .on_hover_text("Draw from the first scale again.")
            .clicked()
        {
            commands.push(Command::KeepScales(0));
        }
    });
}

/// What a LoRA is called: its file, or, for runs of one's own, their folder.
pub(super) fn lora_name(lora: &LoraWish) -> String {
    let stem = lora.path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = lora.path.parent().and_then(|folder| folder.file_name());
    match folder {
        Some(folder) if stem == "lora" => folder.to_string_lossy().into_owned(),
        _ => stem.into_owned(),
    }
}

/// The LoRAs that are on: name, strength, off.
fn loras_ui(ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
    ui.horizontal_wrapped(|ui| {
        ui.label(theme::caption_text(ui, "Drawn with"));
        for (index, lora) in state.draft.spec.loras.iter().enumerate() {
            let name = lora_name(lora);
            let mut on = !state.draft.loras_off.contains(&lora.path);
            let tip = format!(
                "{}\nOff and on again, with the seed held, shows what it does.",
                lora.path.display()
            );
            let toggle = ui.checkbox(&mut on, name.as_str()).on_hover_text(tip);
            if toggle.changed() {
                commands.push(Command::SetLoraOn(index, on));
            }
            let mut strength = lora.strength;
            let value = egui::DragValue::new(&mut strength)
                .range(-2.0..=2.0)
                .speed(0.01)
                .max_decimals(2);
            let value = ui
                .add(value)
                .on_hover_text("How strongly it counts: 1 as it was taught, 0 not at all.");
            if value
                .accessible_name(format!("Strength of {name}"))
                .changed()
            {
                commands.push(Command::SetLoraStrength(index, strength));
            }
            let off = theme::icon_button(ui, icons::CLOSE, false)
                .accessible_name(format!("Take off {name}"));
            if off.on_hover_text("Take it off.").clicked() {
                commands.push(Command::TakeOffLora(index));
            }
        }
    });
}

fn first_row_ui(ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
    let ratios = state.model.as_ref().map_or(&[][..], |model| &model.ratios);
    let choices = ratio_row::choices(ratios, state.draft.spec.ratio);
    // Until a model is loaded, the frames' place is kept free, so that nothing jumps.
    let frames = ratio_row::width(if choices.is_empty() { 5 } else { choices.len() });
    ui.with_layout(Layout::left_to_right(Align::Min), |ui| {
        ui.spacing_mut().item_spacing.x = theme::GROUP;
        let width = ui.available_width() - DRAW - frames - 2.0 * theme::GROUP;
        ui.vertical(|ui| {
            ui.set_width(width.max(160.0));
            prompt_ui(ui, state, commands);
        });
        if choices.is_empty() {
            ui.allocate_exact_size(vec2(frames, ROW), egui::Sense::hover());
        } else if let Some(ratio) = ratio_row::ui(ui, &choices, state.draft.spec.ratio) {
            commands.push(Command::SetRatio(ratio));
        }
        ui.vertical(|ui| {
            ui.set_width(DRAW);
            ui.spacing_mut().item_spacing.y = theme::STEP;
            buttons_ui(ui, state, commands);
        });
    });
}

fn prompt_ui(ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
    let palette = Palette::of(ui);
    let id = ui.scope_id().with("prompt text");
    let focused = ui.memory(|memory| memory.has_focus(id));
    let edge = if focused {
        palette.accent
    } else {
        palette.edge
    };
    let row_height = ui.text_style_height(&egui::TextStyle::Body);
    egui::Frame::new()
        .fill(palette.raised)
        .stroke(egui::Stroke::new(1.0, edge))
        .corner_radius(theme::RADIUS)
        .inner_margin(egui::Margin::symmetric(9, 7))
        .show(ui, |ui| {
            egui::ScrollArea::vertical()
                .max_height(row_height * MAX_ROWS)
                .min_scrolled_height(ROW - 16.0)
                .show(ui, |ui| {
                    let mut text = state.draft.spec.prompt.clone();
                    let field = TextEdit::multiline(&mut text)
                        .id(id)
                        .frame(egui::Frame::NONE)
                        .hint_text("What should the picture show?")
                        .char_limit(MAX_CHARS)
                        .desired_width(f32::INFINITY)
                        .min_size(vec2(0.0, ROW - 16.0))
                        .desired_rows(1);
                    let field = ui.add(field).accessible_name("Prompt");
                    if field.changed() {
                        commands.push(Command::SetPrompt(text));
                    }
                });
        });
}

fn buttons_ui(ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
    let palette = Palette::of(ui);
    let ready = state.model.is_some();
    let (fill, colour) = if ready {
        (palette.accent, palette.on_accent)
    } else {
        (palette.raised, palette.dim)
    };
    let text = RichText::new(Command::Draw.text())
        .font(theme::semibold(14.0))
        .color(colour);
    let size = vec2(DRAW, ROW - theme::STEP - theme::CONTROL);
    let draw = egui::Button::new(text)
        .fill(fill)
        .stroke(egui::Stroke::NONE);
    let draw = ui
        .add_enabled_ui(ready, |ui| ui.add_sized(size, draw))
        .inner
        .on_hover_text(tooltip(ui, &Command::Draw))
        .on_disabled_hover_text("A model must be loaded first.");
    if draw.clicked() {
        commands.push(Command::Draw);
    }
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = theme::STEP;
        ui.spacing_mut().button_padding.x = theme::STEP;
        let half = [(DRAW - theme::STEP) / 2.0, theme::CONTROL];
        let drafts = Command::DrawDrafts;
        let button = egui::Button::new(drafts.text());
        let button = ui.add_enabled_ui(ready && state.edit.is_none(), |ui| {
            ui.add_sized(half, button)
        });
        if button.inner.on_hover_text(drafts.tooltip()).clicked() {
            commands.push(drafts);
        }
        let stop = egui::Button::new(Command::Stop.text());
        let stop = ui
            .add_enabled_ui(state.is_busy(), |ui| ui.add_sized(half, stop))
            .inner
            .on_hover_text(tooltip(ui, &Command::Stop))
            .on_disabled_hover_text("Nothing is being drawn.");
        if stop.clicked() {
            commands.push(Command::Stop);
        }
    });
}

impl Prompt {
    fn second_row_ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
        let spec = &state.draft.spec;
        let caption = ui.fonts_mut(|fonts| fonts.row_height(&theme::caption()));
        let height = caption + CAPTION_GAP + theme::CONTROL;
        let row = vec2(ui.available_width(), height);
        ui.allocate_ui_with_layout(row, Layout::left_to_right(Align::Max), |ui| {
            ui.set_min_size(row);
            ui.spacing_mut().item_spacing.x = theme::GROUP;
            let width = ((ui.available_width() - 420.0) / 2.0).clamp(150.0, 280.0);
            let cfg = Amount {
                name: "Follow the prompt",
                help: "How strictly the picture follows the prompt: classifier-free guidance (CFG). \
                       1 is off; 3 to 5 is usual.",
                range: 1.0..=10.0,
                decimals: 1,
                step: 0.1,
            };
            if let Some(value) = cfg.ui(ui, width, &spec.cfg) {
                commands.push(Command::SetCfg(value));
            }
            let tau = Amount {
                name: "Looseness",
                help: "How freely details are drawn: sampling temperature (tau). \
                       Low is orderly, high is wild; 0.5 to 1 is usual.",
                range: 0.05..=2.0,
                decimals: 2,
                step: 0.01,
            };
            if let Some(value) = tau.ui(ui, width, &spec.tau) {
                commands.push(Command::SetTau(value));
            }
            let seed = self.seed_ui(ui, state, commands);
            let rest = ui.available_rect_before_wrap();
            let beside = egui::Rect::from_x_y_ranges(rest.x_range(), seed.y_range());
            let builder = egui::UiBuilder::new()
                .max_rect(beside)
                .layout(Layout::right_to_left(Align::Center));
            ui.scope_builder(builder, |ui| {
                ui.spacing_mut().item_spacing.x = 0.0;
                let spec = &state.draft.spec;
                let leave_out = Disclosure {
                    name: "Leave out",
                    help: "What the picture should not show: the negative prompt.",
                    open: state.settings.negative_open,
                    in_use: !spec.negative_prompt.trim().is_empty(),
                };
                if leave_out.ui(ui) {
                    commands.push(Command::SetNegativeOpen(!leave_out.open));
                }
                let fine = Disclosure {
                    name: "By scale",
                    help: "Guidance, looseness and LoRAs scale by scale, variety, and another prompt for the details.",
                    open: state.settings.fine_open,
                    in_use: spec.cfg.len() > 1
                        || spec.tau.len() > 1
                        || spec.certainty.is_some()
                        || spec.half_products
                        || !spec.detail_prompt.trim().is_empty()
                        || spec.loras.iter().any(|lora| !lora.by_scale.is_empty()),
                };
                if fine.ui(ui) {
                    commands.push(Command::SetFineOpen(!fine.open));
                }
            });
        });
    }

    /// Shows the seed; returns where its field lies.
    fn seed_ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) -> egui::Rect {
        let seed = state.draft.spec.seed;
        if self.seed.1 != seed || self.seed.0.is_empty() {
            self.seed = (seed.to_string(), seed);
        }
        ui.vertical(|ui| {
            ui.spacing_mut().item_spacing = vec2(theme::STEP, CAPTION_GAP);
            let caption = ui.label(theme::caption_text(ui, "Seed"));
            ui.horizontal(|ui| {
                let field = TextEdit::singleline(&mut self.seed.0)
                    .desired_width(100.0)
                    .char_limit(20)
                    .align(egui::Align2::LEFT_CENTER)
                    .min_size(vec2(0.0, theme::CONTROL));
                let field = ui.add(field).labelled_by(caption.id);
                if field.changed() {
                    self.seed.0.retain(|c| c.is_ascii_digit());
                    if let Ok(typed) = self.seed.0.parse::<u64>() {
                        self.seed.1 = typed;
                        commands.push(Command::SetSeed(typed));
                    }
                }
                field.on_hover_text(
                    "The same seed, prompt and sliders give the same picture. Typing one holds it.",
                );
                let roll = state.draft.roll_seed;
                let dice = theme::icon_button(ui, icons::DICE, roll).on_hover_text(if roll {
                    "Every picture gets a new seed. Click to hold this one."
                } else {
                    "This seed is held. Click for a new one with every picture."
                });
                if dice.accessible_name("New seed for every picture").clicked() {
                    commands.push(Command::SetRollSeed(!roll));
                }
            })
            .response
            .rect
        })
        .inner
    }
}

/// A number with a slider.
struct Amount {
    name: &'static str,
    help: &'static str,
    range: std::ops::RangeInclusive<f32>,
    decimals: usize,
    step: f32,
}

impl Amount {
    /// Shows the first of `values`; returns what it was moved to.
    fn ui(&self, ui: &mut Ui, width: f32, values: &[f32]) -> Option<f32> {
        const NUMBER: f32 = 48.0;
        let mut value = values.first().copied().unwrap_or(1.0);
        let mut moved = None;
        ui.vertical(|ui| {
            ui.set_width(width);
            ui.spacing_mut().item_spacing = vec2(theme::GAP, CAPTION_GAP);
            let caption = if values.len() > 1 {
                format!("{}, scale by scale", self.name)
            } else {
                self.name.to_owned()
            };
            ui.label(theme::caption_text(ui, caption))
                .on_hover_text(self.help);
            ui.horizontal(|ui| {
                ui.set_height(theme::CONTROL);
                ui.scope(|ui| {
                    ui.spacing_mut().slider_width = width - NUMBER - theme::GAP;
                    // The handle is drawn as high as a control; a smaller one is enough.
                    ui.spacing_mut().interact_size.y = 18.0;
                    let slider = egui::Slider::new(&mut value, self.range.clone())
                        .clamping(egui::SliderClamping::Edits)
                        .step_by(f64::from(self.step))
                        .show_value(false);
                    let slider = ui.add(slider).on_hover_text(self.help);
                    if slider.accessible_name(self.name).changed() {
                        moved = Some(value);
                    }
                });
                let number = egui::DragValue::new(&mut value)
                    .range(self.range.clone())
                    .clamp_existing_to_range(false)
                    .speed(self.step)
                    .fixed_decimals(self.decimals);
                let number = ui.add_sized([NUMBER, theme::CONTROL], number);
                let number = number.on_hover_text("Drag, or click to type");
                if number.accessible_name(self.name).changed() {
                    moved = Some(value);
                }
            });
        });
        moved
    }
}

/// Opens and closes something below.
struct Disclosure {
    name: &'static str,
    help: &'static str,
    open: bool,
    /// Whether what is below changes the picture.
    in_use: bool,
}

impl Disclosure {
    /// Shows it; says whether it was clicked.
    fn ui(&self, ui: &mut Ui) -> bool {
        let caret = if self.open {
            icons::CARET_DOWN
        } else {
            icons::CARET_RIGHT
        };
        let mut text = RichText::new(self.name);
        if self.in_use && !self.open {
            text = text.color(Palette::of(ui).accent);
        }
        let caret = theme::icon(caret, 12.0);
        let button = egui::Button::new((text, caret)).frame_when_inactive(false);
        let button = ui.add(button).on_hover_text(self.help);
        button.accessible_name(self.name).clicked()
    }
}

fn negative_ui(ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
    let mut text = state.draft.spec.negative_prompt.clone();
    let field = TextEdit::singleline(&mut text)
        .hint_text("What should the picture not show?")
        .char_limit(MAX_CHARS)
        .align(egui::Align2::LEFT_CENTER)
        .desired_width(f32::INFINITY)
        .min_size(vec2(0.0, theme::CONTROL));
    let field = ui.add(field).accessible_name("Negative prompt");
    if field.changed() {
        commands.push(Command::SetNegativePrompt(text));
    }
}
