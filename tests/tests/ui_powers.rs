//! Drafts, masks, pictures from files and settings by scale, by the words in the window, over a scripted engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::path::PathBuf;

use eframe::egui::{self, Event, Modifiers, PointerButton, pos2};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use infinity::recipe::read_recipe;
use infinity::state::{Bond, Saved};
use infinity_engine::api::{GenerateSpec, JobId, Source, Task};
use infinity_tests::desk::Desk;

/// The next drafts the window asks for.
fn drafts(desk: &mut Desk) -> (JobId, GenerateSpec, usize, usize) {
    match desk.engine.task() {
        Some((
            job,
            Task::Drafts {
                spec,
                count,
                scales,
            },
        )) => (job, spec, count, scales),
        other => panic!("{other:?} are no drafts"),
    }
}

/// The next picture from a picture the window asks for.
fn from_source(desk: &mut Desk) -> (JobId, GenerateSpec, Source) {
    match desk.engine.task() {
        Some((job, Task::GenerateFrom { spec, source })) => (job, spec, source),
        other => panic!("{other:?} has no source"),
    }
}

/// Waits until a picture is on disk; gives its file.
fn saved(desk: &mut Desk, job: JobId) -> PathBuf {
    let file = |desk: &Desk| match &desk.harness.state().state().picture(job)?.saved {
        Saved::In(path) => Some(path.clone()),
        Saved::No | Saved::Writing => None,
    };
    desk.wait_until(|desk| file(desk).is_some());
    file(desk).unwrap()
}

#[test]
fn drafts_are_chosen_and_finished() {
    let mut desk = Desk::ready();
    desk.click("Drafts");
    let (job, spec, count, scales) = drafts(&mut desk);
    assert_eq!((count, scales), (16, 5));
    desk.engine.start(job, &spec);
    desk.engine.draw_drafts(job, &spec, 0..7, scales);
    desk.harness.run_steps(2);
    desk.assert_sees("7 of 16 drafts, 5 of 7 scales");
    desk.engine.draw_drafts(job, &spec, 7..16, scales);
    desk.engine.tell(infinity_engine::api::Event::DraftsDone {
        job,
        elapsed_secs: 0.4,
        cost: 3.7,
    });
    desk.harness.run();
    desk.assert_sees("16 drafts for the price of 3.7 pictures");
    desk.click("Finish draft 12");
    let (finish, own) = desk.engine.job().expect("a draft is finished");
    assert_eq!((own.keep, own.seed), (5, spec.seed + 11));
    desk.engine.start(finish, &own);
    desk.engine.finish(finish, &own);
    desk.harness.run();
    // The drafts come back for another choice, and other ones can be drawn.
    desk.click("Back to the drafts");
    desk.click("Finish draft 1");
    assert_eq!(desk.engine.job().unwrap().1.seed, spec.seed);
    desk.click("Back to the drafts");
    desk.click("Draw other drafts");
    let (job, other, ..) = drafts(&mut desk);
    assert_ne!(other.seed, spec.seed);
    desk.engine.start(job, &other);
    desk.harness.run_steps(2);
    desk.click("Stop");
    assert!(desk.engine.is_cancelled(job));
}

#[test]
fn a_part_is_painted_over_and_drawn_anew() {
    let mut desk = Desk::ready();
    let (parent, spec) = desk.draw_to_end();
    desk.click("Change a part");
    // Nothing is painted yet, and that is said.
    desk.click("Draw");
    assert!(desk.engine.task().is_none());
    desk.assert_sees("Paint over the part");
    let middle = desk
        .harness
        .get_by_label_contains("Mask: paint over")
        .rect()
        .center();
    let button = |pressed| Event::PointerButton {
        pos: middle,
        button: PointerButton::Primary,
        pressed,
        modifiers: Modifiers::NONE,
    };
    desk.harness.event(Event::PointerMoved(middle));
    desk.harness.event(button(true));
    desk.harness.run();
    desk.harness
        .event(Event::PointerMoved(middle + eframe::egui::vec2(40.0, 0.0)));
    desk.harness.run();
    desk.harness.event(button(false));
    desk.harness.run();
    desk.click("Draw");
    let (job, wish, source) = from_source(&mut desk);
    let mask = source.mask.unwrap();
    assert!(
        mask.share() > 0.01 && mask.share() < 0.3,
        "{}",
        mask.share()
    );
    assert!(wish.bits.is_some() && wish.keep == 0);
    assert_eq!(
        (mask.width, mask.height),
        (source.picture.width, source.picture.height)
    );
    desk.engine.start(job, &wish);
    desk.engine.finish(job, &wish);
    desk.harness.run();
    let child = desk.harness.state().state().picture(job).unwrap().clone();
    assert_eq!(
        (child.parent, child.ancestors[0].seed),
        (Some(parent), spec.seed)
    );
    assert_eq!(child.ancestors[0].bond, Bond::Outside);
    desk.assert_sees("a part of another changed");
    // What was drawn becomes the picture to change.
    desk.click("Go on from this");
    desk.click("Unsure parts");
    desk.click("Draw");
    let (_, _, source) = from_source(&mut desk);
    assert!(source.picture == child.image);
    let share = source.mask.unwrap().share();
    assert!((0.2..0.5).contains(&share), "{share}");
    desk.click("Done");
    assert_eq!(desk.draw().1.keep, 0);
}

