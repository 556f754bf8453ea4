//! What a user does in the window, by the words on it, over a scripted engine.
//!
//! No pixels are compared: a click must become the right request, and an event
//! the right words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test stops at the first surprise"
)]

use std::path::PathBuf;

use eframe::egui::{self, Key, Modifiers};
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use infinity::recipe::{self, Recipe};
use infinity::settings::Settings;
use infinity::state::Saved;
use infinity_engine::api::{EngineError, Event, GenerateSpec, Request};
use infinity_tests::desk::Desk;
use infinity_tests::scripted::{GRIDS, ScriptedEngine, model, paint};

#[test]
fn the_first_start_draws_with_one_key() {
    let mut desk = Desk::new();
    desk.harness.run();
    desk.assert_sees("Loading the model");
    desk.engine.get_ready();
    desk.harness.run();
    desk.assert_sees("This small model draws postcards");
    desk.assert_sees("Bigger models can be added");
    desk.assert_sees("Processor: 16 threads");
    desk.harness
        .key_press_modifiers(Modifiers::COMMAND, Key::Enter);
    desk.harness.run();
    let (_, spec) = desk.engine.job().expect("one key draws");
    assert_eq!(spec.prompt, model().example_prompts[0]);
    assert_eq!((spec.cfg, spec.tau), (vec![3.0], vec![0.5]));
}

#[test]
fn a_typed_prompt_is_drawn_and_grows_scale_by_scale() {
    let mut desk = Desk::ready();
    let prompt = desk.harness.get_by_label("Prompt");
    prompt.focus();
    desk.harness.run();
    desk.harness.key_press_modifiers(Modifiers::COMMAND, Key::A);
    desk.harness.get_by_label("Prompt").type_text("a red boat");
    desk.harness.run();
    let (job, spec) = desk.draw();
    assert_eq!(spec.prompt, "a red boat");
    desk.engine.start(job, &spec);
    desk.engine.draw_scale(job, &spec, 0);
    desk.engine.draw_scale(job, &spec, 1);
    desk.harness.run();
    desk.assert_sees("Scale 3 of 7 ·");
    desk.assert_sees("Picture being drawn, scale 2");
    desk.engine.finish(job, &spec);
    desk.harness.run();
    desk.harness.get_by_label("Picture: a red boat");
    desk.assert_sees("128 × 128 px");
    desk.assert_sees("1.4 s");
}

#[test]
fn shape_sliders_and_seed_reach_the_engine() {
    let mut desk = Desk::ready();
    desk.click("Ratio 5:3 (160 × 96)");
    desk.harness
        .get_all_by_label("Follow the prompt")
        .find(|node| node.accesskit_node().role() == egui::Role::Slider)
        .expect("a slider")
        .set_value_accesskit(4.5);
    desk.harness.run();
    desk.harness
        .get_all_by_label("Looseness")
        .find(|node| node.accesskit_node().role() == egui::Role::Slider)
        .expect("a slider")
        .set_value_accesskit(0.8);
    desk.harness.run();
    let seed = desk
        .harness
        .get_by_role_and_label(egui::Role::TextInput, "Seed");
    seed.focus();
    desk.harness.run();
    desk.harness.key_press_modifiers(Modifiers::COMMAND, Key::A);
    desk.harness
        .get_by_role_and_label(egui::Role::TextInput, "Seed")
        .type_text("77x");
    desk.harness.run();
    let (_, spec) = desk.draw();
    assert_eq!(spec.ratio, 96.0 / 160.0);
    assert_eq!(spec.cfg, [4.5]);
    assert_eq!(spec.tau, [0.8]);
    assert_eq!(spec.seed, 77);
    let (_, again) = desk.draw();
    assert_eq!(again.seed, 77, "a typed seed is held");
    desk.click("New seed for every picture");
    let (_, other) = desk.draw();
    assert_ne!(other.seed, 77, "the dice gives a new one");
}

#[test]
fn the_negative_prompt_opens_and_stays_open() {
    let mut desk = Desk::ready();
    assert!(!desk.sees("Negative prompt"));
    desk.click("Leave out");
    desk.harness.get_by_label("Negative prompt").focus();
    desk.harness.run();
    desk.harness
        .get_by_label("Negative prompt")
        .type_text("clouds");
    desk.harness.run();
    let (_, spec) = desk.draw();
    assert_eq!(spec.negative_prompt, "clouds");
    let path = desk.folder.path().join("settings.json");
    desk.wait_until(|_| Settings::read(&path).0.negative_open);
}

