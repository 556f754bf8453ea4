#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and says aloud what it could not try"
)]
//! The program as a user has it: a real window on a virtual display, the real
//! engine on the processor, one keypress, a picture on disk.
//!
//! Needs `Xvfb` and `xdotool`; without them it says so and passes.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that ends with the test.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Starts a display of 1280×800 whose pixels lie in a file under `folder`.
fn start_display(folder: &Path) -> (Owned, String) {
    let mut child = Command::new("Xvfb")
        .args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1280x800x24",
            "-nolisten",
            "tcp",
            "-fbdir",
        ])
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut number = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut number)
        .unwrap();
    (Owned(child), format!(":{}", number.trim()))
}

/// Number of different byte values on the screen: 1 or 2 when nothing is shown.
fn colours(folder: &Path) -> usize {
    let pixels = std::fs::read(folder.join("Xvfb_screen0")).unwrap_or_default();
    let mut seen = [false; 256];
    for &byte in pixels.iter().skip(4096) {
        seen[usize::from(byte)] = true;
    }
    seen.iter().filter(|&&s| s).count()
}

fn pngs(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(pngs(&path));
        } else if path.extension().is_some_and(|e| e == "png") {
            found.push(path);
        }
    }
    found
}

fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            eprintln!("{what}: after {:.1} s", start.elapsed().as_secs_f32());
            return found;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_keypress_in_a_real_window_draws_a_picture() {
    for program in ["Xvfb", "xdotool"] {
        if !is_there(program) {
            eprintln!("SKIPPED: {program} is not installed, so no real window was opened");
            return;
        }
    }
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter");
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let pictures = home.join("Pictures");
    std::fs::create_dir_all(home.join(".config")).unwrap();
    std::fs::create_dir_all(&pictures).unwrap();
    std::fs::write(
        home.join(".config/user-dirs.dirs"),
        "XDG_PICTURES_DIR=\"$HOME/Pictures\"\n",
    )
    .unwrap();
    let (_display, name) = start_display(folder.path());
    let program = Command::new(env!("CARGO_BIN_EXE_infinity"))
        .args(["--device", "cpu", "--model"])
        .arg(&starter)
        .env("HOME", &home)
        .env("DISPLAY", &name)
        .env("XDG_RUNTIME_DIR", folder.path())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME")
        .env_remove("WAYLAND_DISPLAY")
        .spawn()
        .unwrap();
    let mut program = Owned(program);
    wait_for("window shown", Duration::from_secs(60), || {
        (colours(folder.path()) > 8).then_some(())
    });
    let mut last_press = None::<Instant>;
    let picture = wait_for("picture saved", Duration::from_secs(120), || {
        assert!(
            program.0.try_wait().unwrap().is_none(),
            "the window closed by itself"
        );
        if last_press.is_none_or(|at| at.elapsed() > Duration::from_secs(3)) {
            last_press = Some(Instant::now());
            // Without a window manager nobody gives the window the keyboard.
            let keys = Command::new("xdotool")
                .args(["search", "--onlyvisible", "--name", "^Infinity$"])
                .args(["windowfocus", "--sync", "key", "ctrl+Return"])
                .env("DISPLAY", &name)
                .status();
            assert!(keys.unwrap().success());
        }
        pngs(&pictures).into_iter().next()
    });
    let recipe = infinity::recipe::read_recipe(&picture).unwrap();
    assert!(!recipe.spec.prompt.is_empty());
    let image = image::open(&picture).unwrap();
    assert_eq!(
        (image.width(), image.height()),
        (recipe.width, recipe.height)
    );
}
