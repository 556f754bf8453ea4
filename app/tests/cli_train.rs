//! Training and fine-tuning from the outside: killed, gone on with, drawn as curves, refused.
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
use std::process::Command;

use common::{check, program, stderr};
use infinity::recipe::read_recipe;

const TOKENIZER: &str = r#"{
  "kind": "vae", "seed": 3,
  "vae": { "codebook_dim": 8, "patch_size": 16, "stem": 8, "base_ch": 24,
    "encoder_res_blocks": 1, "decoder_res_blocks": 1, "encoder_ch_mult": [1, 1], "decoder_ch_mult": [1, 1] },
  "optimizer": { "ema_decay": 0.9, "workers": 2 },
  "phases": [ { "steps": 60, "batch": 2, "scale_count": 3, "ratios": [1.0, 1.5], "learning_rate": [0.002, 0.0] } ],
  "log_every": 3, "save_every": 5
}"#;

fn train(folder: &Path, out: &str) -> Command {
    let mut command = program();
    command.current_dir(folder).args([
        "train", "--config", "vae.json", "--resume", "--device", "cpu", "--out", out,
    ]);
    command.stdout(std::process::Stdio::null());
    command
}

/// Step and gradient norm of every log line, as written. Times differ from run to run, and the loss is a mean
/// since the line before or the stop.
fn logged(folder: &Path) -> Vec<[String; 2]> {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        ["step", "gradient_norm"].map(|name| line[name].to_string())
    };
    text.lines().map(line).collect()
}

