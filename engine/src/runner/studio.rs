//! A loaded model at work: from a wish to events.

use std::time::{Duration, Instant};

use super::drawing::Drawing;
use super::link::Link;
use super::notes::Notes;
use super::{Previews, doubt};
use crate::api::{EngineError, Event, GenerateSpec, JobId, PictureBits, Source, Stage, Task};
use crate::generate::{
    Bundle, Keeping, Layout, Outcome, Outside, Plan, ScaleView, Texts, Watcher, generate,
};
use crate::kernels::{Precision, with_precision};
use crate::schedule::ScaleSchedule;
use crate::text::TextFeatures;

/// Most drafts of one job.
pub(super) const MOST_DRAFTS: usize = 64;
/// Most drafts drawn at once; more gain nothing on any device.
const DRAFTS_AT_ONCE: usize = 16;

/// A loaded model at work.
pub(super) struct Studio<'a> {
    pub(super) bundle: &'a mut Bundle,
    pub(super) notes: &'a mut Notes,
    /// What was given up for this job, each a sentence for the user.
    pub(super) given_up: &'a [String],
}

impl Studio<'_> {
    /// Does a job of drawing; `None` for another kind of job.
    pub(super) fn serve(
        &mut self,
        job: JobId,
        task: &Task,
        previews: Previews,
        link: &Link,
    ) -> Option<Result<(), EngineError>> {
        let (Task::Generate(spec)
        | Task::GenerateFrom { spec, .. }
        | Task::Drafts { spec, .. }
        | Task::Rebuild(spec)) = task
        else {
            return None;
        };
        let work = || match task {
            Task::GenerateFrom { source, .. } => self.draw(job, spec, Some(source), previews, link),
            Task::Drafts { count, scales, .. } => self.drafts(job, spec, (*count, *scales), link),
            Task::Rebuild(_) => self.rebuild(job, spec, link),
            _ => self.draw(job, spec, None, previews, link),
        };
        Some(with_precision(Precision::wished(spec.half_products), work))
    }

    /// Draws one picture and tells how it goes; the caller tells of errors.
    fn draw(
        &mut self,
        job: JobId,
        spec: &GenerateSpec,
        source: Option<&Source>,
        previews: Previews,
        link: &Link,
    ) -> Result<(), EngineError> {
        let started = Instant::now();
        let mut spec = spec.clone();
        let mut plan = match source {
            Some(source) => self.plan_from(&mut spec, source)?,
            None => self.plan(&spec)?,
        };
        self.put_on(&spec, &mut plan)?;
        let masked = source.filter(|source| source.mask.is_some());
        link.tell(Event::Started {
            job,
            schedule: grids(&plan.schedule),
            size_px: masked.map_or_else(
                || plan.schedule.size_px(),
                |source| (source.picture.width, source.picture.height),
            ),
            notes: plan.notes.clone(),
        });
        link.tell(Event::Stage {
            job,
            stage: Stage::EncodingPrompt,
        });
        let texts = self.texts(&spec, &plan)?;
        link.tell(Event::Stage {
            job,
            stage: Stage::Scale(0),
        });
        let mut watcher = Drawing {
            job,
            bundle: &*self.bundle,
            link,
            previews,
            cost: &mut self.notes.cost,
            scales: &plan.schedule.scales,
            source: masked,
            started,
            scale_started: Instant::now(),
            preview_time: Duration::ZERO,
            picture: None,
            bits: Vec::new(),
            doubts: Vec::new(),
            works_ahead: self.bundle.works_by_itself(),
            index: 0,
            decoding: None,
        };
        let outcome = generate(self.bundle.wardrobe(), &texts, &plan, &mut watcher)?;
        let (picture, preview_time) = (watcher.picture.take(), watcher.preview_time);
        let mut bits = std::mem::take(&mut watcher.bits);
        let doubt = doubt::over_scales(&watcher.doubts);
        match (outcome, picture) {
            (Outcome::Done(sums), Some(image)) => {
                if let (Some(sum), true) = (sums.first(), plan.outside.is_some()) {
                    // What was drawn inside and what was kept outside, as the bits of one picture.
                    let layout = self.layout(&plan.schedule);
                    bits = layout.encode(sum.latents(), &plan.schedule.scales).bits;
                }
                let elapsed_secs = started.elapsed().as_secs_f32();
                link.tell(Event::ImageDone {
                    job,
                    image,
                    spec: self.carried_out(&spec, &plan, &bits)?,
                    elapsed_secs,
                    preview_share: preview_time.as_secs_f32() / elapsed_secs.max(f32::MIN_POSITIVE),
                    doubt,
                });
            }
            _ => link.tell(Event::Cancelled { job }),
        }
        Ok(())
    }

    /// Draws the first `scales` scales of `count` pictures, some at a time.
    fn drafts(
        &mut self,
        job: JobId,
        spec: &GenerateSpec,
        (count, scales): (usize, usize),
        link: &Link,
    ) -> Result<(), EngineError> {
        let started = Instant::now();
        if !(1..=MOST_DRAFTS).contains(&count) {
            return Err(EngineError::BadSetting {
                what: "The number of drafts",
                value: count.to_string(),
                advice: format!("Use 1 to {MOST_DRAFTS}."),
            });
        }
        let mut plan = self.plan(spec)?;
        plan.stop_after(scales)?;
        self.put_on(spec, &mut plan)?;
        let at_once = self.drafts_at_once(&plan);
        if at_once < count.min(DRAFTS_AT_ONCE) {
            plan.notes.push(format!(
                "{count} drafts do not fit in memory together: they are drawn {at_once} at a time."
            ));
        }
        link.tell(Event::Started {
            job,
            schedule: grids(&plan.schedule),
            size_px: plan.schedule.size_px(),
            notes: plan.notes.clone(),
        });
        let texts = self.texts(spec, &plan)?;
        let grid = plan.schedule.scales[scales - 1];
        let mut cost = 0.0;
        for first in (0..count).step_by(at_once) {
            let group = first..(first + at_once).min(count);
            plan.seeds = group
                .clone()
                .map(|index| spec.seed.wrapping_add(index as u64))
                .collect();
            cost += plan.cost();
            let mut bits = Collector {
                job,
                link,
                bits: vec![Vec::new(); group.len()],
            };
            let outcome = generate(self.bundle.wardrobe(), &texts, &plan, &mut bits)?;
            let Outcome::Done(sums) = outcome else {
                link.tell(Event::Cancelled { job });
                return Ok(());
            };
            let images = self.bundle.previews(&sums, grid, plan.schedule.last());
            let (mut told, end) = (group.start, group.end);
            let wanted = group.take_while(|_| !link.is_stopped(job));
            for ((index, image), bits) in wanted.zip(images).zip(&bits.bits) {
                let own = GenerateSpec {
                    keep: scales,
                    seed: spec.seed.wrapping_add(index as u64),
                    ..self.carried_out(spec, &plan, bits)?
                };
                link.tell(Event::DraftDone {
                    job,
                    index,
                    image: image?,
                    spec: own,
                });
                told += 1;
            }
            if told < end {
                link.tell(Event::Cancelled { job });
                return Ok(());
            }
        }
        link.tell(Event::DraftsDone {
            job,
            elapsed_secs: started.elapsed().as_secs_f32(),
            cost,
        });
        Ok(())
    }

    /// Makes the pictures of all scales from the bits of `spec`; the transformer is not asked.
    fn rebuild(&self, job: JobId, spec: &GenerateSpec, link: &Link) -> Result<(), EngineError> {
        let mut whole = spec.clone();
        let bits = whole.bits.as_ref();
        whole.keep = bits.map_or(0, |bits| bits.grids.len());
        if whole.keep == 0 {
            return Err(EngineError::BadSetting {
                what: "The picture",
                value: "one without bits".to_owned(),
                advice: "Only pictures that this program drew carry their bits.".to_owned(),
            });
        }
        let mut plan = self.bare_plan(&whole)?;
        plan.keep_all(
            &whole,
            self.bundle.transformer.config.token_bits(),
            &self.bundle.tokenizer_identity()?,
        )?;
        let codes = self
            .layout(&plan.schedule)
            .decode(plan.kept, &plan.schedule.scales);
        let mut scales = Vec::new();
        for (sum, &scale) in codes.sums.iter().zip(&plan.schedule.scales) {
            if link.is_stopped(job) {
                link.tell(Event::Cancelled { job });
                return Ok(());
            }
            scales.push(self.bundle.preview(sum, scale, plan.schedule.last())?);
        }
        link.tell(Event::Rebuilt {
            job,
            spec: spec.clone(),
            schedule: grids(&plan.schedule),
            scales,
        });
        Ok(())
    }

    fn layout(&self, schedule: &ScaleSchedule) -> Layout {
        Layout::of(&self.bundle.transformer.config, schedule.last())
    }

    fn bare_plan(&self, spec: &GenerateSpec) -> Result<Plan, EngineError> {
        let depth = self.bundle.transformer.config.depth;
        Plan::new(spec, self.bundle.info.scale_count, depth)
    }

    /// What `spec` wishes, with the scales it keeps.
    fn plan(&self, spec: &GenerateSpec) -> Result<Plan, EngineError> {
        let mut plan = self.bare_plan(spec)?;
        let tokenizer = match spec.keep {
            0 => String::new(),
            _ => self.bundle.tokenizer_identity()?,
        };
        plan.keep(
            spec,
            self.bundle.transformer.config.token_bits(),
            &tokenizer,
        )?;
        Ok(plan)
    }

    /// What `spec` wishes of `source`, whose shape and bits it takes on.
    fn plan_from(&self, spec: &mut GenerateSpec, source: &Source) -> Result<Plan, EngineError> {
        source.check()?;
        let picture = &source.picture;
        spec.ratio = picture.height as f32 / picture.width as f32;
        let mut plan = self.bare_plan(spec)?;
        plan.notes.clear();
        let per_token = self.bundle.transformer.config.token_bits();
        let mut whole = GenerateSpec {
            keep: plan.schedule.scales.len(),
            ..spec.clone()
        };
        let layout = self.layout(&plan.schedule);
        let codes = if spec.bits.is_some() {
            let mut given = plan.clone();
            given.keep_all(&whole, per_token, &self.bundle.tokenizer_identity()?)?;
            layout.decode(given.kept, &plan.schedule.scales)
        } else {
            self.bundle.codes_of(picture, &plan.schedule)?
        };
        let grids = grids(&plan.schedule);
        whole.bits = Some(Box::new(PictureBits::new(per_token, grids, &codes.bits)));
        whole.keep = spec.keep;
        plan.keep(&whole, per_token, "")?;
        if let Some(mask) = &source.mask {
            let size = layout.code_scale(plan.schedule.last());
            plan.outside = Some(Outside::new(codes, mask, size, Keeping::Sums));
        } else if spec.keep == 0 {
            plan.notes.push(
                "Nothing of the picture is kept: keep at least one of its scales to start from it."
                    .to_owned(),
            );
        }
        Ok(plan)
    }

    /// Puts the LoRAs of `spec` on and notes what the user should know of texts and LoRAs.
    fn put_on(&mut self, spec: &GenerateSpec, plan: &mut Plan) -> Result<(), EngineError> {
        plan.notes.splice(0..0, self.given_up.iter().cloned());
        for (name, text) in [
            ("prompt", &spec.prompt),
            ("prompt for details", &spec.detail_prompt),
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

    /// The encoded texts that `plan` needs.
    fn texts(&mut self, spec: &GenerateSpec, plan: &Plan) -> Result<Texts, EngineError> {
        let prompt = self.encoded(&spec.prompt)?;
        let detail = match plan.detail_from {
            Some(_) => Some(self.encoded(&spec.detail_prompt)?),
            None => None,
        };
        let needs_negative = plan.is_guided() && !spec.negative_prompt.is_empty();
        let negative = needs_negative
            .then(|| self.encoded(&spec.negative_prompt))
            .transpose()?;
        self.bundle.leave_text();
        Ok(Texts {
            prompt,
            detail,
            negative,
        })
    }

    fn encoded(&mut self, text: &str) -> Result<TextFeatures, EngineError> {
        self.notes.encoded(self.bundle, text)
    }

    /// How many drafts of `plan` are drawn together, so that no tensor outgrows the device.
    fn drafts_at_once(&self, plan: &Plan) -> usize {
        let config = &self.bundle.transformer.config;
        let scales = &plan.schedule.scales;
        let tokens: usize = scales
            .iter()
            .take(plan.drawn)
            .map(|scale| scale.tokens())
            .sum();
        let rows = if plan.is_guided() { 2 } else { 1 };
        let widest = (3 * config.width).max(config.mlp_hidden);
        let each = rows * widest * tokens.max(config.text_maxlen);
        (self.bundle.transformer.max_elements() / each.max(1)).clamp(1, DRAFTS_AT_ONCE)
    }

    /// The wish with everything filled in that it left open.
    fn carried_out(
        &self,
        spec: &GenerateSpec,
        plan: &Plan,
        bits: &[Vec<u8>],
    ) -> Result<GenerateSpec, EngineError> {
        let short = |asked: &[f32], used: &[f32]| {
            if asked.len() == 1 {
                asked.to_vec()
            } else {
                used.to_vec()
            }
        };
        let grids = grids(&plan.schedule).into_iter().take(bits.len()).collect();
        let per_token = self.bundle.transformer.config.token_bits();
        Ok(GenerateSpec {
            ratio: plan.schedule.ratio,
            scale_count: Some(plan.schedule.scales.len()),
            cfg: short(&spec.cfg, &plan.cfg),
            tau: short(&spec.tau, &plan.tau),
            bits: Some(Box::new(
                PictureBits::new(per_token, grids, bits)
                    .of_tokenizer(self.bundle.tokenizer_identity()?),
            )),
            ..spec.clone()
        })
    }
}

/// Token grids `(height, width)`, coarse to fine.
fn grids(schedule: &ScaleSchedule) -> Vec<(usize, usize)> {
    let scales = schedule.scales.iter();
    scales.map(|scale| (scale.h, scale.w)).collect()
}

/// Collects the bits of drafts.
struct Collector<'a> {
    job: JobId,
    link: &'a Link,
    bits: Vec<Vec<Vec<u8>>>,
}

