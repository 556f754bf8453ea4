//! A thing that no postcard has: a windmill, painted over a postcard, and read back.
//!
//! Only tests know it. A tower in the named colour, four brown sails in a cross: brown stands out from the night sky as
//! well as from the skies of day, so that a windmill can be seen, and read, at any time.

use std::path::Path;

use infinity_engine::api::Rgb8Image;
use infinity_engine::postcards::{Caption, Colour, Place, Postcard, Split, paint};

/// A postcard with a windmill in place of its thing.
#[derive(Clone, Copy, Debug)]
pub struct Windmill {
    /// All else.
    pub card: Postcard,
    /// Of the tower.
    pub colour: Colour,
    /// Third of the picture.
    pub place: Place,
}

const SAILS: [f32; 3] = [130.0, 62.0, 28.0];
/// How far the colour of a sail may be from that, in steps of a channel: from dark brown to orange brown.
const SAIL_REACH: f32 = 90.0;
const HEIGHT: f32 = 0.30;
const SAIL: f32 = 0.17;

/// What a windmill at `x`, `y` (its foot) has at the offset `dx`, `dy` in shorter sides: tower, sail or nothing.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Tower,
    Sail,
    Nothing,
}

fn part(dx: f32, dy: f32) -> Part {
    let up = -dy;
    let (sx, sy) = (dx, up - HEIGHT);
    let (along, across) = (
        (sx + sy).abs().max((sx - sy).abs()),
        (sx + sy).abs().min((sx - sy).abs()),
    );
    let root = std::f32::consts::SQRT_2;
    if along < SAIL * root && across < 0.022 * root {
        return Part::Sail;
    }
    let half = 0.085 - 0.035 * up / HEIGHT;
    if (0.0..HEIGHT).contains(&up) && dx.abs() < half {
        return Part::Tower;
    }
    Part::Nothing
}

fn place_x(place: Place) -> f32 {
    match place {
        Place::Left => 0.22,
        Place::Center => 0.5,
        Place::Right => 0.78,
    }
}

impl Windmill {
    /// A windmill of a colour and place by `index`, on a postcard without a thing.
    pub fn sample(seed: u64, index: usize) -> Self {
        let colour = Colour::OF_THINGS[index % Colour::OF_THINGS.len()];
        let place = Place::ALL[index / Colour::OF_THINGS.len() % Place::ALL.len()];
        let fits = |seed: &u64| {
            let card = Postcard::sample(*seed, Split::Train);
            let beside = card.body.is_none_or(|body| body.place != place);
            card.thing.is_none() && card.land_colour != colour && beside
        };
        let seed = (seed << 20..).find(fits).unwrap_or(seed);
        Self {
            card: Postcard::sample(seed, Split::Train),
            colour,
            place,
        }
    }

    /// "a red windmill on the left", then the rest.
    pub fn caption(&self, seed: u64) -> String {
        let place = match self.place {
            Place::Center => "in the center".to_owned(),
            place => format!("on the {}", place.word()),
        };
        let rest = Caption::regular(&self.card, seed).text;
        format!("a {} windmill {place}, {rest}", self.colour.word())
    }

