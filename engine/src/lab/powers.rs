//! What each scale locks, masks, larger canvases and pictures from pictures, on postcards that can be read back.

use serde::Serialize;

use super::measures::{
    Tally, band_of, cut, energy_between, inside, mask_over, outside_is_same, psnr_of, share, value,
};
use super::{Effort, Table, drawn};
use crate::api::{EngineError, GenerateSpec, Rgb8Image, Sides, Source};
use crate::generate::{Bundle, Keeping, Layout as CodeLayout, Outside, Plan, Texts};
use crate::postcards::{Caption, Checks, Named, Postcard, Split, Thing, check, paint, read};
use crate::random::Stream;
use crate::schedule::ScaleSchedule;

/// What is left of a picture in others that keep its first scales, under another prompt.
#[derive(Clone, Debug, Serialize)]
pub struct Layout {
    /// Scales kept.
    pub kept: usize,
    /// Share of attributes as in the parent, by name: `land`, `body place` and so on.
    pub of_parent: Vec<(String, f32)>,
    /// Share of branches that follow their own prompt.
    pub followed: f32,
}

/// Changes inside of masks.
#[derive(Clone, Debug, Serialize)]
pub struct Masks {
    /// How the outside was kept.
    pub method: String,
    /// Masks drawn inside of.
    pub masks: usize,
    /// Share of masks with the named thing, colour and place inside.
    pub changed: f32,
    /// Share of pictures whose time, land and body are as before.
    pub scene_kept: f32,
    /// Share of pictures with every byte outside as before.
    pub outside_same: f32,
    /// Gradient energy across the edge of the mask, against that of the painted picture.
    pub seam: f32,
    /// Gradient energy in a band around the edge, against that of a painted picture of the same words: softer pictures
    /// have less, seams would add to it.
    pub band: f32,
}

/// Canvases that grow by half at one side.
#[derive(Clone, Debug, Serialize)]
pub struct Outpaint {
    /// The side.
    pub side: String,
    /// Pictures.
    pub pictures: usize,
    /// Share whose time, land and land colour go on in the new part.
    pub followed: f32,
}

/// Pictures from pictures.
#[derive(Clone, Debug, Serialize)]
pub struct Likeness {
    /// Scales kept.
    pub kept: usize,
    /// Mean peak signal-to-noise ratio to the source, in dB.
    pub psnr: f32,
    /// Share of the source's attributes that are left.
    pub of_source: f32,
    /// Share of pictures that follow their prompt.
    pub followed: f32,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct PowersReport {
    /// Name of the model.
    pub model: String,
    /// What each scale locks.
    pub layout: Vec<Layout>,
    /// Changes inside of masks.
    pub masks: Vec<Masks>,
    /// Larger canvases.
    pub outpaint: Vec<Outpaint>,
    /// Pictures from pictures.
    pub likeness: Vec<Likeness>,
}

impl PowersReport {
    /// Measures `bundle`; `progress` hears what is measured.
    ///
    /// # Errors
    /// What drawing returns.
    pub fn measure(
        bundle: &Bundle,
        effort: Effort,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, EngineError> {
        let side = ScaleSchedule::nearest(1.0, bundle.info.scale_count)?
            .size_px()
            .0;
        let lab = Lab {
            bundle,
            effort,
            side,
        };
        progress("what each scale locks");
        let layout = lab.layout()?;
        let mut masks = Vec::new();
        for keeping in [Keeping::Sums, Keeping::Bits] {
            progress("masks");
            masks.push(lab.masks(keeping)?);
        }
        progress("larger canvases");
        let outpaint = lab.outpaint()?;
        progress("pictures from pictures");
        Ok(Self {
            model: bundle.info.name.clone(),
            layout,
            masks,
            outpaint,
            likeness: lab.likeness()?,
        })
    }
}

struct Lab<'a> {
    bundle: &'a Bundle,
    effort: Effort,
    /// Side of the model's square pictures, in pixels.
    side: u32,
}

impl Lab<'_> {
    fn spec(&self, prompt: &str, seed: u64) -> GenerateSpec {
        let info = &self.bundle.info;
        GenerateSpec {
            cfg: vec![info.cfg],
            tau: vec![info.tau],
            ..GenerateSpec::new(prompt, seed)
        }
    }

