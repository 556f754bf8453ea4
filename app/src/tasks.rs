//! File jobs behind the window: saving, reading recipes, file dialogs.
//!
//! One named thread does them in their order, so that the window never waits
//! for a disk; results are polled per frame. Dropping [`Tasks`] finishes what
//! was begun, so that closing the window loses no picture.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use infinity_engine::api::{DeviceInfo, JobId, LoraCard, Rgb8Image};

use crate::recipe::{self, Recipe, RecipeError};
use crate::settings::Settings;

/// Called from a job's thread after each result, to have the window drawn again.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Where a picture goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A free name in this folder.
    Folder(PathBuf),
    /// Exactly this file.
    File(PathBuf),
}

/// A job for the file thread.
#[derive(Clone, Debug)]
pub enum FileJob {
    /// Write a picture with its recipe.
    SavePicture {
        /// The job that drew it.
        job: JobId,
        /// Where to.
        target: Target,
        /// The picture.
        image: Rgb8Image,
        /// Its recipe.
        recipe: Box<Recipe>,
    },
    /// Write the words beside pictures, each in its `.txt` file.
    WriteCaptions(Vec<(PathBuf, String)>),
    /// Look for LoRAs in a folder.
    FindLoras(PathBuf),
    /// Look for devices to draw with, which asks every driver.
    FindDevices,
    /// Write notes beside a LoRA file.
    WriteNotes(PathBuf, String),
    /// Read a picture and its recipe, when it has one.
    ReadPicture(PathBuf),
    /// Write the preferences.
    WriteSettings {
        /// The file.
        path: PathBuf,
        /// What to write.
        settings: Settings,
    },
}

/// What a file dialog is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Where to save the picture of this job.
    SavePicture(JobId),
    /// The folder in which pictures are saved by themselves.
    PicturesFolder,
    /// The folder of a model.
    ModelFolder,
    /// A folder of pictures to teach.
    TeachFolder,
    /// A LoRA file.
    Lora,
    /// A picture to draw from.
    Picture,
}

/// How a file job ended.
#[derive(Debug)]
pub enum FileResult {
    /// A picture is on disk.
    Saved {
        /// The job that drew it.
        job: JobId,
        /// The file.
        path: PathBuf,
    },
    /// A picture could not be written.
    NotSaved {
        /// The job that drew it.
        job: JobId,
        /// What happened and what to do.
        message: String,
    },
    /// A picture was read.
    PictureRead {
        /// The file it came from.
        path: PathBuf,
        /// The picture.
        image: Rgb8Image,
        /// Its recipe, when it was drawn by a program that leaves one.
        recipe: Option<Box<Recipe>>,
    },
    /// Words were written beside pictures.
    CaptionsWritten,
    /// The LoRAs of a folder.
    LorasFound(Vec<LoraCard>),
    /// The devices of this machine.
    DevicesFound(Vec<DeviceInfo>),
    /// A job without a picture failed.
    Failed {
        /// What happened and what to do.
        message: String,
    },
    /// The user chose a file or folder.
    Chosen {
        /// What was asked.
        ask: Ask,
        /// The answer.
        path: PathBuf,
    },
}

/// The file thread and its results.
pub struct Tasks {
    jobs: Option<Sender<FileJob>>,
    results: Receiver<FileResult>,
    result_sender: Sender<FileResult>,
    wake: Wake,
    worker: Option<JoinHandle<()>>,
}

impl Tasks {
    /// Starts the file thread.
    pub fn start(wake: Wake) -> Self {
        let (jobs, inbox) = unbounded::<FileJob>();
        let (result_sender, results) = unbounded();
        let answer = result_sender.clone();
        let woken = Arc::clone(&wake);
        let worker = std::thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || {
                for job in inbox {
                    if let Some(result) = run(job)
                        && answer.send(result).is_ok()
                    {
                        woken();
                    }
                }
            });
        if let Err(error) = &worker {
            tracing::error!("the file thread did not start: {error}");
        }
        Self {
            jobs: Some(jobs),
            results,
            result_sender,
            wake,
            worker: worker.ok(),
        }
    }

    /// Queues a job; its result comes through [`Self::poll`].
    pub fn push(&self, job: FileJob) {
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(job));
        if !matches!(sent, Some(Ok(()))) {
            let message = "Files cannot be written or read any more. Start the program again.";
            self.answer(FileResult::Failed {
                message: message.to_owned(),
            });
        }
    }

    /// Opens a file dialog; the answer comes through [`Self::poll`].
    ///
    /// Must be called from the window's thread, which some systems demand for
    /// dialogs; the waiting happens on a thread of its own. `folder` must be
    /// there: some systems open no dialog in a missing one.
    pub fn ask(&self, ask: Ask, folder: Option<&Path>, name: &str) {
        let mut dialog = rfd::AsyncFileDialog::new();
        if let Some(folder) = folder {
            dialog = dialog.set_directory(folder);
        }
        let choice: std::pin::Pin<Box<dyn Future<Output = Option<rfd::FileHandle>> + Send>> =
            match ask {
                Ask::SavePicture(_) => Box::pin(
                    dialog
                        .set_title("Save picture")
                        .add_filter("PNG picture", &["png"])
                        .set_file_name(name)
                        .save_file(),
                ),
                Ask::PicturesFolder => {
                    Box::pin(dialog.set_title("Folder for pictures").pick_folder())
                }
                Ask::ModelFolder => Box::pin(dialog.set_title("Open a model folder").pick_folder()),
                Ask::TeachFolder => {
                    Box::pin(dialog.set_title("Folder with your pictures").pick_folder())
                }
                Ask::Picture => Box::pin(
                    dialog
                        .set_title("Open a picture")
                        .add_filter("Picture", &["png", "jpg", "jpeg", "webp"])
                        .pick_file(),
                ),
                Ask::Lora => Box::pin(
                    dialog
                        .set_title("Put on a LoRA")
                        .add_filter("LoRA", &["safetensors"])
                        .pick_file(),
                ),
            };
        let answer = self.result_sender.clone();
        let wake = Arc::clone(&self.wake);
        let thread = std::thread::Builder::new()
            .name("file dialog".to_owned())
            .spawn(move || {
                if let Some(file) = block_on(choice) {
                    let path = file.path().to_path_buf();
                    if answer.send(FileResult::Chosen { ask, path }).is_ok() {
                        wake();
                    }
                }
            });
        if let Err(error) = thread {
            self.answer(FileResult::Failed {
                message: format!("The file dialog could not be opened ({error})."),
            });
        }
    }

    /// The next result, if one is there.
    pub fn poll(&self) -> Option<FileResult> {
        self.results.try_recv().ok()
    }

    fn answer(&self, result: FileResult) {
        // This end holds the receiver, so the channel is open.
        let _sent = self.result_sender.send(result);
        (self.wake)();
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            tracing::error!("the file thread ended with a panic");
        }
    }
}

