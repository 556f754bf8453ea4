//! Counter-based random numbers: a pure function of seed, stream and counter.
//!
//! The n-th number does not depend on how many were drawn before, so the same
//! seed gives the same picture however the work is split and on every device.
//! The mixing function is the finaliser of `SplitMix64` (Steele, Lea and Flood,
//! "Fast splittable pseudorandom number generators", 2014).

/// An endless row of random numbers that can be read at any place.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    key: u64,
}

const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

impl Stream {
    /// The row number `stream` of `seed`.
    pub const fn new(seed: u64, stream: u64) -> Self {
        let key = mix(seed ^ 0x9E37_79B9_7F4A_7C15);
        Self {
            key: mix(key.wrapping_add(stream.wrapping_mul(0xD1B5_4A32_D192_ED03))),
        }
    }

    /// 64 random bits at `counter`.
    pub const fn bits(&self, counter: u64) -> u64 {
        mix(self
            .key
            .wrapping_add(counter.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// A number in [0, 1) at `counter`, a multiple of 2⁻⁵³.
    pub fn uniform(&self, counter: u64) -> f64 {
        (self.bits(counter) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A number in 0..`bound` at `counter`; 0 when `bound` is 0.
    pub fn below(&self, counter: u64, bound: usize) -> usize {
        (self.uniform(counter) * bound as f64) as usize
    }

    /// A standard normal number at `counter` (Box and Muller, 1958).
    pub fn normal(&self, counter: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * counter)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * counter + 1)).cos()
    }

    /// A standard normal number at `counter`, cut to [-2, 2].
    pub fn cut_normal(&self, counter: u64) -> f32 {
        self.normal(counter).clamp(-2.0, 2.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let (a, b) = (Stream::new(1, 0), Stream::new(1, 1));
        assert_eq!(a.bits(5), Stream::new(1, 0).bits(5));
        assert_ne!(a.bits(5), b.bits(5));
        assert_ne!(a.bits(5), a.bits(6));
    }

    #[test]
    fn moments_are_right() {
        let stream = Stream::new(7, 3);
        let n = 100_000_u64;
        let mean = (0..n).map(|i| stream.uniform(i)).sum::<f64>() / n as f64;
        let square = (0..n).map(|i| stream.normal(i).powi(2)).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        assert!((square - 1.0).abs() < 0.02, "{square}");
    }
}
