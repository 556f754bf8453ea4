//! Changing a part of a picture: the mask being painted, and what came of it.

use infinity_engine::api::{
    Doubt, EngineError, GenerateSpec, JobId, Mask, Rgb8Image, Sides, Source,
};

/// Longest side of a picture whose part is changed by painting; larger ones are slow to paint on.
const MOST_SIDE: u32 = 8192;

/// What the user does to a mask.
#[derive(Clone, Debug, PartialEq)]
pub enum MaskEdit {
    /// Paint, or erase, from one place to another; pixels of the picture.
    Stroke {
        /// Where it begins.
        from: (f32, f32),
        /// Where it ends.
        to: (f32, f32),
    },
    /// Radius of the brush in pixels of the picture.
    Brush(f32),
    /// Whether strokes erase.
    Erase(bool),
    /// Pixels over which new and old are mixed.
    Feather(u32),
    /// Inside becomes outside.
    Invert,
    /// Nothing is painted.
    Clear,
    /// Add the parts the model was least sure of.
    Doubtful,
    /// Pixels to add around the picture.
    Sides(Sides),
    /// Show what was drawn, or the mask.
    ShowResult(bool),
}

/// A picture of which a part is to be drawn anew.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The picture.
    pub picture: Rgb8Image,
    /// The wish it came from, with its bits when it has any.
    pub spec: GenerateSpec,
    /// The picture in the list of this session.
    pub parent: JobId,
    /// Where its bits were uncertain.
    pub doubt: Option<Doubt>,
    /// What is painted, a value per pixel, 255 to be drawn anew.
    pub painted: Vec<u8>,
    /// Counts changes of what is painted.
    pub version: u64,
    /// Radius of the brush in pixels of the picture.
    pub brush: f32,
    /// Whether strokes erase.
    pub erase: bool,
    /// Pixels over which new and old are mixed.
    pub feather: u32,
    /// Pixels to add around the picture.
    pub sides: Sides,
    /// Whether the last result is shown rather than the mask.
    pub show_result: bool,
}

impl Edit {
    /// Begins with nothing painted; `None` for a picture too large to paint on.
    pub fn new(
        picture: &Rgb8Image,
        spec: &GenerateSpec,
        parent: JobId,
        doubt: Option<Doubt>,
    ) -> Option<Self> {
        let (width, height) = (picture.width, picture.height);
        if width.max(height) > MOST_SIDE {
            return None;
        }
        let short = width.min(height) as f32;
        Some(Self {
            picture: picture.clone(),
            spec: spec.clone(),
            parent,
            doubt,
            painted: vec![0; width as usize * height as usize],
            version: 0,
            brush: (short / 10.0).max(1.0),
            erase: false,
            feather: (short / 32.0).round().max(1.0) as u32,
            sides: Sides::default(),
            show_result: false,
        })
    }

    /// Takes in what the user does.
    pub fn apply(&mut self, edit: MaskEdit) {
        let shows = matches!(edit, MaskEdit::ShowResult(_));
        match edit {
            MaskEdit::Stroke { from, to } => self.stroke(from, to),
            MaskEdit::Brush(radius) => self.brush = radius.max(0.5),
            MaskEdit::Erase(erase) => self.erase = erase,
            MaskEdit::Feather(feather) => self.feather = feather,
            MaskEdit::Invert => self
                .painted
                .iter_mut()
                .for_each(|value| *value = 255 - *value),
            MaskEdit::Clear => self.painted.fill(0),
            MaskEdit::Doubtful => self.add_doubtful(),
            MaskEdit::Sides(sides) => self.sides = sides,
            MaskEdit::ShowResult(show) => self.show_result = show,
        }
        if !shows {
            self.show_result = false;
        }
        self.version += 1;
    }

    /// A line with round ends.
    fn stroke(&mut self, from: (f32, f32), to: (f32, f32)) {
        let (width, height) = (self.picture.width as usize, self.picture.height as usize);
        let radius = self.brush;
        let value = if self.erase { 0 } else { 255 };
        let bounds = |a: f32, b: f32, most: usize| {
            let low = (a.min(b) - radius).floor().max(0.0) as usize;
            let high = (a.max(b) + radius).ceil().max(0.0) as usize;
            low.min(most)..(high + 1).min(most)
        };
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = (dx * dx + dy * dy).max(1e-6);
        for y in bounds(from.1, to.1, height) {
            for x in bounds(from.0, to.0, width) {
                let (px, py) = (x as f32 + 0.5 - from.0, y as f32 + 0.5 - from.1);
                let along = ((px * dx + py * dy) / length).clamp(0.0, 1.0);
                let (ex, ey) = (px - along * dx, py - along * dy);
                if ex * ex + ey * ey <= radius * radius {
                    self.painted[y * width + x] = value;
                }
            }
        }
    }

