//! The built program, and how it ended.
#![allow(
    unreachable_pub,
    reason = "each test that includes this is a crate of its own"
)]

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
