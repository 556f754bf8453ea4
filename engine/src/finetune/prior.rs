//! Pictures that the model draws itself for a lesson: as they are, so that it forgets nothing, or in the artist's colours,
//! so that a style is learned for more layouts than the artist's pictures have.

use std::sync::Arc;

use super::examples::{Example, Store, words};
use super::{Collection, FinetuneConfig};
use crate::api::{EngineError, GenerateSpec, Rgb8Image};
use crate::cloud::{Cloud, Move};
use crate::generate::{Outcome, Plan, ScaleView, Watcher, generate};
use crate::schedule::{Scale, ScaleSchedule};
use crate::train::Limits;

/// The model's own pictures per shape, at least.
const PRIOR_PICTURES: usize = 32;
/// Most of the artist's pictures whose colours are compared with the model's.
const MOST_COMPARED: usize = 64;
/// One pixel in so many is compared; odd, so that columns change from row to row.
const COMPARED: usize = 7;

/// Stops drawing when the run shall stop.
struct Stopper<'a>(&'a Limits<'a>);

impl Watcher for Stopper<'_> {
    fn scale(&mut self, _view: &ScaleView<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.0.reached()
    }
}

/// Who draws them.
pub(super) struct Draughtsman<'a> {
    pub(super) config: &'a FinetuneConfig,
    pub(super) store: &'a Store<'a>,
    /// Identity of the transformer.
    pub(super) base: &'a str,
    pub(super) limits: &'a Limits<'a>,
}

impl Draughtsman<'_> {
    /// Pictures of the prior prompts in every shape; `None` when stopped.
    ///
    /// # Errors
    /// What drawing returns, [`EngineError::Write`] with the path.
    pub(super) fn prior(
        &self,
        collection: &Collection,
        shapes: &[ScaleSchedule],
    ) -> Result<Option<Vec<Arc<Example>>>, EngineError> {
        let info = &self.store.bundle.info;
        let given = [
            &self.config.prior_prompts,
            &info.practice_prompts,
            &info.example_prompts,
        ];
        let Some(prompts) = given.into_iter().find(|list| !list.is_empty()) else {
            return Ok(Some(Vec::new()));
        };
        let colours = match self.config.recolour_prior {
            true => match self.to_the_artists_colours(collection)? {
                Some(colours) => Some(colours),
                None => return Ok(None),
            },
            false => None,
        };
        let mut drawn = Vec::new();
        for schedule in shapes {
            for index in 0..PRIOR_PICTURES.max(prompts.len()) {
                let prompt = &prompts[index % prompts.len()];
                let Some(mut features) = self.drawing(prompt, index, schedule)? else {
                    return Ok(None);
                };
                if let Some(colours) = &colours {
                    let image = self.picture(&features, schedule)?;
                    features = self.store.features(&recoloured(&image, colours)?)?;
                }
                drawn.push(Arc::new(Example {
                    name: format!("the model's own {prompt:?}"),
                    schedule: schedule.clone(),
                    features,
                    captions: Arc::new([words(self.store.bundle, prompt)?]),
                }));
            }
        }
        Ok(Some(drawn))
    }

    /// What makes the colours of the model's pictures those of the artist's, told from what the model draws of the
    /// artist's captions; `None` when stopped.
    fn to_the_artists_colours(&self, collection: &Collection) -> Result<Option<Move>, EngineError> {
        let (mut own, mut artists) = (Vec::new(), Vec::new());
        for (index, picture) in collection.pictures.iter().take(MOST_COMPARED).enumerate() {
            let Some(features) = self.drawing(&picture.caption, index, &picture.schedule)? else {
                return Ok(None);
            };
            own.extend(colours_of(&self.picture(&features, &picture.schedule)?));
            artists.extend(colours_of(&picture.image));
        }
        let [own, artists] = [own, artists].map(|colours| Cloud::of(colours.into_iter()));
        Ok(Some(own.onto(&artists)))
    }

    /// Features of what the model draws of `prompt`, `[d, h, w]`; `None` when stopped.
    fn drawing(
        &self,
        prompt: &str,
        index: usize,
        schedule: &ScaleSchedule,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        let bundle = self.store.bundle;
        let spec = GenerateSpec {
            ratio: schedule.ratio,
            scale_count: Some(schedule.scales.len()),
            cfg: vec![bundle.info.cfg],
            tau: vec![bundle.info.tau],
            ..GenerateSpec::new(prompt, self.config.seed.wrapping_add(index as u64))
        };
        let wish =
            serde_json::to_vec(&spec).map_err(|error| EngineError::internal(error.to_string()))?;
        let size = bundle.vae.config.codebook_dim * self.grid(schedule).tokens();
        let parts = [self.base.as_bytes(), &wish];
        self.store.kept_or(&parts, size, || {
            let depth = bundle.transformer.config.depth;
            let plan = Plan::new(&spec, bundle.info.scale_count, depth)?;
            let text = bundle.encode(&[prompt])?;
            let mut stopper = Stopper(self.limits);
            Ok(
                match generate(bundle.wardrobe(), &text.into(), &plan, &mut stopper)? {
                    Outcome::Done(sums) => sums.first().map(|sum| sum.latents().to_vec()),
                    Outcome::Cancelled => None,
                },
            )
        })
    }

    /// The grid of latents of a picture of `schedule`.
    fn grid(&self, schedule: &ScaleSchedule) -> Scale {
        let fold = if self.store.bundle.transformer.config.patchify {
            2
        } else {
            1
        };
        let last = schedule.last();
        Scale {
            h: fold * last.h,
            w: fold * last.w,
        }
    }

    fn picture(
        &self,
        features: &[f32],
        schedule: &ScaleSchedule,
    ) -> Result<Rgb8Image, EngineError> {
        self.store.bundle.vae.picture(features, self.grid(schedule))
    }
}

