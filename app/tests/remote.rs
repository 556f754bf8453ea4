//! Two processes on one machine: one serves, the other draws with it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// `infinity serve` on a free port; it ends with this value.
struct Serving {
    child: Child,
    address: String,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn serve(key: &Path) -> Serving {
    let mut command = common::program();
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--device",
        "cpu",
        "--key",
    ]);
    command.arg(key).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let address = first.strip_prefix("listening on ").unwrap().to_owned();
    let second = lines.next().unwrap().unwrap();
    assert!(second.contains(&*key.to_string_lossy()), "{second}");
    Serving {
        child,
        address,
        lines,
    }
}

fn draw(address: &str, key: &str, out: &Path) -> Command {
    let mut command = common::program();
    command.args(["draw", "blue sea, a red boat", "--seed", "3", "--device"]);
    command
        .arg(format!("remote:{address}"))
        .arg("--out")
        .arg(out);
    command.env("INFINITY_REMOTE_KEY", key);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn another_process_draws_the_same_picture() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    let mut serving = serve(&key_file);
    let key = std::fs::read_to_string(&key_file).unwrap();
    let there = folder.path().join("there.png");
    let output = draw(&serving.address, &key, &there).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let line = serving.lines.next().unwrap().unwrap();
    assert!(line.starts_with("drawing for 127.0.0.1:"), "{line}");

    let here = folder.path().join("here.png");
    let mut local = common::program();
    local.args([
        "draw",
        "blue sea, a red boat",
        "--seed",
        "3",
        "--device",
        "cpu",
        "--out",
    ]);
    assert!(local.arg(&here).output().unwrap().status.success());
    assert!(std::fs::read(&there).unwrap() == std::fs::read(&here).unwrap());
}

#[test]
fn a_wrong_key_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let serving = serve(&folder.path().join("key"));
    let out = folder.path().join("out.png");
    let output = draw(&serving.address, &"0".repeat(64), &out)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("another key"), "{}", said(&output));
    assert!(!out.exists());
}

#[test]
fn a_server_that_dies_on_the_way_is_an_error_and_the_wish_can_be_had_again() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    let mut serving = serve(&key_file);
    let key = std::fs::read_to_string(&key_file).unwrap();
    let out = folder.path().join("out.png");
    // Large enough to be on its way for a while.
    let mut command = draw(&serving.address, &key, &out);
    command.args(["--scales", "13"]).stderr(Stdio::piped());
    let mut drawing = command.spawn().unwrap();
    let line = serving.lines.next().unwrap().unwrap();
    assert!(line.starts_with("drawing for"), "{line}");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(drawing.try_wait().unwrap().is_none(), "it was too quick");
    serving.child.kill().unwrap();
    let output = drawing.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let words = said(&output);
    assert!(
        words.contains(&serving.address) && words.contains("try again"),
        "{words}"
    );
    assert!(!out.exists());

    let again = serve(&key_file);
    let output = draw(&again.address, &key, &out).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(out.exists());
}