#[test]
fn a_second_draw_waits_and_can_be_forgotten() {
    let mut desk = Desk::ready();
    let (first, spec) = desk.draw();
    desk.engine.start(first, &spec);
    desk.harness.run();
    assert!(!desk.sees("waiting"));
    let (second, _) = desk.draw();
    let (third, _) = desk.draw();
    desk.assert_sees("2 waiting");
    desk.engine.start(second, &spec);
    desk.harness.run();
    desk.assert_sees("1 waiting");
    desk.click("Forget waiting pictures");
    assert!(!desk.sees("waiting"));
    assert!(desk.engine.is_cancelled(third));
    assert!(!desk.engine.is_cancelled(second));
}

#[test]
fn escape_stops_the_picture_being_drawn() {
    let mut desk = Desk::ready();
    let (job, spec) = desk.draw();
    desk.engine.start(job, &spec);
    desk.engine.draw_scale(job, &spec, 0);
    desk.harness.run();
    desk.harness.key_press(Key::Escape);
    desk.harness.run();
    assert!(desk.engine.is_cancelled(job));
    desk.assert_sees("Stopping after scale 2 of 7");
    desk.engine.tell(Event::Cancelled { job });
    desk.harness.run();
    assert!(desk.harness.state().state().work.is_none());
    desk.assert_sees("to draw");
    // A late event of the stopped job changes nothing.
    desk.engine.draw_scale(job, &spec, 1);
    desk.harness.run();
    assert!(!desk.sees("Picture being drawn"));
}

#[test]
fn the_strip_shows_every_scale_afterwards() {
    let mut desk = Desk::ready();
    let (_, spec) = desk.draw_to_end();
    desk.click("Scale 2 of 7");
    desk.harness.get_by_label("Scale 2 of the picture");
    desk.assert_sees("Scale 2 of 7 · 2 × 2 tokens");
    desk.harness.remove_cursor();
    desk.harness.run();
    desk.harness.get_by_label("Scale 2 of the picture");
    desk.click("Scale 2 of 7");
    desk.harness.remove_cursor();
    desk.harness.run();
    let picture = format!("Picture: {}", spec.prompt);
    desk.harness.get_by_label(&picture);
}

#[test]
fn finished_pictures_are_saved_with_their_recipe() {
    let mut desk = Desk::ready();
    let (job, spec) = desk.draw_to_end();
    desk.wait_until(|desk| desk.sees("saved as"));
    let picture = desk.harness.state().state().picture(job).unwrap();
    let Saved::In(path) = &picture.saved else {
        panic!("not saved: {:?}", picture.saved);
    };
    assert_eq!(path.parent().unwrap(), desk.folder.path().join("Pictures"));
    let mut recipe = recipe::read_recipe(path).unwrap();
    // The recipe is the wish, and the bits that came of it.
    assert!(recipe.spec.bits.take().is_some());
    assert_eq!(recipe.spec, spec);
    assert_eq!(recipe.model, "Postcards");
}

#[test]
fn a_folder_that_cannot_be_written_costs_no_picture() {
    let mut desk = Desk::with(|options| {
        // A file where the folder should be: fails for every user, root too.
        let path = options.pictures_folder.clone();
        std::fs::write(path, "in the way").unwrap();
    });
    desk.engine.get_ready();
    desk.harness.run();
    let (_, spec) = desk.draw_to_end();
    desk.wait_until(|desk| desk.sees("could not be saved"));
    desk.assert_sees("Choose another folder");
    desk.assert_sees("not saved");
    let picture = format!("Picture: {}", spec.prompt);
    desk.harness.get_by_label(&picture);
    desk.click("Dismiss message");
    assert!(!desk.sees("could not be saved"));
}

#[test]
fn an_error_is_a_message_and_drawing_goes_on() {
    let mut desk = Desk::ready();
    let (job, spec) = desk.draw();
    desk.engine.start(job, &spec);
    let what = "scale 3".to_owned();
    let advice = "Try another seed.".to_owned();
    desk.engine
        .fail(job, EngineError::NotFinite { what, advice });
    desk.harness.run();
    desk.assert_sees("The numbers went wrong (scale 3). Try another seed.");
    desk.draw_to_end();
    desk.assert_sees("128 × 128 px");
}

#[test]
fn a_lost_engine_is_a_message() {
    let mut desk = Desk::ready();
    let (engine, _handle) = ScriptedEngine::new();
    desk.engine = engine;
    desk.click("Draw");
    desk.assert_sees("The engine has stopped");
}

