//! One cell per scale, true to the shape of the picture, filled as it is drawn.

use eframe::egui::{
    self, Color32, Rect, Response, Role, Sense, Stroke, StrokeKind, TextureId, Ui, Vec2,
    WidgetInfo, vec2,
};

use crate::theme::Palette;

/// Height of the cells when there is room.
pub const HEIGHT: f32 = 48.0;
/// Distance between cells.
const GAP: f32 = 4.0;
/// Longest cell, as a multiple of its height.
const MAX_ASPECT: f32 = 2.0;

/// One scale.
pub struct Cell {
    /// Rows and columns of its token grid.
    pub grid: (usize, usize),
    /// The picture at this scale, once drawn.
    pub texture: Option<TextureId>,
    /// Whether it is being drawn.
    pub active: bool,
    /// Whether it is held large.
    pub held: bool,
}

/// What the user did with the strip.
#[derive(Default)]
pub struct StripResponse {
    /// The cell that was clicked.
    pub clicked: Option<usize>,
    /// The cell that was clicked with the other button.
    pub branched: Option<usize>,
    /// The drawn cell under the pointer.
    pub hovered: Option<usize>,
}

/// Shows the cells in one row; `aspect` is width over height of the picture.
pub fn ui(ui: &mut Ui, cells: &[Cell], aspect: f32) -> StripResponse {
    let mut answer = StripResponse::default();
    let available = ui.available_width();
    let count = cells.len().max(1) as f32;
    let aspect = aspect.clamp(1.0 / MAX_ASPECT, MAX_ASPECT);
    let widest = ((available - GAP * (count - 1.0)) / count).max(8.0);
    let width = (HEIGHT * aspect).min(widest).floor();
    let size = vec2(width, (width / aspect).min(HEIGHT).floor());
    let (area, _) = ui.allocate_exact_size(vec2(available, HEIGHT), Sense::hover());
    for (index, cell) in cells.iter().enumerate() {
        let x = area.left() + index as f32 * (size.x + GAP);
        let corner = egui::pos2(x, area.center().y - size.y / 2.0).round();
        let response = cell_ui(ui, Rect::from_min_size(corner, size), index, count, cell);
        if cell.texture.is_some() {
            if response.clicked() {
                answer.clicked = Some(index);
            }
            if response.secondary_clicked() {
                answer.branched = Some(index);
            }
            if response.hovered() {
                answer.hovered = Some(index);
            }
        }
    }
    answer
}

fn cell_ui(ui: &Ui, rect: Rect, index: usize, count: f32, cell: &Cell) -> Response {
    let palette = Palette::of(ui);
    let sense = if cell.texture.is_some() {
        Sense::click()
    } else {
        Sense::hover()
    };
    let response = ui.interact(rect, ui.scope_id().with(("scale", index)), sense);
    let painter = ui.painter();
    if let Some(texture) = cell.texture {
        let whole = Rect::from_min_size(egui::Pos2::ZERO, Vec2::splat(1.0));
        painter.image(texture, rect, whole, Color32::WHITE);
    } else {
        painter.rect_filled(rect, 2.0, palette.canvas);
    }
    let edge = if cell.held || cell.active || response.has_focus() {
        Some((palette.accent, if cell.held { 2.0 } else { 1.0 }))
    } else if cell.texture.is_some() && response.hovered() {
        Some((palette.text, 1.0))
    } else if cell.texture.is_none() {
        Some((palette.line, 1.0))
    } else {
        None
    };
    if let Some((colour, width)) = edge {
        let stroke = Stroke::new(width, colour);
        painter.rect_stroke(rect, 2.0, stroke, StrokeKind::Inside);
    }
    let (rows, columns) = cell.grid;
    let state = match (&cell.texture, cell.active) {
        (Some(_), _) => "",
        (None, true) => ", being drawn",
        (None, false) => ", not drawn yet",
    };
    let name = format!("Scale {} of {count}{state}", index + 1);
    response.widget_info(|| {
        let enabled = cell.texture.is_some();
        WidgetInfo::selected(Role::Button, enabled, cell.held, &name)
    });
    if rows > 0 {
        response.on_hover_text(format!("{name} · {columns} × {rows} tokens"))
    } else {
        response
    }
}
