//! Reading picture files from anywhere: bounded, turned as the camera said, in 8-bit RGB.

use std::path::Path;

use image::{DynamicImage, ImageDecoder as _, ImageReader};

use crate::api::{EngineError, Mask, Rgb8Image};

/// Longest side that is read.
const MOST_SIDE: u32 = 40_000;
/// Memory that reading one picture may take.
const MOST_BYTES: u64 = 1 << 30;
/// Most pixels of a picture to draw from.
const MOST_PIXELS: u64 = 64 << 20;

/// Reads a picture to draw from; transparent parts become white.
///
/// # Errors
/// [`EngineError::BadPicture`] saying why it cannot be used.
pub fn read_picture(path: &Path) -> Result<Rgb8Image, EngineError> {
    let image = opaque(&sensible(path)?).to_rgb8();
    let (width, height) = image.dimensions();
    Rgb8Image::new(width, height, image.into_raw())
        .ok_or_else(|| bad(path, "its size makes no sense".to_owned()))
}

/// Reads a mask: white is drawn anew, black is kept.
///
/// # Errors
/// [`EngineError::BadPicture`] saying why it cannot be used.
pub fn read_mask(path: &Path) -> Result<Mask, EngineError> {
    let image = sensible(path)?.to_luma8();
    let (width, height) = image.dimensions();
    Ok(Mask {
        width,
        height,
        values: image.into_raw().into(),
    })
}

fn sensible(path: &Path) -> Result<DynamicImage, EngineError> {
    let image = decode(path).map_err(|reason| bad(path, reason))?;
    let (width, height) = (image.width(), image.height());
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        let most = MOST_PIXELS >> 20;
        let reason =
            format!("{width}×{height} is more than {most} million pixels; make it smaller");
        return Err(bad(path, reason));
    }
    Ok(image)
}

fn bad(path: &Path, reason: String) -> EngineError {
    EngineError::BadPicture {
        reason,
        path: path.to_owned(),
    }
}

/// `image` on white.
pub(crate) fn opaque(image: &DynamicImage) -> DynamicImage {
    let white = image::Rgba([255; 4]);
    let mut opaque = image::RgbaImage::from_pixel(image.width(), image.height(), white);
    image::imageops::overlay(&mut opaque, &image.to_rgba8(), 0, 0);
    opaque.into()
}

/// The picture in a file; the error says why it cannot be used.
pub(crate) fn decode(path: &Path) -> Result<DynamicImage, String> {
    if !path.is_file() {
        return Err("there is no such file".to_owned());
    }
    let damaged =
        |error: &dyn std::fmt::Display| format!("it cannot be read as a picture ({error})");
    let mut reader = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|error| damaged(&error))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MOST_SIDE);
    limits.max_image_height = Some(MOST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| damaged(&error))?;
    if decoder.total_bytes() > MOST_BYTES {
        return Err("it takes more than a gigabyte of memory; make it smaller".to_owned());
    }
    let turned = decoder.orientation().map_err(|error| damaged(&error))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| damaged(&error))?;
    image.apply_orientation(turned);
    if image.width() == 0 || image.height() == 0 {
        return Err("it has no pixels".to_owned());
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_and_masks_are_read_and_others_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let mut image = image::RgbaImage::from_pixel(3, 2, image::Rgba([10, 20, 30, 255]));
        image.put_pixel(2, 1, image::Rgba([0, 0, 0, 0]));
        image.save(&path).unwrap();
        let picture = read_picture(&path).unwrap();
        assert_eq!(picture.pixel(0, 0), Some([10, 20, 30]));
        assert_eq!(picture.pixel(2, 1), Some([255; 3]));
        assert_eq!(read_mask(&path).unwrap().values.len(), 6);
        let text = folder.path().join("b.png");
        std::fs::write(&text, "no picture").unwrap();
        for path in [text, folder.path().join("c.png")] {
            let said = read_picture(&path).unwrap_err().to_string();
            assert!(
                said.contains(&*path.file_name().unwrap().to_string_lossy()),
                "{said}"
            );
        }
    }
}
