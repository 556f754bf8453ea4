//! The recipe of a picture, kept inside its PNG file.
//!
//! Two text chunks carry it: `parameters` in the widespread form of the
//! Stable Diffusion web interface, for other programs, and `infinity` with
//! everything as JSON, for this one. Files may come from anywhere, so reading
//! is bounded and checks every value. Used by the window and the command line.

mod error;
mod parameters;

pub use error::RecipeError;

use std::io::{BufReader, BufWriter, Read, Seek, Write as _};
use std::path::{Path, PathBuf};

use infinity_engine::api::{GenerateSpec, Rgb8Image};
use serde::{Deserialize, Serialize};

use crate::state::Ancestor;

/// The recipe format this program writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// Chunk with the recipe as JSON.
const OWN_KEYWORD: &str = "infinity";
/// Chunk with the recipe in the widespread form.
const COMMON_KEYWORD: &str = "parameters";
/// Most memory the PNG reader may use before the first pixel, in bytes.
const MAX_DECODER_BYTES: usize = 4 * 1024 * 1024;
/// Most text that is read from one chunk, in bytes.
const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Most bytes of a file that are looked at: text chunks come before the pixels.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Most values of a list with one value per scale.
const MAX_LIST: usize = 64;

/// How a picture was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Number of the form of this record; see [`FORMAT`].
    pub format: u32,
    /// Version of the program that drew the picture; empty when unknown.
    #[serde(default)]
    pub version: String,
    /// Name of the model; empty when unknown.
    #[serde(default)]
    pub model: String,
    /// The wish that was carried out.
    pub spec: GenerateSpec,
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
    /// The pictures it came from, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<Ancestor>,
}

impl Recipe {
    /// The recipe of a picture this program drew.
    pub fn new(model: impl Into<String>, spec: GenerateSpec, image: &Rgb8Image) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: model.into(),
            spec,
            width: image.width,
            height: image.height,
            ancestors: Vec::new(),
        }
    }

    /// The same, of a picture that came from others.
    pub fn from_ancestors(self, ancestors: Vec<Ancestor>) -> Self {
        Self { ancestors, ..self }
    }

    /// The recipe in the form other programs read and people can.
    pub fn to_parameters(&self) -> String {
        parameters::write(self)
    }

    /// Reads the form other programs write; `None` when `text` is something else.
    pub fn from_parameters(text: &str) -> Option<Self> {
        parameters::read(text)
    }

    /// Refuses values that would mean nothing to the engine.
    fn checked(self) -> Result<Self, String> {
        let spec = &self.spec;
        let lists_fine = [&spec.cfg, &spec.tau].into_iter().all(|list| {
            (1..=MAX_LIST).contains(&list.len()) && list.iter().all(|value| value.is_finite())
        });
        let ratio_fine = spec.ratio.is_finite() && (0.02..=50.0).contains(&spec.ratio);
        if !lists_fine {
            return Err("its cfg or tau is not a list of numbers".to_owned());
        }
        if !ratio_fine {
            return Err(format!("its ratio is {}", spec.ratio));
        }
        if self.ancestors.len() > MAX_LIST
            || spec.cfg_insertion_layers.len() > MAX_LIST
            || !spec.top_p.is_finite()
        {
            return Err("its sampling settings make no sense".to_owned());
        }
        Ok(self)
    }
}

