//! A picture to start from, and where it may change.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{EngineError, Rgb8Image};

/// Where a picture is drawn anew: a value per pixel, row by row from the top.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// 0 keeps the pixel, byte for byte; 255 draws it anew; between, both are mixed.
    #[serde(with = "super::bytes")]
    pub values: Arc<[u8]>,
}

impl Mask {
    /// A mask of `value` everywhere.
    pub fn filled(width: u32, height: u32, value: u8) -> Self {
        let count = width as usize * height as usize;
        Self {
            width,
            height,
            values: vec![value; count].into(),
        }
    }

    /// A mask whose value at (`x`, `y`) is what `value` says.
    pub fn from_fn(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> Self {
        let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self {
            width,
            height,
            values: rows.map(|(x, y)| value(x, y)).collect(),
        }
    }

    /// Inside becomes outside.
    pub fn inverted(&self) -> Self {
        Self {
            values: self.values.iter().map(|value| 255 - value).collect(),
            ..*self
        }
    }

    /// A mask that rises from its edge to full over about `radius` pixels inwards; outside stays outside.
    pub fn feathered(&self, radius: u32) -> Self {
        if radius == 0 {
            return self.clone();
        }
        let (width, height) = (self.width as usize, self.height as usize);
        let across = blurred(&self.values, width, radius as usize);
        let turned = transposed(&across, width, height);
        let down = transposed(&blurred(&turned, height, radius as usize), height, width);
        let values = self.values.iter().zip(down).map(|(&own, mean)| {
            let rise = (2 * i32::from(mean) - 255).clamp(0, 255) as u8;
            if own == 0 { 0 } else { rise.max(1).min(own) }
        });
        Self {
            values: values.collect(),
            ..*self
        }
    }

    /// Share of the pixels that are drawn anew, at least in part.
    pub fn share(&self) -> f32 {
        let inside = self.values.iter().filter(|&&value| value > 0).count();
        inside as f32 / self.values.len().max(1) as f32
    }
}

/// The mean over `radius` values to both sides along rows; beyond the end of a row its last value goes on.
fn blurred(values: &[u8], width: usize, radius: usize) -> Vec<u8> {
    let mut result = Vec::with_capacity(values.len());
    for row in values.chunks_exact(width.max(1)) {
        let at = |index: isize| u32::from(row[index.clamp(0, width as isize - 1) as usize]);
        let radius = radius as isize;
        let mut sum: u32 = (-radius..=radius).map(at).sum();
        for x in 0..width as isize {
            result.push((sum / (2 * radius as u32 + 1)) as u8);
            sum = sum + at(x + radius + 1) - at(x - radius);
        }
    }
    result
}

fn transposed(values: &[u8], width: usize, height: usize) -> Vec<u8> {
    let columns = (0..width).flat_map(|x| (0..height).map(move |y| values[y * width + x]));
    columns.collect()
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({}x{})", self.width, self.height)
    }
}

/// Pixels to add at the sides of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sides {
    /// At the left.
    pub left: u32,
    /// Above.
    pub top: u32,
    /// At the right.
    pub right: u32,
    /// Below.
    pub bottom: u32,
}

/// A picture to start from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The picture.
    pub picture: Rgb8Image,
    /// Where it is drawn anew; `None` where only its first scales are kept.
    pub mask: Option<Mask>,
}

impl Source {
    /// `picture` on a larger canvas, the new part to be drawn and, until then, filled with the colours of its edge.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] for sides that add nothing or more than three times the picture.
    pub fn extended(picture: &Rgb8Image, sides: Sides) -> Result<Self, EngineError> {
        let (width, height) = (picture.width, picture.height);
        let most = 3 * width.max(height);
        let all = [sides.left, sides.top, sides.right, sides.bottom];
        let refused = |advice: &str| EngineError::BadSetting {
            what: "The space around the picture",
            value: format!("{all:?}"),
            advice: advice.to_owned(),
        };
        if all.iter().all(|&side| side == 0) {
            return Err(refused("Add some pixels at a side."));
        }
        if width == 0 || height == 0 || all.iter().any(|&side| side > most) {
            return Err(refused("Add at most three times the picture at a side."));
        }
        let (wide, high) = (
            width + sides.left + sides.right,
            height + sides.top + sides.bottom,
        );
        let nearest = |at: u32, before: u32, size: u32| at.saturating_sub(before).min(size - 1);
        let mut pixels = Vec::with_capacity(3 * wide as usize * high as usize);
        for y in 0..high {
            for x in 0..wide {
                let (x, y) = (nearest(x, sides.left, width), nearest(y, sides.top, height));
                pixels.extend(picture.pixel(x, y).unwrap_or_default());
            }
        }
        let inside = |x: u32, y: u32| {
            let of_picture = (sides.left..sides.left + width).contains(&x)
                && (sides.top..sides.top + height).contains(&y);
            if of_picture { 0 } else { 255 }
        };
        let picture = Rgb8Image::new(wide, high, pixels)
            .ok_or_else(|| EngineError::internal("the size of the canvas"))?;
        Ok(Self {
            picture,
            mask: Some(Mask::from_fn(wide, high, inside)),
        })
    }

