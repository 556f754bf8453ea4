#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]
//! Training runs: stopping and going on equals not stopping, and the loss falls.

use std::cell::Cell;
use std::path::Path;

use infinity_engine::api::{DeviceChoice, EngineError};
use infinity_engine::device;
use infinity_engine::generate::Bundle;
use infinity_engine::postcards::{Postcard, Split, paint};
use infinity_engine::train::checkpoint::Checkpoint;
use infinity_engine::train::{Limits, Progress, TrainConfig, open_vae, run};
use infinity_engine::weights::Network;

const VAE: &str = r#"{
  "kind": "vae", "seed": 3,
  "vae": { "codebook_dim": 8, "patch_size": 16, "stem": 8, "base_ch": 24,
    "encoder_res_blocks": 1, "decoder_res_blocks": 1, "encoder_ch_mult": [1, 1], "decoder_ch_mult": [1, 1] },
  "optimizer": { "ema_decay": 0.9, "workers": 2, "precision": "half" },
  "phases": [ { "steps": STEPS, "batch": 2, "scale_count": 3, "ratios": [1.0, 1.5], "learning_rate": [0.002, 0.002], "recolour": 0.5, "scribble": 0.2, "grade": 0.3 } ],
  "log_every": 1, "save_every": 1000
}"#;

const TRANSFORMER: &str = r#"{
  "kind": "transformer", "seed": 3, "vae_folder": "VAE",
  "transformer": { "depth": 2, "width": 32, "heads": 2, "mlp_hidden": 64, "block_chunks": 1,
    "text_channels": 128, "text_maxlen": 64, "codebook_dim": 8, "patchify": false },
  "text": { "d_model": 128, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "vocab_size": 0 },
  "loss": { "caption_steps": 3, "pool": 40, "stars": 4.0 },
  "optimizer": { "ema_decay": 0.9, "workers": 2, "precision": "half" },
  "phases": [ { "steps": STEPS, "batch": 3, "scale_count": 3, "first_scales": [2, 3], "finish": 0.4, "finish_from": 1, "starry": 0.4, "ratios": [1.0], "learning_rate": [0.002, 0.002] } ],
  "log_every": 1, "save_every": 1000
}"#;

fn config(text: &str, steps: u32, vae: &Path) -> TrainConfig {
    let text = text
        .replace("STEPS", &steps.to_string())
        .replace("VAE", vae.to_str().unwrap());
    serde_json::from_str(&text).unwrap()
}

/// Runs `config` into `out`, stopping after `stop` updates, and returns the losses.
fn train(
    config: &TrainConfig,
    out: &Path,
    resume: bool,
    stop: u64,
) -> Result<Vec<f32>, EngineError> {
    let device = device::open(DeviceChoice::Cpu)?;
    let made = Cell::new(0);
    let limits = Limits {
        resume,
        until: None,
        cancelled: &|| made.get() >= stop,
    };
    let mut losses = Vec::new();
    run(config, &device, out, &limits, &mut |progress| {
        if let Progress::Line(line) = progress {
            made.set(made.get() + 1);
            losses.push(line.loss);
        }
    })?;
    Ok(losses)
}

fn same_after_stop(text: &str, vae: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let config = config(text, 6, vae);
    let straight = train(&config, &whole, false, 100).unwrap();
    let mut stopped = train(&config, &parts, false, 2).unwrap();
    assert_eq!(stopped.len(), 2);
    stopped.extend(train(&config, &parts, true, 100).unwrap());
    assert_eq!(straight, stopped);
    let load = |folder: &Path| Checkpoint::load(&folder.join("checkpoint.safetensors")).unwrap();
    let (a, b) = (load(&whole), load(&parts));
    assert_eq!(a.step, 6);
    assert_eq!(a.step, b.step);
    assert_eq!(a.state, b.state);
}

fn small_vae(folder: &Path) {
    train(&config(VAE, 2, folder), folder, false, 100).unwrap();
}

#[test]
fn tokenizer_run_resumes_to_the_bit() {
    same_after_stop(VAE, Path::new("unused"));
}

#[test]
fn transformer_run_resumes_to_the_bit() {
    let vae = tempfile::tempdir().unwrap();
    small_vae(vae.path());
    same_after_stop(TRANSFORMER, vae.path());
}

