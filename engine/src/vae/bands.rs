//! Feature maps cut into bands of rows, so that no tensor outgrows the device.
//!
//! A 1024×1024 map of 128 channels is 512 MB, more than many graphics devices
//! bind at once. Every operation of the tokenizer works on a list of bands and
//! is exact: convolutions borrow the neighbours' edge rows, normalisation sums
//! over all bands. A small map is one band and costs nothing extra.

use burn::tensor::{Tensor, activation, module, ops::ConvOptions};

use crate::kernels;

/// A map `[B, C, H, W]` as bands of rows, top to bottom.
#[derive(Clone, Debug)]
pub(super) struct Bands {
    bands: Vec<Tensor<4>>,
    max_elements: usize,
}

impl Bands {
    /// Wraps a whole map; no band will hold more than `max_elements` values if rows allow.
    pub(super) fn new(map: Tensor<4>, max_elements: usize) -> Self {
        Self {
            bands: vec![map],
            max_elements,
        }
        .cut()
    }

    /// The whole map again.
    pub(super) fn join(self) -> Tensor<4> {
        let mut bands = self.bands;
        match bands.len() {
            1 => bands.remove(0),
            _ => Tensor::cat(bands, 2),
        }
    }

    /// Cuts bands that are too large into even numbers of rows.
    fn cut(self) -> Self {
        let max_elements = self.max_elements;
        let mut bands = Vec::with_capacity(self.bands.len());
        for band in self.bands {
            let [batch, channels, rows, columns] = band.dims();
            let per_row = batch * channels * columns;
            let fit = (max_elements / per_row.max(1)).max(2) & !1;
            if rows <= fit {
                bands.push(band);
                continue;
            }
            let mut start = 0;
            while start < rows {
                let count = fit.min(rows - start);
                bands.push(band.clone().narrow(2, start, count));
                start += count;
            }
        }
        Self {
            bands,
            max_elements,
        }
    }

    /// Applies `f` to every band; `f` must treat all rows alike.
    pub(super) fn map(self, f: impl Fn(Tensor<4>) -> Tensor<4>) -> Self {
        Self {
            bands: self.bands.into_iter().map(f).collect(),
            max_elements: self.max_elements,
        }
        .cut()
    }

    /// The sum of two maps cut alike.
    pub(super) fn add(self, other: Self) -> Self {
        let sums = |(a, b): (Tensor<4>, Tensor<4>)| a + b;
        Self {
            bands: self.bands.into_iter().zip(other.bands).map(sums).collect(),
            max_elements: self.max_elements,
        }
    }

    /// 3×3 convolution with zero padding 1.
    pub(super) fn conv3(self, weight: &Tensor<4>, bias: &Tensor<1>) -> Self {
        let convolve = |x: Tensor<4>, pad_rows: usize| {
            let options = ConvOptions::new([1, 1], [pad_rows, 1], [1, 1], 1);
            module::conv2d(x, weight.clone(), Some(bias.clone()), options)
        };
        if self.bands.len() == 1 {
            return self.map(|band| {
                kernels::conv(&band, weight, bias, false).unwrap_or_else(|| convolve(band, 1))
            });
        }
        let bands = (0..self.bands.len())
            .map(|index| convolve(self.with_edges(index, true), 0))
            .collect();
        Self {
            bands,
            max_elements: self.max_elements,
        }
        .cut()
    }

    /// 3×3 convolution of stride 2 over the map padded by one row below and one column right.
    pub(super) fn conv3_down(self, weight: &Tensor<4>, bias: &Tensor<1>) -> Self {
        let even = self.even();
        let bands = (0..even.bands.len())
            .map(|index| {
                let band = even.with_edges(index, false);
                let [batch, channels, rows, _] = band.dims();
                let column = Tensor::zeros([batch, channels, rows, 1], &band.device());
                let padded = Tensor::cat(vec![band, column], 3);
                let options = ConvOptions::new([2, 2], [0, 0], [1, 1], 1);
                module::conv2d(padded, weight.clone(), Some(bias.clone()), options)
            })
            .collect();
        Self {
            bands,
            max_elements: even.max_elements,
        }
    }

    /// Bands that all start at an even row, so that every second row of the map is the first of a pair.
    ///
    /// A halved band may have an odd number of rows; its last one then moves to the next band.
    fn even(self) -> Self {
        let count = self.bands.len();
        let mut bands = Vec::with_capacity(count);
        let mut carried: Option<Tensor<4>> = None;
        for (index, band) in self.bands.into_iter().enumerate() {
            let band = match carried.take() {
                Some(row) => Tensor::cat(vec![row, band], 2),
                None => band,
            };
            let rows = band.dims()[2];
            if rows.is_multiple_of(2) || index + 1 == count {
                bands.push(band);
                continue;
            }
            carried = Some(band.clone().narrow(2, rows - 1, 1));
            if rows > 1 {
                bands.push(band.narrow(2, 0, rows - 1));
            }
        }
        Self {
            bands,
            max_elements: self.max_elements,
        }
    }

    /// 1×1 convolution.
    pub(super) fn conv1(self, weight: &Tensor<4>, bias: &Tensor<1>) -> Self {
        self.map(|band| {
            kernels::conv(&band, weight, bias, false).unwrap_or_else(|| {
                let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
                module::conv2d(band, weight.clone(), Some(bias.clone()), options)
            })
        })
    }

