//! Below the picture: what is happening to it, and the strip of its scales.
//!
//! One line of text with the progress or the facts of the finished picture,
//! then one cell per scale. The height never changes.

use eframe::egui::{self, Align, Layout, Rect, Role, Sense, WidgetInfo, vec2};

use super::{Panel, edit, secs_text, tooltip};
use crate::command::Command;
use crate::state::{Ancestor, Bond, Picture, Saved, UiState, Work};
use crate::theme::{self, Palette, icons};
use crate::widgets::scale_strip::{self, Cell};
use crate::widgets::textures::Textures;

/// Height of the whole panel.
pub const HEIGHT: f32 = 8.0 + theme::CONTROL + 4.0 + scale_strip::HEIGHT + 12.0;
/// Pixels of the longer side of a cell's texture, enough for a sharp display.
const CELL_PX: u32 = 192;

/// The line of facts and the strip.
#[derive(Default)]
pub struct Scales {
    textures: Textures,
}

impl Panel for Scales {
    fn title(&self) -> &'static str {
        "Scales"
    }

    fn ui(&mut self, ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
        let panel = ui.max_rect().expand2(vec2(theme::GROUP, 0.0));
        theme::top_line(ui, panel);
        if let Some(work) = &state.work {
            progress_ui(ui, panel, work);
        }
        ui.add_space(8.0);
        let line = vec2(ui.available_width(), theme::CONTROL);
        ui.spacing_mut().item_spacing.y = 4.0;
        ui.allocate_ui_with_layout(line, Layout::right_to_left(Align::Center), |ui| {
            ui.set_min_size(line);
            line_ui(ui, state, commands);
        });
        self.strip_ui(ui, state, commands);
        self.textures.end_frame();
    }
}

impl Scales {
    fn strip_ui(&mut self, ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
        let (schedule, scales) = state.shown_scales();
        let empty = state.model.as_ref().map_or(0, |model| model.scale_count);
        let count = match schedule.len().max(scales.len()) {
            0 => empty,
            count => count,
        };
        let active = state.shown_work().map(|_| scales.len());
        let cells: Vec<Cell> = (0..count)
            .map(|index| Cell {
                grid: schedule.get(index).copied().unwrap_or((0, 0)),
                texture: scales
                    .get(index)
                    .map(|image| self.textures.small(ui.ctx(), image, CELL_PX)),
                active: active == Some(index),
                held: state.held_scale == Some(index),
            })
            .collect();
        let answer = scale_strip::ui(ui, &cells, aspect(state));
        if answer.hovered != state.peeked_scale {
            commands.push(Command::PeekScale(answer.hovered));
        }
        if let Some(index) = answer.branched
            && state.shown_picture().is_some_and(Picture::is_drawn)
            && index + 1 < count
        {
            commands.push(Command::KeepScales(index + 1));
        }
        if let Some(index) = answer.clicked {
            // A second click, or one on the last scale, shows the picture again.
            let is_last = index + 1 == count && state.shown_work().is_none();
            let release = is_last || state.held_scale == Some(index);
            commands.push(Command::ShowScale((!release).then_some(index)));
        }
    }
}

/// Width over height of what is shown, or will be.
fn aspect(state: &UiState) -> f32 {
    let (width, height) = if let Some(work) = state.shown_work() {
        work.size_px
    } else if let Some(picture) = state.shown_picture() {
        (picture.image.width, picture.image.height)
    } else {
        state.draft_size_px().unwrap_or((1, 1))
    };
    width.max(1) as f32 / height.max(1) as f32
}

fn progress_ui(ui: &egui::Ui, panel: Rect, work: &Work) {
    let share = work.share_done();
    let bar = Rect::from_min_size(panel.min, vec2(panel.width(), 2.0));
    let done = Rect::from_min_size(panel.min, vec2(panel.width() * share, 2.0));
    ui.painter().rect_filled(done, 0.0, Palette::of(ui).accent);
    let response = ui.interact(bar, ui.scope_id().with("progress"), Sense::hover());
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, "Progress");
        info.value = Some(f64::from(share));
        info
    });
}

/// The line, filled from its right end.
fn line_ui(ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
    if let Some(picture) = state.shown_picture() {
        if state.edit.is_none() {
            edit::open_button_ui(ui, commands);
        }
        for command in [Command::Save, Command::ReuseSettings] {
            if command == Command::ReuseSettings && !picture.is_drawn() {
                continue;
            }
            let icon = match command {
                Command::Save => icons::SAVE,
                _ => icons::SLIDERS,
            };
            let icon = theme::icon(icon, theme::ICON);
            let button = egui::Button::new((icon, command.text())).frame_when_inactive(false);
            let button = ui.add(button).on_hover_text(tooltip(ui, &command));
            if button.accessible_name(command.text()).clicked() {
                commands.push(command);
            }
        }
        if let (Some(held), Some(_)) = (state.held_scale, &picture.spec.bits)
            && held + 1 < picture.schedule.len()
        {
            let keep = Command::KeepScales(held + 1);
            let button = ui.button(keep.text()).on_hover_text(keep.tooltip());
            if button.clicked() {
                commands.push(keep);
            }
        }
        more_ui(ui, picture, state, commands);
        waiting_ui(ui, state, commands);
        let facts = facts(picture, state);
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            let facts_text = egui::RichText::new(&facts).color(Palette::of(ui).dim);
            let label = ui.add(egui::Label::new(facts_text).truncate());
            let mut more = family_text(&picture.ancestors);
            if let Saved::In(path) = &picture.saved {
                more = format!("{}\n{more}", path.display());
            }
            if !more.is_empty() {
                label.on_hover_text(more.trim_end());
            }
        });
        return;
    }
    waiting_ui(ui, state, commands);
    ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
        let text = match (state.shown_work(), state.waiting.is_empty()) {
            (Some(work), _) => progress_text(work, state.now),
            (None, false) if state.loading => "Waiting for the model".to_owned(),
            (None, false) => "Starting".to_owned(),
            (None, true) => "Pictures are drawn scale by scale, from coarse to fine.".to_owned(),
        };
        let text = egui::RichText::new(text).color(Palette::of(ui).dim);
        ui.add(egui::Label::new(text).truncate());
    });
}

