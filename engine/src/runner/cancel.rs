//! Stop flags of jobs, read between scales and between steps.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::api::JobId;

/// Which jobs the user has stopped.
///
/// A flag and not a request: a busy thread reads no queue.
#[derive(Debug, Default)]
pub struct CancelBoard {
    stopped: Mutex<HashSet<JobId>>,
}

impl CancelBoard {
    /// Marks a job as stopped.
    pub fn cancel(&self, job: JobId) {
        self.lock().insert(job);
    }

    /// Whether a job was stopped.
    pub fn is_cancelled(&self, job: JobId) -> bool {
        self.lock().contains(&job)
    }

    /// Forgets a job that has ended.
    pub fn forget(&self, job: JobId) {
        self.lock().remove(&job);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<JobId>> {
        self.stopped
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
