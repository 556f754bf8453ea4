//! The bits a picture is made of: small, exact, and all that is needed to draw on from any of its scales.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Bits of every scale of one picture, packed eight to a byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureBits {
    /// Identity of the picture tokenizer they are written for; empty where it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tokenizer: String,
    /// Bits per token.
    pub per_token: usize,
    /// Token grids `(height, width)`, coarse to fine.
    pub grids: Vec<(usize, usize)>,
    /// Base64 of the bits of all scales, one after the other, the first bit highest.
    packed: String,
}

impl PictureBits {
    /// Packs `scales`, one row of 0 and 1 per grid.
    pub fn new(per_token: usize, grids: Vec<(usize, usize)>, scales: &[Vec<u8>]) -> Self {
        let bits: Vec<u8> = scales.concat();
        let pack = |byte: &[u8]| {
            byte.iter()
                .enumerate()
                .fold(0, |sum, (at, bit)| sum | (bit & 1) << (7 - at))
        };
        let bytes: Vec<u8> = bits.chunks(8).map(pack).collect();
        Self {
            tokenizer: String::new(),
            per_token,
            grids,
            packed: STANDARD.encode(bytes),
        }
    }

    /// The same bits, said to be written for the picture tokenizer with this identity.
    pub fn of_tokenizer(self, tokenizer: String) -> Self {
        Self { tokenizer, ..self }
    }

    /// The bits of every scale, 0 or 1 each; `None` when they are not whole.
    pub fn scales(&self) -> Option<Vec<Vec<u8>>> {
        let bytes = STANDARD.decode(&self.packed).ok()?;
        let mut start = 0_usize;
        let mut scales = Vec::new();
        for &(h, w) in &self.grids {
            let count = h.checked_mul(w)?.checked_mul(self.per_token)?;
            let end = start.checked_add(count)?;
            if end > 8 * bytes.len() {
                return None;
            }
            let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
            scales.push((start..end).map(bit).collect());
            start = end;
        }
        (start.div_ceil(8) == bytes.len()).then_some(scales)
    }
}

#[cfg(test)]
mod tests {
    use super::PictureBits;

    #[test]
    fn bits_come_back_and_cut_ones_do_not() {
        let scales: Vec<Vec<u8>> =
            vec![vec![1, 0, 1], (0..18).map(|i| (i % 5 == 0) as u8).collect()];
        let bits = PictureBits::new(3, vec![(1, 1), (2, 3)], &scales);
        assert_eq!(bits.scales(), Some(scales));
        let text = serde_json::to_string(&bits).unwrap();
        assert_eq!(serde_json::from_str::<PictureBits>(&text).unwrap(), bits);
        for damaged in [
            PictureBits {
                per_token: 4,
                ..bits.clone()
            },
            PictureBits {
                grids: vec![(1, 1)],
                ..bits.clone()
            },
            PictureBits {
                grids: vec![(usize::MAX, 2)],
                ..bits.clone()
            },
            PictureBits {
                packed: "no base64!".to_owned(),
                ..bits
            },
        ] {
            assert_eq!(damaged.scales(), None);
        }
    }
}
