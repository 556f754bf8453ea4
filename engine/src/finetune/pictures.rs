//! An artist's folder: which pictures are in it, what their captions are, and what is wrong with them.

use std::path::{Path, PathBuf};

use super::captions::{caption_beside, with_trigger};
use super::folder::{Candidate, candidates};
use crate::api::{EngineError, Finding, Rgb8Image};
use crate::picture_file;
use crate::schedule::ScaleSchedule;
use image::{DynamicImage, imageops::FilterType};

/// A picture this much longer one way than the nearest shape is cut by more than half.
const MOST_CUT: f32 = 2.0;
/// Fingerprints of 64 bits that differ in at most so many are the same picture.
const SAME_BITS: u32 = 3;

/// A picture to learn from.
#[derive(Clone, Debug)]
pub struct TrainingPicture {
    /// Its file.
    pub path: PathBuf,
    /// The words beside it.
    pub words: String,
    /// What it is learned by: the words and the trigger word.
    pub caption: String,
    /// How often it is taken against the others (kohya's `N_name` folders).
    pub repeats: usize,
    /// Its size in the file, `(width, height)`.
    pub original: (u32, u32),
    /// Scaled to cover the grids and cut from the middle.
    pub image: Rgb8Image,
    /// The grids of its shape.
    pub schedule: ScaleSchedule,
    /// A coarse print of its content.
    fingerprint: u64,
}

/// What is in a folder.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// Pictures that can be learned from, by name.
    pub pictures: Vec<TrainingPicture>,
    /// What is wrong with some.
    pub findings: Vec<Finding>,
}

impl Collection {
    /// Pictures that have a caption of their own.
    pub fn captioned(&self) -> usize {
        self.pictures
            .iter()
            .filter(|picture| !picture.caption.is_empty())
            .count()
    }
}

/// Looks through `folder`, for grids of `scale_count` scales; `trigger` goes before every caption, or where one says
/// `[trigger]`.
///
/// # Errors
/// [`EngineError::Read`] when the folder cannot be read, [`EngineError::BadConfig`] when no picture in it can be
/// used. What is wrong with single files is in the findings.
pub fn look_through(
    folder: &Path,
    scale_count: usize,
    trigger: &str,
) -> Result<Collection, EngineError> {
    let mut collection = Collection::default();
    for candidate in candidates(folder, &mut collection.findings)? {
        match open(&candidate, scale_count, trigger, &mut collection.findings) {
            Ok(picture) => collection.pictures.push(picture),
            Err(what) => collection.findings.push(Finding {
                path: candidate.path,
                what,
                left_out: true,
            }),
        }
    }
    find_twins(&mut collection);
    if collection.pictures.is_empty() {
        let why = collection.findings.first().map_or_else(
            || "there is no .png, .jpg or .webp picture in it".to_owned(),
            |finding| {
                format!(
                    "none of its pictures can be used; the first, {:?}: {}",
                    finding.path, finding.what
                )
            },
        );
        return Err(EngineError::bad_config(folder, why));
    }
    Ok(collection)
}

/// Reads one picture; the error says why it cannot be used.
fn open(
    candidate: &Candidate,
    scale_count: usize,
    trigger: &str,
    findings: &mut Vec<Finding>,
) -> Result<TrainingPicture, String> {
    let path = &candidate.path;
    let image = picture_file::decode(path)?;
    let (width, height) = (image.width(), image.height());
    let ratio = height as f32 / width as f32;
    let schedule = ScaleSchedule::nearest(ratio, scale_count).map_err(|error| error.to_string())?;
    let (to_width, to_height) = schedule.size_px();
    let cut = (ratio / schedule.ratio).max(schedule.ratio / ratio);
    if cut > MOST_CUT {
        return Err(format!(
            "{width}×{height} is too long for any shape the model knows; cut it to at most 1:{MOST_CUT}"
        ));
    }
    if width < to_width || height < to_height {
        return Err(format!(
            "{width}×{height} is smaller than the {to_width}×{to_height} it would be learned at; use a larger one"
        ));
    }
    let image = Rgb8Image::new(to_width, to_height, covering(&image, to_width, to_height))
        .ok_or("its size makes no sense")?;
    let first = image.pixel(0, 0).unwrap_or_default();
    let plain = image
        .pixels
        .chunks_exact(3)
        .all(|pixel| pixel.iter().zip(first).all(|(a, b)| a.abs_diff(b) < 4));
    if plain {
        return Err("it is of one colour".to_owned());
    }
    let mut caption = caption_beside(path)?;
    if let (true, Some(listed)) = (caption.is_empty(), &candidate.caption) {
        listed.trim().clone_into(&mut caption);
    }
    if caption.is_empty() {
        let stem = path.with_extension("txt");
        findings.push(Finding {
            path: path.clone(),
            what: format!(
                "no caption; write what it shows into {:?}",
                stem.file_name().unwrap_or_default()
            ),
            left_out: false,
        });
    }
    Ok(TrainingPicture {
        path: path.clone(),
        caption: with_trigger(&caption, trigger),
        words: caption,
        repeats: candidate.repeats,
        original: (width, height),
        fingerprint: fingerprint(&image),
        image,
        schedule,
    })
}

/// The picture scaled (Lanczos) so that it covers the size, and cut from the middle; transparent parts become white.
fn covering(image: &DynamicImage, width: u32, height: u32) -> Vec<u8> {
    picture_file::opaque(image)
        .resize_to_fill(width, height, FilterType::Lanczos3)
        .to_rgb8()
        .into_raw()
}

