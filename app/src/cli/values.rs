//! How values are spelled on the command line.

use std::time::{Duration, Instant};

pub(super) use crate::place::device;
use infinity_engine::api::{LoraWish, Mode, PixelBudget, Sides, WeightStorage};

use super::CliError;

/// A shape of picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    /// Height over width.
    pub(super) ratio: f32,
    /// The size asked for in pixels, width first, when one was.
    pub(super) size_px: Option<(u32, u32)>,
}

/// When a run of so many minutes from now is over.
pub(super) fn until(minutes: Option<f32>) -> Result<Option<Instant>, CliError> {
    let Some(minutes) = minutes else {
        return Ok(None);
    };
    let time = Duration::try_from_secs_f32(60.0 * minutes).map_err(|error| {
        CliError::Usage(format!("--minutes {minutes} is no length of time: {error}"))
    })?;
    Ok(Instant::now().checked_add(time))
}

/// How weights are kept.
pub(super) fn weights(text: &str) -> Result<WeightStorage, String> {
    match text {
        "auto" => Ok(WeightStorage::Auto),
        "single" => Ok(WeightStorage::Single),
        "half" => Ok(WeightStorage::Half),
        "small" => Ok(WeightStorage::Small),
        "smaller" => Ok(WeightStorage::Smaller),
        "eight" => Ok(WeightStorage::Eight),
        _ => Err("use auto, single, half, small, smaller or eight".to_owned()),
    }
}

/// `L,T,R,B`: pixels at the left, above, at the right and below.
pub(super) fn sides(text: &str) -> Result<Sides, String> {
    let help = "use four numbers of pixels: left, above, right, below, such as 0,0,64,0";
    let numbers: Result<Vec<u32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[left, top, right, bottom]) => Ok(Sides {
            left,
            top,
            right,
            bottom,
        }),
        _ => Err(help.to_owned()),
    }
}

/// `FILE`, `FILE=STRENGTH`, or `FILE=STRENGTH@F,F,…` with a factor per scale, coarse to fine.
pub(super) fn lora(text: &str) -> Result<LoraWish, String> {
    let number = |text: &str| text.trim().parse::<f32>().ok();
    let (path, strength, by_scale) = match text.rsplit_once('=') {
        Some((path, how)) => {
            let (strength, curve) = how.split_once('@').unwrap_or((how, ""));
            let curve = curve.split(',').filter(|part| !part.is_empty());
            match (number(strength), curve.map(number).collect()) {
                (Some(strength), Some(by_scale)) => (path, strength, by_scale),
                _ => (text, 1.0, Vec::new()),
            }
        }
        None => (text, 1.0, Vec::new()),
    };
    if path.is_empty() {
        return Err("use FILE, FILE=STRENGTH or FILE=STRENGTH@FACTORS, such as mill.safetensors=0.8 or ink.safetensors=1@0,0,1".to_owned());
    }
    Ok(LoraWish {
        path: path.into(),
        strength,
        by_scale,
    })
}

/// `1.5` (height over width), `3:2` (width to height) or `1024x768` (width by height).
pub(super) fn shape(text: &str) -> Result<Shape, String> {
    let help = "use a number (height over width), W:H such as 3:2, or WxH such as 1024x768";
    let bad = |_error| help.to_owned();
    if let Some((width, height)) = text.split_once(['x', 'X', '×']) {
        let (width, height): (u32, u32) = (
            width.trim().parse().map_err(bad)?,
            height.trim().parse().map_err(bad)?,
        );
        if width == 0 || height == 0 {
            return Err(help.to_owned());
        }
        return Ok(Shape {
            ratio: height as f32 / width as f32,
            size_px: Some((width, height)),
        });
    }
    let bad = |_error| help.to_owned();
    let ratio = match text.split_once(':') {
        Some((width, height)) => {
            let (width, height): (f32, f32) = (
                width.trim().parse().map_err(bad)?,
                height.trim().parse().map_err(bad)?,
            );
            height / width
        }
        None => text.trim().parse().map_err(bad)?,
    };
    Ok(Shape {
        ratio,
        size_px: None,
    })
}

/// One number, or one per scale with commas between.
pub(super) fn numbers(text: &str) -> Result<Numbers, String> {
    let number = |part: &str| {
        let part = part.trim();
        part.parse::<f32>().map_err(|_error| {
            format!("{part:?} is not a number; give one, or one per scale as 3,3,4")
        })
    };
    text.split(',')
        .map(number)
        .collect::<Result<_, _>>()
        .map(Numbers)
}

/// A list that clap takes as one value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Numbers(pub(super) Vec<f32>);

/// A way of drawing by its name.
pub(super) fn mode(text: &str) -> Result<Mode, String> {
    Mode::from_name(text).ok_or_else(|| "use exact, balanced or draft".to_owned())
}

/// A pixel budget by its published name.
pub(super) fn budget(text: &str) -> Result<PixelBudget, String> {
    PixelBudget::from_name(text).ok_or_else(|| "use 0.06M, 0.25M, 0.60M or 1M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_understood() {
        let check = |text: &str, ratio: f32, size_px| {
            assert_eq!(shape(text), Ok(Shape { ratio, size_px }), "{text}");
        };
        check("1", 1.0, None);
        check("1.5", 1.5, None);
        check("3:2", 2.0 / 3.0, None);
        check("1024x512", 0.5, Some((1024, 512)));
        for bad in ["", "x", "3:", "wide", "0x5", "5x", "1.5x2"] {
            assert!(shape(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_and_budgets_are_understood() {
        assert_eq!(numbers("3"), Ok(Numbers(vec![3.0])));
        assert_eq!(numbers("3, 4.5,1"), Ok(Numbers(vec![3.0, 4.5, 1.0])));
        assert!(numbers("3,,4").is_err() && numbers("").is_err() && numbers("a").is_err());
        assert_eq!(budget("0.25M"), Ok(PixelBudget::P025M));
    }
}
