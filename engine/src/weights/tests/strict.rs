//! Names and shapes must fit, all of them, before anything is loaded.

use super::super::check;
use super::*;
use crate::api::KeyProblems;

const WEIGHT: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
const BIAS: [f32; 3] = [7.0, 8.0, 9.0];

/// Loads a file of `tensors` and says what did not fit.
fn problems(tensors: &[(&str, &[usize], &[f32])]) -> KeyProblems {
    let folder = folder();
    let path = write(&folder, "tiny.safetensors", &safetensors(tensors));
    let mut tiny = Tiny::new(1);
    let before = tiny.values();
    match load(&mut tiny, &path) {
        Ok(()) => {
            assert_eq!(tiny.values(), [WEIGHT.as_slice(), &BIAS].concat());
            KeyProblems::default()
        }
        Err(EngineError::BadWeights {
            problems,
            path: named,
        }) => {
            assert_eq!(named, path);
            assert_eq!(
                tiny.values(),
                before,
                "a refused file must leave the network alone"
            );
            problems
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn everything_wrong_is_listed_at_once() {
    let found = problems(&[
        ("conv_in.conv.bias", &[2], &[0.0; 2]),
        ("mask", &[5], &[0.0; 5]),
        ("stranger", &[1], &[0.0]),
        ("visitor", &[1], &[f32::NAN]),
    ]);
    assert_eq!(found.missing, ["conv_in.conv.weight"]);
    assert_eq!(found.unexpected, ["stranger", "visitor"]);
    assert_eq!(
        found.misshapen,
        [
            "conv_in.conv.bias (wanted [3], found [2])",
            "mask (wanted [4], found [5])"
        ]
    );
}

#[test]
fn both_spellings_fit() {
    let none = KeyProblems::default();
    assert_eq!(
        problems(&[
            ("conv_in.conv.weight", &[2, 3], &WEIGHT),
            ("conv_in.conv.bias", &[3], &BIAS)
        ]),
        none
    );
    assert_eq!(
        problems(&[
            ("conv_in.weight", &[2, 3], &WEIGHT),
            ("conv_in.bias", &[3], &BIAS)
        ]),
        none
    );
    assert_eq!(
        problems(&[
            ("conv_in.weight", &[2, 3], &WEIGHT),
            ("conv_in.conv.bias", &[3], &BIAS)
        ]),
        none
    );
}

#[test]
fn one_name_in_both_spellings_is_one_too_many() {
    let found = problems(&[
        ("conv_in.conv.weight", &[2, 3], &WEIGHT),
        ("conv_in.weight", &[2, 3], &[0.0; 6]),
        ("conv_in.bias", &[3], &BIAS),
    ]);
    assert_eq!(found.unexpected, ["conv_in.weight"]);
}

#[test]
fn buffers_and_companions_are_passed_over() {
    let found = problems(&[
        ("conv_in.weight", &[2, 3], &WEIGHT),
        ("conv_in.bias", &[3], &BIAS),
        ("mask", &[4], &[f32::NAN; 4]),
        ("perceptual_model.lin0.weight", &[1], &[0.0]),
        ("quantizer.lfq.mask", &[1], &[0.0]),
    ]);
    assert_eq!(found, KeyProblems::default());
}

#[test]
fn spellings_of_tokenizer_names() {
    let check = |name: &str, spelled: &str| {
        assert_eq!(KeyMap::vae().spelled(name), spelled);
        assert_eq!(KeyMap::vae().spelled(spelled), spelled, "spelling is final");
    };
    check("encoder.conv_in.conv.weight", "encoder.conv_in.weight");
    check(
        "encoder.down.0.block.1.norm1.norm.bias",
        "encoder.down.0.block.1.norm1.bias",
    );
    check(
        "encoder.down.0.block.1.conv2.conv.bias",
        "encoder.down.0.block.1.conv2.bias",
    );
    check(
        "decoder.up.1.block.0.nin_shortcut.conv.weight",
        "decoder.up.1.block.0.nin_shortcut.weight",
    );
    check(
        "decoder.up.1.upsample.conv.conv.weight",
        "decoder.up.1.upsample.conv.weight",
    );
    check("decoder.norm_out.norm.weight", "decoder.norm_out.weight");
    check("conv.weight", "conv.weight");
    check("", "");
    check("..", "..");
}

#[test]
fn text_files_may_carry_a_decoder_and_two_names_for_the_embedding() {
    let map = KeyMap::text();
    assert_eq!(
        map.spelled("encoder.embed_tokens.weight"),
        map.spelled("shared.weight")
    );
    assert!(map.passes_over("decoder.block.0.layer.0.layer_norm.weight"));
    assert!(map.passes_over("lm_head.weight"));
    assert!(!map.passes_over("encoder.block.0.layer.0.layer_norm.weight"));
}

#[test]
fn published_names_are_taken_as_they_are() {
    let folder = folder();
    let bytes = safetensors(&[
        ("conv_in.weight", &[2, 3], &WEIGHT),
        ("conv_in.bias", &[3], &BIAS),
    ]);
    let path = write(&folder, "tiny.safetensors", &bytes);
    let file = WeightFile::open(&path).unwrap();
    assert!(check(&mut Tiny::new(1), &file, &KeyMap::published()).is_err());
    assert!(check(&mut Tiny::new(1), &file, &KeyMap::vae()).is_ok());
}

#[test]
fn a_weight_that_is_not_a_number_is_named() {
    let folder = folder();
    let bytes = safetensors(&[
        ("conv_in.weight", &[2, 3], &WEIGHT),
        ("conv_in.bias", &[3], &[1.0, f32::NEG_INFINITY, 2.0]),
    ]);
    let path = write(&folder, "tiny.safetensors", &bytes);
    let error = load(&mut Tiny::new(1), &path).unwrap_err();
    assert!(matches!(error, EngineError::NotFinite { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("conv_in.bias") && text.contains("tiny.safetensors"),
        "{text}"
    );
}

/// Writes two shards and an index of `map`, and opens the index.
fn sharded(folder: &tempfile::TempDir, map: &str) -> Result<WeightFile, EngineError> {
    write(
        folder,
        "model-1.safetensors",
        &safetensors(&[("conv_in.weight", &[2, 3], &WEIGHT)]),
    );
    write(
        folder,
        "model-2.safetensors",
        &safetensors(&[("conv_in.bias", &[3], &BIAS)]),
    );
    let index = format!(r#"{{"metadata": {{"total_size": 36}}, "weight_map": {{{map}}}}}"#);
    WeightFile::open(write(
        folder,
        "model.safetensors.index.json",
        index.as_bytes(),
    ))
}

#[test]
fn a_model_in_several_files_is_one() {
    let map = r#""conv_in.weight": "model-1.safetensors", "conv_in.bias": "model-2.safetensors""#;
    let folder = folder();
    sharded(&folder, map).unwrap();
    let mut tiny = Tiny::new(1);
    load(&mut tiny, folder.path()).unwrap();
    assert_eq!(tiny.values(), [WEIGHT.as_slice(), &BIAS].concat());
}

#[test]
fn an_index_must_tell_the_truth() {
    let refused = |map: &str, wanted: &str| {
        let error = sharded(&folder(), map).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    refused(
        r#""conv_in.weight": "model-1.safetensors", "x": "model-2.safetensors""#,
        "missing: x",
    );
    refused(
        r#""conv_in.weight": "model-2.safetensors""#,
        "unexpected: conv_in.bias",
    );
    refused(
        r#""conv_in.weight": "model-3.safetensors""#,
        "model-3.safetensors",
    );
    for outside in [
        "../model-1.safetensors",
        "/etc/passwd",
        "a\\\\b",
        "",
        ".",
        "model.safetensors.index.json",
    ] {
        refused(
            &format!(r#""conv_in.weight": "{outside}""#),
            "is not the name of a weight file",
        );
    }
}