    fn plan(&self, spec: &GenerateSpec) -> Result<Plan, EngineError> {
        let depth = self.bundle.transformer.config.depth;
        Plan::new(spec, self.bundle.info.scale_count, depth)
    }

    fn texts(&self, prompt: &str) -> Result<Texts, EngineError> {
        Ok(self.bundle.encode(&[prompt])?.into())
    }

    fn picture(&self, plan: &Plan, prompt: &str) -> Result<Rgb8Image, EngineError> {
        let (sums, _) = drawn(self.bundle, &self.texts(prompt)?, plan)?;
        let sum = sums
            .first()
            .ok_or_else(|| EngineError::internal("no picture"))?;
        let last = plan.schedule.last();
        self.bundle.preview(sum, last, last)
    }

    /// The card and seed of case `index` of a study.
    fn case(&self, study: u64, index: usize) -> (Postcard, u64) {
        let seed = Stream::new(self.effort.seed, study).bits(index as u64);
        (Postcard::sample(seed, Split::Train), seed)
    }

    /// Branches under the prompt of another postcard.
    fn layout(&self) -> Result<Vec<Layout>, EngineError> {
        let count = self.bundle.info.scale_count;
        let mut tallies = vec![Tally::default(); count];
        for index in 0..self.effort.cases {
            let (card, seed) = self.case(1, index);
            let (other, other_seed) = self.case(2, index);
            let prompt = Caption::regular(&card, seed).text;
            let plan = self.plan(&self.spec(&prompt, seed))?;
            let (sums, bits) = drawn(self.bundle, &self.texts(&prompt)?, &plan)?;
            let (Some(sum), Some(bits)) = (sums.first(), bits.first()) else {
                return Err(EngineError::internal("no picture"));
            };
            let last = plan.schedule.last();
            let parent = read(&self.bundle.preview(sum, last, last)?);
            let caption = Caption::regular(&other, other_seed);
            for (kept, tally) in tallies.iter_mut().enumerate() {
                let mut plan = self.plan(&self.spec(&caption.text, other_seed))?;
                plan.kept = bits.iter().take(kept).cloned().collect();
                let image = self.picture(&plan, &caption.text)?;
                let left = check(&image, &parent, Named::all_of(&parent));
                tally.add(&left, check(&image, &other, caption.named).followed());
            }
        }
        let made = |(kept, tally): (usize, Tally)| Layout {
            kept,
            followed: tally.share_followed(),
            of_parent: tally.shares(),
        };
        Ok(tallies.into_iter().enumerate().map(made).collect())
    }

    /// Two masks over every postcard, in which its thing becomes another.
    fn masks(&self, keeping: Keeping) -> Result<Masks, EngineError> {
        let mut result = Masks {
            method: match keeping {
                Keeping::Sums => "sums put back",
                Keeping::Bits => "plain teacher forcing",
            }
            .to_owned(),
            masks: 0,
            changed: 0.0,
            scene_kept: 0.0,
            outside_same: 0.0,
            seam: 0.0,
            band: 0.0,
        };
        let mut energy = [0.0_f64; 4];
        for index in 0..self.effort.cases {
            let (old, new, seed) = self.change(index);
            let painted = paint(&old, seed, self.side, self.side);
            for round in 0..2_u64 {
                let stream = Stream::new(seed, 0x3A5C + round);
                let hard = mask_over(&old, &new, self.side, stream);
                let caption = Caption::regular(&new, seed ^ round);
                let mut plan = self.plan(&self.spec(&caption.text, seed ^ (round + 1)))?;
                let codes = self.bundle.codes_of(&painted, &plan.schedule)?;
                let last = plan.schedule.last();
                let size = CodeLayout::of(&self.bundle.transformer.config, last).code_scale(last);
                plan.outside = Some(Outside::new(codes, &hard, size, keeping));
                let image = self.picture(&plan, &caption.text)?;
                let source = Source {
                    picture: painted.clone(),
                    mask: Some(hard.feathered(self.side / 32)),
                };
                let composed = source
                    .composed(&image)
                    .ok_or_else(|| EngineError::internal("the sizes differ"))?;
                energy[0] += energy_between(&composed, |a, b| inside(&hard, a) != inside(&hard, b));
                energy[1] += energy_between(&painted, |a, b| inside(&hard, a) != inside(&hard, b));
                let near = band_of(&hard);
                let other = paint(&new, seed, self.side, self.side);
                energy[2] += energy_between(&composed, |a, b| inside(&near, a) && inside(&near, b));
                energy[3] += energy_between(&other, |a, b| inside(&near, a) && inside(&near, b));
                let seen = Checks::compare(&read(&composed), &new, Named::all_of(&new));
                let right = |name: &str| value(&seen, name) != Some(false);
                let changed = ["thing", "thing colour", "thing place", "count"];
                let scene = [
                    "time",
                    "land",
                    "land colour",
                    "body",
                    "body colour",
                    "body place",
                ];
                result.masks += 1;
                result.changed += share(changed.iter().all(|name| right(name)));
                result.scene_kept += share(scene.iter().all(|name| right(name)));
                result.outside_same += share(outside_is_same(&composed, &painted, &hard));
            }
        }
        let count = result.masks.max(1) as f32;
        result.changed /= count;
        result.scene_kept /= count;
        result.outside_same /= count;
        result.seam = (energy[0] / energy[1].max(1.0)) as f32;
        result.band = (energy[2] / energy[3].max(1.0)) as f32;
        Ok(result)
    }

