//! A row of little frames, each drawn to the shape of a picture.
//!
//! The chosen one is filled; its size in pixels stands below it.

use eframe::egui::{
    self, Align2, Rect, Response, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, vec2,
};
use infinity_engine::api::RatioInfo;

use crate::theme::{self, Palette};

/// Width of one frame's place.
const PLACE: f32 = 32.0;
/// Height of the frames' places.
const HEIGHT: f32 = 44.0;
/// Most frames in the row.
const MOST: usize = 7;
/// Shapes people ask for, height over width.
const USUAL: [f32; MOST] = [
    9.0 / 16.0,
    2.0 / 3.0,
    3.0 / 4.0,
    1.0,
    4.0 / 3.0,
    3.0 / 2.0,
    16.0 / 9.0,
];

/// The frames to show, wide to tall: the usual shapes a model has, and the chosen one.
pub fn choices(ratios: &[RatioInfo], chosen: f32) -> Vec<RatioInfo> {
    let mut picked: Vec<RatioInfo> = if ratios.len() <= MOST {
        ratios.to_vec()
    } else {
        let mut picked: Vec<RatioInfo> = Vec::new();
        for usual in USUAL {
            let nearest = ratios.iter().min_by(|a, b| {
                let distance = |info: &RatioInfo| (info.ratio / usual).ln().abs();
                distance(a).total_cmp(&distance(b))
            });
            if let Some(info) = nearest
                && !picked.contains(info)
            {
                picked.push(info.clone());
            }
        }
        let chosen = ratios.iter().find(|info| info.ratio == chosen);
        if let Some(info) = chosen.filter(|info| !picked.contains(info)) {
            picked.push(info.clone());
        }
        picked
    };
    picked.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    picked
}

/// Width of the row with so many frames.
pub fn width(count: usize) -> f32 {
    count as f32 * PLACE
}

/// Shows the frames; returns the ratio that was clicked.
pub fn ui(ui: &mut Ui, choices: &[RatioInfo], chosen: f32) -> Option<f32> {
    let size = vec2(width(choices.len()), HEIGHT + 20.0);
    let (area, _) = ui.allocate_exact_size(size, Sense::hover());
    let mut clicked = None;
    for (index, info) in choices.iter().enumerate() {
        let corner = area.min + vec2(index as f32 * PLACE, 0.0);
        let place = Rect::from_min_size(corner, vec2(PLACE, HEIGHT));
        let is_chosen = info.ratio == chosen;
        if frame_ui(ui, place, info, is_chosen).clicked() {
            clicked = Some(info.ratio);
        }
        if is_chosen {
            size_text(ui, area, place, info);
        }
    }
    clicked
}

fn frame_ui(ui: &Ui, place: Rect, info: &RatioInfo, is_chosen: bool) -> Response {
    let name = format!("{} ({} × {})", ratio_name(info), info.width, info.height);
    let id = ui.scope_id().with(("ratio", info.width, info.height));
    let response = ui.interact(place, id, Sense::click());
    let palette = Palette::of(ui);
    // Frames of equal area, so that none looks more important.
    let area = 20.0_f32 * 20.0;
    let width = (area / info.ratio.max(0.01)).sqrt().min(PLACE - 4.0);
    let height = (width * info.ratio).min(HEIGHT - 4.0);
    let size = vec2(height / info.ratio.max(0.01), height).round();
    let corner = (place.center() - size / 2.0).round();
    let frame = Rect::from_min_size(corner, size);
    let (fill, edge) = match (is_chosen, response.hovered()) {
        (true, _) => (palette.accent.gamma_multiply(0.25), palette.accent),
        (false, true) => (palette.hover, palette.text),
        (false, false) => (palette.raised, palette.dim.gamma_multiply(0.7)),
    };
    if response.has_focus() {
        let ring = Stroke::new(1.0, palette.accent);
        let rounding = f32::from(theme::RADIUS);
        ui.painter()
            .rect_stroke(place.shrink(1.0), rounding, ring, StrokeKind::Inside);
    }
    ui.painter()
        .rect(frame, 2.0, fill, Stroke::new(1.0, edge), StrokeKind::Inside);
    response.widget_info(|| {
        WidgetInfo::selected(Role::RadioButton, true, is_chosen, format!("Ratio {name}"))
    });
    response.on_hover_text(name)
}

fn size_text(ui: &Ui, area: Rect, place: Rect, info: &RatioInfo) {
    let palette = Palette::of(ui);
    let text = format!("{} × {}", info.width, info.height);
    let galley = ui
        .painter()
        .layout_no_wrap(text, theme::caption(), palette.dim);
    let half = galley.size().x / 2.0;
    let (least, most) = (area.left() + half, area.right() - half);
    let x = place.center().x.min(most).max(least);
    let at = Align2::CENTER_TOP.anchor_size(egui::pos2(x, place.bottom() + 2.0), galley.size());
    ui.painter().galley(at.min.round(), galley, palette.dim);
}

/// The ratio in small whole numbers, width first: `16:9`.
fn ratio_name(info: &RatioInfo) -> String {
    let wanted = f64::from(info.height.max(1)) / f64::from(info.width.max(1));
    let (width, height) = (1..=21_u32)
        .map(|width| (width, ((f64::from(width) * wanted).round()).max(1.0)))
        .min_by(|a, b| {
            // A smaller fraction is worth a small error.
            let cost = |(width, height): &(u32, f64)| {
                (height / f64::from(*width) / wanted).ln().abs() + 0.001 * f64::from(*width)
            };
            cost(a).total_cmp(&cost(b))
        })
        .unwrap_or((1, 1.0));
    format!("{width}:{height}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(width: u32, height: u32) -> RatioInfo {
        RatioInfo {
            ratio: height as f32 / width as f32,
            width,
            height,
        }
    }

    #[test]
    fn ratios_have_their_usual_names() {
        for (width, height, name) in [
            (128, 128, "1:1"),
            (1024, 576, "16:9"),
            (768, 1152, "2:3"),
            (96, 128, "3:4"),
        ] {
            assert_eq!(ratio_name(&info(width, height)), name);
        }
    }

    #[test]
    fn a_long_table_becomes_a_short_row() {
        let table: Vec<_> = (1..40).map(|i| info(1000, i * 50)).collect();
        let odd = table[2].ratio;
        let row = choices(&table, odd);
        assert!((4..=MOST + 1).contains(&row.len()));
        assert!(row.iter().any(|info| info.ratio == odd));
        assert!(row.is_sorted_by(|a, b| a.ratio < b.ratio));
    }
}