/// What else can be done with the shown picture.
fn more_ui(ui: &mut egui::Ui, picture: &Picture, state: &UiState, commands: &mut Vec<Command>) {
    if state.edit.is_some() {
        return;
    }
    let quiet = |text: &'static str| egui::Button::new(text).frame_when_inactive(false);
    if state.held_scale.is_none() && picture.is_drawn() {
        let half = (picture.spec.scale_count.unwrap_or(2) / 2).max(1);
        let more = ui.add(quiet("More like this")).on_hover_text(
            "The next pictures keep half of the scales of this one: same layout, other details.",
        );
        if more.clicked() {
            commands.push(Command::KeepScales(half));
        }
    }
    if picture.doubt.is_some() {
        let shown = state.show_doubt;
        let doubt = ui.selectable_label(shown, "Unsure");
        let doubt = doubt.on_hover_text("Show where the model was unsure of what it drew.");
        if doubt.clicked() {
            commands.push(Command::SetShowDoubt(!shown));
        }
    }
    if state.drafts.as_ref().is_some_and(|drafts| !drafts.open) {
        let back = Command::SetDraftsOpen(true);
        let button = ui.add(quiet(back.text())).on_hover_text(back.tooltip());
        if button.clicked() {
            commands.push(back);
        }
    }
}

fn waiting_ui(ui: &mut egui::Ui, state: &UiState, commands: &mut Vec<Command>) {
    if state.work.is_none() || state.waiting.is_empty() {
        return;
    }
    let command = Command::ClearQueue;
    let close = theme::icon_button(ui, icons::CLOSE, false).on_hover_text(command.tooltip());
    if close.accessible_name(command.text()).clicked() {
        commands.push(command);
    }
    ui.label(format!("{} waiting", state.waiting.len()));
}

fn progress_text(work: &Work, now: f64) -> String {
    let (scale, count) = work.scale_of();
    if work.stopping {
        return format!("Stopping after scale {scale} of {count}");
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "seconds of one picture, shown with one decimal"
    )]
    let elapsed = (now - work.started_at) as f32;
    format!("Scale {scale} of {count} · {}", secs_text(elapsed))
}

/// What a picture has of the one before it.
fn bond_text(ancestor: &Ancestor) -> String {
    match ancestor.bond {
        Bond::Scales(1) => "keeps the first scale of another".to_owned(),
        Bond::Scales(count) => format!("keeps {count} scales of another"),
        Bond::Outside => "a part of another changed".to_owned(),
    }
}

/// The pictures a picture came from, nearest first, a line each.
fn family_text(ancestors: &[Ancestor]) -> String {
    let line = |ancestor: &Ancestor| {
        let changed = match ancestor.changed.as_slice() {
            [] => String::new(),
            changed => format!("; changed: {}", changed.join(", ")),
        };
        format!(
            "{}: “{}”, seed {}{changed}",
            bond_text(ancestor),
            ancestor.prompt,
            ancestor.seed
        )
    };
    let lines: Vec<String> = ancestors.iter().map(line).collect();
    lines.join("\n")
}

fn facts(picture: &Picture, state: &UiState) -> String {
    let image = &picture.image;
    if let Some(index) = state.peeked_scale.or(state.held_scale)
        && let Some((rows, columns)) = picture.schedule.get(index)
    {
        let count = picture.schedule.len();
        return format!("Scale {} of {count} · {columns} × {rows} tokens", index + 1);
    }
    let mut facts = format!("{} × {} px", image.width, image.height);
    if picture.is_drawn() {
        facts.push_str(&format!(" · seed {}", picture.spec.seed));
    }
    if picture.elapsed_secs > 0.0 {
        facts.push_str(&format!(" · {}", secs_text(picture.elapsed_secs)));
    }
    if let Some(nearest) = picture.ancestors.first() {
        let generations = picture.ancestors.len();
        facts.push_str(&format!(" · {}", bond_text(nearest)));
        if generations > 1 {
            facts.push_str(&format!(", {generations} generations"));
        }
    }
    match &picture.saved {
        Saved::No => facts.push_str(" · not saved"),
        Saved::Writing => facts.push_str(" · saving"),
        Saved::In(path) => {
            let name = path.file_name().unwrap_or(path.as_os_str());
            facts.push_str(" · saved as ");
            facts.push_str(&name.to_string_lossy());
        }
    }
    facts
}
