//! Pictures that were not drawn from nothing just now: where they came from, and how their scales come back.

use infinity_engine::api::{JobId, Rgb8Image};

use super::{Ancestor, Picture, UiState};

/// Where a picture being drawn came from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The pictures it came from, nearest first.
    pub ancestors: Vec<Ancestor>,
    /// The nearest of them in the list of this session.
    pub parent: Option<JobId>,
    /// Whether only a part of it is drawn.
    pub is_edit: bool,
}

/// A picture whose scales are made again.
#[derive(Clone, Debug)]
pub enum Rebuilding {
    /// A picture of this session that has lost them.
    Listed(JobId),
    /// A picture from a file, not listed yet.
    Opened(Box<Picture>),
}

impl UiState {
    /// Takes in the scales of a picture that was drawn long ago.
    pub(super) fn rebuilt(
        &mut self,
        job: JobId,
        schedule: &[(usize, usize)],
        scales: &[Rgb8Image],
    ) {
        match self.rebuilding.remove(&job) {
            Some(Rebuilding::Listed(job)) => {
                if let Some(picture) = self.picture_mut(job) {
                    picture.scales = scales.to_vec();
                    picture.schedule = schedule.to_vec();
                }
            }
            Some(Rebuilding::Opened(picture)) => {
                let scales = scales.to_vec();
                let schedule = schedule.to_vec();
                self.list(Picture {
                    scales,
                    schedule,
                    ..*picture
                });
            }
            None => {}
        }
    }

    /// Lists a picture that was not drawn just now, and shows it.
    pub fn list(&mut self, picture: Picture) {
        self.shown = Some(picture.job);
        self.follow = false;
        self.held_scale = None;
        self.pictures.retain(|other| other.job != picture.job);
        self.pictures.push(picture);
        self.forget_old_pictures();
    }
}
