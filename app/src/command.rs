//! Everything a user can trigger.
//!
//! Panels push commands and change nothing themselves; [`crate::execute`]
//! carries them out. Commands with a shortcut name it here, once.

use std::path::PathBuf;

use eframe::egui::{Key, KeyboardShortcut, Modifiers};
use infinity_engine::api::{JobId, TuneWish};

use crate::place::Place;
use crate::settings::ThemeChoice;
use crate::state::MaskEdit;

/// All a user can trigger.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Draw a picture, or queue it while another is drawn.
    Draw,
    /// Stop the picture being drawn.
    Stop,
    /// Forget the pictures waiting to be drawn.
    ClearQueue,
    /// Change the prompt.
    SetPrompt(String),
    /// Change what the picture should not show.
    SetNegativePrompt(String),
    /// Choose an aspect ratio, height over width.
    SetRatio(f32),
    /// Change how strictly the prompt is followed.
    SetCfg(f32),
    /// Change how loosely bits are drawn.
    SetTau(f32),
    /// Change how different pictures of one prompt may be, 0 to 1.
    SetVariety(f32),
    /// Whether factors of matrix products are rounded.
    SetHalfProducts(bool),
    /// Hold this seed.
    SetSeed(u64),
    /// Whether every picture gets a new seed.
    SetRollSeed(bool),
    /// Show one scale of the shown picture, or the finished picture.
    ShowScale(Option<usize>),
    /// Show one scale for as long as the pointer is on it.
    PeekScale(Option<usize>),
    /// Show a picture drawn earlier.
    ShowPicture(JobId),
    /// Load the settings of the shown picture into the controls.
    ReuseSettings,
    /// Ask where to save the shown picture.
    Save,
    /// Read a picture: one of this program with its settings and scales, or any other one to draw from.
    ReadPicture(PathBuf),
    /// Ask for a model folder.
    OpenModel,
    /// Load the model in this folder.
    LoadModel(PathBuf),
    /// Ask where pictures are saved by themselves.
    ChoosePicturesFolder,
    /// Whether finished pictures are saved by themselves.
    SetAutosave(bool),
    /// Look for devices to draw with.
    FindDevices,
    /// Draw somewhere else.
    SetPlace(Place),
    /// Light or dark.
    SetTheme(ThemeChoice),
    /// Open or close the field for the negative prompt.
    SetNegativeOpen(bool),
    /// Show or hide the pictures of this session.
    SetRecentOpen(bool),
    /// Show the teaching, or the drawing.
    SetTeachOpen(bool),
    /// Ask for a folder of pictures to teach.
    ChooseTeachFolder,
    /// Look through a folder of pictures.
    LookThrough(PathBuf),
    /// Write other words beside a picture.
    SetCaption(PathBuf, String),
    /// Change what is taught, and how.
    SetTeach(Box<TuneWish>),
    /// Teach the model the pictures of the folder.
    Teach,
    /// Pause teaching, or go on.
    PauseTeaching(bool),
    /// Put other words for some in all captions of the folder.
    ReplaceWords(String, String),
    /// Make sentences of captions that are lists of tags.
    TagsToSentences,
    /// Show the shelf of LoRAs.
    OpenLoras,
    /// Write other notes beside a LoRA.
    SetLoraNotes(PathBuf, String),
    /// How strongly a LoRA counts scale by scale, as factors of its strength; empty for the same everywhere.
    SetLoraCurve(usize, Vec<f32>),
    /// Put a LoRA on or off without forgetting its strength.
    SetLoraOn(usize, bool),
    /// Stop teaching and keep what was learned.
    StopTeaching,
    /// Keep this many first scales of the shown picture for the next one; 0 for none.
    KeepScales(usize),
    /// Change how many first scales the next picture keeps.
    SetKeep(usize),
    /// Draw the first scales of many pictures, to choose from.
    DrawDrafts,
    /// How many drafts.
    SetDraftCount(usize),
    /// How many scales of each draft.
    SetDraftScales(usize),
    /// Finish the draft with this number.
    FinishDraft(usize),
    /// Show the drafts, or the picture.
    SetDraftsOpen(bool),
    /// Show or hide what is set scale by scale.
    SetFineOpen(bool),
    /// Guidance for every scale.
    SetCfgCurve(Vec<f32>),
    /// Temperature for every scale.
    SetTauCurve(Vec<f32>),
    /// Change the prompt that takes over for the details.
    SetDetailPrompt(String),
    /// How many first scales the first prompt makes.
    SetDetailFrom(usize),
    /// Begin or end changing a part of the shown picture.
    SetEditOpen(bool),
    /// Change the mask.
    EditMask(MaskEdit),
    /// Change a part of what was just drawn.
    EditResult,
    /// Show or hide where bits were uncertain.
    SetShowDoubt(bool),
    /// Ask for a picture to draw from.
    OpenPicture,
    /// Ask for a LoRA file.
    OpenLora,
    /// Put the LoRA in this file on.
    PutOnLora(PathBuf),
    /// How strongly a LoRA that is on counts.
    SetLoraStrength(usize, f32),
    /// Take a LoRA off.
    TakeOffLora(usize),
    /// Take a message away.
    Dismiss(u64),
}

