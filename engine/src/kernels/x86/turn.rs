//! Queries, keys and values of self attention from their projections.

use std::mem::MaybeUninit;
use std::sync::Arc;

use rayon::prelude::*;

use super::attention::{gather, scatter};
use super::bridge::{Differentiable, Operation, Values, Writing};
use super::pack::some_of;
use super::place::written;
use super::reduce::products;

/// Splits heads, brings queries and keys to a length, and turns them by their place.
///
/// Inputs: queries, keys and values side by side `[B, L, 3C]`; the logarithm of the queries' length,
/// one per head; keys have length 1, values stay. Result `[3, B, N, L, D]`.
#[derive(Debug)]
pub(in crate::kernels) struct Turn {
    pub(in crate::kernels) heads: usize,
    /// Cosine and sine of every pair of every token, `[L, D/2]`.
    pub(in crate::kernels) turns: Arc<[Vec<f32>; 2]>,
}

/// A head's queries as they are made, and the places of its keys and of its values.
type HeadRows<'a> = ((&'a mut [MaybeUninit<f32>], &'a mut [f32]), &'a mut [f32]);

/// Values that are about to be written.
fn unwritten(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    let pointer = std::ptr::from_mut(values) as *mut [MaybeUninit<f32>];
    // SAFETY: values that are there are so all the more; only whole ones are written through this.
    unsafe { &mut *pointer }
}

/// Largest logarithm of the length of queries.
const MOST_LENGTH: f32 = 4.605_170_2;
/// Shortest row that is brought to a length.
const LEAST_NORM: f32 = 1e-12;

impl Turn {
    /// What the rows of `part` (0 queries, 1 keys) of a head are brought to.
    fn length(part: usize, head: usize, lengths: &[f32]) -> f32 {
        if part == 0 {
            lengths[head].min(MOST_LENGTH).exp()
        } else {
            1.0
        }
    }

    /// Cosines and sines of `token`.
    #[inline(always)]
    fn angles(&self, token: usize, half: usize) -> (&[f32], &[f32]) {
        let turns = token * half..(token + 1) * half;
        (&self.turns[0][turns.clone()], &self.turns[1][turns])
    }

    vectorised! {
        /// Brings the row of `token` to `length` and turns it.
        #[inline]
        fn turn(&self, token: usize, row: &[f32], turned: &mut [MaybeUninit<f32>], length: f32) {
            let width = row.len();
            let norm = products(row, row, [0.0; 2]).sqrt();
            let factor = length / norm.max(LEAST_NORM);
            let (cos, sin) = self.angles(token, width / 2);
            let pairs = row.chunks_exact(2).zip(turned.chunks_exact_mut(2));
            for (((pair, turned), cos), sin) in pairs.zip(cos).zip(sin) {
                let (a, b) = (factor * pair[0], factor * pair[1]);
                turned[0].write(cos * a - sin * b);
                turned[1].write(sin * a + cos * b);
            }
        }
    }

    vectorised! {
        /// Gradients of turned rows become those of the rows, in place; gives the gradient of `ln length`.
        #[inline]
        fn turn_back(&self, gradients: &mut [f32], rows: &[f32], width: usize, length: f32) -> f32 {
            let mut of_length = 0.0;
            let pairs = gradients
                .chunks_exact_mut(width)
                .zip(rows.chunks_exact(width));
            for (token, (gradient, row)) in pairs.enumerate() {
                let (cos, sin) = self.angles(token, width / 2);
                for ((pair, cos), sin) in gradient.chunks_exact_mut(2).zip(cos).zip(sin) {
                    let (a, b) = (pair[0], pair[1]);
                    pair[0] = cos * a + sin * b;
                    pair[1] = cos * b - sin * a;
                }
                let norm = products(row, row, [0.0; 2]).sqrt().max(LEAST_NORM);
                // Along the row only the length changes, which is fixed.
                let along = products(gradient, row, [0.0; 2]) / norm;
                of_length += along * length;
                for (gradient, row) in gradient.iter_mut().zip(row) {
                    *gradient = length / norm * (*gradient - along * row / norm);
                }
            }
            of_length
        }
    }

