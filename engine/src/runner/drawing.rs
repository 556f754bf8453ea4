//! One drawing job: from a wish to events.

use std::time::{Duration, Instant};

use super::Previews;
use super::budget::{DecodeCost, Moment, preview_grid};
use super::link::Link;
use crate::api::{EngineError, Event, GenerateSpec, JobId, PictureBits, Rgb8Image, Stage};
use crate::generate::{Bundle, Outcome, Plan, ScaleView, Watcher, generate};
use crate::schedule::Scale;
use crate::text::TextFeatures;

/// Encoded texts kept for later pictures.
const KEPT_TEXTS: usize = 8;

/// A loaded model and what was learned while drawing with it.
pub(super) struct Studio {
    pub(super) bundle: Bundle,
    cost: DecodeCost,
    texts: Vec<(String, TextFeatures)>,
}

impl Studio {
    pub(super) fn new(bundle: Bundle) -> Self {
        Self {
            bundle,
            cost: DecodeCost::default(),
            texts: Vec::new(),
        }
    }

    /// Draws one picture and tells how it goes; the caller tells of errors.
    pub(super) fn draw(
        &mut self,
        job: JobId,
        spec: &GenerateSpec,
        previews: Previews,
        link: &Link,
    ) -> Result<(), EngineError> {
        let started = Instant::now();
        let config = &self.bundle.transformer.config;
        let token_bits = config.token_bits();
        let mut plan = Plan::new(spec, self.bundle.info.scale_count, config.depth)?;
        plan.keep(spec, token_bits)?;
        for (name, text) in [
            ("prompt", &spec.prompt),
            ("negative prompt", &spec.negative_prompt),
        ] {
            plan.notes.extend(self.cut_note(name, text)?);
        }
        for lora in self.bundle.wear(&spec.loras)? {
            if !lora.trigger.is_empty() && !spec.prompt.contains(&lora.trigger) {
                plan.notes.push(format!(
                    "The LoRA {:?} is called up by the word {:?}, which is not in the prompt.",
                    lora.name, lora.trigger
                ));
            }
        }
        link.tell(Event::Started {
            job,
            schedule: plan
                .schedule
                .scales
                .iter()
                .map(|scale| (scale.h, scale.w))
                .collect(),
            size_px: plan.schedule.size_px(),
            notes: plan.notes.clone(),
        });
        link.tell(Event::Stage {
            job,
            stage: Stage::EncodingPrompt,
        });
        let text = self.encoded(&spec.prompt)?;
        let needs_negative = plan.is_guided() && !spec.negative_prompt.is_empty();
        let negative = needs_negative
            .then(|| self.encoded(&spec.negative_prompt))
            .transpose()?;
        link.tell(Event::Stage {
            job,
            stage: Stage::Scale(0),
        });
        let mut watcher = Drawing {
            job,
            bundle: &self.bundle,
            link,
            previews,
            cost: &mut self.cost,
            scales: &plan.schedule.scales,
            started,
            scale_started: Instant::now(),
            preview_time: Duration::ZERO,
            picture: None,
            bits: Vec::new(),
        };
        let outcome = generate(
            &self.bundle.transformer,
            text,
            negative,
            &plan,
            &mut watcher,
        )?;
        let (picture, preview_time) = (watcher.picture.take(), watcher.preview_time);
        let bits = std::mem::take(&mut watcher.bits);
        match (outcome, picture) {
            (Outcome::Done(_), Some(image)) => {
                let elapsed_secs = started.elapsed().as_secs_f32();
                link.tell(Event::ImageDone {
                    job,
                    image,
                    spec: carried_out(spec, &plan, token_bits, &bits),
                    elapsed_secs,
                    preview_share: preview_time.as_secs_f32() / elapsed_secs.max(f32::MIN_POSITIVE),
                });
            }
            _ => link.tell(Event::Cancelled { job }),
        }
        Ok(())
    }

    /// A sentence when the model cannot read all of `text`.
    fn cut_note(&self, name: &str, text: &str) -> Result<Option<String>, EngineError> {
        let (count, most) = (
            self.bundle.tokenizer.count(text)?,
            self.bundle.tokenizer.max_length(),
        );
        Ok((count > most).then(|| {
            format!("The {name} is too long for this model: it reads the first {most} of {count} word pieces.")
        }))
    }

    /// Features of one text, from memory when it was drawn lately.
    fn encoded(&mut self, text: &str) -> Result<TextFeatures, EngineError> {
        if let Some(place) = self.texts.iter().position(|(known, _)| known == text) {
            let entry = self.texts.remove(place);
            let features = entry.1.clone();
            self.texts.push(entry);
            return Ok(features);
        }
        let features = self.bundle.encode(&[text])?;
        if self.texts.len() >= KEPT_TEXTS {
            self.texts.remove(0);
        }
        self.texts.push((text.to_owned(), features.clone()));
        Ok(features)
    }
}

/// The wish with everything filled in that it left open.
fn carried_out(
    spec: &GenerateSpec,
    plan: &Plan,
    token_bits: usize,
    bits: &[Vec<u8>],
) -> GenerateSpec {
    let grids = plan.schedule.scales.iter().map(|scale| (scale.h, scale.w));
    let short = |asked: &[f32], used: &[f32]| {
        if asked.len() == 1 {
            asked.to_vec()
        } else {
            used.to_vec()
        }
    };
    GenerateSpec {
        ratio: plan.schedule.ratio,
        scale_count: Some(plan.schedule.scales.len()),
        cfg: short(&spec.cfg, &plan.cfg),
        tau: short(&spec.tau, &plan.tau),
        bits: Some(Box::new(PictureBits::new(
            token_bits,
            grids.collect(),
            bits,
        ))),
        ..spec.clone()
    }
}

/// Watches the drawing loop: decodes, tells, stops.
struct Drawing<'a> {
    job: JobId,
    bundle: &'a Bundle,
    link: &'a Link,
    previews: Previews,
    cost: &'a mut DecodeCost,
    scales: &'a [Scale],
    started: Instant,
    scale_started: Instant,
    preview_time: Duration,
    picture: Option<Rgb8Image>,
    /// Bits of the scales so far.
    bits: Vec<Vec<u8>>,
}

impl Drawing<'_> {
    /// The grid to decode after scale `index`; the last one is no preview but the picture.
    fn grid(&self, index: usize, last: Scale) -> Option<Scale> {
        let own = self.scales.get(index).copied()?;
        let is_last = index + 1 == self.scales.len();
        match self.previews {
            _ if is_last => Some(last),
            Previews::Off => None,
            Previews::Full => Some(own),
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
                preview_grid(self.scales, index, self.cost, at)
            }
        }
    }
}

impl Watcher for Drawing<'_> {
    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        let (job, index, count) = (self.job, view.index, self.scales.len());
        let is_last = index + 1 == count;
        self.bits.extend(view.bits.first().cloned());
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
        if let Some(grid) = self.grid(index, last) {
            let begun = Instant::now();
            let preview = self.bundle.preview(sum, grid, last)?;
            let took = begun.elapsed();
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
