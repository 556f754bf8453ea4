//! The built program from the outside: exit status, messages, and what is on the disk afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{check, desk, draw, golden, import, program, stderr};
use infinity::recipe::read_recipe;

/// Names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_picture_carries_its_recipe_and_is_drawn_again_from_it() {
    let desk = desk();
    let args = [
        "a bowl of cherries",
        "--seed",
        "7",
        "--ratio",
        "3:2",
        "--cfg",
        "2,3,4",
        "--negative",
        "grey wall",
    ];
    for name in ["one.png", "deep/er/two.png"] {
        let output = draw(desk.path(), &[args.as_slice(), &["--out", name]].concat());
        check(&output, 0, &["48×32", "seed 7"]);
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), name);
    }
    let first = std::fs::read(desk.path().join("one.png")).unwrap();
    assert_eq!(
        first,
        std::fs::read(desk.path().join("deep/er/two.png")).unwrap()
    );
    let recipe = read_recipe(&desk.path().join("one.png")).unwrap();
    assert_eq!((recipe.spec.seed, recipe.width, recipe.height), (7, 48, 32));
    assert_eq!(
        (recipe.spec.cfg, recipe.spec.ratio),
        (vec![2.0, 3.0, 4.0], 0.666)
    );
    assert_eq!(recipe.spec.negative_prompt, "grey wall");
}

#[test]
fn a_file_of_prompts_becomes_numbered_pictures() {
    let desk = desk();
    std::fs::write(desk.path().join("lines.txt"), "a red house\n\n🏠 בית\n").unwrap();
    check(
        &draw(
            desk.path(),
            &[
                "--prompts",
                "lines.txt",
                "--out",
                "cards",
                "--steps-out",
                "steps",
            ],
        ),
        0,
        &[],
    );
    assert_eq!(names(&desk.path().join("cards")), ["001.png", "002.png"]);
    assert_eq!(names(&desk.path().join("steps")).len(), 6);
    assert_eq!(
        read_recipe(&desk.path().join("cards/002.png"))
            .unwrap()
            .spec
            .prompt,
        "🏠 בית"
    );
    check(
        &draw(desk.path(), &["--prompts", "lines.txt", "--out", "a.png"]),
        2,
        &["folder"],
    );
    std::fs::write(desk.path().join("lines.txt"), " \n").unwrap();
    check(
        &draw(desk.path(), &["--prompts", "lines.txt", "--out", "none"]),
        1,
        &["no prompt", "lines.txt"],
    );
    check(
        &draw(desk.path(), &["--prompts", "absent.txt"]),
        1,
        &["absent.txt"],
    );
    assert!(!desk.path().join("none").exists());
}

