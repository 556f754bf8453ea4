//! The engine thread's end of the channels: tells events, sees stop flags.

use std::cell::Cell;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::CancelBoard;
use crate::api::{Event, JobId};

/// Tells events to the app and hears what it stops.
pub(super) struct Link {
    events: Sender<Event>,
    wake: Box<dyn Fn() + Send>,
    cancels: Arc<CancelBoard>,
    closed: Cell<bool>,
}

impl Link {
    pub(super) fn new(
        events: Sender<Event>,
        wake: Box<dyn Fn() + Send>,
        cancels: Arc<CancelBoard>,
    ) -> Self {
        Self {
            events,
            wake,
            cancels,
            closed: Cell::new(false),
        }
    }

    /// Sends an event and wakes the app. Nobody listening means the app is gone.
    pub(super) fn tell(&self, event: Event) {
        if self.events.send(event).is_err() {
            self.closed.set(true);
        } else {
            (self.wake)();
        }
    }

    /// Whether a job is to end early: stopped by the user, or the app is gone.
    pub(super) fn is_stopped(&self, job: JobId) -> bool {
        self.closed.get() || self.cancels.is_cancelled(job)
    }

    /// Whether a job is to wait.
    pub(super) fn is_paused(&self, job: JobId) -> bool {
        self.cancels.is_paused(job)
    }

    /// Whether the app is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Forgets the stop flag of a job that has ended.
    pub(super) fn forget(&self, job: JobId) {
        self.cancels.forget(job);
    }
}
