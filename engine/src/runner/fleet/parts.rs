//! Drafts that several engines draw together.

use std::collections::BTreeMap;

use crate::api::{EngineError, Event, JobId};

/// What came of the parts so far.
pub(super) struct Parts {
    /// The engines that have not ended, with the number of their first draft.
    open: BTreeMap<usize, usize>,
    started: bool,
    secs: f32,
    cost: f32,
    cancelled: bool,
    failed: Option<EngineError>,
}

/// `count` drafts in `ways` parts, as even as they can be: the first draft of each and how many.
pub(super) fn shares(count: usize, ways: usize) -> Vec<(usize, usize)> {
    let ways = ways.clamp(1, count.max(1));
    let ends = (0..=ways).map(|part| part * count / ways);
    let ends: Vec<usize> = ends.collect();
    ends.windows(2)
        .map(|pair| (pair[0], pair[1] - pair[0]))
        .collect()
}

impl Parts {
    /// Parts that engines have just been given.
    pub(super) fn new(open: BTreeMap<usize, usize>) -> Self {
        Self {
            open,
            started: false,
            secs: 0.0,
            cost: 0.0,
            cancelled: false,
            failed: None,
        }
    }

    /// Takes in what the engine with this number tells; gives what the app is to hear of it.
    pub(super) fn hear(&mut self, engine: usize, event: Event) -> Option<Event> {
        match event {
            Event::Started { .. } if !self.started => {
                self.started = true;
                return Some(event);
            }
            Event::DraftDone {
                job,
                index,
                image,
                spec,
            } => {
                return Some(Event::DraftDone {
                    job,
                    index: index + self.open.get(&engine).copied().unwrap_or_default(),
                    image,
                    spec,
                });
            }
            Event::DraftsDone {
                elapsed_secs, cost, ..
            } => {
                self.secs = self.secs.max(elapsed_secs);
                self.cost += cost;
                self.open.remove(&engine);
            }
            Event::Cancelled { .. } => {
                self.cancelled = true;
                self.open.remove(&engine);
            }
            Event::Failed { error, .. } => {
                self.failed.get_or_insert(error);
                self.open.remove(&engine);
            }
            _ => {}
        }
        None
    }

    /// The engines that are to stop, for another one failed.
    pub(super) fn to_stop(&self) -> impl Iterator<Item = usize> {
        let open = self.failed.is_some().then(|| self.open.keys().copied());
        open.into_iter().flatten()
    }

    /// How the whole ended, once all parts have.
    pub(super) fn end(&mut self, job: JobId) -> Option<Event> {
        if !self.open.is_empty() {
            return None;
        }
        Some(match (self.failed.take(), self.cancelled) {
            (Some(error), _) => Event::Failed { job, error },
            (None, true) => Event::Cancelled { job },
            (None, false) => Event::DraftsDone {
                job,
                elapsed_secs: self.secs,
                cost: self.cost,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_whole() {
        assert_eq!(shares(16, 2), [(0, 8), (8, 8)]);
        assert_eq!(shares(7, 3), [(0, 2), (2, 2), (4, 3)]);
        assert_eq!(shares(2, 5), [(0, 1), (1, 1)]);
    }

    #[test]
    fn one_end_is_told_for_all_parts() {
        let job = JobId(7);
        let done = |secs| Event::DraftsDone {
            job,
            elapsed_secs: secs,
            cost: 1.5,
        };
        let mut parts = Parts::new(BTreeMap::from([(0, 0), (2, 4)]));
        assert!(parts.hear(2, done(3.0)).is_none() && parts.end(job).is_none());
        assert!(parts.hear(0, done(2.0)).is_none());
        let end = parts.end(job);
        assert!(
            matches!(
                end,
                Some(Event::DraftsDone {
                    elapsed_secs: 3.0,
                    cost: 3.0,
                    ..
                })
            ),
            "{end:?}"
        );
        let mut parts = Parts::new(BTreeMap::from([(0, 0), (2, 4)]));
        let error = EngineError::EngineGone;
        parts.hear(0, Event::Failed { job, error });
        assert_eq!(parts.to_stop().collect::<Vec<_>>(), [2]);
        parts.hear(2, Event::Cancelled { job });
        assert!(matches!(parts.end(job), Some(Event::Failed { .. })));
    }
}
