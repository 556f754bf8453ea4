//! What the engine thread does: opens, loads, serves, survives.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::{Device, Tensor};
use crossbeam_channel::Receiver;

use super::Previews;
use super::link::Link;
use super::notes::Notes;
use super::studio::Studio;
use super::tuning;
use crate::api::{
    DeviceChoice, DeviceKind, EngineError, Event, JobId, Request, Task, WeightStorage,
};
use crate::device::{self, OpenDevice};
use crate::generate::Bundle;
use crate::self_test;

/// How often a paused lesson looks whether it goes on.
const PAUSE_LOOK: Duration = Duration::from_millis(50);

/// What the thread opens.
pub(super) struct Start {
    pub(super) device: DeviceChoice,
    pub(super) weights: WeightStorage,
    /// Where it is noted which graphics devices computed right.
    pub(super) passed: Option<PathBuf>,
}

/// The state of the engine thread. Everything in it is freed when the thread ends.
pub(super) struct Engine {
    link: Link,
    previews: Previews,
    model: Option<(Bundle, Notes)>,
    /// What was asked for during a lesson and has to wait for its end.
    later: VecDeque<Request>,
}

impl Engine {
    pub(super) fn new(link: Link, previews: Previews) -> Self {
        Self {
            link,
            previews,
            model: None,
            later: VecDeque::new(),
        }
    }

    /// Serves until the app closes the channel.
    pub(super) fn run(
        mut self,
        start: &Start,
        model: Option<PathBuf>,
        requests: &Receiver<Request>,
    ) {
        let mut device = open_or_fall_back(start.device, start.passed.as_deref());
        if let Ok(open) = &mut device {
            open.weights = start.weights;
        }
        match &device {
            Ok(open) => self.link.tell(Event::DeviceReady {
                device: open.info.clone(),
            }),
            Err(error) => self.link.tell(Event::ModelFailed {
                error: error.clone(),
            }),
        }
        if let Some(folder) = model
            && device.is_ok()
        {
            self.load(&folder, &device);
        }
        while !self.link.is_closed() {
            let next = match self.later.pop_front() {
                Some(waiting) => Ok(waiting),
                None => requests.recv(),
            };
            let Ok(request) = next else { break };
            match request {
                Request::LoadModel { folder } => self.load(&folder, &device),
                Request::Run { job, task } => {
                    self.serve(job, &task, &device, requests);
                    self.link.forget(job);
                }
            }
        }
    }

    /// Loads a model; the one before stays when that fails.
    fn load(&mut self, folder: &Path, device: &Result<OpenDevice, EngineError>) {
        let opened = device
            .as_ref()
            .map_err(EngineError::clone)
            .and_then(|device| guarded(|| Bundle::open(folder, device)));
        match opened {
            Ok(bundle) => {
                let model = bundle.info.clone();
                self.model = Some((bundle, Notes::default()));
                self.link.tell(Event::ModelLoaded { model });
            }
            Err(error) => self.link.tell(Event::ModelFailed { error }),
        }
    }

    fn serve(
        &mut self,
        job: JobId,
        task: &Task,
        device: &Result<OpenDevice, EngineError>,
        requests: &Receiver<Request>,
    ) {
        if self.link.is_stopped(job) {
            self.link.tell(Event::Cancelled { job });
            return;
        }
        let Some((bundle, notes)) = &mut self.model else {
            let error = device
                .as_ref()
                .err()
                .cloned()
                .unwrap_or(EngineError::NoModel);
            self.link.tell(Event::Failed { job, error });
            return;
        };
        let (link, previews) = (&self.link, self.previews);
        let mut finished = false;
        let result = guarded(|| {
            let result = match task {
                Task::LookThrough { folder, trigger } => {
                    let device = device.as_ref().map_err(EngineError::clone)?;
                    let rates = notes.lesson_rates(bundle, device)?;
                    tuning::look(job, folder, trigger, bundle, rates, link)
                }
                Task::Tune(wish) => {
                    let device = device.as_ref().map_err(EngineError::clone)?;
                    let later = &mut self.later;
                    let mut break_time = BreakTime {
                        lesson: job,
                        notes,
                        previews,
                        link,
                        requests,
                        later,
                    };
                    let mut between = |bundle: &mut Bundle| break_time.serve(bundle);
                    tuning::tune(job, wish, bundle, device, link, &mut between)
                }
                _ => Studio { bundle, notes }
                    .serve(job, task, previews, link)
                    .unwrap_or(Ok(())),
            };
            finished = true;
            result
        });
        if let Err(error) = result {
            self.link.tell(Event::Failed { job, error });
        }
        if !finished {
            self.recover(device);
        }
    }

