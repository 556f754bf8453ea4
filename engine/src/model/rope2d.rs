//! Rotary positions on a grid.
//!
//! The first half of a head turns with the row, the second with the column, in
//! adjacent pairs. Positions of every scale are stretched to the last grid of
//! the ratio's full schedule (`rope2d_normalized_by_hw = 2`, spec section 2.4).
//! Source: Su et al., arXiv 2104.09864, in two dimensions.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor, TensorData};

use crate::schedule::{Scale, ScaleSchedule};

/// Cosines and sines of the tokens of one or more scales.
#[derive(Clone, Debug)]
pub struct Rope {
    device: Device,
    /// Cosines, sines and what swaps the values of a pair, for tensor operations, once they were asked for.
    tables: OnceLock<[Tensor<4>; 3]>,
    /// Cosines and sines of every pair of every token, `[L, D/2]`.
    turns: Arc<[Vec<f32>; 2]>,
    /// The same on the device, side by side, `[L, D/2, 2]`.
    device_turns: Tensor<3>,
}

/// Place of row or column `index` of `count` on an axis of `base` places, rounded half to even.
pub fn stretched(index: usize, count: usize, base: usize) -> usize {
    (index as f32 * (base as f32 / count as f32)).round_ties_even() as usize
}

/// Angles of the tokens of `scale`, `[h*w, head_width/2]`.
pub fn angles(scale: Scale, base: Scale, head_width: usize) -> Vec<f32> {
    let quarter = head_width / 4;
    let frequency = |i: usize| 1.0 / 10_000.0_f32.powf((2 * i) as f32 / (head_width / 2) as f32);
    let frequencies: Vec<f32> = (0..quarter).map(frequency).collect();
    let mut angles = Vec::with_capacity(scale.tokens() * 2 * quarter);
    for y in 0..scale.h {
        for x in 0..scale.w {
            let row = stretched(y, scale.h, base.h) as f32;
            let column = stretched(x, scale.w, base.w) as f32;
            angles.extend(frequencies.iter().map(|f| row * f));
            angles.extend(frequencies.iter().map(|f| column * f));
        }
    }
    angles
}

impl Rope {
    /// Tables for `scales` of `schedule`, one after the other.
    pub fn new(
        schedule: &ScaleSchedule,
        scales: std::ops::Range<usize>,
        head_width: usize,
        device: &Device,
    ) -> Self {
        let angles: Vec<f32> = schedule.scales[scales]
            .iter()
            .flat_map(|&scale| angles(scale, schedule.rope_base, head_width))
            .collect();
        let turns: [Vec<f32>; 2] =
            [f32::cos, f32::sin].map(|f| angles.iter().map(|&a| f(a)).collect());
        let [cos, sin] = &turns;
        let tokens = 2 * angles.len() / head_width;
        let side_by_side: Vec<f32> = cos.iter().zip(sin).flat_map(|(&c, &s)| [c, s]).collect();
        Self {
            device: device.clone(),
            tables: OnceLock::new(),
            device_turns: Tensor::from_data(
                TensorData::new(side_by_side, [tokens, head_width / 2, 2]),
                device,
            ),
            turns: Arc::new(turns),
        }
    }

    /// Cosines and sines of every value, `[1, 1, L, D]`, and the matrix that swaps the values of a pair, `[1, 1, D, D]`.
    fn tables(&self) -> [Tensor<4>; 3] {
        let [tokens, half, _] = self.device_turns.dims();
        let head_width = 2 * half;
        let table = |of: &[f32]| {
            let values: Vec<f32> = of.iter().flat_map(|&value| [value; 2]).collect();
            let data = TensorData::new(values, [1, 1, tokens, head_width]);
            Tensor::from_data(data, &self.device)
        };
        // (x · swap)[2j] = -x[2j+1] and (x · swap)[2j+1] = x[2j], exact in any precision.
        let mut swap = vec![0.0_f32; head_width * head_width];
        for pair in 0..head_width / 2 {
            swap[(2 * pair + 1) * head_width + 2 * pair] = -1.0;
            swap[2 * pair * head_width + 2 * pair + 1] = 1.0;
        }
        let swap = TensorData::new(swap, [1, 1, head_width, head_width]);
        let [cos, sin] = &*self.turns;
        [
            table(cos),
            table(sin),
            Tensor::from_data(swap, &self.device),
        ]
    }

    /// Cosines and sines of every pair of every token, `[L, D/2]`.
    pub(crate) fn turns(&self) -> &Arc<[Vec<f32>; 2]> {
        &self.turns
    }

    /// The same on the device, side by side, `[L, D/2, 2]`.
    pub(crate) fn device_turns(&self) -> &Tensor<3> {
        &self.device_turns
    }

    /// The tables of tokens `start..start + count`.
    pub fn narrow(&self, start: usize, count: usize) -> Self {
        let half = self.device_turns.dims()[1];
        let own = start * half..(start + count) * half;
        Self {
            device: self.device.clone(),
            tables: OnceLock::new(),
            device_turns: self.device_turns.clone().narrow(0, start, count),
            turns: Arc::new(
                self.turns
                    .each_ref()
                    .map(|table| table[own.clone()].to_vec()),
            ),
        }
    }

    /// Turns queries or keys `[B, N, L, D]`.
    pub fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let [cos, sin, swap] = self.tables.get_or_init(|| self.tables());
        let [batch, heads, length, width] = x.dims();
        let swapped = x
            .clone()
            .reshape([1, 1, batch * heads * length, width])
            .matmul(swap.clone())
            .reshape([batch, heads, length, width]);
        x * cos.clone() + swapped * sin.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_rounds_to_even() {
        // 6 rows on 78: 0, 13, 26 …; 4 of 6 would be 1.5 -> 2, and 0.5 -> 0.
        assert_eq!(stretched(1, 4, 2), 0);
        assert_eq!(stretched(3, 4, 2), 2);
        assert_eq!(stretched(5, 6, 78), 65);
    }

    #[test]
    fn first_token_is_not_turned() {
        let device = Device::flex();
        let schedule = ScaleSchedule::nearest(1.0, 2).unwrap();
        let x = Tensor::<4>::ones([1, 1, 5, 8], &device);
        let y: Vec<f32> = Rope::new(&schedule, 0..2, 8, &device)
            .turn(x)
            .try_into_vec_as()
            .unwrap();
        assert!(y[..8].iter().all(|&v| (v - 1.0).abs() < 1e-6));
        // Turning keeps lengths.
        let lengths = y.chunks(2).map(|pair| pair[0].hypot(pair[1]));
        assert!(
            lengths
                .into_iter()
                .all(|l| (l - 2.0_f32.sqrt()).abs() < 1e-5)
        );
    }
}
