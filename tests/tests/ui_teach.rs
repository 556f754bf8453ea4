//! Teaching in the window, by the words on it, over a scripted engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use egui_kittest::kittest::Queryable as _;
use infinity_engine::api::{EngineError, Event, Task};
use infinity_tests::desk::Desk;
use infinity_tests::loras::write_lora;

/// A folder is dropped, looked through and taught; what comes out is put on, weakened and taken off.
#[test]
fn a_folder_of_pictures_is_taught_and_used() {
    let mut desk = Desk::ready();
    let data = desk.folder.path().join("windmills");
    std::fs::create_dir(&data).unwrap();
    desk.drop_file(&data);
    desk.assert_sees("Teach your own pictures");
    let (job, task) = desk.engine.task().expect("the folder is looked through");
    assert!(
        matches!(&task, Task::LookThrough { folder, .. } if *folder == data),
        "{task:?}"
    );
    desk.engine.find_pictures(job, 9);
    desk.harness.run();
    desk.assert_sees("9 pictures, 9 with words");
    desk.assert_sees("tiny.png");
    desk.assert_sees("640×480 → 128×128, 25 % cut");
    // 300 steps of 20 pictures at 0.05 s, a third of them looked at once more; blocks computed again.
    desk.assert_sees("About 5 min 33 s and 95 MB of 200 MB memory");
    desk.assert_sees("Memory 43 MB of 16.0 GB");
    desk.click("Quick look");
    desk.click("Teach");
    let (job, task) = desk.engine.task().expect("Teach asks for it");
    let Task::Tune(wish) = task else {
        panic!("{task:?}")
    };
    assert_eq!(
        (wish.name.as_str(), wish.steps, &wish.data),
        ("windmills", 100, &data)
    );
    assert!(wish.out.ends_with("LoRAs/windmills"), "{:?}", wish.out);
    desk.engine.teach(job, 60);
    desk.harness.run();
    desk.assert_sees("Step 60 of 300");
    desk.assert_sees("After 50 steps");
    desk.click("Pause");
    assert!(desk.engine.is_paused(job));
    desk.assert_sees("Paused");
    desk.click("Go on");
    assert!(!desk.engine.is_paused(job));
    desk.click("Stop and keep");
    assert!(desk.engine.is_cancelled(job));
    desk.assert_sees("what was learned is kept");
    let path = wish.out.join("lora.safetensors");
    desk.engine.tell(Event::TuneDone {
        job,
        path: path.clone(),
        step: 60,
        steps: 100,
    });
    desk.harness.run();
    desk.assert_sees("is ready and put on");
    desk.click("Drawing");
    let (job, spec) = desk.draw_to_end();
    assert_eq!((spec.loras.len(), &spec.loras[0].path), (1, &path));
    assert_eq!(
        desk.harness
            .state()
            .state()
            .picture(job)
            .unwrap()
            .spec
            .loras,
        spec.loras
    );
    desk.click("Take off windmills");
    let (_, spec) = desk.draw();
    assert!(spec.loras.is_empty());
    // A LoRA file that is dropped is put on as well.
    let other = desk.folder.path().join("ink.safetensors");
    std::fs::write(&other, "").unwrap();
    desk.drop_file(&other);
    desk.assert_sees("ink");
    let (_, spec) = desk.draw();
    assert_eq!(spec.loras[0].path, other);
}

/// Presets and the settings below them reach the engine; one kind of layers always learns.
#[test]
fn what_is_set_is_what_is_taught() {
    let mut desk = Desk::ready();
    let data = desk.folder.path().join("windmills");
    std::fs::create_dir(&data).unwrap();
    desk.drop_file(&data);
    let (job, _) = desk.engine.task().unwrap();
    desk.engine.find_pictures(job, 9);
    desk.harness.run();
    // It begins as Subject.
    desk.click("More");
    for text in [
        "Alpha",
        "Layers",
        "Views",
        "Captions left out",
        "Parts left out",
        "Old pictures",
    ] {
        desk.assert_sees(text);
    }
    desk.click("Self");
    desk.click("Text");
    desk.click("FFN");
    desk.click("Text");
    desk.click("Last");
    desk.click("Mirrored too");
    // Another size is looked at anew.
    desk.click("Size of the pictures");
    desk.click("96×96");
    let (job, task) = desk.engine.task().expect("the folder is looked through");
    assert!(
        matches!(
            task,
            Task::LookThrough {
                scale_count: Some(6),
                ..
            }
        ),
        "{task:?}"
    );
    desk.engine.find_pictures(job, 9);
    desk.harness.run();
    // Below all of these, the button is out of sight.
    desk.click("More");
    desk.click("Teach");
    let (_, task) = desk.engine.task().unwrap();
    let Task::Tune(wish) = task else {
        panic!("{task:?}")
    };
    assert_eq!(wish.layers, ["ca.", "ffn.", "head"]);
    assert_eq!((wish.rank, wish.batch, wish.alpha), (48, 20, None));
    assert!(!wish.mirror);
    assert_eq!((wish.views, wish.caption_drop), (4, 0.0));
    assert_eq!((wish.scale_count, wish.flip_scales), (Some(6), 13));
}

/// A size belongs to a model: another one may not have it.
#[test]
fn another_model_begins_at_its_own_size() {
    let mut desk = Desk::ready();
    let data = desk.folder.path().join("windmills");
    std::fs::create_dir(&data).unwrap();
    desk.drop_file(&data);
    desk.click("More");
    desk.click("Size of the pictures");
    desk.click("96×96");
    while desk.engine.task().is_some() {}
    desk.engine.get_ready();
    desk.harness.run();
    let (_, task) = desk
        .engine
        .task()
        .expect("the folder is looked through anew");
    assert!(
        matches!(
            task,
            Task::LookThrough {
                scale_count: None,
                ..
            }
        ),
        "{task:?}"
    );
}

