//! What the engine thread does: opens, loads, serves, survives.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::{Device, Tensor};
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::Previews;
use super::link::Link;
use super::notes::Notes;
use super::relief::{Relief, Trouble};
use super::studio::Studio;
use super::tuning;
use crate::api::{
    DeviceChoice, DeviceKind, EngineError, Event, JobId, Request, Task, WeightStorage,
};
use crate::device::{self, OpenDevice};
use crate::generate::Bundle;
use crate::{memory, self_test};

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
                    self.serve(job, &task, &mut device, requests);
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

    /// Does a job; where the device fails, once more in a smaller way.
    fn serve(
        &mut self,
        job: JobId,
        task: &Task,
        device: &mut Result<OpenDevice, EngineError>,
        requests: &Receiver<Request>,
    ) {
        let mut relief = Relief::default();
        while let Err(error) = self.attempt(job, task, device, requests, &relief) {
            let trouble = trouble_of(&error, device.as_ref().ok());
            let again = match (trouble, device.as_mut()) {
                (Some(trouble), Ok(open)) => self.relieve(trouble, task, open, &mut relief),
                (None, Ok(open)) if matches!(error, EngineError::Internal { .. }) => {
                    self.after_failure(open);
                    Err(error)
                }
                _ => Err(error),
            };
            if let Err(error) = again {
                self.link.tell(Event::Failed { job, error });
                return;
            }
        }
    }

    /// Does a job as far as `relief` lets it.
    fn attempt(
        &mut self,
        job: JobId,
        task: &Task,
        device: &Result<OpenDevice, EngineError>,
        requests: &Receiver<Request>,
        relief: &Relief,
    ) -> Result<(), EngineError> {
        if self.link.is_stopped(job) {
            self.link.tell(Event::Cancelled { job });
            return Ok(());
        }
        let open = device.as_ref().map_err(EngineError::clone)?;
        let Some((bundle, notes)) = &mut self.model else {
            return Err(EngineError::NoModel);
        };
        let (link, previews) = (&self.link, self.previews);
        let task = relief.eased(task, bundle.info.scale_count);
        let mut finished = false;
        let result = guarded(|| {
            let result = match task.as_ref() {
                Task::LookThrough {
                    folder,
                    trigger,
                    scale_count,
                } => {
                    let scales = scale_count.unwrap_or(bundle.info.scale_count);
                    let rates = notes.lesson_rates(bundle, open, scales)?;
                    tuning::look(job, folder, trigger, scales, rates, link)
                }
                Task::Tune(wish) => {
                    let later = &mut self.later;
                    let mut break_time = BreakTime {
                        lesson: job,
                        device: open,
                        notes,
                        previews,
                        link,
                        requests,
                        later,
                    };
                    let mut between = |bundle: &mut Bundle| break_time.serve(bundle);
                    tuning::tune(job, wish, bundle, open, link, &relief.notes, &mut between)
                }
                drawing => Studio {
                    bundle,
                    notes,
                    given_up: &relief.notes,
                }
                .serve(job, drawing, previews, link)
                .unwrap_or(Ok(())),
            };
            finished = true;
            result
        });
        if !finished {
            self.take_off();
        }
        result
    }

    /// After a panic whatever was on the model is taken off.
    fn take_off(&mut self) {
        if let Some((bundle, _)) = &mut self.model {
            let _off = guarded(|| bundle.wear(&[]).map(|_| ()));
        }
    }

    /// After a mistake: weights on the processor cannot be harmed, those on a graphics device are loaded again.
    fn after_failure(&mut self, device: &OpenDevice) {
        if device.info.kind != DeviceKind::Cpu {
            self.load_again(&Ok(device.clone()));
        }
    }

    /// Frees the model and loads it again, with what `device` is now.
    fn load_again(&mut self, device: &Result<OpenDevice, EngineError>) {
        if let Some(model) = self.model.take() {
            let folder = model.0.folder.clone();
            // A lost device may complain again while its tensors are freed.
            let _freed = guarded(|| {
                drop(model);
                Ok(())
            });
            self.load(&folder, device);
        }
    }

    /// Makes room, or opens a lost device again, so that `task` can be tried once more.
    ///
    /// # Errors
    /// What to tell the user when nothing is left to try; the engine can go on with other jobs.
    fn relieve(
        &mut self,
        trouble: Trouble,
        task: &Task,
        device: &mut OpenDevice,
        relief: &mut Relief,
    ) -> Result<(), EngineError> {
        let name = device.info.name.clone();
        tracing::warn!("{name}: {trouble:?}");
        if let Trouble::Lost(_) = &trouble {
            *device = guarded(|| device::reopen(device))?;
            self.load_again(&Ok(device.clone()));
            return if relief.after_loss(&name) && self.model.is_some() {
                Ok(())
            } else {
                Err(trouble.told(&name))
            };
        }
        if self.make_room(task, device, relief) && self.model.is_some() {
            Ok(())
        } else {
            Err(trouble.told(&name))
        }
    }

    /// Takes the next step towards less memory; `false` when none is left.
    fn make_room(&mut self, task: &Task, device: &mut OpenDevice, relief: &mut Relief) -> bool {
        self.take_off();
        let Some((bundle, _)) = &self.model else {
            return false;
        };
        let (before, usual) = (bundle.info.keeping, bundle.info.scale_count);
        if matches!(task, Task::Tune(_)) {
            let Some(taken) = self.link.lesson_bytes() else {
                return false;
            };
            // The lesson is planned anew for less.
            device.most_memory = Some(taken / 4 * 3);
            return relief.of_lesson();
        }
        let sizes = bundle.sizes();
        if let Some(smaller) = memory::smaller(&sizes, usual, device, before) {
            device.most_memory = Some(smaller);
            self.load_again(&Ok(device.clone()));
            let after = self.model.as_ref().map(|(bundle, _)| bundle.info.keeping);
            if after.is_some_and(|after| relief.keeps(before, after)) {
                return true;
            }
        }
        if let Some(smaller) = relief.piece(device.max_elements) {
            device.max_elements = smaller;
            self.load_again(&Ok(device.clone()));
            return true;
        }
        relief.of_picture(task, usual)
    }
}

