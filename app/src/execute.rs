//! The one place where a command changes state or becomes a request.
//!
//! Also takes in results of file jobs, as they answer commands.

pub mod moving;
mod powers;

use std::hash::{BuildHasher as _, Hasher as _};
use std::path::PathBuf;

use infinity_engine::EngineHandle;
use infinity_engine::api::{GenerateSpec, JobId, Request, Task};

use crate::command::Command;
use crate::place::Place;
use crate::recipe::Recipe;
use crate::state::{Lesson, Saved, Tone, UiState, nearest_ratio};
use crate::tasks::{Ask, FileJob, FileResult, Target, Tasks};

/// What commands act on besides the state.
pub struct Hands<'a> {
    /// The engine.
    pub engine: &'a EngineHandle,
    /// The file thread.
    pub tasks: &'a Tasks,
    /// Where preferences are kept; `None` keeps them in memory only.
    pub settings_path: Option<&'a PathBuf>,
}

/// Carries out one command.
pub fn execute(command: Command, state: &mut UiState, hands: &Hands<'_>) {
    let settings_before = state.settings.clone();
    match command {
        Command::Draw => draw(state, hands),
        Command::Stop => stop(state, hands),
        Command::ClearQueue => {
            for job in state.waiting.drain(..) {
                hands.engine.cancel(job);
            }
        }
        Command::SetPrompt(prompt) => state.draft.spec.prompt = prompt,
        Command::SetNegativePrompt(prompt) => state.draft.spec.negative_prompt = prompt,
        Command::SetRatio(ratio) => {
            if ratio != state.draft.spec.ratio {
                // Kept scales belong to their shape.
                powers::keep_scales(0, state);
            }
            state.draft.spec.ratio = ratio;
        }
        Command::SetCfg(cfg) => {
            state.draft.spec.cfg = powers::moved(&state.draft.spec.cfg, cfg, 1.0);
        }
        Command::SetTau(tau) => {
            state.draft.spec.tau = powers::moved(&state.draft.spec.tau, tau, 0.0);
        }
        Command::SetHalfProducts(half) => state.draft.spec.half_products = half,
        Command::SetVariety(variety) => state.draft.spec.set_variety(variety),
        Command::SetCfgCurve(cfg) => state.draft.spec.cfg = cfg,
        Command::SetTauCurve(tau) => state.draft.spec.tau = tau,
        Command::SetDetailPrompt(prompt) => {
            state.draft.spec.detail_prompt = prompt;
            let half = state.scale_count() / 2;
            if state.draft.spec.detail_from == 0 {
                state.draft.spec.detail_from = half;
            }
        }
        Command::SetDetailFrom(from) => state.draft.spec.detail_from = from,
        Command::SetFineOpen(open) => state.settings.fine_open = open,
        Command::SetSeed(seed) => {
            state.draft.spec.seed = seed;
            state.draft.roll_seed = false;
        }
        Command::SetRollSeed(roll) => state.draft.roll_seed = roll,
        Command::ShowScale(scale) => state.held_scale = scale,
        Command::PeekScale(scale) => state.peeked_scale = scale,
        Command::ShowPicture(job) => {
            state.shown = Some(job);
            state.follow = false;
            state.held_scale = None;
            if let Some(drafts) = &mut state.drafts {
                drafts.open = false;
            }
            powers::recall_scales(job, state, hands);
        }
        Command::ReuseSettings => {
            if let Some(picture) = state.shown_picture() {
                let recipe = Recipe::new(&picture.model, picture.spec.clone(), &picture.image);
                use_recipe(state, &recipe);
            }
        }
        Command::Save => {
            if let Some(picture) = state.shown_picture() {
                let stem = crate::recipe::file_stem(&picture.spec.prompt, picture.spec.seed);
                let folder = state.known_folder();
                let ask = Ask::SavePicture(picture.job);
                let name = format!("{stem}.png");
                hands.tasks.ask(ask, folder.as_deref(), &name);
            }
        }
        Command::ReadPicture(path) => hands.tasks.push(FileJob::ReadPicture(path)),
        Command::OpenPicture => hands.tasks.ask(Ask::Picture, None, ""),
        Command::OpenModel => hands.tasks.ask(Ask::ModelFolder, None, ""),
        Command::LoadModel(folder) => load_model(folder, state, hands),
        Command::ChoosePicturesFolder => {
            let folder = state.known_folder();
            hands.tasks.ask(Ask::PicturesFolder, folder.as_deref(), "");
        }
        Command::SetAutosave(autosave) => state.settings.autosave = autosave,
        Command::FindDevices => {
            state.devices.get_or_insert_default();
            hands.tasks.push(FileJob::FindDevices);
        }
        // The window itself moves, for it holds the engine.
        Command::SetPlace(_) => {}
        Command::SetTheme(theme) => state.settings.theme = theme,
        Command::SetNegativeOpen(open) => state.settings.negative_open = open,
        Command::SetRecentOpen(open) => state.settings.recent_open = open,
        Command::SetTeachOpen(open) => {
            state.teach.open = open;
            state.loras = None;
        }
        Command::OpenLoras => {
            state.teach.open = false;
            state.loras.get_or_insert_default();
            hands.tasks.push(FileJob::FindLoras(state.loras_folder()));
        }
        Command::SetLoraNotes(path, notes) => {
            hands.tasks.push(FileJob::WriteNotes(path, notes));
            hands.tasks.push(FileJob::FindLoras(state.loras_folder()));
        }
        Command::SetLoraCurve(index, by_scale) => {
            if let Some(lora) = state.draft.spec.loras.get_mut(index) {
                lora.by_scale = by_scale;
            }
        }
        Command::ChooseTeachFolder => hands.tasks.ask(Ask::TeachFolder, None, ""),
        Command::LookThrough(folder) => look_through(folder, state, hands),
        Command::SetCaption(picture, words) => {
            hands
                .tasks
                .push(FileJob::WriteCaptions(vec![(picture, words)]));
        }
        Command::ReplaceWords(find, with) => {
            rewrite(state, hands, |words| words.replace(&find, &with));
        }
        Command::TagsToSentences => rewrite(state, hands, sentence),
        Command::PauseTeaching(paused) => {
            if let Some(lesson) = &mut state.teach.lesson {
                lesson.paused = paused;
                hands.engine.pause(lesson.job, paused);
            }
        }
        Command::SetTeach(wish) => state.teach.wish = *wish,
        Command::Teach => teach(state, hands),
        Command::StopTeaching => {
            if let Some(lesson) = &mut state.teach.lesson {
                lesson.stopping = true;
                hands.engine.cancel(lesson.job);
            }
        }
        Command::KeepScales(count) => powers::keep_scales(count, state),
        Command::SetKeep(count) => powers::set_keep(count, state),
        Command::DrawDrafts => {
            if let Some(spec) = ready_wish(state) {
                powers::draw_drafts(spec, state, hands);
            }
        }
        Command::SetDraftCount(count) => state.settings.draft_count = count,
        Command::SetDraftScales(scales) => state.draft_scales = Some(scales),
        Command::FinishDraft(index) => powers::finish_draft(index, state, hands),
        Command::SetDraftsOpen(open) => {
            if let Some(drafts) = &mut state.drafts {
                drafts.open = open;
            }
        }
        Command::SetEditOpen(open) => powers::set_edit_open(open, state),
        Command::EditMask(change) => powers::edit_mask(change, state),
        Command::EditResult => powers::edit_result(state),
        Command::SetShowDoubt(show) => state.show_doubt = show,
        Command::OpenLora => hands.tasks.ask(Ask::Lora, None, ""),
        Command::PutOnLora(path) => state.put_on(path),
        Command::SetLoraStrength(index, strength) => {
            if let Some(lora) = state.draft.spec.loras.get_mut(index) {
                lora.strength = strength;
            }
        }
        Command::SetLoraOn(index, on) => {
            if let Some(lora) = state.draft.spec.loras.get(index) {
                state.draft.loras_off.retain(|path| *path != lora.path);
                if !on {
                    state.draft.loras_off.push(lora.path.clone());
                }
            }
        }
        Command::TakeOffLora(index) => {
            if index < state.draft.spec.loras.len() {
                state.draft.spec.loras.remove(index);
            }
        }
        Command::Dismiss(id) => state.messages.retain(|message| message.id != id),
    }
    keep_settings(&settings_before, state, hands);
}

