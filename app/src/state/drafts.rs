//! Drafts: the first scales of many pictures, to choose from.

use infinity_engine::api::{Event, GenerateSpec, JobId, Rgb8Image};

/// Numbers of drafts to choose from.
pub const COUNTS: [usize; 5] = [4, 9, 16, 36, 64];

/// The drafts on the table.
#[derive(Clone, Debug)]
pub struct Drafts {
    /// The job that draws them.
    pub job: JobId,
    /// How many there are to be.
    pub count: usize,
    /// How many scales of each.
    pub scales: usize,
    /// How many scales a finished picture has.
    pub of: usize,
    /// What is drawn so far: the picture and the wish that finishes it.
    pub items: Vec<(Rgb8Image, GenerateSpec)>,
    /// Seconds they took and what they cost, in pictures; `None` while they are drawn.
    pub done: Option<(f32, f32)>,
    /// Whether they are shown.
    pub open: bool,
}

impl Drafts {
    /// Takes in what the engine tells; says whether the job has ended.
    pub fn apply(&mut self, event: &Event) -> bool {
        match event {
            Event::Started { job, schedule, .. } if *job == self.job => self.of = schedule.len(),
            Event::DraftDone {
                job, image, spec, ..
            } if *job == self.job => self.items.push((image.clone(), spec.clone())),
            Event::DraftsDone {
                job,
                elapsed_secs,
                cost,
            } if *job == self.job => {
                self.done = Some((*elapsed_secs, *cost));
                return true;
            }
            Event::Cancelled { job } | Event::Failed { job, .. } if *job == self.job => {
                self.count = self.items.len();
                self.done = self.done.or(Some((0.0, 0.0)));
                return true;
            }
            _ => {}
        }
        false
    }
}

/// How many scales of a draft show enough of a picture with `count` scales.
pub fn usual_scales(count: usize) -> usize {
    let share = if count <= 5 {
        count.saturating_sub(1)
    } else {
        (count * 2).div_ceil(3)
    };
    share.clamp(1, count.saturating_sub(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::usual_scales;

    #[test]
    fn drafts_stop_before_the_end() {
        assert_eq!(
            [1, 2, 3, 5, 7, 10, 13].map(usual_scales),
            [1, 1, 2, 4, 5, 7, 9]
        );
    }
}
