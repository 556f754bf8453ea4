//! Gradients of low-rank additions, one block after the other, in little memory.
//!
//! Automatic differentiation keeps every inner tensor of every block until the gradient is known. Here only the
//! tokens that enter a block are kept; each block is computed again when its turn comes (Chen et al., arXiv
//! 1604.06174), its token-wise parts in pieces, and its attention with scores that are made and dropped chunk by
//! chunk (Dao et al., arXiv 2205.14135, appendix B). The slow twin is `forward_all` with `backward`.

use std::ops::Range;

use burn::tensor::{Gradients, Tensor, activation};

use super::attention::{Mask, mix, narrow, split_heads};
use super::condition::Condition;
use super::rope2d::Rope;
use super::transformer::Transformer;
use crate::api::EngineError;
use crate::kernels::Seen;
use crate::schedule::ScaleSchedule;
use crate::weights::Network as _;

/// Most scores of attention at once while a gradient is computed.
pub(crate) const MOST_SCORES: usize = 32 << 20;

/// Gradients on the host, one per matrix, in the order of [`Transformer::adaptables`]: `A`, then `B`.
pub type LowRankGradients = Vec<Option<Vec<f32>>>;

impl Transformer {
    /// The same network without gradients; weights are shared.
    pub fn plain(&self) -> Self {
        let mut plain = self.clone();
        plain.set_device(self.device().clone().without_autodiff());
        for slot in &mut plain.all_slots().list {
            slot.weight.stop_recording();
        }
        for layer in plain.adaptables() {
            for one in layer.additions {
                one.down = one.down.clone().without_autodiff();
                one.up = one.up.clone().without_autodiff();
            }
        }
        plain
    }

    /// The same network on a device that records gradients, its weights frozen and shared.
    pub fn recorded(&self) -> Self {
        let mut recorded = self.clone();
        recorded.set_device(self.device().clone().autodiff());
        for slot in &mut recorded.all_slots().list {
            slot.weight.record();
        }
        recorded
    }

    /// Gradients of `loss_of(logits)` for the low-rank additions of this network, whose own weights are frozen.
    ///
    /// `plain` is [`Self::plain`] of this network; `condition` and `inputs` are as for [`Self::forward_all`], without
    /// gradients. At most `piece` tokens of a row are computed at once where that is possible.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the device fails.
    pub fn low_rank_gradients<M>(
        &mut self,
        plain: &Self,
        condition: &Condition,
        inputs: Option<Tensor<3>>,
        schedule: &ScaleSchedule,
        piece: usize,
        loss_of: impl FnOnce(Tensor<3>) -> (Tensor<1>, M),
    ) -> Result<(LowRankGradients, M), EngineError> {
        let depth = self.config.depth;
        let scales = 0..schedule.scales.len();
        let pass = Pass {
            plain,
            rope: Rope::new(
                schedule,
                scales.clone(),
                self.config.head_width(),
                plain.device(),
            ),
            recorded_rope: Rope::new(schedule, scales, self.config.head_width(), self.device()),
            mask: Mask::block_causal(schedule),
            condition,
            recorded: condition.recorded(),
            piece: piece.max(1),
        };
        let mut x = plain.tokens(condition, inputs, schedule);
        let mut entering = Vec::new();
        for index in 0..depth {
            entering.push(x.clone());
            x = plain.block(
                index,
                x,
                condition,
                &pass.rope,
                super::Look::Own(&pass.mask),
            );
        }
        let hidden = leaf(x);
        let (loss, measures) = loss_of(self.logits(hidden.clone(), &pass.recorded));
        let gradients = loss.backward();
        let mut gradient = gradient_of(&hidden, &gradients)?;
        let mut by_block = vec![rows_of(self.head_gradients(&gradients))?];
        for index in (0..depth).rev() {
            let Some(x) = entering.pop() else { break };
            let mut sums = Vec::new();
            gradient = self.through_block(index, &x, &gradient, &pass, &mut sums)?;
            by_block.push(rows_of(sums)?);
        }
        by_block.reverse();
        Ok((by_block.concat(), measures))
    }

