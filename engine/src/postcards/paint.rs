//! Paints a postcard: flat shapes with smooth edges over a sky gradient, at any size and aspect ratio.
//!
//! [`Scene`](super::scene::Scene) settles the jitter, this file only turns it into pixels. Positions scale with width
//! and height, sizes with the shorter side.

use tiny_skia::{Color, FillRule, Mask, Paint, Path, PathBuilder, Pixmap, Rect, Transform};

use super::attributes::{BodyKind, Colour};
use super::geometry::{CUT_AT, CUT_RADIUS, Ink, Part, Shape, land_shades, mix, parts_of, sky_at};
use super::inks::Inks;
use super::postcard::Postcard;
use super::scene::Scene;
use crate::api::Rgb8Image;

/// Paints `postcard` with the jitter of `seed`; the same arguments always give the same bytes.
///
/// A side of 0 pixels, or one that no memory could hold, gives an empty picture.
pub fn paint(postcard: &Postcard, seed: u64, width: u32, height: u32) -> Rgb8Image {
    paint_in(postcard, &Inks::of(postcard), seed, width, height)
}

/// Paints `postcard` as [`paint`] does, in other colours.
pub fn paint_in(postcard: &Postcard, inks: &Inks, seed: u64, width: u32, height: u32) -> Rgb8Image {
    let scene = Scene::settle(postcard, seed);
    let pixels = Canvas::new(width, height).map(|mut canvas| {
        canvas.paint(postcard, inks, &scene);
        canvas.rgb()
    });
    pixels
        .and_then(|pixels| Rgb8Image::new(width, height, pixels))
        .unwrap_or_else(|| Rgb8Image {
            width: 0,
            height: 0,
            pixels: Vec::new().into(),
        })
}

struct Canvas {
    pixmap: Pixmap,
    width: f32,
    height: f32,
    short: f32,
}

impl Canvas {
    fn new(width: u32, height: u32) -> Option<Self> {
        Some(Self {
            pixmap: Pixmap::new(width, height)?,
            width: width as f32,
            height: height as f32,
            short: width.min(height) as f32,
        })
    }

    fn paint(&mut self, postcard: &Postcard, inks: &Inks, scene: &Scene) {
        self.sky(postcard);
        let white = Colour::White.rgb().map(f32::from);
        let mut stars = PathBuilder::new();
        for &(x, y, radius) in &scene.stars {
            stars.push_circle(x * self.width, y * self.height, radius * self.short);
        }
        self.fill(stars.finish(), white, 1.0);
        for cloud in &scene.clouds {
            let mut discs = PathBuilder::new();
            for &(dx, dy, radius) in &cloud.discs {
                let (x, y) = self.place(cloud.at, (dx, dy));
                discs.push_circle(x, y, radius * self.short);
            }
            self.fill(discs.finish(), white, 0.85);
        }
        if let Some((kind, at, radius)) = scene.body {
            let path = match kind {
                BodyKind::Sun => PathBuilder::from_circle(
                    at.0 * self.width,
                    at.1 * self.height,
                    radius * self.short,
                ),
                BodyKind::Moon => self.crescent(at, radius),
            };
            self.fill(path, inks.body.map(f32::from), 1.0);
        }
        self.land(postcard, inks, scene);
        if let Some(thing) = postcard.thing {
            for &anchor in &scene.anchors {
                for part in parts_of(thing.kind) {
                    self.part(part, anchor, inks.thing);
                }
            }
        }
    }

    fn sky(&mut self, postcard: &Postcard) {
        let height = self.height;
        let row_bytes = self.pixmap.width() as usize * 4;
        for (row, bytes) in self
            .pixmap
            .data_mut()
            .chunks_exact_mut(row_bytes)
            .enumerate()
        {
            let [r, g, b] = sky_at(postcard.time, (row as f32 + 0.5) / height).map(byte);
            for pixel in bytes.chunks_exact_mut(4) {
                pixel.copy_from_slice(&[r, g, b, 255]);
            }
        }
    }

    fn land(&mut self, postcard: &Postcard, inks: &Inks, scene: &Scene) {
        let colour = inks.land.map(f32::from);
        for (band, shade) in scene.bands.iter().zip(land_shades(postcard.land)) {
            let mut path = PathBuilder::new();
            // Land starts and ends beyond the edge, else the smooth outline would leave a seam there.
            path.move_to(-2.0, self.height + 2.0);
            if let Some(first) = band.first() {
                path.line_to(-2.0, first.1 * self.height);
            }
            for &(x, y) in band {
                path.line_to(x * self.width, y * self.height);
            }
            if let Some(last) = band.last() {
                path.line_to(self.width + 2.0, last.1 * self.height);
            }
            path.line_to(self.width + 2.0, self.height + 2.0);
            path.close();
            self.fill(path.finish(), colour.map(|channel| channel * shade), 1.0);
        }
        let lighter = mix(colour, [255.0; 3], 0.3);
        for &(x, y, length) in &scene.strokes {
            let (left, top) = (x * self.width, y * self.height);
            let stroke = Rect::from_xywh(left, top, length * self.short, 0.01 * self.short);
            self.fill(stroke.map(PathBuilder::from_rect), lighter, 1.0);
        }
    }

