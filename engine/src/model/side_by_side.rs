//! Rows of a batch, which know nothing of each other, each with its own thread of the processor.
//!
//! Shared out operation by operation, threads wait for each other a dozen times a block; so they meet once in several
//! blocks. On two cores of an AMD EPYC
//! (`infinity bench --device cpu`) the starter's drawing took 48 ms so, and 54 without (in turn, the best of thirty).

use std::ops::Range;

use burn::tensor::{Device, Tensor};

use super::attention::{Look, Mask};
use super::condition::Condition;
use super::kv_cache::KvCache;
use super::rope2d::Rope;
use super::transformer::Transformer;
use crate::kernels;

/// Multiplications between two meetings, some hundredths of a second: whoever stops a run waits no longer.
const AT_ONCE: u64 = 2 << 30;
/// Most weights of a block that rows are shared out for. Every thread lays all of them out for its rows, which takes longer than
/// it saves where they are many and tokens few: the first scales of the 125M took a tenth to a third longer.
const MOST_WEIGHTS: u64 = 2 << 20;

/// The scales that pass through the blocks together.
#[derive(Clone, Copy)]
pub struct PassScales<'a> {
    /// Turns of their tokens.
    pub rope: &'a Rope,
    /// What each of them sees, where they are several.
    pub mask: Option<&'a Mask>,
    /// Whether nothing will look back on them, so that each block's keys and values go when it is through.
    pub are_last: bool,
}

impl Transformer {
    /// Runs `blocks` over the tokens `[R, L, C]` of `scales`; they see what `caches`, one for every block of the network, and the
    /// mask show, and their keys and values are added there. The slow twin is [`block`](Self::block) after block.
    pub fn pass(
        &self,
        blocks: Range<usize>,
        tokens: Tensor<3>,
        condition: &Condition,
        scales: PassScales<'_>,
        caches: &mut [KvCache],
    ) -> Tensor<3> {
        let one = |x: Tensor<3>, block: usize, condition: &Condition, cache: &mut KvCache| {
            let look = Look::Cache(cache, scales.mask);
            let x = self.block(block, x, condition, scales.rope, look);
            if scales.are_last {
                *cache = KvCache::default();
            }
            x
        };
        let rows = tokens.dims()[0];
        let caches = &mut caches[blocks.clone()];
        let share = if self.shares_rows() {
            caches.first_mut().map(|cache| cache.share(rows))
        } else {
            None
        };
        let Some(share) = share else {
            let pairs = blocks.zip(caches);
            return pairs.fold(tokens, |x, (block, cache)| one(x, block, condition, cache));
        };
        let count = rows.div_ceil(share);
        let conditions = condition.shares(share);
        let mut lists: Vec<Vec<&mut KvCache>> = (0..count).map(|_| Vec::new()).collect();
        for cache in caches {
            for (list, own) in lists.iter_mut().zip(cache.shares(share, count)) {
                list.push(own);
            }
        }
        let parts = lists.into_iter().zip(conditions.iter()).enumerate();
        let parts = parts.map(|(index, (caches, condition))| {
            let start = index * share;
            let own = tokens.clone().narrow(0, start, share.min(rows - start));
            let blocks = blocks.clone();
            let one = &one;
            move || {
                let pairs = blocks.zip(caches);
                pairs.fold(own, |x, (block, cache)| one(x, block, condition, cache))
            }
        });
        let parts = parts.collect();
        drop(tokens);
        let mut parts = kernels::side_by_side(parts);
        if parts.len() == 1 {
            parts.remove(0)
        } else {
            Tensor::cat(parts, 0)
        }
    }

    /// How many blocks a pass over `tokens` of all rows together takes at once: some where rows are shared out.
    pub fn blocks_at_once(&self, tokens: usize) -> usize {
        if !self.shares_rows() {
            return 1;
        }
        let products = self.block_weights() * tokens as u64;
        (AT_ONCE / products.max(1)).clamp(1, self.config.depth as u64) as usize
    }

