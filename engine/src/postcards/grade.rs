//! A postcard in another palette, sky and all: from dark to bright between any two colours, with some of its own.
//!
//! A tokenizer that has only seen the four skies makes one of them of every sky, and no style can be taught that has another.

use super::rng::SplitMix64;
use crate::api::Rgb8Image;

/// How bright the darkest colour is at most, and the brightest at least.
const DARKEST: f32 = 110.0;
const BRIGHTEST: f32 = 150.0;

/// How bright a colour looks, from 0 to 255.
fn brightness([r, g, b]: [f32; 3]) -> f32 {
    0.30 * r + 0.59 * g + 0.11 * b
}

/// `image` in a palette of its own; the same seed always gives the same.
pub fn grade(image: &Rgb8Image, seed: u64) -> Rgb8Image {
    let mut rng = SplitMix64::stream(seed, 32);
    let mut colour = |fits: fn(f32) -> bool| loop {
        let one = [0; 3].map(|_| rng.range(0.0, 255.0));
        if fits(brightness(one)) {
            break one;
        }
    };
    let dark = colour(|own| own <= DARKEST);
    let bright = colour(|own| own >= BRIGHTEST);
    let wash = rng.range(0.0, 1.0);
    let pixels = image.pixels.chunks_exact(3).flat_map(|pixel| {
        let own = [0, 1, 2].map(|place| f32::from(pixel[place]));
        let grey = brightness(own);
        [0, 1, 2].map(|place| {
            let tone = dark[place] + (bright[place] - dark[place]) * grey / 255.0;
            (tone + wash * (own[place] - grey))
                .round()
                .clamp(0.0, 255.0) as u8
        })
    });
    Rgb8Image::new(image.width, image.height, pixels.collect()).unwrap_or_else(|| image.clone())
}

#[cfg(test)]
mod tests {
    use super::grade;
    use crate::postcards::{Postcard, Split, paint};

    #[test]
    fn every_seed_is_a_palette_of_its_own() {
        let plain = paint(&Postcard::sample(3, Split::Any), 3, 48, 32);
        let graded: Vec<_> = (0..40).map(|seed| grade(&plain, seed)).collect();
        assert_eq!(grade(&plain, 7), graded[7]);
        for (index, one) in graded.iter().enumerate() {
            assert_eq!((one.width, one.height), (48, 32));
            assert!(!graded[..index].contains(one) && *one != plain);
        }
        // The sky changes with the rest.
        let skies: std::collections::BTreeSet<_> =
            graded.iter().map(|one| one.pixel(0, 0).unwrap()).collect();
        assert!(skies.len() > 35);
    }
}