#[test]
fn a_folder_that_cannot_be_taught_is_said() {
    let mut desk = Desk::ready();
    desk.click("Teaching");
    desk.assert_sees("Choose a folder, or drop one here");
    let data = desk.folder.path().join("empty");
    std::fs::create_dir(&data).unwrap();
    desk.drop_file(&data);
    let (job, _) = desk.engine.task().unwrap();
    desk.assert_sees("Looking through the folder");
    let error = EngineError::bad_config(&data, "there is no .png or .jpg picture in it");
    desk.engine.fail(job, error);
    desk.harness.run();
    desk.assert_sees("no .png or .jpg picture");
    desk.assert_sees("Choose a folder, or drop one here");
    desk.click("Drawing");
    desk.draw();
}

/// Words typed under a picture are written beside it, and the folder is looked through again.
#[test]
fn captions_are_written_in_place() {
    let mut desk = Desk::ready();
    let data = desk.folder.path().join("windmills");
    std::fs::create_dir(&data).unwrap();
    desk.drop_file(&data);
    let (job, _) = desk.engine.task().unwrap();
    desk.engine.find_pictures_in(&data, job, 3);
    desk.harness.run();
    desk.harness.get_by_label("Words for 01.png").focus();
    desk.harness.run();
    desk.harness
        .get_by_label("Words for 01.png")
        .type_text("Now: ");
    desk.harness.run();
    desk.harness.get_by_label("Name of the LoRA").focus();
    desk.harness.run();
    let file = data.join("01.txt");
    desk.wait_until(|_| file.exists());
    let words = std::fs::read_to_string(&file).unwrap();
    assert!(
        words.contains("Now:") && words.contains("windmill"),
        "{words}"
    );
    desk.wait_until(|desk| !desk.sees("3 pictures"));
    let (_, task) = desk
        .engine
        .task()
        .expect("the folder is looked through again");
    assert!(matches!(task, Task::LookThrough { .. }), "{task:?}");
}

/// Words are replaced in all captions, and lists of tags become sentences.
#[test]
fn all_captions_are_changed_together() {
    let mut desk = Desk::ready();
    let data = desk.folder.path().join("mills");
    std::fs::create_dir(&data).unwrap();
    desk.drop_file(&data);
    let (job, _) = desk.engine.task().expect("the folder is looked through");
    desk.engine.find_pictures_in(&data, job, 3);
    desk.harness.run();
    for (label, text) in [
        ("Words to look for", "windmill"),
        ("Words to put there", "mill"),
    ] {
        desk.harness.get_by_label(label).focus();
        desk.harness.run();
        desk.harness.get_by_label(label).type_text(text);
        desk.harness.run();
    }
    desk.click("Replace in all captions");
    let caption = |desk: &Desk, index: usize| {
        std::fs::read_to_string(desk.folder.path().join(format!("mills/{index:02}.txt")))
    };
    desk.wait_until(|desk| caption(desk, 2).is_ok());
    desk.assert_sees("3 captions are changed");
    assert_eq!(
        caption(&desk, 0).unwrap(),
        "a red mill on the left, green hills, number 0"
    );
    let asked = std::cell::RefCell::new(None);
    desk.wait_until(|desk| {
        let mut asked = asked.borrow_mut();
        *asked = asked.take().or_else(|| desk.engine.task());
        asked.is_some()
    });
    let (job, _) = asked.take().expect("and looked through again");
    desk.engine.find_pictures_in(&data, job, 3);
    desk.harness.run();
    desk.click("Tags to sentences");
    desk.wait_until(|desk| caption(desk, 2).is_ok_and(|text| text.contains(" and number 2")));
}

/// The shelf shows what was taught; a card is searched for, noted on, put on, and counts scale by scale.
#[test]
fn loras_are_found_on_the_shelf() {
    let mut desk = Desk::ready();
    let folder = desk.folder.path().join("Pictures/LoRAs");
    for name in ["mills", "ink"] {
        write_lora(&folder.join(name).join("lora.safetensors"), name, None);
    }
    desk.click("LoRAs");
    desk.wait_until(|desk| desk.sees("Put on mills"));
    desk.assert_sees("Put on ink");
    desk.harness.get_by_label("Search LoRAs").focus();
    desk.harness.run();
    desk.harness.get_by_label("Search LoRAs").type_text("MILL");
    desk.harness.run();
    assert!(!desk.sees("Put on ink"));
    desk.harness.get_by_label("Notes for mills").focus();
    desk.harness.run();
    desk.harness
        .get_by_label("Notes for mills")
        .type_text("0.8");
    desk.harness.run();
    desk.click("Put on mills");
    let notes = folder.join("mills/lora.txt");
    desk.wait_until(|_| std::fs::read_to_string(&notes).is_ok_and(|text| text == "0.8"));
    desk.assert_sees("Take off mills here");
    desk.click("Drawing");
    desk.click("By scale");
    desk.click("Layout of mills");
    let (_, spec) = desk.draw();
    assert_eq!(spec.loras.len(), 1);
    assert_eq!(spec.loras[0].by_scale[..2], [1.0, 1.0]);
    assert_eq!(spec.loras[0].by_scale.last(), Some(&0.0));
}
