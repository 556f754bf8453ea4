//! Small functions that compilers turn into vector code.

/// `e^x` to about two units in the last place; exact at 0, never infinite or denormal.
///
/// Splits off powers of two and sums the rest by the minimax polynomial of the Cephes library.
#[inline(always)]
pub(in crate::kernels) fn exp(x: f32) -> f32 {
    // Adding this rounds to whole numbers, which then stand in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = whole.mul_add(-LN_2_LOW, whole.mul_add(-LN_2_HIGH, x));
    let mut sum = 1.987_569_1e-4_f32;
    for factor in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        sum = sum.mul_add(rest, factor);
    }
    let sum = sum.mul_add(rest * rest, rest + 1.0);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    sum * power
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(in crate::kernels) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Twice `sqrt(2/π)`, and the weight of the cube, in [`gelu`].
pub(in crate::kernels) const DOUBLED: f32 =
    2.0 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
/// See [`DOUBLED`].
pub(in crate::kernels) const CUBED: f32 = 0.044_715;

/// `x sigmoid(2u)` with `u = sqrt(2/π) (x + 0.044715 x³)`: GELU in its tanh form.
#[inline(always)]
pub(in crate::kernels) fn gelu(x: f32) -> f32 {
    x * sigmoid(DOUBLED * (CUBED * x * x).mul_add(x, x))
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_close() {
        for step in -8600..8700 {
            let x = step as f32 * 0.01;
            let want = f64::from(x).exp();
            let gap = (f64::from(super::exp(x)) - want).abs() / want;
            assert!(gap < 3e-7, "{x}: {gap:e}");
        }
        assert_eq!(super::exp(0.0), 1.0);
        assert!(super::exp(-1e9) < 1e-37);
    }
}