    /// Refuses a mask that does not belong to the picture or changes nothing.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] saying which.
    pub fn check(&self) -> Result<(), EngineError> {
        let Rgb8Image { width, height, .. } = self.picture;
        let refused = |value: String, advice: &str| EngineError::BadSetting {
            what: "The mask",
            value,
            advice: advice.to_owned(),
        };
        if width == 0 || height == 0 {
            return Err(refused("none".to_owned(), "The picture has no pixels."));
        }
        let Some(mask) = &self.mask else {
            return Ok(());
        };
        let whole = mask.values.len() == mask.width as usize * mask.height as usize;
        if (mask.width, mask.height) != (width, height) || !whole {
            let own = format!("{}×{}", mask.width, mask.height);
            let advice = format!("It must have the size of the picture, {width}×{height}.");
            return Err(refused(own, &advice));
        }
        match mask.values.iter().find(|&&value| value > 0) {
            None => Err(refused(
                "empty".to_owned(),
                "Paint over the part that is to be drawn anew.",
            )),
            Some(_) if mask.values.iter().all(|&value| value == 255) => Err(refused(
                "the whole picture".to_owned(),
                "Leave something to keep, or draw a new picture.",
            )),
            Some(_) => Ok(()),
        }
    }

    /// `drawn`, resized where needed, inside of the mask, and the picture itself, byte for byte, outside.
    pub fn composed(&self, drawn: &Rgb8Image) -> Option<Rgb8Image> {
        let mask = self.mask.as_ref()?;
        let (width, height) = (self.picture.width, self.picture.height);
        let drawn = drawn.resized(width, height)?;
        let mut pixels = self.picture.pixels.to_vec();
        let places = pixels.iter_mut().zip(drawn.pixels.iter()).enumerate();
        for (index, (own, &new)) in places {
            let share = u32::from(*mask.values.get(index / 3)?);
            let mixed = (u32::from(*own) * (255 - share) + u32::from(new) * share + 127) / 255;
            *own = mixed as u8;
        }
        Rgb8Image::new(width, height, pixels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: u32, height: u32) -> Rgb8Image {
        let count = 3 * (width * height) as usize;
        Rgb8Image::new(width, height, (0..count).map(|i| (i * 7) as u8).collect()).unwrap()
    }

    #[test]
    fn feathers_rise_inwards_and_leave_the_outside_alone() {
        let mask = Mask::from_fn(40, 30, |x, y| if x > 9 && y > 4 { 255 } else { 0 });
        let soft = mask.feathered(4);
        for (hard, soft) in mask.values.iter().zip(soft.values.iter()) {
            assert_eq!(*hard == 0, *soft == 0);
        }
        let row = &soft.values[40 * 20..40 * 21];
        assert!(row.windows(2).all(|pair| pair[0] <= pair[1]), "{row:?}");
        assert!(row[10] < 64 && row[20] == 255, "{row:?}");
        assert_eq!(mask.feathered(0), mask);
        assert_eq!(mask.inverted().inverted(), mask);
        assert_eq!(mask.inverted().share() + mask.share(), 1.0);
    }

    #[test]
    fn the_outside_is_kept_byte_for_byte() {
        let picture = grey(9, 7);
        let mask = Mask::from_fn(9, 7, |x, _| [0, 128, 255][x as usize / 3]);
        let source = Source {
            picture: picture.clone(),
            mask: Some(mask),
        };
        let black = Rgb8Image::new(4, 3, vec![0; 36]).unwrap();
        let composed = source.composed(&black).unwrap();
        for (x, y) in (0..9).flat_map(|x| (0..7).map(move |y| (x, y))) {
            let (old, new) = (picture.pixel(x, y).unwrap(), composed.pixel(x, y).unwrap());
            match x / 3 {
                0 => assert_eq!(new, old),
                1 => assert!(
                    new.iter()
                        .zip(old)
                        .all(|(new, old)| new.abs_diff(old / 2) <= 1)
                ),
                _ => assert_eq!(new, [0; 3]),
            }
        }
    }

    #[test]
    fn canvases_grow_around_the_picture() {
        let picture = grey(5, 4);
        let sides = Sides {
            left: 12,
            bottom: 1,
            ..Sides::default()
        };
        let source = Source::extended(&picture, sides).unwrap();
        source.check().unwrap();
        assert_eq!((source.picture.width, source.picture.height), (17, 5));
        let mask = source.mask.as_ref().unwrap();
        for (x, y) in (0..5).flat_map(|x| (0..4).map(move |y| (x, y))) {
            assert_eq!(source.picture.pixel(x + 12, y), picture.pixel(x, y));
            assert_eq!(mask.values[(y * 17 + x + 12) as usize], 0);
        }
        assert_eq!(source.picture.pixel(11, 2), picture.pixel(0, 2));
        assert_eq!(
            mask.values.iter().filter(|v| **v == 255).count(),
            17 * 5 - 20
        );
        assert!(Source::extended(&picture, Sides::default()).is_err());
        assert!(Source::extended(&picture, Sides { top: 99, ..sides }).is_err());
    }

    #[test]
    fn masks_that_mean_nothing_are_refused() {
        let with = |mask: Mask| Source {
            picture: grey(6, 4),
            mask: Some(mask),
        };
        let said = |mask: Mask| with(mask).check().unwrap_err().to_string();
        assert!(said(Mask::filled(6, 5, 255)).contains("size of the picture, 6×4"));
        assert!(said(Mask::filled(6, 4, 0)).contains("Paint"));
        assert!(said(Mask::filled(6, 4, 255)).contains("new picture"));
        with(Mask::from_fn(6, 4, |x, _| x as u8)).check().unwrap();
    }
}
