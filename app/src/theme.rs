//! Colours, spacing and fonts of the window.
//!
//! The one place with numbers for the look. Panels ask [`Palette::of`] for a
//! colour and use the spacing constants; nothing else names a colour.

use std::sync::Arc;

use eframe::egui::{
    self, Color32, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, Shadow,
    Stroke, TextStyle, Theme, Visuals, epaint, vec2,
};

/// Smallest step of spacing, in points; every other distance is a multiple.
pub const STEP: f32 = 4.0;
/// Distance between neighbouring controls.
pub const GAP: f32 = 8.0;
/// Distance between groups of controls, and margin of the panels.
pub const GROUP: f32 = 16.0;
/// Height of a control, and the least size of anything that can be clicked.
pub const CONTROL: f32 = 28.0;
/// Size of captions.
pub const CAPTION: f32 = 11.0;
/// Size of ordinary text.
pub const BODY: f32 = 13.0;
/// Size of headings.
pub const HEADING: f32 = 16.0;
/// Rounding of controls.
pub const RADIUS: u8 = 6;

const SEMIBOLD: &str = "Inter SemiBold";
const ICONS: &str = "Phosphor";

/// Icons, as characters of the icon font.
pub mod icons {
    /// A die showing five.
    pub const DICE: &str = "\u{E1EE}";
    /// A gear.
    pub const GEAR: &str = "\u{E272}";
    /// A square: stop.
    pub const STOP: &str = "\u{E46C}";
    /// Points right: closed.
    pub const CARET_RIGHT: &str = "\u{E13A}";
    /// Points down: open.
    pub const CARET_DOWN: &str = "\u{E136}";
    /// A cross.
    pub const CLOSE: &str = "\u{E4F6}";
    /// An arrow into a tray.
    pub const SAVE: &str = "\u{E20C}";
    /// Two sliders.
    pub const SLIDERS: &str = "\u{E434}";
    /// An exclamation mark in a circle.
    pub const WARNING: &str = "\u{E4E2}";
    /// An i in a circle.
    pub const INFO: &str = "\u{E2CE}";
    /// A brush.
    pub const BRUSH: &str = "\u{E6F0}";
    /// An eraser.
    pub const ERASER: &str = "\u{E21E}";
    /// An open folder.
    pub const FOLDER: &str = "\u{E256}";
}

/// The colours of one theme.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    /// Around the picture; neutral, so that colours can be judged.
    pub canvas: Color32,
    /// Behind controls.
    pub panel: Color32,
    /// Fields, buttons and anything that lies on a panel.
    pub raised: Color32,
    /// Raised things under the pointer.
    pub hover: Color32,
    /// Ordinary text.
    pub text: Color32,
    /// Captions and what is less important.
    pub dim: Color32,
    /// The one colour for what acts or is chosen.
    pub accent: Color32,
    /// Text on the accent colour.
    pub on_accent: Color32,
    /// One-pixel separators.
    pub line: Color32,
    /// Edge of fields and buttons.
    pub edge: Color32,
    /// Something failed.
    pub danger: Color32,
    /// Something was done differently.
    pub warn: Color32,
}

const DARK: Palette = Palette {
    canvas: Color32::from_rgb(0x14, 0x14, 0x16),
    panel: Color32::from_rgb(0x1B, 0x1B, 0x1F),
    raised: Color32::from_rgb(0x24, 0x24, 0x29),
    hover: Color32::from_rgb(0x2E, 0x2E, 0x35),
    text: Color32::from_rgb(0xE8, 0xE8, 0xEA),
    dim: Color32::from_rgb(0x9A, 0x9A, 0xA3),
    accent: Color32::from_rgb(0x6E, 0xA8, 0xFE),
    on_accent: Color32::from_rgb(0x0D, 0x18, 0x2B),
    line: Color32::from_rgb(0x2B, 0x2B, 0x30),
    edge: Color32::from_rgb(0x36, 0x36, 0x3D),
    danger: Color32::from_rgb(0xE5, 0x48, 0x4D),
    warn: Color32::from_rgb(0xF5, 0xA5, 0x24),
};

