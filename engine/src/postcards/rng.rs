//! A small counter-based random generator, so that a seed means the same postcard everywhere and for ever.
//!
//! The n-th number is the `SplitMix64` hash of `seed + n · golden ratio` (Steele, Lea, Flood 2014, "Fast splittable
//! pseudorandom number generators", section 4). Streams split by name keep one attribute's jitter apart from another's.

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of random numbers, fully given by its seed.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Another stream of the same seed; `stream` tells the streams of one seed apart.
    pub fn stream(seed: u64, stream: u64) -> Self {
        Self {
            state: mix(seed ^ mix(stream.wrapping_mul(GOLDEN).wrapping_add(1))),
        }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Uniform in `0..1`.
    pub fn unit(&mut self) -> f32 {
        // 24 bits are what an f32 holds exactly.
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Uniform in `low..high`.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `center - spread..center + spread`.
    pub fn around(&mut self, center: f32, spread: f32) -> f32 {
        self.range(center - spread, center + spread)
    }

    /// A whole number in `0..count`; 0 when `count` is 0.
    pub fn below(&mut self, count: usize) -> usize {
        // Multiply-shift: the bias is below count / 2^64. The result is below `count`, so it fits.
        let wide = u128::from(self.next_u64()) * count as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// One of `items`, each as likely; the default when there are none.
    pub fn pick<T: Copy + Default>(&mut self, items: &[T]) -> T {
        let index = self.below(items.len());
        items.get(index).copied().unwrap_or_default()
    }

    /// Puts `items` in random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::SplitMix64;

    #[test]
    fn known_first_numbers() {
        // First outputs of the published generator for seed 0.
        let mut rng = SplitMix64::new(0);
        assert_eq!(rng.next_u64(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(rng.next_u64(), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn numbers_stay_in_range_and_spread() {
        let mut rng = SplitMix64::stream(7, 1);
        let mut counts = [0; 5];
        for _ in 0..5000 {
            counts[rng.below(5)] += 1;
            let x = rng.range(-1.0, 2.0);
            assert!((-1.0..2.0).contains(&x));
        }
        assert!(
            counts.iter().all(|&c| (850..1150).contains(&c)),
            "{counts:?}"
        );
    }

    #[test]
    fn shuffle_keeps_everything() {
        let mut items: Vec<usize> = (0..20).collect();
        SplitMix64::new(3).shuffle(&mut items);
        assert_ne!(items, (0..20).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..20).collect::<Vec<_>>());
    }
}
