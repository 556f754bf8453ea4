//! Drawing on from a picture, from the outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;

use common::{check, desk, draw, stderr};
use infinity::recipe::read_recipe;

/// A picture's first scales are kept for another one, and its recipe says so.
#[test]
fn scales_of_a_picture_are_kept() {
    let desk = desk();
    let folder = desk.path();
    let drawn = |args: &[&str]| {
        let output = draw(folder, args);
        assert!(output.status.success(), "{}", stderr(&output));
    };
    drawn(&["a cat", "--seed", "3", "--out", "parent.png"]);
    let from = ["--from", "parent.png", "--keep", "2"];
    drawn(&[&["a dog", "--seed", "4", "--out", "child.png"], &from[..]].concat());
    drawn(&[&["a cat", "--seed", "3", "--out", "same.png"], &from[..]].concat());
    let read = |name: &str| read_recipe(&folder.join(name)).unwrap().spec;
    let (parent, child) = (read("parent.png"), read("child.png"));
    assert_eq!((parent.keep, child.keep), (0, 2));
    let scales =
        |spec: &infinity_engine::api::GenerateSpec| spec.bits.as_ref().unwrap().scales().unwrap();
    assert!(scales(&parent)[..2] == scales(&child)[..2]);
    assert!(scales(&parent)[2] != scales(&child)[2]);
    let pixels = |name: &str| image::open(folder.join(name)).unwrap().to_rgb8().into_raw();
    assert!(pixels("parent.png") == pixels("same.png"));

    let refused = |args: &[&str]| draw(folder, &[&["a dog", "--out", "no.png"], args].concat());
    check(
        &refused(&["--from", "parent.png", "--keep", "3"]),
        1,
        &["kept scales", "3"],
    );
    check(&refused(&["--from", "parent.png"]), 2, &["--keep"]);
    check(
        &refused(&["--from", "gone.png", "--keep", "1"]),
        1,
        &["gone.png"],
    );
    image::RgbImage::new(9, 9)
        .save(folder.join("plain.png"))
        .unwrap();
    check(
        &refused(&["--from", "plain.png", "--keep", "1"]),
        1,
        &["plain.png"],
    );
    assert!(!folder.join("no.png").exists());
}