    fn part(&mut self, part: &Part, anchor: (f32, f32), own: [u8; 3]) {
        let path = match part.shape {
            Shape::Ellipse { at, radii } => {
                let (x, y) = self.place(anchor, at);
                let (rx, ry) = (radii.0 * self.short, radii.1 * self.short);
                Rect::from_xywh(x - rx, y - ry, 2.0 * rx, 2.0 * ry).and_then(PathBuilder::from_oval)
            }
            Shape::Polygon(corners) => {
                self.polygon(corners.iter().map(|&corner| self.place(anchor, corner)))
            }
        };
        let ink = match part.ink {
            Ink::Own => own,
            Ink::Fixed(rgb) => rgb,
        };
        self.fill(path, ink.map(f32::from), 1.0);
    }

    /// The disc minus the disc of sky, as one outline: the far arc of the disc, back along the arc of the cut.
    fn crescent(&self, at: (f32, f32), radius: f32) -> Option<Path> {
        const STEPS: u8 = 40;
        let distance = CUT_AT.0.hypot(CUT_AT.1);
        let axis = CUT_AT.1.atan2(CUT_AT.0);
        // The circles cross at `along` on the line between their middles.
        let along = (1.0 + distance * distance - CUT_RADIUS * CUT_RADIUS) / (2.0 * distance);
        let across = (1.0 - along * along).max(0.0).sqrt();
        let outer = across.atan2(along);
        let inner = across.atan2(along - distance);
        let arc = |middle: (f32, f32), r: f32, from: f32, to: f32| {
            (0..=STEPS).map(move |step| {
                let angle = from + (to - from) * f32::from(step) / f32::from(STEPS);
                (middle.0 + r * angle.cos(), middle.1 + r * angle.sin())
            })
        };
        let full = std::f32::consts::TAU;
        let there = arc((0.0, 0.0), 1.0, axis + outer, axis + full - outer);
        let back = arc(CUT_AT, CUT_RADIUS, axis + full - inner, axis + inner);
        self.polygon(
            there
                .chain(back)
                .map(|(x, y)| self.place(at, (x * radius, y * radius))),
        )
    }

    fn polygon(&self, corners: impl Iterator<Item = (f32, f32)>) -> Option<Path> {
        let mut path = PathBuilder::new();
        for (x, y) in corners {
            if path.is_empty() {
                path.move_to(x, y);
            } else {
                path.line_to(x, y);
            }
        }
        path.close();
        path.finish()
    }

    /// Pixel of an offset (in shorter sides) from an anchor (in fractions of the picture).
    fn place(&self, anchor: (f32, f32), offset: (f32, f32)) -> (f32, f32) {
        (
            anchor.0 * self.width + offset.0 * self.short,
            anchor.1 * self.height + offset.1 * self.short,
        )
    }

    fn fill(&mut self, path: Option<Path>, colour: [f32; 3], alpha: f32) {
        // An empty outline paints nothing, which is right for no stars.
        let Some(path) = path else { return };
        let [r, g, b] = colour.map(|channel| (channel / 255.0).clamp(0.0, 1.0));
        let mut paint = Paint {
            anti_alias: true,
            ..Paint::default()
        };
        if let Some(color) = Color::from_rgba(r, g, b, alpha) {
            paint.set_color(color);
        }
        let no_mask: Option<&Mask> = None;
        self.pixmap.fill_path(
            &path,
            &paint,
            FillRule::Winding,
            Transform::identity(),
            no_mask,
        );
    }

    fn rgb(&self) -> Vec<u8> {
        // The sky is opaque, so nothing is premultiplied.
        self.pixmap
            .data()
            .chunks_exact(4)
            .flat_map(|pixel| pixel.iter().take(3).copied())
            .collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=255 first"
)]
/// The nearest byte.
pub(super) fn byte(channel: f32) -> u8 {
    channel.round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::paint;
    use crate::postcards::{Postcard, Split};

    #[test]
    fn same_seed_same_bytes_other_seed_other_bytes() {
        let postcard = Postcard::sample(1, Split::Any);
        let picture = paint(&postcard, 5, 128, 128);
        assert_eq!(picture, paint(&postcard, 5, 128, 128));
        assert_ne!(picture, paint(&postcard, 6, 128, 128));
    }

    #[test]
    fn every_size_fills_its_pixels() {
        for (width, height) in [(1, 1), (16, 16), (160, 128), (128, 192), (333, 77)] {
            for seed in 0..20 {
                let picture = paint(&Postcard::sample(seed, Split::Any), seed, width, height);
                assert_eq!((picture.width, picture.height), (width, height));
            }
        }
        assert_eq!(paint(&Postcard::default(), 0, 0, 9).pixels.len(), 0);
    }

    #[test]
    fn the_land_colour_is_at_the_bottom_and_the_sky_on_top() {
        let postcard = Postcard {
            land: crate::postcards::Land::Sea,
            ..Postcard::sample(3, Split::Any)
        };
        let postcard = Postcard {
            land_colour: crate::postcards::Colour::Green,
            thing: None,
            ..postcard
        };
        let picture = paint(&postcard, 9, 128, 128);
        assert_eq!(picture.pixel(0, 127), Some([0x46, 0x96, 0x50]));
        let sky = super::sky_at(postcard.time, 0.5 / 128.0).map(super::byte);
        assert_eq!(picture.pixel(0, 0), Some(sky));
    }
}
