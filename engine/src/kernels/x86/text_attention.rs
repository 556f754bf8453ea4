//! Attention of one picture's tokens to its text, head by head.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::Arc;

use rayon::prelude::*;

use super::attention::{Head, Rows, are_many, gather, scatter};
use super::bridge::{Differentiable, Operation, Values};
use super::factor::Factor;
use super::pack::some_of;
use super::place::{Place, written};
use crate::kernels::Sight;

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
            let (heads, words) = (self.heads, text.shape[1]);
            let width = channels / heads;
            assert_eq!(heads * width, channels, "heads side by side");
            let one = |y: &Place<'_>, place: usize| {
                let (row, start) = (place / heads, place % heads * width);
                let text = &text.data[row * words * 2 * channels..][..words * 2 * channels];
                let from_text = |start| Rows {
                    values: &text[start..],
                    stride: 2 * channels,
                };
                let first = row * tokens * channels + start;
                let parts = Head {
                    query: Rows {
                        values: &query.data[first..(row + 1) * tokens * channels],
                        stride: channels,
                    },
                    key: from_text(start),
                    value: from_text(channels + start),
                    own: None,
                    width,
                    is_alone: are_many(query.shape[0] * heads),
                };
                // SAFETY: heads lie side by side.
                let y = unsafe { y.part(first) };
                parts.forward::<F>(&self.sight(row, tokens), y, channels);
            };
            let all = |y: &mut [MaybeUninit<f32>]| {
                let y = Place::from(y);
                let places = (0..query.shape[0] * heads).into_par_iter();
                places
                    .with_min_len(some_of(1))
                    .for_each(|place| one(&y, place));
            };
            // SAFETY: all heads of all queries are written.
            unsafe { written(query.data.len(), all) }
        }
    }

    vectorised! {
        fn back(&self, gradient: &[f32], [query, text, _]: [Values<'_>; 3]) -> [Vec<f32>; 3] {
            let (tokens, channels) = (query.shape[1], query.shape[2]);
            let (words, width) = (text.shape[1], channels / self.heads);
            let is_alone = are_many(query.shape[0]);
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
                    let from_text = |start| Rows {
                        values: &text[start..],
                        stride: 2 * channels,
                    };
                    let parts = Head {
                        query: Rows {
                            values: &query[start..],
                            stride: channels,
                        },
                        key: from_text(start),
                        value: from_text(channels + start),
                        own: None,
                        width,
                        is_alone,
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

impl<F: Factor> Operation<3> for CrossAttention<F> {
    fn shape(&self, [query, _, _]: [&[usize]; 3]) -> Vec<usize> {
        query.to_vec()
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.run(inputs) }
    }
}

impl<F: Factor> Differentiable for CrossAttention<F> {
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
