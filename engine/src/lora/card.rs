//! LoRA files at a glance: found in folders, read without a model.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageReader, RgbImage, imageops::FilterType};

use super::LoraInfo;
use crate::api::{LoraCard, Rgb8Image};
use crate::weights::WeightFile;

/// Longest side of the picture in a file.
const MOST_SIDE: u32 = 256;
/// Quality of the picture in a file, of 100.
const QUALITY: u8 = 85;
/// Before the picture in a header, as in the model spec of the field (`modelspec.thumbnail`).
const PICTURE_START: &str = "data:image/jpeg;base64,";
/// Most cards of one folder.
const MOST_CARDS: usize = 500;
/// Folders below the one looked through.
const MOST_DEPTH: usize = 3;
/// Longest notes that are read, in bytes.
const MOST_NOTES: u64 = 16 << 10;

/// `picture`, made small, as a header entry; empty when it cannot be written.
pub(super) fn picture_text(picture: &Rgb8Image) -> String {
    let full = RgbImage::from_raw(picture.width, picture.height, picture.pixels.to_vec());
    let Some(full) = full else {
        return String::new();
    };
    let mut small = DynamicImage::from(full);
    if picture.width.max(picture.height) > MOST_SIDE {
        small = small.resize(MOST_SIDE, MOST_SIDE, FilterType::Lanczos3);
    }
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    match small.write_with_encoder(encoder) {
        Ok(()) => format!("{PICTURE_START}{}", BASE64_STANDARD.encode(bytes)),
        Err(error) => {
            tracing::warn!("the LoRA gets no picture: {error}");
            String::new()
        }
    }
}

/// The picture of a header entry, at most [`MOST_SIDE`] wide and high; `None` for anything else.
pub(super) fn picture_of(text: &str) -> Option<Rgb8Image> {
    let (_, data) = text.split_once(";base64,")?;
    let bytes = BASE64_STANDARD.decode(data).ok()?;
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(4096);
    limits.max_image_height = Some(4096);
    limits.max_alloc = Some(64 << 20);
    reader.limits(limits);
    let mut image = reader.decode().ok()?;
    if image.width().max(image.height()) > MOST_SIDE {
        image = image.resize(MOST_SIDE, MOST_SIDE, FilterType::Triangle);
    }
    let image = image.to_rgb8();
    let (width, height) = image.dimensions();
    Rgb8Image::new(width, height, image.into_raw())
}

/// The LoRA files in `folder` and those below it, by name; files that are none are passed over.
pub fn find_loras(folder: &Path) -> Vec<LoraCard> {
    let mut files = Vec::new();
    collect(folder, 0, &mut files);
    files.sort();
    files.truncate(MOST_CARDS);
    files.iter().filter_map(|path| card(path)).collect()
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            // Features of a run are no LoRAs, and there are many.
            if depth < MOST_DEPTH && entry.file_name() != "features" {
                collect(&path, depth + 1, files);
            }
        } else if path.extension().is_some_and(|end| end == "safetensors") {
            files.push(path);
        }
    }
}

/// The notes in the `.txt` file beside; none of a file that is too long to be notes.
fn notes_beside(path: &Path) -> String {
    let path = path.with_extension("txt");
    let short = std::fs::metadata(&path).is_ok_and(|about| about.len() <= MOST_NOTES);
    let notes = if short {
        std::fs::read(&path).ok()
    } else {
        None
    };
    let notes = notes.unwrap_or_default();
    String::from_utf8_lossy(&notes).trim().to_owned()
}

/// The card of one file; `None` when there is no LoRA in it.
fn card(path: &Path) -> Option<LoraCard> {
    let file = WeightFile::open(path).ok()?;
    let is_part =
        |name: &str| name.ends_with(".lora_A.weight") || name.ends_with(".lora_down.weight");
    // A checkpoint has the same names behind a word of its own.
    let is_lora = file.names().any(is_part) && !file.names().any(|name| name.contains('/'));
    if !is_lora {
        return None;
    }
    let info = LoraInfo::of(&file);
    let notes = notes_beside(path);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    Some(LoraCard {
        path: path.to_owned(),
        name: if info.name.is_empty() {
            stem.into_owned()
        } else {
            info.name
        },
        trigger: info.trigger,
        base_name: info.base_name,
        rank: info.rank,
        pictures: info.pictures,
        steps: info.steps,
        notes,
        picture: info.picture,
    })
}
