//! One picture, fitted into a rectangle; the wheel zooms, dragging moves it.
//!
//! A double click fits it again.

use eframe::egui::{
    self, Color32, Rect, Response, Role, Sense, TextureId, Ui, Vec2, WidgetInfo, vec2,
};

/// Room left around a fitted picture, in points.
const MARGIN: f32 = 16.0;
/// A fitted picture is enlarged at most this much; more shows nothing but blur.
const MAX_FIT: f32 = 4.0;
/// Largest zoom over the fitted size.
const MAX_ZOOM: f32 = 16.0;

/// Zoom and place of a picture.
pub struct ImageView {
    zoom: f32,
    /// From the middle of the rectangle to the middle of the picture, in points.
    offset: Vec2,
    size_px: (u32, u32),
}

impl Default for ImageView {
    fn default() -> Self {
        Self {
            zoom: 1.0,
            offset: Vec2::ZERO,
            size_px: (0, 0),
        }
    }
}

impl ImageView {
    /// Shows `texture` at the size of the finished picture, whatever its own; says where it lies.
    pub fn ui(
        &mut self,
        ui: &mut Ui,
        rect: Rect,
        texture: TextureId,
        size_px: (u32, u32),
        label: &str,
    ) -> (Response, Rect) {
        if self.size_px != size_px {
            *self = Self {
                size_px,
                ..Self::default()
            };
        }
        let response = ui.allocate_rect(rect, Sense::click_and_drag());
        self.handle_input(ui, &response, rect);
        let fit = fitted(rect, size_px, ui.pixels_per_point());
        let place = Rect::from_center_size(fit.center() + self.offset, fit.size() * self.zoom);
        let painter = ui.painter_at(rect);
        let whole = Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0));
        painter.image(texture, place, whole, Color32::WHITE);
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, label));
        (response, place)
    }

    fn handle_input(&mut self, ui: &Ui, response: &Response, rect: Rect) {
        if response.double_clicked() {
            self.zoom = 1.0;
            self.offset = Vec2::ZERO;
        }
        if self.zoom > 1.0 {
            if response.dragged() {
                self.offset += response.drag_delta();
            }
            if response.hovered() {
                ui.ctx().set_cursor_icon(egui::CursorIcon::Grab);
            }
        }
        if let Some(pointer) = response.hover_pos() {
            let factor = ui
                .input(|input| input.zoom_delta() * (input.smooth_scroll_delta().y / 200.0).exp());
            let zoom = (self.zoom * factor).clamp(1.0, MAX_ZOOM);
            if zoom != self.zoom {
                // What lies under the pointer stays there.
                let from_middle = pointer - rect.center();
                self.offset = from_middle - (from_middle - self.offset) * (zoom / self.zoom);
                self.zoom = zoom;
            }
        }
        let reach = rect.size() * (self.zoom - 1.0) / 2.0 + vec2(1.0, 1.0);
        self.offset = if self.zoom > 1.0 {
            self.offset.clamp(-reach, reach)
        } else {
            Vec2::ZERO
        };
    }
}

/// Where a picture of `size_px` lies in `rect`: as large as sensible, on whole pixels.
pub fn fitted(rect: Rect, size_px: (u32, u32), pixels_per_point: f32) -> Rect {
    let room = (rect.size() - Vec2::splat(2.0 * MARGIN)).max(Vec2::splat(1.0)) * pixels_per_point;
    let (width, height) = (size_px.0.max(1) as f32, size_px.1.max(1) as f32);
    let most = if size_px.0.max(size_px.1) <= 1 {
        f32::INFINITY
    } else {
        MAX_FIT * pixels_per_point
    };
    let scale = (room.x / width).min(room.y / height).min(most);
    let size = (vec2(width, height) * scale).round() / pixels_per_point;
    let corner = (rect.center() - size / 2.0).to_vec2() * pixels_per_point;
    Rect::from_min_size((corner.round() / pixels_per_point).to_pos2(), size)
}
