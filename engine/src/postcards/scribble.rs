//! Shapes that no postcard has, over a postcard: discs, polygons and bars in any colour.
//!
//! A tokenizer that sees only postcards can draw nothing else, and an artist's own pictures would come out as
//! houses and trees.

use tiny_skia::{Color, FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Transform};

use super::rng::SplitMix64;
use crate::api::Rgb8Image;

const MOST_SHAPES: usize = 5;

/// Paints one to five shapes over `image`; the same seed always gives the same.
pub fn scribble(image: &Rgb8Image, seed: u64) -> Rgb8Image {
    let Some(mut pixmap) = Pixmap::new(image.width, image.height) else {
        return image.clone();
    };
    for (to, from) in pixmap
        .data_mut()
        .chunks_exact_mut(4)
        .zip(image.pixels.chunks_exact(3))
    {
        to[..3].copy_from_slice(from);
        to[3] = 255;
    }
    let mut rng = SplitMix64::stream(seed, 31);
    for _ in 0..=rng.below(MOST_SHAPES) {
        let (width, height) = (image.width as f32, image.height as f32);
        let at = (rng.range(0.0, width), rng.range(0.0, height));
        let path = shape(&mut rng, at, width.min(height));
        let ink = [0; 3].map(|_| rng.below(256) as u8);
        let mut paint = Paint {
            anti_alias: true,
            ..Paint::default()
        };
        paint.set_color(Color::from_rgba8(ink[0], ink[1], ink[2], 255));
        if let Some(path) = path {
            pixmap.fill_path(
                &path,
                &paint,
                FillRule::Winding,
                Transform::identity(),
                None,
            );
        }
    }
    let pixels: Vec<u8> = pixmap
        .data()
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    Rgb8Image::new(image.width, image.height, pixels).unwrap_or_else(|| image.clone())
}

/// A shape around `at`; sizes are parts of the shorter side.
fn shape(rng: &mut SplitMix64, at: (f32, f32), short: f32) -> Option<Path> {
    let turn = rng.range(0.0, std::f32::consts::TAU);
    let (sin, cos) = turn.sin_cos();
    let place = |x: f32, y: f32| (at.0 + cos * x - sin * y, at.1 + sin * x + cos * y);
    let outline = |corners: &[(f32, f32)]| {
        let mut path = PathBuilder::new();
        for (index, &(x, y)) in corners.iter().enumerate() {
            let (x, y) = place(x, y);
            if index == 0 {
                path.move_to(x, y);
            } else {
                path.line_to(x, y);
            }
        }
        path.close();
        path.finish()
    };
    match rng.below(4) {
        0 => {
            let (rx, ry) = (rng.range(0.02, 0.15) * short, rng.range(0.02, 0.15) * short);
            Rect::from_xywh(at.0 - rx, at.1 - ry, 2.0 * rx, 2.0 * ry)
                .and_then(PathBuilder::from_oval)
        }
        1 => {
            let corners = 3 + rng.below(4);
            let points: Vec<(f32, f32)> = (0..corners)
                .map(|corner| {
                    let angle = std::f32::consts::TAU * corner as f32 / corners as f32;
                    let radius = rng.range(0.04, 0.16) * short;
                    (radius * angle.cos(), radius * angle.sin())
                })
                .collect();
            outline(&points)
        }
        2 => {
            let (long, thin) = (rng.range(0.05, 0.3) * short, rng.range(0.01, 0.05) * short);
            outline(&[(-long, -thin), (long, -thin), (long, thin), (-long, thin)])
        }
        _ => {
            let (wide, high) = (rng.range(0.03, 0.12) * short, rng.range(0.03, 0.2) * short);
            let top = wide * rng.range(0.3, 1.0);
            outline(&[(-wide, high), (wide, high), (top, -high), (-top, -high)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::scribble;
    use crate::postcards::{Postcard, Split, paint};

    #[test]
    fn something_is_painted_over_and_the_rest_stays() {
        let mut changed = 0;
        for seed in 0..50 {
            let before = paint(&Postcard::sample(seed, Split::Any), seed, 96, 64);
            let after = scribble(&before, seed);
            assert!(after == scribble(&before, seed), "{seed}");
            let pairs = before.pixels.iter().zip(after.pixels.iter());
            let differ = pairs.filter(|(a, b)| a != b).count();
            assert!(differ * 10 < before.pixels.len() * 8, "{seed}: {differ}");
            changed += usize::from(differ > 20);
        }
        assert!(changed > 45, "{changed}");
    }
}