#[test]
fn any_picture_is_a_start() {
    let mut desk = Desk::ready();
    let photo = desk.folder.path().join("photo.png");
    image::RgbImage::from_fn(160, 96, |x, y| image::Rgb([x as u8, y as u8, 40]))
        .save(&photo)
        .unwrap();
    desk.drop_file(&photo);
    desk.wait_until(|desk| desk.sees("photo.png is the start"));
    desk.assert_sees("keeps the first 3 scales");
    desk.click("Draw");
    let (job, wish, source) = from_source(&mut desk);
    assert_eq!((wish.keep, wish.bits.is_none()), (3, true));
    assert!(source.mask.is_none() && source.picture.width == 160);
    desk.engine.start(job, &wish);
    desk.engine.finish(job, &wish);
    desk.harness.run();
    desk.assert_sees("keeps 3 scales of another");
    // Where it came from is written into the file.
    let path = saved(&mut desk, job);
    let recipe = read_recipe(&path).unwrap();
    assert_eq!(recipe.ancestors.len(), 1);
    assert_eq!(recipe.ancestors[0].prompt, "photo.png");
    desk.click("Keep nothing");
    assert_eq!(desk.draw().1.keep, 0);
}

/// A saved picture comes back with its scales, which are made again from its bits.
#[test]
fn a_saved_picture_comes_back_with_its_scales() {
    let mut desk = Desk::ready();
    let (job, _) = desk.draw_to_end();
    let path = saved(&mut desk, job);
    let mut other = Desk::ready();
    other.drop_file(&path);
    other.wait_until(|desk| desk.sees("Settings loaded"));
    let Some((rebuild, Task::Rebuild(spec))) = other.engine.task() else {
        panic!("its scales are asked for");
    };
    let images: Vec<_> = (0..7)
        .map(|scale| infinity_tests::scripted::paint(8 << scale, 8 << scale, 1))
        .collect();
    other.engine.tell(infinity_engine::api::Event::Rebuilt {
        job: rebuild,
        schedule: spec.bits.as_ref().unwrap().grids.clone(),
        spec,
        scales: images,
    });
    other.harness.run();
    let state = other.harness.state().state();
    assert_eq!(state.pictures.len(), 1);
    assert_eq!(state.shown_picture().unwrap().scales.len(), 7);
    other.click("Scale 2 of 7");
    other.assert_sees("Keep up to here");
}

#[test]
fn settings_differ_from_scale_to_scale() {
    let mut desk = Desk::ready();
    desk.click("By scale");
    desk.click("Balanced");
    let (_, spec) = desk.draw();
    assert_eq!(spec.cfg.len(), 7);
    assert_eq!(&spec.cfg[5..], [1.0, 1.0]);
    assert!(spec.cfg[0] > 1.0 && spec.tau.len() == 1);
    desk.harness.get_by_label("Prompt for the details").focus();
    desk.harness.run();
    desk.harness.event(Event::Text("in oil".to_owned()));
    desk.harness.run();
    desk.assert_sees("takes over at scale");
    let (_, spec) = desk.draw();
    assert_eq!(
        (spec.detail_prompt.as_str(), spec.detail_from),
        ("in oil", 3)
    );
    assert_eq!((spec.certainty, spec.half_products), (None, false));
    desk.click("Quick products");
    let (_, spec) = desk.draw();
    assert!(spec.half_products);
    desk.harness
        .get_all_by_label("Variety")
        .find(|node| node.accesskit_node().role() == egui::Role::Slider)
        .expect("a slider")
        .set_value_accesskit(75.0);
    desk.harness.run();
    let (_, spec) = desk.draw();
    let certainty = spec.certainty.unwrap();
    assert!((certainty - 0.85).abs() < 1e-3, "{certainty}");
    let curve = desk.harness.get_by_label("Looseness per scale").rect();
    let at = pos2(curve.left() + 3.0, curve.top() + 1.0);
    for pressed in [true, false] {
        desk.harness.event(Event::PointerMoved(at));
        desk.harness.event(Event::PointerButton {
            pos: at,
            button: PointerButton::Primary,
            pressed,
            modifiers: Modifiers::NONE,
        });
        desk.harness.run();
    }
    let (_, spec) = desk.draw();
    assert!(
        spec.tau.len() == 7 && spec.tau[0] > 1.9 && spec.tau[1] < 1.0,
        "{:?}",
        spec.tau
    );
}
