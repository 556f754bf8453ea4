//! An engine that does what a test tells it, and pictures for it.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use infinity_engine::api::{
    DeviceInfo, DeviceKind, Doubt, EngineError, Event, Finding, FoundPicture, GenerateSpec, JobId,
    Keeping, MemoryNeed, ModelInfo, PictureBits, RatioInfo, Request, Rgb8Image, Task, TuneRates,
    TuneStep,
};
use infinity_engine::{CancelBoard, EngineHandle};

/// Token grids of the scripted model, square.
pub const GRIDS: [usize; 7] = [1, 2, 3, 4, 5, 6, 8];

/// The engine's end of the channels.
pub struct ScriptedEngine {
    requests: Receiver<Request>,
    events: Sender<Event>,
    cancels: Arc<CancelBoard>,
}

impl ScriptedEngine {
    /// An engine and the handle to it.
    pub fn new() -> (Self, EngineHandle) {
        let (request_sender, requests) = unbounded();
        let (events, event_receiver) = unbounded();
        let cancels = Arc::new(CancelBoard::default());
        let handle = EngineHandle::from_parts(request_sender, event_receiver, Arc::clone(&cancels));
        let engine = Self {
            requests,
            events,
            cancels,
        };
        (engine, handle)
    }

    /// Tells the app something.
    pub fn tell(&self, event: Event) {
        // A test may have dropped the app first.
        let _sent = self.events.send(event);
    }

    /// Opens the device and loads the model.
    pub fn get_ready(&self) {
        let device = device();
        self.tell(Event::DeviceReady { device });
        let model = model();
        self.tell(Event::ModelLoaded { model });
    }

