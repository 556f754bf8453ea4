//! Finds a body or a thing by trying: every kind, colour and place is laid over the picture, and the one that
//! explains the pixels best, compared with bare sky and land, is what the picture shows.
//!
//! A sum over hundreds of pixels decides, not an edge or a threshold, so blur and wrong colours matter little.

use super::attributes::{BodyKind, Colour, Place, ThingKind};
use super::backdrop::Backdrop;
use super::geometry::{BODY_RADIUS, BODY_Y, Ink, anchor_y, body_covers, parts_of, place_of};
use super::postcard::{Body, Thing};
use super::view::{View, distance, distance_to_mix, pixel_of, tone};

/// Colours that a body or thing may have, in the order of [`Cell::own`].
const COLOURS: [Colour; 6] = [
    Colour::Red,
    Colour::Yellow,
    Colour::White,
    Colour::Blue,
    Colour::Purple,
    Colour::Orange,
];
/// Differences of colour much smaller than this are noise.
const NOISE: f32 = 15.0;
/// A first search looks at every fourth pixel of a template, in steps of two pixels.
const THINNED: usize = 4;
const STEP: usize = 2;
/// A fit that explains less than this part of what it covers is no fit.
const LEAST_QUALITY: f32 = 0.15;

/// A pixel's vote for each ink against the backdrop: 1 for the ink, -1 for the backdrop, 0 halfway.
///
/// A vote is a ratio of distances, so that a pale thing in a pale sky counts as much as a bright one at night.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    own: [f32; COLOURS.len()],
    /// Roofs, doors, trunks, hulls and baskets: any dark brown.
    brown: f32,
    lamp: f32,
}

/// What a template pixel should show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Own,
    Brown,
    Lamp,
}

/// The pixels of a body or thing around its anchor.
struct Template {
    /// Offset right, offset down, and what should be there.
    pixels: Vec<(isize, isize, Slot)>,
    /// The greatest offset to either side.
    reach: usize,
}

/// How well a template of one colour explains the pixels below it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Score {
    /// Sum of the votes.
    pub(super) gain: f32,
    /// Number of pixels.
    size: f32,
}

impl Score {
    /// 1: explains every pixel; 0: no better than the backdrop.
    fn quality(self) -> f32 {
        self.gain / self.size.max(1.0)
    }
}

/// A found body or thing.
#[derive(Clone, Debug)]
pub(super) struct Fit<T> {
    /// The best guess.
    pub(super) what: T,
    /// How well it explains the picture.
    pub(super) score: Score,
    /// Pixels it covers, and whether they show its own colour.
    pub(super) covered: Vec<(usize, bool)>,
}

/// The picture as votes.
pub(super) struct Field {
    width: usize,
    /// The width again, to step up and down by.
    stride: isize,
    height: usize,
    short: f32,
    cells: Vec<Cell>,
}

impl Field {
    /// Lets every pixel vote.
    pub(super) fn new(view: &View, backdrop: &Backdrop) -> Self {
        let inks = COLOURS.map(|colour| tone(colour.rgb().map(f32::from)));
        let browns = (tone([60.0, 35.0, 25.0]), tone([120.0, 80.0, 40.0]));
        let lamp = tone([255.0, 230.0, 150.0]);
        let cell = |y: f32, at| {
            let to_backdrop = backdrop.distance(at, y);
            let vote = |to_ink: f32| (to_backdrop - to_ink) / (to_backdrop + to_ink + NOISE);
            Cell {
                own: inks.map(|ink| vote(distance(at, ink))),
                brown: vote(distance_to_mix(at, browns.0, browns.1)),
                lamp: vote(distance(at, lamp)),
            }
        };
        let rows = view.rows();
        Self {
            width: view.width,
            stride: isize::try_from(view.width).unwrap_or(0),
            height: view.height,
            short: view.short(),
            cells: rows
                .flat_map(|(y, tones)| tones.iter().map(move |&at| cell(y, at)))
                .collect(),
        }
    }

    /// Marks pixels as explained: nothing is gained there.
    pub(super) fn cover(&mut self, covered: &[(usize, bool)]) {
        for &(place, _) in covered {
            if let Some(cell) = self.cells.get_mut(place) {
                // The small cost keeps a second fit from settling on the rim of the first.
                *cell = Cell {
                    own: [-0.2; COLOURS.len()],
                    brown: -0.2,
                    lamp: -0.2,
                };
            }
        }
    }

