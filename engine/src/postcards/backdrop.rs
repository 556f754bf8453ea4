//! Reads the sky's time and the land, and predicts what each pixel would show with nothing in front.
//!
//! The time is the gradient that fits the upper sky best. The land's colour is the palette hue nearest to the bottom
//! strip; its kind is the one whose nearest band's brightness and whose outline (how much it varies, how sharply it
//! bends) fit best together. Constant colour drifts are measured and taken out.

use super::attributes::{Colour, Land, Time};
use super::geometry::{land_shades, mix, sky_at};
use super::view::{
    Tone, View, along, distance, distance_to_mix, median, minus, pixel_of, plus, tone,
};

/// Sky and land as read.
#[derive(Clone, Debug)]
pub(super) struct Backdrop {
    pub(super) time: Time,
    pub(super) land: Land,
    pub(super) land_colour: Colour,
    sky_drift: Tone,
    /// Brightness of the nearest land, as a part of its colour's.
    shade: f32,
    /// Darkest and brightest tone of the land.
    land_tones: (Tone, Tone),
}

/// Highest place where land can show and lowest where sky can.
const LAND_TOP: f32 = 0.38;
const SKY_BOTTOM: f32 = 0.70;
/// The strip below everything that stands on land, and the one that holds nothing but sky and bodies.
const BOTTOM_STRIP: f32 = 0.92;
const TOP_STRIP: f32 = 0.35;

impl Backdrop {
    /// Reads sky and land.
    pub(super) fn read(view: &View) -> Self {
        let top: Vec<(f32, &[Tone])> = view.rows().filter(|row| row.0 < TOP_STRIP).collect();
        let misfit = |time: &Time| {
            let rows = top.iter().map(|(y, tones)| {
                let sky = tone(sky_at(*time, *y));
                // The cap keeps bodies and clouds from outweighing the sky itself.
                tones
                    .iter()
                    .map(|&at| distance(at, sky).min(60.0))
                    .sum::<f32>()
            });
            rows.sum::<f32>()
        };
        let time = least(Time::ALL, misfit);
        let drifts: Vec<Tone> = top
            .iter()
            .flat_map(|(y, tones)| {
                let sky = tone(sky_at(time, *y));
                tones.iter().map(move |&at| minus(at, sky))
            })
            .collect();
        let sky_drift = median(&drifts).map(|part| part.clamp(-25.0, 25.0));

        let strip: Vec<Tone> = view
            .rows()
            .filter(|row| row.0 > BOTTOM_STRIP)
            .flat_map(|row| row.1.iter().copied())
            .collect();
        let bottom = median(&strip);
        let land_colour = least(Colour::OF_LANDS, |colour| {
            let bright = own_tone(*colour);
            distance_to_mix(
                bottom,
                bright.map(|part| part * 0.62),
                bright.map(|part| part * 1.04),
            )
        });
        let bright = own_tone(land_colour);
        let shade = along(bottom, [0.0; 3], bright);
        let mut backdrop = Self {
            time,
            land: Land::Sea,
            land_colour,
            sky_drift,
            shade,
            land_tones: (bright.map(|part| part * (shade.min(1.0) - 0.04)), bright),
        };
        backdrop.read_land_behind(view, &[]);
        backdrop
    }

    /// Reads the kind of land, from those columns where nothing covers the horizon.
    pub(super) fn read_land_behind(&mut self, view: &View, covered: &[bool]) {
        let outline = self.outline(&view.smoothed(), &view.widened(covered, 3));
        let bright = own_tone(self.land_colour);
        self.land = least(Land::ALL, |land| land_misfit(*land, self.shade, outline));
        // The strokes on the sea are no things.
        let brightest = if self.land == Land::Sea {
            mix([0.0; 3], bright, 0.7)
        } else {
            bright
        };
        let stroke = if self.land == Land::Sea { 76.5 } else { 0.0 };
        self.land_tones = (
            bright.map(|part| part * (self.shade.min(1.0) - 0.04)),
            plus(brightest, [stroke, 0.0, 0.0]),
        );
    }

    /// The sky's tone at height `y`.
    pub(super) fn sky(&self, y: f32) -> Tone {
        plus(tone(sky_at(self.time, y)), self.sky_drift)
    }

    /// How far the tone is from anything that sky or land can show at height `y`.
    pub(super) fn distance(&self, at: Tone, y: f32) -> f32 {
        let sky = if y < SKY_BOTTOM {
            distance(at, self.sky(y))
        } else {
            f32::MAX
        };
        let land = if y > LAND_TOP {
            self.distance_to_land(at)
        } else {
            f32::MAX
        };
        sky.min(land)
    }

    /// How far the tone is from any mix of `ink` with what sky or land can show at height `y`.
    pub(super) fn distance_to_mix_with(&self, ink: Tone, at: Tone, y: f32) -> f32 {
        let sky = if y < SKY_BOTTOM {
            distance_to_mix(at, self.sky(y), ink)
        } else {
            f32::MAX
        };
        let (dark, bright) = self.land_tones;
        let land = distance_to_mix(at, dark, ink).min(distance_to_mix(at, bright, ink));
        if y > LAND_TOP { sky.min(land) } else { sky }
    }