impl Watcher for Collector<'_> {
    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        self.link.step();
        for (all, own) in self.bits.iter_mut().zip(view.bits) {
            all.push(own.clone());
        }
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.link.is_stopped(self.job)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::api::DeviceChoice;
    use crate::device;

    /// Drafts that do not fit together come in groups, are said to, and are the same.
    #[test]
    fn drafts_that_do_not_fit_come_in_groups() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter");
        let mut device = device::open(DeviceChoice::Cpu).unwrap();
        let mut drawn = |max_elements: usize| {
            device.max_elements = max_elements;
            let mut bundle = Bundle::open(&folder, &device).unwrap();
            let (sender, events) = crossbeam_channel::unbounded();
            let link = Link::new(sender, Box::new(|| ()), None, Arc::default());
            let mut studio = Studio {
                bundle: &mut bundle,
                notes: &mut Notes::default(),
                given_up: &[],
            };
            let spec = GenerateSpec::new("a red house, green hills", 3);
            studio.drafts(JobId(1), &spec, (5, 3), &link).unwrap();
            drop(link);
            let (mut notes, mut bits) = (Vec::new(), Vec::new());
            for event in events {
                match event {
                    Event::Started { notes: own, .. } => notes = own,
                    Event::DraftDone { spec, .. } => bits.push(spec.bits),
                    _ => {}
                }
            }
            (notes, bits)
        };
        let (notes, together) = drawn(1 << 28);
        assert!(notes.is_empty() && together.len() == 5, "{notes:?}");
        let (notes, apart) = drawn(150_000);
        assert!(notes[0].contains("drawn 2 at a time"), "{notes:?}");
        assert!(together == apart);
    }
}