    /// Paints the quarter of the places where bits were least certain.
    fn add_doubtful(&mut self) {
        let Some(doubt) = &self.doubt else {
            return;
        };
        let mut sorted = doubt.values.clone();
        sorted.sort_unstable();
        let Some(&least) = sorted.get(sorted.len() * 3 / 4) else {
            return;
        };
        let (width, height) = (self.picture.width as usize, self.picture.height as usize);
        for y in 0..height {
            for x in 0..width {
                let place = y * doubt.height / height * doubt.width + x * doubt.width / width;
                if doubt
                    .values
                    .get(place)
                    .is_some_and(|&value| value >= least.max(1))
                {
                    self.painted[y * width + x] = 255;
                }
            }
        }
    }

    /// Whether anything is painted.
    pub fn is_painted(&self) -> bool {
        self.painted.contains(&255)
    }

    /// What the engine is to draw from, and whether the bits of the picture still belong to it.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] when nothing or everything is painted.
    pub fn source(&self) -> Result<(Source, bool), EngineError> {
        let Rgb8Image { width, height, .. } = self.picture;
        let painted = Mask {
            width,
            height,
            values: self.painted.clone().into(),
        };
        if self.sides == Sides::default() {
            let source = Source {
                picture: self.picture.clone(),
                mask: Some(painted),
            };
            source.check()?;
            let mask = source.mask.map(|mask| mask.feathered(self.feather));
            return Ok((Source { mask, ..source }, true));
        }
        let grown = Source::extended(&self.picture, self.sides)?;
        let sides = self.sides;
        let mask = grown.mask.map(|mask| {
            let painted = painted.feathered(self.feather);
            Mask::from_fn(mask.width, mask.height, |x, y| {
                let own = mask.values[(y * mask.width + x) as usize];
                if own > 0 {
                    return own;
                }
                painted.values[((y - sides.top) * width + x - sides.left) as usize]
            })
        });
        Ok((Source { mask, ..grown }, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit() -> Edit {
        let picture = Rgb8Image::new(40, 30, vec![9; 3600]).unwrap();
        Edit::new(&picture, &GenerateSpec::new("a", 1), JobId(1), None).unwrap()
    }

    fn at(edit: &Edit, x: usize, y: usize) -> u8 {
        edit.painted[y * 40 + x]
    }

    #[test]
    fn strokes_paint_and_erase() {
        let mut edit = edit();
        assert!(edit.source().is_err());
        edit.apply(MaskEdit::Brush(3.0));
        let (from, to) = ((5.0, 15.0), (35.0, 15.0));
        edit.apply(MaskEdit::Stroke { from, to });
        assert_eq!(
            [at(&edit, 4, 15), at(&edit, 20, 13), at(&edit, 20, 20)],
            [255, 255, 0]
        );
        edit.apply(MaskEdit::Erase(true));
        edit.apply(MaskEdit::Stroke { from: to, to });
        assert_eq!([at(&edit, 34, 15), at(&edit, 20, 15)], [0, 255]);
        // Outside of the picture there is nothing to paint.
        edit.apply(MaskEdit::Stroke {
            from: (-90.0, -9.0),
            to: (-50.0, 900.0),
        });
        let (source, own_bits) = edit.source().unwrap();
        assert!(own_bits && source.check().is_ok());
        edit.apply(MaskEdit::Invert);
        assert_eq!([at(&edit, 34, 15), at(&edit, 20, 15)], [255, 0]);
        edit.apply(MaskEdit::Clear);
        assert!(!edit.is_painted());
    }

    #[test]
    fn doubtful_parts_are_the_upper_quarter() {
        let mut edit = edit();
        let values = vec![0, 10, 20, 90];
        edit.doubt = Some(Doubt {
            width: 2,
            height: 2,
            values,
        });
        edit.apply(MaskEdit::Doubtful);
        assert_eq!(
            [at(&edit, 0, 0), at(&edit, 39, 0), at(&edit, 39, 29)],
            [0, 0, 255]
        );
    }

    #[test]
    fn canvases_grow_with_what_is_painted() {
        let mut edit = edit();
        edit.apply(MaskEdit::Feather(0));
        edit.apply(MaskEdit::Stroke {
            from: (2.0, 2.0),
            to: (2.0, 2.0),
        });
        let sides = Sides {
            left: 10,
            top: 5,
            ..Sides::default()
        };
        edit.apply(MaskEdit::Sides(sides));
        let (source, own_bits) = edit.source().unwrap();
        let mask = source.mask.unwrap();
        assert!(!own_bits && (mask.width, mask.height) == (50, 35));
        let value = |x: u32, y: u32| mask.values[(y * 50 + x) as usize];
        assert_eq!([value(9, 20), value(12, 7), value(40, 30)], [255, 255, 0]);
    }
}