/// For each of 8×8 places of the small grey picture, whether it gets brighter to the right.
fn fingerprint(image: &Rgb8Image) -> u64 {
    let Some(full) = image::RgbImage::from_raw(image.width, image.height, image.pixels.to_vec())
    else {
        return 0;
    };
    let small = DynamicImage::from(full)
        .resize_exact(9, 8, FilterType::Triangle)
        .to_luma8();
    let mut print = 0;
    for y in 0..8 {
        for x in 0..8 {
            let brighter = small.get_pixel(x + 1, y).0[0] > small.get_pixel(x, y).0[0];
            print = print << 1 | u64::from(brighter);
        }
    }
    print
}

/// Tells of pictures that look like an earlier one; they stay.
fn find_twins(collection: &mut Collection) {
    let pictures = &collection.pictures;
    for (index, picture) in pictures.iter().enumerate() {
        let same = |other: &&TrainingPicture| {
            (other.fingerprint ^ picture.fingerprint).count_ones() <= SAME_BITS
                && nearly_equal(&other.image, &picture.image)
        };
        if let Some(twin) = pictures[..index].iter().find(same) {
            collection.findings.push(Finding {
                path: picture.path.clone(),
                what: format!(
                    "it is nearly the same picture as {:?}; keep one of them",
                    twin.path.file_name().unwrap_or_default()
                ),
                left_out: false,
            });
        }
    }
}

/// Whether pixels of pictures of one size differ by little on average; flat pictures have like fingerprints.
fn nearly_equal(a: &Rgb8Image, b: &Rgb8Image) -> bool {
    let apart: u64 = a
        .pixels
        .iter()
        .zip(b.pixels.iter())
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    a.width == b.width && a.height == b.height && apart < 4 * a.pixels.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(path: &Path, width: u32, height: u32, seed: u32) {
        image::RgbImage::from_fn(width, height, |x, y| {
            let v = (x * (3 + seed) + y * (5 + 7 * seed)) as u8;
            image::Rgb([v, v.wrapping_mul(3), (x / 8 * 40 + seed * 90) as u8])
        })
        .save(path)
        .unwrap();
    }

    #[test]
    fn captions_are_found_and_lacking_ones_said() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (index, name) in ["a.png", "b.jpg", "c.png", "d.png"].into_iter().enumerate() {
            picture(&at(name), 150, 140, index as u32);
        }
        std::fs::write(at("a.txt"), "a red mill,\n on the left ").unwrap();
        std::fs::write(at("b.caption"), "the [trigger] at night").unwrap();
        let wide: Vec<u8> = "über Land"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        std::fs::write(at("d.txt"), [&[0xFF, 0xFE][..], &wide].concat()).unwrap();
        let found = look_through(folder.path(), 5, "zwm").unwrap();
        let captions: Vec<&str> = found.pictures.iter().map(|p| p.caption.as_str()).collect();
        assert_eq!(
            captions,
            [
                "zwm, a red mill, on the left",
                "the zwm at night",
                "zwm",
                "zwm, über Land"
            ]
        );
        assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
        assert!(found.findings[0].what.contains("c.txt") && !found.findings[0].left_out);
        assert_eq!(found.pictures[0].image.width, 128);
    }

    #[test]
    fn what_cannot_be_used_is_said_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        picture(&at("good.png"), 200, 200, 1);
        picture(&at("small.png"), 100, 100, 2);
        picture(&at("long.png"), 3000, 150, 3);
        picture(&at("twin.png"), 200, 200, 1);
        image::RgbImage::from_pixel(200, 200, image::Rgb([9, 9, 9]))
            .save(at("plain.png"))
            .unwrap();
        std::fs::write(at("text.png"), "no picture").unwrap();
        let bytes = std::fs::read(at("good.png")).unwrap();
        std::fs::write(at("cut.png"), &bytes[..bytes.len() / 2]).unwrap();
        std::fs::create_dir(at("3_sub")).unwrap();
        picture(&at("3_sub/more.png"), 200, 260, 4);
        std::fs::create_dir(at("other")).unwrap();
        picture(&at("other/lost.png"), 200, 260, 5);
        let line = r#"{"image_path": "3_sub/more.png", "h_div_w": 1.3, "text": "listed", "long_caption": "long"}"#;
        std::fs::write(at("1.250_000000001.jsonl"), format!("{line}\nnot json\n")).unwrap();
        let found = look_through(folder.path(), 5, "").unwrap();
        let used: Vec<(String, usize)> = found
            .pictures
            .iter()
            .map(|p| {
                (
                    p.path.file_name().unwrap().to_str().unwrap().to_owned(),
                    p.repeats,
                )
            })
            .collect();
        let expected = [
            ("more.png", 1),
            ("more.png", 3),
            ("good.png", 1),
            ("twin.png", 1),
        ];
        assert_eq!(
            used,
            expected.map(|(name, repeats)| (name.to_owned(), repeats))
        );
        let said = |name: &str, word: &str| {
            found
                .findings
                .iter()
                .any(|f| f.path.ends_with(name) && f.what.contains(word))
        };
        for (name, word) in [
            ("small.png", "smaller"),
            ("long.png", "too long"),
            ("twin.png", "good.png"),
            ("plain.png", "one colour"),
            ("text.png", "cannot be read"),
            ("cut.png", "cannot be read"),
            ("other", "10_cat"),
            ("1.250_000000001.jsonl", "line 2"),
        ] {
            assert!(said(name, word), "{name} {word}: {:?}", found.findings);
        }
    }

    #[test]
    fn a_folder_without_pictures_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = look_through(folder.path(), 5, "").unwrap_err().to_string();
        assert!(error.contains("no .png"), "{error}");
        std::fs::write(folder.path().join("a.png"), "x").unwrap();
        let error = look_through(folder.path(), 5, "").unwrap_err().to_string();
        assert!(error.contains("a.png"), "{error}");
        assert!(look_through(&folder.path().join("gone"), 5, "").is_err());
    }
}
