//! Attention of one picture's tokens, head by head; scores are made again for the gradient.

use std::marker::PhantomData;
use std::sync::Arc;

use rayon::prelude::*;

use super::bridge::{Operation, Values};
use super::gemm::{Factor, left_columns, left_rows, multiply, right_columns, right_rows};
use super::math::{exp, sum_of};
use crate::kernels::{Sight, count_products};

/// One head: queries `[L, D]`, keys and values `[S, D]`.
struct Head<'a> {
    query: &'a [f32],
    key: &'a [f32],
    value: &'a [f32],
    width: usize,
}

impl Head<'_> {
    /// What the queries of `sight` pay to each key they see, `[queries, keys]`.
    #[inline(always)]
    fn weights<F: Factor>(&self, sight: &Sight) -> Vec<f32> {
        let (count, keys, width) = (sight.queries.len(), sight.keys, self.width);
        let query = &self.query[sight.queries.start * width..];
        let left = left_rows::<F>(query, count, width, width);
        let right = right_columns::<F>(self.key, keys, width, width);
        let mut weights = vec![0.0; count * keys];
        multiply::<F>(left.left(), right.right(), &mut weights, keys, keys, false);
        for row in weights.chunks_exact_mut(keys) {
            let most = row.iter().fold(f32::MIN, |most, value| most.max(*value));
            for value in row.iter_mut() {
                *value = exp(*value - most);
            }
            let share = 1.0 / sum_of(keys, |at| row[at]);
            for value in row.iter_mut() {
                *value *= share;
            }
        }
        weights
    }

    /// Adds the result for the queries of `sight` to `out` `[queries, D]`.
    #[inline(always)]
    fn forward<F: Factor>(&self, sight: &Sight, out: &mut [f32]) {
        let (count, keys, width) = (sight.queries.len(), sight.keys, self.width);
        if keys == 0 {
            out.fill(0.0);
            return;
        }
        count_products(2 * count * keys * width);
        let weights = self.weights::<F>(sight);
        let left = left_rows::<F>(&weights, count, keys, keys);
        let right = right_rows::<F>(self.value, keys, width, width);
        multiply::<F>(left.left(), right.right(), out, width, width, false);
    }

    /// Adds the gradients for those of the queries of `sight`, `[queries, D]`.
    #[inline(always)]
    fn backward<F: Factor>(
        &self,
        sight: &Sight,
        gradient: &[f32],
        [of_query, of_key, of_value]: [&mut [f32]; 3],
    ) {
        let (count, keys, width) = (sight.queries.len(), sight.keys, self.width);
        if keys == 0 {
            return;
        }
        // The scores made again are not counted: they are the price of not keeping them.
        count_products(4 * count * keys * width);
        let weights = self.weights::<F>(sight);
        let rows = right_rows::<F>(gradient, count, width, width);
        let left = left_columns::<F>(&weights, count, keys, keys);
        multiply::<F>(left.left(), rows.right(), of_value, width, width, true);
        let left = left_rows::<F>(gradient, count, width, width);
        let right = right_columns::<F>(self.value, keys, width, width);
        let mut scores = vec![0.0; count * keys];
        multiply::<F>(left.left(), right.right(), &mut scores, keys, keys, false);
        for (score, weight) in scores
            .chunks_exact_mut(keys)
            .zip(weights.chunks_exact(keys))
        {
            let mean = sum_of(keys, |at| score[at] * weight[at]);
            for (score, weight) in score.iter_mut().zip(weight) {
                *score = weight * (*score - mean);
            }
        }
        let left = left_rows::<F>(&scores, count, keys, keys);
        let right = right_rows::<F>(self.key, keys, width, width);
        multiply::<F>(left.left(), right.right(), of_query, width, width, true);
        let left = left_columns::<F>(&scores, count, keys, keys);
        let query = &self.query[sight.queries.start * width..];
        let right = right_rows::<F>(query, count, width, width);
        multiply::<F>(left.left(), right.right(), of_key, width, width, true);
    }
}

