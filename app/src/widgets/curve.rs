//! One value per scale as bars that are dragged.

use eframe::egui::{self, Rect, Role, Sense, Ui, WidgetInfo, vec2};

use crate::theme::Palette;

/// Height of the bars.
pub const HEIGHT: f32 = 56.0;
/// Distance between bars.
const GAP: f32 = 2.0;

/// Shows `values` between 0 and `most`; returns them when one was moved.
pub fn ui(
    ui: &mut Ui,
    name: &str,
    values: &[f32],
    range: std::ops::RangeInclusive<f32>,
    width: f32,
) -> Option<Vec<f32>> {
    let palette = Palette::of(ui);
    let (area, response) = ui.allocate_exact_size(vec2(width, HEIGHT), Sense::click_and_drag());
    let count = values.len().max(1);
    let each = (width + GAP) / count as f32;
    let (least, most) = (*range.start(), *range.end());
    let mut moved = None;
    if let Some(pointer) = response.interact_pointer_pos()
        && (response.dragged() || response.clicked())
    {
        let index = ((pointer.x - area.left()) / each).floor().max(0.0) as usize;
        let share = ((area.bottom() - pointer.y) / HEIGHT).clamp(0.0, 1.0);
        let mut changed = values.to_vec();
        if let Some(value) = changed.get_mut(index.min(count - 1)) {
            *value = ((least + share * (most - least)) * 20.0).round() / 20.0;
            *value = value.clamp(least, most);
        }
        if changed != values {
            moved = Some(changed);
        }
    }
    let painter = ui.painter();
    for (index, &value) in values.iter().enumerate() {
        let left = area.left() + index as f32 * each;
        let share = ((value - least) / (most - least)).clamp(0.0, 1.0);
        let back = Rect::from_min_size(egui::pos2(left, area.top()), vec2(each - GAP, HEIGHT));
        painter.rect_filled(back, 2.0, palette.raised);
        let bar = Rect::from_min_max(
            egui::pos2(left, area.bottom() - (share * HEIGHT).max(2.0)),
            egui::pos2(left + each - GAP, area.bottom()),
        );
        let colour = if response.hovered() {
            palette.accent
        } else {
            palette.accent.gamma_multiply(0.8)
        };
        painter.rect_filled(bar, 2.0, colour);
    }
    response.widget_info(|| {
        let text: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
        let mut info = WidgetInfo::labeled(Role::Slider, true, name);
        info.current_text_value = Some(text.join(", "));
        info
    });
    let list: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
    response.on_hover_text(format!("Coarse to fine: {}. Drag a bar.", list.join(", ")));
    moved
}
