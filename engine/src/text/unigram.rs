//! A tokenizer for a model trained from scratch on captions of few different words.
//!
//! Every word of the captions is one piece; any other word is spelled in
//! characters. The file has the shape of T5's own `tokenizer.json`, with NFKC and
//! lower case in place of its table of characters.
//! Source of the model: Kudo 2018, arXiv 1804.10959; the pieces are not searched for, only counted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::{NormalizedString, Normalizer};

use super::tokenizer::END;
use crate::api::EngineError;

/// Stands for the space before a word.
const SPACE: char = '▁';

/// The pieces with the ids 0, 1 and 2, as in T5.
const MARKS: [&str; 3] = ["<pad>", END, "<unk>"];

/// A small tokenizer, ready to be saved as `tokenizer.json`.
#[derive(Clone, Debug)]
pub struct Unigram {
    pieces: Vec<(String, f64)>,
}

impl Unigram {
    /// Counts the words of `captions` and keeps the `most_words` commonest.
    ///
    /// The same captions give the same ids, in any order.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when a caption cannot be normalised.
    pub fn from_captions<'a>(
        captions: impl IntoIterator<Item = &'a str>,
        most_words: usize,
    ) -> Result<Self, EngineError> {
        let failed = |error: String| EngineError::internal(format!("counting words: {error}"));
        let normalizer: NormalizerWrapper =
            serde_json::from_value(normalizer_json()).map_err(|error| failed(error.to_string()))?;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for caption in captions {
            let mut text = NormalizedString::from(caption);
            normalizer
                .normalize(&mut text)
                .map_err(|error| failed(error.to_string()))?;
            for piece in text.get().split_whitespace().flat_map(split_word) {
                *counts.entry(piece).or_default() += 1;
            }
        }
        Ok(Self {
            pieces: scored(counts, most_words),
        })
    }

    /// Number of ids, the `vocab_size` of the encoder.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// Writes a `tokenizer.json` that [`PromptTokenizer`](super::PromptTokenizer) opens.
    ///
    /// # Errors
    /// [`EngineError::Write`] when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), EngineError> {
        let text = format!("{:#}\n", self.json());
        std::fs::write(path, text).map_err(|error| EngineError::write(path, error))
    }

    fn json(&self) -> Value {
        let added = |(id, mark): (usize, &&str)| {
            json!({"id": id, "content": mark, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        };
        let added: Vec<Value> = MARKS.iter().enumerate().map(added).collect();
        let space = json!({"type": "Metaspace", "replacement": SPACE,
            "prepend_scheme": "always", "split": true});
        let first = json!({"Sequence": {"id": "A", "type_id": 0}});
        let second = json!({"Sequence": {"id": "B", "type_id": 0}});
        let end = json!({"SpecialToken": {"id": END, "type_id": 0}});
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": normalizer_json(),
            "pre_tokenizer": space,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [first, end],
                "pair": [first, end, second, end],
                "special_tokens": {END: {"id": END, "ids": [1], "tokens": [END]}},
            },
            "decoder": space,
            "model": {"type": "Unigram", "unk_id": 2, "vocab": self.pieces, "byte_fallback": false},
        })
    }
}

