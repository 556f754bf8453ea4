//! Several engines behind one handle: pictures and drafts are spread over the devices of one machine.
//!
//! Each device has an engine with the whole model; nothing is shared but the queue. A picture goes to the first engine that
//! has nothing to do, drafts go to all of them in parts. Lessons, and looking through their folders, are the first
//! engine's, and the others draw meanwhile. What is drawn does not depend on where: seeds decide.

mod parts;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Select, TryRecvError, unbounded};

use parts::{Parts, shares};

use super::link::Link;
use super::studio::MOST_DRAFTS;
use super::{CancelBoard, EngineHandle, SpawnOptions, spawn};
use crate::api::{
    DeviceChoice, DeviceInfo, EngineError, Event, GenerateSpec, JobId, ModelInfo, Request, Task,
};

/// How often stops and pauses are passed on while something is drawn.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts an engine on every device of `devices` and gives one handle to all of them.
///
/// One device answers as [`spawn`] does. A device that does not open is left out and named in `DeviceReady`; when none
/// does, the model fails. [`SpawnOptions::device`] is not looked at, `on_step` never called.
///
/// # Errors
/// [`EngineError::Internal`] when the system gives no thread.
pub fn spawn_fleet(
    devices: &[DeviceChoice],
    options: SpawnOptions,
) -> Result<EngineHandle, EngineError> {
    if let [] | [_] = devices {
        let device = devices.first().copied().unwrap_or_default();
        return spawn(SpawnOptions { device, ..options });
    }
    let members = devices.iter().map(|&device| {
        let own = SpawnOptions {
            previews: options.previews,
            weights: options.weights,
            passed: options.passed.clone(),
            ..SpawnOptions::new(device, options.model.clone())
        };
        Ok(Member {
            handle: spawn(own)?,
            jobs: BTreeSet::new(),
            teaches: false,
            device: None,
            awaited: usize::from(options.model.is_some()),
            model: None,
            trouble: None,
            gone: false,
        })
    });
    let members = members.collect::<Result<Vec<_>, EngineError>>()?;
    let (request_sender, requests) = unbounded();
    let (events, event_receiver) = unbounded();
    let cancels = Arc::new(CancelBoard::default());
    let fleet = Fleet {
        members,
        queue: VecDeque::new(),
        parts: BTreeMap::new(),
        said: Default::default(),
        devices_told: false,
        loading: options.model.is_some(),
        out: Link::new(events, options.wake, None, Arc::clone(&cancels)),
        cancels: Arc::clone(&cancels),
    };
    let thread = std::thread::Builder::new()
        .name("fleet".to_owned())
        .spawn(move || fleet.run(&requests))
        .map_err(|error| EngineError::internal(format!("starting a thread: {error}")))?;
    let mut handle = EngineHandle::from_parts(request_sender, event_receiver, cancels);
    handle.thread = Some(thread);
    Ok(handle)
}

/// One engine, as the fleet knows it.
struct Member {
    handle: EngineHandle,
    /// What it was given and has not ended.
    jobs: BTreeSet<JobId>,
    /// Whether one of these is a lesson.
    teaches: bool,
    device: Option<DeviceInfo>,
    /// Models it was asked to load and has not answered for.
    awaited: usize,
    model: Option<ModelInfo>,
    /// Why its device or the last model failed.
    trouble: Option<EngineError>,
    /// Its thread has ended.
    gone: bool,
}

/// The state of the fleet's thread.
struct Fleet {
    members: Vec<Member>,
    queue: VecDeque<Request>,
    parts: BTreeMap<JobId, Parts>,
    /// Stops and pauses that were passed on.
    said: [HashSet<JobId>; 2],
    devices_told: bool,
    /// Whether a model is being loaded.
    loading: bool,
    out: Link,
    cancels: Arc<CancelBoard>,
}

