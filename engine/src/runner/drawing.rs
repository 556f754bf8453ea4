//! Watches one drawing job: decodes what is to be seen, tells, stops.

use std::time::{Duration, Instant};

use super::budget::{DecodeCost, Moment, preview_grid};
use super::link::Link;
use super::{Previews, doubt};
use crate::api::{EngineError, Event, JobId, Rgb8Image, Source, Stage};
use crate::generate::{Bundle, ScaleView, Watcher};
use crate::memory;
use crate::schedule::Scale;
use crate::vae::Decoding;

/// Unfinished scales are shown inside of a larger picture only when it has at most so many pixels.
const MOST_LAID_OVER: usize = 1_500_000;

/// Watches the drawing loop: decodes, tells, stops.
pub(super) struct Drawing<'a> {
    pub(super) job: JobId,
    pub(super) bundle: &'a Bundle,
    pub(super) link: &'a Link,
    pub(super) previews: Previews,
    pub(super) cost: &'a mut DecodeCost,
    pub(super) scales: &'a [Scale],
    /// What pictures are laid over, when only a part is drawn.
    pub(super) source: Option<&'a Source>,
    pub(super) started: Instant,
    pub(super) scale_started: Instant,
    pub(super) preview_time: Duration,
    pub(super) picture: Option<Rgb8Image>,
    /// Bits of the scales so far.
    pub(super) bits: Vec<Vec<u8>>,
    /// Entropy per token of the scales drawn so far.
    pub(super) doubts: Vec<(Scale, Vec<f32>)>,
    /// Whether the device works by itself while the host goes on.
    pub(super) works_ahead: bool,
    /// The scale drawn last.
    pub(super) index: usize,
    /// What is being decoded of it.
    pub(super) decoding: Option<Begun>,
}

/// A picture of a scale on its way.
pub(super) struct Begun {
    grid: Scale,
    picture: Decoding,
    at: Instant,
}

impl Drawing<'_> {
    /// The grid to decode after scale `index`; the last one is no preview but the picture.
    fn grid(&self, index: usize, last: Scale) -> Option<Scale> {
        let own = self.scales.get(index).copied()?;
        let is_last = index + 1 == self.scales.len();
        let most = memory::most_preview_tokens(last, self.bundle.info.keeping);
        let so_far = self.scales.iter().take(index + 1).rev().copied();
        match self.previews {
            _ if is_last => Some(last),
            Previews::Off => None,
            Previews::Full => so_far
                .clone()
                .find(|scale| scale.tokens() <= most)
                .or(so_far.last()),
            Previews::Budgeted => {
                let at = Moment {
                    elapsed_secs: self.started.elapsed().as_secs_f32(),
                    preview_secs: self.preview_time.as_secs_f32(),
                    draw_secs_per_token: self.scale_started.elapsed().as_secs_f32()
                        / own.tokens() as f32,
                    tokens_left: self
                        .scales
                        .iter()
                        .skip(index + 1)
                        .map(|scale| scale.tokens())
                        .sum(),
                    last_tokens: last.tokens(),
                };
                preview_grid(self.scales, index, most, self.cost, at)
            }
        }
    }
}

impl Watcher for Drawing<'_> {
    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        self.link.step();
        let (job, index) = (self.job, view.index);
        let is_last = index + 1 == self.scales.len();
        self.index = index;
        self.bits.extend(view.bits.first().cloned());
        if let Some(logits) = view.logits.first() {
            let tokens = doubt::of_tokens(logits, view.scale.tokens());
            self.doubts.push((view.scale, tokens));
        }
        let (Some(sum), Some(&last)) = (view.sums.first(), self.scales.last()) else {
            return Err(EngineError::internal("a scale without a picture"));
        };
        if is_last {
            self.link.tell(Event::Stage {
                job,
                stage: Stage::Decoding,
            });
        }
        if self.is_cancelled() {
            return Ok(());
        }
        self.decoding = self.grid(index, last).map(|grid| Begun {
            grid,
            at: Instant::now(),
            picture: self.bundle.begin_preview(sum, grid, last),
        });
        Ok(())
    }

    fn works_ahead(&self) -> bool {
        self.works_ahead && self.decoding.is_some()
    }

    fn shown(&mut self) -> Result<(), EngineError> {
        let (job, index, count) = (self.job, self.index, self.scales.len());
        let is_last = index + 1 == count;
        if let Some(Begun { grid, picture, at }) = self.decoding.take() {
            let preview = picture.finish()?;
            let laid_over = self.source.filter(|source| {
                let pixels = source.picture.pixels.len() / 3;
                is_last || pixels <= MOST_LAID_OVER
            });
            let preview = laid_over
                .and_then(|source| source.composed(&preview))
                .unwrap_or(preview);
            let took = at.elapsed();
            self.cost.learn(grid.tokens(), took.as_secs_f32());
            if is_last {
                self.picture = Some(preview.clone());
            } else {
                self.preview_time += took;
            }
            self.link.tell(Event::ScaleDone {
                job,
                scale_index: index,
                scale_count: count,
                preview,
                elapsed_secs: self.started.elapsed().as_secs_f32(),
            });
        } else if self.is_cancelled() {
            return Ok(());
        }
        if !is_last {
            self.link.tell(Event::Stage {
                job,
                stage: Stage::Scale(index + 1),
            });
        }
        self.scale_started = Instant::now();
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.link.is_stopped(self.job)
    }
}