/// Copies columns `start..start + width` of rows `stride` apart.
#[inline(always)]
fn gather(rows: &[f32], stride: usize, start: usize, width: usize) -> Vec<f32> {
    let mut values = vec![0.0; rows.len() / stride * width];
    for (row, values) in rows
        .chunks_exact(stride)
        .zip(values.chunks_exact_mut(width))
    {
        values.copy_from_slice(&row[start..start + width]);
    }
    values
}

/// The opposite of [`gather`].
#[inline(always)]
fn scatter(rows: &mut [f32], stride: usize, start: usize, width: usize, values: &[f32]) {
    for (row, values) in rows
        .chunks_exact_mut(stride)
        .zip(values.chunks_exact(width))
    {
        row[start..start + width].copy_from_slice(values);
    }
}

/// Self attention with unit queries and keys that are turned by their place.
///
/// Inputs: queries, keys and values side by side `[B, L, 3C]`; the logarithm of the queries' length,
/// one per head. Result `[B, L, C]`.
#[derive(Debug)]
pub(in crate::kernels) struct SelfAttention<F: Factor> {
    pub(in crate::kernels) heads: usize,
    /// Cosine and sine of every pair of every token, `[L, D/2]`.
    pub(in crate::kernels) turns: Arc<[Vec<f32>; 2]>,
    pub(in crate::kernels) sights: Arc<[Sight]>,
    pub(in crate::kernels) factor: PhantomData<F>,
}

/// Largest logarithm of the length of queries.
const MOST_LENGTH: f32 = 4.605_170_2;

impl<F: Factor> SelfAttention<F> {
    /// Brings rows `[L, D]` to `length` and turns them; also gives what each was multiplied by.
    #[inline(always)]
    fn turn(&self, rows: &mut [f32], width: usize, length: f32) -> Vec<f32> {
        let half = width / 2;
        let mut factors = Vec::with_capacity(rows.len() / width);
        for (token, row) in rows.chunks_exact_mut(width).enumerate() {
            let norm = sum_of(width, |at| row[at] * row[at]).sqrt().max(1e-12);
            let factor = length / norm;
            let turns = token * half..(token + 1) * half;
            let (cos, sin) = (&self.turns[0][turns.clone()], &self.turns[1][turns]);
            for ((pair, cos), sin) in row.chunks_exact_mut(2).zip(cos).zip(sin) {
                let (a, b) = (factor * pair[0], factor * pair[1]);
                pair[0] = cos * a - sin * b;
                pair[1] = sin * a + cos * b;
            }
            factors.push(factor);
        }
        factors
    }

