//! What is done when a device's memory runs out or the device is lost: the job is tried again in a smaller way.
//!
//! Memory is planned before anything runs ([`memory`](crate::memory)), but other programs take some of it, and drivers do
//! not always say how much there is. The first thing to give way is how the model is kept, then the size of the
//! pieces that work is done in: neither changes what is drawn but by rounding. Guidance at the last scales and the
//! size of the picture follow, for the one job only. Each is told in a sentence.

use std::borrow::Cow;

use crate::api::{EngineError, GenerateSpec, Keeping, Mode, Storage, Task};

/// How often a job is begun anew after its device was lost.
const MOST_LOSSES: u32 = 1;
/// How often a lesson is planned anew for less memory.
const MOST_LESSONS: u32 = 3;
/// Work is not done in pieces of fewer values than this.
const LEAST_PIECE: usize = 1 << 18;
/// Numbers of scales that a picture falls back to.
const SMALLER: [usize; 5] = [12, 10, 7, 5, 4];

/// What a device can fail of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Its memory is full.
    Memory,
    /// It does not answer any more.
    Lost(String),
}

impl Trouble {
    /// What `error`, which the backend or the driver worded, says about the device.
    pub(super) fn of(error: &EngineError) -> Option<Self> {
        let EngineError::Internal { what } = error else {
            return None;
        };
        let text = what.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&[
            "out of memory",
            "out-of-memory",
            "out of device memory",
            "out of host memory",
            "outofmemory",
            "not enough memory",
        ]) {
            return Some(Self::Memory);
        }
        if says(&["poisoned", "device lost", "device is lost", "devicelost"]) {
            let line = what.lines().find(|line| !line.trim().is_empty());
            return Some(Self::Lost(line.unwrap_or("no details").trim().to_owned()));
        }
        None
    }

    /// The same for the user.
    pub(super) fn told(self, device: &str) -> EngineError {
        let device = device.to_owned();
        match self {
            Self::Memory => EngineError::OutOfMemory { device },
            Self::Lost(what) => EngineError::DeviceLost { device, what },
        }
    }
}

/// What was given up for one job.
#[derive(Clone, Debug, Default)]
pub(super) struct Relief {
    losses: u32,
    lessons: u32,
    mode: Mode,
    scales: Option<usize>,
    /// Sentences for the user.
    pub(super) notes: Vec<String>,
}

impl Relief {
    /// Whether the job may be begun anew on a device that was lost and opened again.
    pub(super) fn after_loss(&mut self, device: &str) -> bool {
        self.losses += 1;
        let again = self.losses <= MOST_LOSSES;
        if again {
            self.notes.push(format!(
                "{device} stopped answering. It was opened again and the job begun anew."
            ));
        }
        again
    }

    /// Notes that a model kept as `before` is now kept as `after`; `false` when that is the same.
    pub(super) fn keeps(&mut self, before: Keeping, after: Keeping) -> bool {
        let changes = [
            (
                before.text_stays && !after.text_stays,
                "the text encoder leaves after reading",
            ),
            (
                before.weights == Storage::Single && after.weights == Storage::Half,
                "large weights are kept in half precision",
            ),
            (
                before.weights != Storage::Eight && after.weights == Storage::Eight,
                "large weights are kept in eight bits",
            ),
            (
                before.cache == Storage::Single && after.cache == Storage::Half,
                "keys and values are kept in half precision",
            ),
            (
                before.cache != Storage::Eight && after.cache == Storage::Eight,
                "keys and values are kept in eight bits",
            ),
        ];
        let changed: Vec<&str> = changes
            .into_iter()
            .filter_map(|(is, what)| is.then_some(what))
            .collect();
        if !changed.is_empty() {
            self.give(&changed.join(" and "));
        }
        !changed.is_empty()
    }

    /// A smaller piece to work in than `max_elements`; `None` when it cannot be smaller.
    pub(super) fn piece(&mut self, max_elements: usize) -> Option<usize> {
        let smaller = max_elements / 4;
        (smaller >= LEAST_PIECE).then(|| {
            self.give("work is done in smaller pieces");
            smaller
        })
    }

