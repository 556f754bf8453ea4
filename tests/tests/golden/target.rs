//! Where the recorded cases are computed again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a test stops at the first surprise"
)]

use std::sync::{LazyLock, OnceLock};

use infinity_engine::api::{DeviceChoice, EngineError};
use infinity_engine::device::{OpenDevice, open};

/// Values in the largest tensor of the `small` targets: queries, keys and pictures come in pieces.
const SMALL: usize = 4096;

/// A device, and how it is used.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    choice: DeviceChoice,
    max_elements: Option<usize>,
    /// Whether operations are recorded for gradients, as in training.
    autodiff: bool,
    /// Groups of tensors that are checked here; all when empty.
    groups: &'static [&'static str],
    opened: OnceLock<Result<OpenDevice, String>>,
}

impl Target {
    fn new(name: &'static str, choice: DeviceChoice) -> Self {
        Self {
            name,
            choice,
            max_elements: None,
            autodiff: false,
            groups: &[],
            opened: OnceLock::new(),
        }
    }

    fn small(self, groups: &'static [&'static str]) -> Self {
        Self {
            max_elements: Some(SMALL),
            groups,
            ..self
        }
    }

    fn training(self, groups: &'static [&'static str]) -> Self {
        Self {
            autodiff: true,
            groups,
            ..self
        }
    }

    /// The device, or why this machine has none of its kind.
    pub(crate) fn open(&self) -> Result<OpenDevice, String> {
        let opened = self.opened.get_or_init(|| match open(self.choice) {
            Ok(device) => {
                eprintln!(
                    "golden: {} is {} {}",
                    self.name, device.info.name, device.info.backend
                );
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

    /// Whether tensors are as large as the device allows.
    pub(crate) fn is_whole(&self) -> bool {
        self.max_elements.is_none()
    }

    /// Whether the tensors of `group` are checked here.
    pub(crate) fn takes(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.contains(&group)
    }
}

static TARGETS: LazyLock<Vec<Target>> = LazyLock::new(|| {
    vec![
        Target::new("cpu", DeviceChoice::Cpu),
        Target::new("cpu-small", DeviceChoice::Cpu).small(&[]),
        Target::new("cpu-training", DeviceChoice::Cpu).training(&["text", "cond", "vae", "train"]),
        Target::new("software", DeviceChoice::Software),
        Target::new("software-small", DeviceChoice::Software).small(&["gen_square", "vae"]),
        Target::new(GPU, DeviceChoice::Gpu(None)),
    ]
});

/// A graphics card may round products to fewer digits than the tolerances ask for, so it takes
/// part only when `$INFINITY_GOLDEN_GPU` is set.
const GPU: &str = "gpu";

/// All targets; a machine without a software graphics driver reports those trials as ignored.
pub(crate) fn targets() -> impl Iterator<Item = &'static Target> {
    let with_gpu = std::env::var_os("INFINITY_GOLDEN_GPU").is_some();
    TARGETS
        .iter()
        .filter(move |target| with_gpu || target.name != GPU)
}