/// What is done between two steps of a lesson: pictures are drawn; all else waits for its end.
struct BreakTime<'a> {
    lesson: JobId,
    device: &'a OpenDevice,
    notes: &'a mut Notes,
    previews: Previews,
    link: &'a Link,
    requests: &'a Receiver<Request>,
    later: &'a mut VecDeque<Request>,
}

impl BreakTime<'_> {
    /// Draws what was asked for; while the lesson is paused, goes on doing so.
    fn serve(&mut self, bundle: &mut Bundle) {
        self.link.step();
        loop {
            let paused = self.link.is_paused(self.lesson) && !self.link.is_stopped(self.lesson);
            let next = if paused {
                self.requests.recv_timeout(PAUSE_LOOK)
            } else {
                self.requests.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                })
            };
            match next {
                Ok(request) => self.serve_one(bundle, request),
                Err(RecvTimeoutError::Timeout) if paused => {}
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    // The app is gone, and whoever is paused would wait for it for ever.
                    self.link.close();
                    return;
                }
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
            given_up: &[],
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
            // The lesson comes first: what it holds is not given up for a picture.
            let trouble = trouble_of(&error, Some(self.device));
            let error = trouble.map_or(error, |trouble| trouble.told(&self.device.info.name));
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

/// What is wrong with `device` after a job ended in `error`, if something is.
fn trouble_of(error: &EngineError, device: Option<&OpenDevice>) -> Option<Trouble> {
    let device = device?;
    if !matches!(error, EngineError::Internal { .. }) {
        return None;
    }
    if device.ran_out_of_memory() {
        return Some(Trouble::Memory);
    }
    let said = Trouble::of(error);
    if said.is_some() || device.info.kind == DeviceKind::Cpu {
        return said;
    }
    // What was torn down halfway does not say why: the device is asked.
    guarded(|| try_out(&device.device)).err().map(|error| {
        Trouble::of(&error).unwrap_or_else(|| Trouble::Lost("it does not answer".to_owned()))
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