    /// The gradient for the tokens `x` that enter block `index`, from that for those that leave it; adds to `sums`
    /// those of its low-rank additions.
    fn through_block(
        &mut self,
        index: usize,
        x: &Tensor<3>,
        gradient: &Tensor<3>,
        pass: &Pass<'_>,
        sums: &mut Vec<Option<Tensor<2>>>,
    ) -> Result<Tensor<3>, EngineError> {
        let (plain, limit) = (pass.plain, self.max_elements());
        let heads = self.config.heads;
        let turned = plain.blocks()[index].turned(x, pass.condition.ada(index), &pass.rope, limit);
        let [query, key, value] = turned.clone();
        let mixed = mix(query, Seen::all(key, value), Some(&pass.mask), limit);
        let mut direct = Vec::new();
        let mut for_mixed = Vec::new();
        for piece in pass.pieces(x) {
            let (x, mixed) = (leaf(part(x, &piece)), leaf(part(&mixed, &piece)));
            let block = &self.blocks()[index];
            let text_kv = block.text_kv(pass.recorded.text.clone(), &pass.condition.lens());
            let text = pass.recorded.with_kv(index, &text_kv);
            let left = block.finish(x.clone(), mixed.clone(), &text, limit);
            let gradients = (left * part(gradient, &piece).autodiff()).sum().backward();
            direct.push(gradient_of(&x, &gradients)?);
            for_mixed.push(gradient_of(&mixed, &gradients)?);
            self.add_up(index, &gradients, sums);
        }
        let for_mixed = split_heads(Tensor::cat(for_mixed, 1), heads);
        let for_turned = attention_gradient(&turned, &for_mixed, &pass.mask);
        let mut through = Vec::new();
        for piece in pass.pieces(x) {
            let x = leaf(part(x, &piece));
            let rope = pass.recorded_rope.narrow(piece.start, piece.len());
            let block = &self.blocks()[index];
            let turned = block.turned(&x, pass.recorded.ada(index), &rope, limit);
            let products = turned.into_iter().zip(&for_turned);
            let products = products.map(|(t, g)| (t * narrow(g, &piece).autodiff()).sum());
            let gradients = products
                .reduce(|sum, one| sum + one)
                .ok_or_else(|| EngineError::internal("no gradient"))?
                .backward();
            through.push(gradient_of(&x, &gradients)?);
            self.add_up(index, &gradients, sums);
        }
        Ok(Tensor::cat(direct, 1) + Tensor::cat(through, 1))
    }

    /// Gradients of the last layer's additions.
    fn head_gradients(&mut self, gradients: &Gradients) -> Vec<Option<Tensor<2>>> {
        let additions = self.head_adaptable().additions.iter();
        let matrices = additions.flat_map(|one| [&one.down, &one.up]);
        matrices.map(|matrix| matrix.grad(gradients)).collect()
    }

    /// Adds the gradients of block `index`'s additions to `sums`.
    fn add_up(&mut self, index: usize, gradients: &Gradients, sums: &mut Vec<Option<Tensor<2>>>) {
        let layers = self.blocks_mut()[index].adaptables("");
        let matrices = layers
            .iter()
            .flat_map(|layer| layer.additions.iter().flat_map(|one| [&one.down, &one.up]));
        for (place, matrix) in matrices.enumerate() {
            if sums.len() == place {
                sums.push(None);
            }
            if let Some(own) = matrix.grad(gradients) {
                sums[place] = Some(match sums[place].take() {
                    Some(sum) => sum + own,
                    None => own,
                });
            }
        }
    }
}

/// What all blocks of one pass share.
struct Pass<'a> {
    plain: &'a Transformer,
    rope: Rope,
    recorded_rope: Rope,
    mask: Mask,
    condition: &'a Condition,
    recorded: Condition,
    piece: usize,
}

impl Pass<'_> {
    /// The tokens of `x` `[R, L, C]`, some at a time.
    fn pieces(&self, x: &Tensor<3>) -> Vec<Range<usize>> {
        let length = x.dims()[1];
        (0..length)
            .step_by(self.piece)
            .map(|start| start..(start + self.piece).min(length))
            .collect()
    }
}

fn part(x: &Tensor<3>, range: &Range<usize>) -> Tensor<3> {
    x.clone().narrow(1, range.start, range.len())
}

fn leaf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.autodiff().require_grad()
}

/// Gradients as they lie on the host.
fn rows_of(sums: Vec<Option<Tensor<2>>>) -> Result<LowRankGradients, EngineError> {
    let read = |sum: Tensor<2>| {
        sum.try_into_vec_as::<f32>()
            .map_err(|error| EngineError::internal(format!("reading a gradient: {error}")))
    };
    sums.into_iter()
        .map(|sum| sum.map(read).transpose())
        .collect()
}

fn gradient_of<const D: usize>(
    leaf: &Tensor<D>,
    gradients: &Gradients,
) -> Result<Tensor<D>, EngineError> {
    leaf.grad(gradients)
        .ok_or_else(|| EngineError::internal("a gradient is missing"))
}

