//! Changing a part of a picture: tools above the canvas, the mask painted on it.

use eframe::egui::{
    self, Align, Color32, ColorImage, CursorIcon, Layout, Rect, Role, Sense, Stroke, TextureHandle,
    TextureOptions, Ui, WidgetInfo, pos2, vec2,
};
use infinity_engine::api::Sides;

use super::{Panel, tooltip};
use crate::command::Command;
use crate::state::{Edit, MaskEdit, UiState};
use crate::theme::{self, Palette, icons};
use crate::widgets::image_view::fitted;
use crate::widgets::textures::Textures;

/// Height of the tools.
pub const HEIGHT: f32 = theme::CONTROL + 2.0 * theme::GAP;
/// Longest side of the painted layer on the graphics card.
const LAYER_PX: usize = 512;

/// The tools.
#[derive(Default)]
pub struct EditTools;

impl Panel for EditTools {
    fn title(&self) -> &'static str {
        "Change a part"
    }

    fn ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
        let Some(edit) = &state.edit else {
            return;
        };
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.spacing_mut().item_spacing.x = theme::GAP;
            let done = Command::SetEditOpen(false);
            if ui
                .button(done.text())
                .on_hover_text(done.tooltip())
                .clicked()
            {
                commands.push(done);
            }
            if edit.show_result {
                let go_on = Command::EditResult;
                if ui
                    .button(go_on.text())
                    .on_hover_text(go_on.tooltip())
                    .clicked()
                {
                    commands.push(go_on);
                }
            }
            result_ui(ui, edit, state, commands);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                tools_ui(ui, edit, commands);
            });
        });
    }
}

/// Mask or result.
fn result_ui(ui: &mut Ui, edit: &Edit, state: &UiState, commands: &mut Vec<Command>) {
    let shown = state.shown_picture();
    let has_result = shown.is_some_and(|picture| picture.parent == Some(edit.parent));
    if !has_result {
        return;
    }
    for (result, name) in [(true, "Result"), (false, "Mask")] {
        if ui
            .selectable_label(edit.show_result == result, name)
            .clicked()
        {
            commands.push(Command::EditMask(MaskEdit::ShowResult(result)));
        }
    }
}

fn tools_ui(ui: &mut Ui, edit: &Edit, commands: &mut Vec<Command>) {
    let mut send = |change: MaskEdit| commands.push(Command::EditMask(change));
    for (erase, icon, name) in [
        (false, icons::BRUSH, "Brush"),
        (true, icons::ERASER, "Eraser"),
    ] {
        let button = theme::icon_button(ui, icon, edit.erase == erase).on_hover_text(if erase {
            "Eraser: what is rubbed out is kept as it is."
        } else {
            "Brush: what is painted over is drawn anew."
        });
        if button.accessible_name(name).clicked() {
            send(MaskEdit::Erase(erase));
        }
    }
    let short = edit.picture.width.min(edit.picture.height) as f32;
    let mut brush = edit.brush;
    let size = egui::DragValue::new(&mut brush)
        .range(0.5..=short)
        .speed(short / 400.0)
        .max_decimals(0)
        .prefix("Size ")
        .suffix(" px");
    if ui
        .add(size)
        .on_hover_text("Radius of the brush; the wheel changes it too.")
        .changed()
    {
        send(MaskEdit::Brush(brush));
    }
    let mut feather = edit.feather;
    let edge = egui::DragValue::new(&mut feather)
        .range(0..=(short / 4.0) as u32)
        .speed(0.1)
        .prefix("Soft edge ")
        .suffix(" px");
    if ui
        .add(edge)
        .on_hover_text("Over so many pixels inside of the mask, old and new are mixed.")
        .changed()
    {
        send(MaskEdit::Feather(feather));
    }
    for (change, name, tip) in [
        (
            MaskEdit::Invert,
            "Invert",
            "Keep what is painted, draw the rest anew.",
        ),
        (MaskEdit::Clear, "Clear", "Paint nothing."),
    ] {
        if ui.button(name).on_hover_text(tip).clicked() {
            send(change);
        }
    }
    let unsure = ui.add_enabled(edit.doubt.is_some(), egui::Button::new("Unsure parts"));
    let unsure = unsure
        .on_hover_text("Paint over the quarter of the picture the model was least sure of.")
        .on_disabled_hover_text(
            "How sure the model was is known for pictures drawn in this session.",
        );
    if unsure.clicked() {
        send(MaskEdit::Doubtful);
    }
    sides_ui(ui, edit, commands);
}

