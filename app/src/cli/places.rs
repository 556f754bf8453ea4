//! Where `draw` reads prompts and puts pictures.
//!
//! Places are tried out before the first picture is drawn: nobody shall wait
//! for a picture that cannot be saved.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::CliError;

/// Most bytes of a file of prompts.
const MAX_PROMPTS_BYTES: u64 = 16 << 20;
/// Endings of pictures that this program does not write.
const OTHER_PICTURES: [&str; 8] = ["jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif"];

/// The prompts of a file, one a line.
pub(super) fn prompts_in(path: &Path) -> Result<Vec<String>, CliError> {
    let about =
        std::fs::metadata(path).with_context(|| format!("the prompts cannot be read: {path:?}"))?;
    if !about.is_file() || about.len() > MAX_PROMPTS_BYTES {
        return Err(CliError::failed(format!(
            "the prompts cannot be read (not a text file, or too long): {path:?}"
        )));
    }
    let bytes =
        std::fs::read(path).with_context(|| format!("the prompts cannot be read: {path:?}"))?;
    let text = String::from_utf8(bytes).map_err(|_error| {
        CliError::failed(format!(
            "the prompts are not UTF-8 text. Save the file as UTF-8: {path:?}"
        ))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let prompts: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    if prompts.is_empty() {
        return Err(CliError::failed(format!(
            "there is no prompt in the file. Write one on each line: {path:?}"
        )));
    }
    Ok(prompts)
}

/// Where pictures go.
#[derive(Debug)]
pub(super) struct Places {
    folder: PathBuf,
    file: Option<PathBuf>,
    steps: Option<PathBuf>,
    numbers: bool,
}

impl Places {
    /// Checks what was asked for and makes the folders; `many` pictures are numbered in a folder.
    pub(super) fn new(
        out: Option<&Path>,
        steps: Option<&Path>,
        many: bool,
    ) -> Result<Self, CliError> {
        let out = out.unwrap_or(Path::new("."));
        let ending = out
            .extension()
            .and_then(|ending| ending.to_str())
            .map(str::to_ascii_lowercase);
        let is_picture = ending.as_deref() == Some("png");
        if let Some(other) = ending
            .as_deref()
            .filter(|ending| OTHER_PICTURES.contains(ending))
        {
            return Err(CliError::failed(format!(
                "pictures are written as PNG, not as {other}. Use a name ending in .png: {out:?}"
            )));
        }
        if is_picture && many {
            return Err(CliError::Usage(
                "--prompts draws several pictures; --out must be a folder then".to_owned(),
            ));
        }
        if is_picture && out.is_dir() {
            return Err(CliError::failed(format!(
                "there is a folder of that name. Choose another name: {out:?}"
            )));
        }
        if out.is_file() && !is_picture {
            return Err(CliError::failed(format!(
                "there is a file of that name. Choose a folder, or a name ending in .png: {out:?}"
            )));
        }
        let parent = |path: &Path| {
            path.parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .map(Path::to_owned)
        };
        let folder = if is_picture {
            parent(out).unwrap_or_else(|| ".".into())
        } else {
            out.to_owned()
        };
        for place in [Some(folder.as_path()), steps].into_iter().flatten() {
            try_out(place)?;
        }
        Ok(Self {
            folder,
            file: is_picture.then(|| out.to_owned()),
            steps: steps.map(Path::to_owned),
            numbers: many,
        })
    }

    /// The one file asked for.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The folder of the pictures.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The name of picture `index` of `count`, without ending, when pictures are numbered.
    pub(super) fn numbered(&self, index: usize, count: usize) -> Option<String> {
        let digits = count.to_string().len().max(3);
        self.numbers.then(|| format!("{:0digits$}", index + 1))
    }

    /// Where the picture after scale `index` goes, when scales are wished for.
    pub(super) fn step(&self, numbered: Option<&str>, index: usize) -> Option<PathBuf> {
        let before = numbered.map_or_else(String::new, |number| format!("{number}-"));
        self.steps
            .as_ref()
            .map(|folder| folder.join(format!("{before}scale-{:02}.png", index + 1)))
    }
}

/// Makes a folder and sees whether a file can be written there.
fn try_out(folder: &Path) -> Result<(), CliError> {
    let why = || format!("this folder cannot be written to. Choose another one: {folder:?}");
    std::fs::create_dir_all(folder).with_context(why)?;
    tempfile::Builder::new()
        .prefix(".infinity-")
        .tempfile_in(folder)
        .with_context(why)?;
    Ok(())
}

/// Refuses a folder with a run in it, unless that shall go on.
pub(super) fn refuse_run(out: &Path, resume: bool) -> Result<(), CliError> {
    if resume || !out.join("checkpoint.safetensors").exists() {
        return Ok(());
    }
    Err(CliError::failed(format!(
        "There is a run in this folder already. Go on with --resume or choose another folder: {out:?}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_folders_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("taken.png")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        let places = |name: &str, many| Places::new(Some(&at(name)), None, many);
        assert_eq!(
            places("a/b.png", false).unwrap().file(),
            Some(at("a/b.png").as_path())
        );
        assert_eq!(places("new", false).unwrap().folder(), at("new"));
        assert_eq!(
            places("new", true).unwrap().numbered(11, 20).unwrap(),
            "012"
        );
        for bad in ["taken.png", "a.jpg", "file", "file/c.png"] {
            assert!(
                matches!(places(bad, false), Err(CliError::Failed(_))),
                "{bad}"
            );
        }
        assert!(matches!(places("b.png", true), Err(CliError::Usage(_))));
    }

    #[test]
    fn prompts_are_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prompts.txt");
        std::fs::write(&path, "\u{feff}a red house\r\n\n  בית אדום \n🏠\n").unwrap();
        assert_eq!(
            prompts_in(&path).unwrap(),
            ["a red house", "בית אדום", "🏠"]
        );
        for bad in [b" \n\n".as_slice(), b"\xff\xfe\x00"] {
            std::fs::write(&path, bad).unwrap();
            assert!(prompts_in(&path).is_err());
        }
        assert!(prompts_in(folder.path()).is_err());
    }
}
