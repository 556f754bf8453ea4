//! One value from many: sums, the same to the bit in either width, and the largest.

use super::lanes::{
    LANES, Vector, load, load_first_or, maximum, multiply_add, splat, store_first, zero,
};

/// Values that are taken at once, in several vectors, so that none waits for the one before.
const AT_ONCE: usize = 32;
const VECTORS: usize = AT_ONCE / LANES;
/// Half of them.
const HALF: usize = AT_ONCE / 2;

/// Two halves become one, until one value is left.
#[inline(always)]
fn folded(values: [f32; HALF], both: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    #[inline(always)]
    fn half<const N: usize, const M: usize>(
        values: [f32; N],
        both: impl Fn(f32, f32) -> f32,
    ) -> [f32; M] {
        let mut half = [0.0; M];
        let (first, second) = values.split_at(M);
        for ((half, first), second) in half.iter_mut().zip(first).zip(second) {
            *half = both(*first, *second);
        }
        half
    }
    let eight: [f32; 8] = half(values, both);
    let four: [f32; 4] = half(eight, both);
    let [a, b] = half(four, both);
    both(a, b)
}

vectorised! {
    /// A part of a list in vectors.
    #[inline]
    fn vectors(part: &[f32; AT_ONCE]) -> [Vector; VECTORS] {
        let mut vectors = [zero(); VECTORS];
        for (index, vector) in vectors.iter_mut().enumerate() {
            // SAFETY: so many values are a part.
            *vector = unsafe { load(part.as_ptr().add(index * LANES)) };
        }
        vectors
    }
}

vectorised! {
    /// The last few of a list in vectors, filled up.
    #[inline]
    fn filled(rest: &[f32], with: f32) -> [Vector; VECTORS] {
        let with = splat(with);
        let mut vectors = [with; VECTORS];
        for (part, vector) in rest.chunks(LANES).zip(&mut vectors) {
            // SAFETY: so many values are there.
            *vector = unsafe { load_first_or(part.len(), part.as_ptr(), with) };
        }
        vectors
    }
}

vectorised! {
    /// What `both` makes of the first and the second half.
    #[inline]
    fn halved(vectors: [Vector; VECTORS], both: impl Fn(Vector, Vector) -> Vector) -> [f32; HALF] {
        let mut half = [0.0_f32; HALF];
        let (first, second) = vectors.split_at(VECTORS / 2);
        for ((first, second), half) in first.iter().zip(second).zip(half.chunks_exact_mut(LANES)) {
            // SAFETY: there is room for a vector.
            unsafe { store_first(LANES, half.as_mut_ptr(), both(*first, *second)) };
        }
        half
    }
}

vectorised! {
    /// `a + b`, rounded once as any addition.
    #[inline]
    fn add(a: Vector, b: Vector) -> Vector {
        multiply_add(splat(1.0), a, b)
    }
}

vectorised! {
    /// Sum of all values.
    #[inline]
    pub(super) fn total(values: &[f32]) -> f32 {
        let (parts, rest) = values.as_chunks();
        let mut sums = filled(rest, 0.0);
        for part in parts {
            for (sum, values) in sums.iter_mut().zip(vectors(part)) {
                *sum = add(values, *sum);
            }
        }
        folded(halved(sums, |a, b| add(a, b)), |a, b| a + b)
    }
}

vectorised! {
    /// Sum of `(a - m) (b - n)`; both lists are as long.
    #[inline]
    pub(super) fn products(a: &[f32], b: &[f32], [m, n]: [f32; 2]) -> f32 {
        let ((a_parts, a_rest), (b_parts, b_rest)) = (a.as_chunks(), b.as_chunks());
        let (less_m, less_n) = (splat(-m), splat(-n));
        let mut sums = [zero(); VECTORS];
        let mut take = |a: [Vector; VECTORS], b: [Vector; VECTORS]| {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum = multiply_add(add(a, less_m), add(b, less_n), *sum);
            }
        };
        for (a, b) in a_parts.iter().zip(b_parts) {
            take(vectors(a), vectors(b));
        }
        if !a_rest.is_empty() {
            take(filled(a_rest, m), filled(b_rest, n));
        }
        folded(halved(sums, |a, b| add(a, b)), |a, b| a + b)
    }
}

vectorised! {
    /// The largest value; the smallest number where there is none.
    #[inline]
    pub(super) fn largest(values: &[f32]) -> f32 {
        let (parts, rest) = values.as_chunks();
        let mut most = filled(rest, f32::MIN);
        for part in parts {
            for (most, values) in most.iter_mut().zip(vectors(part)) {
                *most = maximum(values, *most);
            }
        }
        folded(halved(most, |a, b| maximum(a, b)), |a, b| if a > b { a } else { b })
    }
}

#[cfg(test)]
mod tests {
    use super::{largest, products, total};
    use crate::kernels::x86::{Set, has, has_pairs};

    #[test]
    fn one_value_comes_from_all() {
        // What this file was compiled for.
        let is_there = match super::LANES {
            16 if module_path!().contains("paired") => has_pairs(),
            16 => has(Set::Wide),
            _ => has(Set::Narrow),
        };
        if !is_there {
            return;
        }
        for count in 0..140_usize {
            let list = |step: usize| -> Vec<f32> {
                (0..count)
                    .map(|at| (at * step % 23) as f32 - 30.0)
                    .collect()
            };
            let (a, b) = (list(7), list(5));
            // SAFETY: the set is there.
            let got = unsafe { [total(&a), products(&a, &b, [2.0, -3.0]), largest(&a)] };
            let pairs = a.iter().zip(&b).map(|(a, b)| (a - 2.0) * (b + 3.0));
            let want = [
                a.iter().sum(),
                pairs.sum(),
                a.iter().copied().fold(f32::MIN, f32::max),
            ];
            assert_eq!(got, want, "whole numbers, {count} of them");
            // Wherever the largest is.
            let rising: Vec<f32> = (0..count).map(|at| at as f32 - 300.0).collect();
            // SAFETY: the set is there.
            let got = unsafe { largest(&rising) };
            assert_eq!(got, rising.last().copied().unwrap_or(f32::MIN));
        }
    }
}
