//! Which files of a folder are meant.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::api::{EngineError, Finding};

/// Endings of picture files that are read.
const PICTURE_ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Longest list that is read.
const MOST_LIST: u64 = 1 << 26;

/// A picture file, the words of the list it is in, and how often it counts.
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) caption: Option<String>,
    pub(super) repeats: usize,
}

/// One line of a published list, `<ratio>_<count>.jsonl`.
#[derive(Deserialize)]
struct ListLine {
    image_path: PathBuf,
    #[serde(default)]
    text: String,
    #[serde(default)]
    long_caption: String,
}

fn ending(path: &Path) -> String {
    let end = path.extension().and_then(|end| end.to_str());
    end.unwrap_or("").to_lowercase()
}

fn is_picture(path: &Path) -> bool {
    PICTURE_ENDINGS.contains(&ending(path).as_str())
}

/// Files and folders in `folder` by name, without following links to folders.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>, EngineError> {
    let failed = |error| EngineError::read(folder, error);
    let mut list = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_folder = entry.file_type().map_err(failed)?.is_dir();
        list.push((entry.path(), is_folder));
    }
    list.sort();
    Ok(list)
}

/// Picture files of `folder`, its `N_name` subfolders and its lists, in the order of their names.
pub(super) fn candidates(
    folder: &Path,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Candidate>, EngineError> {
    let mut list = Vec::new();
    for (path, is_folder) in entries(folder)? {
        if is_folder {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("");
            let repeats = name
                .split_once('_')
                .and_then(|(count, _)| count.parse().ok());
            // A folder that cannot be read is passed over like one without pictures.
            let inner = entries(&path).unwrap_or_default();
            let mut pictures = inner
                .into_iter()
                .map(|(path, _)| path)
                .filter(|path| is_picture(path));
            if let Some(repeats @ 1..=10_000) = repeats {
                list.extend(pictures.map(|path| Candidate {
                    path,
                    caption: None,
                    repeats,
                }));
            } else if pictures.next().is_some() {
                let what = "pictures in a subfolder are taken only when its name starts with how often they count, as 10_cat";
                findings.push(Finding {
                    path,
                    what: what.to_owned(),
                    left_out: true,
                });
            }
        } else if is_picture(&path) {
            list.push(Candidate {
                caption: None,
                repeats: 1,
                path,
            });
        } else if ending(&path) == "jsonl" {
            list.extend(listed(&path, folder, findings));
        }
    }
    Ok(list)
}

/// Pictures of a list; what cannot be read of it goes to the findings.
fn listed(path: &Path, folder: &Path, findings: &mut Vec<Finding>) -> Vec<Candidate> {
    let mut tell = |what: String| {
        findings.push(Finding {
            path: path.to_owned(),
            what,
            left_out: true,
        });
    };
    let fits =
        std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() <= MOST_LIST);
    if !fits {
        tell("this list is too long to be read, or no file".to_owned());
        return Vec::new();
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            tell(format!("this list cannot be read ({error})"));
            return Vec::new();
        }
    };
    let mut list = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<ListLine>(line) {
            Ok(line) => list.push(Candidate {
                path: folder.join(line.image_path),
                caption: Some(if line.text.is_empty() {
                    line.long_caption
                } else {
                    line.text
                }),
                repeats: 1,
            }),
            Err(error) => tell(format!(
                "line {} of this list cannot be read: {error}",
                index + 1
            )),
        }
    }
    list
}