    /// Turns gradients of turned rows into those of the raw ones, in place; gives the gradient of `ln length`.
    #[inline(always)]
    fn turn_back(
        &self,
        gradients: &mut [f32],
        turned: &[f32],
        factors: &[f32],
        width: usize,
        length: f32,
    ) -> f32 {
        let half = width / 2;
        let mut of_length = 0.0;
        let rows = gradients
            .chunks_exact_mut(width)
            .zip(turned.chunks_exact(width));
        for (token, ((gradient, turned), factor)) in rows.zip(factors).enumerate() {
            // Along the row itself only the length changes, which is fixed.
            let along = sum_of(width, |at| gradient[at] * turned[at]);
            of_length += along;
            let along = along / (length * length);
            let turns = token * half..(token + 1) * half;
            let (cos, sin) = (&self.turns[0][turns.clone()], &self.turns[1][turns]);
            let pairs = gradient.chunks_exact_mut(2).zip(turned.chunks_exact(2));
            for (((gradient, turned), cos), sin) in pairs.zip(cos).zip(sin) {
                let a = factor * (gradient[0] - along * turned[0]);
                let b = factor * (gradient[1] - along * turned[1]);
                gradient[0] = cos * a + sin * b;
                gradient[1] = cos * b - sin * a;
            }
        }
        of_length
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
    fn run(&self, [qkv, lengths, _]: [Values<'_>; 3]) -> Vec<f32> {
        let (tokens, wide) = (qkv.shape[1], qkv.shape[2]);
        let channels = wide / 3;
        let width = channels / self.heads;
        let mut y = vec![0.0; qkv.data.len() / 3];
        let one = |(rows, y): (&[f32], &mut [f32])| {
            let mut mixed = vec![0.0; tokens * width];
            for head in 0..self.heads {
                let part =
                    |index: usize| gather(rows, wide, index * channels + head * width, width);
                let [mut query, mut key, value] = [part(0), part(1), part(2)];
                self.turn(&mut query, width, exp(lengths.data[head].min(MOST_LENGTH)));
                self.turn(&mut key, width, 1.0);
                let parts = Head {
                    query: &query,
                    key: &key,
                    value: &value,
                    width,
                };
                for sight in self.sights.iter() {
                    parts.forward::<F>(sight, &mut mixed[sight.queries.start * width..]);
                }
                scatter(y, channels, head * width, width, &mixed);
            }
        };
        qkv.data
            .par_chunks_exact(tokens * wide)
            .zip(y.par_chunks_exact_mut(tokens * channels))
            .for_each(one);
        y
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
    fn back(&self, gradient: &[f32], [qkv, lengths, _]: [Values<'_>; 3]) -> [Vec<f32>; 3] {
        let (tokens, wide) = (qkv.shape[1], qkv.shape[2]);
        let channels = wide / 3;
        let width = channels / self.heads;
        let mut of_qkv = vec![0.0; qkv.data.len()];
        let one = |((rows, gradient), of_rows): ((&[f32], &[f32]), &mut [f32])| -> Vec<f32> {
            let mut of_lengths = Vec::with_capacity(self.heads);
            for head in 0..self.heads {
                let part =
                    |index: usize| gather(rows, wide, index * channels + head * width, width);
                let [mut query, mut key, value] = [part(0), part(1), part(2)];
                let length = exp(lengths.data[head].min(MOST_LENGTH));
                let query_factors = self.turn(&mut query, width, length);
                let key_factors = self.turn(&mut key, width, 1.0);
                let gradient = gather(gradient, channels, head * width, width);
                let mut of_query = vec![0.0; tokens * width];
                let mut of_key = vec![0.0; tokens * width];
                let mut of_value = vec![0.0; tokens * width];
                let parts = Head {
                    query: &query,
                    key: &key,
                    value: &value,
                    width,
                };
                for sight in self.sights.iter() {
                    let start = sight.queries.start * width;
                    let of_parts = [&mut of_query[start..], &mut of_key, &mut of_value];
                    parts.backward::<F>(sight, &gradient[start..], of_parts);
                }
                let of_length =
                    self.turn_back(&mut of_query, &query, &query_factors, width, length);
                of_lengths.push(if lengths.data[head] < MOST_LENGTH {
                    of_length
                } else {
                    0.0
                });
                self.turn_back(&mut of_key, &key, &key_factors, width, 1.0);
                for (index, values) in [of_query, of_key, of_value].iter().enumerate() {
                    scatter(
                        of_rows,
                        wide,
                        index * channels + head * width,
                        width,
                        values,
                    );
                }
            }
            of_lengths
        };
        let parts: Vec<Vec<f32>> = qkv
            .data
            .par_chunks_exact(tokens * wide)
            .zip(gradient.par_chunks_exact(tokens * channels))
            .zip(of_qkv.par_chunks_exact_mut(tokens * wide))
            .map(one)
            .collect();
        let mut of_lengths = vec![0.0; lengths.data.len()];
        for part in parts {
            for (sum, value) in of_lengths.iter_mut().zip(part) {
                *sum += value;
            }
        }
        [of_qkv, of_lengths, Vec::new()]
    }
}

impl<F: Factor> Operation for SelfAttention<F> {
    fn shape(&self, [qkv, _, _]: [&[usize]; 3]) -> Vec<usize> {
        vec![qkv[0], qkv[1], qkv[2] / 3]
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where `super::available` holds.
        unsafe { self.run(inputs) }
    }

    fn backward(&self, gradient: &[f32], inputs: [Values<'_>; 3]) -> [Vec<f32>; 3] {
        // SAFETY: operations are made only where `super::available` holds.
        unsafe { self.back(gradient, inputs) }
    }
}

/// Attention of picture tokens to text tokens.
///
/// Inputs: queries `[B, L, C]`, scaled; keys and values side by side `[B, T, 2C]`. Result `[B, L, C]`.
#[derive(Debug)]
pub(in crate::kernels) struct CrossAttention<F: Factor> {
    pub(in crate::kernels) heads: usize,
    /// Text tokens of every row.
    pub(in crate::kernels) lens: Arc<[usize]>,
    pub(in crate::kernels) factor: PhantomData<F>,
}

impl<F: Factor> CrossAttention<F> {
    fn sight(&self, row: usize, queries: usize) -> Sight {
        Sight {
            queries: 0..queries,
            keys: self.lens[row],
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
    fn run(&self, [query, text, _]: [Values<'_>; 3]) -> Vec<f32> {
        let (tokens, channels) = (query.shape[1], query.shape[2]);
        let width = channels / self.heads;
        let mut y = vec![0.0; query.data.len()];
        let rows = query
            .data
            .par_chunks_exact(tokens * channels)
            .zip(text.data.par_chunks_exact(text.shape[1] * 2 * channels))
            .zip(y.par_chunks_exact_mut(tokens * channels))
            .enumerate();
        rows.for_each(|(row, ((query, text), y))| {
            let mut mixed = vec![0.0; tokens * width];
            for head in 0..self.heads {
                let start = head * width;
                let parts = Head {
                    query: &gather(query, channels, start, width),
                    key: &gather(text, 2 * channels, start, width),
                    value: &gather(text, 2 * channels, channels + start, width),
                    width,
                };
                parts.forward::<F>(&self.sight(row, tokens), &mut mixed);
                scatter(y, channels, start, width, &mixed);
            }
        });
        y
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
    fn back(&self, gradient: &[f32], [query, text, _]: [Values<'_>; 3]) -> [Vec<f32>; 3] {
        let (tokens, channels) = (query.shape[1], query.shape[2]);
        let (words, width) = (text.shape[1], channels / self.heads);
        let mut of_query = vec![0.0; query.data.len()];
        let mut of_text = vec![0.0; text.data.len()];
        let rows = query
            .data
            .par_chunks_exact(tokens * channels)
            .zip(text.data.par_chunks_exact(words * 2 * channels))
            .zip(gradient.par_chunks_exact(tokens * channels))
            .zip(of_query.par_chunks_exact_mut(tokens * channels))
            .zip(of_text.par_chunks_exact_mut(words * 2 * channels))
            .enumerate();
        rows.for_each(|(row, ((((query, text), gradient), of_query), of_text))| {
            for head in 0..self.heads {
                let start = head * width;
                let parts = Head {
                    query: &gather(query, channels, start, width),
                    key: &gather(text, 2 * channels, start, width),
                    value: &gather(text, 2 * channels, channels + start, width),
                    width,
                };
                let gradient = gather(gradient, channels, start, width);
                let mut of_head = vec![0.0; tokens * width];
                let mut of_key = vec![0.0; words * width];
                let mut of_value = vec![0.0; words * width];
                let of_parts = [&mut of_head[..], &mut of_key, &mut of_value];
                parts.backward::<F>(&self.sight(row, tokens), &gradient, of_parts);
                scatter(of_query, channels, start, width, &of_head);
                scatter(of_text, 2 * channels, start, width, &of_key);
                scatter(of_text, 2 * channels, channels + start, width, &of_value);
            }
        });
        [of_query, of_text, Vec::new()]
    }
}

impl<F: Factor> Operation for CrossAttention<F> {
    fn shape(&self, [query, _, _]: [&[usize]; 3]) -> Vec<usize> {
        query.to_vec()
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where `super::available` holds.
        unsafe { self.run(inputs) }
    }

    fn backward(&self, gradient: &[f32], inputs: [Values<'_>; 3]) -> [Vec<f32>; 3] {
        // SAFETY: operations are made only where `super::available` holds.
        unsafe { self.back(gradient, inputs) }
    }
}