/// Some of the colours of `image`.
fn colours_of(image: &Rgb8Image) -> impl Iterator<Item = Vec<f64>> {
    let pixels = image.pixels.chunks_exact(3).step_by(COMPARED);
    pixels.map(|pixel| pixel.iter().map(|&value| f64::from(value)).collect())
}

fn recoloured(image: &Rgb8Image, colours: &Move) -> Result<Rgb8Image, EngineError> {
    let pixels = image.pixels.chunks_exact(3).flat_map(|pixel| {
        let own: Vec<f64> = pixel.iter().map(|&value| f64::from(value)).collect();
        colours
            .of(&own)
            .into_iter()
            .map(|value| value.round().clamp(0.0, 255.0) as u8)
    });
    Rgb8Image::new(image.width, image.height, pixels.collect())
        .ok_or_else(|| EngineError::internal("a picture in other colours has another size"))
}

#[cfg(test)]
mod tests {
    use super::{Cloud, colours_of, recoloured};
    use crate::postcards::{Postcard, Split, paint};

    /// Colours that were changed alike come back from another picture's change.
    #[test]
    fn colours_are_carried_over() {
        let painted = |seed: u64| paint(&Postcard::sample(seed, Split::Any), seed, 64, 64);
        let ink = |image: &crate::api::Rgb8Image| {
            let pixels = image.pixels.chunks_exact(3).flat_map(|p| {
                let grey = p.iter().map(|&value| f32::from(value)).sum::<f32>() / 3.0;
                [30.0 + 0.8 * grey, 40.0 + 0.7 * grey, 90.0 + 0.5 * grey].map(|value| value as u8)
            });
            crate::api::Rgb8Image::new(image.width, image.height, pixels.collect()).unwrap()
        };
        let cloud =
            |images: &[crate::api::Rgb8Image]| Cloud::of(images.iter().flat_map(colours_of));
        let known: Vec<_> = (0..20).map(painted).collect();
        let inked: Vec<_> = known.iter().map(ink).collect();
        let colours = cloud(&known).onto(&cloud(&inked));
        let away = |a: &crate::api::Rgb8Image, b: &crate::api::Rgb8Image| {
            let pairs = a.pixels.iter().zip(b.pixels.iter());
            let sum: f32 = pairs.map(|(a, b)| f32::from(a.abs_diff(*b))).sum();
            sum / a.pixels.len() as f32
        };
        for seed in 30..40 {
            let image = painted(seed);
            let (aim, found) = (ink(&image), recoloured(&image, &colours).unwrap());
            assert!(away(&found, &aim) < 0.35 * away(&image, &aim));
        }
    }
}