/// A run that is killed again and again ends with the same bytes as one that was not, and so does its log.
#[test]
fn a_killed_run_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vae.json"), TOKENIZER).unwrap();
    let begun = std::time::Instant::now();
    assert!(train(folder.path(), "whole").status().unwrap().success());
    let whole = begun.elapsed();
    let mut killed = 0;
    for attempt in 0..40 {
        let mut running = train(folder.path(), "parts").spawn().unwrap();
        // After a tenth to a quarter of a whole run, in no order, so that none gets to the end at once.
        std::thread::sleep(whole.mul_f32(0.1 + 0.01 * (attempt * 7 % 16) as f32));
        if running.try_wait().unwrap().is_some() {
            break;
        }
        running.kill().unwrap();
        running.wait().unwrap();
        killed += 1;
    }
    assert!(killed > 1, "only {killed} runs were killed");
    assert!(train(folder.path(), "parts").status().unwrap().success());
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let weights = |folder: &Path| std::fs::read(folder.join("vae.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&parts));
    assert_eq!(logged(&whole).len(), 20);
    assert_eq!(logged(&whole), logged(&parts));
}

#[test]
fn a_run_is_drawn_as_curves() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let report = |args: &[&str]| {
        let mut command = program();
        command
            .current_dir(folder.path())
            .args(["train", "report"])
            .args(args)
            .output()
            .unwrap()
    };
    check(&report(&["run"]), 1, &["log.jsonl"]);
    let line = r#"{"step":20,"steps":40,"loss":0.5,"learning_rate":0.001,"gradient_norm":0.2,"pictures_per_sec":60.0,"eta_secs":9.0,"bit_accuracy":[0.9,0.8],"scale_loss":[0.4,0.6]}"#;
    std::fs::write(run.join("log.jsonl"), format!("nonsense\n{line}\n")).unwrap();
    check(&report(&["run"]), 1, &["log.jsonl", "line 1"]);
    // A line that was cut off by a stop is no matter.
    std::fs::write(run.join("log.jsonl"), format!("{line}\n{line}\n{{\"st")).unwrap();
    check(&report(&["run", "--out", "curves.txt"]), 2, &["curves.txt"]);
    assert!(report(&["run"]).status.success());
    let svg = std::fs::read_to_string(run.join("report.svg")).unwrap();
    assert!(
        svg.contains("bits right") && svg.contains("scale 2"),
        "{svg}"
    );
    assert!(report(&["run", "--out", "curves.png"]).status.success());
    let picture = image::open(folder.path().join("curves.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (1200, 720));
}

const FINETUNE: &str = r#"{ "rank": 4, "steps": 150, "batch": 1, "scale_count": 3, "prior": 0,
  "optimizer": { "weight_decay": 0, "workers": 1 }, "log_every": 1, "save_every": 4 }"#;

/// A folder of noisy pictures with captions, and settings that are quickly done.
fn own_pictures(folder: &Path) {
    let data = folder.join("mill_pictures");
    std::fs::create_dir(&data).unwrap();
    for index in 0..3_u32 {
        let path = data.join(format!("{index}.png"));
        image::RgbImage::from_fn(90, 80, |x, y| {
            image::Rgb([(x * (index + 2)) as u8, (y * 5) as u8, ((x ^ y) * 3) as u8])
        })
        .save(&path)
        .unwrap();
        std::fs::write(path.with_extension("txt"), "a red mill").unwrap();
    }
    std::fs::write(folder.join("tune.json"), FINETUNE).unwrap();
}

fn finetune(folder: &Path, out: &str) -> Command {
    let mut command = program();
    let args = [
        "--data",
        "mill_pictures",
        "--config",
        "tune.json",
        "--device",
        "cpu",
        "--resume",
        "--out",
        out,
    ];
    command.current_dir(folder).arg("finetune").args(args);
    command.stdout(std::process::Stdio::null());
    command
}

/// Killed up to fifty times, the adapter is the same file as that of a run that was not.
#[test]
fn a_killed_fine_tuning_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    own_pictures(folder.path());
    assert!(finetune(folder.path(), "whole").status().unwrap().success());
    let mut killed = 0;
    for attempt in 0_u64..50 {
        let mut running = finetune(folder.path(), "parts").spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30 + attempt * 89 % 190));
        if running.try_wait().unwrap().is_none() {
            running.kill().unwrap();
            killed += 1;
        }
        running.wait().unwrap();
    }
    assert!(killed > 10, "only {killed} runs were killed");
    assert!(finetune(folder.path(), "parts").status().unwrap().success());
    let lora = |out: &str| std::fs::read(folder.path().join(out).join("lora.safetensors")).unwrap();
    assert!(lora("whole") == lora("parts"));

    // It does not go on as another run, and not among the pictures.
    let refused = |more: &[&str], out: &str| {
        let mut command = finetune(folder.path(), out);
        command.args(more).output().unwrap()
    };
    let other = refused(&["--rank", "8", "--trigger", "zwm"], "whole");
    check(&other, 1, &["another", "rank", "trigger", "checkpoint"]);
    check(&refused(&["--steps", "7"], "whole"), 1, &["150 steps", "7"]);
    check(&refused(&[], "mill_pictures"), 1, &["mill_pictures"]);

    // What it made can be drawn with, worked into a model, and is refused where it does not belong.
    let run = |args: &[&str]| {
        let mut command = program();
        command
            .current_dir(folder.path())
            .args(args)
            .output()
            .unwrap()
    };
    let drawn = |extra: &[&str], out: &str| {
        let usual = [
            "draw",
            "a red mill",
            "--seed",
            "1",
            "--device",
            "cpu",
            "--out",
            out,
        ];
        let output = run(&[&usual[..], extra].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        image::open(folder.path().join(out))
            .unwrap()
            .to_rgb8()
            .into_raw()
    };
    let plain = drawn(&[], "plain.png");
    assert!(drawn(&["--lora", "whole/lora.safetensors=0"], "zero.png") == plain);
    drawn(&["--lora", "whole/lora.safetensors=0.5"], "half.png");
    let recipe = read_recipe(&folder.path().join("half.png")).unwrap();
    assert!((recipe.spec.loras[0].strength - 0.5).abs() < 1e-6);
    let merged = run(&[
        "merge",
        "--lora",
        "whole/lora.safetensors",
        "--out",
        "merged",
    ]);
    assert!(merged.status.success(), "{}", stderr(&merged));
    drawn(&["--model", "merged"], "merged.png");
    let foreign = [
        "draw",
        "a",
        "--model",
        "merged",
        "--lora",
        "whole/lora.safetensors",
    ];
    check(&run(&foreign), 1, &["lora.safetensors", "another"]);
    let taken = [
        "merge",
        "--lora",
        "whole/lora.safetensors",
        "--out",
        "merged",
    ];
    check(&run(&taken), 1, &["merged"]);
}

#[test]
fn folders_without_use_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let finetune = |data: &str, more: &[&str]| {
        let mut command = program();
        let args = [
            "finetune", "--device", "cpu", "--out", "run", "--data", data,
        ];
        command
            .current_dir(folder.path())
            .args(args)
            .args(more)
            .output()
            .unwrap()
    };
    check(&finetune("nowhere", &[]), 1, &["nowhere"]);
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    check(&finetune("empty", &[]), 1, &["empty", "no .png"]);
    own_pictures(folder.path());
    std::fs::write(folder.path().join("mill_pictures/text.png"), "no picture").unwrap();
    let output = finetune("mill_pictures", &["--check", "--config", "tune.json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("left out") && said.contains("text.png"),
        "{said}"
    );
    assert!(said.contains("3 pictures, 3 with words"), "{said}");
    let few = finetune("mill_pictures", &["--config", "tune.json", "--rank", "0"]);
    check(&few, 1, &["rank", "0"]);
    std::fs::write(folder.path().join("bad.json"), "{\"rang\": 3}").unwrap();
    let bad = finetune("mill_pictures", &["--config", "bad.json"]);
    check(&bad, 1, &["bad.json", "rang"]);
    assert!(!folder.path().join("run").exists());
}
