//! What is set scale by scale: guidance, temperature, and a second prompt for the details.

use eframe::egui::{self, TextEdit, Ui};
use infinity_engine::api::Mode;

use super::prompt::lora_name;
use crate::command::Command;
use crate::state::UiState;
use crate::theme;
use crate::widgets::curve;

/// Most characters of a prompt.
const MAX_CHARS: usize = 8000;

/// Shows it.
pub fn ui(ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
    let count = state.scale_count();
    let spec = &state.draft.spec;
    let (cfg, tau) = (full(&spec.cfg, count), full(&spec.tau, count));
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = theme::GROUP;
        let width = ((ui.available_width() - 2.0 * theme::GROUP) / 3.0).clamp(150.0, 320.0);
        ui.vertical(|ui| {
            ui.set_width(width);
            ui.label(theme::caption_text(ui, "Follow the prompt, scale by scale"));
            let name = "Guidance per scale";
            if let Some(values) = curve::ui(ui, name, &cfg, 0.0..=10.0, width) {
                commands.push(Command::SetCfgCurve(shortest(values)));
            }
            ui.horizontal(|ui| {
                ui.spacing_mut().item_spacing.x = theme::STEP;
                for (preset, tip) in PRESETS {
                    let base = cfg.first().copied().unwrap_or(3.0);
                    if ui.small_button(preset).on_hover_text(tip).clicked() {
                        let values = preset_of(preset, base, count);
                        commands.push(Command::SetCfgCurve(shortest(values)));
                    }
                }
            });
        });
        ui.vertical(|ui| {
            ui.set_width(width);
            ui.label(theme::caption_text(ui, "Looseness, scale by scale"));
            let name = "Looseness per scale";
            if let Some(values) = curve::ui(ui, name, &tau, 0.05..=2.0, width) {
                commands.push(Command::SetTauCurve(shortest(values)));
            }
            ui.horizontal(|ui| {
                let flat = ui.small_button("Flat");
                let flat = flat.on_hover_text("The same for all scales.");
                if flat.accessible_name("Flat looseness").clicked() {
                    let first = tau.first().copied().unwrap_or(0.5);
                    commands.push(Command::SetTauCurve(vec![first]));
                }
                // Whole, or the slider's step would move it every frame.
                let mut percent = (100.0 * spec.variety()).round();
                ui.label(theme::caption_text(ui, format!("Variety {percent:.0} %")));
                ui.spacing_mut().slider_width = ui.available_width().clamp(40.0, 160.0);
                ui.spacing_mut().interact_size.y = 18.0;
                let slider = egui::Slider::new(&mut percent, 0.0..=100.0)
                    .step_by(5.0)
                    .show_value(false);
                let slider = ui.add(slider).on_hover_text(
                    "How different the pictures of one prompt are: where the model is too sure, it is made to doubt.",
                );
                if slider.accessible_name("Variety").changed() {
                    commands.push(Command::SetVariety(percent / 100.0));
                }
            });
        });
        ui.vertical(|ui| {
            detail_ui(ui, state, count, commands);
            products_ui(ui, state, commands);
        });
    });
    if !spec.loras.is_empty() {
        loras_ui(ui, state, count, commands);
    }
}

/// How strongly LoRAs count scale by scale.
fn loras_ui(ui: &mut Ui, state: &UiState, count: usize, commands: &mut Vec<Command>) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = theme::GROUP;
        for (index, lora) in state.draft.spec.loras.iter().enumerate() {
            let name = lora_name(lora);
            let values = if lora.by_scale.is_empty() {
                vec![1.0; count]
            } else {
                full(&lora.by_scale, count)
            };
            ui.vertical(|ui| {
                ui.set_width(150.0);
                let title = theme::caption_text(ui, format!("{name}, scale by scale"));
                ui.add(egui::Label::new(title).truncate());
                let label = format!("{name} per scale");
                if let Some(values) = curve::ui(ui, &label, &values, 0.0..=1.5, 150.0) {
                    commands.push(Command::SetLoraCurve(index, shortest_factors(values)));
                }
                ui.horizontal(|ui| {
                    ui.spacing_mut().item_spacing.x = theme::STEP;
                    for (preset, tip) in LORA_PRESETS {
                        let button = ui.small_button(preset).on_hover_text(tip);
                        if button
                            .accessible_name(format!("{preset} of {name}"))
                            .clicked()
                        {
                            let values = lora_preset(preset, count);
                            commands.push(Command::SetLoraCurve(index, shortest_factors(values)));
                        }
                    }
                });
            });
        }
    });
}

/// Curves of a LoRA by name.
const LORA_PRESETS: [(&str, &str); 3] = [
    ("All", "The same for all scales."),
    ("Layout", "Only for the coarse scales: what is where."),
    ("Details", "Only for the fine scales: how it looks."),
];

