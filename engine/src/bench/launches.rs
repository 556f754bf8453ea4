//! What a graphics device is asked to do: kernels launched, and how long it says that they took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cubecl::logging::{LaunchObservation, LaunchObserver, ProfileDuration, TimingRequest};

/// Counts what is launched while it lives, and may have the device time it.
pub(super) struct Launches {
    seen: Arc<Seen>,
    _watching: LaunchObservation,
}

struct Seen {
    count: AtomicU64,
    timed: bool,
    /// What the device will say; not read before the work is done.
    profiles: Mutex<Vec<ProfileDuration>>,
}

impl LaunchObserver for Seen {
    fn launched(&self, _kernel: &'static str) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn timing(&self) -> TimingRequest {
        if self.timed {
            TimingRequest::Deferred
        } else {
            TimingRequest::None
        }
    }

    fn profiled(&self, _kernel: &'static str, profile: ProfileDuration) {
        if let Ok(mut profiles) = self.profiles.lock() {
            profiles.push(profile);
        }
    }
}

impl Launches {
    /// Begins to watch. Having launches timed slows the host down, so times by the clock are taken without.
    pub(super) fn watch(timed: bool) -> Self {
        let seen = Arc::new(Seen {
            count: AtomicU64::new(0),
            timed,
            profiles: Mutex::new(Vec::new()),
        });
        Self {
            _watching: LaunchObservation::new(seen.clone()),
            seen,
        }
    }

    /// Kernels launched since the last call, and the seconds that the device was busy with them, where it says so.
    pub(super) fn take(&self) -> (u64, Option<f32>) {
        let count = self.seen.count.swap(0, Ordering::Relaxed);
        let profiles = self
            .seen
            .profiles
            .lock()
            .map(|mut list| std::mem::take(&mut *list));
        let mut secs = None;
        for profile in profiles.unwrap_or_default() {
            if let Some(ticks) = pollster::block_on(profile.resolve()) {
                *secs.get_or_insert(0.0) += ticks.duration().as_secs_f32();
            }
        }
        (count, secs)
    }
}