/// The wish of the controls when there is something to draw, with its seed; else says what is missing.
fn ready_wish(state: &mut UiState) -> Option<GenerateSpec> {
    if state.model.is_none() {
        let text = if state.loading {
            "The model is still being loaded. Press Draw when it is ready."
        } else {
            "No model is loaded. Open a model first, in the preferences at the lower right."
        };
        state.tell(Tone::Note, text);
        return None;
    }
    if state.draft.spec.prompt.trim().is_empty() {
        state.tell(
            Tone::Note,
            "There is no prompt. Write what the picture should show, then press Draw.",
        );
        return None;
    }
    if state.draft.roll_seed {
        state.draft.spec.seed = random_seed();
    }
    let mut spec = state.draft.spec.clone();
    spec.prompt = spec.prompt.trim().to_owned();
    spec.negative_prompt = spec.negative_prompt.trim().to_owned();
    spec.detail_prompt = spec.detail_prompt.trim().to_owned();
    let off = &state.draft.loras_off;
    spec.loras.retain(|lora| !off.contains(&lora.path));
    if spec.detail_prompt.is_empty() {
        spec.detail_from = 0;
    }
    Some(spec)
}

fn draw(state: &mut UiState, hands: &Hands<'_>) {
    let Some(spec) = ready_wish(state) else {
        return;
    };
    let asked =
        powers::task(state, spec).and_then(|(task, origin)| Ok((hands.engine.run(task)?, origin)));
    match asked {
        Ok((job, origin)) => {
            state.origins.insert(job, origin);
            state.waiting.push_back(job);
            state.follow = true;
            state.held_scale = None;
            if let Some(drafts) = &mut state.drafts {
                drafts.open = false;
            }
        }
        Err(error) => state.tell_error(&error),
    }
}