const LIGHT: Palette = Palette {
    canvas: Color32::from_rgb(0xE9, 0xE9, 0xEC),
    panel: Color32::from_rgb(0xF6, 0xF6, 0xF8),
    raised: Color32::from_rgb(0xFF, 0xFF, 0xFF),
    hover: Color32::from_rgb(0xEC, 0xEC, 0xF0),
    text: Color32::from_rgb(0x1B, 0x1B, 0x1F),
    dim: Color32::from_rgb(0x62, 0x62, 0x6B),
    accent: Color32::from_rgb(0x2B, 0x6B, 0xE4),
    on_accent: Color32::from_rgb(0xFF, 0xFF, 0xFF),
    line: Color32::from_rgb(0xE2, 0xE2, 0xE6),
    edge: Color32::from_rgb(0xD2, 0xD2, 0xD8),
    danger: Color32::from_rgb(0xC9, 0x35, 0x3A),
    warn: Color32::from_rgb(0xB8, 0x74, 0x0A),
};

impl Palette {
    /// The colours this `ui` is drawn with.
    pub fn of(ui: &egui::Ui) -> &'static Self {
        if ui.visuals().dark_mode {
            &DARK
        } else {
            &LIGHT
        }
    }
}

/// The font of headings and of the most important button.
pub fn semibold(size: f32) -> FontId {
    FontId::new(size, FontFamily::Name(SEMIBOLD.into()))
}

/// The font of captions.
pub fn caption() -> FontId {
    FontId::proportional(CAPTION)
}

/// An icon as text.
pub fn icon(icon: &str, size: f32) -> egui::RichText {
    egui::RichText::new(icon).font(FontId::new(size, FontFamily::Name(ICONS.into())))
}

/// Size of icons beside text.
pub const ICON: f32 = 16.0;

/// A button that is nothing but an icon, as high as every control.
pub fn icon_button(ui: &mut egui::Ui, icon: &str, selected: bool) -> egui::Response {
    let mut button = egui::Button::new(self::icon(icon, ICON));
    if selected {
        button = button.selected(true);
    } else {
        button = button.frame_when_inactive(false);
    }
    ui.scope(|ui| {
        ui.spacing_mut().button_padding = egui::Vec2::ZERO;
        ui.add_sized([CONTROL, CONTROL], button)
    })
    .inner
}

/// Gives a context the program's fonts, sizes and colours, light and dark.
pub fn install(ctx: &egui::Context) {
    ctx.set_fonts(fonts());
    for (theme, palette) in [(Theme::Dark, &DARK), (Theme::Light, &LIGHT)] {
        ctx.style_mut_of(theme, |style| {
            style.visuals = visuals(theme, palette);
            set_sizes(style);
        });
    }
}

fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let files: [(&str, &'static [u8]); 3] = [
        (
            "Inter",
            include_bytes!("../../assets/fonts/Inter-Regular.otf"),
        ),
        (
            SEMIBOLD,
            include_bytes!("../../assets/fonts/Inter-SemiBold.otf"),
        ),
        (ICONS, include_bytes!("../../assets/fonts/Phosphor.ttf")),
    ];
    for (name, bytes) in files {
        fonts
            .font_data
            .insert(name.to_owned(), Arc::new(FontData::from_static(bytes)));
    }
    let fallbacks = fonts
        .families
        .get(&FontFamily::Proportional)
        .cloned()
        .unwrap_or_default();
    let chain = |first: &str| -> Vec<String> {
        std::iter::once(first.to_owned())
            .chain(fallbacks.iter().cloned())
            .collect()
    };
    let regular = chain("Inter");
    let semibold = chain(SEMIBOLD);
    fonts.families.insert(FontFamily::Proportional, regular);
    fonts
        .families
        .insert(FontFamily::Name(SEMIBOLD.into()), semibold);
    // A family of its own: the text font has other signs at the icons' places.
    fonts
        .families
        .insert(FontFamily::Name(ICONS.into()), chain(ICONS));
    fonts
}

