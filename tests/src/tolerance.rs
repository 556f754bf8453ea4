//! Comparing what the engine gives with what was recorded, and saying where they part.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

/// Values of a tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Numbers that may differ by rounding.
    Float(Vec<f32>),
    /// Bits, ids and bytes: equal or wrong.
    Whole(Vec<i64>),
}

/// A tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Number of values along each axis.
    pub shape: Vec<usize>,
    /// The values, row by row.
    pub values: Values,
}

/// Tensors by name.
pub type Arrays = BTreeMap<String, Array>;

impl Array {
    /// A tensor of numbers.
    pub fn float(shape: &[usize], values: Vec<f32>) -> Self {
        Self { shape: shape.to_vec(), values: Values::Float(values) }
    }

    /// A tensor of bits, ids or bytes.
    pub fn whole<T: Into<i64>>(shape: &[usize], values: impl IntoIterator<Item = T>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        Self { shape: shape.to_vec(), values: Values::Whole(values) }
    }

    /// The numbers; whole values as they are.
    pub fn floats(&self) -> Vec<f32> {
        match &self.values {
            Values::Float(values) => values.clone(),
            Values::Whole(values) => values.iter().map(|&value| value as f32).collect(),
        }
    }

    /// The whole values; numbers are cut to them.
    pub fn wholes(&self) -> Vec<i64> {
        match &self.values {
            Values::Float(values) => values.iter().map(|&value| value as i64).collect(),
            Values::Whole(values) => values.clone(),
        }
    }
}

/// Reads all tensors of a `.safetensors` file.
///
/// # Errors
/// A sentence naming the file or the tensor.
pub fn read_arrays(path: &Path) -> Result<Arrays, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut arrays = Arrays::new();
    for (name, view) in file.iter() {
        let data = view.data();
        let array = match view.dtype() {
            Dtype::F32 => Array::float(view.shape(), parts(data, f32::from_le_bytes)),
            Dtype::F16 => Array::float(view.shape(), parts(data, |b| half::f16::from_le_bytes(b).to_f32())),
            Dtype::I32 => Array::whole(view.shape(), parts(data, i32::from_le_bytes)),
            Dtype::I64 => Array::whole(view.shape(), parts(data, i64::from_le_bytes)),
            Dtype::U8 => Array::whole(view.shape(), data.iter().copied()),
            other => return Err(format!("{}: {name} holds {other:?}", path.display())),
        };
        arrays.insert(name.to_owned(), array);
    }
    Ok(arrays)
}

fn parts<const N: usize, T>(data: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = data.as_chunks::<N>();
    chunks.iter().map(|chunk| value(*chunk)).collect()
}

/// Compares `got` with `expected`; whole values must be equal, numbers at most `tolerance` apart.
///
/// Gives the largest difference.
///
/// # Errors
/// Names the tensor, the largest difference, where it is and the two values.
pub fn compare(name: &str, got: &Array, expected: &Array, tolerance: f32) -> Result<f64, String> {
    if got.shape != expected.shape {
        return Err(format!("{name}: got shape {:?}, expected {:?}", got.shape, expected.shape));
    }
    let count: usize = expected.shape.iter().product();
    let (differences, tolerance) = match (&got.values, &expected.values) {
        (Values::Float(got), Values::Float(expected)) => {
            let pairs = got.iter().zip(expected);
            (pairs.map(|(a, b)| distance(*a, *b)).collect::<Vec<f64>>(), f64::from(tolerance))
        }
        (Values::Whole(got), Values::Whole(expected)) => {
            let pairs = got.iter().zip(expected);
            (pairs.map(|(a, b)| a.abs_diff(*b) as f64).collect(), 0.0)
        }
        _ => return Err(format!("{name}: one side is whole, the other is not")),
    };
    if differences.len() != count || value_count(got) != count {
        return Err(format!("{name}: {} values for shape {:?}", value_count(got), got.shape));
    }
    let mut worst = 0;
    for (index, difference) in differences.iter().enumerate() {
        if *difference > differences[worst] {
            worst = index;
        }
    }
    let error = differences.get(worst).copied().unwrap_or(0.0);
    if error <= tolerance {
        return Ok(error);
    }
    let wrong = differences.iter().filter(|difference| **difference > tolerance).count();
    let value = |array: &Array| match &array.values {
        Values::Float(values) => values[worst].to_string(),
        Values::Whole(values) => values[worst].to_string(),
    };
    Err(format!(
        "{name}: max abs error {error:e} (allowed {tolerance:e}) at {:?} of {:?}: got {}, expected {}; {wrong} of {count} values are off",
        place(worst, &expected.shape),
        expected.shape,
        value(got),
        value(expected),
    ))
}

fn value_count(array: &Array) -> usize {
    match &array.values {
        Values::Float(values) => values.len(),
        Values::Whole(values) => values.len(),
    }
}

/// Distance of two numbers; endless when only one of them is a number.
fn distance(a: f32, b: f32) -> f64 {
    let difference = (f64::from(a) - f64::from(b)).abs();
    if a == b {
        0.0
    } else if difference.is_nan() {
        f64::INFINITY
    } else {
        difference
    }
}

/// The indices of value number `index` of a tensor of `shape`.
fn place(index: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = index;
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&size| {
            let own = rest % size;
            rest /= size;
            own
        })
        .collect();
    place.reverse();
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_value_is_named() {
        let expected = Array::float(&[2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let mut got = expected.clone();
        assert_eq!(compare("a", &got, &expected, 0.0), Ok(0.0));
        got.values = Values::Float(vec![0.0, 1.1, 2.0, 3.0, 4.5, 5.0]);
        assert!(compare("a", &got, &expected, 1.0).is_ok());
        let message = compare("a", &got, &expected, 0.01).unwrap_err();
        assert!(message.contains("[1, 1] of [2, 3]: got 4.5, expected 4; 2 of 6"), "{message}");
    }

    #[test]
    fn broken_numbers_and_shapes_never_pass() {
        let expected = Array::float(&[1], vec![1.0]);
        assert!(compare("a", &Array::float(&[1], vec![f32::NAN]), &expected, 9.0).is_err());
        assert!(compare("a", &Array::float(&[1, 1], vec![1.0]), &expected, 9.0).is_err());
        assert!(compare("a", &Array::float(&[1], vec![]), &expected, 9.0).is_err());
        let bits = Array::whole(&[2], [0_u8, 1]);
        assert!(compare("a", &Array::whole(&[2], [0_u8, 0]), &bits, 9.0).is_err());
    }
}
