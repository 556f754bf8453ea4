//! Pictures on the graphics card.
//!
//! Keeps a texture as long as its picture is being shown, so that nothing is
//! uploaded twice, and makes small versions with every pixel counted.

use std::collections::HashMap;
use std::sync::Arc;

use eframe::egui::{
    Color32, ColorImage, Context, Rect, TextureHandle, TextureId, TextureOptions, Ui, pos2, vec2,
};
use infinity_engine::api::Rgb8Image;

/// Frames a full picture is kept after it was last shown.
const KEEP_FULL: u64 = 4;
/// Frames a small one is kept.
const KEEP_SMALL: u64 = 2000;

/// Textures of the pictures shown lately.
#[derive(Default)]
pub struct Textures {
    entries: HashMap<(usize, u32), Entry>,
    frame: u64,
}

struct Entry {
    texture: TextureHandle,
    /// Holds the bytes, so that no other picture gets their address, the key.
    _pixels: Arc<[u8]>,
    used: u64,
}

impl Textures {
    /// The whole picture.
    pub fn full(&mut self, ctx: &Context, image: &Rgb8Image) -> TextureId {
        self.get(ctx, image, 0)
    }

    /// The picture with at most `side` pixels along its longer side.
    pub fn small(&mut self, ctx: &Context, image: &Rgb8Image, side: u32) -> TextureId {
        self.get(ctx, image, side)
    }

    /// Paints the picture into the middle of `place`, as large as fits, from at most 256 pixels a side.
    pub fn paint_small(&mut self, ui: &Ui, image: &Rgb8Image, place: Rect) {
        let texture = self.small(ui.ctx(), image, 256);
        let own = vec2(image.width.max(1) as f32, image.height.max(1) as f32);
        let scale = (place.width() / own.x).min(place.height() / own.y);
        let rect = Rect::from_center_size(place.center(), own * scale);
        let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        ui.painter().image(texture, rect, whole, Color32::WHITE);
    }

    fn get(&mut self, ctx: &Context, image: &Rgb8Image, side: u32) -> TextureId {
        let key = (image.pixels.as_ptr().addr(), side);
        let frame = self.frame;
        let entry = self.entries.entry(key).or_insert_with(|| {
            let pixels = match side {
                0 => enlarged(image),
                side => shrunk(image, side),
            };
            Entry {
                texture: ctx.load_texture("picture", pixels, TextureOptions::LINEAR),
                _pixels: Arc::clone(&image.pixels),
                used: frame,
            }
        });
        entry.used = frame;
        entry.texture.id()
    }

    /// Forgets what was not shown for a while.
    pub fn end_frame(&mut self) {
        self.frame += 1;
        let frame = self.frame;
        self.entries.retain(|(_, side), entry| {
            let keep = if *side == 0 { KEEP_FULL } else { KEEP_SMALL };
            frame - entry.used <= keep
        });
    }
}

fn whole(image: &Rgb8Image) -> ColorImage {
    let size = [image.width as usize, image.height as usize];
    ColorImage::from_rgb(size, &image.pixels)
}

/// Small pictures enlarged with a smooth curve, as the card itself only draws straight lines.
///
/// Pictures too large to need it stay as they are.
fn enlarged(image: &Rgb8Image) -> ColorImage {
    let factor = match image.width.max(image.height) {
        0..=160 => 4,
        161..=320 => 2,
        _ => return whole(image),
    };
    let (width, height) = (image.width as usize, image.height as usize);
    let values: Vec<f32> = image.pixels.iter().map(|value| f32::from(*value)).collect();
    let wide = stretched(&values, width, height, factor);
    let wide = turned(&wide, width * factor, height);
    let large = stretched(&wide, height, width * factor, factor);
    let large = turned(&large, height * factor, width * factor);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the range of a byte"
    )]
    let bytes: Vec<u8> = large
        .iter()
        .map(|value| value.round().clamp(0.0, 255.0) as u8)
        .collect();
    ColorImage::from_rgb([width * factor, height * factor], &bytes)
}

