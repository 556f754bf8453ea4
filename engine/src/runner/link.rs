//! The engine thread's end of the channels: tells events, sees stop flags.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::CancelBoard;
use crate::api::{Event, JobId};

/// See [`SpawnOptions::on_step`](super::SpawnOptions::on_step).
pub(super) type OnStep = Box<dyn FnMut() + Send>;

/// Tells events to the app and hears what it stops.
pub(super) struct Link {
    events: Sender<Event>,
    wake: Box<dyn Fn() + Send>,
    on_step: RefCell<Option<OnStep>>,
    cancels: Arc<CancelBoard>,
    closed: Cell<bool>,
    lesson_bytes: Cell<Option<u64>>,
}

impl Link {
    pub(super) fn new(
        events: Sender<Event>,
        wake: Box<dyn Fn() + Send>,
        on_step: Option<OnStep>,
        cancels: Arc<CancelBoard>,
    ) -> Self {
        Self {
            events,
            wake,
            on_step: RefCell::new(on_step),
            cancels,
            closed: Cell::new(false),
            lesson_bytes: Cell::new(None),
        }
    }

    /// Sends an event and wakes the app. Nobody listening means the app is gone.
    pub(super) fn tell(&self, event: Event) {
        if let Event::TuneFitted { memory, .. } = &event {
            self.lesson_bytes.set(Some(memory.bytes()));
        }
        if self.events.send(event).is_err() {
            self.closed.set(true);
        } else {
            (self.wake)();
        }
    }

    /// The app is gone.
    pub(super) fn close(&self) {
        self.closed.set(true);
    }

    /// What the last lesson was to take in memory.
    pub(super) fn lesson_bytes(&self) -> Option<u64> {
        self.lesson_bytes.get()
    }

    /// Called within a job at every scale and every update.
    pub(super) fn step(&self) {
        if let Some(on_step) = self.on_step.borrow_mut().as_mut() {
            on_step();
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