fn set_sizes(style: &mut egui::Style) {
    style.text_styles = [
        (TextStyle::Small, FontId::proportional(CAPTION)),
        (TextStyle::Body, FontId::proportional(BODY)),
        (TextStyle::Button, FontId::proportional(BODY)),
        (TextStyle::Monospace, FontId::monospace(BODY)),
        (TextStyle::Heading, semibold(HEADING)),
    ]
    .into();
    style.spacing.item_spacing = vec2(GAP, STEP);
    style.spacing.button_padding = vec2(10.0, STEP);
    style.spacing.interact_size = vec2(CONTROL, CONTROL);
    style.spacing.slider_rail_height = 4.0;
    style.spacing.menu_margin = Margin::same(8);
    style.spacing.tooltip_width = 320.0;
    style.spacing.icon_width = 16.0;
    style.spacing.icon_width_inner = 8.0;
    style.spacing.icon_spacing = GAP;
    style.interaction.selectable_labels = false;
    style.animation_time = 0.12;
}

fn visuals(theme: Theme, palette: &Palette) -> Visuals {
    let mut visuals = match theme {
        Theme::Dark => Visuals::dark(),
        Theme::Light => Visuals::light(),
    };
    let radius = CornerRadius::same(RADIUS);
    visuals.panel_fill = palette.panel;
    visuals.window_fill = palette.panel;
    visuals.window_stroke = Stroke::new(1.0, palette.edge);
    visuals.window_corner_radius = radius;
    visuals.menu_corner_radius = radius;
    visuals.extreme_bg_color = palette.raised;
    visuals.faint_bg_color = palette.raised;
    visuals.text_edit_bg_color = Some(palette.raised);
    visuals.weak_text_color = Some(palette.dim);
    visuals.hyperlink_color = palette.accent;
    visuals.error_fg_color = palette.danger;
    visuals.warn_fg_color = palette.warn;
    visuals.slider_trailing_fill = true;
    visuals.handle_shape = egui::style::HandleShape::Circle;
    visuals.popup_shadow = Shadow {
        offset: [0, 4],
        blur: 16,
        spread: 0,
        color: Color32::from_black_alpha(if visuals.dark_mode { 96 } else { 40 }),
    };
    visuals.selection.bg_fill = palette.accent.gamma_multiply(0.35);
    visuals.selection.stroke = Stroke::new(1.0, palette.accent);
    visuals.text_cursor.stroke = Stroke::new(1.5, palette.accent);

    let widgets = &mut visuals.widgets;
    for state in [
        &mut widgets.noninteractive,
        &mut widgets.inactive,
        &mut widgets.hovered,
        &mut widgets.active,
        &mut widgets.open,
    ] {
        state.corner_radius = radius;
        state.expansion = 0.0;
        state.fg_stroke = Stroke::new(1.0, palette.text);
        state.bg_stroke = Stroke::new(1.0, palette.edge);
        state.weak_bg_fill = palette.raised;
        state.bg_fill = palette.edge;
    }
    widgets.noninteractive.bg_stroke = Stroke::new(1.0, palette.line);
    widgets.noninteractive.bg_fill = palette.panel;
    widgets.hovered.weak_bg_fill = palette.hover;
    widgets.active.weak_bg_fill = palette.hover;
    widgets.active.bg_stroke = Stroke::new(1.0, palette.accent);
    widgets.open.weak_bg_fill = palette.hover;
    visuals
}

/// Paints a one-pixel line along the top edge of `rect`.
pub fn top_line(ui: &egui::Ui, rect: egui::Rect) {
    let y = rect.top() + 0.5;
    let stroke = Stroke::new(1.0, Palette::of(ui).line);
    ui.painter()
        .add(epaint::Shape::hline(rect.x_range(), y, stroke));
}

/// A small quiet text above a control.
pub fn caption_text(ui: &egui::Ui, text: impl Into<String>) -> egui::RichText {
    egui::RichText::new(text)
        .font(caption())
        .color(Palette::of(ui).dim)
}
