//! Drawing on from a scale of a picture, by the words in the window, over a scripted engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use infinity_tests::desk::Desk;

#[test]
fn scales_of_a_picture_are_kept_for_the_next() {
    let mut desk = Desk::ready();
    let (_, parent) = desk.draw_to_end();
    assert_eq!((parent.keep, parent.bits), (0, None));
    desk.click("Scale 3 of 7");
    desk.click("Keep up to here");
    desk.assert_sees("keeps the first 3 scales");
    let (job, spec) = desk.draw();
    assert_eq!(spec.keep, 3);
    assert!(spec.bits.is_some());
    assert_ne!(spec.seed, parent.seed);
    desk.engine.start(job, &spec);
    desk.engine.finish(job, &spec);
    desk.harness.run();
    // The wish stays until it is taken back, or another shape is chosen.
    assert_eq!(desk.draw().1.keep, 3);
    desk.click("Keep nothing");
    assert_eq!(desk.draw().1.keep, 0);
    desk.click("Scale 1 of 7");
    desk.click("Keep up to here");
    desk.assert_sees("keeps the first scale");
    desk.click("Ratio 5:3 (160 × 96)");
    let (_, spec) = desk.draw();
    assert_eq!((spec.keep, spec.bits), (0, None));
}