    /// A postcard with a thing that has a place, and the same with another thing or colour there.
    fn change(&self, index: usize) -> (Postcard, Postcard, u64) {
        let stream = Stream::new(self.effort.seed ^ 0x3A5C, index as u64);
        for round in 0.. {
            let seed = stream.bits(round);
            let old = Postcard::sample(seed, Split::Train);
            let other = Postcard::sample(seed ^ 1, Split::Train);
            let (Some(own), Some(thing)) = (old.thing, other.thing) else {
                continue;
            };
            if own.place.is_none() || thing.place.is_none() {
                continue;
            }
            let thing = Thing {
                place: own.place,
                ..thing
            };
            let new = Postcard {
                thing: Some(thing),
                ..old
            };
            if new.is_legal()
                && new.is_in(Split::Train)
                && (thing.kind, thing.colour) != (own.kind, own.colour)
            {
                return (old, new, seed);
            }
        }
        unreachable!("one postcard in a few can be changed")
    }

    /// Postcards that grow by half at each side.
    fn outpaint(&self) -> Result<Vec<Outpaint>, EngineError> {
        let half = self.side / 2;
        let none = Sides::default();
        let sides = [
            ("left", Sides { left: half, ..none }),
            (
                "right",
                Sides {
                    right: half,
                    ..none
                },
            ),
            ("above", Sides { top: half, ..none }),
            (
                "below",
                Sides {
                    bottom: half,
                    ..none
                },
            ),
        ];
        let mut results = Vec::new();
        for (name, sides) in sides {
            let mut followed = 0.0;
            for index in 0..self.effort.cases {
                let (card, seed) = self.case(4, index);
                let painted = paint(&card, seed, self.side, self.side);
                let source = Source::extended(&painted, sides)?;
                let caption = Caption::regular(&card, seed);
                let spec = GenerateSpec {
                    ratio: source.picture.height as f32 / source.picture.width as f32,
                    ..self.spec(&caption.text, seed)
                };
                let mut plan = self.plan(&spec)?;
                let codes = self.bundle.codes_of(&source.picture, &plan.schedule)?;
                let last = plan.schedule.last();
                let size = CodeLayout::of(&self.bundle.transformer.config, last).code_scale(last);
                let mask = source.mask.clone();
                let mask = mask.ok_or_else(|| EngineError::internal("no mask"))?;
                plan.outside = Some(Outside::new(codes, &mask, size, Keeping::Sums));
                let image = self.picture(&plan, &caption.text)?;
                let grown = source
                    .composed(&image)
                    .ok_or_else(|| EngineError::internal("the sizes differ"))?;
                // The new part alone where a horizon runs through it, else the whole picture.
                let seen = match name {
                    "left" => cut(&grown, 0, half),
                    "right" => cut(&grown, self.side, half),
                    _ => Some(grown),
                };
                let seen = read(&seen.ok_or_else(|| EngineError::internal("the new part"))?);
                let same = seen.time == card.time
                    && seen.land == card.land
                    && seen.land_colour == card.land_colour;
                followed += share(same);
            }
            results.push(Outpaint {
                side: name.to_owned(),
                pictures: self.effort.cases,
                followed: followed / self.effort.cases.max(1) as f32,
            });
        }
        Ok(results)
    }

