//! The preferences file.
//!
//! Reading never fails: what cannot be read is replaced by its default and
//! becomes a warning. Writing happens in [`crate::tasks`], off the window's
//! thread.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::place::Place;

/// Largest preferences file that is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// Light or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThemeChoice {
    /// As the desktop says.
    #[default]
    System,
    /// Always dark.
    Dark,
    /// Always light.
    Light,
}

/// What the program remembers between two starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Light or dark.
    pub theme: ThemeChoice,
    /// Whether every finished picture is saved without asking.
    pub autosave: bool,
    /// Where pictures are saved; the pictures folder of the desktop when `None`.
    pub folder: Option<PathBuf>,
    /// Whether the field for the negative prompt is open.
    pub negative_open: bool,
    /// Whether the column with the pictures of this session is shown.
    pub recent_open: bool,
    /// Whether what is set scale by scale is shown.
    pub fine_open: bool,
    /// How many drafts are drawn at once.
    pub draft_count: usize,
    /// Where pictures are drawn, as [`Place`] is written.
    pub device: String,
    /// The address of the machine that drew last.
    pub remote: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: ThemeChoice::System,
            autosave: true,
            folder: None,
            negative_open: false,
            recent_open: true,
            fine_open: false,
            draft_count: 16,
            device: Place::default().to_string(),
            remote: String::new(),
        }
    }
}

impl Settings {
    /// Reads the preferences; the second value says what could not be read.
    ///
    /// A missing file is the first start and no problem. A broken field makes
    /// only that field fall back to its default.
    pub fn read(path: &Path) -> (Self, Option<String>) {
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return (Self::default(), None);
            }
            Err(error) => return (Self::default(), Some(warning(&error, path))),
        };
        let mut text = String::new();
        if let Err(error) = file.take(MAX_BYTES).read_to_string(&mut text) {
            return (Self::default(), Some(warning(&error, path)));
        }
        match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(value) => (Self::from_value(&value), None),
            Err(error) => (Self::default(), Some(warning(&error, path))),
        }
    }

    /// Takes every field that makes sense and the default for the others.
    fn from_value(value: &serde_json::Value) -> Self {
        fn field<T: serde::de::DeserializeOwned>(
            value: &serde_json::Value,
            name: &str,
            default: T,
        ) -> T {
            value
                .get(name)
                .and_then(|field| serde_json::from_value(field.clone()).ok())
                .unwrap_or(default)
        }
        let usual = Self::default();
        Self {
            theme: field(value, "theme", usual.theme),
            autosave: field(value, "autosave", usual.autosave),
            folder: field(value, "folder", usual.folder),
            negative_open: field(value, "negative_open", usual.negative_open),
            recent_open: field(value, "recent_open", usual.recent_open),
            fine_open: field(value, "fine_open", usual.fine_open),
            draft_count: field(value, "draft_count", usual.draft_count).clamp(1, 64),
            device: field(value, "device", usual.device),
            remote: field(value, "remote", usual.remote),
        }
    }
}

/// `Infinity` in the user's pictures: where pictures go unless another folder is chosen.
///
/// Reads the desktop's list of folders, so it is called once, before the window opens.
pub fn default_pictures_folder() -> PathBuf {
    let dirs = directories::UserDirs::new();
    let pictures = dirs.as_ref().map(|dirs| {
        dirs.picture_dir()
            .map_or_else(|| dirs.home_dir().join("Pictures"), Path::to_path_buf)
    });
    pictures
        .unwrap_or_else(|| PathBuf::from("."))
        .join("Infinity")
}

/// Where the preferences are kept; `None` when the system names no such folder.
pub fn default_path() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "infinity")?;
    Some(dirs.config_dir().join("settings.json"))
}

/// Where it is noted which graphics devices computed right; `None` when the system names no such folder.
pub fn passed_path() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "infinity")?;
    Some(dirs.cache_dir().join("devices.txt"))
}

/// Where the key lies that lets other machines draw here, and this one there; `None` when the system names no such folder.
pub fn remote_key_path() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "infinity")?;
    Some(dirs.config_dir().join("remote-key"))
}

fn warning(error: &dyn std::fmt::Display, path: &Path) -> String {
    format!(
        "The preferences could not be read ({error}), so the usual ones are used: {}",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &Settings, warns: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        std::fs::write(&path, text).unwrap();
        let (settings, warning) = Settings::read(&path);
        assert_eq!(&settings, expected, "{text}");
        assert_eq!(warning.is_some(), warns, "{text}");
    }

    #[test]
    fn reading_is_tolerant() {
        let usual = Settings::default();
        check("{}", &usual, false);
        check("not json", &usual, true);
        check("[1, 2]", &usual, false);
        let dark = Settings {
            theme: ThemeChoice::Dark,
            ..usual.clone()
        };
        check(
            r#"{"theme": "dark", "autosave": 7, "later": 1}"#,
            &dark,
            false,
        );
        let missing = Settings::read(Path::new("/nowhere/at/all.json"));
        assert_eq!(missing, (usual, None));
    }
}
