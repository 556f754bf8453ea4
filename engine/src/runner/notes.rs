//! What is learned while working with a model, and forgotten with it.

use super::budget::DecodeCost;
use crate::api::{EngineError, TuneRates};
use crate::device::OpenDevice;
use crate::finetune;
use crate::generate::Bundle;
use crate::text::TextFeatures;

/// Encoded texts kept for later pictures.
const KEPT_TEXTS: usize = 8;

/// What was learned while drawing with a model.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) cost: DecodeCost,
    texts: Vec<(String, TextFeatures)>,
    rates: Vec<(usize, TuneRates)>,
}

impl Notes {
    /// What lessons on pictures of `scale_count` scales take; measured the first time.
    pub(super) fn lesson_rates(
        &mut self,
        bundle: &Bundle,
        device: &OpenDevice,
        scale_count: usize,
    ) -> Result<TuneRates, EngineError> {
        let known = self.rates.iter().find(|(count, _)| *count == scale_count);
        if let Some((_, known)) = known {
            let free = finetune::available(bundle, device);
            return Ok(TuneRates {
                free,
                ..known.clone()
            });
        }
        let rates = finetune::rates(bundle, device, scale_count)?;
        self.rates.push((scale_count, rates.clone()));
        Ok(rates)
    }

    /// Features of one text, from memory when it was drawn lately.
    pub(super) fn encoded(
        &mut self,
        bundle: &Bundle,
        text: &str,
    ) -> Result<TextFeatures, EngineError> {
        if let Some(place) = self.texts.iter().position(|(known, _)| known == text) {
            let entry = self.texts.remove(place);
            let features = entry.1.clone();
            self.texts.push(entry);
            return Ok(features);
        }
        let features = bundle.encode(&[text])?;
        if self.texts.len() >= KEPT_TEXTS {
            self.texts.remove(0);
        }
        self.texts.push((text.to_owned(), features.clone()));
        Ok(features)
    }
}