impl Command {
    /// The commands with a shortcut.
    pub const WITH_SHORTCUT: [Self; 3] = [Self::Draw, Self::Stop, Self::Save];

    /// The keys that trigger this command.
    pub fn shortcut(&self) -> Option<KeyboardShortcut> {
        match self {
            Self::Draw => Some(KeyboardShortcut::new(Modifiers::COMMAND, Key::Enter)),
            Self::Stop => Some(KeyboardShortcut::new(Modifiers::NONE, Key::Escape)),
            Self::Save => Some(KeyboardShortcut::new(Modifiers::COMMAND, Key::S)),
            _ => None,
        }
    }

    /// The word on the button.
    pub fn text(&self) -> &'static str {
        match self {
            Self::Draw => "Draw",
            Self::Stop => "Stop",
            Self::ClearQueue => "Forget waiting pictures",
            Self::Save => "Save as…",
            Self::ReuseSettings => "Use these settings",
            Self::ChooseTeachFolder => "Choose pictures…",
            Self::Teach => "Teach",
            Self::StopTeaching => "Stop and keep",
            Self::PauseTeaching(true) => "Pause",
            Self::PauseTeaching(false) => "Go on",
            Self::KeepScales(_) => "Keep up to here",
            Self::DrawDrafts => "Drafts",
            Self::SetEditOpen(true) => "Change a part",
            Self::SetEditOpen(false) => "Done",
            Self::EditResult => "Go on from this",
            Self::SetDraftsOpen(true) => "Back to the drafts",
            Self::SetDraftsOpen(false) => "Close",
            Self::OpenPicture => "Open a picture…",
            Self::OpenLora => "Put on a LoRA…",
            Self::OpenModel => "Open a model…",
            Self::ChoosePicturesFolder => "Choose folder…",
            _ => "",
        }
    }

    /// What the button does, for its tooltip.
    pub fn tooltip(&self) -> &'static str {
        match self {
            Self::Draw => "Draw this prompt. While a picture is being drawn, the next one waits.",
            Self::Stop => "Stop the picture being drawn.",
            Self::ClearQueue => "Forget the pictures that wait to be drawn.",
            Self::Save => "Save the shown picture as a PNG file with its settings inside.",
            Self::ReuseSettings => "Load the prompt, seed and sliders of the shown picture.",
            Self::ChooseTeachFolder => "Choose a folder with pictures and their captions.",
            Self::Teach => {
                "Teach the model these pictures. It can draw meanwhile, between two steps."
            }
            Self::PauseTeaching(_) => "Teach no further for the moment; drawing is quicker then.",
            Self::StopTeaching => "Stop now. What was learned is kept and can be taught on later.",
            Self::KeepScales(_) => {
                "The next picture starts from this scale of this one: same layout, other details."
            }
            Self::DrawDrafts => {
                "Draw the first scales of many pictures at once and choose one to finish."
            }
            Self::SetEditOpen(true) => {
                "Paint over a part and draw only that anew, or add space around the picture."
            }
            Self::SetEditOpen(false) => "Back to the picture.",
            Self::EditResult => "Take what was drawn for the picture whose parts are changed.",
            Self::SetDraftsOpen(true) => "Choose another of the drafts.",
            Self::SetDraftsOpen(false) => "Put the drafts away; they can be called back.",
            Self::OpenPicture => {
                "Open a picture of this program with its scales, or any other one to draw from."
            }
            Self::OpenLora => "Choose a LoRA file to draw with.",
            Self::OpenModel => "Choose the folder of another model.",
            Self::ChoosePicturesFolder => "Choose where finished pictures are saved.",
            _ => "",
        }
    }
}
