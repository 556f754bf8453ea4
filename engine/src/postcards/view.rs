//! The picture as the reader sees it: about 128 pixels on the shorter side, in a space of brightness and two colour axes.
//!
//! The space is a linear map of the sRGB bytes, so that a blurred edge stays on the straight line between the two
//! colours it mixes; the weights make distances roughly those that the eye sees.

use crate::api::Rgb8Image;

/// A colour: brightness, red against it, blue against it; about 0..255 each.
pub(super) type Tone = [f32; 3];

/// The tone of a colour in 0..255 sRGB.
pub(super) fn tone(rgb: [f32; 3]) -> Tone {
    let [r, g, b] = rgb;
    let brightness = 0.30 * r + 0.59 * g + 0.11 * b;
    [brightness, 0.8 * (r - brightness), 0.6 * (b - brightness)]
}

/// How different two tones look.
pub(super) fn distance(a: Tone, b: Tone) -> f32 {
    let [x, y, z] = minus(a, b);
    (x * x + y * y + z * z).sqrt()
}

/// `a + b`.
pub(super) fn plus(a: Tone, b: Tone) -> Tone {
    let [[x, y, z], [u, v, w]] = [a, b];
    [x + u, y + v, z + w]
}

/// `a - b`.
pub(super) fn minus(a: Tone, b: Tone) -> Tone {
    let [[x, y, z], [u, v, w]] = [a, b];
    [x - u, y - v, z - w]
}

/// `a · b`.
pub(super) fn dot(a: Tone, b: Tone) -> f32 {
    let [[x, y, z], [u, v, w]] = [a, b];
    x * u + y * v + z * w
}

/// How far along the line from `from` (0) to `to` (1) the tone lies.
pub(super) fn along(at: Tone, from: Tone, to: Tone) -> f32 {
    let line = minus(to, from);
    dot(minus(at, from), line) / dot(line, line).max(1e-6)
}

/// Distance to the nearest mix of `from` and `to`.
pub(super) fn distance_to_mix(at: Tone, from: Tone, to: Tone) -> f32 {
    let amount = along(at, from, to).clamp(0.0, 1.0);
    distance(at, plus(from, minus(to, from).map(|part| part * amount)))
}

/// The middle value per channel; black when there is nothing.
pub(super) fn median(tones: &[Tone]) -> Tone {
    [0, 1, 2].map(|channel: usize| {
        let mut values: Vec<f32> = tones
            .iter()
            .filter_map(|tone| tone.get(channel).copied())
            .collect();
        let middle = values.len() / 2;
        if values.is_empty() {
            return 0.0;
        }
        *values.select_nth_unstable_by(middle, f32::total_cmp).1
    })
}

/// The picture in tones.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Columns.
    pub(super) width: usize,
    /// Rows.
    pub(super) height: usize,
    /// `width * height` tones from the top left.
    pub(super) tones: Vec<Tone>,
}

impl View {
    /// Averages blocks of pixels when the picture is at least twice as large as needed.
    pub(super) fn new(image: &Rgb8Image) -> Self {
        let block = (image.width.min(image.height) / 128).max(1) as usize;
        let (width, height) = (image.width as usize / block, image.height as usize / block);
        let mut tones = vec![[0.0; 3]; width * height];
        let stride = (image.width as usize * 3).max(1);
        let share = 1.0 / (block * block) as f32;
        for (row, bytes) in image.pixels.chunks_exact(stride).enumerate() {
            for (column, pixel) in bytes.chunks_exact(3).enumerate() {
                let inside = column / block < width;
                let place = (row / block) * width + column / block;
                if let (true, Some(sum), &[r, g, b]) = (inside, tones.get_mut(place), pixel) {
                    *sum = plus(*sum, tone([r, g, b].map(|byte| f32::from(byte) * share)));
                }
            }
        }
        Self {
            width,
            height,
            tones,
        }
    }

    /// The shorter side in pixels.
    pub(super) fn short(&self) -> f32 {
        self.width.min(self.height) as f32
    }

    /// Rows from the top with the height of their middle, as a fraction.
    pub(super) fn rows(&self) -> impl Iterator<Item = (f32, &[Tone])> {
        let height = self.height as f32;
        let rows = self.tones.chunks_exact(self.width.max(1)).enumerate();
        rows.map(move |(row, tones)| ((row as f32 + 0.5) / height, tones))
    }

    /// The marked pixels with a rim of this many pixels, which blur has mixed with their surroundings.
    pub(super) fn widened(&self, marked: &[bool], rim: usize) -> Vec<bool> {
        let mut wide = marked.to_vec();
        for (place, _) in marked.iter().enumerate().filter(|(_, marked)| **marked) {
            let (row, column) = (place / self.width.max(1), place % self.width.max(1));
            for near_row in row.saturating_sub(rim)..(row + rim + 1).min(self.height) {
                let start = near_row * self.width;
                let near =
                    start + column.saturating_sub(rim)..start + (column + rim + 1).min(self.width);
                if let Some(near) = wide.get_mut(near) {
                    near.fill(true);
                }
            }
        }
        wide
    }

    /// The same picture, each pixel averaged with its eight neighbours.
    pub(super) fn smoothed(&self) -> Self {
        let mut smoothed = self.clone();
        for (place, tone) in smoothed.tones.iter_mut().enumerate() {
            let (row, column) = (place / self.width.max(1), place % self.width.max(1));
            let (mut sum, mut count) = ([0.0; 3], 0.0);
            for near_row in row.saturating_sub(1)..(row + 2).min(self.height) {
                for near_column in column.saturating_sub(1)..(column + 2).min(self.width) {
                    sum = plus(sum, self.at(near_column, near_row).unwrap_or_default());
                    count += 1.0;
                }
            }
            *tone = sum.map(|part| part / f32::max(count, 1.0));
        }
        smoothed
    }

    /// The tone at a pixel; `None` outside.
    pub(super) fn at(&self, column: usize, row: usize) -> Option<Tone> {
        if column >= self.width {
            return None;
        }
        self.tones.get(row * self.width + column).copied()
    }
}

/// The pixel that holds the fraction `at` of `size`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..size first"
)]
pub(super) fn pixel_of(at: f32, size: usize) -> usize {
    (at * size as f32).clamp(0.0, (size as f32 - 1.0).max(0.0)) as usize
}

#[cfg(test)]
mod tests {
    use super::{View, distance, distance_to_mix, tone};
    use crate::api::Rgb8Image;

    #[test]
    fn mixes_lie_on_the_line() {
        let (red, sky) = ([215.0, 50.0, 45.0], [110.0, 180.0, 245.0]);
        let mixed = [162.5, 115.0, 145.0];
        assert!(distance_to_mix(tone(mixed), tone(red), tone(sky)) < 0.01);
        assert!(distance(tone(red), tone(sky)) > 60.0);
    }

    #[test]
    fn large_pictures_are_averaged() {
        let bytes: Vec<u8> = (0..300 * 256)
            .flat_map(|at| if at % 2 == 0 { [0; 3] } else { [200; 3] })
            .collect();
        let view = View::new(&Rgb8Image::new(300, 256, bytes).unwrap());
        assert_eq!((view.width, view.height), (150, 128));
        assert!(distance(view.at(149, 127).unwrap(), tone([100.0; 3])) < 0.1);
        assert_eq!(view.at(150, 0), None);
    }
}
