//! Model folders: read, written, and refused for a stated reason.

use serde_json::{Value, json};

use super::super::{Defaults, ModelFolder, ModelJson};
use super::*;

fn model() -> ModelJson {
    let defaults = Defaults {
        cfg: 3.0,
        tau: 0.5,
        scale_count: 7,
    };
    let mut model = ModelJson::new(
        "Tiny",
        defaults,
        json!({"depth": 4}),
        json!({"codebook_dim": 16}),
    );
    model.about = "Draws postcards.".to_owned();
    model.example_prompts = vec!["a red boat".to_owned()];
    model
}

/// A folder with empty files where parts belong, and `model.json` as changed by `change`.
fn model_folder(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = folder();
    std::fs::create_dir(folder.path().join("text")).unwrap();
    for name in [
        "transformer.safetensors",
        "vae.safetensors",
        "text/config.json",
        "text/model.safetensors",
        "text/tokenizer.json",
    ] {
        write(&folder, name, b"");
    }
    let mut value = serde_json::to_value(model()).unwrap();
    change(&mut value);
    write(&folder, "model.json", value.to_string().as_bytes());
    folder
}

fn refused(change: impl FnOnce(&mut Value), wanted: &str) {
    let folder = model_folder(change);
    let error = ModelFolder::open(folder.path()).unwrap_err();
    assert!(matches!(error, EngineError::BadModel { .. }), "{error}");
    assert!(error.to_string().contains(wanted), "{error}");
}

#[test]
fn a_description_comes_back() {
    let folder = folder();
    let path = ModelFolder::description_path(folder.path());
    model().write(&path).unwrap();
    assert_eq!(ModelJson::read(&path).unwrap(), model());
}

#[test]
fn a_whole_folder_opens() {
    #[derive(serde::Deserialize)]
    struct Part {
        depth: usize,
    }
    let folder = model_folder(|_| {});
    let opened = ModelFolder::open(folder.path()).unwrap();
    assert_eq!(opened.model, model());
    assert_eq!(opened.path(), folder.path());
    assert_eq!(
        opened.text_tokenizer_path(),
        folder.path().join("text/tokenizer.json")
    );
    assert_eq!(opened.transformer_config::<Part>().unwrap().depth, 4);
    let error = opened.vae_config::<Part>().err().unwrap().to_string();
    assert!(error.contains("vae") && error.contains("depth"), "{error}");
}

#[test]
fn file_names_may_be_left_out_or_chosen() {
    let folder = model_folder(|value| {
        value.as_object_mut().unwrap().remove("files");
    });
    ModelFolder::open(folder.path()).unwrap();
    let folder = model_folder(|value| value["files"] = json!({"vae": "text/model.safetensors"}));
    let opened = ModelFolder::open(folder.path()).unwrap();
    assert_eq!(
        opened.vae_path(),
        folder.path().join("text/model.safetensors")
    );
}

#[test]
fn other_kinds_and_formats_are_refused_by_name() {
    refused(|value| value["kind"] = json!("var"), "\"var\"");
    refused(|value| value["format"] = json!(2), "format is 2");
    refused(
        |value| *value = json!({"kind": "infinity", "format": 9}),
        "format is 9",
    );
    refused(|value| *value = json!({}), "kind");
    refused(|value| *value = json!([1]), "kind");
    refused(|value| value["format"] = Value::Null, "format");
}

#[test]
fn values_without_meaning_are_refused() {
    refused(|value| value["defaults"]["tau"] = json!(0), "tau 0");
    refused(|value| value["defaults"]["cfg"] = json!(-1), "cfg -1");
    refused(|value| value["defaults"]["cfg"] = json!(1e300), "cfg inf");
    refused(
        |value| value["defaults"]["scale_count"] = json!(0),
        "scale_count 0",
    );
    refused(
        |value| value["defaults"]["scale_count"] = json!("seven"),
        "seven",
    );
    for outside in [
        "../vae.safetensors",
        "/etc/passwd",
        "",
        "a/../../b",
        "..\\b",
    ] {
        refused(
            |value| value["files"]["vae"] = json!(outside),
            "inside the model folder",
        );
    }
}

#[test]
fn an_unreadable_description_is_refused() {
    let folder = model_folder(|_| {});
    let path = ModelFolder::description_path(folder.path());
    let long = vec![b' '; 2 << 20];
    let deep = b"[".repeat(100_000);
    for bytes in [b"".as_slice(), b"{", b"\xff\xfe", &long, &deep] {
        std::fs::write(&path, bytes).unwrap();
        assert_refused(ModelFolder::open(folder.path()), &path);
    }
}

#[test]
fn absent_parts_are_named() {
    let folder = model_folder(|_| {});
    let part = folder.path().join("text/tokenizer.json");
    std::fs::remove_file(&part).unwrap();
    assert_refused(ModelFolder::open(folder.path()), &part);
    let empty = self::folder();
    assert_refused(ModelFolder::open(empty.path()), empty.path());
    let file = write(&empty, "file", b"");
    assert_refused(ModelFolder::open(&file), &file);
    let absent = empty.path().join("absent");
    assert_refused(ModelFolder::open(&absent), &absent);
}
