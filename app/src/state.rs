//! All that the window shows, as plain data.
//!
//! [`UiState::apply`] takes in what the engine tells; [`crate::execute`] takes
//! in what the user does; panels only read.

mod drafts;
mod edit;
mod family;
mod items;
mod origin;
mod teach;

pub use drafts::{COUNTS as DRAFT_COUNTS, Drafts, usual_scales};
pub use edit::{Edit, MaskEdit};
pub use family::{Ancestor, Bond, Start};
pub use items::{Draft, Message, Picture, Saved, Tone, Work};
pub use origin::{Origin, Rebuilding};
pub use teach::{Found, Lesson, Preset, Teach};

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use infinity_engine::api::{
    DeviceInfo, Doubt, EngineError, Event, GenerateSpec, JobId, LoraCard, LoraWish, ModelInfo,
    Rgb8Image,
};

use crate::place::Place;
use crate::settings::Settings;

/// Most pictures of this session that are kept.
const KEPT_PICTURES: usize = 64;
/// Most pictures whose scales are kept, too; they take far more memory.
const KEPT_SCALES: usize = 8;
/// Most messages on screen.
const KEPT_MESSAGES: usize = 3;

/// All that the window shows.
#[derive(Clone, Debug)]
pub struct UiState {
    /// Where pictures are drawn; `None` in a window that stays with its engine.
    pub place: Option<Place>,
    /// The devices of this machine, once looked for.
    pub devices: Option<Vec<DeviceInfo>>,
    /// The model folder that was opened here last.
    pub model_folder: Option<PathBuf>,
    /// The device, once open.
    pub device: Option<DeviceInfo>,
    /// The model, once loaded.
    pub model: Option<ModelInfo>,
    /// Whether a model is being loaded.
    pub loading: bool,
    /// What the controls say.
    pub draft: Draft,
    /// Jobs asked for and not started, oldest first.
    pub waiting: VecDeque<JobId>,
    /// The picture being drawn.
    pub work: Option<Work>,
    /// Others being drawn at the same time, on other devices, oldest first.
    pub beside: VecDeque<Work>,
    /// Pictures of this session, newest last.
    pub pictures: Vec<Picture>,
    /// The picture shown while none is being drawn, or although one is.
    pub shown: Option<JobId>,
    /// Whether the window shows the work rather than [`Self::shown`].
    pub follow: bool,
    /// The scale held large; the finished picture when `None`.
    pub held_scale: Option<usize>,
    /// Messages, oldest first.
    pub messages: Vec<Message>,
    /// The scale under the pointer in the strip, shown large while it is there.
    pub peeked_scale: Option<usize>,
    /// Preferences.
    pub settings: Settings,
    /// Where pictures are saved unless the preferences name a folder.
    pub default_folder: PathBuf,
    /// Teaching the model one's own pictures.
    pub teach: Teach,
    /// The shelf of LoRAs, while it is open.
    pub loras: Option<Vec<LoraCard>>,
    /// What the next picture starts from, when it keeps scales.
    pub start: Option<Start>,
    /// The drafts on the table.
    pub drafts: Option<Drafts>,
    /// How many scales of each draft; what usually shows enough when `None`.
    pub draft_scales: Option<usize>,
    /// The part of a picture being changed.
    pub edit: Option<Edit>,
    /// Whether it is shown where bits were uncertain.
    pub show_doubt: bool,
    /// Where the pictures being drawn came from.
    pub origins: HashMap<JobId, Origin>,
    /// Pictures whose scales are being made again.
    pub rebuilding: HashMap<JobId, Rebuilding>,
    /// Seconds since the window opened, at this frame.
    pub now: f64,
    next_message: u64,
    example_filled: bool,
}