    vectorised! {
        fn run(&self, [qkv, lengths, _]: [Values<'_>; 3]) -> Vec<f32> {
            let (batch, tokens, wide) = (qkv.shape[0], qkv.shape[1], qkv.shape[2]);
            let (channels, heads) = (wide / 3, self.heads);
            let width = channels / heads;
            assert!(
                width.is_multiple_of(2) && heads * width == channels,
                "heads of pairs, side by side"
            );
            let one = |(place, y): (usize, &mut [MaybeUninit<f32>])| {
                let (part, row, head) = (
                    place / (batch * heads),
                    place / heads % batch,
                    place % heads,
                );
                let length = Self::length(part, head, lengths.data);
                let start = part * channels + head * width;
                for (token, y) in y.chunks_exact_mut(width).enumerate() {
                    let from = (row * tokens + token) * wide + start;
                    let from = &qkv.data[from..from + width];
                    if part < 2 {
                        self.turn(token, from, y, length);
                    } else {
                        y.write_copy_of_slice(from);
                    }
                }
            };
            let all = |y: &mut [MaybeUninit<f32>]| {
                y.par_chunks_exact_mut(tokens * width)
                    .enumerate()
                    .with_min_len(some_of(8))
                    .for_each(one);
            };
            // SAFETY: heads of all tokens are all there is; a token without turns would have stopped it.
            unsafe { written(3 * batch * tokens * channels, all) }
        }
    }

    vectorised! {
        /// As `run`, keys and values written into `keys` and `values` `[B, N, S, D]` from place `first` on: the queries.
        fn run_into(
            &self,
            [qkv, lengths]: [Values<'_>; 2],
            [keys, values]: [&mut [f32]; 2],
            places: usize,
            first: usize,
        ) -> Vec<f32> {
            let (batch, tokens, wide) = (qkv.shape[0], qkv.shape[1], qkv.shape[2]);
            let (channels, heads) = (wide / 3, self.heads);
            let width = channels / heads;
            assert!(
                width.is_multiple_of(2) && heads * width == channels && first + tokens <= places,
                "heads of pairs, side by side, and room for them"
            );
            let room = batch * heads * places * width;
            assert_eq!([keys.len(), values.len()], [room; 2], "room for every head");
            let one = |(place, ((y, keys), values)): (usize, HeadRows<'_>)| {
                let (row, head) = (place / heads, place % heads);
                let length = Self::length(0, head, lengths.data);
                let own = first * width..(first + tokens) * width;
                let rows = y
                    .chunks_exact_mut(width)
                    .zip(keys[own.clone()].chunks_exact_mut(width))
                    .zip(values[own].chunks_exact_mut(width));
                for (token, ((y, key), value)) in rows.enumerate() {
                    let start = (row * tokens + token) * wide + head * width;
                    let part = |index: usize| &qkv.data[start + index * channels..][..width];
                    self.turn(token, part(0), y, length);
                    self.turn(token, part(1), unwritten(key), 1.0);
                    value.copy_from_slice(part(2));
                }
            };
            let all = |y: &mut [MaybeUninit<f32>]| {
                y.par_chunks_exact_mut(tokens * width)
                    .zip(keys.par_chunks_exact_mut(places * width))
                    .zip(values.par_chunks_exact_mut(places * width))
                    .enumerate()
                    .with_min_len(some_of(8))
                    .for_each(one);
            };
            // SAFETY: heads of all tokens are all there is; a token without turns would have stopped it.
            unsafe { written(batch * tokens * channels, all) }
        }
    }

    vectorised! {
        fn back(&self, gradient: &[f32], [qkv, lengths, _]: [Values<'_>; 3]) -> [Vec<f32>; 3] {
            let (batch, tokens, wide) = (qkv.shape[0], qkv.shape[1], qkv.shape[2]);
            let (channels, heads) = (wide / 3, self.heads);
            let width = channels / heads;
            let mut of_qkv = vec![0.0; qkv.data.len()];
            let mut of_lengths = vec![0.0; lengths.data.len()];
            for (place, gradient) in gradient.chunks_exact(tokens * width).enumerate() {
                let (part, row, head) = (
                    place / (batch * heads),
                    place / heads % batch,
                    place % heads,
                );
                let all = row * tokens * wide..(row + 1) * tokens * wide;
                let start = part * channels + head * width;
                let mut gradient = gradient.to_vec();
                if part < 2 {
                    let rows = gather(&qkv.data[all.clone()], wide, start, width);
                    let length = Self::length(part, head, lengths.data);
                    let of_length = self.turn_back(&mut gradient, &rows, width, length);
                    if part == 0 && lengths.data[head] < MOST_LENGTH {
                        of_lengths[head] += of_length;
                    }
                }
                scatter(&mut of_qkv[all], wide, start, width, &gradient);
            }
            [of_qkv, of_lengths, Vec::new()]
        }
    }
}

impl Operation<3> for Turn {
    fn shape(&self, [qkv, _, _]: [&[usize]; 3]) -> Vec<usize> {
        let width = qkv[2] / 3 / self.heads;
        vec![3, qkv[0], self.heads, qkv[1], width]
    }

    fn forward(&self, inputs: [Values<'_>; 3]) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.run(inputs) }
    }
}

impl Differentiable for Turn {
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

impl Writing for (Turn, usize) {
    fn shape(&self, [qkv, _]: [&[usize]; 2]) -> Vec<usize> {
        let heads = self.0.heads;
        vec![qkv[0], heads, qkv[1], qkv[2] / 3 / heads]
    }

    fn write(
        &self,
        inputs: [Values<'_>; 2],
        rooms: [&mut [f32]; 2],
        room_shape: &[usize],
    ) -> Vec<f32> {
        // SAFETY: operations are made only where the set is there.
        unsafe { self.0.run_into(inputs, rooms, room_shape[2], self.1) }
    }
}