/// Space around the picture.
fn sides_ui(ui: &mut Ui, edit: &Edit, commands: &mut Vec<Command>) {
    let mut sides = edit.sides;
    let used = sides != Sides::default();
    let mut text = egui::RichText::new("Add space");
    if used {
        text = text.color(Palette::of(ui).accent);
    }
    let button = ui.button((text, theme::icon(icons::CARET_DOWN, 12.0)));
    let button = button.accessible_name("Add space");
    let closing = egui::PopupCloseBehavior::CloseOnClickOutside;
    let most = 2 * edit.picture.width.max(edit.picture.height);
    egui::Popup::menu(&button)
        .close_behavior(closing)
        .show(|ui| {
            ui.reset_style();
            let mut changed = false;
            for (value, name) in [
                (&mut sides.left, "Left"),
                (&mut sides.top, "Above"),
                (&mut sides.right, "Right"),
                (&mut sides.bottom, "Below"),
            ] {
                ui.horizontal(|ui| {
                    ui.allocate_ui(vec2(56.0, theme::CONTROL), |ui| {
                        ui.set_min_width(56.0);
                        ui.label(name);
                    });
                    let field = egui::DragValue::new(value)
                        .range(0..=most)
                        .speed(most as f32 / 400.0)
                        .suffix(" px");
                    let field = ui.add_sized([80.0, theme::CONTROL], field);
                    changed |= field.accessible_name(format!("Space {name}")).changed();
                });
            }
            ui.label(theme::caption_text(
                ui,
                "The picture itself stays as it is.",
            ));
            if changed {
                commands.push(Command::EditMask(MaskEdit::Sides(sides)));
            }
        });
}

/// The picture with its mask.
#[derive(Default)]
pub struct EditView {
    textures: Textures,
    layer: Option<(u64, TextureHandle)>,
    last: Option<(f32, f32)>,
}

impl Panel for EditView {
    fn title(&self) -> &'static str {
        "Mask"
    }

    fn ui(&mut self, ui: &mut Ui, state: &UiState, commands: &mut Vec<Command>) {
        let Some(edit) = &state.edit else {
            return;
        };
        let canvas = ui.max_rect();
        let Sides {
            left,
            top,
            right,
            bottom,
        } = edit.sides;
        let (width, height) = (edit.picture.width, edit.picture.height);
        let whole = fitted(
            canvas,
            (width + left + right, height + top + bottom),
            ui.pixels_per_point(),
        );
        let point = whole.width() / (width + left + right) as f32;
        let corner = whole.min + vec2(left as f32, top as f32) * point;
        let place = Rect::from_min_size(corner, vec2(width as f32, height as f32) * point);
        let response = ui.allocate_rect(canvas, Sense::click_and_drag());
        let painter = ui.painter_at(canvas);
        let palette = Palette::of(ui);
        painter.rect_filled(whole, 0.0, palette.accent.gamma_multiply(0.25));
        let all = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        let texture = self.textures.full(ui.ctx(), &edit.picture);
        painter.image(texture, place, all, Color32::WHITE);
        let layer = self.layer(ui, edit);
        painter.image(layer, place, all, Color32::WHITE);
        response.widget_info(|| {
            WidgetInfo::labeled(
                Role::Image,
                true,
                "Mask: paint over what is to be drawn anew",
            )
        });
        self.handles_ui(ui, (whole, point), edit, commands);
        let to_pixel = |at: egui::Pos2| {
            let from = (at - place.min) / point;
            (from.x, from.y)
        };
        if let Some(at) = response.hover_pos() {
            ui.ctx().set_cursor_icon(CursorIcon::Crosshair);
            let ring = Stroke::new(
                1.5,
                if edit.erase {
                    palette.text
                } else {
                    palette.accent
                },
            );
            painter.circle_stroke(at, edit.brush * point, ring);
            let wheel = ui.input(|input| input.smooth_scroll_delta().y);
            if wheel != 0.0 {
                let most = width.min(height) as f32;
                let brush = (edit.brush * (wheel / 200.0).exp()).clamp(0.5, most);
                commands.push(Command::EditMask(MaskEdit::Brush(brush)));
            }
        }
        let down = response.dragged() || response.clicked() || response.is_pointer_button_down_on();
        match response.interact_pointer_pos().filter(|_| down) {
            Some(at) => {
                let to = to_pixel(at);
                let from = self.last.unwrap_or(to);
                if self.last != Some(to) {
                    commands.push(Command::EditMask(MaskEdit::Stroke { from, to }));
                }
                self.last = Some(to);
            }
            None => self.last = None,
        }
        self.textures.end_frame();
    }
}