/// Compatibility forms, lower case, single spaces, none at the ends.
fn normalizer_json() -> Value {
    json!({"type": "Sequence", "normalizers": [
        {"type": "NFKC"},
        {"type": "Lowercase"},
        {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
        {"type": "Strip", "strip_left": true, "strip_right": true},
    ]})
}

/// Splits `word` into runs of letters and digits, and single other characters.
///
/// A run at the start carries the space; before another character it stands alone.
fn split_word(word: &str) -> Vec<String> {
    let mut pieces = vec![SPACE.to_string()];
    let mut joins = true;
    for character in word.chars() {
        let in_run = character.is_alphanumeric();
        match pieces.last_mut() {
            Some(last) if in_run && joins => last.push(character),
            _ => pieces.push(character.to_string()),
        }
        joins = in_run;
    }
    pieces
}

/// Marks, words by falling count, then single characters, with their log-probabilities.
fn scored(counts: BTreeMap<String, u64>, most_words: usize) -> Vec<(String, f64)> {
    let mut characters: BTreeSet<char> = counts.keys().flat_map(|piece| piece.chars()).collect();
    characters.insert(SPACE);
    characters.extend((' '..='~').filter(|c| !c.is_ascii_uppercase() && *c != ' '));
    let total = counts.values().sum::<u64>().max(1) as f64;

    let mut words: Vec<(String, u64)> = counts.into_iter().collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    words.truncate(most_words);
    let mut pieces: Vec<(String, f64)> =
        MARKS.iter().map(|mark| ((*mark).to_owned(), 0.0)).collect();
    pieces.extend(
        words
            .into_iter()
            .map(|(word, count)| (word, (count as f64 / total).ln())),
    );

    // Below every word, so a known word is never spelled out.
    let spelled = (1.0 / total).ln() - 1.0;
    let known: BTreeSet<String> = pieces.iter().map(|(piece, _)| piece.clone()).collect();
    let rest = characters.into_iter().map(|c| c.to_string());
    pieces.extend(rest.filter(|c| !known.contains(c)).map(|c| (c, spelled)));
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::PromptTokenizer;
    use super::*;

    const CAPTIONS: [&str; 3] = [
        "a red house by the sea, at night",
        "a blue boat; the sea is calm",
        "A well-lit street (at dawn)",
    ];

    /// Saves the tokenizer of the captions and opens it again.
    fn reopened(max_length: usize) -> (Unigram, PromptTokenizer) {
        let unigram = Unigram::from_captions(CAPTIONS, 1000).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        unigram.save(&path).unwrap();
        let tokenizer = PromptTokenizer::open(&path, max_length).unwrap();
        assert_eq!(tokenizer.id_limit(), unigram.vocab_size());
        (unigram, tokenizer)
    }

    #[track_caller]
    fn check(prompt: &str, expected: &[&str]) {
        let (unigram, tokenizer) = reopened(512);
        let ids = tokenizer.encode(prompt).unwrap();
        let pieces: Vec<&str> = ids
            .iter()
            .map(|id| unigram.pieces[*id as usize].0.as_str())
            .collect();
        assert_eq!(pieces, expected, "{prompt:?}");
    }

    #[test]
    fn known_words_are_one_piece_each() {
        check(
            "a red boat by the sea, at dawn",
            &[
                "▁a", "▁red", "▁boat", "▁by", "▁the", "▁sea", ",", "▁at", "▁dawn", "</s>",
            ],
        );
        check("  A   RED\n\tboat ", &["▁a", "▁red", "▁boat", "</s>"]);
        check(
            "well-lit (at",
            &["▁well", "-", "lit", "▁", "(", "at", "</s>"],
        );
    }

    #[test]
    fn unknown_words_are_spelled() {
        check("fox", &["▁", "f", "o", "x", "</s>"]);
        check("ＦＯＸ", &["▁", "f", "o", "x", "</s>"]);
        check("红", &["▁", "<unk>", "</s>"]);
        check("", &["</s>"]);
        check("   ", &["</s>"]);
    }

    #[test]
    fn ids_are_stable_and_limited() {
        let mut turned = CAPTIONS;
        turned.reverse();
        let one = Unigram::from_captions(CAPTIONS, 1000).unwrap();
        let two = Unigram::from_captions(turned, 1000).unwrap();
        assert_eq!(one.pieces, two.pieces);
        let few = Unigram::from_captions(CAPTIONS, 2).unwrap();
        assert!(few.vocab_size() < one.vocab_size());
        assert!(Unigram::from_captions([], 10).unwrap().vocab_size() > 60);
    }

    #[test]
    fn long_prompts_are_cut_before_the_end_mark() {
        let (_, tokenizer) = reopened(16);
        let ids = tokenizer.encode(&"red boat ".repeat(2500)).unwrap();
        assert_eq!((ids.len(), ids.last()), (16, Some(&1)));
    }
}