impl UiState {
    /// The state of a window that has heard nothing from its engine.
    pub fn new(settings: Settings, default_folder: PathBuf) -> Self {
        Self {
            place: None,
            devices: None,
            model_folder: None,
            device: None,
            model: None,
            loading: true,
            draft: Draft {
                spec: GenerateSpec::new("", 1),
                roll_seed: true,
                loras_off: Vec::new(),
            },
            waiting: VecDeque::new(),
            work: None,
            beside: VecDeque::new(),
            pictures: Vec::new(),
            shown: None,
            follow: true,
            held_scale: None,
            messages: Vec::new(),
            peeked_scale: None,
            settings,
            default_folder,
            teach: Teach::default(),
            loras: None,
            start: None,
            drafts: None,
            draft_scales: None,
            edit: None,
            show_doubt: false,
            origins: HashMap::new(),
            rebuilding: HashMap::new(),
            now: 0.0,
            next_message: 0,
            example_filled: false,
        }
    }

    /// Takes in what the engine tells. Events of forgotten jobs change nothing.
    pub fn apply(&mut self, event: &Event) {
        if let Some(path) = self.teach.apply(event) {
            self.learned(path);
        }
        if let Some(drafts) = &mut self.drafts
            && drafts.apply(event)
        {
            let job = drafts.job;
            self.waiting.retain(|waiting| *waiting != job);
        }
        match event {
            Event::DeviceReady { device } => self.device = Some(device.clone()),
            Event::ModelLoaded { model } => self.model_loaded(model),
            Event::ModelFailed { error } => {
                self.loading = false;
                self.tell(Tone::Trouble, error.to_string());
            }
            Event::Started {
                job,
                schedule,
                size_px,
                notes,
            } => {
                if self.is_drafting(*job) {
                    self.waiting.retain(|waiting| waiting != job);
                    for note in notes {
                        self.tell(Tone::Note, note.clone());
                    }
                } else {
                    self.started(*job, schedule, *size_px, notes);
                }
            }
            Event::Stage { job, stage } => {
                if let Some(work) = self.work_of(*job) {
                    work.stage = Some(*stage);
                }
            }
            Event::ScaleDone {
                job,
                scale_index,
                preview,
                ..
            } => {
                if let Some(work) = self.work_of(*job) {
                    work.scales.truncate(*scale_index);
                    work.scales.push(preview.clone());
                }
            }
            Event::ImageDone {
                job,
                image,
                spec,
                elapsed_secs,
                doubt,
                ..
            } => self.image_done(*job, image, (spec, doubt.as_ref()), *elapsed_secs),
            Event::Rebuilt {
                job,
                schedule,
                scales,
                ..
            } => self.rebuilt(*job, schedule, scales),
            Event::DraftDone { .. }
            | Event::DraftsDone { .. }
            | Event::PicturesFound { .. }
            | Event::TuneFitted { .. }
            | Event::TuneStepDone { .. }
            | Event::TuneSamples { .. }
            | Event::TuneDone { .. } => {}
            Event::Cancelled { job } => self.end(*job),
            Event::Failed { job, error } => {
                self.end(*job);
                self.tell(Tone::Trouble, error.to_string());
            }
        }
    }

    /// Puts a LoRA that was just made on, in place of an older version of itself.
    fn learned(&mut self, path: PathBuf) {
        let name = path
            .parent()
            .and_then(Path::file_name)
            .unwrap_or(path.as_os_str());
        let text = format!(
            "The LoRA {} is ready and put on: the next picture is drawn with it.",
            name.to_string_lossy()
        );
        self.put_on(path);
        self.tell(Tone::Note, text);
    }

    /// Where LoRAs that were taught here lie, and where others are looked for.
    pub fn loras_folder(&self) -> PathBuf {
        self.pictures_folder().join("LoRAs")
    }

    /// Puts a LoRA on at full strength.
    pub fn put_on(&mut self, path: PathBuf) {
        let loras = &mut self.draft.spec.loras;
        loras.retain(|lora| lora.path != path);
        loras.push(LoraWish::new(path, 1.0));
    }

