//! The engine held against tensors recorded from the reference program.
//!
//! One trial per case, device and kind of tensor, such as
//! `infinity-open::cpu::gen_square::bits`. The recorded files decide what is
//! compared: every tensor in them is an input, or a trial asks the engine for
//! it. `$INFINITY_GOLDEN_DIR` adds more cases; `tests/golden/README.md` says
//! what the tensors are.
#![allow(
    unreachable_pub,clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "a test stops at the first surprise")]

mod golden {
    pub mod case;
    pub mod extras;
    pub mod stages;
    pub mod target;
    pub mod train;
}

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use golden::case::{Case, Networks, folders, home};
use golden::target::{TARGETS, Target};
use golden::{extras, stages};
use infinity_engine::device::OpenDevice;
use infinity_tests::tolerance::{Arrays, compare, read_arrays};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// How far numbers may be from the reference: its own kernels differ by rounding only.
/// Bits, ids and bytes must be equal.
fn tolerance(name: &str) -> f32 {
    let stage = name.rsplit('/').next().unwrap_or_default();
    match stage {
        "logits" | "logits_sample1_uncond" => 2e-3, // values up to about 30
        "image01" => 1e-3,
        _ => 1e-4,
    }
}

/// Tensors that are given to the engine and not asked of it.
fn is_input(name: &str) -> bool {
    // The strengths are how the flips were drawn, and the flips are given.
    ["vae/image_pm1", "bsc/raw_features", "bsc/strengths"].contains(&name) || name.ends_with("/flip_mask")
}

/// `gen_square/s3/bits` as the group `gen_square` and the stage `bits`.
fn group_and_stage(name: &str) -> (&str, String) {
    let (group, rest) = name.split_once('/').unwrap_or(("", name));
    let is_scale = |part: &str| part.strip_prefix('s').is_some_and(|number| number.parse::<usize>().is_ok());
    match rest.split_once('/') {
        Some((first, stage)) if is_scale(first) => (group, stage.to_owned()),
        _ => (group, rest.replace('/', "::")),
    }
}

type Made = Result<Arrays, String>;

/// Something computed once, by whichever trial comes first.
#[derive(Default)]
struct Once(OnceLock<Made>);

impl Once {
    fn get(&self, make: impl FnOnce() -> Arrays) -> &Made {
        self.0.get_or_init(|| {
            catch_unwind(AssertUnwindSafe(make)).map_err(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
            })
        })
    }
}

/// A case on a target: its networks and what they have computed so far.
struct Bench {
    case: Arc<Case>,
    networks: Mutex<Option<Networks>>,
    made: BTreeMap<String, Once>,
}

impl Bench {
    fn make(&self, key: &str, device: &OpenDevice, what: impl FnOnce(&Case, &Networks) -> Arrays) -> &Made {
        self.made[key].get(|| {
            let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
            let networks = networks.get_or_insert_with(|| Networks::load(&self.case, device));
            what(&self.case, networks)
        })
    }
}

/// Compares the tensors `names`; all that are off are in the message.
fn compare_all(made: &Made, recorded: &Arrays, names: &[String]) -> Result<Completion, Failed> {
    let made = made.as_ref().map_err(|panic| Failed::from(format!("the engine stopped: {panic}")))?;
    let mut wrong = Vec::new();
    let mut worst = 0.0_f64;
    for name in names {
        match made.get(name).ok_or_else(|| format!("{name}: the engine gives no such tensor")) {
            Ok(got) => match compare(name, got, &recorded[name], tolerance(name)) {
                Ok(error) => worst = worst.max(error),
                Err(message) => wrong.push(message),
            },
            Err(message) => wrong.push(message),
        }
    }
    if wrong.is_empty() { Ok(Completion::Completed) } else { Err(wrong.join("\n").into()) }
}