impl Fleet {
    /// Serves until the app closes the channel; then waits for the engines.
    fn run(mut self, requests: &Receiver<Request>) {
        while !self.out.is_closed() {
            self.dispatch();
            let mut select = Select::new();
            let mut whose = vec![None];
            select.recv(requests);
            for (index, member) in self.members.iter().enumerate() {
                if !member.gone {
                    select.recv(&member.handle.events);
                    whose.push(Some(index));
                }
            }
            let busy = self.members.iter().any(|member| !member.jobs.is_empty());
            let ready = if busy || !self.queue.is_empty() {
                select.ready_timeout(LOOK_EVERY).ok()
            } else {
                Some(select.ready())
            };
            drop(select);
            self.pass_marks_on();
            match ready.and_then(|ready| whose.get(ready).copied()) {
                Some(None) => match requests.try_recv() {
                    Ok(request) => self.queue.push_back(request),
                    Err(TryRecvError::Disconnected) => break,
                    Err(TryRecvError::Empty) => {}
                },
                Some(Some(index)) => self.hear(index),
                None => {}
            }
        }
        drop(self.out);
        for member in self.members {
            if let Err(error) = member.handle.shut_down() {
                tracing::warn!("{error}");
            }
        }
    }

    /// The engines that have the model, or the first when none has: it says why.
    fn crew(&self) -> Vec<usize> {
        let there = |index: &usize| !self.members[*index].gone;
        let all = (0..self.members.len()).filter(there);
        let able: Vec<usize> = all
            .clone()
            .filter(|&index| self.members[index].model.is_some())
            .collect();
        if able.is_empty() {
            all.take(1).collect()
        } else {
            able
        }
    }

    /// The engines of the crew that can be given a picture: those with nothing to do, or the only one during a lesson.
    fn free(&self) -> Vec<usize> {
        let crew = self.crew();
        let alone = crew.len() == 1;
        let is_free = |index: &usize| {
            let member = &self.members[*index];
            member.jobs.is_empty() || (alone && member.teaches)
        };
        crew.into_iter().filter(is_free).collect()
    }

    /// Starts everything in the queue that can be started.
    fn dispatch(&mut self) {
        while let Some(place) = (0..self.queue.len()).find(|&place| self.can_start(place)) {
            let Some(request) = self.queue.remove(place) else {
                return;
            };
            match request {
                Request::LoadModel { folder } => self.load(&folder),
                Request::Run { job, .. } if self.cancels.is_cancelled(job) => {
                    self.cancels.forget(job);
                    self.out.tell(Event::Cancelled { job });
                }
                Request::Run { job, task } => self.start(job, task),
            }
        }
    }

    fn can_start(&self, place: usize) -> bool {
        let Some(request) = self.queue.get(place) else {
            return false;
        };
        if self.loading {
            return false;
        }
        let is_load = |request: &Request| matches!(request, Request::LoadModel { .. });
        let teaches = self.members.iter().any(|member| member.teaches);
        // Nothing overtakes a model that was asked for, but pictures during a lesson.
        if !teaches && self.queue.iter().take(place).any(is_load) {
            return false;
        }
        match request {
            Request::LoadModel { .. } => self.members.iter().all(|member| member.jobs.is_empty()),
            Request::Run { job, .. } if self.cancels.is_cancelled(*job) => true,
            Request::Run { task, .. } if is_first_ones(task) => {
                let crew = self.crew();
                let first = crew.first().map(|&index| &self.members[index]);
                first.is_none_or(|first| first.jobs.is_empty())
            }
            Request::Run { .. } => self.crew().is_empty() || !self.free().is_empty(),
        }
    }

    fn load(&mut self, folder: &std::path::Path) {
        for member in &mut self.members {
            let folder = folder.to_owned();
            if member.device.is_some() && member.handle.send(Request::LoadModel { folder }).is_ok()
            {
                member.awaited += 1;
                member.trouble = None;
                self.loading = true;
            }
        }
        if !self.loading {
            let error = self.first_trouble();
            self.out.tell(Event::ModelFailed { error });
        }
    }