    /// After a panic: weights on the processor cannot be harmed, those on a graphics device may be gone.
    fn recover(&mut self, device: &Result<OpenDevice, EngineError>) {
        if let Some((bundle, _)) = &mut self.model {
            // Whatever was on the model while it fell over is taken off.
            let _off = guarded(|| bundle.wear(&[]).map(|_| ()));
        }
        let on_graphics = device
            .as_ref()
            .is_ok_and(|open| open.info.kind != DeviceKind::Cpu);
        if on_graphics && let Some(model) = self.model.take() {
            let folder = model.0.folder.clone();
            // A lost device may complain again while its tensors are freed.
            let _freed = guarded(|| {
                drop(model);
                Ok(())
            });
            self.load(&folder, device);
        }
    }
}

/// What is done between two steps of a lesson: pictures are drawn; all else waits for its end.
struct BreakTime<'a> {
    lesson: JobId,
    notes: &'a mut Notes,
    previews: Previews,
    link: &'a Link,
    requests: &'a Receiver<Request>,
    later: &'a mut VecDeque<Request>,
}

impl BreakTime<'_> {
    /// Draws what was asked for; while the lesson is paused, goes on doing so.
    fn serve(&mut self, bundle: &mut Bundle) {
        loop {
            let paused = self.link.is_paused(self.lesson) && !self.link.is_stopped(self.lesson);
            let next = if paused {
                self.requests.recv_timeout(PAUSE_LOOK).ok()
            } else {
                self.requests.try_recv().ok()
            };
            match next {
                Some(request) => self.serve_one(bundle, request),
                None if paused => {}
                None => return,
            }
        }
    }

    fn serve_one(&mut self, bundle: &mut Bundle, request: Request) {
        let Request::Run { job, task } = request else {
            self.later.push_back(request);
            return;
        };
        if self.link.is_stopped(job) {
            self.link.tell(Event::Cancelled { job });
            self.link.forget(job);
            return;
        }
        let mut studio = Studio {
            bundle,
            notes: self.notes,
        };
        let (previews, link) = (self.previews, self.link);
        let mut is_drawing = true;
        let result = guarded(|| match studio.serve(job, &task, previews, link) {
            Some(result) => result,
            None => {
                is_drawing = false;
                Ok(())
            }
        });
        if !is_drawing {
            self.later.push_back(Request::Run { job, task });
            return;
        }
        if let Err(error) = result {
            self.link.tell(Event::Failed { job, error });
        }
        self.link.forget(job);
    }
}

/// Runs `work`; a panic in it becomes an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no details");
        Err(EngineError::internal(text))
    })
}

/// Opens the chosen device and sees whether it computes right: drivers fail late, and some say nothing.
fn open_and_try(choice: DeviceChoice, passed: Option<&Path>) -> Result<OpenDevice, EngineError> {
    let open = guarded(|| device::open(choice))?;
    guarded(|| try_out(&open.device))?;
    if open.info.kind != DeviceKind::Cpu {
        guarded(|| match passed {
            Some(passed) => self_test::run_once(&open, passed),
            None => self_test::run(&open),
        })?;
    }
    Ok(open)
}

fn try_out(device: &Device) -> Result<(), EngineError> {
    let sum = Tensor::<1>::ones([8], device).sum();
    let values = sum
        .try_into_vec_as::<f32>()
        .map_err(|error| EngineError::internal(format!("trying the device: {error}")))?;
    if values.first() == Some(&8.0) {
        Ok(())
    } else {
        Err(EngineError::internal("the device computes wrong"))
    }
}

/// The chosen device; the processor when the choice was left to the program and the best one fails.
fn open_or_fall_back(
    choice: DeviceChoice,
    passed: Option<&Path>,
) -> Result<OpenDevice, EngineError> {
    match open_and_try(choice, passed) {
        Err(error) if choice == DeviceChoice::Auto => {
            tracing::warn!("the graphics processor failed, going on with the processor: {error}");
            let mut open = open_and_try(DeviceChoice::Cpu, None)?;
            open.info.reason = format!("the graphics processor could not be used: {error}");
            Ok(open)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let error = guarded::<()>(|| panic!("it {}", "broke")).unwrap_err();
        assert!(
            matches!(&error, EngineError::Internal { what } if what == "it broke"),
            "{error}"
        );
        assert!(guarded(|| Ok(3)).is_ok_and(|value| value == 3));
    }

    #[test]
    fn the_processor_always_opens() {
        let open = open_or_fall_back(DeviceChoice::Cpu, None).unwrap();
        assert_eq!(open.info.kind, DeviceKind::Cpu);
    }
}