    /// The body that explains most.
    pub(super) fn find_body(&self) -> Option<Fit<Body>> {
        let radii = [0.0, 0.5, 1.0].map(|at| BODY_RADIUS.0 + (BODY_RADIUS.1 - BODY_RADIUS.0) * at);
        let mut best: Option<Fit<Body>> = None;
        for &kind in BodyKind::ALL {
            for radius in radii {
                let size = radius * self.short;
                let template = template(1.05 * size, |x, y| {
                    body_covers(kind, x / size, y / size).then_some(Slot::Own)
                });
                let found = self.best_at(&template, BODY_Y, Colour::OF_BODIES);
                if let Some((score, colour, column, row)) = found
                    && best
                        .as_ref()
                        .is_none_or(|best| score.gain > best.score.gain)
                {
                    let body = Body {
                        kind,
                        colour,
                        place: self.place(column),
                    };
                    best = Some(Fit {
                        what: body,
                        score,
                        covered: self.covered(&template, column, row),
                    });
                }
            }
        }
        best.filter(|fit| fit.score.quality() > LEAST_QUALITY)
    }

    /// The thing, or the trees of one colour, that explains most.
    pub(super) fn find_thing(&self) -> Option<Fit<Thing>> {
        let mut best: Option<Fit<Thing>> = None;
        for &kind in ThingKind::ALL {
            let template = template(0.45 * self.short, |x, y| {
                slot(kind, x / self.short, y / self.short)
            });
            let found = if kind == ThingKind::Tree {
                self.find_trees(&template)
            } else {
                self.best_at(&template, anchor_y(kind), Colour::OF_THINGS)
                    .map(|(score, colour, column, row)| Fit {
                        what: Thing {
                            kind,
                            colour,
                            place: Some(self.place(column)),
                            count: 1,
                        },
                        score,
                        covered: self.covered(&template, column, row),
                    })
            };
            if let Some(found) = found
                && best
                    .as_ref()
                    .is_none_or(|best| found.score.gain > best.score.gain)
            {
                best = Some(found);
            }
        }
        best.filter(|fit| fit.score.quality() > LEAST_QUALITY)
    }

    /// Trees of one colour, taken from the best to the worst as long as they do not overlap.
    fn find_trees(&self, template: &Template) -> Option<Fit<Thing>> {
        let tries = self.tries(template, anchor_y(ThingKind::Tree));
        let of_colour = |colour: &Colour| {
            let mut sorted: Vec<(Score, usize, usize)> = tries
                .iter()
                .filter_map(|(scores, column, row)| {
                    Some((score_of(scores, *colour)?, *column, *row))
                })
                .filter(|(score, ..)| score.quality() > LEAST_QUALITY)
                .collect();
            sorted.sort_by(|a, b| b.0.gain.total_cmp(&a.0.gain));
            let mut chosen: Vec<(Score, usize, usize)> = Vec::new();
            for (score, column, row) in sorted {
                let is_free = chosen
                    .iter()
                    .all(|other| other.1.abs_diff(column) as f32 > 0.15 * self.short);
                let is_strong = chosen
                    .first()
                    .is_none_or(|first| score.gain > 0.4 * first.0.gain);
                if is_free && is_strong {
                    chosen.push(self.refine(template, *colour, column, row));
                }
            }
            let mut sum = Score::default();
            for (score, ..) in &chosen {
                sum.gain += score.gain;
                sum.size += score.size;
            }
            Some(Fit {
                what: Thing {
                    kind: ThingKind::Tree,
                    colour: *colour,
                    place: None,
                    count: u8::try_from(chosen.len()).ok().filter(|&count| count > 0)?,
                },
                score: sum,
                covered: chosen
                    .iter()
                    .flat_map(|at| self.covered(template, at.1, at.2))
                    .collect(),
            })
        };
        let fits = Colour::OF_THINGS.iter().filter_map(of_colour);
        fits.max_by(|a, b| a.score.gain.total_cmp(&b.score.gain))
    }

    /// The anchor and colour with the greatest gain.
    fn best_at(
        &self,
        template: &Template,
        heights: (f32, f32),
        colours: &[Colour],
    ) -> Option<(Score, Colour, usize, usize)> {
        let best_colour = |scores: &[Score; COLOURS.len()]| {
            let scored = colours
                .iter()
                .filter_map(|&colour| Some((score_of(scores, colour)?, colour)));
            scored.max_by(|a, b| a.0.gain.total_cmp(&b.0.gain))
        };
        let tries = self.tries(template, heights);
        let all = tries.iter().filter_map(|(scores, column, row)| {
            let (score, colour) = best_colour(scores)?;
            Some((score, colour, *column, *row))
        });
        let (_, colour, column, row) = all.max_by(|a, b| a.0.gain.total_cmp(&b.0.gain))?;
        let (score, column, row) = self.refine(template, colour, column, row);
        Some((score, colour, column, row))
    }

