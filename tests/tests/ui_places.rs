//! Choosing where to draw, by the words in the window, over scripted engines.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use egui_kittest::kittest::Queryable as _;
use infinity::app::Started;
use infinity::place::Place;
use infinity::settings::Settings;
use infinity_engine::api::{DeviceChoice, EngineError, Event};
use infinity_tests::desk::Desk;
use infinity_tests::scripted::ScriptedEngine;

/// Where engines were started, with which model, and their ends.
type Starts = Rc<RefCell<Vec<(Place, Option<PathBuf>, ScriptedEngine)>>>;

/// A window that can move.
fn desk() -> (Desk, Starts) {
    let starts = Starts::default();
    let list = Rc::clone(&starts);
    let mut desk = Desk::with(|options| {
        options.start = Some(Box::new(
            move |place: &Place, model: Option<&Path>, _wake| {
                let (engine, handle) = ScriptedEngine::new();
                let start = (place.clone(), model.map(Path::to_path_buf), engine);
                list.borrow_mut().push(start);
                Started {
                    engine: handle,
                    expects_model: true,
                }
            },
        ));
    });
    desk.engine.get_ready();
    desk.harness.run();
    (desk, starts)
}

/// Waits for the list of devices and chooses the processor, which is always there.
fn choose_processor(desk: &mut Desk) {
    desk.click("Preferences");
    desk.wait_until(|desk| {
        let found = &desk.harness.state().state().devices;
        found.as_ref().is_some_and(|devices| !devices.is_empty())
    });
    desk.harness.run();
    desk.click("Processor");
}

#[test]
fn another_device_takes_over_and_pictures_stay() {
    let (mut desk, starts) = desk();
    let (first, spec) = desk.draw_to_end();
    let (waiting, _) = desk.draw();
    choose_processor(&mut desk);
    assert!(desk.engine.is_cancelled(waiting));
    desk.assert_sees("What was being drawn is stopped");
    desk.assert_sees("Looking for a device");
    {
        let starts = starts.borrow();
        let (place, model, engine) = starts.first().expect("an engine is started");
        assert_eq!((place, model), (&Place::Here(DeviceChoice::Cpu), &None));
        engine.get_ready();
    }
    desk.harness.run();
    desk.click("Draw");
    let starts = starts.borrow();
    let (job, _) = starts[0].2.job().expect("the new engine is asked");
    assert_ne!(job, first);
    starts[0].2.start(job, &spec);
    starts[0].2.finish(job, &spec);
    desk.harness.run();
    assert_eq!(desk.harness.state().state().pictures.len(), 2);
    let path = desk.folder.path().join("settings.json");
    desk.wait_until(|_| Settings::read(&path).0.device == "cpu");
}

#[test]
fn another_machine_is_reached_by_its_address() {
    let (mut desk, starts) = desk();
    desk.click("Preferences");
    let field = "Another machine, where infinity serve runs";
    let type_text = |desk: &mut Desk, text: &str| {
        let role = eframe::egui::Role::TextInput;
        desk.harness.get_by_role_and_label(role, field).focus();
        desk.harness.run();
        desk.harness
            .get_by_role_and_label(role, field)
            .type_text(text);
        desk.harness.run();
    };
    type_text(&mut desk, "studio");
    desk.click("Connect");
    assert!(starts.borrow().is_empty(), "an address has a port");
    type_text(&mut desk, ".local:7860");
    desk.click("Connect");
    {
        let starts = starts.borrow();
        let there = Place::Remote("studio.local:7860".to_owned());
        assert_eq!((&starts[0].0, &starts[0].1), (&there, &None));
        starts[0].2.tell(Event::ModelFailed {
            error: EngineError::Remote {
                address: "studio.local:7860".to_owned(),
                what: "it does not answer".to_owned(),
                advice: "See that it runs.".to_owned(),
            },
        });
    }
    desk.harness.run();
    desk.assert_sees("it does not answer");
    // What failed can be tried again, and the address is remembered.
    desk.click("Preferences");
    desk.click("Connect");
    assert_eq!(starts.borrow().len(), 2);
    let path = desk.folder.path().join("settings.json");
    desk.wait_until(|_| Settings::read(&path).0.remote == "studio.local:7860");
}

#[test]
fn a_lesson_is_not_left() {
    let (mut desk, starts) = desk();
    let data = desk.folder.path().join("windmills");
    std::fs::create_dir(&data).unwrap();
    desk.drop_file(&data);
    let (job, _) = desk.engine.task().expect("the folder is looked through");
    desk.engine.find_pictures(job, 9);
    desk.harness.run();
    desk.click("Teach");
    choose_processor(&mut desk);
    desk.assert_sees("The model is being taught");
    assert!(starts.borrow().is_empty());
}

/// Several devices draw several pictures at the same time; each keeps its scales.
#[test]
fn two_pictures_grow_at_the_same_time() {
    let mut desk = Desk::ready();
    let (first, spec) = desk.draw();
    let (second, _) = desk.draw();
    desk.engine.start(first, &spec);
    desk.engine.start(second, &spec);
    desk.engine.draw_scale(first, &spec, 0);
    desk.engine.draw_scale(second, &spec, 0);
    desk.engine.draw_scale(second, &spec, 1);
    desk.harness.run();
    desk.assert_sees("Scale 2 of 7 ·");
    desk.engine.finish(first, &spec);
    desk.harness.run();
    desk.assert_sees("Scale 3 of 7 ·");
    desk.engine.finish(second, &spec);
    desk.harness.run();
    let state = desk.harness.state().state();
    let scales = |job| state.picture(job).expect("it is kept").scales.len();
    assert_eq!((scales(first), scales(second)), (7, 7));
    assert!(!state.is_busy());
}