/// Writes a picture with its recipe to `path`, replacing what was there.
///
/// The file is written beside its place, synced, then renamed, so that a
/// crash or a full disk never leaves half a picture under that name.
///
/// # Errors
/// [`RecipeError::Write`] with the path.
pub fn write_png(path: &Path, image: &Rgb8Image, recipe: &Recipe) -> Result<(), RecipeError> {
    let failed = |source| RecipeError::Write {
        path: path.to_path_buf(),
        source,
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = encoded_beside(folder, image, recipe).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Writes a picture under a free name in `folder`, which is made when missing.
///
/// The name is `stem.png`, or `stem 2.png` and so on; the path is returned.
///
/// # Errors
/// [`RecipeError::Write`] with the folder.
pub fn write_new_png(
    folder: &Path,
    stem: &str,
    image: &Rgb8Image,
    recipe: &Recipe,
) -> Result<PathBuf, RecipeError> {
    let failed = |source| RecipeError::Write {
        path: folder.to_path_buf(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = encoded_beside(folder, image, recipe).map_err(failed)?;
    for number in 1..10_000 {
        let name = match number {
            1 => format!("{stem}.png"),
            number => format!("{stem} {number}.png"),
        };
        let path = folder.join(name);
        match file.persist_noclobber(&path) {
            Ok(_) => return Ok(path),
            Err(taken) if taken.error.kind() == std::io::ErrorKind::AlreadyExists => {
                file = taken.file;
            }
            Err(error) => return Err(failed(error.error)),
        }
    }
    Err(failed(std::io::ErrorKind::AlreadyExists.into()))
}

/// A short file name without extension for a picture of `prompt`.
pub fn file_stem(prompt: &str, seed: u64) -> String {
    let mut stem = String::new();
    for word in prompt
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if stem.len() + word.len() > 48 {
            break;
        }
        if !stem.is_empty() {
            stem.push('-');
        }
        stem.push_str(&word.to_lowercase());
    }
    if stem.is_empty() {
        stem.push_str("picture");
    }
    format!("{stem}-{seed}")
}

fn encoded_beside(
    folder: &Path,
    image: &Rgb8Image,
    recipe: &Recipe,
) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".infinity-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // A temporary file is private by default; a picture is an ordinary file.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder)?;
    let mut out = BufWriter::new(file.as_file_mut());
    encode(&mut out, image, recipe)?;
    out.flush()?;
    drop(out);
    file.as_file().sync_all()?;
    Ok(file)
}

fn encode(
    out: &mut impl std::io::Write,
    image: &Rgb8Image,
    recipe: &Recipe,
) -> std::io::Result<()> {
    let mut encoder = png::Encoder::new(out, image.width, image.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    let common = recipe.to_parameters();
    if common.chars().all(|c| u32::from(c) < 256) {
        encoder.add_text_chunk(COMMON_KEYWORD.to_owned(), common)?;
    } else {
        // Beyond Latin-1 other programs, too, turn to the international chunk.
        encoder.add_itxt_chunk(COMMON_KEYWORD.to_owned(), common)?;
    }
    let json = serde_json::to_string(recipe).map_err(std::io::Error::other)?;
    encoder.add_text_chunk(OWN_KEYWORD.to_owned(), escaped_to_ascii(&json))?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.pixels)?;
    writer.finish()?;
    Ok(())
}

/// JSON with everything outside ASCII escaped, as a `tEXt` chunk is Latin-1.
fn escaped_to_ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

/// Reads the recipe out of a PNG file: this program's own, else the common form.
///
/// # Errors
/// [`RecipeError`] saying what is wrong with the file.
pub fn read_recipe(path: &Path) -> Result<Recipe, RecipeError> {
    let file = std::fs::File::open(path).map_err(|source| RecipeError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let texts =
        texts(BufReader::new(Bounded::new(file))).map_err(|reason| RecipeError::NotPng {
            reason,
            path: path.to_path_buf(),
        })?;
    let broken = |reason: String| RecipeError::Broken {
        reason,
        path: path.to_path_buf(),
    };
    let text_of = |keyword: &str| {
        texts
            .iter()
            .find(|(name, _)| name == keyword)
            .map(|(_, text)| text.as_str())
    };
    if let Some(json) = text_of(OWN_KEYWORD) {
        let value: serde_json::Value =
            serde_json::from_str(json).map_err(|error| broken(error.to_string()))?;
        let found = value.get("format").and_then(serde_json::Value::as_u64);
        match found {
            Some(found) if found == u64::from(FORMAT) => {}
            Some(found) => {
                return Err(RecipeError::UnknownFormat {
                    found,
                    path: path.to_path_buf(),
                });
            }
            None => return Err(broken("it names no format".to_owned())),
        }
        let recipe: Recipe =
            serde_json::from_value(value).map_err(|error| broken(error.to_string()))?;
        return recipe.checked().map_err(broken);
    }
    let common = text_of(COMMON_KEYWORD).ok_or_else(|| RecipeError::NoRecipe {
        path: path.to_path_buf(),
    })?;
    Recipe::from_parameters(common)
        .ok_or_else(|| broken("its form is not known".to_owned()))?
        .checked()
        .map_err(broken)
}

/// The text chunks before the pixels: keyword and text.
fn texts(reader: impl std::io::BufRead + Seek) -> Result<Vec<(String, String)>, String> {
    let limits = png::Limits {
        bytes: MAX_DECODER_BYTES,
    };
    let reader = png::Decoder::new_with_limits(reader, limits)
        .read_info()
        .map_err(|error| error.to_string())?;
    let info = reader.info();
    let mut texts: Vec<(String, String)> = Vec::new();
    for chunk in &info.uncompressed_latin1_text {
        texts.push((chunk.keyword.clone(), chunk.text.clone()));
    }
    for chunk in &info.utf8_text {
        let mut chunk = chunk.clone();
        if chunk.decompress_text_with_limit(MAX_TEXT_BYTES).is_ok()
            && let Ok(text) = chunk.get_text()
        {
            texts.push((chunk.keyword.clone(), text));
        }
    }
    for chunk in &info.compressed_latin1_text {
        let mut chunk = chunk.clone();
        if chunk.decompress_text_with_limit(MAX_TEXT_BYTES).is_ok()
            && let Ok(text) = chunk.get_text()
        {
            texts.push((chunk.keyword.clone(), text));
        }
    }
    texts.retain(|(_, text)| text.len() <= MAX_TEXT_BYTES);
    Ok(texts)
}

/// A file that ends after [`MAX_FILE_BYTES`], whatever its real length.
struct Bounded {
    file: std::io::Take<std::fs::File>,
}

impl Bounded {
    fn new(file: std::fs::File) -> Self {
        Self {
            file: file.take(MAX_FILE_BYTES),
        }
    }
}

impl Read for Bounded {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.file.read(buf)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.file.get_mut().seek(to)
    }
}

#[cfg(test)]
mod tests;
