//! The one place where a command changes state or becomes a request.
//!
//! Also takes in results of file jobs, as they answer commands.

use std::hash::{BuildHasher as _, Hasher as _};
use std::path::PathBuf;

use infinity_engine::EngineHandle;
use infinity_engine::api::{JobId, Request, Task};

use crate::command::Command;
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
                keep_scales(0, state);
            }
            state.draft.spec.ratio = ratio;
        }
        Command::SetCfg(cfg) => state.draft.spec.cfg = vec![cfg],
        Command::SetTau(tau) => state.draft.spec.tau = vec![tau],
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
        Command::OpenRecipe(path) => hands.tasks.push(FileJob::ReadRecipe(path)),
        Command::OpenModel => hands.tasks.ask(Ask::ModelFolder, None, ""),
        Command::LoadModel(folder) => load_model(folder, state, hands),
        Command::ChoosePicturesFolder => {
            let folder = state.known_folder();
            hands.tasks.ask(Ask::PicturesFolder, folder.as_deref(), "");
        }
        Command::SetAutosave(autosave) => state.settings.autosave = autosave,
        Command::SetTheme(theme) => state.settings.theme = theme,
        Command::SetNegativeOpen(open) => state.settings.negative_open = open,
        Command::SetRecentOpen(open) => state.settings.recent_open = open,
        Command::SetTeachOpen(open) => state.teach.open = open,
        Command::ChooseTeachFolder => hands.tasks.ask(Ask::TeachFolder, None, ""),
        Command::LookThrough(folder) => look_through(folder, state, hands),
        Command::SetCaption(picture, words) => {
            hands.tasks.push(FileJob::WriteCaption { picture, words });
        }
        Command::SetTeach(wish) => state.teach.wish = *wish,
        Command::Teach => teach(state, hands),
        Command::StopTeaching => {
            if let Some(lesson) = &mut state.teach.lesson {
                lesson.stopping = true;
                hands.engine.cancel(lesson.job);
            }
        }
        Command::KeepScales(count) => keep_scales(count, state),
        Command::OpenLora => hands.tasks.ask(Ask::Lora, None, ""),
        Command::PutOnLora(path) => state.put_on(path),
        Command::SetLoraStrength(index, strength) => {
            if let Some(lora) = state.draft.spec.loras.get_mut(index) {
                lora.strength = strength;
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

fn draw(state: &mut UiState, hands: &Hands<'_>) {
    if state.model.is_none() {
        let text = if state.loading {
            "The model is still being loaded. Press Draw when it is ready."
        } else {
            "No model is loaded. Open a model first, in the preferences at the lower right."
        };
        state.tell(Tone::Note, text);
        return;
    }
    if state.draft.spec.prompt.trim().is_empty() {
        state.tell(
            Tone::Note,
            "There is no prompt. Write what the picture should show, then press Draw.",
        );
        return;
    }
    if state.draft.roll_seed {
        state.draft.spec.seed = random_seed();
    }
    let mut spec = state.draft.spec.clone();
    spec.prompt = spec.prompt.trim().to_owned();
    spec.negative_prompt = spec.negative_prompt.trim().to_owned();
    match hands.engine.run(Task::Generate(spec)) {
        Ok(job) => {
            state.waiting.push_back(job);
            state.follow = true;
            state.held_scale = None;
        }
        Err(error) => state.tell_error(&error),
    }
}

/// Stops the work; while none is started, the job that would be next.
fn stop(state: &mut UiState, hands: &Hands<'_>) {
    if let Some(work) = &mut state.work {
        work.stopping = true;
        hands.engine.cancel(work.job);
    } else if let Some(job) = state.waiting.pop_front() {
        hands.engine.cancel(job);
    }
}

/// Has the next picture start from scales of the shown one.
fn keep_scales(count: usize, state: &mut UiState) {
    let parent = state.shown_picture().map(|picture| picture.spec.clone());
    let spec = &mut state.draft.spec;
    (spec.keep, spec.bits) = (0, None);
    if let (Some(parent), true) = (parent, count > 0) {
        spec.keep = count;
        spec.bits = parent.bits;
        spec.ratio = parent.ratio;
        spec.scale_count = parent.scale_count;
    }
}

/// Asks the engine what is in a folder of pictures.
fn look_through(folder: PathBuf, state: &mut UiState, hands: &Hands<'_>) {
    state.teach.open = true;
    if state.teach.is_running() {
        state.tell(
            Tone::Note,
            "The model is being taught. Choose another folder when that is done or stopped.",
        );
        return;
    }
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
    let trigger = teach.wish.trigger.trim().to_owned();
    match hands.engine.run(Task::LookThrough { folder, trigger }) {
        Ok(job) => state.teach.looking = Some(job),
        Err(error) => state.tell_error(&error),
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
    wish.out = state.pictures_folder().join("LoRAs").join(&wish.name);
    match hands.engine.run(Task::Tune(wish)) {
        Ok(job) => {
            state.teach.lesson = Some(Lesson {
                job,
                steps: Vec::new(),
                prompts: Vec::new(),
                samples: Vec::new(),
                stopping: false,
                running: true,
                done: None,
            });
        }
        Err(error) => state.tell_error(&error),
    }
}

fn load_model(folder: PathBuf, state: &mut UiState, hands: &Hands<'_>) {
    match hands.engine.send(Request::LoadModel { folder }) {
        Ok(()) => state.loading = true,
        Err(error) => state.tell_error(&error),
    }
}

/// Puts a recipe into the controls.
fn use_recipe(state: &mut UiState, recipe: &Recipe) {
    state.draft.spec = recipe.spec.clone();
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
    let recipe = Recipe::new(&picture.model, picture.spec.clone(), &picture.image);
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
        FileResult::RecipeRead { path, recipe } => {
            use_recipe(state, &recipe);
            let name = path.file_name().unwrap_or(path.as_os_str());
            let text = format!("Settings loaded from {}.", name.to_string_lossy());
            state.tell(Tone::Note, text);
        }
        FileResult::CaptionWritten => {
            let folder = state.teach.wish.data.clone();
            look_through(folder, state, hands);
        }
        FileResult::Failed { message } => state.tell(Tone::Trouble, message),
        FileResult::Chosen { ask, path } => match ask {
            Ask::SavePicture(job) => save(job, Target::File(path), state, hands),
            Ask::PicturesFolder => state.settings.folder = Some(path),
            Ask::ModelFolder => load_model(path, state, hands),
            Ask::TeachFolder => look_through(path, state, hands),
            Ask::Lora => state.put_on(path),
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