    /// Whether a lesson may be planned once more for less memory.
    pub(super) fn of_lesson(&mut self) -> bool {
        self.lessons += 1;
        let again = self.lessons <= MOST_LESSONS;
        if again {
            self.give("the lesson goes on in a smaller way");
        }
        again
    }

    /// Gives up something of the picture that `task` wishes, of a model that draws `usual` scales; `false` when
    /// nothing is left to give up.
    pub(super) fn of_picture(&mut self, task: &Task, usual: usize) -> bool {
        let (Task::Generate(spec) | Task::GenerateFrom { spec, .. } | Task::Drafts { spec, .. }) =
            task
        else {
            return false;
        };
        let count = spec.scale_count.unwrap_or(usual);
        if self.mode == Mode::Exact && Mode::Balanced.guidance(&spec.cfg, count) != spec.cfg {
            self.mode = Mode::Balanced;
            self.give("the last scales are drawn without guidance");
            return true;
        }
        // A picture that starts from another one keeps its size.
        if !matches!(task, Task::Generate(_)) || spec.keep > 0 {
            return false;
        }
        let now = self.scales.unwrap_or(count);
        let Some(smaller) = SMALLER.into_iter().find(|&scales| scales < now) else {
            return false;
        };
        self.scales = Some(smaller);
        self.give("the picture is drawn smaller");
        true
    }

    fn give(&mut self, what: &str) {
        self.notes.push(format!("Memory ran out: {what}."));
    }

    /// `task` without what was given up.
    pub(super) fn eased<'a>(&self, task: &'a Task, usual: usize) -> Cow<'a, Task> {
        if self.mode == Mode::Exact && self.scales.is_none() {
            return Cow::Borrowed(task);
        }
        let mut task = task.clone();
        if let Task::Generate(spec) | Task::GenerateFrom { spec, .. } | Task::Drafts { spec, .. } =
            &mut task
        {
            self.ease(spec, usual);
        }
        Cow::Owned(task)
    }

    fn ease(&self, spec: &mut GenerateSpec, usual: usize) {
        if let Some(scales) = self.scales {
            spec.scale_count = Some(scales);
            spec.cfg.truncate(scales);
            spec.tau.truncate(scales);
        }
        let count = spec.scale_count.unwrap_or(usual);
        spec.cfg = self.mode.guidance(&spec.cfg, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_drivers_are_understood() {
        let of = |what: &str| Trouble::of(&EngineError::internal(what));
        for what in [
            "wgpu error: Out of Memory",
            "reading logits: out of device memory allocating 12 bytes",
            "An out-of-memory error happened during launch",
            "ERROR_OUT_OF_DEVICE_MEMORY: OutOfMemory",
        ] {
            assert_eq!(of(what), Some(Trouble::Memory), "{what}");
        }
        assert!(matches!(
            of("\nreading logits: The device was poisoned during launch\nCaused by: x"),
            Some(Trouble::Lost(what)) if what == "reading logits: The device was poisoned during launch"
        ));
        assert!(matches!(
            of("Parent device is lost"),
            Some(Trouble::Lost(_))
        ));
        assert_eq!(of("index out of bounds"), None);
        assert_eq!(Trouble::of(&EngineError::NoModel), None);
    }

    #[test]
    fn pictures_give_way_step_by_step() {
        let mut relief = Relief::default();
        let task = Task::Generate(GenerateSpec::new("", 1));
        let Task::Generate(before) = &task else {
            unreachable!()
        };
        let mut sizes = Vec::new();
        while relief.of_picture(&task, 13) {
            let eased = relief.eased(&task, 13);
            let Task::Generate(spec) = eased.as_ref() else {
                unreachable!()
            };
            assert!(spec.cfg.len() <= spec.scale_count.unwrap_or(13));
            sizes.push((spec.scale_count, spec.cfg.last() == Some(&1.0)));
        }
        assert_eq!(before.cfg.len(), 1, "the wish itself is not touched");
        assert_eq!(
            sizes,
            [
                (None, true),
                (Some(12), true),
                (Some(10), true),
                (Some(7), true),
                (Some(5), true),
                (Some(4), true)
            ]
        );
        assert_eq!(relief.notes.len(), 6);
    }
}
