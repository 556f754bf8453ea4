//! Round trips of recipes, and files that are not what they seem.

use super::*;

fn picture() -> Rgb8Image {
    let pixels = (0..16 * 8 * 3).map(|i| (i % 251) as u8).collect();
    Rgb8Image::new(16, 8, pixels).unwrap()
}

fn recipe(prompt: &str, negative: &str) -> Recipe {
    let mut spec = GenerateSpec::new(prompt, u64::MAX);
    spec.negative_prompt = negative.to_owned();
    spec.ratio = 0.5;
    spec.scale_count = Some(7);
    spec.cfg = vec![4.0];
    Recipe::new("Starter, small: \"one\"", spec, &picture())
}

/// A PNG of one pixel with the given `tEXt` chunks.
fn png_with(chunks: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.png");
    let mut encoder = png::Encoder::new(std::fs::File::create(&path).unwrap(), 1, 1);
    encoder.set_color(png::ColorType::Rgb);
    for (keyword, text) in chunks {
        let (keyword, text) = ((*keyword).to_owned(), (*text).to_owned());
        encoder.add_text_chunk(keyword, text).unwrap();
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[1, 2, 3]).unwrap();
    writer.finish().unwrap();
    (folder, path)
}

#[test]
fn a_recipe_survives_its_file() {
    let folder = tempfile::tempdir().unwrap();
    for prompt in [
        "a red boat",
        "ein Fuß,\nNegative prompt: x\nzwei",
        "夜の灯台 🗼",
    ] {
        let path = folder.path().join("picture.png");
        let recipe = recipe(prompt, "clouds, \"stars\"");
        write_png(&path, &picture(), &recipe).unwrap();
        assert_eq!(read_recipe(&path).unwrap(), recipe, "{prompt}");
        let decoded = image::open(&path).unwrap().to_rgb8();
        assert_eq!(decoded.as_raw().as_slice(), &*picture().pixels);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn the_common_form_reads_as_others_expect() {
    let text = recipe("a red boat", "clouds").to_parameters();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        text,
        format!(
            "a red boat\nNegative prompt: clouds\nSteps: 7, Sampler: Infinity, CFG scale: 4, \
             Seed: {}, Size: 16x8, Model: \"Starter, small: \\\"one\\\"\", Tau: 0.5, \
             Version: infinity {version}",
            u64::MAX
        )
    );
}

#[test]
fn the_common_form_survives_alone() {
    for (prompt, negative) in [("a red boat", ""), ("two\nlines", "clouds"), ("", "")] {
        let recipe = recipe(prompt, negative);
        let (_folder, path) = png_with(&[("parameters", &recipe.to_parameters())]);
        assert_eq!(read_recipe(&path).unwrap(), recipe, "{prompt}");
    }
}

#[test]
fn steps_of_another_sampler_are_no_scales() {
    let text = "a castle\nSteps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 42, Size: 512x768, \
                Model hash: abc, Model: v1-5";
    let (_folder, path) = png_with(&[("parameters", text)]);
    let recipe = read_recipe(&path).unwrap();
    assert_eq!(recipe.spec.prompt, "a castle");
    assert_eq!(recipe.spec.scale_count, None);
    assert_eq!(recipe.spec.cfg, [7.5]);
    assert_eq!(recipe.spec.ratio, 1.5);
    assert_eq!((recipe.width, recipe.height), (512, 768));
}

#[test]
fn strange_files_are_refused_by_name() {
    fn check(chunks: &[(&str, &str)], expected: &str) {
        let (_folder, path) = png_with(chunks);
        let error = read_recipe(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("made.png"), "{error}");
    }
    check(&[], "carries no settings");
    check(&[("infinity", "{\"format\": 9}")], "format 9");
    check(&[("infinity", "{}")], "names no format");
    check(&[("infinity", "{\"format\": 1}")], "cannot be used");
    check(&[("infinity", "[[[[")], "cannot be used");
    check(&[("parameters", "hello")], "form is not known");
    let mut wild = recipe("x", "");
    wild.spec.cfg = vec![];
    check(
        &[("infinity", &serde_json::to_string(&wild).unwrap())],
        "cfg or tau",
    );
    wild.spec.cfg = vec![1.0];
    wild.spec.ratio = 0.0;
    check(
        &[("infinity", &serde_json::to_string(&wild).unwrap())],
        "ratio",
    );
    wild.spec.ratio = 1.0;
    let known = serde_json::to_string(&wild).unwrap();
    let later = known.replacen("\"prompt\"", "\"bends\":3,\"prompt\"", 1);
    check(&[("infinity", &later)], "bends");
    let huge = "x".repeat(MAX_TEXT_BYTES + 1);
    check(&[("parameters", &huge)], "carries no settings");
}

#[test]
fn half_a_file_is_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.png");
    write_png(&path, &picture(), &recipe("x", "")).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 8, 20, 60] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = read_recipe(&path).unwrap_err();
        assert!(
            matches!(error, RecipeError::NotPng { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn a_taken_name_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new folder");
    let recipe = recipe("x", "");
    let names: Vec<_> = (0..3)
        .map(|_| write_new_png(&folder, "a", &picture(), &recipe).unwrap())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["a.png", "a 2.png", "a 3.png"]);
}

#[test]
fn names_are_short_and_plain() {
    assert_eq!(
        file_stem("A red boat, at night!", 7),
        "a-red-boat-at-night-7"
    );
    assert_eq!(file_stem("../..", 7), "picture-7");
    assert!(file_stem(&"word ".repeat(100), 7).len() < 64);
}