#[test]
fn losses_fall() {
    let vae = tempfile::tempdir().unwrap();
    let losses = train(&config(VAE, 60, vae.path()), vae.path(), false, 1000).unwrap();
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    assert!(mean(&losses[50..]) < 0.7 * mean(&losses[..5]), "{losses:?}");
    let out = tempfile::tempdir().unwrap();
    let losses = train(
        &config(TRANSFORMER, 100, vae.path()),
        out.path(),
        false,
        1000,
    )
    .unwrap();
    assert!(mean(&losses[90..]) < 0.8 * mean(&losses[..5]), "{losses:?}");
    assert!(out.path().join("model/transformer.safetensors").exists());
    assert!(out.path().join("sheet.png").exists());
}

fn values(network: &mut impl Network) -> Vec<Vec<f32>> {
    let slots = network.all_slots();
    let values = slots.list.iter().map(|slot| slot.weight.values().unwrap());
    values.collect()
}

/// At a learning rate of 0 a run that starts from a model ends with the same model.
#[test]
fn runs_start_from_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let [vae, model, again] = ["vae", "model", "again"].map(|name| folder.path().join(name));
    let started = |text: &str, from: &Path| {
        let start = format!("\"seed\": 3, \"start\": {from:?},");
        text.replace("\"seed\": 3,", &start)
            .replace("[0.002, 0.002]", "[0, 0]")
            .replace("\"ema_decay\": 0.9", "\"ema_decay\": 0")
            .replace("\"caption_steps\": 3", "\"caption_steps\": 0")
    };
    let device = device::open(DeviceChoice::Cpu).unwrap();
    small_vae(&vae);
    train(&config(&started(VAE, &vae), 1, &vae), &again, false, 100).unwrap();
    let values = |folder: &Path| values(&mut open_vae(folder, &device.device).unwrap());
    assert!(values(&vae) == values(&again));

    train(&config(TRANSFORMER, 2, &vae), &model, false, 100).unwrap();
    let text = started(TRANSFORMER, &model.join("model"));
    let more = folder.path().join("more");
    train(&config(&text, 1, &vae), &more, false, 100).unwrap();
    let values = |folder: &Path| {
        let mut bundle = Bundle::open(&folder.join("model"), &device).unwrap();
        (
            self::values(&mut bundle.transformer),
            self::values(bundle.text_mut().unwrap()),
            std::fs::read(folder.join("model/text/tokenizer.json")).unwrap(),
        )
    };
    assert!(values(&model) == values(&more));

    // A run may start from the mean of two.
    let other = folder.path().join("other");
    train(&config(TRANSFORMER, 4, &vae), &other, false, 100).unwrap();
    let mixed = text.replace(
        "\"start\"",
        &format!("\"mean_with\": {:?}, \"start\"", other.join("model")),
    );
    train(&config(&mixed, 1, &vae), &again, false, 100).unwrap();
    let (a, b, mean) = (values(&model).0, values(&other).0, values(&again).0);
    let triples = a.iter().flatten().zip(b.iter().flatten());
    let furthest = triples
        .zip(mean.iter().flatten())
        .map(|((a, b), mean)| (0.5 * (a + b) - mean).abs())
        .fold(0.0, f32::max);
    assert!(a != b && furthest < 1e-3, "{furthest}");

    let text = started(VAE, &folder.path().join("nowhere"));
    let error = train(
        &config(&text, 1, &vae),
        &folder.path().join("none"),
        false,
        100,
    );
    assert!(error.unwrap_err().to_string().contains("nowhere"));
}

/// The bits of a picture do not change while only the decoder learns.
#[test]
fn a_decoder_learns_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [vae, again] = ["vae", "again"].map(|name| folder.path().join(name));
    small_vae(&vae);
    let start = format!("\"start\": {vae:?}, \"loss\": {{ \"decoder_only\": true }}, \"phases\"");
    let text = VAE.replace("\"phases\"", &start);
    train(&config(&text, 3, &vae), &again, false, 100).unwrap();
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let [mut before, mut after] =
        [&vae, &again].map(|folder| open_vae(folder, &device.device).unwrap());
    assert!(values(&mut before.encoder) == values(&mut after.encoder));
    assert!(values(&mut before.decoder) != values(&mut after.decoder));
}

