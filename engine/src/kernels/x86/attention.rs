//! Attention of one picture's tokens, head by head; scores are made again for the gradient.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::bridge::{Differentiable, Numbers, Operation, Values};
use super::factor::Factor;
use super::gemm::{How, multiply};
use super::math::exp;
use super::pack::{Left, Right, left_columns, left_rows, some_of};
use super::place::{Place, written};
use super::reduce::{largest, products, total};
use crate::kernels::{Sight, count_products, threads};

/// Rows of as many values as a head is wide, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) stride: usize,
}

impl<'a> Rows<'a> {
    /// The first `count` of them as a right factor over rows.
    fn as_rows<F: Factor>(self, count: usize) -> Right<'a, F> {
        Right::Rows {
            values: Numbers::Single(self.values),
            k: count,
            stride: self.stride,
        }
    }

    /// The same as columns of `width` values.
    fn as_columns<F: Factor>(self, width: usize) -> Right<'a, F> {
        Right::Columns {
            values: Numbers::Single(self.values),
            k: width,
            stride: self.stride,
        }
    }

    /// The same from row `first` on.
    fn from(self, first: usize) -> Self {
        Self {
            values: &self.values[first * self.stride..],
            stride: self.stride,
        }
    }
}

/// One head: queries `[L, D]`, keys and values `[S, D]`.
pub(super) struct Head<'a> {
    pub(super) query: Rows<'a>,
    pub(super) key: Rows<'a>,
    pub(super) value: Rows<'a>,
    /// Keys and values behind the first so many.
    pub(super) own: Option<(usize, [Rows<'a>; 2])>,
    pub(super) width: usize,
    /// Whether there are enough heads that each may stay with one thread.
    pub(super) is_alone: bool,
}

/// Whether so many heads occupy all threads.
pub(super) fn are_many(heads: usize) -> bool {
    threads() == 1 || heads >= 2 * threads()
}

impl Head<'_> {
    /// See [`multiply`].
    #[inline(always)]
    fn product<F: Factor>(
        &self,
        left: Left<'_, F>,
        right: Right<'_, F>,
        out: Place<'_>,
        columns: usize,
        stride: usize,
        add: bool,
    ) {
        let how = How {
            add,
            ..if self.is_alone {
                How::alone()
            } else {
                How::default()
            }
        };
        multiply::<F>(left, right, out, columns, stride, how);
    }

    /// Keys and values from place to place, of the first `keys`.
    #[inline(always)]
    fn parts(&self, keys: usize) -> impl Iterator<Item = (Range<usize>, [Rows<'_>; 2])> {
        let (first, own) = self.own.map_or((keys, None), |(count, own)| {
            (count.min(keys), Some((count.min(keys)..keys, own)))
        });
        let parts = [Some((0..first, [self.key, self.value])), own];
        parts
            .into_iter()
            .flatten()
            .filter(|(places, _)| !places.is_empty())
    }

    vectorised! {
        /// What the queries of `sight` pay to each key they see, `[queries, keys]`.
        #[inline]
        fn weights<F: Factor>(&self, sight: &Sight) -> Vec<f32> {
            let (count, keys, width) = (sight.queries.len(), sight.keys, self.width);
            let query = self.query.from(sight.queries.start);
            let left = left_rows::<F>(query.values, count, width, query.stride);
            // SAFETY: products write all their values, one beside the other.
            let mut weights = unsafe {
                written(count * keys, |weights| {
                    let weights = Place::from(weights);
                    for (places, [key, _]) in self.parts(keys) {
                        let (out, right) = (weights.part(places.start), key.as_columns(width));
                        self.product::<F>(left.left(), right, out, places.len(), keys, false);
                    }
                })
            };
            for row in weights.chunks_exact_mut(keys) {
                let most = largest(row);
                for value in row.iter_mut() {
                    *value = exp(*value - most);
                }
                let share = 1.0 / total(row);
                for value in row.iter_mut() {
                    *value *= share;
                }
            }
            weights
        }
    }

    vectorised! {
        /// Writes the result for the queries of `sight` to rows of `out`, `stride` apart.
        #[inline]
        pub(super) fn forward<F: Factor>(&self, sight: &Sight, mut out: Place<'_>, stride: usize) {
            let (count, keys, width) = (sight.queries.len(), sight.keys, self.width);
            if keys == 0 {
                out.clear(count, width, stride);
                return;
            }
            count_products(2 * count * keys * width);
            let weights = self.weights::<F>(sight);
            for (places, [_, value]) in self.parts(keys) {
                let left = left_rows::<F>(&weights[places.start..], count, places.len(), keys);
                let right = value.as_rows(places.len());
                // SAFETY: one after the other.
                let out = unsafe { out.part(0) };
                self.product::<F>(left.left(), right, out, width, stride, places.start > 0);
            }
        }
    }

    vectorised! {
        /// Adds the gradients for those of the queries of `sight`, `[queries, D]`.
        #[inline]
        pub(super) fn backward<F: Factor>(
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
            let gradient = Rows {
                values: gradient,
                stride: width,
            };
            let left = left_columns::<F>(&weights, count, keys, keys);
            multiply::<F>(
                left.left(),
                gradient.as_rows(count),
                of_value,
                width,
                width,
                How::added(),
            );
            let left = left_rows::<F>(gradient.values, count, width, width);
            let right = self.value.as_columns(width);
            // SAFETY: a product writes all its values.
            let mut scores = unsafe {
                written(count * keys, |scores| {
                    self.product::<F>(left.left(), right, scores.into(), keys, keys, false);
                })
            };
            for (score, weight) in scores
                .chunks_exact_mut(keys)
                .zip(weights.chunks_exact(keys))
            {
                let mean = products(score, weight, [0.0; 2]);
                for (score, weight) in score.iter_mut().zip(weight) {
                    *score = weight * (*score - mean);
                }
            }
            let left = left_rows::<F>(&scores, count, keys, keys);
            multiply::<F>(
                left.left(),
                self.key.as_rows(keys),
                of_query,
                width,
                width,
                How::added(),
            );
            let left = left_columns::<F>(&scores, count, keys, keys);
            let query = self.query.from(sight.queries.start);
            multiply::<F>(
                left.left(),
                query.as_rows(count),
                of_key,
                width,
                width,
                How::added(),
            );
        }
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
fn head_of<'a>(values: &Values<'a>, place: usize) -> Rows<'a> {
    let size = values.shape[2] * values.shape[3];
    Rows {
        values: &values.data[place * size..(place + 1) * size],
        stride: values.shape[3],
    }
}

impl<F: Factor> Attend<F> {
    vectorised! {
        fn run(
            &self,
            [query, key, value]: [Values<'_>; 3],
            own: Option<(usize, [Values<'_>; 2])>,
        ) -> Vec<f32> {
            let [heads, tokens, width] = [1, 2, 3].map(|axis: usize| query.shape[axis]);
            let channels = heads * width;
            let mut seen = 0;
            for sight in self.sights.iter() {
                assert_eq!(sight.queries.start, seen, "sights follow each other");
                seen = sight.queries.end;
            }
            assert_eq!(seen, tokens, "every query sees something");
            let one = |y: &Place<'_>, place: usize| {
                let parts = Head {
                    query: head_of(&query, place),
                    key: head_of(&key, place),
                    value: head_of(&value, place),
                    own: own
                        .as_ref()
                        .map(|(count, own)| (*count, own.each_ref().map(|own| head_of(own, place)))),
                    width,
                    is_alone: are_many(query.shape[0] * heads),
                };
                let start = place / heads * tokens * channels + place % heads * width;
                for sight in self.sights.iter() {
                    // SAFETY: heads lie side by side, and sights one after the other.
                    let y = unsafe { y.part(start + sight.queries.start * channels) };
                    parts.forward::<F>(sight, y, channels);
                }
            };
            let all = |y: &mut [MaybeUninit<f32>]| {
                let y = Place::from(y);
                let places = (0..query.shape[0] * heads).into_par_iter();
                places
                    .with_min_len(some_of(1))
                    .for_each(|place| one(&y, place));
            };
            // SAFETY: all heads of all queries are written, as was checked.
            unsafe { written(query.data.len(), all) }
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
                    own: None,
                    width,
                    is_alone: are_many(query.shape[0] * heads),
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

impl<F: Factor> Operation<3> for Attend<F> {
    fn shape(&self, [query, _, _]: [&[usize]; 3]) -> Vec<usize> {
        vec![query[0], query[2], query[1] * query[3]]
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.run(inputs, None) }
    }
}

impl<F: Factor> Differentiable for Attend<F> {
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

/// As [`Attend`], without a gradient, where keys and values beyond the first `count` lie in tensors of their own.
///
/// Inputs: as there, and those keys and values.
#[derive(Debug)]
pub(in crate::kernels) struct AttendSplit<F: Factor> {
    pub(in crate::kernels) attend: Attend<F>,
    pub(in crate::kernels) count: usize,
}

impl<F: Factor> Operation<5> for AttendSplit<F> {
    fn shape(&self, [query, key, value, ..]: [&[usize]; 5]) -> Vec<usize> {
        self.attend.shape([query, key, value])
    }

    fn forward(&self, [query, key, value, own_key, own_value]: [Values<'_>; 5]) -> Vec<f32> {
        let own = Some((self.count, [own_key, own_value]));
        // SAFETY: operations are made only where the set is there.
        unsafe { self.attend.run([query, key, value], own) }
    }
}
