//! The shelf of LoRAs: a card for each, with its picture, its word and notes.

use std::path::PathBuf;

use eframe::egui::{self, Align, Layout, RichText, Ui, vec2};
use infinity_engine::api::LoraCard;

use super::Panel;
use crate::command::Command;
use crate::state::UiState;
use crate::theme::{self, Palette};
use crate::widgets::textures::Textures;

/// Width of a card.
const CARD: f32 = 208.0;
/// Height of a card's picture.
const PICTURE: f32 = 128.0;

/// The shelf.
#[derive(Default)]
pub struct LorasView {
    textures: Textures,
    /// What cards are looked for.
    search: String,
    /// Notes being typed, and the file they are for.
    typed: Option<(PathBuf, String)>,
}

impl Panel for LorasView {
    fn title(&self) -> &'static str {
        "LoRAs"
    }

    fn ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
        let Some(cards) = &state.loras else {
            return;
        };
        egui::Frame::new()
            .inner_margin(egui::Margin::same(16))
            .show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = theme::GAP;
                ui.horizontal(|ui| {
                    ui.spacing_mut().item_spacing.x = theme::GAP;
                    ui.label(RichText::new(self.title()).font(theme::semibold(theme::HEADING)));
                    let field = egui::TextEdit::singleline(&mut self.search)
                        .hint_text("Search names, words and notes")
                        .desired_width(240.0);
                    ui.add(field).accessible_name("Search LoRAs");
                    let open = Command::OpenLora;
                    let button = ui.button(open.text()).on_hover_text(open.tooltip());
                    if button.clicked() {
                        commands.push(open);
                    }
                });
                let folder = state.loras_folder().display().to_string();
                let told = if cards.is_empty() {
                    format!("No LoRA is in {folder} yet. Teach one, or put files there.")
                } else {
                    folder
                };
                ui.label(theme::caption_text(ui, told));
                egui::ScrollArea::vertical()
                    .auto_shrink(false)
                    .show(ui, |ui| {
                        let rows = Layout::left_to_right(Align::TOP).with_main_wrap(true);
                        ui.with_layout(rows, |ui| {
                            ui.spacing_mut().item_spacing = vec2(theme::GROUP, theme::GROUP);
                            for card in cards {
                                if !matches(card, &self.search) {
                                    continue;
                                }
                                let worn = state.draft.spec.loras.iter();
                                let worn = worn.into_iter().position(|lora| lora.path == card.path);
                                self.card_ui(ui, card, worn, commands);
                            }
                        });
                    });
            });
        self.textures.end_frame();
    }
}

impl LorasView {
    fn card_ui(
        &mut self,
        ui: &mut Ui,
        card: &LoraCard,
        worn: Option<usize>,
        commands: &mut Vec<Command>,
    ) {
        let palette = *Palette::of(ui);
        egui::Frame::new()
            .fill(palette.panel)
            .corner_radius(theme::RADIUS)
            .inner_margin(egui::Margin::same(8))
            .show(ui, |ui| {
                ui.set_width(CARD);
                ui.vertical(|ui| {
                    ui.spacing_mut().item_spacing.y = theme::STEP;
                    self.picture_ui(ui, card);
                    let name = RichText::new(&card.name).font(theme::semibold(theme::BODY));
                    ui.add(egui::Label::new(name).truncate())
                        .on_hover_text(card.path.display().to_string());
                    let trigger = if card.trigger.is_empty() {
                        "no word needed".to_owned()
                    } else {
                        format!("called up by {:?}", card.trigger)
                    };
                    ui.label(theme::caption_text(ui, trigger));
                    let facts = theme::caption_text(ui, facts(card));
                    ui.add(egui::Label::new(facts).truncate());
                    self.notes_ui(ui, card, commands);
                    match worn {
                        Some(index) => {
                            let button = ui.button("Take off");
                            let name = format!("Take off {} here", card.name);
                            if button.accessible_name(name).clicked() {
                                commands.push(Command::TakeOffLora(index));
                            }
                        }
                        None => {
                            let button = ui.button("Put on");
                            let name = format!("Put on {}", card.name);
                            if button.accessible_name(name).clicked() {
                                commands.push(Command::PutOnLora(card.path.clone()));
                            }
                        }
                    }
                });
            });
    }

    fn picture_ui(&mut self, ui: &mut Ui, card: &LoraCard) {
        let (place, _) = ui.allocate_exact_size(vec2(CARD, PICTURE), egui::Sense::hover());
        let palette = Palette::of(ui);
        let Some(image) = &card.picture else {
            ui.painter()
                .rect_filled(place, theme::RADIUS, palette.raised);
            let font = theme::caption();
            let align = egui::Align2::CENTER_CENTER;
            ui.painter()
                .text(place.center(), align, "no picture", font, palette.dim);
            return;
        };
        self.textures.paint_small(ui, image, place);
    }

    /// Notes; they are written beside the file when the field is left.
    fn notes_ui(&mut self, ui: &mut Ui, card: &LoraCard, commands: &mut Vec<Command>) {
        let mut notes = match &self.typed {
            Some((path, notes)) if *path == card.path => notes.clone(),
            _ => card.notes.clone(),
        };
        let field = egui::TextEdit::singleline(&mut notes)
            .font(theme::caption())
            .hint_text("notes")
            .desired_width(CARD - 16.0);
        let name = format!("Notes for {}", card.name);
        let field = ui.add(field).accessible_name(name);
        if field.changed() {
            self.typed = Some((card.path.clone(), notes.clone()));
        }
        if field.lost_focus() && notes != card.notes {
            commands.push(Command::SetLoraNotes(card.path.clone(), notes));
            self.typed = None;
        }
    }
}

/// Whether all of the words of `search` are somewhere on the card.
fn matches(card: &LoraCard, search: &str) -> bool {
    let all = [&card.name, &card.trigger, &card.notes, &card.base_name];
    let all = all.map(|text| text.to_lowercase()).join("\n");
    search
        .to_lowercase()
        .split_whitespace()
        .all(|word| all.contains(word))
}

/// `rank 16, 12 pictures, 300 steps, for Starter`.
fn facts(card: &LoraCard) -> String {
    let mut facts = Vec::new();
    for (count, word) in [(card.pictures as u64, "pictures"), (card.steps, "steps")] {
        if count > 0 {
            facts.push(format!("{count} {word}"));
        }
    }
    if card.rank > 0 {
        facts.insert(0, format!("rank {}", card.rank));
    }
    if !card.base_name.is_empty() {
        facts.push(format!("for {}", card.base_name));
    }
    facts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_found_by_any_word_on_them() {
        let card = LoraCard {
            path: PathBuf::new(),
            name: "Mills".to_owned(),
            trigger: "zwm".to_owned(),
            base_name: "Starter".to_owned(),
            rank: 8,
            pictures: 12,
            steps: 300,
            notes: "good at 0.8".to_owned(),
            picture: None,
        };
        assert!(matches(&card, "") && matches(&card, "mill GOOD") && matches(&card, "zwm"));
        assert!(!matches(&card, "mill bad"));
        assert_eq!(facts(&card), "rank 8, 12 pictures, 300 steps, for Starter");
    }
}