    /// Weights of the matrices that a block multiplies tokens with.
    fn block_weights(&self) -> u64 {
        let width = self.config.width as u64;
        (6 * width + 2 * self.config.mlp_hidden as u64) * width
    }

    /// Whether rows are shared out: on the processor where blocks are small, unless they are taken one by one to save memory.
    fn shares_rows(&self) -> bool {
        self.block_weights() <= MOST_WEIGHTS
            && !self.rows_alone
            && *self.device() == Device::flex()
            && kernels::available()
    }
}

/// Rows of each share when all threads take as many: all `rows` where that is not possible.
pub(super) fn share_of(rows: usize) -> usize {
    let threads = rayon::current_num_threads();
    if rows.is_multiple_of(threads) {
        rows / threads
    } else {
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelConfig, tiny};
    use crate::schedule::ScaleSchedule;

    /// To the bit, whatever the shares, while guidance ends for some rows, and through a pass over several scales.
    #[test]
    fn shares_make_what_all_rows_make_together() {
        let device = Device::flex();
        let transformer = tiny::transformer(3);
        let schedule = ScaleSchedule::nearest(1.0, 4).unwrap();
        let condition = transformer.condition(tiny::tokens([8, 5], 1), &[5, 2, 4, 5, 1, 3, 2, 5]);
        assert_eq!(transformer.shares_rows(), kernels::available());
        let draw = |rows_of: [usize; 3], shared: bool| {
            let mut caches = transformer.caches(21);
            let mut all = Vec::new();
            let passes = [0..2, 2..3, 3..4];
            for (scales, rows) in passes.into_iter().zip(rows_of) {
                caches.iter_mut().for_each(|cache| cache.keep_rows(rows));
                let condition = condition.rows(0, rows);
                let rope = Rope::new(&schedule, scales.clone(), tiny::HEAD, &device);
                let mask = Mask::causal(&schedule, &scales);
                let mask = (scales.len() > 1).then_some(&mask);
                let tokens = schedule.scales[scales.clone()].iter();
                let tokens = tokens.map(|scale| scale.tokens()).sum();
                let mut x = tiny::tokens([rows, tokens], scales.start as u64);
                if shared {
                    // Shares settle with the first pass.
                    let threads = rayon::current_num_threads();
                    let fair = rows_of[0].is_multiple_of(threads) && kernels::available();
                    let over = PassScales {
                        rope: &rope,
                        mask,
                        are_last: scales.end == 4,
                    };
                    x = transformer.pass(0..2, x, &condition, over, &mut caches);
                    x = transformer.pass(2..3, x, &condition, over, &mut caches);
                    let share = if fair {
                        rows_of[0] / threads
                    } else {
                        rows_of[0]
                    };
                    assert_eq!(caches[0].share(rows_of[0]), share);
                } else {
                    for (block, cache) in caches.iter_mut().enumerate() {
                        let look = Look::Cache(cache, mask);
                        x = transformer.block(block, x, &condition, &rope, look);
                    }
                }
                all.extend(x.try_into_vec_as::<f32>().unwrap());
            }
            all
        };
        for rows in [[8, 8, 4], [6, 6, 3], [4, 2, 1], [3, 1, 1], [2, 2, 2]] {
            let together = draw(rows, false);
            assert!(together.iter().any(|value| value.abs() > 0.1));
            for threads in [1, 2, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let shared = pool.build().unwrap().install(|| draw(rows, true));
                assert!(shared == together, "{rows:?} rows, {threads} threads");
            }
        }
    }

    #[test]
    fn large_blocks_are_taken_one_by_one() {
        let blocks = |config, tokens| {
            Transformer::new(&config, &Device::flex(), usize::MAX).blocks_at_once(tokens)
        };
        let small = ModelConfig {
            width: 160,
            heads: 5,
            mlp_hidden: 480,
            depth: 7,
            ..ModelConfig::m125(16)
        };
        assert_eq!(blocks(small.clone(), 512), small.depth);
        assert_eq!(blocks(ModelConfig::m125(16), 512), 1);
    }
}