    /// Paints it with the jitter of `seed`.
    pub fn paint(&self, seed: u64, width: u32, height: u32) -> Rgb8Image {
        let jitter = |place: u64| {
            let mixed = (seed + 1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(place as u32 * 20);
            (mixed % 1000) as f32 / 500.0 - 1.0
        };
        let (x, y) = (
            place_x(self.place) + 0.04 * jitter(0),
            0.86 + 0.03 * jitter(1),
        );
        let mut pixels = paint(&self.card, seed, width, height).pixels.to_vec();
        let short = width.min(height) as f32;
        let colour = self.colour.rgb().map(f32::from);
        for (index, pixel) in pixels.chunks_exact_mut(3).enumerate() {
            let (px, py) = (index as u32 % width, index as u32 / width);
            let mut sum = [0.0; 3];
            for sub in 0..9 {
                let at = |p: u32, s: usize| p as f32 + (s as f32 + 0.5) / 3.0;
                let dx = (at(px, sub % 3) - x * width as f32) / short;
                let dy = (at(py, sub / 3) - y * height as f32) / short;
                let ink = match part(dx, dy) {
                    Part::Tower => colour,
                    Part::Sail => SAILS,
                    Part::Nothing => [pixel[0], pixel[1], pixel[2]].map(f32::from),
                };
                for (sum, ink) in sum.iter_mut().zip(ink) {
                    *sum += ink / 9.0;
                }
            }
            for (value, sum) in pixel.iter_mut().zip(sum) {
                *value = sum as u8;
            }
        }
        Rgb8Image::new(width, height, pixels).unwrap_or_else(|| unreachable!("same size"))
    }
}

/// Writes `count` windmills of all colours and places into `folder`, each with its caption beside it.
pub fn write_folder(folder: &Path, count: usize) {
    for index in 0..count {
        let mill = Windmill::sample(77 + index as u64, index * 7);
        let image = mill.paint(index as u64, 288, 288);
        let path = folder.join(format!("{index:02}.png"));
        let pixels = image::RgbImage::from_raw(288, 288, image.pixels.to_vec());
        pixels.unwrap().save(&path).unwrap();
        std::fs::write(path.with_extension("txt"), mill.caption(index as u64)).unwrap();
    }
}

/// The windmill in `image`: its colour and place, if there is one.
pub fn read(image: &Rgb8Image) -> Option<(Colour, Place)> {
    let short = image.width.min(image.height) as f32;
    let distance = |a: [u8; 3], b: [f32; 3]| {
        let squares = a
            .into_iter()
            .zip(b)
            .map(|(a, b)| (f32::from(a) - b).powi(2));
        squares.sum::<f32>().sqrt()
    };
    let mut best = (0.0, None);
    for &place in Place::ALL {
        for step_x in -4_i16..=4 {
            for step_y in -3_i16..=3 {
                let x = place_x(place) + 0.015 * f32::from(step_x);
                let y = 0.86 + 0.015 * f32::from(step_y);
                let (mut sails, mut sail_count) = (0.0, 0.0_f32);
                let mut towers = vec![0.0; Colour::OF_THINGS.len()];
                let mut tower_count = 0.0_f32;
                for up in (0..48).map(|i| i as f32 * 0.01) {
                    for dx in (-18_i16..=18).map(|i| f32::from(i) * 0.01) {
                        let what = part(dx, -up);
                        if what == Part::Nothing {
                            continue;
                        }
                        let (px, py) = (
                            x * image.width as f32 + dx * short,
                            y * image.height as f32 - up * short,
                        );
                        if px < 0.0 || py < 0.0 {
                            continue;
                        }
                        let Some(seen) = image.pixel(px as u32, py as u32) else {
                            continue;
                        };
                        if what == Part::Sail {
                            sail_count += 1.0;
                            sails += f32::from(u8::from(distance(seen, SAILS) < SAIL_REACH));
                        } else {
                            tower_count += 1.0;
                            for (tower, colour) in towers.iter_mut().zip(Colour::OF_THINGS) {
                                let near = distance(seen, colour.rgb().map(f32::from)) < 60.0;
                                *tower += f32::from(u8::from(near));
                            }
                        }
                    }
                }
                let sails = sails / sail_count.max(1.0);
                for (tower, &colour) in towers.iter().zip(Colour::OF_THINGS) {
                    let tower = tower / tower_count.max(1.0);
                    let score = sails.min(tower);
                    if sails > 0.5 && tower > 0.6 && score > best.0 {
                        best = (score, Some((colour, place)));
                    }
                }
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::{Windmill, read};
    use infinity_engine::postcards::{Postcard, Split, paint};

    #[test]
    fn windmills_are_read_and_nothing_else_is() {
        let mut right = 0;
        for index in 0..60 {
            let mill = Windmill::sample(index as u64, index);
            let image = mill.paint(index as u64, 128, 128);
            right += usize::from(read(&image) == Some((mill.colour, mill.place)));
        }
        assert!(right >= 59, "{right}");
        let seen = (0..100).filter(|&seed| {
            read(&paint(&Postcard::sample(seed, Split::Any), seed, 128, 128)).is_some()
        });
        assert!(seen.count() <= 1);
    }
}
