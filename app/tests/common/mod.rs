//! The built program, and how it ended.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test that includes this is a crate of its own"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infinity"));
    for variable in [
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "WAYLAND_SOCKET",
        "INFINITY_MODEL",
        "INFINITY_LOG",
    ] {
        command.env_remove(variable);
    }
    command
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Ended with `code`, without a panic, with one message that has every one of `words`.
pub fn check(output: &Output, code: i32, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    if code == 1 {
        let messages = text
            .lines()
            .filter(|line| line.starts_with("infinity: "))
            .count();
        assert_eq!(messages, 1, "{text}");
    }
}

/// A folder with a tiny imported model in `model`.
pub fn desk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let output = import(folder.path(), "infinity-open", "model");
    assert!(output.status.success(), "{}", stderr(&output));
    folder
}

pub fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(case)
}

pub fn import(folder: &Path, case: &str, out: &str) -> Output {
    let case = golden(case);
    let name = if case.join("var.pth").exists() {
        "var.pth"
    } else {
        "transformer.pth"
    };
    let mut command = program();
    command
        .current_dir(folder)
        .args(["import", "--pn", "0.06M", "--out", out]);
    command.arg("--transformer").arg(case.join(name));
    command
        .arg("--vae")
        .arg(case.join("vae.pth"))
        .arg("--text")
        .arg(case.join("t5"));
    command.output().unwrap()
}

/// `infinity draw` with the tiny model and three scales.
pub fn draw(folder: &Path, args: &[&str]) -> Output {
    let mut command = program();
    command.current_dir(folder).args([
        "draw", "--model", "model", "--device", "cpu", "--scales", "3",
    ]);
    command.args(args).output().unwrap()
}