    fn start(&mut self, job: JobId, task: Box<Task>) {
        let chosen = if is_first_ones(&task) {
            self.crew()
        } else {
            self.free()
        };
        let Some(&first) = chosen.first() else {
            let error = EngineError::EngineGone;
            self.out.tell(Event::Failed { job, error });
            return;
        };
        match *task {
            Task::Drafts {
                spec,
                count,
                scales,
            } if chosen.len() > 1 && (2..=MOST_DRAFTS).contains(&count) => {
                self.start_parts(job, &chosen, &spec, (count, scales));
            }
            task => self.give(first, job, task),
        }
    }

    /// Drafts are shared out as evenly as they can be; their seeds go on from part to part.
    fn start_parts(
        &mut self,
        job: JobId,
        chosen: &[usize],
        spec: &GenerateSpec,
        (count, scales): (usize, usize),
    ) {
        let mut open = BTreeMap::new();
        for (&index, (first, own)) in chosen.iter().zip(shares(count, chosen.len())) {
            open.insert(index, first);
            let spec = GenerateSpec {
                seed: spec.seed.wrapping_add(first as u64),
                ..spec.clone()
            };
            let task = Task::Drafts {
                spec,
                count: own,
                scales,
            };
            self.give(index, job, task);
        }
        self.parts.insert(job, Parts::new(open));
    }

    /// Gives a job to an engine; one that has ended is noticed by its events.
    fn give(&mut self, index: usize, job: JobId, task: Task) {
        let member = &mut self.members[index];
        member.jobs.insert(job);
        member.teaches |= matches!(task, Task::Tune(_));
        if self.cancels.is_paused(job) {
            member.handle.pause(job, true);
        }
        let task = Box::new(task);
        let _gone = member.handle.send(Request::Run { job, task });
    }

    /// Passes on what the user stopped and paused since.
    fn pass_marks_on(&mut self) {
        let marked = self.cancels.marked();
        let [stopped, paused] = &marked;
        for member in &self.members {
            for &job in &member.jobs {
                if stopped.contains(&job) && !self.said[0].contains(&job) {
                    member.handle.cancel(job);
                }
                if paused.contains(&job) != self.said[1].contains(&job) {
                    member.handle.pause(job, paused.contains(&job));
                }
            }
        }
        self.said = marked;
    }

    /// Takes in one event of an engine.
    fn hear(&mut self, index: usize) {
        let event = match self.members[index].handle.events.try_recv() {
            Ok(event) => event,
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => return self.lose(index),
        };
        match event {
            Event::DeviceReady { device } => {
                self.members[index].device = Some(device);
                self.settle();
            }
            Event::ModelLoaded { model } => {
                let member = &mut self.members[index];
                let awaited = member.awaited > 0;
                member.awaited = member.awaited.saturating_sub(1);
                member.model = Some(model.clone());
                if awaited {
                    self.settle();
                } else {
                    // Loaded again after its device was lost, or more tightly.
                    self.out.tell(Event::ModelLoaded { model });
                }
            }
            Event::ModelFailed { error } => {
                let member = &mut self.members[index];
                member.awaited = member.awaited.saturating_sub(1);
                if !self.loading {
                    member.model = None;
                }
                member.trouble = Some(error);
                self.settle();
            }
            event => self.hear_of_job(index, event),
        }
    }

