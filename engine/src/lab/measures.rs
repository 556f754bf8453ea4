//! What is counted in pictures: edges of masks, likeness, attributes that are left.

use crate::api::{Mask, Rgb8Image};
use crate::postcards::{Checks, Place, Postcard, ThingKind};
use crate::random::Stream;

/// Pixels to each side of a mask's edge in which the seam is looked for.
const BAND: u32 = 6;

/// A mask over the third where the thing stands, its edges drawn by lot.
pub(super) fn mask_over(old: &Postcard, new: &Postcard, side: u32, stream: Stream) -> Mask {
    let place = old.thing.and_then(|thing| thing.place);
    let middle = match place.unwrap_or_default() {
        Place::Left => 0.22,
        Place::Center => 0.5,
        Place::Right => 0.78,
    };
    let flies = [old, new].iter().any(|card| {
        card.thing
            .is_some_and(|thing| thing.kind == ThingKind::Balloon)
    });
    let by_lot =
        |counter: u64, low: f32, high: f32| low + (high - low) * stream.uniform(counter) as f32;
    let half = by_lot(0, 0.2, 0.26);
    let top = if flies {
        by_lot(1, 0.03, 0.1)
    } else {
        by_lot(1, 0.22, 0.3)
    };
    let bottom = by_lot(2, 0.94, 1.0);
    let length = side as f32;
    Mask::from_fn(side, side, |x, y| {
        let (x, y) = ((x as f32 + 0.5) / length, (y as f32 + 0.5) / length);
        let inside = (x - middle).abs() < half && y > top && y < bottom;
        if inside { 255 } else { 0 }
    })
}

pub(super) fn inside(mask: &Mask, (x, y): (u32, u32)) -> bool {
    mask.values[(y * mask.width + x) as usize] > 0
}

/// A few pixels to both sides of a mask's edge.
pub(super) fn band_of(mask: &Mask) -> Mask {
    let (within, without) = (mask.feathered(BAND), mask.inverted().feathered(BAND));
    Mask::from_fn(mask.width, mask.height, |x, y| {
        let place = (y * mask.width + x) as usize;
        255 - within.values[place].max(without.values[place])
    })
}

/// Squared differences between those neighbours that `counts` names.
pub(super) fn energy_between(
    image: &Rgb8Image,
    counts: impl Fn((u32, u32), (u32, u32)) -> bool,
) -> f64 {
    let (width, height) = (image.width, image.height);
    let mut energy = 0.0;
    for (x, y) in (0..width).flat_map(|x| (0..height).map(move |y| (x, y))) {
        for (right, below) in [(x + 1, y), (x, y + 1)] {
            if right < width && below < height && counts((x, y), (right, below)) {
                let a = image.pixel(x, y).unwrap_or_default();
                let b = image.pixel(right, below).unwrap_or_default();
                let pairs = a.iter().zip(&b);
                energy += pairs
                    .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
                    .sum::<f64>();
            }
        }
    }
    energy
}

pub(super) fn outside_is_same(image: &Rgb8Image, other: &Rgb8Image, mask: &Mask) -> bool {
    let pixels = image
        .pixels
        .chunks_exact(3)
        .zip(other.pixels.chunks_exact(3));
    let mut pairs = pixels.zip(mask.values.iter());
    pairs.all(|((a, b), &inside)| inside > 0 || a == b)
}

/// Columns `left..left + width` of a picture.
pub(super) fn cut(image: &Rgb8Image, left: u32, width: u32) -> Option<Rgb8Image> {
    let places = (0..image.height).flat_map(|y| (left..left + width).map(move |x| (x, y)));
    let pixels = places.flat_map(|(x, y)| image.pixel(x, y).unwrap_or_default());
    Rgb8Image::new(width, image.height, pixels.collect())
}

pub(super) fn psnr_of(a: &Rgb8Image, b: &Rgb8Image) -> f32 {
    let pairs = a.pixels.iter().zip(b.pixels.iter());
    let sum: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    let mean = (sum / a.pixels.len().max(1) as f64).max(1e-9);
    (10.0 * (255.0 * 255.0 / mean).log10()) as f32
}

pub(super) fn value(checks: &Checks, name: &str) -> Option<bool> {
    let entry = checks.entries().into_iter().find(|(own, _)| *own == name);
    entry.and_then(|(_, value)| value)
}

pub(super) fn share(is: bool) -> f32 {
    f32::from(u8::from(is))
}

/// Counts attributes that are as they were.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    counts: Vec<(String, usize, usize)>,
    followed: usize,
    pictures: usize,
}

impl Tally {
    pub(super) fn add(&mut self, checks: &Checks, followed: bool) {
        self.pictures += 1;
        self.followed += usize::from(followed);
        for (name, result) in checks.entries() {
            if name == "sky" {
                continue;
            }
            let Some(right) = result else { continue };
            match self.counts.iter_mut().find(|(own, ..)| own == name) {
                Some((_, all, same)) => {
                    *all += 1;
                    *same += usize::from(right);
                }
                None => self.counts.push((name.to_owned(), 1, usize::from(right))),
            }
        }
    }

    pub(super) fn shares(&self) -> Vec<(String, f32)> {
        let share = |(name, all, same): &(String, usize, usize)| {
            (name.clone(), *same as f32 / (*all).max(1) as f32)
        };
        self.counts.iter().map(share).collect()
    }

    pub(super) fn share_followed(&self) -> f32 {
        self.followed as f32 / self.pictures.max(1) as f32
    }
}
