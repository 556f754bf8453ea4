//! Where a picture's bits were uncertain.

use crate::api::Doubt;
use crate::resize::{Filter, Resize};
use crate::schedule::Scale;

/// The mean entropy of the bits of each token, in bits, from logits `[L, d', 2]`.
pub(super) fn of_tokens(logits: &[f32], tokens: usize) -> Vec<f32> {
    let per_token = logits.len() / tokens.max(1);
    let entropy = |pair: &[f32]| {
        let p = 1.0 / (1.0 + f64::from(pair[0] - pair[1]).exp());
        let part = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
        part(p) + part(1.0 - p)
    };
    logits
        .chunks_exact(per_token.max(1))
        .map(|token| {
            let pairs = token.chunks_exact(2);
            let count = pairs.len().max(1) as f64;
            (pairs.map(entropy).sum::<f64>() / count) as f32
        })
        .collect()
}

/// The mean over scales at the resolution of the finest; `None` without any.
pub(super) fn over_scales(scales: &[(Scale, Vec<f32>)]) -> Option<Doubt> {
    let (finest, _) = scales.last()?;
    let mut sum = vec![0.0; finest.tokens()];
    for (scale, values) in scales {
        let up = Resize::new(Filter::Bilinear, (scale.h, scale.w), (finest.h, finest.w));
        for (sum, value) in sum.iter_mut().zip(up.apply(values)) {
            *sum += value / scales.len() as f32;
        }
    }
    Some(Doubt {
        width: finest.w,
        height: finest.h,
        values: sum
            .iter()
            .map(|value| (255.0 * value).round() as u8)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coin_tosses_are_doubt_and_large_differences_are_none() {
        let tokens = of_tokens(&[0.0, 0.0, 5.0, 5.0, 0.0, 90.0, 90.0, 0.0], 2);
        assert!(tokens[0] == 1.0 && tokens[1] < 1e-30, "{tokens:?}");
        let one = Scale { h: 1, w: 1 };
        let two = Scale { h: 1, w: 2 };
        let doubt = over_scales(&[(one, vec![0.5]), (two, tokens)]).unwrap();
        assert_eq!((doubt.width, doubt.height), (2, 1));
        assert_eq!(doubt.values, [191, 64]);
        assert_eq!(over_scales(&[]), None);
    }
}