    /// The next request of the app.
    pub fn request(&self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// The next picture the app asks for; scales of older ones are passed over, other requests are a mistake of the test.
    pub fn job(&self) -> Option<(JobId, GenerateSpec)> {
        loop {
            match self.task()? {
                (job, Task::Generate(spec)) => return Some((job, spec)),
                (_, Task::Rebuild(_)) => {}
                _ => return None,
            }
        }
    }

    /// The next job, whatever its kind.
    pub fn task(&self) -> Option<(JobId, Task)> {
        match self.request()? {
            Request::Run { job, task } => Some((job, *task)),
            Request::LoadModel { .. } => None,
        }
    }

    /// Tells of `count` pictures in a folder, and of two that are none.
    pub fn find_pictures(&self, job: JobId, count: u64) {
        self.find_pictures_in(std::path::Path::new(""), job, count);
    }

    /// The same, in `folder`.
    pub fn find_pictures_in(&self, folder: &std::path::Path, job: JobId, count: u64) {
        let pictures = (0..count).map(|index| FoundPicture {
            path: folder.join(format!("{index:02}.png")),
            words: format!("a red windmill on the left, green hills, number {index}"),
            caption: format!("a red windmill on the left, green hills, number {index}"),
            repeats: 1,
            original: (640, 480),
            image: paint(128, if index % 4 == 3 { 160 } else { 128 }, 13 * index),
        });
        let finding = |name: &str, what: &str, left_out| Finding {
            path: name.into(),
            what: what.to_owned(),
            left_out,
        };
        self.tell(Event::PicturesFound {
            job,
            pictures: pictures.collect(),
            findings: vec![
                finding(
                    "tiny.png",
                    "60×60 is smaller than the 128×128 it would be learned at; use a larger one",
                    true,
                ),
                finding(
                    "07.png",
                    "no caption; write what it shows into \"07.txt\"",
                    false,
                ),
            ],
            rates: TuneRates {
                secs_per_picture: Some(0.05),
                fixed_bytes: 50_000_000,
                rank_bytes: 100_000,
                picture_bytes: [10_000_000, 2_000_000],
                free: Some(200_000_000),
            },
        });
    }

    /// Tells of `done` of 300 updates, with samples now and then.
    pub fn teach(&self, job: JobId, done: u64) {
        let prompts: Vec<String> = (0..8).map(|index| format!("prompt {index}")).collect();
        for step in (0..=done).step_by(5) {
            let part = step as f32 / 300.0;
            if step % 50 == 0 {
                let images = (0..8).map(|index| paint(128, 128, 11 * index + step / 50));
                self.tell(Event::TuneSamples {
                    job,
                    step,
                    prompts: prompts.clone(),
                    images: images.collect(),
                });
            }
            if step > 0 {
                self.tell(Event::TuneStepDone {
                    job,
                    step: TuneStep {
                        step,
                        steps: 300,
                        loss: 0.35 - 0.2 * part.sqrt(),
                        bit_accuracy: (0..5)
                            .map(|scale| 0.9 - 0.03 * scale as f32 + 0.08 * part)
                            .collect(),
                        pictures_per_sec: 88.0,
                        eta_secs: 30.0 * (1.0 - part),
                    },
                });
            }
        }
    }

    /// Whether the app stopped this job.
    pub fn is_cancelled(&self, job: JobId) -> bool {
        self.cancels.is_cancelled(job)
    }

    /// Whether the app paused this lesson.
    pub fn is_paused(&self, job: JobId) -> bool {
        self.cancels.is_paused(job)
    }

    /// Starts a job.
    pub fn start(&self, job: JobId, spec: &GenerateSpec) {
        let size_px = size_of(spec);
        self.tell(Event::Started {
            job,
            schedule: schedule_of(spec),
            size_px,
            notes: Vec::new(),
        });
    }

    /// Draws the scale with this index.
    pub fn draw_scale(&self, job: JobId, spec: &GenerateSpec, scale_index: usize) {
        let (h, w) = schedule_of(spec)[scale_index];
        self.tell(Event::ScaleDone {
            job,
            scale_index,
            scale_count: GRIDS.len(),
            preview: paint(w as u32 * 4, h as u32 * 4, spec.seed),
            elapsed_secs: 0.2 * (scale_index + 1) as f32,
        });
    }

    /// Finishes a picture with all its scales.
    pub fn finish(&self, job: JobId, spec: &GenerateSpec) {
        for index in 0..GRIDS.len() {
            self.draw_scale(job, spec, index);
        }
        let (width, height) = size_of(spec);
        self.tell(Event::ImageDone {
            doubt: Some(Doubt {
                width: 4,
                height: 4,
                values: (0..16).map(|place| place * 10).collect(),
            }),
            job,
            image: paint(width, height, spec.seed),
            spec: GenerateSpec {
                bits: Some(Box::new(PictureBits::new(1, schedule_of(spec), &[]))),
                ..spec.clone()
            },
            elapsed_secs: 1.44,
            preview_share: 0.1,
        });
    }

    /// Draws some of the drafts of a job.
    pub fn draw_drafts(
        &self,
        job: JobId,
        spec: &GenerateSpec,
        indices: std::ops::Range<usize>,
        scales: usize,
    ) {
        for index in indices {
            let (h, w) = schedule_of(spec)[scales - 1];
            let seed = spec.seed + index as u64;
            let grids = schedule_of(spec).into_iter().take(scales).collect();
            self.tell(Event::DraftDone {
                job,
                index,
                image: paint(w as u32 * 8, h as u32 * 8, seed),
                spec: GenerateSpec {
                    keep: scales,
                    seed,
                    bits: Some(Box::new(PictureBits::new(1, grids, &[]))),
                    scale_count: Some(GRIDS.len()),
                    ..spec.clone()
                },
            });
        }
    }

    /// Says that a job failed.
    pub fn fail(&self, job: JobId, error: EngineError) {
        self.tell(Event::Failed { job, error });
    }
}

/// The scripted device.
pub fn device() -> DeviceInfo {
    DeviceInfo {
        memory: Some(16_000_000_000),
        half_products: true,
        kind: DeviceKind::Cpu,
        name: "16 threads".to_owned(),
        backend: String::new(),
        driver: String::new(),
        reason: "No graphics card was found, so the processor draws.".to_owned(),
    }
}

fn memory() -> MemoryNeed {
    let mut need = MemoryNeed::default();
    need.add("transformer", 30_000_000);
    need.add("work", 13_000_000);
    need
}

/// The scripted model.
pub fn model() -> ModelInfo {
    let ratio = |width: u32, height: u32| RatioInfo {
        ratio: height as f32 / width as f32,
        width,
        height,
    };
    ModelInfo {
        name: "Postcards".to_owned(),
        about: "This small model draws postcards: a landscape, a sun or moon, and one thing such \
                as a house, a tree or a boat."
            .to_owned(),
        parameters: 12_400_000,
        scale_count: GRIDS.len(),
        cfg: 3.0,
        tau: 0.5,
        ratios: vec![
            ratio(128, 128),
            ratio(96, 160),
            ratio(112, 144),
            ratio(144, 112),
            ratio(160, 96),
        ],
        sides: GRIDS.iter().map(|&side| 16 * side as u32).collect(),
        memory: vec![memory(); GRIDS.len()],
        keeping: Keeping::default(),
        example_prompts: vec!["purple mountains at sunset, a yellow sun on the left".to_owned()],
        practice_prompts: Vec::new(),
    }
}

fn size_of(spec: &GenerateSpec) -> (u32, u32) {
    let info = model()
        .ratios
        .into_iter()
        .find(|info| info.ratio == spec.ratio);
    info.map_or((128, 128), |info| (info.width, info.height))
}

fn schedule_of(spec: &GenerateSpec) -> Vec<(usize, usize)> {
    let (width, height) = size_of(spec);
    let grid = |side: usize, size: u32| (side * size as usize / 128).max(1);
    GRIDS
        .iter()
        .map(|side| (grid(*side, height), grid(*side, width)))
        .collect()
}

/// A sunset over mountains, at any size; the seed moves the sun.
pub fn paint(width: u32, height: u32, seed: u64) -> Rgb8Image {
    let sun = (0.2 + 0.6 * (seed % 97) as f32 / 97.0, 0.3_f32);
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (
                (x as f32 + 0.5) / width as f32,
                (y as f32 + 0.5) / height as f32,
            );
            let far = 0.62 - 0.16 * (1.0 - ((u * 3.0).fract() - 0.5).abs() * 2.0);
            let near = 0.78 - 0.18 * (1.0 - ((u * 2.0 + 0.3).fract() - 0.5).abs() * 2.0);
            let colour = if v > near {
                [98.0, 60.0, 120.0]
            } else if v > far {
                [130.0, 80.0, 160.0]
            } else if (u - sun.0).hypot(v - sun.1) < 0.1 {
                [250.0, 210.0, 60.0]
            } else {
                let t = (v / 0.77).min(1.0);
                [235.0 + 20.0 * t, 90.0 + 100.0 * t, 60.0 + 30.0 * t]
            };
            pixels.extend(colour.map(|value: f32| value as u8));
        }
    }
    Rgb8Image::new(width, height, pixels).expect("the number of pixels fits the size")
}

/// A file or folder as it is dropped on a window.
pub fn dropped(path: &std::path::Path) -> Arc<dyn eframe::egui::DroppedFile + Send + Sync> {
    #[derive(Debug)]
    struct Dropped(std::path::PathBuf);
    impl eframe::egui::DroppedFile for Dropped {
        fn path(&self) -> &std::path::Path {
            &self.0
        }
        fn bytes(&self) -> Result<Vec<u8>, String> {
            Err("the window reads files on its own thread".to_owned())
        }
    }
    Arc::new(Dropped(path.to_path_buf()))
}
