//! A style that no postcard has: night-blue ink on paper with a thin wash of colour; and how near pictures are to it.
//!
//! Only tests know it. Brightness runs from ink to paper, of the colours a wash is left, so that the style can be taken off
//! again and what a picture shows be read by the reader of postcards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use infinity_engine::api::Rgb8Image;
use infinity_engine::postcards::{Caption, Postcard, Split, check, paint};

/// sRGB colours of the darkest and the brightest.
const INK: [f32; 3] = [26.0, 35.0, 80.0];
const PAPER: [f32; 3] = [243.0, 235.0, 216.0];
/// How much of the colours is left.
const WASH: f32 = 0.3;

fn brightness([r, g, b]: [f32; 3]) -> f32 {
    0.30 * r + 0.59 * g + 0.11 * b
}

/// The tone between ink and paper for a brightness from 0 to 255.
fn tone(brightness: f32) -> [f32; 3] {
    let at = |place: usize| INK[place] + (PAPER[place] - INK[place]) * brightness / 255.0;
    [at(0), at(1), at(2)]
}

fn changed(image: &Rgb8Image, mut change: impl FnMut([f32; 3]) -> [f32; 3]) -> Rgb8Image {
    let pixels = image.pixels.chunks_exact(3).flat_map(|pixel| {
        let own = [0, 1, 2].map(|place| f32::from(pixel[place]));
        change(own).map(|channel| channel.round().clamp(0.0, 255.0) as u8)
    });
    Rgb8Image::new(image.width, image.height, pixels.collect()).unwrap()
}

/// A postcard in the style.
pub fn inked(image: &Rgb8Image) -> Rgb8Image {
    changed(image, in_ink)
}

/// A colour in the style.
fn in_ink(own: [f32; 3]) -> [f32; 3] {
    let grey = brightness(own);
    let tone = tone(grey);
    [0, 1, 2].map(|place| tone[place] + WASH * (own[place] - grey))
}

/// A picture in the style with `share` of the style taken off: an ordinary postcard for 1.
pub fn plain(image: &Rgb8Image, share: f32) -> Rgb8Image {
    let (dark, bright) = (brightness(INK), brightness(PAPER));
    changed(image, |own| {
        let grey = (brightness(own) - dark) / (bright - dark) * 255.0;
        let tone = tone(grey);
        [0, 1, 2].map(|place| {
            let off = grey + (own[place] - tone[place]) / WASH;
            own[place] + share * (off - own[place])
        })
    })
}

/// Writes `count` pictures in the style into `folder`, each with an ordinary caption beside it.
pub fn write_folder(folder: &Path, count: u64) {
    for index in 0..count {
        let card = Postcard::sample(700 + index, Split::Train);
        let image = inked(&paint(&card, index, 288, 288));
        let path = folder.join(format!("{index:02}.png"));
        let pixels = image::RgbImage::from_raw(288, 288, image.pixels.to_vec());
        pixels.unwrap().save(&path).unwrap();
        let caption = Caption::regular(&card, index);
        std::fs::write(path.with_extension("txt"), caption.text).unwrap();
    }
}

/// Shares of the style that are taken off before a picture is read: what is half in it is read half-way.
const TAKEN_OFF: [f32; 3] = [1.0, 0.5, 0.0];

/// Whether a picture shows the layout of `card`, more or less in the style: read with shares of the style taken off, and
/// with each colour taken for the nearest of those that postcards in the style have. What is taken off makes
/// every deviation of a colour three times as large; what is nearest does not.
pub fn shows_layout_in_style(image: &Rgb8Image, card: &Postcard, caption: &Caption) -> bool {
    let reads = |&share: &f32| shows_layout(&plain(image, share), card, caption);
    TAKEN_OFF.iter().any(reads) || shows_layout(&nearest(image), card, caption)
}

/// Steps of a channel that count as one colour of postcards, and pixels of all that must have it.
const STEP: u8 = 8;
const FEWEST: u32 = 60;

/// Colours that postcards have, each with what it is in the style.
fn colours() -> &'static [([f32; 3], [f32; 3])] {
    static COLOURS: OnceLock<Vec<([f32; 3], [f32; 3])>> = OnceLock::new();
    COLOURS.get_or_init(|| {
        let mut cells: BTreeMap<[u8; 3], (u32, [u32; 3])> = BTreeMap::new();
        for seed in 0..300 {
            let painted = paint(&Postcard::sample(seed, Split::Any), seed, 48, 48);
            for pixel in painted.pixels.chunks_exact(3) {
                let own = [pixel[0], pixel[1], pixel[2]];
                let (count, sum) = cells.entry(own.map(|value| value / STEP)).or_default();
                *count += 1;
                sum.iter_mut()
                    .zip(own)
                    .for_each(|(sum, value)| *sum += u32::from(value));
            }
        }
        let often = cells.values().filter(|(count, _)| *count >= FEWEST);
        let pairs = often.map(|(count, sum)| {
            let own = sum.map(|sum| sum as f32 / *count as f32);
            (own, in_ink(own))
        });
        pairs.collect()
    })
}

