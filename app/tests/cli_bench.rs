//! Measuring, from the outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and says what it left out"
)]

mod common;

use common::{program, stderr};
use infinity_engine::bench::Report;

/// Most kernels that a scale of the starter may take: 18 a block, and what comes before and after, 136 in all.
const MOST_KERNELS: u64 = 140;

/// The host waits for a graphics device once per scale, picture and text, and a scale is few kernels.
#[test]
fn a_scale_is_few_kernels_and_one_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("times.json");
    let measured = |device: &str| {
        let output = program()
            .args(["bench", "--runs", "1", "--device", device, "--json"])
            .arg(&path)
            .output()
            .unwrap();
        let said = stderr(&output);
        assert!(output.status.success() || device == "software", "{said}");
        output.status.success().then(|| {
            let bytes = std::fs::read(&path).unwrap();
            serde_json::from_slice::<Report>(&bytes).unwrap()
        })
    };
    let report = measured("cpu").unwrap();
    assert!(report.parts.iter().all(|part| part.launches == 0));
    assert!(report.parts.iter().all(|part| part.readings == 1));
    let Some(report) = measured("software") else {
        eprintln!("SKIPPED: no software graphics driver, so no kernels to count");
        return;
    };
    for part in &report.parts {
        let name = &part.name;
        assert_eq!(part.readings, 1, "{name}");
        // The first scale reads the text as well.
        if name.starts_with("scale") && name != "scale 1" {
            assert!((90..=MOST_KERNELS).contains(&part.launches), "{part:?}");
        }
        assert!(part.launches > 0, "{name}");
        let device = part.device_secs.expect("the driver has a clock");
        assert!(device > 0.0 && device < 60.0, "{part:?}");
    }
}

/// One command measures a card: what would take too long is left out and said, the rest is written down.
#[test]
fn a_card_is_measured_in_one_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("card.json");
    let output = program()
        .args([
            "bench", "--preset", "card", "--runs", "1", "--device", "cpu",
        ])
        .args(["--at-most", "0.5", "--json"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = |start: &str| {
        let lines = said.lines().filter(|line| line.starts_with(start));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(
        lines("starter 0.06M")[0].ends_with("single, single"),
        "{said}"
    );
    for size in ["0.06M", "0.25M", "0.60M", "1M"] {
        for line in lines(&format!("2b {size}")) {
            assert!(line.contains("left out: it may take"), "{line}");
        }
    }
    let bytes = std::fs::read(&path).unwrap();
    let reports: Vec<Report> = serde_json::from_slice(&bytes).unwrap();
    assert!(!reports.is_empty());
    for report in &reports {
        assert_eq!(report.preset, "starter");
        assert!(report.giga_operations_per_sec() > 0.1, "{report:?}");
        assert!(report.peak() > 0.0);
    }
}