/// Stops the work; while none is started, the job that would be next.
fn stop(state: &mut UiState, hands: &Hands<'_>) {
    if let Some(work) = &mut state.work {
        work.stopping = true;
        hands.engine.cancel(work.job);
    } else if let Some(drafts) = state.drafts.as_ref().filter(|drafts| drafts.done.is_none()) {
        hands.engine.cancel(drafts.job);
    } else if let Some(job) = state.waiting.pop_front() {
        hands.engine.cancel(job);
    }
}

/// Asks the engine what is in a folder of pictures.
fn look_through(folder: PathBuf, state: &mut UiState, hands: &Hands<'_>) {
    state.teach.open = true;
    state.loras = None;
    if state.teach.is_running() {
        state.tell(
            Tone::Note,
            "The model is being taught. Choose another folder when that is done or stopped.",
        );
        return;
    }
    look(folder, state, hands);
}

/// Looks through a folder without showing the teaching.
fn look(folder: PathBuf, state: &mut UiState, hands: &Hands<'_>) {
    let teach = &mut state.teach;
    let name = |folder: &std::path::Path| {
        let name = folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        name.unwrap_or_default()
    };
    if teach.wish.name.is_empty() || teach.wish.name == name(&teach.wish.data) {
        teach.wish.name = name(&folder);
    }
    teach.wish.data.clone_from(&folder);
    teach.found = None;
    let task = Task::LookThrough {
        folder,
        trigger: teach.wish.trigger.trim().to_owned(),
        scale_count: teach.wish.scale_count,
    };
    match hands.engine.run(task) {
        Ok(job) => state.teach.looking = Some(job),
        Err(error) => state.tell_error(&error),
    }
}

/// Writes other words beside all pictures whose words `change` changes.
fn rewrite(state: &mut UiState, hands: &Hands<'_>, change: impl Fn(&str) -> String) {
    let pictures = state.teach.found.iter().flat_map(|found| &found.pictures);
    let changed = pictures.map(|one| (one, change(&one.words)));
    let list: Vec<_> = changed
        .filter(|(one, words)| *words != one.words)
        .map(|(one, words)| (one.path.clone(), words))
        .collect();
    let text = match list.len() {
        0 => "No caption is changed by this.".to_owned(),
        1 => "One caption is changed.".to_owned(),
        count => format!("{count} captions are changed."),
    };
    state.tell(Tone::Note, text);
    if !list.is_empty() {
        hands.tasks.push(FileJob::WriteCaptions(list));
    }
}

