//! Every study runs to its end in its quick form, with a finite figure in every place.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use infinity_engine::api::DeviceChoice;
use infinity_engine::device;
use infinity_engine::generate::Bundle;
use infinity_engine::lab::{
    ClassifierReport, CorrectionReport, CostReport, Effort, GuidanceReport, PowersReport,
    SidesReport, SizesReport, VarietyReport, VocabularyReport, recovery,
};
use infinity_tests::models::{self, STARTER_SCALES};
use serde_json::Value;

fn starter() -> Bundle {
    Bundle::open(
        &models::starter(),
        &device::open(DeviceChoice::Cpu).unwrap(),
    )
    .unwrap()
}

/// Counts the figures; none may be missing, which is how JSON writes what is not finite.
fn figures(value: &Value) -> usize {
    match value {
        Value::Null => panic!("a figure is not finite"),
        Value::Number(_) => 1,
        Value::Array(list) => list.iter().map(figures).sum(),
        Value::Object(map) => map.values().map(figures).sum(),
        Value::Bool(_) | Value::String(_) => 0,
    }
}

#[test]
fn powers_are_measured() {
    let report = PowersReport::measure(&starter(), Effort::quick(1), &mut |_| {}).unwrap();
    assert!(figures(&serde_json::to_value(&report).unwrap()) > 60);
    let scales = report.layout.len();
    assert_eq!(
        (scales, report.likeness.len()),
        (STARTER_SCALES, STARTER_SCALES)
    );
    // What follows from how it is made, whatever the weights: bytes outside, and likeness that grows.
    assert!(report.masks.iter().all(|row| row.outside_same == 1.0));
    assert!(report.likeness[STARTER_SCALES - 1].psnr > report.likeness[0].psnr);
    assert!(report.to_string().contains("plain teacher forcing"));
}

#[test]
fn sides_and_variety_are_measured() {
    let bundle = starter();
    let sides = SidesReport::measure(&bundle, Effort::quick(1)).unwrap();
    assert_eq!(sides.sides.len(), 4);
    assert_eq!(sides.sides[1].secs.len(), 3);
    assert!(sides.sides[2].secs.is_empty());
    // What the paper computes: powers of four and six.
    assert!((sides.exponents[1] - 4.0).abs() < 0.01 && (sides.exponents[2] - 6.0).abs() < 0.01);
    assert!(sides.exponents.iter().all(|exponent| exponent.is_finite()));
    assert!(sides.to_string().contains("token after token"));
    let variety = VarietyReport::measure(&bundle, Effort::quick(1), &mut |_| {}).unwrap();
    assert_eq!(figures(&serde_json::to_value(&variety).unwrap()), 16);
    assert!(variety.arms.iter().all(|arm| arm.variety[0] > 0.0));
}

#[test]
fn costs_are_measured() {
    // Fewer scales than the starter has, for time.
    const SCALES: usize = 5;
    let report = CostReport::measure(&starter(), Some(SCALES), Effort::quick(1)).unwrap();
    assert!(figures(&serde_json::to_value(&report).unwrap()) > 60);
    let by_tokens: Vec<f32> = report.drafts[..SCALES - 1]
        .iter()
        .map(|row| row.by_tokens)
        .collect();
    assert!(by_tokens.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(report.branches.len(), SCALES);
    assert!(report.to_string().contains("one after the other"));
}

#[test]
fn recovery_and_guidance_are_measured() {
    let bundle = starter();
    let mended = recovery(&bundle, Effort::quick(1)).unwrap();
    // Flips do something, and not everything.
    assert!((8.0..98.0).contains(&mended.psnr), "{mended:?}");
    let report = GuidanceReport::measure(&bundle, Effort::quick(1)).unwrap();
    assert_eq!(figures(&serde_json::to_value(&report).unwrap()), 21);
    assert_eq!(report.rows[0].psnr, [99.0]);
    assert!(report.rows[4].psnr[0] < 60.0);
    assert!(report.to_string().contains("without guidance"));
}

/// Every arm of a study from nothing has its runs, and training moved it: equal seeds, other losses.
fn all_differ(losses: &[&Vec<f32>]) {
    assert!(losses.iter().all(|runs| runs.len() == 2));
    let mut all: Vec<f32> = losses
        .iter()
        .flat_map(|runs| runs.iter().copied())
        .collect();
    all.sort_by(f32::total_cmp);
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
}

#[test]
fn self_correction_is_measured_from_nothing() {
    let report = CorrectionReport::measure(&starter(), Effort::quick(1), &mut |_| {}).unwrap();
    assert_eq!(
        figures(&serde_json::to_value(&report).unwrap()),
        1 + 3 * 6 * 2
    );
    all_differ(
        &report
            .arms
            .iter()
            .map(|arm| &arm.runs.loss)
            .collect::<Vec<_>>(),
    );
    assert!(report.to_string().contains("flips alone"));
}

#[test]
fn classifiers_are_measured_from_nothing() {
    let report = ClassifierReport::measure(&starter(), Effort::quick(1), &mut |_| {}).unwrap();
    assert_eq!(report.arms.len(), 4);
    figures(&serde_json::to_value(&report).unwrap());
    all_differ(
        &report
            .arms
            .iter()
            .map(|arm| &arm.runs.loss)
            .collect::<Vec<_>>(),
    );
    // A softmax over words of ten bits has 1024 answers where bits have 20.
    let heads: Vec<u64> = report.arms.iter().map(|arm| arm.head_parameters).collect();
    assert_eq!(heads[1] / heads[0], 51);
    // All else is the same.
    let rest = |arm: usize| report.arms[arm].parameters - heads[arm];
    assert_eq!(rest(0), rest(1));
}

#[test]
fn vocabularies_are_measured_from_nothing() {
    let device = device::open(DeviceChoice::Cpu).unwrap().device;
    let report = VocabularyReport::measure(&device, Effort::quick(1), &mut |_| {}).unwrap();
    figures(&serde_json::to_value(&report).unwrap());
    assert_eq!(report.arms.len(), 4);
    all_differ(&report.arms.iter().map(|arm| &arm.psnr).collect::<Vec<_>>());
    let cost = |quantiser: &str, bits: usize| {
        let mut costs = report.costs.iter();
        let found = costs.find(|cost| cost.quantiser == quantiser && cost.bits == bits);
        found.unwrap().ms
    };
    // A thousand words against ten bits.
    assert!(cost("LFQ", 10) > cost("BSQ", 10));
    assert!(report.to_string().contains("LFQ"));
}

#[test]
fn sizes_are_measured_from_nothing() {
    let report = SizesReport::measure(&starter(), Effort::quick(1), &mut |_| {}).unwrap();
    figures(&serde_json::to_value(&report).unwrap());
    all_differ(
        &report
            .arms
            .iter()
            .map(|arm| &arm.runs.loss)
            .collect::<Vec<_>>(),
    );
    assert!(
        report
            .arms
            .windows(2)
            .all(|pair| pair[0].parameters < pair[1].parameters)
    );
    assert!((-1.0..=1.0).contains(&report.correlation));
}