#[test]
fn another_network_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    small_vae(folder.path());
    let other = VAE.replace("\"codebook_dim\": 8", "\"codebook_dim\": 16");
    let error = train(&config(&other, 3, folder.path()), folder.path(), true, 100).unwrap_err();
    assert!(error.to_string().contains("conv_out"), "{error}");
}

#[test]
fn a_cut_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    small_vae(folder.path());
    let path = folder.path().join("checkpoint.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = train(&config(VAE, 3, folder.path()), folder.path(), true, 100).unwrap_err();
    assert!(error.to_string().contains("checkpoint"), "{error}");
}

/// A loss that is no number stops the run, says where, and leaves the last checkpoint as it was.
#[test]
fn a_run_that_diverges_says_where_and_keeps_what_was_good() {
    let vae = tempfile::tempdir().unwrap();
    small_vae(vae.path());
    for (text, scale) in [(VAE, false), (TRANSFORMER, true)] {
        let out = tempfile::tempdir().unwrap();
        let good = text.replace("\"save_every\": 1000", "\"save_every\": 2");
        // Two sound updates, then one that throws the weights far away.
        let wild = good.replace(
            "\"phases\": [ {",
            "\"phases\": [ { \"steps\": 2, \"batch\": 2, \"scale_count\": 3, \"ratios\": [1.0], \"learning_rate\": [0.001, 0.001] }, {",
        );
        let wild = wild.replace("[0.002, 0.002]", "[1e30, 1e30]");
        let error = train(&config(&wild, 6, vae.path()), out.path(), false, 100).unwrap_err();
        let message = error.to_string();
        for word in ["step 4", "pictures [", "checkpoint of step 2"] {
            assert!(message.contains(word), "{message}");
        }
        assert_eq!(message.contains("scale 1"), scale, "{message}");
        let saved = Checkpoint::load(&out.path().join("checkpoint.safetensors")).unwrap();
        assert_eq!(saved.step, 2);
        assert!(
            saved
                .state
                .values()
                .flatten()
                .all(|value| value.is_finite())
        );
    }
}

/// Features of plain postcards stay near what they were where they are held to it, though the tokenizer learns other palettes.
#[test]
fn features_are_kept_while_palettes_are_learned() {
    let folder = tempfile::tempdir().unwrap();
    let [vae, free, held] = ["vae", "free", "held"].map(|name| folder.path().join(name));
    train(&config(VAE, 20, &vae), &vae, false, 100).unwrap();
    let device = device::open(DeviceChoice::Cpu).unwrap();
    let features = |folder: &Path| -> Vec<f32> {
        let vae = open_vae(folder, &device.device).unwrap();
        let seen = (0..6).flat_map(|seed| {
            let card = paint(&Postcard::sample(seed, Split::Train), seed, 48, 48);
            let features = vae.encode(vae.pixels(&card));
            features.try_into_vec_as::<f32>().unwrap()
        });
        seen.collect()
    };
    let before = features(&vae);
    let moved = |keep: f32, out: &Path| {
        let loss = format!("\"start\": {vae:?}, \"loss\": {{ \"keep\": {keep:.1} }}, \"phases\"");
        let text = VAE
            .replace("\"phases\"", &loss)
            .replace("\"recolour\": 0.5, \"scribble\": 0.2", "\"recolour\": 0.0");
        train(&config(&text, 40, &vae), out, false, 100).unwrap();
        let after = features(out);
        let squares = before.iter().zip(&after).map(|(a, b)| (a - b).powi(2));
        squares.sum::<f32>() / before.len() as f32
    };
    let (free, held) = (moved(0.0, &free), moved(200.0, &held));
    assert!(held < 0.5 * free, "{held} {free}");
}

/// Every run that made the starter can be asked for again.
#[test]
fn the_starters_runs_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter/training");
    let told = std::fs::read_to_string(folder.join("../README.md")).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        TrainConfig::parse(&text, &path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        // One was tried and not kept.
        count += usize::from(told.contains(&format!("$T/{name}")));
    }
    assert_eq!(count, told.matches("infinity train --config").count());
}
