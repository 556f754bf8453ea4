//! The machine that draws.

use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::wire::NOD_EVERY;
use super::{Key, Saying, wire};
use crate::api::{DeviceChoice, EngineError, Event, JobId, Request, WeightStorage};
use crate::{EngineHandle, SpawnOptions, spawn_fleet};

/// Meetings and visits at the same time; whoever comes then is turned away unheard.
const MOST_AT_ONCE: usize = 16;

/// What a server draws with.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The devices to compute on, as [`spawn_fleet`] takes them.
    pub devices: Vec<DeviceChoice>,
    /// How weights are kept.
    pub weights: WeightStorage,
    /// The model folder that is loaded for everybody who comes.
    pub model: Option<PathBuf>,
    /// See [`SpawnOptions::passed`].
    pub passed: Option<PathBuf>,
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    key: Key,
    options: ServerOptions,
    busy: Arc<AtomicBool>,
}

/// Marks a server as free when a visit ends, however it ends.
struct Visit(Arc<AtomicBool>);

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Server {
    /// Listens on `address`, as `127.0.0.1:7860`; port 0 takes any that is free.
    ///
    /// # Errors
    /// [`EngineError::Remote`] when the address cannot be listened on.
    pub fn listen(address: &str, key: Key, options: ServerOptions) -> Result<Self, EngineError> {
        let listener = TcpListener::bind(address).map_err(|error| EngineError::Remote {
            address: address.to_owned(),
            what: format!("it cannot be listened on: {error}"),
            advice: "Choose another address or port.".to_owned(),
        })?;
        Ok(Self {
            listener,
            key,
            options,
            busy: Arc::default(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the system does not say.
    pub fn address(&self) -> Result<SocketAddr, EngineError> {
        self.listener
            .local_addr()
            .map_err(|error| EngineError::internal(format!("asking for the own address: {error}")))
    }

    /// Draws for whoever comes and knows the key, one at a time, without end; `tell` hears a line about every visit.
    pub fn run(&self, tell: &(dyn Fn(&str) + Sync)) {
        let there = AtomicUsize::new(0);
        let there = &there;
        std::thread::scope(|scope| {
            for stream in self.listener.incoming() {
                let Ok(stream) = stream else {
                    // No more files can be open, for example; that passes.
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                };
                if there.fetch_add(1, Ordering::SeqCst) >= MOST_AT_ONCE {
                    there.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                let visit = move || {
                    let who = stream
                        .peer_addr()
                        .map_or_else(|_| "somebody".to_owned(), |who| who.to_string());
                    match self.visit(stream, &who, tell) {
                        Ok(()) => tell(&format!("{who} has gone")),
                        Err(error) => tell(&format!("{who}: {error}")),
                    }
                    there.fetch_sub(1, Ordering::SeqCst);
                };
                let thread = std::thread::Builder::new().name("visit".to_owned());
                if thread.spawn_scoped(scope, visit).is_err() {
                    there.fetch_sub(1, Ordering::SeqCst);
                }
            }
        });
    }

    fn visit(&self, mut stream: TcpStream, who: &str, tell: &dyn Fn(&str)) -> io::Result<()> {
        let mut visit = None;
        wire::welcome(&stream, &self.key, || {
            let was_busy = self.busy.swap(true, Ordering::SeqCst);
            visit = (!was_busy).then(|| Visit(self.busy.clone()));
            !was_busy
        })?;
        tell(&format!("drawing for {who}"));
        let options = &self.options;
        let own = SpawnOptions {
            weights: options.weights,
            passed: options.passed.clone(),
            ..SpawnOptions::new(DeviceChoice::Auto, options.model.clone())
        };
        let engine = spawn_fleet(&options.devices, own).unwrap_or_else(EngineHandle::failed);
        let gone = AtomicBool::new(false);
        let heard = stream.try_clone()?;
        let done = std::thread::scope(|scope| {
            scope.spawn(|| {
                for job in listen_to(heard, &engine) {
                    // Nobody waits for it any more.
                    engine.cancel(job);
                    engine.pause(job, false);
                }
                gone.store(true, Ordering::SeqCst);
            });
            let done = tell_events(&mut stream, &engine, &gone);
            // Whoever listens hears that it is over.
            let _closed = stream.shutdown(std::net::Shutdown::Both);
            done
        });
        // All of it is over before anybody else is drawn for.
        let ended = engine.shut_down();
        drop(visit);
        done?;
        ended.map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Passes on what the visitor asks, until it is gone; all the jobs it asked for.
fn listen_to(stream: TcpStream, engine: &EngineHandle) -> Vec<JobId> {
    let mut stream = BufReader::new(stream);
    let mut jobs = Vec::new();
    loop {
        let sent = match wire::hear(&mut stream) {
            Ok(Some(Saying::Ask(request))) => {
                if let Request::Run { job, .. } = &request {
                    jobs.push(*job);
                }
                engine.send(request)
            }
            Ok(Some(Saying::Cancel(job))) => {
                engine.cancel(job);
                Ok(())
            }
            Ok(Some(Saying::Pause(job, paused))) => {
                engine.pause(job, paused);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(_) => return jobs,
        };
        if sent.is_err() {
            return jobs;
        }
    }
}

/// Passes on what the engine tells, until one of them is gone.
fn tell_events(stream: &mut TcpStream, engine: &EngineHandle, gone: &AtomicBool) -> io::Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let mut silent = Duration::ZERO;
    while !gone.load(Ordering::SeqCst) {
        match engine.event_within(LOOK_EVERY) {
            Ok(event) => {
                let text = wire::packed(&event).or_else(|error| {
                    // A file name that is no text, for example.
                    let job = event.ends().ok_or(error)?;
                    let what = "what was found cannot be told; rename files with odd names";
                    wire::packed(&Event::Failed {
                        job,
                        error: EngineError::internal(what),
                    })
                });
                wire::say(stream, &text?)?;
                silent = Duration::ZERO;
            }
            Err(RecvTimeoutError::Timeout) => {
                silent += LOOK_EVERY;
                if silent >= NOD_EVERY {
                    wire::nod(stream)?;
                    silent = Duration::ZERO;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    Ok(())
}
