//! The two ways this model resizes maps, as weights of a sum.
//!
//! Both are separable and linear, so each axis is a small matrix `[out, in]`;
//! the host walks its non-zero entries and the trainer multiplies by it.
//! Bilinear is half-pixel without anti-aliasing, area is adaptive average
//! pooling (both as PyTorch's `interpolate`; the spec of Infinity, section 4).

/// How to resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Linear between the two nearest centres.
    Bilinear,
    /// Mean over the window that a place covers.
    Area,
}

/// One output place: the first input it reads and the weights from there on.
#[derive(Clone, Debug, PartialEq)]
struct Tap {
    first: usize,
    weights: Vec<f32>,
}

/// One axis of a resize.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    input: usize,
    taps: Vec<Tap>,
}

impl Axis {
    /// From `input` to `output` places. Both must be at least 1.
    pub fn new(filter: Filter, input: usize, output: usize) -> Self {
        let taps = (0..output)
            .map(|place| match filter {
                Filter::Bilinear => {
                    let scale = input as f32 / output as f32;
                    let source = ((place as f32 + 0.5) * scale - 0.5).max(0.0);
                    let first = (source as usize).min(input - 1);
                    let lambda = source - first as f32;
                    if first + 1 < input {
                        Tap {
                            first,
                            weights: vec![1.0 - lambda, lambda],
                        }
                    } else {
                        Tap {
                            first,
                            weights: vec![1.0],
                        }
                    }
                }
                Filter::Area => {
                    let first = place * input / output;
                    let end = ((place + 1) * input).div_ceil(output);
                    let count = end - first;
                    Tap {
                        first,
                        weights: vec![1.0 / count as f32; count],
                    }
                }
            })
            .collect();
        Self { input, taps }
    }

    /// The matrix `[output, input]`, row by row.
    pub fn matrix(&self) -> Vec<f32> {
        let mut matrix = vec![0.0; self.taps.len() * self.input];
        for (tap, row) in self.taps.iter().zip(matrix.chunks_exact_mut(self.input)) {
            for (place, weight) in row.iter_mut().skip(tap.first).zip(&tap.weights) {
                *place += weight;
            }
        }
        matrix
    }
}

/// A resize of maps `[channels, h, w]` on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    rows: Axis,
    columns: Axis,
}

impl Resize {
    /// From grid `from` to grid `to`, each `(h, w)`.
    pub fn new(filter: Filter, from: (usize, usize), to: (usize, usize)) -> Self {
        Self {
            rows: Axis::new(filter, from.0, to.0),
            columns: Axis::new(filter, from.1, to.1),
        }
    }

    /// Resizes every channel of `map`, `[channels, h, w]` row by row.
    pub fn apply(&self, map: &[f32]) -> Vec<f32> {
        let (h_in, w_in) = (self.rows.input, self.columns.input);
        let (h_out, w_out) = (self.rows.taps.len(), self.columns.taps.len());
        if (h_in, w_in) == (h_out, w_out) {
            return map.to_vec();
        }
        let mut result = vec![0.0; map.len() / (h_in * w_in) * h_out * w_out];
        // First along every row, then across.
        let mut lines = vec![0.0; h_in * w_out];
        let channels = map.chunks_exact(h_in * w_in);
        for (channel, resized) in channels.zip(result.chunks_exact_mut(h_out * w_out)) {
            for (row, line) in channel
                .chunks_exact(w_in)
                .zip(lines.chunks_exact_mut(w_out))
            {
                for (column, value) in self.columns.taps.iter().zip(line) {
                    let read = row[column.first..].iter().zip(&column.weights);
                    *value = read.map(|(value, weight)| value * weight).sum();
                }
            }
            for (row, resized) in self.rows.taps.iter().zip(resized.chunks_exact_mut(w_out)) {
                let read = lines.chunks_exact(w_out).skip(row.first);
                for (line, weight) in read.zip(&row.weights) {
                    for (sum, value) in resized.iter_mut().zip(line) {
                        *sum += weight * value;
                    }
                }
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_matrix_sum_to_one() {
        for filter in [Filter::Bilinear, Filter::Area] {
            for (input, output) in [(1, 1), (1, 7), (8, 3), (21, 13), (5, 64), (64, 5)] {
                let matrix = Axis::new(filter, input, output).matrix();
                for row in matrix.chunks_exact(input) {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                }
            }
        }
    }

    /// What is read of a row serves every place above and below.
    #[test]
    fn both_axes_are_a_product_with_both_matrices() {
        for filter in [Filter::Bilinear, Filter::Area] {
            for (from, to) in [
                ((1, 1), (3, 5)),
                ((4, 6), (7, 5)),
                ((7, 5), (4, 6)),
                ((3, 8), (8, 3)),
            ] {
                let (rows, columns) = (
                    Axis::new(filter, from.0, to.0).matrix(),
                    Axis::new(filter, from.1, to.1).matrix(),
                );
                let map: Vec<f32> = (0..2 * from.0 * from.1)
                    .map(|i| (i * i % 31) as f32)
                    .collect();
                let got = Resize::new(filter, from, to).apply(&map);
                assert_eq!(got.len(), 2 * to.0 * to.1);
                for (index, value) in got.iter().enumerate() {
                    let (channel, y, x) =
                        (index / (to.0 * to.1), index / to.1 % to.0, index % to.1);
                    let mut want = 0.0;
                    for v in 0..from.0 {
                        for u in 0..from.1 {
                            let read = map[(channel * from.0 + v) * from.1 + u];
                            want += rows[y * from.0 + v] * columns[x * from.1 + u] * read;
                        }
                    }
                    assert!(
                        (value - want).abs() < 1e-4,
                        "{from:?} to {to:?}: {value} for {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn same_size_is_the_identity() {
        let map: Vec<f32> = (0..12).map(|i| i as f32).collect();
        assert_eq!(Resize::new(Filter::Area, (3, 4), (3, 4)).apply(&map), map);
    }
}
