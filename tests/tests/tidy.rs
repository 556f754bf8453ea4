//! Rules of the house that a machine can check: who names whom, file length, module docs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

fn all() -> Vec<(PathBuf, String)> {
    [
        "engine/src",
        "app/src",
        "app/tests",
        "tests/src",
        "tests/tests",
    ]
    .iter()
    .flat_map(|folder| sources(&root().join(folder)))
    .collect()
}

/// Lines of code that name one of `words`, comments left out.
fn naming(text: &str, words: &[&str]) -> Vec<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.filter(|line| words.iter().any(|word| line.contains(word)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_window_and_the_engine_are_strangers() {
    for (path, text) in sources(&root().join("engine/src")) {
        let named = naming(&text, &["egui", "eframe", "rfd::"]);
        assert!(named.is_empty(), "{path:?} names the window: {named:?}");
    }
    for (path, text) in sources(&root().join("app/src")) {
        let mut strangers = vec!["burn::", "wgpu::", "Tensor"];
        let is_window = !path.components().any(|part| part.as_os_str() == "cli");
        if is_window {
            strangers.extend([
                "infinity_engine::train",
                "infinity_engine::model",
                "infinity_engine::vae",
            ]);
        }
        let named = naming(&text, &strangers);
        assert!(
            named.is_empty(),
            "{path:?} names what only the engine may: {named:?}"
        );
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in all() {
        assert!(
            text.lines().any(|line| line.starts_with("//!")),
            "{path:?} has no module docs"
        );
    }
}

#[test]
fn files_are_short() {
    let long: Vec<String> = all()
        .into_iter()
        .filter(|(_, text)| text.lines().count() > MAX_LINES)
        .map(|(path, text)| format!("{path:?}: {} lines", text.lines().count()))
        .collect();
    assert!(long.is_empty(), "split these: {long:#?}");
}
