//! T5's position bias: distances between tokens sorted into 32 classes.
//!
//! Source: Raffel et al. 2019, arXiv 1910.10683, section 2.1. The class limits are
//! a table, because the logarithm of the published formula sits on the limit at
//! distances 16, 32 and 64 and rounds either way.

/// Number of classes, half of them for tokens that come after.
pub(super) const BUCKETS: usize = 32;

/// Distance the logarithmic classes are laid out for; the last one starts at 91.
pub(super) const MAX_DISTANCE: usize = 128;

/// Smallest distance of each class.
pub(super) const STARTS: [usize; BUCKETS / 2] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];

/// Class of a key at place `key` seen from the query at place `query`.
pub fn bucket(query: usize, key: usize) -> usize {
    let class = STARTS.partition_point(|start| *start <= key.abs_diff(query)) - 1;
    if key > query {
        class + BUCKETS / 2
    } else {
        class
    }
}

/// Classes of all pairs of `length` tokens, `[query, key]` in row order.
pub(super) fn bucket_table(length: usize) -> Vec<i64> {
    (0..length)
        .flat_map(|query| (0..length).map(move |key| bucket(query, key) as i64))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_published_formula() {
        for distance in 1..300 {
            let classes = (distance as f64 / 8.0).ln() / 16.0_f64.ln() * 8.0;
            let wanted = if distance < 8 {
                distance
            } else {
                15.min(8 + (classes + 1e-9).floor() as usize)
            };
            assert_eq!(bucket(distance, 0), wanted, "{distance} before");
            assert_eq!(bucket(0, distance), wanted + 16, "{distance} after");
        }
        assert_eq!(bucket_table(2), [0, 17, 1, 0]);
    }
}