    /// Painted postcards as the start, under the prompt of another one.
    fn likeness(&self) -> Result<Vec<Likeness>, EngineError> {
        let count = self.bundle.info.scale_count;
        let mut tallies = vec![(Tally::default(), 0.0_f32); count];
        for index in 0..self.effort.cases {
            let (card, seed) = self.case(5, index);
            let (other, other_seed) = self.case(6, index);
            let painted = paint(&card, seed, self.side, self.side);
            let caption = Caption::regular(&other, other_seed);
            let plan = self.plan(&self.spec(&caption.text, other_seed))?;
            let codes = self.bundle.codes_of(&painted, &plan.schedule)?;
            for (kept, (tally, psnr)) in tallies.iter_mut().enumerate() {
                let mut plan = plan.clone();
                plan.kept = codes.bits.iter().take(kept).cloned().collect();
                let image = self.picture(&plan, &caption.text)?;
                let left = check(&image, &card, Named::all_of(&card));
                tally.add(&left, check(&image, &other, caption.named).followed());
                *psnr += psnr_of(&image, &painted);
            }
        }
        let cases = self.effort.cases.max(1) as f32;
        let made = |(kept, (tally, psnr)): (usize, (Tally, f32))| {
            let shares = tally.shares();
            let mean = shares.iter().map(|(_, share)| share).sum::<f32>();
            Likeness {
                kept,
                psnr: psnr / cases,
                of_source: mean / shares.len().max(1) as f32,
                followed: tally.share_followed(),
            }
        };
        Ok(tallies.into_iter().enumerate().map(made).collect())
    }
}

impl std::fmt::Display for PowersReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            "time",
            "land",
            "land colour",
            "body",
            "body place",
            "thing",
            "thing colour",
            "thing place",
            "count",
        ];
        let head = ["scales kept"].into_iter().chain(names);
        let mut table = Table::new(head.chain(["own prompt followed"]));
        for row in &self.layout {
            let of = |name: &str| {
                let found = row.of_parent.iter().find(|(own, _)| own == name);
                found.map_or_else(|| "–".to_owned(), |(_, share)| format!("{share:.2}"))
            };
            let cells = names.iter().map(|name| of(name));
            let first = std::iter::once(row.kept.to_string());
            table.row(first.chain(cells).chain([format!("{:.2}", row.followed)]));
        }
        writeln!(
            f,
            "What is left of the parent under another prompt and seed:\n\n{table}"
        )?;
        let mut table = Table::new([
            "outside kept by",
            "masks",
            "change inside",
            "scene kept",
            "bytes outside the same",
            "across the edge",
            "around the edge",
        ]);
        for row in &self.masks {
            table.row([
                row.method.clone(),
                row.masks.to_string(),
                format!("{:.2}", row.changed),
                format!("{:.2}", row.scene_kept),
                format!("{:.2}", row.outside_same),
                format!("{:.2}", row.seam),
                format!("{:.2}", row.band),
            ]);
        }
        writeln!(f, "Inside of masks:\n\n{table}")?;
        let mut table = Table::new(["half as much again", "pictures", "scene goes on"]);
        for row in &self.outpaint {
            let share = format!("{:.2}", row.followed);
            table.row([row.side.clone(), row.pictures.to_string(), share]);
        }
        writeln!(f, "Larger canvases:\n\n{table}")?;
        let mut table = Table::new([
            "scales kept",
            "like the source, dB",
            "attributes of the source",
            "prompt followed",
        ]);
        for row in &self.likeness {
            table.row([
                row.kept.to_string(),
                format!("{:.1}", row.psnr),
                format!("{:.2}", row.of_source),
                format!("{:.2}", row.followed),
            ]);
        }
        write!(f, "Pictures from pictures:\n\n{table}")
    }
}
