//! The engine thread and the handle to it.
//!
//! Only this room owns channels and the thread. Everything else in the engine
//! is called from that thread, which opens a device of its own: shared with the
//! window's, a busy queue would stall its frames, and a lost device would take
//! the window along.

mod budget;
mod cancel;
mod doubt;
mod drawing;
mod fleet;
mod link;
mod notes;
mod relief;
mod run_loop;
mod studio;
mod tuning;

pub use cancel::CancelBoard;
pub use fleet::spawn_fleet;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::Helpers;
use crate::api::{DeviceChoice, EngineError, Event, JobId, Request, Task, WeightStorage};
use link::Link;
use run_loop::{Engine, Start};

/// Name of the thread, seen in logs and panics.
const THREAD_NAME: &str = "engine";
/// Stack of the thread in bytes; shader compilers recurse deeply.
const STACK_BYTES: usize = 16 << 20;

/// Which pictures of unfinished scales are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Previews {
    /// None: only the last scale answers `ScaleDone`. The quickest way to a finished picture.
    Off,
    /// Every scale, at a size that keeps all of them together under a quarter of the run.
    #[default]
    Budgeted,
    /// Every scale at its own size, however long it takes; at a coarser one's only where memory is kept in eight bits.
    Full,
}

/// What an engine starts with.
pub struct SpawnOptions {
    /// The device to compute on.
    pub device: DeviceChoice,
    /// The model folder to load first.
    pub model: Option<PathBuf>,
    /// Which previews are made.
    pub previews: Previews,
    /// How weights are kept.
    pub weights: WeightStorage,
    /// A file that notes which graphics devices computed right, so that each is tried once per driver
    /// ([`self_test`](crate::self_test)); at every start when `None`.
    pub passed: Option<PathBuf>,
    /// Called after every event, on the engine thread.
    pub wake: Box<dyn Fn() + Send>,
    /// Called on the engine thread within a job, at every scale and every update. A test panics in it, in the words of a
    /// device that fails.
    pub on_step: Option<Box<dyn FnMut() + Send>>,
}

impl SpawnOptions {
    /// An engine on `device` that loads `model` first and makes previews within their budget.
    pub fn new(device: DeviceChoice, model: Option<PathBuf>) -> Self {
        Self {
            device,
            model,
            previews: Previews::default(),
            weights: WeightStorage::default(),
            passed: None,
            wake: Box::new(|| ()),
            on_step: None,
        }
    }
}

/// Starts the engine thread.
///
/// It opens the device (`DeviceReady`, else `ModelFailed`), loads the model
/// (`ModelLoaded`, else `ModelFailed`), then serves requests in their order.
///
/// # Errors
/// [`EngineError::Internal`] when the system gives no thread.
pub fn spawn(options: SpawnOptions) -> Result<EngineHandle, EngineError> {
    let (request_sender, requests) = unbounded();
    let (event_sender, events) = unbounded();
    let cancels = Arc::new(CancelBoard::default());
    let link = Link::new(
        event_sender,
        options.wake,
        options.on_step,
        Arc::clone(&cancels),
    );
    let (model, previews) = (options.model, options.previews);
    let start = Start {
        device: options.device,
        weights: options.weights,
        passed: options.passed,
    };
    let thread = std::thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let _helpers = Helpers::here();
            Engine::new(link, previews).run(&start, model, &requests);
        })
        .map_err(|error| EngineError::internal(format!("starting the engine thread: {error}")))?;
    let mut handle = EngineHandle::from_parts(request_sender, events, cancels);
    handle.thread = Some(thread);
    Ok(handle)
}

/// The number of the next job, the same count for all engines of this process: a window that moves to another engine
/// keeps pictures of the one before.
static NEXT_JOB: AtomicU64 = AtomicU64::new(1);

/// The app's end of the engine: sends requests, receives events, stops jobs.
///
/// Dropping it closes the channels, and the engine thread ends after the part of the network it is on.
pub struct EngineHandle {
    requests: Sender<Request>,
    events: Receiver<Event>,
    cancels: Arc<CancelBoard>,
    thread: Option<JoinHandle<()>>,
}

impl EngineHandle {
    /// A handle over given channels: the engine's, or a script's in a test.
    pub fn from_parts(
        requests: Sender<Request>,
        events: Receiver<Event>,
        cancels: Arc<CancelBoard>,
    ) -> Self {
        Self {
            requests,
            events,
            cancels,
            thread: None,
        }
    }

    /// A handle to an engine that could not start; it tells `error` and ends.
    pub fn failed(error: EngineError) -> Self {
        let (requests, _) = unbounded();
        let (sender, events) = unbounded();
        // The receiver is right here, so nothing is lost.
        let _sent = sender.send(Event::ModelFailed { error });
        Self::from_parts(requests, events, Arc::new(CancelBoard::default()))
    }

    /// Asks for something without a job number.
    ///
    /// # Errors
    /// [`EngineError::EngineGone`] when the engine thread has ended.
    pub fn send(&self, request: Request) -> Result<(), EngineError> {
        self.requests
            .send(request)
            .map_err(|_closed| EngineError::EngineGone)
    }

    /// Queues a job and returns its number.
    ///
    /// # Errors
    /// [`EngineError::EngineGone`] when the engine thread has ended.
    pub fn run(&self, task: Task) -> Result<JobId, EngineError> {
        let job = JobId(NEXT_JOB.fetch_add(1, Ordering::Relaxed));
        let task = Box::new(task);
        self.send(Request::Run { job, task })?;
        Ok(job)
    }

    /// Stops a job, running or queued. Takes effect within one scale.
    pub fn cancel(&self, job: JobId) {
        self.cancels.cancel(job);
    }

    /// Pauses a lesson, or has it go on; pictures are drawn meanwhile. Takes effect after one step.
    pub fn pause(&self, job: JobId, paused: bool) {
        self.cancels.pause(job, paused);
    }

    /// The next event, if one is there.
    pub fn try_event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Waits for the next event; `None` when the engine has ended.
    pub fn wait_event(&self) -> Option<Event> {
        self.events.recv().ok()
    }

    /// Waits for the next event, but not longer than `patience`.
    pub(crate) fn event_within(&self, patience: Duration) -> Result<Event, RecvTimeoutError> {
        self.events.recv_timeout(patience)
    }

    /// Closes the channels and waits until the engine thread has freed everything.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the thread ended in a panic.
    pub fn shut_down(self) -> Result<(), EngineError> {
        let Self {
            requests,
            events,
            thread,
            ..
        } = self;
        drop((requests, events));
        let ended = thread.map_or(Ok(()), JoinHandle::join);
        ended.map_err(|_panic| EngineError::internal("the engine thread ended in a panic"))
    }
}