    fn model_loaded(&mut self, model: &ModelInfo) {
        self.loading = false;
        let spec = &mut self.draft.spec;
        spec.cfg = vec![model.cfg];
        spec.tau = vec![model.tau];
        spec.scale_count = None;
        self.teach.wish.scale_count = None;
        if let Some(nearest) = nearest_ratio(model, spec.ratio) {
            spec.ratio = nearest;
        }
        if !self.example_filled && spec.prompt.is_empty() {
            self.example_filled = true;
            if let Some(example) = model.example_prompts.first() {
                spec.prompt.clone_from(example);
            }
        }
        self.model = Some(model.clone());
    }

    fn started(
        &mut self,
        job: JobId,
        schedule: &[(usize, usize)],
        size_px: (u32, u32),
        notes: &[String],
    ) {
        self.waiting.retain(|waiting| *waiting != job);
        let work = Work {
            job,
            schedule: schedule.to_vec(),
            size_px,
            stage: None,
            scales: Vec::new(),
            started_at: self.now,
            stopping: false,
        };
        self.work_ended(job);
        if self.work.is_some() {
            self.beside.push_back(work);
        } else {
            self.work = Some(work);
        }
        if self.follow {
            self.held_scale = None;
        }
        for note in notes {
            self.tell(Tone::Note, note.clone());
        }
    }

    fn image_done(
        &mut self,
        job: JobId,
        image: &Rgb8Image,
        (spec, doubt): (&GenerateSpec, Option<&Doubt>),
        elapsed_secs: f32,
    ) {
        self.waiting.retain(|waiting| *waiting != job);
        let origin = self.origins.remove(&job).unwrap_or_default();
        if let (Some(edit), true) = (&mut self.edit, origin.is_edit) {
            edit.show_result = true;
        }
        let (schedule, scales) = self
            .work_ended(job)
            .map_or_else(Default::default, |work| (work.schedule, work.scales));
        self.pictures.push(Picture {
            job,
            image: image.clone(),
            spec: spec.clone(),
            model: self
                .model
                .as_ref()
                .map(|model| model.name.clone())
                .unwrap_or_default(),
            schedule,
            scales,
            elapsed_secs,
            saved: Saved::No,
            doubt: doubt.cloned(),
            ancestors: origin.ancestors,
            parent: origin.parent,
        });
        if self.follow || self.shown.is_none() {
            self.shown = Some(job);
        }
        self.forget_old_pictures();
    }

    fn forget_old_pictures(&mut self) {
        let count = self.pictures.len();
        let shown = self.shown;
        for picture in &mut self.pictures[..count.saturating_sub(KEPT_SCALES)] {
            if Some(picture.job) != shown {
                picture.scales = Vec::new();
            }
        }
        let surplus = count.saturating_sub(KEPT_PICTURES);
        // A picture that is not on disk is never thrown away by itself.
        let mut left = surplus;
        self.pictures.retain(|picture| {
            let goes =
                left > 0 && matches!(picture.saved, Saved::In(_)) && Some(picture.job) != shown;
            left -= usize::from(goes);
            !goes
        });
    }

    /// Whether this job draws drafts that are on the table.
    fn is_drafting(&self, job: JobId) -> bool {
        self.drafts.as_ref().is_some_and(|drafts| drafts.job == job)
    }

    /// Forgets a job that ended without a picture.
    fn end(&mut self, job: JobId) {
        self.origins.remove(&job);
        if let Some(Rebuilding::Opened(picture)) = self.rebuilding.remove(&job) {
            // Its scales cannot be had; the picture itself is whole.
            self.list(*picture);
        }
        self.waiting.retain(|waiting| *waiting != job);
        self.work_ended(job);
        if self.work.is_none() && self.shown.is_none() {
            self.held_scale = None;
        }
    }

    fn work_of(&mut self, job: JobId) -> Option<&mut Work> {
        let works = self.work.iter_mut().chain(&mut self.beside);
        works.into_iter().find(|work| work.job == job)
    }

    /// Takes the work of a job that has ended away; another picture being drawn takes its place.
    fn work_ended(&mut self, job: JobId) -> Option<Work> {
        if let Some(work) = self.work.take_if(|work| work.job == job) {
            self.work = self.beside.pop_front();
            return Some(work);
        }
        let place = self.beside.iter().position(|work| work.job == job)?;
        self.beside.remove(place)
    }

