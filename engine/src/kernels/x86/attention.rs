//! Attention of one picture's tokens, head by head; scores are made again for the gradient.

use std::marker::PhantomData;
use std::sync::Arc;

use rayon::prelude::*;

use super::bridge::{Operation, Values};
use super::factor::Factor;
use super::gemm::multiply;
use super::math::{exp, sum_of};
use super::pack::{Right, left_columns, left_rows};
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
        let right = columns(self.key, width);
        let mut weights = vec![0.0; count * keys];
        multiply::<F>(left.left(), right, &mut weights, keys, keys, false);
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
            out[..count * width].fill(0.0);
            return;
        }
        count_products(2 * count * keys * width);
        let weights = self.weights::<F>(sight);
        let left = left_rows::<F>(&weights, count, keys, keys);
        let right = rows_of(self.value, keys, width);
        multiply::<F>(left.left(), right, out, width, width, false);
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
        let rows = rows_of(gradient, count, width);
        let left = left_columns::<F>(&weights, count, keys, keys);
        multiply::<F>(left.left(), rows, of_value, width, width, true);
        let left = left_rows::<F>(gradient, count, width, width);
        let right = columns(self.value, width);
        let mut scores = vec![0.0; count * keys];
        multiply::<F>(left.left(), right, &mut scores, keys, keys, false);
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
        let right = rows_of(self.key, keys, width);
        multiply::<F>(left.left(), right, of_query, width, width, true);
        let left = left_columns::<F>(&scores, count, keys, keys);
        let query = &self.query[sight.queries.start * width..];
        let right = rows_of(query, count, width);
        multiply::<F>(left.left(), right, of_key, width, width, true);
    }
}

/// `k` rows of `width` values.
fn rows_of<F: Factor>(values: &[f32], k: usize, width: usize) -> Right<'_, F> {
    Right::Rows {
        values,
        k,
        stride: width,
    }
}

/// Rows of `width` values as columns.
fn columns<F: Factor>(values: &[f32], width: usize) -> Right<'_, F> {
    Right::Columns {
        values,
        k: width,
        stride: width,
    }
}

/// Copies columns `start..start + width` of rows `stride` apart.
#[inline(always)]
pub(super) fn gather(rows: &[f32], stride: usize, start: usize, width: usize) -> Vec<f32> {
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
pub(super) fn scatter(rows: &mut [f32], stride: usize, start: usize, width: usize, values: &[f32]) {
    for (row, values) in rows
        .chunks_exact_mut(stride)
        .zip(values.chunks_exact(width))
    {
        row[start..start + width].copy_from_slice(values);
    }
}

/// Attention of queries to the first keys they may see.
///
/// Inputs: queries `[B, N, L, D]`, keys and values `[B, N, S, D]`. Result `[B, L, C]`, heads side by side.
#[derive(Debug)]
pub(in crate::kernels) struct Attend<F: Factor> {
    pub(in crate::kernels) sights: Arc<[Sight]>,
    pub(in crate::kernels) factor: PhantomData<F>,
}

/// Head `place` of values `[B, N, L, D]`.
fn head_of<'a>(values: &Values<'a>, place: usize) -> &'a [f32] {
    let size = values.shape[2] * values.shape[3];
    &values.data[place * size..(place + 1) * size]
}

impl<F: Factor> Attend<F> {
    vectorised! {
        fn run(&self, [query, key, value]: [Values<'_>; 3]) -> Vec<f32> {
            let [heads, tokens, width] = [1, 2, 3].map(|axis: usize| query.shape[axis]);
            let mut mixed = vec![0.0; query.data.len()];
            let one = |(place, mixed): (usize, &mut [f32])| {
                let parts = Head {
                    query: head_of(&query, place),
                    key: head_of(&key, place),
                    value: head_of(&value, place),
                    width,
                };
                for sight in self.sights.iter() {
                    parts.forward::<F>(sight, &mut mixed[sight.queries.start * width..]);
                }
            };
            mixed
                .par_chunks_exact_mut(tokens * width)
                .enumerate()
                .for_each(one);
            let mut y = vec![0.0; mixed.len()];
            let channels = heads * width;
            for (place, mixed) in mixed.chunks_exact(tokens * width).enumerate() {
                let y = &mut y[place / heads * tokens * channels..][..tokens * channels];
                scatter(y, channels, place % heads * width, width, mixed);
            }
            y
        }
    }

    vectorised! {
        fn back(&self, gradient: &[f32], [query, key, value]: [Values<'_>; 3]) -> [Vec<f32>; 3] {
            let [heads, tokens, width] = [1, 2, 3].map(|axis: usize| query.shape[axis]);
            let (channels, places) = (heads * width, key.shape[2]);
            let mut of_query = vec![0.0; query.data.len()];
            let mut of_key = vec![0.0; key.data.len()];
            let mut of_value = vec![0.0; value.data.len()];
            let rows = of_query
                .par_chunks_exact_mut(tokens * width)
                .zip(of_key.par_chunks_exact_mut(places * width))
                .zip(of_value.par_chunks_exact_mut(places * width))
                .enumerate();
            rows.for_each(|(place, ((of_query, of_key), of_value))| {
                let parts = Head {
                    query: head_of(&query, place),
                    key: head_of(&key, place),
                    value: head_of(&value, place),
                    width,
                };
                let gradient = &gradient[place / heads * tokens * channels..][..tokens * channels];
                let gradient = gather(gradient, channels, place % heads * width, width);
                for sight in self.sights.iter() {
                    let start = sight.queries.start * width;
                    let of_parts = [&mut of_query[start..], &mut *of_key, &mut *of_value];
                    parts.backward::<F>(sight, &gradient[start..], of_parts);
                }
            });
            [of_query, of_key, of_value]
        }
    }
}

impl<F: Factor> Operation for Attend<F> {
    fn shape(&self, [query, _, _]: [&[usize]; 3]) -> Vec<usize> {
        vec![query[0], query[2], query[1] * query[3]]
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.run(inputs) }
    }

    fn backward(
        &self,
        gradient: &[f32],
        inputs: [Values<'_>; 3],
        _wanted: [bool; 3],
    ) -> [Vec<f32>; 3] {
        // SAFETY: operations are made only where the set is there.
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

    vectorised! {
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
    }

    vectorised! {
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
}

impl<F: Factor> Operation for CrossAttention<F> {
    fn shape(&self, [query, _, _]: [&[usize]; 3]) -> Vec<usize> {
        query.to_vec()
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.run(inputs) }
    }

    fn backward(
        &self,
        gradient: &[f32],
        inputs: [Values<'_>; 3],
        _wanted: [bool; 3],
    ) -> [Vec<f32>; 3] {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.back(gradient, inputs) }
    }
}