    /// The scores at every anchor between two heights, `STEP` pixels apart, over the whole width.
    fn tries(
        &self,
        template: &Template,
        heights: (f32, f32),
    ) -> Vec<([Score; COLOURS.len()], usize, usize)> {
        // A model may miss the painter's heights by a little.
        let rows =
            pixel_of(heights.0 - 0.03, self.height)..=pixel_of(heights.1 + 0.03, self.height);
        let columns = pixel_of(0.08, self.width)..=pixel_of(0.92, self.width);
        rows.step_by(STEP)
            .flat_map(|row| {
                columns
                    .clone()
                    .step_by(STEP)
                    .map(move |column| (column, row))
            })
            .map(|(column, row)| (self.score(template, column, row, THINNED), column, row))
            .collect()
    }

    /// Scores every `thinned`-th pixel of a template, for each colour, as if it were all of them.
    fn score(
        &self,
        template: &Template,
        column: usize,
        row: usize,
        thinned: usize,
    ) -> [Score; COLOURS.len()] {
        let mut own = [0.0; COLOURS.len()];
        let (mut fixed, mut size) = (0.0, 0.0);
        let anchor = row * self.width + column;
        let is_inside = column >= template.reach && column + template.reach < self.width;
        for &(dx, dy, slot) in template.pixels.iter().step_by(thinned) {
            let place = if is_inside {
                // Above and below the picture there is no cell; to its sides there would be one of another row.
                anchor.checked_add_signed(dy * self.stride + dx)
            } else {
                self.index(column, row, dx, dy)
            };
            let Some(cell) = place.and_then(|place| self.cells.get(place)) else {
                continue;
            };
            size += 1.0;
            match slot {
                Slot::Own => own
                    .iter_mut()
                    .zip(cell.own)
                    .for_each(|(sum, vote)| *sum += vote),
                Slot::Brown => fixed += cell.brown,
                Slot::Lamp => fixed += cell.lamp,
            }
        }
        let scale = thinned as f32;
        own.map(|sum| Score {
            gain: scale * (sum + fixed),
            size: scale * size,
        })
    }

    /// The best whole score within a step of an anchor.
    fn refine(
        &self,
        template: &Template,
        colour: Colour,
        column: usize,
        row: usize,
    ) -> (Score, usize, usize) {
        let near = |at: usize| at.saturating_sub(STEP - 1)..at + STEP;
        let mut best = (
            Score {
                gain: f32::MIN,
                size: 1.0,
            },
            column,
            row,
        );
        for row in near(row) {
            for column in near(column) {
                let score = score_of(&self.score(template, column, row, 1), colour);
                if let Some(score) = score.filter(|score| score.gain > best.0.gain) {
                    best = (score, column, row);
                }
            }
        }
        best
    }

    fn covered(&self, template: &Template, column: usize, row: usize) -> Vec<(usize, bool)> {
        let place = |&(dx, dy, slot): &(isize, isize, Slot)| {
            Some((self.index(column, row, dx, dy)?, slot == Slot::Own))
        };
        template.pixels.iter().filter_map(place).collect()
    }

    fn index(&self, column: usize, row: usize, dx: isize, dy: isize) -> Option<usize> {
        let column = column
            .checked_add_signed(dx)
            .filter(|&column| column < self.width)?;
        let row = row
            .checked_add_signed(dy)
            .filter(|&row| row < self.height)?;
        Some(row * self.width + column)
    }

    fn place(&self, column: usize) -> Place {
        place_of((column as f32 + 0.5) / self.width as f32)
    }
}

fn score_of(scores: &[Score; COLOURS.len()], colour: Colour) -> Option<Score> {
    COLOURS
        .iter()
        .zip(scores)
        .find(|(other, _)| **other == colour)
        .map(|(_, score)| *score)
}

/// The front part of a thing at an offset from its anchor, in shorter sides.
fn slot(kind: ThingKind, x: f32, y: f32) -> Option<Slot> {
    let part = parts_of(kind)
        .iter()
        .rev()
        .find(|part| part.shape.contains(x, y))?;
    Some(match part.ink {
        Ink::Own => Slot::Own,
        Ink::Fixed([r, _, _]) if r > 200 => Slot::Lamp,
        Ink::Fixed(_) => Slot::Brown,
    })
}

/// Samples a shape at every pixel up to `reach` pixels from the anchor.
fn template(reach: f32, slot: impl Fn(f32, f32) -> Option<Slot>) -> Template {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a reach is at most a picture's side"
    )]
    let reach = reach.ceil() as i16;
    let offsets = (-reach..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dx, dy)));
    let pixels: Vec<_> = offsets
        .filter_map(|(dx, dy)| {
            let slot = slot(f32::from(dx), f32::from(dy))?;
            Some((isize::from(dx), isize::from(dy), slot))
        })
        .collect();
    let reach = pixels
        .iter()
        .map(|(dx, _, _)| dx.unsigned_abs())
        .max()
        .unwrap_or(0);
    Template { pixels, reach }
}
