//! Fréchet distance between two clouds of features: what FID measures, over features that are at hand.
//!
//! Heusel et al., arXiv 1706.08500, eq. (6): `|m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½)`.

/// A square matrix, row by row.
type Matrix = Vec<Vec<f64>>;

/// Mean and covariance of features.
#[derive(Clone, Debug)]
pub(super) struct Cloud {
    mean: Vec<f64>,
    covariance: Matrix,
}

impl Cloud {
    /// The cloud of `points`, all of one length.
    pub(super) fn of(points: impl Iterator<Item = Vec<f64>>) -> Self {
        let points: Vec<Vec<f64>> = points.collect();
        let d = points.first().map_or(0, Vec::len);
        let count = points.len().max(1) as f64;
        let mean_of = |value: &dyn Fn(&Vec<f64>) -> f64| -> f64 {
            points.iter().map(value).sum::<f64>() / count
        };
        let mean: Vec<f64> = (0..d).map(|i| mean_of(&|point| point[i])).collect();
        let entry = |i: usize, j: usize| mean_of(&|p| (p[i] - mean[i]) * (p[j] - mean[j]));
        let covariance = (0..d)
            .map(|i| (0..d).map(|j| entry(i, j)).collect())
            .collect();
        Self { mean, covariance }
    }

    /// The distance to `other`, squared as FID is.
    pub(super) fn distance(&self, other: &Self) -> f64 {
        let pairs = self.mean.iter().zip(&other.mean);
        let away: f64 = pairs.map(|(a, b)| (a - b).powi(2)).sum();
        let own = root(&self.covariance);
        let both = product(&product(&own, &other.covariance), &own);
        away + trace(&self.covariance) + trace(&other.covariance) - 2.0 * trace(&root(&both))
    }
}

fn trace(matrix: &Matrix) -> f64 {
    matrix.iter().enumerate().map(|(i, row)| row[i]).sum()
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let entry = |row: &Vec<f64>, j: usize| row.iter().zip(b).map(|(x, other)| x * other[j]).sum();
    a.iter()
        .map(|row| (0..b.len()).map(|j| entry(row, j)).collect())
        .collect()
}

/// The square root of a symmetric matrix without negative eigenvalues, but for rounding: Jacobi's rotations make it
/// diagonal, roots are taken there.
fn root(matrix: &Matrix) -> Matrix {
    const SWEEPS: usize = 30;
    let d = matrix.len();
    let mut a = matrix.clone();
    let mut vectors: Matrix = (0..d)
        .map(|i| (0..d).map(|j| f64::from(u8::from(i == j))).collect())
        .collect();
    for _ in 0..SWEEPS {
        for p in 0..d {
            for q in p + 1..d {
                if a[p][q] == 0.0 {
                    continue;
                }
                let angle = 0.5 * (2.0 * a[p][q]).atan2(a[q][q] - a[p][p]);
                let (sin, cos) = angle.sin_cos();
                let turn = |x: &mut f64, y: &mut f64| {
                    (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
                };
                for row in a.iter_mut().chain(&mut vectors) {
                    let (left, right) = row.split_at_mut(q);
                    turn(&mut left[p], &mut right[0]);
                }
                let (above, below) = a.split_at_mut(q);
                let pairs = above[p].iter_mut().zip(&mut below[0]);
                pairs.for_each(|(x, y)| turn(x, y));
            }
        }
    }
    let roots: Vec<f64> = (0..d).map(|i| a[i][i].max(0.0).sqrt()).collect();
    let entry = |i: usize, j: usize| -> f64 {
        let values = vectors[i].iter().zip(&vectors[j]).zip(&roots);
        values.map(|((x, y), root)| x * y * root).sum()
    };
    (0..d)
        .map(|i| (0..d).map(|j| entry(i, j)).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Cloud, product, root, trace};
    use crate::random::Stream;

    fn cloud(shift: f64, width: f64) -> Cloud {
        let stream = Stream::new(1, 2);
        Cloud::of((0..400).map(|i| {
            let first = stream.normal(3 * i);
            (0..3)
                .map(|k| shift + width * (k as f64 * stream.normal(3 * i + k) + first))
                .collect()
        }))
    }

    #[test]
    fn roots_square_to_what_they_are_of() {
        let matrix = cloud(0.0, 1.0).covariance;
        let root = root(&matrix);
        for (row, again) in matrix.iter().zip(product(&root, &root)) {
            let mut pairs = row.iter().zip(again);
            assert!(pairs.all(|(a, b)| (a - b).abs() < 1e-9));
        }
    }

    #[test]
    fn equal_clouds_are_no_distance_apart_and_shifted_ones_their_shift() {
        let own = cloud(0.0, 1.0);
        assert!(own.distance(&own).abs() < 1e-9);
        assert!((own.distance(&cloud(2.0, 1.0)) - 12.0).abs() < 1e-9);
    }

    #[test]
    fn wider_clouds_differ_by_their_roots() {
        // Mean m against 2 m, covariance C against 4 C: |m|² + tr(C + 4 C - 2·2 C) = |m|² + tr(C).
        let own = cloud(0.0, 1.0);
        let wide = own.distance(&cloud(0.0, 2.0));
        let square: f64 = own.mean.iter().map(|value| value * value).sum();
        let expected = square + trace(&own.covariance);
        assert!((wide - expected).abs() < 1e-9, "{wide}");
    }
}
