//! What the transformer wears: LoRAs, each with its strength, the same for all scales or scale by scale.

use std::time::SystemTime;

use super::Bundle;
use crate::api::{EngineError, LoraWish};
use crate::lora::{self, Lora, LoraInfo};
use crate::model::Transformer;
use crate::schedule::MAX_SCALES;
use crate::weights::ModelFolder;

/// Strengths beyond these draw nothing but noise.
const MOST_STRENGTH: f32 = 8.0;

/// The transformer as it is dressed for each scale; weights are shared.
#[derive(Clone, Copy)]
pub struct Wardrobe<'a> {
    usual: &'a Transformer,
    by_scale: &'a [Transformer],
}

impl<'a> From<&'a Transformer> for Wardrobe<'a> {
    fn from(usual: &'a Transformer) -> Self {
        Self {
            usual,
            by_scale: &[],
        }
    }
}

impl<'a> Wardrobe<'a> {
    /// The transformer for scale `index`.
    pub(super) fn at(&self, index: usize) -> &'a Transformer {
        let own = self.by_scale.get(index).or(self.by_scale.last());
        own.unwrap_or(self.usual)
    }

    /// Whether it is dressed alike at all scales.
    pub(super) fn is_plain(&self) -> bool {
        self.by_scale.is_empty()
    }
}

impl Bundle {
    /// The transformer as it is dressed.
    pub fn wardrobe(&self) -> Wardrobe<'_> {
        Wardrobe {
            usual: &self.transformer,
            by_scale: &self.by_scale,
        }
    }

    fn open_loras(&mut self, wishes: &[LoraWish]) -> Result<Vec<Lora>, EngineError> {
        if wishes.is_empty() {
            return Ok(Vec::new());
        }
        let base = lora::identity(&ModelFolder::open(&self.folder)?)?;
        let mut loras = Vec::new();
        for wish in wishes {
            let strengths = (0..MAX_SCALES).map(|index| wish.at(index));
            let wrong = |strength: &f32| strength.is_nan() || strength.abs() > MOST_STRENGTH;
            if let Some(wrong) = [wish.strength].into_iter().chain(strengths).find(wrong) {
                return Err(EngineError::BadSetting {
                    what: "the strength of a LoRA",
                    value: wrong.to_string(),
                    advice: format!(
                        "Use -{MOST_STRENGTH} to {MOST_STRENGTH}; 1 is as it was trained."
                    ),
                });
            }
            loras.push(Lora::open(&wish.path, &mut self.transformer, &base)?);
        }
        Ok(loras)
    }

    /// Works `wishes` into the weights themselves; says what they are.
    ///
    /// # Errors
    /// As [`Self::wear`].
    pub fn merge(&mut self, wishes: &[LoraWish]) -> Result<Vec<LoraInfo>, EngineError> {
        if wishes.iter().any(|wish| !wish.by_scale.is_empty()) {
            return Err(EngineError::BadSetting {
                what: "a strength per scale",
                value: "given".to_owned(),
                advice: "Weights are the same for all scales: merge with one strength.".to_owned(),
            });
        }
        let loras = self.open_loras(wishes)?;
        let strengths = wishes.iter().map(|wish| wish.strength);
        let list: Vec<(&Lora, f32)> = loras.iter().zip(strengths).collect();
        lora::merge(&mut self.transformer, &list)?;
        Ok(loras.into_iter().map(|lora| lora.info).collect())
    }

    /// Puts `wishes` on the transformer in place of the adapters that were on it; says what they are.
    ///
    /// Nothing is read again while the list and the files stay the same.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] for a meaningless strength, else what [`Lora::open`] returns; the adapters from
    /// before then stay on.
    pub fn wear(&mut self, wishes: &[LoraWish]) -> Result<&[LoraInfo], EngineError> {
        let dated: Vec<(LoraWish, Option<SystemTime>)> = wishes
            .iter()
            .map(|wish| {
                let written = std::fs::metadata(&wish.path).and_then(|about| about.modified());
                (wish.clone(), written.ok())
            })
            .collect();
        let known = dated.iter().all(|(_, written)| written.is_some());
        if dated == self.worn && known && !dated.is_empty() {
            return Ok(&self.worn_infos);
        }
        let loras = self.open_loras(wishes)?;
        let worn: Vec<(&Lora, f32)> = loras
            .iter()
            .zip(wishes.iter().map(|wish| wish.strength))
            .collect();
        lora::put_on(&mut self.transformer, &worn);
        self.by_scale.clear();
        if wishes.iter().any(|wish| !wish.by_scale.is_empty()) {
            for index in 0..MAX_SCALES {
                let strengths = wishes.iter().map(|wish| wish.at(index));
                let worn: Vec<(&Lora, f32)> = loras.iter().zip(strengths).collect();
                let mut dressed = self.transformer.clone();
                lora::put_on(&mut dressed, &worn);
                self.by_scale.push(dressed);
            }
        }
        self.worn_infos = loras.into_iter().map(|lora| lora.info).collect();
        self.worn = dated;
        Ok(&self.worn_infos)
    }
}