/// A picture with the colour of postcards in place of each whose like in the style is the nearest.
fn nearest(image: &Rgb8Image) -> Rgb8Image {
    let mut known: BTreeMap<[u8; 3], [f32; 3]> = BTreeMap::new();
    changed(image, |own| {
        let cell = own.map(|value| value as u8 / 4);
        *known.entry(cell).or_insert_with(|| {
            let away =
                |ink: &[f32; 3]| -> f32 { ink.iter().zip(own).map(|(a, b)| (a - b).powi(2)).sum() };
            let pairs = colours().iter();
            let least = pairs.min_by(|(_, a), (_, b)| away(a).total_cmp(&away(b)));
            least.map_or(own, |(plain, _)| *plain)
        })
    })
}

/// Whether a picture shows the layout of `card`: land, body, thing and their places, whatever the colours.
pub fn shows_layout(image: &Rgb8Image, card: &Postcard, caption: &Caption) -> bool {
    let checks = check(image, card, caption.named);
    let layout = [
        checks.land,
        checks.body,
        checks.body_place,
        checks.thing,
        checks.thing_place,
        checks.count,
    ];
    layout.iter().all(|part| *part != Some(false))
}

/// Directions in the space of colours.
const DIRECTIONS: usize = 16;

/// How far the colours of some pictures are from those of others, in steps of a channel: the sliced Wasserstein distance
/// of their pixels, every seventh, over sixteen directions.
pub fn palette_distance(some: &[Rgb8Image], others: &[Rgb8Image]) -> f32 {
    let along = |images: &[Rgb8Image], direction: [f32; 3]| {
        let pixels = images.iter().flat_map(|image| image.pixels.chunks_exact(3));
        let mut places: Vec<f32> = pixels
            .step_by(7)
            .map(|pixel| (0..3).map(|at| f32::from(pixel[at]) * direction[at]).sum())
            .collect();
        places.sort_by(f32::total_cmp);
        places
    };
    let distances = (0..DIRECTIONS).map(|index| {
        // Evenly over the half sphere, on a spiral.
        let up = (index as f32 + 0.5) / DIRECTIONS as f32;
        let (turn, wide) = (2.4 * index as f32, (1.0 - up * up).sqrt());
        let direction = [wide * turn.cos(), wide * turn.sin(), up];
        let (a, b) = (along(some, direction), along(others, direction));
        assert_eq!(a.len(), b.len(), "as many pixels of both");
        let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f32>();
        apart / a.len() as f32
    });
    distances.sum::<f32>() / DIRECTIONS as f32
}

#[cfg(test)]
mod tests {
    use infinity_engine::postcards::{Caption, Postcard, Split, paint};

    use super::{inked, palette_distance, shows_layout_in_style};

    fn cards(count: u64) -> impl Iterator<Item = (Postcard, Caption, u64)> {
        (0..count).map(|seed| {
            let card = Postcard::sample(seed, Split::Any);
            (card, Caption::regular(&card, seed), seed)
        })
    }

    #[test]
    fn what_the_style_hides_is_read_back() {
        let right = cards(200).filter(|(card, caption, seed)| {
            let painted = inked(&paint(card, *seed, 128, 128));
            shows_layout_in_style(&painted, card, caption)
        });
        assert!(right.count() >= 196);
    }

    #[test]
    fn another_layout_is_refused() {
        let wrong = cards(200).filter(|(card, _, seed)| {
            let painted = inked(&paint(card, *seed, 128, 128));
            let other = Postcard::sample(seed + 5000, Split::Any);
            let caption = Caption::regular(&other, *seed);
            shows_layout_in_style(&painted, &other, &caption)
        });
        // Some cards have the same layout by chance.
        assert!(wrong.count() <= 10);
    }

    #[test]
    fn palettes_differ_by_what_was_changed() {
        let painted: Vec<_> = cards(8)
            .map(|(card, _, seed)| paint(&card, seed, 64, 64))
            .collect();
        let style: Vec<_> = painted.iter().map(inked).collect();
        assert_eq!(palette_distance(&style, &style), 0.0);
        assert!(palette_distance(&painted, &style) > 15.0);
    }
}