    fn distance_to_land(&self, at: Tone) -> f32 {
        distance_to_mix(at, self.land_tones.0, self.land_tones.1)
    }

    /// Where land begins in each column, as a fraction of the height; `None` where something hides it.
    fn horizon(&self, view: &View, covered: &[bool]) -> Vec<Option<f32>> {
        let (first, last) = (pixel_of(LAND_TOP, view.height), pixel_of(0.80, view.height));
        // How surely the pixel is land: above 0.5 it is.
        let landness = |column: usize, row: usize| {
            let at = view.at(column, row)?;
            let y = (row as f32 + 0.5) / view.height as f32;
            let (sky, land) = (distance(at, self.sky(y)), self.distance_to_land(at));
            Some((sky / (sky + land + 1e-3), sky.min(land)))
        };
        (0..view.width)
            .map(|column| {
                let is_free = |row: usize| covered.get(row * view.width + column) != Some(&true);
                let row = (first..last).find(|&row| {
                    (0..3).all(|below| {
                        landness(column, row + below).is_some_and(|(land, _)| land > 0.5)
                    })
                })?;
                let above = landness(column, row.checked_sub(3)?)?;
                let below = landness(column, row + 2)?;
                let is_edge = is_free(row) && above.0 < 0.5 && above.1 < 30.0 && below.1 < 30.0;
                let edge = landness(column, row.checked_sub(1)?)?.0.clamp(0.0, 0.5);
                is_edge.then(|| (row as f32 - edge) / view.height as f32)
            })
            .collect()
    }

    /// The land's outline, when enough of it shows.
    fn outline(&self, view: &View, covered: &[bool]) -> Option<Outline> {
        let horizon = self.horizon(view, covered);
        let heights: Vec<f32> = horizon.iter().copied().flatten().collect();
        if heights.len() * 4 < horizon.len() || heights.is_empty() {
            return None;
        }
        let mean = heights.iter().sum::<f32>() / heights.len() as f32;
        let spread = heights.iter().map(|y| (y - mean).abs()).sum::<f32>() / heights.len() as f32;
        let apart = (horizon.len() / 12).max(1);
        let bends: Vec<f32> = horizon
            .iter()
            .zip(horizon.iter().skip(apart))
            .zip(horizon.iter().skip(2 * apart))
            .filter_map(|((left, middle), right)| {
                Some(((*left)? - 2.0 * (*middle)? + (*right)?).abs())
            })
            .collect();
        if bends.is_empty() {
            return None;
        }
        let bend = bends.iter().sum::<f32>() / bends.len() as f32;
        Some(Outline { spread, bend })
    }
}

/// How a horizon looks.
#[derive(Clone, Copy, Debug)]
struct Outline {
    /// Mean distance from its mean height.
    spread: f32,
    /// Mean second difference over a twelfth of the width.
    bend: f32,
}

/// How badly the land fits; each term is a squared number of standard deviations, measured on painted pictures.
fn land_misfit(land: Land, shade: f32, outline: Option<Outline>) -> f32 {
    let nearest = land_shades(land).last().copied().unwrap_or(1.0);
    let from_shade = ((shade - nearest) / 0.05).powi(2);
    let (spread, bend) = match land {
        Land::Mountains => (0.033, 0.095),
        Land::Hills => (0.019, 0.022),
        Land::Sea => (0.0, 0.0),
        Land::Desert => (0.0147, 0.0035),
    };
    let from_outline = outline.map_or(0.0, |outline| {
        // On a logarithmic scale, above what a blurred flat horizon shows by itself.
        let off = |seen: f32, wanted: f32| ((seen + 0.003) / (wanted + 0.003)).ln();
        (off(outline.spread, spread) / 0.6).powi(2) + (off(outline.bend, bend) / 0.5).powi(2)
    });
    // One strange feature should not outvote the other.
    from_shade.min(16.0) + from_outline.min(16.0)
}

fn own_tone(colour: Colour) -> Tone {
    tone(colour.rgb().map(f32::from))
}

/// The value with the least cost.
pub(super) fn least<T: Copy + Default>(values: &[T], cost: impl Fn(&T) -> f32) -> T {
    let costs = values.iter().map(|value| (cost(value), *value));
    costs
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, value)| value)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Backdrop;
    use crate::postcards::view::View;
    use crate::postcards::{Postcard, Split, paint};

    #[test]
    fn painted_backdrops_are_read() {
        let mut wrong_kinds = 0;
        for seed in 0..100 {
            let postcard = Postcard::sample(seed, Split::Any);
            let read = Backdrop::read(&View::new(&paint(&postcard, seed, 128, 128)));
            assert_eq!(
                (read.time, read.land_colour),
                (postcard.time, postcard.land_colour),
                "{seed}"
            );
            wrong_kinds += u32::from(read.land != postcard.land);
        }
        // Things before the horizon disturb its outline until `read_land_behind` knows where they are.
        assert!(wrong_kinds <= 4, "{wrong_kinds} of 100 kinds of land");
    }
}