fn case_trials(case: &Arc<Case>, trials: &mut Vec<Trial>) {
    let name = &case.name;
    if let Some(kind) = case.unknown_kind() {
        let reason = format!("cases of the kind {kind:?} are not supported");
        trials.push(ignored(name.clone(), reason));
        return;
    }
    let runs = case.runs();
    let mut by_stage: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for tensor in case.io.keys().filter(|tensor| !is_input(tensor)) {
        let (group, stage) = group_and_stage(tensor);
        let known = ["text", "cond", "rope", "vae", "bsc", "train"].contains(&group) || runs.iter().any(|run| run == group);
        if known {
            by_stage.entry((group.to_owned(), stage)).or_default().push(tensor.clone());
        } else {
            trials.push(ignored(format!("{name}::{}", tensor.replace('/', "::")), "no such tensor is known".to_owned()));
        }
    }
    let complete = case.clone();
    trials.push(Trial::test(format!("{name}::recording_is_complete"), move || stages::check_complete(&complete).map_err(Failed::from)));

    for target in &TARGETS {
        let keys = by_stage.keys().map(|(group, _)| group.clone());
        let keys = keys.chain(runs.iter().map(|run| format!("from_words::{run}")));
        let bench = Arc::new(Bench {
            case: case.clone(),
            networks: Mutex::new(None),
            made: keys.map(|key| (key, Once::default())).collect(),
        });
        for ((group, stage), tensors) in &by_stage {
            if !target.takes(group) {
                continue;
            }
            let (bench, group, tensors) = (bench.clone(), group.clone(), tensors.clone());
            trials.push(on_device(format!("{name}::{}::{group}::{stage}", target.name), target, move |device| {
                let made = bench.make(&group, device, |case, networks| stages::produce(case, networks, &group));
                compare_all(made, &bench.case.io, &tensors)
            }));
        }
        for run in runs.iter().filter(|run| target.takes(run)) {
            let ends = ["bits", "final_codes", "image_u8_bgr_corner"];
            let tensors = case.io.keys().filter(|tensor| {
                let (group, stage) = group_and_stage(tensor);
                group == run && ends.contains(&stage.as_str())
            });
            let (bench, run, tensors) = (bench.clone(), run.clone(), tensors.cloned().collect::<Vec<_>>());
            trials.push(on_device(format!("{name}::{}::{run}::from_words", target.name), target, move |device| {
                let made = bench.make(&format!("from_words::{run}"), device, |case, networks| stages::from_words(case, networks, &run));
                compare_all(made, &bench.case.io, &tensors)
            }));
        }
    }
}

/// Trials of single functions, from the file of extras beside the cases.
fn extras_trials(trials: &mut Vec<Trial>) {
    let recorded = Arc::new(read_arrays(&home().join("extras.safetensors")).unwrap());
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for tensor in recorded.keys().filter(|tensor| !extras::is_input(tensor)) {
        groups.entry(group_and_stage(tensor).0).or_default().push(tensor.clone());
    }
    for (group, tensors) in groups {
        if group == "lr" {
            for tensor in tensors {
                let reason = "the engine's learning rate follows straight lines given by the user, not this schedule";
                trials.push(ignored(format!("extras::{}", tensor.replace('/', "::")), reason.to_owned()));
            }
            continue;
        }
        // Only the tokenizer's loss computes on a device.
        let targets = TARGETS.iter().filter(|target| ["cpu", "software"].contains(&target.name));
        for target in targets.filter(|target| group == "bsqloss" || target.name == "cpu") {
            let once = Arc::new(Once::default());
            for tensor in &tensors {
                let (once, recorded, group, tensor) = (once.clone(), recorded.clone(), group.to_owned(), tensor.clone());
                let name = format!("extras::{}::{}", target.name, tensor.replace('/', "::"));
                trials.push(on_device(name, target, move |device| {
                    let made = once.get(|| extras::produce(&recorded, &group, device));
                    compare_all(made, &recorded, &[tensor])
                }));
            }
        }
    }
}

/// A trial that is reported as ignored on a machine without the device.
fn on_device(
    name: String,
    target: &'static Target,
    run: impl FnOnce(&OpenDevice) -> Result<Completion, Failed> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || match target.open() {
        Ok(device) => run(&device),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    })
}

fn ignored(name: String, reason: String) -> Trial {
    Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason)))
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for (name, folder) in folders() {
        let case = Case::read(&name, &folder).unwrap_or_else(|error| panic!("{error}"));
        case_trials(&Arc::new(case), &mut trials);
    }
    extras_trials(&mut trials);
    libtest_mimic::run(&arguments, trials).exit_code()
}