#[test]
fn a_model_that_fails_is_a_message_and_can_be_replaced() {
    let mut desk = Desk::new();
    let error = EngineError::bad_model("/models/broken", "no weights");
    desk.engine.tell(Event::ModelFailed { error });
    desk.harness.run();
    desk.assert_sees("no weights");
    desk.assert_sees("No model is loaded.");
    desk.assert_sees("Open a model");
    assert!(desk.engine.request().is_none());
}

#[test]
fn drawing_waits_for_the_model_in_words() {
    let mut desk = Desk::new();
    desk.harness
        .key_press_modifiers(Modifiers::COMMAND, Key::Enter);
    desk.harness.run();
    assert!(desk.engine.request().is_none());
    desk.assert_sees("still being loaded");
}

#[test]
fn an_empty_prompt_is_not_drawn() {
    let mut desk = Desk::ready();
    desk.harness.get_by_label("Prompt").focus();
    desk.harness.run();
    desk.harness.key_press_modifiers(Modifiers::COMMAND, Key::A);
    desk.harness.key_press(Key::Backspace);
    desk.harness.run();
    desk.click("Draw");
    assert!(desk.engine.request().is_none());
    desk.assert_sees("There is no prompt");
}

#[test]
fn a_dropped_picture_brings_its_settings() {
    let mut desk = Desk::ready();
    let mut spec = GenerateSpec::new("a white lighthouse by the sea", 4242);
    spec.ratio = 160.0 / 96.0;
    spec.cfg = vec![5.5];
    spec.negative_prompt = "clouds".to_owned();
    let image = paint(96, 160, 1);
    let recipe = Recipe::new("Another model", spec.clone(), &image);
    let path = desk.folder.path().join("lighthouse.png");
    recipe::write_png(&path, &image, &recipe).unwrap();
    desk.drop_file(&path);
    desk.wait_until(|desk| desk.sees("Settings loaded from lighthouse.png"));
    desk.assert_sees("made with the model Another model");
    desk.harness.get_by_label("Negative prompt");
    let (_, drawn) = desk.draw();
    assert_eq!(drawn, spec);
}

#[test]
fn a_dropped_stranger_is_refused_in_words() {
    let mut desk = Desk::ready();
    let path = desk.folder.path().join("notes.png");
    std::fs::write(&path, "not a picture").unwrap();
    desk.drop_file(&path);
    desk.wait_until(|desk| desk.sees("This picture cannot be used"));
}

#[test]
fn earlier_pictures_can_be_shown_and_reused() {
    let mut desk = Desk::ready();
    let (first, spec) = desk.draw_to_end();
    let (second, _) = desk.draw_to_end();
    assert_eq!(desk.harness.state().state().shown, Some(second));
    let label = format!("Show picture {}: {}", first.0, spec.prompt);
    desk.click(&label);
    assert_eq!(desk.harness.state().state().shown, Some(first));
    desk.click("Use these settings");
    let (_, again) = desk.draw();
    assert_eq!(again.seed, spec.seed);
}

#[test]
fn preferences_are_kept() {
    let mut desk = Desk::ready();
    desk.click("Preferences");
    desk.click("Dark");
    desk.click("Save every picture");
    desk.harness.key_press(Key::Escape);
    desk.harness.run();
    desk.draw_to_end();
    desk.assert_sees("not saved");
    let path = desk.folder.path().join("settings.json");
    desk.wait_until(|_| !Settings::read(&path).0.autosave);
}

#[test]
fn every_control_has_a_name() {
    let mut desk = Desk::ready();
    desk.click("Leave out");
    desk.draw_to_end();
    let root = desk.harness.root();
    let nameless: Vec<String> = root
        .children_recursive()
        .filter(|node| {
            let node = node.accesskit_node();
            let controls = [
                egui::Role::Button,
                egui::Role::CheckBox,
                egui::Role::RadioButton,
                egui::Role::Slider,
                egui::Role::SpinButton,
                egui::Role::TextInput,
                egui::Role::MultilineTextInput,
            ];
            controls.contains(&node.role()) && node.label().unwrap_or_default().trim().is_empty()
        })
        .map(|node| format!("{:?} at {:?}", node.accesskit_node().role(), node.rect()))
        .collect();
    assert!(nameless.is_empty(), "{nameless:?}");
    assert!(GRIDS.len() > 1);
}

#[test]
fn a_request_for_a_model_is_passed_on() {
    let (engine, handle) = ScriptedEngine::new();
    let folder = PathBuf::from("/models/big");
    handle.send(Request::LoadModel { folder }).unwrap();
    assert!(matches!(engine.request(), Some(Request::LoadModel { .. })));
}
