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
    std::fs::write(folder.join("words.png"), "no picture").unwrap();
    check(
        &refused(&["--from", "words.png", "--keep", "1"]),
        1,
        &["words.png", "cannot be used"],
    );
    assert!(!folder.join("no.png").exists());
}

fn pixels(path: &std::path::Path) -> Vec<u8> {
    image::open(path).unwrap().to_rgb8().into_raw()
}

/// Drafts are written, one is finished to the picture drawn in one go, and rebuilt from its bits.
#[test]
fn drafts_are_finished_and_pictures_rebuilt() {
    let desk = desk();
    let folder = desk.path();
    let said = |args: &[&str]| {
        let output = draw(folder, args);
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    let drafts = ["--drafts", "3", "--draft-scales", "2", "--out", "drafts"];
    // What differs from the usual is remembered by the draft.
    let own = ["--cfg", "2", "--tau", "0.9", "--negative", "a dog"];
    let cost = said(&[&["a cat", "--seed", "5"], &own[..], &drafts[..]].concat());
    assert!(cost.contains("3 drafts for the price of"), "{cost}");
    assert_eq!(std::fs::read_dir(folder.join("drafts")).unwrap().count(), 3);
    said(&["--from", "drafts/002.png", "--out", "finished.png"]);
    said(&[&["a cat", "--seed", "6", "--out", "whole.png"], &own[..]].concat());
    let finished = pixels(&folder.join("finished.png"));
    assert!(finished == pixels(&folder.join("whole.png")));
    let rebuild = |from: &str| {
        let mut command = common::program();
        command.args([
            "rebuild",
            from,
            "--out",
            "again.png",
            "--steps-out",
            "steps",
        ]);
        command.args(["--model", "model", "--device", "cpu"]);
        command.current_dir(folder).output().unwrap()
    };
    let output = rebuild("finished.png");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(finished == pixels(&folder.join("again.png")));
    assert_eq!(std::fs::read_dir(folder.join("steps")).unwrap().count(), 3);
    check(&rebuild("gone.png"), 1, &["gone.png"]);
}

/// Any picture is a start; outside of a mask, and within a larger canvas, its bytes stay.
#[test]
fn parts_of_any_picture_are_drawn_anew() {
    let desk = desk();
    let folder = desk.path();
    let photo = image::RgbImage::from_fn(70, 60, |x, y| image::Rgb([x as u8 * 3, y as u8 * 4, 90]));
    photo.save(folder.join("photo.png")).unwrap();
    let mask =
        image::GrayImage::from_fn(70, 60, |x, _| image::Luma([if x < 30 { 255 } else { 0 }]));
    mask.save(folder.join("mask.png")).unwrap();
    let drawn = |args: &[&str]| draw(folder, &[&["a dog", "--seed", "1"], args].concat());
    let output = drawn(&["--from", "photo.png", "--keep", "1", "--out", "like.png"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let from = [
        "--from",
        "photo.png",
        "--mask",
        "mask.png",
        "--out",
        "edit.png",
    ];
    let output = drawn(&[&from[..], &["--doubt-out", "doubt.png"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let edited = image::open(folder.join("edit.png")).unwrap().to_rgb8();
    let differs = |x, y| edited.get_pixel(x, y) != photo.get_pixel(x, y);
    assert!((0..60).all(|y| (30..70).all(|x| !differs(x, y))));
    assert!((0..60).any(|y| (0..30).any(|x| differs(x, y))));
    assert!(image::open(folder.join("doubt.png")).is_ok());
    let output = drawn(&[
        "--from",
        "photo.png",
        "--extend",
        "0,10,0,5",
        "--out",
        "tall.png",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let tall = image::open(folder.join("tall.png")).unwrap().to_rgb8();
    assert_eq!(tall.dimensions(), (70, 75));
    assert!((0..60).all(|y| tall.get_pixel(8, y + 10) == photo.get_pixel(8, y)));
    image::GrayImage::new(70, 60)
        .save(folder.join("black.png"))
        .unwrap();
    for (args, code, words) in [
        (["--mask", "black.png"], 1, ["mask", "empty"]),
        (["--mask", "like.png"], 1, ["mask", "70×60"]),
        (["--extend", "0,0,0,0"], 1, ["space around", "Add"]),
        (["--extend", "1,2"], 2, ["extend", "four numbers"]),
    ] {
        let output = drawn(&[&["--from", "photo.png", "--out", "no.png"], &args[..]].concat());
        check(&output, code, &words);
    }
    assert!(!folder.join("no.png").exists());
}