/// A list of tags, `a_red_house, hills, at night`, as a sentence; other text as it is.
fn sentence(words: &str) -> String {
    let mut tags: Vec<String> = Vec::new();
    for tag in words.split(',') {
        let tag = tag.trim().replace('_', " ");
        if !tag.is_empty() && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    match tags.as_slice() {
        [] | [_] => words.trim().to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn teach(state: &mut UiState, hands: &Hands<'_>) {
    let mut wish = state.teach.wish.clone();
    wish.name = wish.name.trim().to_owned();
    wish.trigger = wish.trigger.trim().to_owned();
    if wish.name.is_empty() || wish.name.contains(['/', '\\']) || wish.name.starts_with('.') {
        state.tell(
            Tone::Note,
            "The LoRA needs a name that can be that of a folder.",
        );
        return;
    }
    wish.out = state.loras_folder().join(&wish.name);
    match hands.engine.run(Task::Tune(wish)) {
        Ok(job) => state.teach.lesson = Some(Lesson::new(job)),
        Err(error) => state.tell_error(&error),
    }
}

fn load_model(folder: PathBuf, state: &mut UiState, hands: &Hands<'_>) {
    if !state.place.as_ref().is_some_and(Place::is_remote) {
        state.model_folder = Some(folder.clone());
    }
    match hands.engine.send(Request::LoadModel { folder }) {
        Ok(()) => state.loading = true,
        Err(error) => state.tell_error(&error),
    }
}

/// Puts a recipe into the controls.
fn use_recipe(state: &mut UiState, recipe: &Recipe) {
    state.draft.spec = recipe.spec.clone();
    state.start = None;
    if recipe.spec.keep == 0 {
        state.draft.spec.bits = None;
    }
    state.draft.roll_seed = false;
    if let Some(model) = &state.model {
        if let Some(ratio) = nearest_ratio(model, recipe.spec.ratio) {
            state.draft.spec.ratio = ratio;
        }
        if !recipe.model.is_empty() && recipe.model != model.name {
            let text = format!(
                "These settings were made with the model {}. With {} the picture will differ.",
                recipe.model, model.name
            );
            state.tell(Tone::Note, text);
        }
    }
    if !state.draft.spec.negative_prompt.is_empty() {
        state.settings.negative_open = true;
    }
}

/// Saves a finished picture by itself, when the user wants that.
pub fn picture_finished(job: JobId, state: &mut UiState, hands: &Hands<'_>) {
    if state.settings.autosave {
        let target = Target::Folder(state.pictures_folder());
        save(job, target, state, hands);
    }
}

fn save(job: JobId, target: Target, state: &mut UiState, hands: &Hands<'_>) {
    let Some(picture) = state.picture_mut(job) else {
        return;
    };
    if picture.saved == Saved::No {
        picture.saved = Saved::Writing;
    }
    let recipe = Recipe::new(&picture.model, picture.spec.clone(), &picture.image)
        .from_ancestors(picture.ancestors.clone());
    hands.tasks.push(FileJob::SavePicture {
        job,
        target,
        image: picture.image.clone(),
        recipe: Box::new(recipe),
    });
}

/// Takes in how a file job ended.
pub fn file_done(result: FileResult, state: &mut UiState, hands: &Hands<'_>) {
    let settings_before = state.settings.clone();
    match result {
        FileResult::Saved { job, path } => {
            if let Some(picture) = state.picture_mut(job) {
                picture.saved = Saved::In(path);
            }
        }
        FileResult::NotSaved { job, message } => {
            if let Some(picture) = state.picture_mut(job)
                && picture.saved == Saved::Writing
            {
                picture.saved = Saved::No;
            }
            state.tell(Tone::Trouble, message);
        }
        FileResult::PictureRead {
            path,
            image,
            recipe,
        } => powers::picture_read(&path, image, recipe.map(|recipe| *recipe), state, hands),
        FileResult::CaptionsWritten => {
            let folder = state.teach.wish.data.clone();
            look_through(folder, state, hands);
        }
        FileResult::LorasFound(cards) => {
            if let Some(shelf) = &mut state.loras {
                *shelf = cards;
            }
        }
        FileResult::DevicesFound(devices) => state.devices = Some(devices),
        FileResult::Failed { message } => state.tell(Tone::Trouble, message),
        FileResult::Chosen { ask, path } => match ask {
            Ask::SavePicture(job) => save(job, Target::File(path), state, hands),
            Ask::PicturesFolder => state.settings.folder = Some(path),
            Ask::ModelFolder => load_model(path, state, hands),
            Ask::TeachFolder => look_through(path, state, hands),
            Ask::Lora => state.put_on(path),
            Ask::Picture => hands.tasks.push(FileJob::ReadPicture(path)),
        },
    }
    keep_settings(&settings_before, state, hands);
}

fn keep_settings(before: &crate::settings::Settings, state: &UiState, hands: &Hands<'_>) {
    if let Some(path) = hands.settings_path
        && *before != state.settings
    {
        hands.tasks.push(FileJob::WriteSettings {
            path: path.clone(),
            settings: state.settings.clone(),
        });
    }
}

/// A seed nobody chose; ten digits at most, so that it can be read and typed.
pub(crate) fn random_seed() -> u64 {
    let hash = std::hash::RandomState::new().build_hasher().finish();
    hash % (1 << 32)
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn tags_become_sentences() {
        assert_eq!(
            sentence("red_house, hills,  hills , at night"),
            "red house, hills and at night"
        );
        assert_eq!(sentence("a boat at sea"), "a boat at sea");
        assert_eq!(sentence(" , "), ",");
    }
}
