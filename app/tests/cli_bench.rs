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

/// Most kernels that a scale of the starter may take: 28 a block, and what comes before and after.
const MOST_KERNELS: u64 = 220;

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
            assert!((100..=MOST_KERNELS).contains(&part.launches), "{part:?}");
        }
        assert!(part.launches > 0, "{name}");
        let device = part.device_secs.expect("the driver has a clock");
        assert!(device > 0.0 && device < 60.0, "{part:?}");
    }
}
