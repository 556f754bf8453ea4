//! The engine thread and the handle to it.
//!
//! Only this room owns channels and the thread. Everything else in the engine
//! is called from that thread.

mod cancel;

pub use cancel::CancelBoard;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};

use crate::api::{EngineError, Event, JobId, Request, Task};

/// The app's end of the engine: sends requests, receives events, stops jobs.
///
/// Dropping it closes the channel, and the engine thread ends after the scale it is on.
pub struct EngineHandle {
    requests: Sender<Request>,
    events: Receiver<Event>,
    cancels: Arc<CancelBoard>,
    next_job: AtomicU64,
}

impl EngineHandle {
    /// A handle over given channels: the engine's, or a script's in a test.
    pub fn from_parts(
        requests: Sender<Request>,
        events: Receiver<Event>,
        cancels: Arc<CancelBoard>,
    ) -> Self {
        Self {
            requests,
            events,
            cancels,
            next_job: AtomicU64::new(1),
        }
    }

    /// Asks for something without a job number.
    ///
    /// # Errors
    /// [`EngineError::EngineGone`] when the engine thread has ended.
    pub fn send(&self, request: Request) -> Result<(), EngineError> {
        self.requests
            .send(request)
            .map_err(|_closed| EngineError::EngineGone)
    }

    /// Queues a job and returns its number.
    ///
    /// # Errors
    /// [`EngineError::EngineGone`] when the engine thread has ended.
    pub fn run(&self, task: Task) -> Result<JobId, EngineError> {
        let job = JobId(self.next_job.fetch_add(1, Ordering::Relaxed));
        self.send(Request::Run { job, task })?;
        Ok(job)
    }

    /// Stops a job, running or queued. Takes effect within one scale.
    pub fn cancel(&self, job: JobId) {
        self.cancels.cancel(job);
    }

    /// The next event, if one is there.
    pub fn try_event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Waits for the next event; `None` when the engine has ended.
    pub fn wait_event(&self) -> Option<Event> {
        self.events.recv().ok()
    }
}