fn lora_preset(name: &str, count: usize) -> Vec<f32> {
    let coarse = count.div_ceil(2);
    (0..count)
        .map(|index| match name {
            "Layout" => f32::from(u8::from(index < coarse)),
            "Details" => f32::from(u8::from(index >= coarse)),
            _ => 1.0,
        })
        .collect()
}

/// Nothing when all factors are 1.
fn shortest_factors(values: Vec<f32>) -> Vec<f32> {
    if values.iter().all(|&value| value == 1.0) {
        Vec::new()
    } else {
        values
    }
}

/// Rounded products, where the device can do them.
fn products_ui(ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
    if !state
        .device
        .as_ref()
        .is_some_and(|device| device.half_products)
    {
        return;
    }
    let mut half = state.draft.spec.half_products;
    ui.spacing_mut().interact_size.y = 18.0;
    let field = ui.checkbox(&mut half, "Quick products").on_hover_text(
        "Multiplies rounded numbers: quicker on the processor (bf16), not yet tried on a real graphics card (f16). Where the model was in doubt, the picture may differ from the exact one.",
    );
    if field.changed() {
        commands.push(Command::SetHalfProducts(half));
    }
}

/// The prompt that takes over for the details.
fn detail_ui(ui: &mut Ui, state: &UiState, count: usize, commands: &mut Vec<Command>) {
    let spec = &state.draft.spec;
    ui.label(theme::caption_text(ui, "Another prompt for the details"));
    let mut text = spec.detail_prompt.clone();
    let field = TextEdit::singleline(&mut text)
        .hint_text("The same prompt")
        .char_limit(MAX_CHARS)
        .desired_width(f32::INFINITY)
        .min_size(egui::vec2(0.0, theme::CONTROL));
    let field = ui.add(field).accessible_name("Prompt for the details");
    if field.changed() {
        commands.push(Command::SetDetailPrompt(text));
    }
    if spec.detail_prompt.trim().is_empty() {
        ui.label(theme::caption_text(
            ui,
            "One prompt can make the layout, another one the details.",
        ));
        return;
    }
    let mut from = spec.detail_from + 1;
    let slider = egui::Slider::new(&mut from, 1..=count).text("takes over at scale");
    let slider = ui
        .add(slider)
        .on_hover_text("Coarser scales follow the first prompt.");
    if slider
        .accessible_name("Details take over at scale")
        .changed()
    {
        commands.push(Command::SetDetailFrom(from - 1));
    }
}

/// Guidance curves by name.
const PRESETS: [(&str, &str); 4] = [
    ("Exact", "As the paper draws: the same for all scales."),
    (
        "Balanced",
        "None for the last quarter of the scales, which follow what is there: quicker, livelier details.",
    ),
    (
        "Draft",
        "None for the last half of the scales: quicker still.",
    ),
    ("Strong start", "Much for the layout, less for the details."),
];

fn preset_of(name: &str, base: f32, count: usize) -> Vec<f32> {
    if let Some(mode) = Mode::from_name(&name.to_lowercase()) {
        return full(&mode.guidance(&[base], count), count);
    }
    let place = |index: usize| index as f32 / (count.max(2) - 1) as f32;
    let from = (1.5 * base).min(10.0);
    (0..count)
        .map(|index| from + place(index) * (0.6 * base - from))
        .collect()
}

/// One value per scale.
fn full(values: &[f32], count: usize) -> Vec<f32> {
    let last = values.last().copied().unwrap_or(1.0);
    let list = values.iter().copied().chain(std::iter::repeat(last));
    list.take(count).collect()
}

/// One value when all are alike.
fn shortest(values: Vec<f32>) -> Vec<f32> {
    match values.first() {
        Some(first) if values.iter().all(|value| value == first) => vec![*first],
        _ => values,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_what_they_say() {
        assert_eq!(preset_of("Exact", 3.0, 5), [3.0; 5]);
        assert_eq!(preset_of("Balanced", 3.0, 5), [3.0, 3.0, 3.0, 1.0, 1.0]);
        let strong = preset_of("Strong start", 4.0, 5);
        assert!(
            strong.windows(2).all(|pair| pair[0] > pair[1]),
            "{strong:?}"
        );
        assert_eq!(preset_of("Strong start", 4.0, 1), [6.0]);
        assert_eq!(full(&[2.0], 3), [2.0; 3]);
        assert_eq!(full(&[2.0, 3.0, 4.0], 2), [2.0, 3.0]);
        assert_eq!(shortest(vec![2.0, 2.0]), [2.0]);
        assert_eq!(lora_preset("Layout", 5), [1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(lora_preset("Details", 4), [0.0, 0.0, 1.0, 1.0]);
        assert!(shortest_factors(lora_preset("All", 3)).is_empty());
    }
}
