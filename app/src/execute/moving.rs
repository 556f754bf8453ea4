//! Leaving an engine for one on another device or machine.

use infinity_engine::api::{Event, JobId};

use super::{Hands, keep_settings, look};
use crate::place::Place;
use crate::state::{Tone, UiState};

/// Stops what the engine does and gets the state ready for one at `place`; `false`, with a sentence, when it is to stay.
pub fn leave(place: &Place, state: &mut UiState, hands: &Hands<'_>) -> bool {
    if state.place.as_ref() == Some(place) && (state.model.is_some() || state.loading) {
        return false;
    }
    if state.teach.is_running() {
        state.tell(
            Tone::Note,
            "The model is being taught. Choose where to draw when that is done or stopped.",
        );
        return false;
    }
    let settings_before = state.settings.clone();
    let pictures = open_pictures(state);
    for &job in &pictures {
        hands.engine.cancel(job);
        state.apply(&Event::Cancelled { job });
    }
    if !pictures.is_empty() {
        state.tell(
            Tone::Note,
            "What was being drawn is stopped. Press Draw when the model is there.",
        );
    }
    state.device = None;
    state.model = None;
    state.teach.looking = None;
    state.place = Some(place.clone());
    state.settings.device = place.to_string();
    if let Place::Remote(address) = place {
        state.settings.remote.clone_from(address);
    }
    keep_settings(&settings_before, state, hands);
    true
}

/// Every job of the engine that has not ended, but lessons.
fn open_pictures(state: &UiState) -> Vec<JobId> {
    let drafts = state.drafts.iter().filter(|drafts| drafts.done.is_none());
    let mut jobs: Vec<JobId> = state.waiting.iter().copied().collect();
    let works = state.work.iter().chain(&state.beside);
    jobs.extend(works.map(|work| work.job));
    jobs.extend(drafts.map(|drafts| drafts.job));
    jobs.extend(state.rebuilding.keys());
    jobs
}

/// Looks through the folder to teach again, as another model or device learns it at another size and pace.
pub fn look_again(state: &mut UiState, hands: &Hands<'_>) {
    let folder = state.teach.wish.data.clone();
    if !folder.as_os_str().is_empty() && !state.teach.is_running() {
        look(folder, state, hands);
    }
}
