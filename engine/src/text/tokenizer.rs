//! Prompts to token ids, with the `tokenizer.json` beside the text encoder's weights.
//!
//! No padding is added. A prompt longer than the model takes is cut, and the end
//! mark always stays last.

use std::path::Path;

use tokenizers::Tokenizer;

use crate::api::EngineError;

/// Largest `tokenizer.json` that is read; the one of flan-t5 has 2.4 MB.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// The mark every prompt ends with.
pub(super) const END: &str = "</s>";

/// Turns prompts into token ids.
pub struct PromptTokenizer {
    inner: Tokenizer,
    end: u32,
    max_length: usize,
    id_limit: usize,
}

impl PromptTokenizer {
    /// Reads a `tokenizer.json`; prompts are cut to `max_length` ids (512 in Infinity).
    ///
    /// # Errors
    /// [`EngineError::Read`] when the file cannot be read, [`EngineError::BadModel`] when it is
    /// not a tokenizer with an end mark.
    pub fn open(path: &Path, max_length: usize) -> Result<Self, EngineError> {
        let read_error = |error| EngineError::read(path, error);
        if std::fs::metadata(path).map_err(read_error)?.len() > MOST_BYTES {
            return Err(EngineError::bad_model(path, "the tokenizer is too large"));
        }
        let bytes = std::fs::read(path).map_err(read_error)?;
        Self::from_bytes(&bytes, max_length).map_err(|reason| EngineError::bad_model(path, reason))
    }

    /// The same from the text of a `tokenizer.json`; the error is the reason.
    pub(super) fn from_bytes(bytes: &[u8], max_length: usize) -> Result<Self, String> {
        let mut inner =
            Tokenizer::from_bytes(bytes).map_err(|error| format!("the tokenizer: {error}"))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| format!("the tokenizer: {error}"))?;
        let end = inner
            .token_to_id(END)
            .ok_or_else(|| format!("the tokenizer has no {END}"))?;
        let ids = inner.get_vocab(true).into_values();
        let id_limit = ids.max().map_or(0, |largest| largest as usize + 1);
        Ok(Self {
            inner,
            end,
            max_length: max_length.max(1),
            id_limit,
        })
    }

    /// One more than the largest id; the encoder's `vocab_size` must not be smaller.
    pub fn id_limit(&self) -> usize {
        self.id_limit
    }

    /// Most ids of a prompt, the end mark among them.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Number of ids `prompt` would have if no prompt were too long, the end mark among them.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the tokenizer cannot spell the prompt.
    pub fn count(&self, prompt: &str) -> Result<usize, EngineError> {
        Ok(self.words(prompt)?.len() + 1)
    }

    /// The ids of a prompt, 1 to `max_length` of them, the last being the end mark.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the tokenizer cannot spell the prompt.
    pub fn encode(&self, prompt: &str) -> Result<Vec<u32>, EngineError> {
        let mut ids = self.words(prompt)?;
        ids.truncate(self.max_length - 1);
        ids.push(self.end);
        Ok(ids)
    }

    /// All ids of a prompt, without the end mark.
    fn words(&self, prompt: &str) -> Result<Vec<u32>, EngineError> {
        let encoding = self
            .inner
            .encode_fast(prompt, true)
            .map_err(|error| EngineError::internal(format!("splitting the prompt: {error}")))?;
        let mut ids = encoding.get_ids().to_vec();
        if ids.last() == Some(&self.end) {
            ids.pop();
        }
        Ok(ids)
    }
}