/// Gradients for queries, keys and values `[B, N, L, D]` of attention, from that for its result `[B, N, L, D]`.
///
/// With `P = softmax(Q Kᵀ)` and `dP = dO Vᵀ`: `dV = Pᵀ dO`, `dS = P ∘ (dP - Σ P ∘ dP)`, `dQ = dS K`, `dK = dSᵀ Q`.
fn attention_gradient(
    [query, key, value]: &[Tensor<4>; 3],
    result: &Tensor<4>,
    mask: &Mask,
) -> [Tensor<4>; 3] {
    let [batch, heads, length, width] = query.dims();
    let (mut for_key, mut for_value) = (key.zeros_like(), value.zeros_like());
    let mut for_query = Vec::new();
    let add = |sum: Tensor<4>, own: Tensor<4>, keys: usize| {
        let seen = narrow(&sum, &(0..keys)) + own;
        sum.slice_assign([0..batch, 0..heads, 0..keys, 0..width], seen)
    };
    for sight in mask.sights() {
        let seen = 0..sight.keys;
        let (key, value) = (narrow(key, &seen), narrow(value, &seen));
        let chunk = (MOST_SCORES / (batch * heads * sight.keys)).clamp(1, length);
        for start in sight.queries.clone().step_by(chunk) {
            let range = start..(start + chunk).min(sight.queries.end);
            let (query, result) = (narrow(query, &range), narrow(result, &range));
            let scores = query.clone().matmul(key.clone().swap_dims(2, 3));
            let weights = activation::softmax(scores, 3); // [B, N, l, S]
            let for_weights = result.clone().matmul(value.clone().swap_dims(2, 3));
            let paid = (for_weights.clone() * weights.clone()).sum_dim(3);
            let for_scores = weights.clone() * (for_weights - paid);
            for_query.push(for_scores.clone().matmul(key.clone()));
            for_key = add(
                for_key,
                for_scores.swap_dims(2, 3).matmul(query),
                sight.keys,
            );
            for_value = add(
                for_value,
                weights.swap_dims(2, 3).matmul(result),
                sight.keys,
            );
        }
    }
    [Tensor::cat(for_query, 2), for_key, for_value]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Precision, with_precision};
    use crate::lora::Tuned;
    use crate::model::ModelConfig;
    use burn::tensor::{Device, TensorData};

    fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
        let stream = crate::random::Stream::new(seed, 3);
        let count = shape.iter().product::<usize>() as u64;
        let values: Vec<f32> = (0..count).map(|i| stream.normal(i) as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// Gradients by block, in pieces of odd sizes, against those of one graph, with and without the processor's own
    /// operations.
    #[test]
    fn gradients_are_those_of_one_graph() {
        let config = ModelConfig {
            depth: 3,
            width: 24,
            heads: 2,
            mlp_hidden: 40,
            block_chunks: 1,
            text_channels: 128,
            text_maxlen: 8,
            codebook_dim: 6,
            patchify: false,
        };
        let schedule = ScaleSchedule::nearest(1.5, 4).unwrap();
        let device = Device::flex();
        let mut plain = Transformer::new(&config, &device, usize::MAX);
        plain.initialise(1, &device);
        let layers = ["sa.", "ca.", "ffn."].map(str::to_owned);
        let mut tuned = Tuned::new(plain.recorded(), &layers, 2, 2.0).unwrap();
        // `B` must not be zero, or `A` has no gradient.
        for (index, slot) in tuned.all_slots().list.iter_mut().enumerate() {
            let stream = crate::random::Stream::new(9, index as u64);
            let values = (0..slot.len() as u64).map(|i| 0.2 * stream.normal(i) as f32);
            let values = values.collect();
            slot.fill(values, &device.clone().autodiff());
        }
        let (rows, lens) = (2, [5, 3]);
        let text = random([rows, 5, 128], 2, &device);
        let inputs = random([rows, schedule.tokens() - 1, 6], 3, &device);
        let aim = random([rows, schedule.tokens(), 12], 4, &device);
        let loss_of = |logits: Tensor<3>| ((logits - aim.clone().autodiff()).square().mean(), ());
        for precision in [Precision::Off, Precision::Single] {
            with_precision(precision, || {
                let whole = &tuned.transformer;
                let condition = whole.condition(text.clone().autodiff(), &lens);
                let logits =
                    whole.forward_all(&condition, Some(inputs.clone().autodiff()), &schedule);
                let gradients = loss_of(logits).0.backward();
                let expected: Vec<Option<Vec<f32>>> = tuned
                    .all_slots()
                    .list
                    .iter()
                    .map(|slot| slot.weight.gradient(&gradients).unwrap())
                    .collect();
                let plain = tuned.transformer.plain();
                let condition = plain.condition(text.clone(), &lens);
                for piece in [7, 1000] {
                    let (found, ()) = tuned
                        .transformer
                        .low_rank_gradients(
                            &plain,
                            &condition,
                            Some(inputs.clone()),
                            &schedule,
                            piece,
                            loss_of,
                        )
                        .unwrap();
                    assert_eq!(found.len(), expected.len());
                    for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        let (found, expected) = (found.as_ref(), expected.as_ref());
                        let (found, expected) = (found.unwrap(), expected.unwrap());
                        let most = expected.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
                        assert!(most > 0.0, "{place}");
                        for (a, b) in found.iter().zip(expected) {
                            assert!((a - b).abs() < 1e-4 * most.max(1e-3), "{place}: {a} {b}");
                        }
                    }
                }
            });
        }
    }
}
