//! What the network has made of the texts of a batch.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor, TensorData};

use super::block::{Ada, BlockText};
use super::text_attention::TextKv;

/// What the network has made of the texts of a batch; the same for all scales.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Text summaries, `[R, C]`: the first token and the source of all shifts and scales.
    pub summary: Tensor<2>,
    /// Projected text, `[R, T, C]`.
    pub text: Tensor<3>,
    /// Gates, scales and shifts before the blocks' own offsets, `[R, 6, C]` (for traces and tests).
    pub shared_ada: Tensor<3>,
    /// Scale and shift of the head.
    pub(super) head_ada: [Tensor<3>; 2],
    /// Gates, scales and shifts of every block.
    pub(super) ada: Vec<Ada>,
    pub(super) text_kv: Vec<TextKv>,
    pub(super) bias: Option<Tensor<4>>,
    pub(super) lens: Arc<[usize]>,
    /// The same for so many rows each, once it was asked for.
    pub(super) shares: OnceLock<(usize, Arc<[Self]>)>,
}

/// Hides the padding of texts of `lens` tokens: 0 where a token is, else a large negative number, `[R, 1, 1, T]`.
pub(super) fn padding_bias(lens: &[usize], tokens: usize, device: &Device) -> Option<Tensor<4>> {
    if lens.iter().all(|&len| len == tokens) {
        return None;
    }
    let values: Vec<f32> = lens
        .iter()
        .flat_map(|&len| (0..tokens).map(move |i| if i < len { 0.0 } else { -1e9 }))
        .collect();
    Some(Tensor::from_data(
        TensorData::new(values, [lens.len(), 1, 1, tokens]),
        device,
    ))
}

impl Condition {
    /// Every row `count` times: what was made of one text, for a batch of pictures.
    pub fn spread(&self, count: usize) -> Self {
        Self {
            summary: spread_rows(&self.summary, count),
            text: spread_rows(&self.text, count),
            shared_ada: spread_rows(&self.shared_ada, count),
            head_ada: self
                .head_ada
                .each_ref()
                .map(|part| spread_rows(part, count)),
            ada: self.each_ada(|part| spread_rows(part, count)),
            text_kv: self.text_kv.iter().map(|kv| kv.spread(count)).collect(),
            bias: self.bias.as_ref().map(|bias| spread_rows(bias, count)),
            lens: spread_lens(&self.lens, count),
            shares: OnceLock::new(),
        }
    }
}

impl Condition {
    /// The same on a device that records gradients, without keys and values of the text.
    pub(super) fn recorded(&self) -> Self {
        Self {
            summary: self.summary.clone().autodiff(),
            text: self.text.clone().autodiff(),
            shared_ada: self.shared_ada.clone().autodiff(),
            head_ada: self.head_ada.clone().map(Tensor::autodiff),
            ada: self.each_ada(|part| part.clone().autodiff()),
            text_kv: Vec::new(),
            bias: self.bias.clone().map(Tensor::autodiff),
            lens: self.lens.clone(),
            shares: OnceLock::new(),
        }
    }

    /// How many text tokens of each row count.
    pub(super) fn lens(&self) -> Arc<[usize]> {
        self.lens.clone()
    }

    fn each_ada(&self, f: impl Fn(&Tensor<3>) -> Tensor<3>) -> Vec<Ada> {
        self.ada.iter().map(|ada| ada.map(&f)).collect()
    }

    /// Gates, scales and shifts of block `index`.
    pub(super) fn ada(&self, index: usize) -> &Ada {
        &self.ada[index]
    }

    /// What block `index` needs to know to compute row `row` alone.
    pub(super) fn row_of_block(
        &self,
        index: usize,
        row: usize,
    ) -> (Ada, TextKv, Option<Tensor<4>>) {
        let ada = self.ada[index].map(|part| part.clone().narrow(0, row, 1));
        let bias = self.bias.clone().map(|bias| bias.narrow(0, row, 1));
        (ada, self.text_kv[index].rows(row, 1), bias)
    }

    /// What block `index` needs to know.
    pub(super) fn of_block(&self, index: usize) -> BlockText<'_> {
        self.with_kv(index, &self.text_kv[index])
    }

    /// What block `index` needs to know, with keys and values `text_kv` of the text.
    pub(super) fn with_kv<'a>(&'a self, index: usize, text_kv: &'a TextKv) -> BlockText<'a> {
        BlockText {
            ada: self.ada(index),
            text_kv,
            bias: self.bias.clone(),
        }
    }
}

impl Condition {
    /// Rows `start..start + count` alone.
    pub fn rows(&self, start: usize, count: usize) -> Self {
        let kv = self.text_kv.iter().map(|kv| kv.rows(start, count));
        let own = |part: &Tensor<3>| part.clone().narrow(0, start, count);
        Self {
            summary: self.summary.clone().narrow(0, start, count),
            text: self.text.clone().narrow(0, start, count),
            shared_ada: own(&self.shared_ada),
            head_ada: self.head_ada.each_ref().map(&own),
            ada: self.each_ada(own),
            text_kv: kv.collect(),
            bias: self.bias.clone().map(|bias| bias.narrow(0, start, count)),
            lens: self.lens[start..start + count].into(),
            shares: OnceLock::new(),
        }
    }

    /// The same for `share` rows each.
    pub(super) fn shares(&self, share: usize) -> Arc<[Self]> {
        let make = || {
            let rows = self.lens.len();
            let starts = (0..rows).step_by(share);
            starts
                .map(|start| self.rows(start, share.min(rows - start)))
                .collect()
        };
        let (known, shares) = self.shares.get_or_init(|| (share, make()));
        if *known == share {
            shares.clone()
        } else {
            make()
        }
    }
}

/// Row 0 `count` times, then row 1 `count` times, and so on.
pub(super) fn spread_rows<const D: usize>(tensor: &Tensor<D>, count: usize) -> Tensor<D> {
    let rows = (0..tensor.dims()[0]).flat_map(|row| {
        let row = tensor.clone().narrow(0, row, 1);
        std::iter::repeat_n(row, count)
    });
    Tensor::cat(rows.collect(), 0)
}

/// Every length `count` times.
pub(super) fn spread_lens(lens: &[usize], count: usize) -> Arc<[usize]> {
    lens.iter()
        .flat_map(|&len| std::iter::repeat_n(len, count))
        .collect()
}
