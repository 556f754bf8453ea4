//! What a batch needs before the update: features of its pictures, and lessons with mistakes in them.

use std::collections::HashMap;

use super::config::{Phase, TransformerLossConfig};
use super::feed::{self, Batch};
use super::self_correction::{Lesson, flip_at_random, lesson};
use crate::api::{EngineError, Rgb8Image};
use crate::model::ModelConfig;
use crate::postcards::Postcard;
use crate::random::Stream;
use crate::vae::{Vae, pixels_from_images};

/// Prepares batches with their lessons, on the thread that paints.
pub(super) struct Teacher {
    pub(super) seed: u64,
    pub(super) vae: Vae,
    pub(super) transformer: ModelConfig,
    pub(super) loss: TransformerLossConfig,
    pub(super) phases: Vec<Phase>,
    pub(super) features: FeatureCache,
}

impl Teacher {
    pub(super) fn prepare(
        &mut self,
        step: u64,
    ) -> Result<Option<(Batch, Vec<Lesson>)>, EngineError> {
        let (phases, pool, world) = (&self.phases, self.loss.pool, Postcard::learned);
        let Some(batch) = feed::make_batch(self.seed, step, phases, pool, world)? else {
            return Ok(None);
        };
        let features = self.features.of(&self.vae, &batch)?;
        let tokens = batch.learned.tokens();
        let one = |(index, map): (usize, &Vec<f32>)| {
            let stream = Stream::new(self.seed ^ 0xF11B, batch.step << 16 | index as u64);
            let flip = flip_at_random(self.loss.flip_strength, self.loss.flip_scales, stream);
            let mut lesson = lesson(
                map,
                self.transformer.codebook_dim,
                &batch.schedule.scales,
                self.transformer.patchify,
                flip,
            );
            lesson.keep_first(tokens, self.transformer.token_bits());
            lesson
        };
        let lessons = features.iter().enumerate().map(one).collect();
        Ok(Some((batch, lessons)))
    }
}

/// Tokenizer features of pictures seen before; each plain picture is encoded once.
#[derive(Default)]
pub(super) struct FeatureCache {
    known: HashMap<(u64, u32, u32), Vec<f32>>,
}

impl FeatureCache {
    /// Features `[d, h, w]` of every picture of `batch`.
    fn of(&mut self, vae: &Vae, batch: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        let key = |seed: &u64, image: &Rgb8Image| (*seed, image.width, image.height);
        let keys: Vec<_> = batch
            .card_seeds
            .iter()
            .zip(&batch.images)
            .map(|(s, i)| key(s, i))
            .collect();
        let mut maps: Vec<Option<Vec<f32>>> = keys
            .iter()
            .zip(&batch.plain)
            .map(|(key, &plain)| self.known.get(key).filter(|_| plain).cloned())
            .collect();
        let fresh: Vec<usize> = (0..maps.len()).filter(|&i| maps[i].is_none()).collect();
        if !fresh.is_empty() {
            let images: Vec<Rgb8Image> = fresh.iter().map(|&i| batch.images[i].clone()).collect();
            let encoded = vae.encode(pixels_from_images(&images, vae.device()));
            let size = encoded.dims()[1..].iter().product::<usize>();
            let values = encoded
                .try_into_vec_as::<f32>()
                .map_err(|error| EngineError::internal(format!("encoding: {error}")))?;
            for (index, map) in fresh.into_iter().zip(values.chunks_exact(size)) {
                if batch.plain[index] {
                    self.known.insert(keys[index], map.to_vec());
                }
                maps[index] = Some(map.to_vec());
            }
        }
        maps.into_iter()
            .map(|map| map.ok_or_else(|| EngineError::internal("features of a picture")))
            .collect()
    }
}
