//! Stop flags of jobs, read between scales and between steps.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::api::JobId;

/// Which jobs the user has stopped or paused.
///
/// A flag and not a request: a busy thread reads no queue.
#[derive(Debug, Default)]
pub struct CancelBoard {
    stopped: Mutex<HashSet<JobId>>,
    paused: Mutex<HashSet<JobId>>,
}

impl CancelBoard {
    /// Marks a job as stopped.
    pub fn cancel(&self, job: JobId) {
        lock(&self.stopped).insert(job);
    }

    /// Pauses a lesson, or has it go on.
    pub fn pause(&self, job: JobId, paused: bool) {
        let mut list = lock(&self.paused);
        if paused {
            list.insert(job);
        } else {
            list.remove(&job);
        }
    }

    /// Whether a job is paused.
    pub fn is_paused(&self, job: JobId) -> bool {
        lock(&self.paused).contains(&job)
    }

    /// Whether a job was stopped.
    pub fn is_cancelled(&self, job: JobId) -> bool {
        lock(&self.stopped).contains(&job)
    }

    /// All jobs that are stopped, and all that are paused.
    pub(crate) fn marked(&self) -> [HashSet<JobId>; 2] {
        [&self.stopped, &self.paused].map(|list| lock(list).clone())
    }

    /// Forgets a job that has ended.
    pub fn forget(&self, job: JobId) {
        lock(&self.stopped).remove(&job);
        lock(&self.paused).remove(&job);
    }
}

fn lock(list: &Mutex<HashSet<JobId>>) -> std::sync::MutexGuard<'_, HashSet<JobId>> {
    list.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
