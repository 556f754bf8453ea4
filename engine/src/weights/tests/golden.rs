//! The files of the reference program open and hold what they should.

use super::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(name)
}

/// The file has `count` tensors, `name` among them with `shape`, and all its numbers are finite.
fn check(file: &str, count: usize, name: &str, shape: &[usize]) {
    let file = WeightFile::open(golden(file)).unwrap();
    assert_eq!(
        file.shape(name),
        Some(shape),
        "{:?}",
        file.names().collect::<Vec<_>>()
    );
    assert_eq!(file.len(), count);
    // Tables that are no weights: whole numbers, and an attention mask with minus infinity.
    let table =
        |name: &str| name.ends_with("mask") || name == "lvl_1L" || name == "attn_bias_for_masking";
    for name in file.names().filter(|name| !table(name)) {
        let values = file.read_f32(name).unwrap();
        assert_eq!(
            values.len(),
            file.shape(name).unwrap().iter().product::<usize>()
        );
        assert!(values.iter().all(|value| value.is_finite()), "{name}");
    }
}

#[test]
fn transformers_open() {
    check(
        "infinity-open/transformer.pth",
        22 + 21 * 4,
        "cfg_uncond",
        &[24, 256],
    );
    check(
        "infinity-open-patchify/transformer.pth",
        22 + 21 * 2,
        "lvl_embed.weight",
        &[15, 48],
    );
}

#[test]
fn tokenizers_open_under_their_key() {
    check(
        "infinity-open/vae.pth",
        186,
        "encoder.conv_in.conv.weight",
        &[24, 3, 3, 3],
    );
    check(
        "infinity-open-patchify/vae.pth",
        154,
        "encoder.conv_in.conv.weight",
        &[24, 3, 3, 3],
    );
}

#[test]
fn other_models_of_the_family_open() {
    check("var-open/var.pth", 51, "pos_start", &[1, 1, 64]);
    check(
        "var-open/vae.pth",
        140,
        "encoder.conv_in.weight",
        &[32, 3, 3, 3],
    );
}

#[test]
fn text_encoders_open() {
    let file = WeightFile::open(golden("infinity-open/t5/model.safetensors")).unwrap();
    assert_eq!(file.shape("shared.weight"), Some([116, 256].as_slice()));
    assert_eq!(
        file.dtype("shared.weight"),
        Some(super::super::NumberType::F16)
    );
    assert!(
        file.read_f32("shared.weight")
            .unwrap()
            .iter()
            .all(|value| value.is_finite())
    );
}