    /// Twice as large, every value repeated 2×2.
    pub(super) fn double(self) -> Self {
        self.map(|band| {
            let [batch, channels, rows, columns] = band.dims();
            band.reshape([batch, channels, rows, 1, columns, 1])
                .expand([batch, channels, rows, 2, columns, 2])
                .reshape([batch, channels, 2 * rows, 2 * columns])
        })
    }

    /// Twice as large, every value repeated 2×2, then [`Self::conv3`].
    pub(super) fn double_conv3(self, weight: &Tensor<4>, bias: &Tensor<1>) -> Self {
        if let [band] = self.bands.as_slice()
            && 4 * band.shape().num_elements() <= self.max_elements
            && let Some(band) = kernels::conv(band, weight, bias, true)
        {
            return Self::new(band, self.max_elements);
        }
        self.double().conv3(weight, bias)
    }

    /// Group normalisation over the whole map, scale and shift per channel, then `SiLU`.
    pub(super) fn group_norm_silu(
        self,
        groups: usize,
        weight: &Tensor<1>,
        bias: &Tensor<1>,
        epsilon: f32,
    ) -> Self {
        if let [band] = self.bands.as_slice()
            && let Some(band) = kernels::group_norm_silu(band, groups, weight, bias, epsilon)
        {
            return Self::new(band, self.max_elements);
        }
        let [batch, channels, _, columns] = self.bands[0].dims();
        let rows: usize = self.bands.iter().map(|band| band.dims()[2]).sum();
        let count = (channels / groups * rows * columns) as f32;
        let grouped = |band: Tensor<4>| {
            let rows = band.dims()[2];
            band.reshape([batch, groups, channels / groups * rows * columns])
        };
        let total =
            |sums: Vec<Tensor<3>>| sums.into_iter().reduce(|a, b| a + b).map(|sum| sum / count);
        let mean = total(
            self.bands
                .iter()
                .map(|b| grouped(b.clone()).sum_dim(2))
                .collect(),
        );
        let Some(mean) = mean else { return self };
        let centred: Vec<Tensor<3>> = self
            .bands
            .iter()
            .map(|band| grouped(band.clone()) - mean.clone())
            .collect();
        let variance = total(
            centred
                .iter()
                .map(|c| c.clone().square().sum_dim(2))
                .collect(),
        );
        let Some(variance) = variance else {
            return self;
        };
        let inverse = (variance + epsilon).sqrt().recip(); // [B, G, 1]
        let weight = weight.clone().reshape([1, channels, 1, 1]);
        let bias = bias.clone().reshape([1, channels, 1, 1]);
        let bands = centred
            .into_iter()
            .zip(&self.bands)
            .map(|(centred, band)| {
                let shape = band.dims();
                let normal = (centred * inverse.clone()).reshape(shape);
                activation::silu(normal * weight.clone() + bias.clone())
            })
            .collect();
        Self {
            bands,
            max_elements: self.max_elements,
        }
    }

    /// Band `index` with the next row below, and above when asked; zeros at the picture's edge.
    fn with_edges(&self, index: usize, above: bool) -> Tensor<4> {
        let band = self.bands[index].clone();
        let [batch, channels, _, columns] = band.dims();
        let zeros = || Tensor::zeros([batch, channels, 1, columns], &band.device());
        let mut parts = Vec::with_capacity(3);
        if above {
            parts.push(match index.checked_sub(1).and_then(|i| self.bands.get(i)) {
                Some(upper) => upper.clone().narrow(2, upper.dims()[2] - 1, 1),
                None => zeros(),
            });
        }
        parts.push(band.clone());
        parts.push(match self.bands.get(index + 1) {
            Some(lower) => lower.clone().narrow(2, 0, 1),
            None => zeros(),
        });
        Tensor::cat(parts, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;
    use burn::tensor::{Device, TensorData};

    fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
        let stream = Stream::new(seed, 0);
        let values: Vec<f32> = (0..shape.iter().product::<usize>() as u64)
            .map(|i| stream.normal(i) as f32)
            .collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    /// Bands of 6 rows halve to 3, and of 2 rows to 1: pairs of rows then lie across two bands.
    #[test]
    fn halving_twice_does_not_depend_on_the_bands() {
        let (map, weight, bias) = (
            random([2, 3, 32, 8], 1),
            random([3, 3, 3, 3], 2),
            random([3], 3),
        );
        let halved = |max_elements: usize| -> Vec<f32> {
            let once = Bands::new(map.clone(), max_elements).conv3_down(&weight, &bias);
            let twice = once
                .conv3(&weight, &bias)
                .conv3_down(&weight, &bias)
                .conv3_down(&weight, &bias);
            let joined = twice.join();
            assert_eq!(joined.dims(), [2, 3, 4, 1]);
            joined.try_into_vec_as().unwrap()
        };
        let whole = halved(usize::MAX);
        let row = 2 * 3 * 8;
        for rows in [2, 4, 6, 8, 10, 14, 30] {
            let banded = halved(rows * row);
            let apart = whole
                .iter()
                .zip(&banded)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            // Values are up to about 500; another order of summation rounds differently.
            assert!(apart < 1e-3, "{rows} rows: {apart}");
        }
    }
}