impl EditView {
    /// Handles in the middle of the sides, to be dragged outwards for more space.
    fn handles_ui(
        &self,
        ui: &Ui,
        (whole, point): (Rect, f32),
        edit: &Edit,
        commands: &mut Vec<Command>,
    ) {
        let palette = Palette::of(ui);
        let places = [
            ("left", whole.left_center(), vec2(-1.0, 0.0)),
            ("above", whole.center_top(), vec2(0.0, -1.0)),
            ("right", whole.right_center(), vec2(1.0, 0.0)),
            ("below", whole.center_bottom(), vec2(0.0, 1.0)),
        ];
        for (index, (name, at, outwards)) in places.into_iter().enumerate() {
            let across = outwards.x != 0.0;
            let size = if across {
                vec2(8.0, 40.0)
            } else {
                vec2(40.0, 8.0)
            };
            let handle = Rect::from_center_size(at, size);
            let id = ui.scope_id().with(("space", index));
            let response = ui.interact(handle.expand(6.0), id, Sense::drag());
            let lit = response.hovered() || response.dragged();
            let colour = if lit { palette.accent } else { palette.dim };
            ui.painter().rect_filled(handle, 4.0, colour);
            if lit {
                ui.ctx().set_cursor_icon(if across {
                    CursorIcon::ResizeHorizontal
                } else {
                    CursorIcon::ResizeVertical
                });
            }
            let delta = response.drag_delta().dot(outwards) / point;
            if delta != 0.0 {
                let mut sides = edit.sides;
                let side = match index {
                    0 => &mut sides.left,
                    1 => &mut sides.top,
                    2 => &mut sides.right,
                    _ => &mut sides.bottom,
                };
                *side = (*side as f32 + delta).round().max(0.0) as u32;
                commands.push(Command::EditMask(MaskEdit::Sides(sides)));
            }
            response.widget_info(|| {
                WidgetInfo::labeled(Role::Button, true, format!("Add space {name}"))
            });
        }
    }

    /// What is painted, as a see-through layer.
    fn layer(&mut self, ui: &Ui, edit: &Edit) -> egui::TextureId {
        if let Some((version, texture)) = &self.layer
            && *version == edit.version
        {
            return texture.id();
        }
        let (width, height) = (edit.picture.width as usize, edit.picture.height as usize);
        let shrink = width.max(height).div_ceil(LAYER_PX).max(1);
        let size = [width.div_ceil(shrink), height.div_ceil(shrink)];
        let colour = Palette::of(ui).accent.gamma_multiply(0.55);
        let pixels = (0..size[1]).flat_map(|y| (0..size[0]).map(move |x| (x, y)));
        let pixels = pixels.map(|(x, y)| {
            let (x, y) = ((x * shrink).min(width - 1), (y * shrink).min(height - 1));
            if edit.painted[y * width + x] > 0 {
                colour
            } else {
                Color32::TRANSPARENT
            }
        });
        let image = ColorImage::new(size, pixels.collect());
        let options = TextureOptions::LINEAR;
        let texture = ui.ctx().load_texture("mask", image, options);
        let id = texture.id();
        self.layer = Some((edit.version, texture));
        id
    }
}

/// The button that begins changing a part.
pub fn open_button_ui(ui: &mut Ui, commands: &mut Vec<Command>) {
    let open = Command::SetEditOpen(true);
    let icon = theme::icon(icons::BRUSH, theme::ICON);
    let button = egui::Button::new((icon, open.text())).frame_when_inactive(false);
    let button = ui.add(button).on_hover_text(tooltip(ui, &open));
    if button.accessible_name(open.text()).clicked() {
        commands.push(open);
    }
}