/// Does one job; `None` when there is nothing to tell.
fn run(job: FileJob) -> Option<FileResult> {
    Some(match job {
        FileJob::SavePicture {
            job,
            target,
            image,
            recipe,
        } => {
            let saved = match target {
                Target::Folder(folder) => {
                    let stem = recipe::file_stem(&recipe.spec.prompt, recipe.spec.seed);
                    recipe::write_new_png(&folder, &stem, &image, &recipe)
                }
                Target::File(path) => {
                    let path = with_extension(path);
                    recipe::write_png(&path, &image, &recipe).map(|()| path)
                }
            };
            match saved {
                Ok(path) => FileResult::Saved { job, path },
                Err(error) => FileResult::NotSaved {
                    job,
                    message: error.to_string(),
                },
            }
        }
        FileJob::WriteCaptions(list) => write_captions(&list),
        FileJob::FindLoras(folder) => FileResult::LorasFound(infinity_engine::find_loras(&folder)),
        FileJob::FindDevices => FileResult::DevicesFound(infinity_engine::device::list()),
        FileJob::WriteNotes(lora, notes) => {
            let path = lora.with_extension("txt");
            let error = write_beside(&path, notes.trim().as_bytes()).err()?;
            FileResult::Failed {
                message: format!(
                    "The notes could not be saved ({error}). Choose a folder that can be written to: {}",
                    path.display()
                ),
            }
        }
        FileJob::ReadPicture(path) => match read_picture(&path) {
            Ok((image, recipe)) => FileResult::PictureRead {
                path,
                image,
                recipe,
            },
            Err(message) => FileResult::Failed { message },
        },
        FileJob::WriteSettings { path, settings } => {
            let error = write_settings(&path, &settings).err()?;
            FileResult::Failed {
                message: format!(
                    "The preferences could not be saved ({error}). They hold until the window closes: {}",
                    path.display()
                ),
            }
        }
    })
}

fn write_captions(list: &[(PathBuf, String)]) -> FileResult {
    for (picture, words) in list {
        let path = picture.with_extension("txt");
        if let Err(error) = write_beside(&path, words.trim().as_bytes()) {
            return FileResult::Failed {
                message: format!(
                    "The caption could not be saved ({error}). Choose a folder that can be written to: {}",
                    path.display()
                ),
            };
        }
    }
    FileResult::CaptionsWritten
}

/// A picture and its recipe, when it has one; the error is a sentence for the user.
fn read_picture(path: &Path) -> Result<(Rgb8Image, Option<Box<Recipe>>), String> {
    let recipe = match recipe::read_recipe(path) {
        Ok(recipe) => Some(Box::new(recipe)),
        Err(RecipeError::NoRecipe { .. } | RecipeError::NotPng { .. }) => None,
        Err(error) => return Err(error.to_string()),
    };
    let image = infinity_engine::read_picture(path).map_err(|error| error.to_string())?;
    Ok((image, recipe))
}

/// A chosen name without `.png` gets it, as the dialog of some systems adds none.
fn with_extension(path: PathBuf) -> PathBuf {
    let is_png = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if is_png {
        return path;
    }
    let mut name = path.into_os_string();
    name.push(".png");
    name.into()
}

/// Puts `bytes` at `path`: all of them or none.
fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn write_settings(path: &Path, settings: &Settings) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(file.as_file(), settings)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Waits for a future on this thread.
fn block_on<T>(mut future: std::pin::Pin<Box<dyn Future<Output = T> + Send>>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