    fn hear_of_job(&mut self, index: usize, event: Event) {
        if let Some(job) = event.ends() {
            let member = &mut self.members[index];
            member.jobs.remove(&job);
            // A lesson is the only job that others are served beside.
            member.teaches &= !member.jobs.is_empty() && !matches!(event, Event::TuneDone { .. });
        }
        let job = match &event {
            Event::Started { job, .. } | Event::DraftDone { job, .. } => Some(*job),
            event => event.ends(),
        };
        let Some((job, mut parts)) = job.and_then(|job| Some((job, self.parts.remove(&job)?)))
        else {
            if let Some(job) = event.ends() {
                self.cancels.forget(job);
            }
            self.out.tell(event);
            return;
        };
        if let Some(heard) = parts.hear(index, event) {
            self.out.tell(heard);
        }
        for other in parts.to_stop() {
            self.members[other].handle.cancel(job);
        }
        if let Some(end) = parts.end(job) {
            self.cancels.forget(job);
            self.out.tell(end);
        } else {
            self.parts.insert(job, parts);
        }
    }

    /// An engine's thread has ended: its jobs fail.
    fn lose(&mut self, index: usize) {
        let member = &mut self.members[index];
        member.gone = true;
        (member.model, member.device, member.awaited) = (None, None, 0);
        member.trouble = Some(EngineError::EngineGone);
        let jobs: Vec<JobId> = member.jobs.iter().copied().collect();
        for job in jobs {
            let error = EngineError::EngineGone;
            self.hear_of_job(index, Event::Failed { job, error });
        }
        self.settle();
    }

    /// Tells of the devices when all have answered, and of the model when all have.
    fn settle(&mut self) {
        let answered = |member: &Member| member.device.is_some() || member.trouble.is_some();
        if !self.devices_told && self.members.iter().all(answered) {
            self.devices_told = true;
            // A device that did not open loads nothing.
            for member in self
                .members
                .iter_mut()
                .filter(|member| member.device.is_none())
            {
                member.awaited = 0;
            }
            self.tell_devices();
            if !self.loading && self.members.iter().all(|member| member.device.is_none()) {
                let error = self.first_trouble();
                self.out.tell(Event::ModelFailed { error });
            }
        }
        let all_in = self.members.iter().all(|member| member.awaited == 0);
        if !self.loading || !self.devices_told || !all_in {
            return;
        }
        self.loading = false;
        let is_well = |member: &&Member| member.trouble.is_none() && member.model.is_some();
        let Some(model) = self
            .members
            .iter()
            .find(is_well)
            .and_then(|member| member.model.clone())
        else {
            let error = self.first_trouble();
            self.out.tell(Event::ModelFailed { error });
            return;
        };
        // One that kept the model before does not draw beside those with the new one.
        for member in self
            .members
            .iter_mut()
            .filter(|member| member.trouble.is_some())
        {
            member.model = None;
        }
        if self
            .members
            .iter()
            .any(|member| member.device.is_some() && member.model.is_none())
        {
            self.tell_devices();
        }
        self.out.tell(Event::ModelLoaded { model });
    }

    fn first_trouble(&self) -> EngineError {
        let mut troubles = self
            .members
            .iter()
            .filter_map(|member| member.trouble.clone());
        troubles.next().unwrap_or(EngineError::EngineGone)
    }

    /// All devices that can draw as one: their names, the least memory, and what is wrong with others.
    fn tell_devices(&mut self) {
        let well = |member: &&Member| member.trouble.is_none();
        let devices = self.members.iter().filter(well);
        let devices: Vec<DeviceInfo> = devices.filter_map(|member| member.device.clone()).collect();
        let Some(first) = devices.first() else { return };
        let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        let mut reason = vec![format!("{} devices draw together", devices.len())];
        let troubles = self
            .members
            .iter()
            .filter_map(|member| member.trouble.as_ref());
        reason.extend(troubles.map(|error| format!("one is left out: {error}")));
        let device = DeviceInfo {
            name: names.join(" + "),
            reason: reason.join("; "),
            memory: devices.iter().filter_map(|device| device.memory).min(),
            ..first.clone()
        };
        self.out.tell(Event::DeviceReady { device });
    }
}

/// Whether the first engine does it: lessons and what belongs to them.
fn is_first_ones(task: &Task) -> bool {
    matches!(task, Task::Tune(_) | Task::LookThrough { .. })
}