#[test]
fn odd_wishes_are_done_and_said() {
    let desk = desk();
    check(&draw(desk.path(), &["", "--out", "empty.png"]), 0, &[]);
    check(
        &draw(desk.path(), &["x", "--ratio", "1024x768", "--out", "a.png"]),
        0,
        &["note: 1024×768 was asked for"],
    );
    check(
        &draw(desk.path(), &["x", "--ratio", "9", "--out", "a.png"]),
        0,
        &["note: The nearest shape"],
    );
    let long = "a red house ".repeat(1700);
    check(
        &draw(desk.path(), &[&long, "--out", "long.png"]),
        0,
        &["note: The prompt is too long"],
    );
    check(
        &draw(desk.path(), &["a boat, at night!", "--seed", "3"]),
        0,
        &[],
    );
    check(
        &draw(desk.path(), &["a boat, at night!", "--seed", "3"]),
        0,
        &[],
    );
    let found = names(desk.path());
    let wanted = [
        "a-boat-at-night-3 2.png",
        "a-boat-at-night-3.png",
        "a.png",
        "empty.png",
        "long.png",
        "model",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn meaningless_settings_are_refused() {
    let desk = desk();
    for (args, word) in [
        (["--cfg", "nan"], "CFG"),
        (["--cfg", "-1"], "CFG"),
        (["--cfg", "1,2"], "list of 2"),
        (["--tau", "0"], "tau"),
        (["--tau", "inf"], "tau"),
        (["--ratio", "nan"], "ratio"),
        (["--ratio", "0"], "ratio"),
        (["--top-p", "nan"], "top-p"),
    ] {
        check(&draw(desk.path(), &["x", args[0], args[1]]), 1, &[word]);
    }
    let fourteen = program()
        .current_dir(desk.path())
        .args(["draw", "x", "--model", "model", "--scales", "14"])
        .output();
    check(&fourteen.unwrap(), 1, &["scales"]);
    assert_eq!(names(desk.path()), ["model"]);
}

#[test]
fn wrong_arguments_end_with_two() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        ["draw"].as_slice(),
        &["nonsense"],
        &["draw", "x", "--cfg", "three"],
        &["draw", "x", "--ratio", "wide"],
        &["draw", "x", "--pn", "3M"],
        &["draw", "x", "--device", "toaster"],
        &["draw", "x", "--seed", "-1"],
        &["draw", "x", "--scales", "3", "--pn", "1M"],
        &["draw", "x", "--prompts", "y"],
        &["trace", "-o", "x"],
        &["bench", "--preset", "huge"],
        &["import"],
    ] {
        let output = program()
            .current_dir(folder.path())
            .args(args)
            .output()
            .unwrap();
        check(&output, 2, &["error: "]);
    }
    for args in [
        ["--help"].as_slice(),
        &["draw", "--help"],
        &["import", "--help"],
        &["trace", "--help"],
        &["bench", "--help"],
        &["--version"],
    ] {
        let output = program().args(args).output().unwrap();
        check(&output, 0, &[]);
        assert!(!output.stdout.is_empty());
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn places_that_cannot_be_written_are_said_first() {
    let desk = desk();
    std::fs::create_dir(desk.path().join("taken.png")).unwrap();
    std::fs::write(desk.path().join("file"), "kept").unwrap();
    check(
        &draw(desk.path(), &["x", "--out", "taken.png"]),
        1,
        &["taken.png", "folder"],
    );
    check(&draw(desk.path(), &["x", "--out", "file"]), 1, &["file"]);
    check(
        &draw(desk.path(), &["x", "--out", "file/a.png"]),
        1,
        &["cannot be written to"],
    );
    check(&draw(desk.path(), &["x", "--out", "a.jpg"]), 1, &["PNG"]);
    check(
        &draw(desk.path(), &["x", "--steps-out", "file"]),
        1,
        &["file"],
    );
    assert_eq!(std::fs::read(desk.path().join("file")).unwrap(), b"kept");
    assert_eq!(names(desk.path()), ["file", "model", "taken.png"]);
}

#[test]
fn models_that_are_none_are_refused() {
    let desk = desk();
    let with = |model: &str| {
        program()
            .current_dir(desk.path())
            .args(["draw", "x", "--device", "cpu", "--model", model])
            .output()
            .unwrap()
    };
    check(&with("absent"), 1, &["absent"]);
    check(&with("."), 1, &["model.json"]);
    let part = desk.path().join("model/transformer.safetensors");
    let bytes = std::fs::read(&part).unwrap();
    std::fs::write(&part, &bytes[..bytes.len() - 9]).unwrap();
    check(&with("model"), 1, &["transformer.safetensors"]);
    std::fs::write(&part, b"not weights at all").unwrap();
    check(&with("model"), 1, &["transformer.safetensors"]);
    std::fs::write(
        desk.path().join("model/model.json"),
        r#"{"kind": "other", "format": 1}"#,
    )
    .unwrap();
    check(&with("model"), 1, &["other"]);
    check(
        &draw(desk.path(), &["x", "--device", "gpu:99"]),
        2,
        &["device"],
    );
    assert_eq!(names(desk.path()), ["model"]);
}

#[test]
fn nothing_is_left_of_a_failed_import() {
    let desk = desk();
    check(
        &import(desk.path(), "infinity-open", "model"),
        1,
        &["not empty", "model"],
    );
    check(
        &import(desk.path(), "var-open", "var"),
        1,
        &["vae.pth", "shapes"],
    );
    // A checkpoint whose pickle wants to call something.
    let mut command = program();
    let case = golden("infinity-open");
    std::fs::write(
        desk.path().join("evil.pth"),
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
    )
    .unwrap();
    command
        .current_dir(desk.path())
        .args(["import", "--transformer", "evil.pth", "--out", "evil"]);
    command
        .arg("--vae")
        .arg(case.join("vae.pth"))
        .arg("--text")
        .arg(case.join("t5"));
    check(&command.output().unwrap(), 1, &["evil.pth"]);
    assert_eq!(names(desk.path()), ["evil.pth", "model"]);
    // An empty folder is a place; an import with 32 bits is twice as long.
    std::fs::create_dir(desk.path().join("empty")).unwrap();
    check(
        &import(desk.path(), "infinity-open-patchify", "empty"),
        0,
        &[],
    );
    assert!(desk.path().join("empty/model.json").is_file());
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let script = "\"$0\" memory --size 2b | true; \"$0\" memory --size 2b | head -1";
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_infinity")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// Runs the program where no file may grow beyond a kilobyte, as on a full disk.
#[cfg(unix)]
fn on_a_full_disk(folder: &Path, args: &str) -> Output {
    let script = format!("ulimit -f 2; trap '' XFSZ; exec \"$0\" {args}");
    Command::new("sh")
        .current_dir(folder)
        .args(["-c", &script, env!("CARGO_BIN_EXE_infinity")])
        .output()
        .unwrap()
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_no_half_file() {
    let desk = desk();
    let draw = "draw x --model model --device cpu --scales 4 --out a.png";
    std::fs::write(desk.path().join("a.png"), "the picture before").unwrap();
    check(&on_a_full_disk(desk.path(), draw), 1, &["a.png"]);
    assert_eq!(
        std::fs::read(desk.path().join("a.png")).unwrap(),
        b"the picture before"
    );
    check(
        &on_a_full_disk(
            desk.path(),
            "trace --model model --device cpu --scales 3 --prompt x -o t.safetensors",
        ),
        1,
        &["t.safetensors"],
    );
    let case = golden("infinity-open");
    let case = case.display();
    let import = format!(
        "import --transformer {case}/transformer.pth --vae {case}/vae.pth --text {case}/t5 --out new"
    );
    check(&on_a_full_disk(desk.path(), &import), 1, &["new"]);
    assert_eq!(names(desk.path()), ["a.png", "model"]);
}

#[test]
fn without_a_display_the_window_says_what_to_do() {
    if cfg!(all(unix, not(target_os = "macos"))) {
        check(
            &program().output().unwrap(),
            1,
            &["no display", "infinity draw"],
        );
    }
}

#[test]
fn traces_and_devices_are_written() {
    let desk = desk();
    let run = |args: &[&str]| {
        program()
            .current_dir(desk.path())
            .args(args)
            .output()
            .unwrap()
    };
    let trace = [
        "trace", "--model", "model", "--device", "cpu", "--scales", "3", "--greedy",
    ];
    check(
        &run(&[
            trace.as_slice(),
            &["--prompt", "a bowl", "-o", "gen.safetensors"],
        ]
        .concat()),
        0,
        &["tensors"],
    );
    let bytes = std::fs::read(desk.path().join("gen.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&bytes[8..6000]).into_owned();
    for name in [
        "gen/s1/input_features",
        "gen/s2/logits",
        "gen/s2/bits",
        "gen/s0/summed_codes",
        "gen/final_codes",
        "gen/image01",
    ] {
        assert!(header.contains(name), "{name}");
    }
    check(&draw(desk.path(), &["x", "--out", "a.png"]), 0, &[]);
    check(
        &run(&[
            trace.as_slice(),
            &["--image", "a.png", "-o", "vae.safetensors"],
        ]
        .concat()),
        0,
        &["tensors"],
    );
    check(
        &run(&[
            trace.as_slice(),
            &["--image", "gen.safetensors", "-o", "none"],
        ]
        .concat()),
        1,
        &["picture"],
    );
    assert!(!desk.path().join("none").exists());
    let devices = run(&["devices"]);
    check(&devices, 0, &[]);
    assert!(
        String::from_utf8(devices.stdout)
            .unwrap()
            .contains("processor")
    );
}

/// What a published size takes is computed without its weights; other sizes are refused.
#[test]
fn memory_is_computed_for_models_that_are_not_there() {
    let run = |arguments: &[&str]| {
        let output = program().arg("memory").args(arguments).output().unwrap();
        (String::from_utf8(output.stdout.clone()).unwrap(), output)
    };
    let (text, output) = run(&["--size", "2b", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    let total = |row: &serde_json::Value, what: &str| -> u64 {
        let parts = row[what]["parts"].as_array().unwrap();
        parts
            .iter()
            .map(|part| part["bytes"].as_u64().unwrap())
            .sum()
    };
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert!(total(&rows[0], "drawing") < total(&rows[3], "drawing"));
    assert!(
        rows.iter()
            .all(|row| total(row, "teaching by block") < total(row, "teaching"))
    );
    let (half, _) = run(&["--size", "2b", "--half", "--json"]);
    let half: serde_json::Value = serde_json::from_str(&half).unwrap();
    assert!(total(&half[3], "drawing") < total(&rows[3], "drawing"));
    let (text, _) = run(&["--size", "2b"]);
    assert!(
        text.contains("2204564032 weights") && text.contains("0.25M"),
        "{text}"
    );
    let (_, output) = run(&["--size", "3b"]);
    check(&output, 2, &["3b", "8b"]);
}