    /// Puts a sentence on screen; the oldest makes room.
    pub fn tell(&mut self, tone: Tone, text: impl Into<String>) {
        let text = text.into();
        self.messages.retain(|message| message.text != text);
        self.messages.push(Message {
            id: self.next_message,
            tone,
            text,
        });
        self.next_message += 1;
        let surplus = self.messages.len().saturating_sub(KEPT_MESSAGES);
        self.messages.drain(..surplus);
    }

    /// Says that the engine refused something.
    pub fn tell_error(&mut self, error: &EngineError) {
        self.tell(Tone::Trouble, error.to_string());
    }

    /// The work, when the window shows it.
    pub fn shown_work(&self) -> Option<&Work> {
        self.work.as_ref().filter(|_| self.follow)
    }

    /// The finished picture the window shows, when it shows one.
    pub fn shown_picture(&self) -> Option<&Picture> {
        if self.shown_work().is_some() {
            return None;
        }
        self.picture(self.shown?)
    }

    /// A picture of this session.
    pub fn picture(&self, job: JobId) -> Option<&Picture> {
        self.pictures.iter().find(|picture| picture.job == job)
    }

    /// A picture of this session, to change it.
    pub fn picture_mut(&mut self, job: JobId) -> Option<&mut Picture> {
        self.pictures.iter_mut().find(|picture| picture.job == job)
    }

    /// Size in pixels that the chosen ratio gives, `(width, height)`.
    pub fn draft_size_px(&self) -> Option<(u32, u32)> {
        let ratio = nearest_ratio(self.model.as_ref()?, self.draft.spec.ratio)?;
        let ratios = &self.model.as_ref()?.ratios;
        let info = ratios.iter().find(|info| info.ratio == ratio)?;
        Some((info.width, info.height))
    }

    /// How many scales the next picture has.
    pub fn scale_count(&self) -> usize {
        let own = self.draft.spec.scale_count;
        own.or(self.model.as_ref().map(|model| model.scale_count))
            .unwrap_or(1)
            .max(1)
    }

    /// How many scales of each draft are drawn.
    pub fn scales_of_drafts(&self) -> usize {
        let count = self.scale_count();
        let least = (self.draft.spec.keep + 1)
            .min(count.saturating_sub(1))
            .max(1);
        self.draft_scales
            .unwrap_or_else(|| usual_scales(count))
            .clamp(least, count.saturating_sub(1).max(least))
    }

    /// Where pictures are saved by themselves.
    pub fn pictures_folder(&self) -> PathBuf {
        let chosen = self.settings.folder.as_ref();
        chosen.unwrap_or(&self.default_folder).clone()
    }

    /// A folder known to be there: the chosen one, or that of a saved picture.
    pub fn known_folder(&self) -> Option<PathBuf> {
        let saved = self.pictures.iter().rev().find_map(|picture| {
            let Saved::In(path) = &picture.saved else {
                return None;
            };
            path.parent().map(Path::to_path_buf)
        });
        self.settings.folder.clone().or(saved)
    }

    /// The scales to show in the strip, and the grids they belong to.
    pub fn shown_scales(&self) -> (&[(usize, usize)], &[Rgb8Image]) {
        if let Some(work) = self.shown_work() {
            return (&work.schedule, &work.scales);
        }
        self.shown_picture()
            .map_or((&[], &[]), |picture| (&picture.schedule, &picture.scales))
    }

    /// Whether anything is drawn or waits to be.
    pub fn is_busy(&self) -> bool {
        let drafting = self
            .drafts
            .as_ref()
            .is_some_and(|drafts| drafts.done.is_none());
        self.work.is_some() || !self.waiting.is_empty() || drafting
    }
}

/// The model's ratio nearest to `ratio`, by their quotient.
pub fn nearest_ratio(model: &ModelInfo, ratio: f32) -> Option<f32> {
    let distance = |info: f32| (info.max(0.01) / ratio.max(0.01)).ln().abs();
    model
        .ratios
        .iter()
        .map(|info| info.ratio)
        .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
}