/// Makes every row `factor` times as long.
fn stretched(values: &[f32], width: usize, height: usize, factor: usize) -> Vec<f32> {
    let mut long = Vec::with_capacity(values.len() * factor);
    for row in values.chunks_exact(width * 3).take(height) {
        let pixel = |x: isize| {
            let x = x.clamp(0, width as isize - 1).unsigned_abs() * 3;
            [row[x], row[x + 1], row[x + 2]]
        };
        for out in 0..width * factor {
            let at = (out as f32 + 0.5) / factor as f32 - 0.5;
            let left = at.floor();
            let weights = mitchell(at - left);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a whole number within the row"
            )]
            let left = left as isize;
            let mut sum = [0.0; 3];
            for (step, weight) in (-1..).zip(weights) {
                for (sum, value) in sum.iter_mut().zip(pixel(left + step)) {
                    *sum += weight * value;
                }
            }
            long.extend(sum);
        }
    }
    long
}

/// Weights of the four neighbours of a place `t` of the way from the second to the third.
///
/// Mitchell and Netravali, "Reconstruction filters in computer graphics", 1988,
/// with B = C = 1/3: neither blurs much nor draws seams along edges.
fn mitchell(t: f32) -> [f32; 4] {
    let near = |x: f32| ((7.0 * x - 12.0) * x * x + 16.0 / 3.0) / 6.0;
    let far = |x: f32| (((-7.0 / 3.0 * x + 12.0) * x - 20.0) * x + 32.0 / 3.0) / 6.0;
    [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)]
}

/// Rows become columns.
fn turned(values: &[f32], width: usize, height: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(values.len());
    for x in 0..width {
        for y in 0..height {
            let at = (y * width + x) * 3;
            turned.extend_from_slice(&values[at..at + 3]);
        }
    }
    turned
}

/// Averages blocks of whole pixels until the longer side is at most `side`.
fn shrunk(image: &Rgb8Image, side: u32) -> ColorImage {
    let block = image.width.max(image.height).div_ceil(side.max(1)).max(1) as usize;
    if block == 1 {
        return whole(image);
    }
    let (width, height) = (image.width as usize, image.height as usize);
    let (columns, rows) = (width.div_ceil(block), height.div_ceil(block));
    let mut small = Vec::with_capacity(columns * rows * 3);
    for row in 0..rows {
        for column in 0..columns {
            let mut sum = [0_usize; 3];
            let mut count = 0;
            for y in row * block..((row + 1) * block).min(height) {
                for x in column * block..((column + 1) * block).min(width) {
                    let at = (y * width + x) * 3;
                    for (sum, value) in sum.iter_mut().zip(&image.pixels[at..at + 3]) {
                        *sum += usize::from(*value);
                    }
                    count += 1;
                }
            }
            small.extend(sum.map(|sum| u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX)));
        }
    }
    ColorImage::from_rgb([columns, rows], &small)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_keeps_flat_colours_and_the_place_of_edges() {
        let pixels = (0..4 * 2).flat_map(|i| if i % 4 < 2 { [0; 3] } else { [200; 3] });
        let image = Rgb8Image::new(4, 2, pixels.collect()).unwrap();
        let large = enlarged(&image);
        assert_eq!(large.size, [16, 8]);
        let row: Vec<u8> = large.pixels[..16].iter().map(|pixel| pixel.g()).collect();
        assert_eq!((row[0], row[15]), (0, 200));
        assert!(row[7] < 100 && row[8] > 100, "{row:?}");
    }

    #[test]
    fn small_pictures_are_averages() {
        let pixels = (0..5 * 3).flat_map(|i| [i * 10, 0, 255]).collect();
        let image = Rgb8Image::new(5, 3, pixels).unwrap();
        let small = shrunk(&image, 3);
        assert_eq!(small.size, [3, 2]);
        let reds: Vec<u8> = small.pixels.iter().map(|pixel| pixel.r()).collect();
        assert_eq!(reds, [30, 50, 65, 105, 125, 140]);
        assert_eq!(shrunk(&image, 5).size, [5, 3]);
    }
}
