//! Where the recorded cases are computed again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "a test stops at the first surprise")]

use std::sync::OnceLock;

use infinity_engine::api::{DeviceChoice, EngineError};
use infinity_engine::device::{OpenDevice, open};

/// Values in the largest tensor of the `small` targets: queries, keys and pictures come in pieces.
const SMALL: usize = 4096;

/// A device, and how it is used.
pub struct Target {
    pub name: &'static str,
    choice: DeviceChoice,
    max_elements: Option<usize>,
    /// Whether operations are recorded for gradients, as in training.
    autodiff: bool,
    /// Groups of tensors that are checked here; all when empty.
    groups: &'static [&'static str],
    opened: OnceLock<Result<OpenDevice, String>>,
}

impl Target {
    const fn new(name: &'static str, choice: DeviceChoice, max_elements: Option<usize>) -> Self {
        Self { name, choice, max_elements, autodiff: false, groups: &[], opened: OnceLock::new() }
    }

    /// The processor with operations recorded, for the networks that are trained.
    const fn training() -> Self {
        Self {
            name: "cpu-training",
            choice: DeviceChoice::Cpu,
            max_elements: None,
            autodiff: true,
            groups: &["text", "cond", "vae", "train"],
            opened: OnceLock::new(),
        }
    }

    /// The device, or why this machine has none of its kind.
    pub fn open(&self) -> Result<OpenDevice, String> {
        let opened = self.opened.get_or_init(|| match open(self.choice) {
            Ok(device) => {
                eprintln!("golden: {} is {} {}", self.name, device.info.name, device.info.backend);
                Ok(device)
            }
            Err(error @ EngineError::NoDevice { .. }) => {
                let reason = format!("this machine has no such device: {error}");
                eprintln!("golden: {} is left out; {reason}", self.name);
                Err(reason)
            }
            Err(error) => panic!("{error}"),
        });
        let mut device = opened.clone()?;
        if let Some(limit) = self.max_elements {
            device.max_elements = limit;
        }
        if self.autodiff {
            device.device = device.device.autodiff();
        }
        Ok(device)
    }

    pub fn takes(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.contains(&group)
    }
}

/// All targets; a machine without a software graphics driver reports those trials as ignored.
pub static TARGETS: [Target; 4] = [
    Target::new("cpu", DeviceChoice::Cpu, None),
    Target::new("cpu-small", DeviceChoice::Cpu, Some(SMALL)),
    Target::training(),
    Target::new("software", DeviceChoice::Software, None),
];
