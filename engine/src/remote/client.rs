//! The machine that has the window.

use std::collections::HashSet;
use std::io::{self, BufReader};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::wire::{MEETING, NOD_EVERY};
use super::{Key, Saying, wire};
use crate::api::{EngineError, Event, JobId, Request};
use crate::{CancelBoard, EngineHandle};

/// How long until a machine that was never reached is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(3);
/// How often stops and pauses are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(30);

/// The app's side of a connection.
struct Client {
    address: String,
    key: Key,
    events: Sender<Event>,
    wake: Mutex<Box<dyn Fn() + Send>>,
    cancels: Arc<CancelBoard>,
    /// Jobs that were asked for and have not ended.
    open: Mutex<HashSet<JobId>>,
    /// Whether a model was ever ready there.
    met: AtomicBool,
    /// The model that was asked for last.
    model: Mutex<Option<PathBuf>>,
}

/// How a connection ended.
enum End {
    /// The app does not need it any more.
    AppGone,
    /// It broke.
    Lost(io::Error),
}

/// A handle to the engine that listens at `address`.
///
/// Returns at once; events tell the rest, as with an engine of this process. When the connection is lost, every open
/// job fails and says so, and the next request tries to reach the machine anew. `wake` is called after every event.
///
/// # Errors
/// [`EngineError::Internal`] when the system gives no thread.
pub fn connect(
    address: &str,
    key: Key,
    wake: Box<dyn Fn() + Send>,
) -> Result<EngineHandle, EngineError> {
    let (request_sender, requests) = unbounded();
    let (events, event_receiver) = unbounded();
    let cancels = Arc::new(CancelBoard::default());
    let client = Client {
        address: address.to_owned(),
        key,
        events,
        wake: Mutex::new(wake),
        cancels: cancels.clone(),
        open: Mutex::default(),
        met: AtomicBool::new(false),
        model: Mutex::default(),
    };
    std::thread::Builder::new()
        .name("remote".to_owned())
        .spawn(move || client.run(&requests))
        .map_err(|error| EngineError::internal(format!("starting a thread: {error}")))?;
    Ok(EngineHandle::from_parts(
        request_sender,
        event_receiver,
        cancels,
    ))
}

impl Client {
    fn run(&self, requests: &Receiver<Request>) {
        let mut waiting = None;
        let mut told = None;
        loop {
            match self.connection(requests, waiting.take()) {
                End::AppGone => return,
                End::Lost(error) => {
                    // What keeps it from being reached at all is said once.
                    let words = error.to_string();
                    if self.met.load(Ordering::SeqCst) || told.as_ref() != Some(&words) {
                        self.tell_loss(&error);
                    }
                    told = Some(words);
                }
            }
            let next = if self.met.load(Ordering::SeqCst) {
                requests
                    .recv()
                    .map_err(|_closed| RecvTimeoutError::Disconnected)
            } else {
                requests.recv_timeout(TRY_AGAIN)
            };
            match next {
                Ok(request) => {
                    self.opened(&request);
                    waiting = Some(request);
                    told = None;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One connection from its beginning to its end; `first` is asked as soon as it is there.
    fn connection(&self, requests: &Receiver<Request>, first: Option<Request>) -> End {
        let stream = match self.reach() {
            Ok(stream) => stream,
            Err(error) => return End::Lost(error),
        };
        let heard = match stream.try_clone() {
            Ok(heard) => heard,
            Err(error) => return End::Lost(error),
        };
        std::thread::scope(|scope| {
            let listener = scope.spawn(|| self.listen(heard));
            let spoken = self.speak(&stream, requests, first, &|| listener.is_finished());
            // The listener ends with the stream.
            let _closed = stream.shutdown(std::net::Shutdown::Both);
            let heard = listener
                .join()
                .unwrap_or_else(|_| io::Error::other("a thread failed"));
            match spoken {
                Ok(()) => End::AppGone,
                Err(Some(error)) => End::Lost(error),
                Err(None) => End::Lost(heard),
            }
        })
    }

    fn reach(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::other("no such address");
        for address in self.address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, MEETING) {
                Ok(stream) => {
                    wire::meet(&stream, &self.key)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Passes events on, and says why it ended.
    fn listen(&self, stream: TcpStream) -> io::Error {
        let mut stream = BufReader::new(stream);
        loop {
            match wire::hear::<Event>(&mut stream) {
                Ok(Some(mut event)) => {
                    if let Event::DeviceReady { device } = &mut event {
                        device.name = format!("{} on {}", device.name, self.address);
                    }
                    if let Event::ModelLoaded { .. } = &event {
                        self.met.store(true, Ordering::SeqCst);
                    }
                    if let Some(job) = event.ends() {
                        self.cancels.forget(job);
                        self.jobs().remove(&job);
                    }
                    self.tell(event);
                }
                Ok(None) => {}
                Err(error) => return error,
            }
        }
    }

    /// Passes requests, stops and pauses on; `Err(None)` when the listener ended first.
    fn speak(
        &self,
        stream: &TcpStream,
        requests: &Receiver<Request>,
        first: Option<Request>,
        is_lost: &dyn Fn() -> bool,
    ) -> Result<(), Option<io::Error>> {
        let mut said: [HashSet<JobId>; 2] = Default::default();
        let mut nodded = Instant::now();
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        // An engine begins with the server's own model.
        let again = model.clone().map(|folder| Request::LoadModel { folder });
        drop(model);
        let first_is_model = matches!(first, Some(Request::LoadModel { .. }));
        let again = again.filter(|_| !first_is_model);
        for request in again.into_iter().chain(first) {
            self.ask(stream, request).map_err(Some)?;
        }
        loop {
            match requests.recv_timeout(LOOK_EVERY) {
                Ok(request) => {
                    self.opened(&request);
                    self.ask(stream, request).map_err(Some)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if is_lost() {
                return Err(None);
            }
            if nodded.elapsed() >= NOD_EVERY {
                wire::nod(&mut { stream }).map_err(Some)?;
                nodded = Instant::now();
            }
            let marked = self.cancels.marked();
            let [stopped, paused] = &marked;
            let stops = stopped.difference(&said[0]).map(|&job| Saying::Cancel(job));
            let pauses = paused
                .difference(&said[1])
                .map(|&job| Saying::Pause(job, true));
            let resumes = said[1]
                .difference(paused)
                .map(|&job| Saying::Pause(job, false));
            for saying in stops.chain(pauses).chain(resumes) {
                let text = wire::packed(&saying).map_err(Some)?;
                wire::say(&mut { stream }, &text).map_err(Some)?;
            }
            said = marked;
        }
    }

    fn opened(&self, request: &Request) {
        match request {
            Request::Run { job, .. } => {
                self.jobs().insert(*job);
            }
            Request::LoadModel { folder } => {
                let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
                *model = Some(folder.clone());
            }
        }
    }

    /// Asks for something; a job that cannot be told in words fails here.
    fn ask(&self, mut stream: &TcpStream, request: Request) -> io::Result<()> {
        let job = match &request {
            Request::Run { job, .. } => Some(*job),
            Request::LoadModel { .. } => None,
        };
        let text = wire::packed(&Saying::Ask(request));
        let readable = |text: &Vec<u8>| serde_json::from_slice::<Saying>(text).is_ok();
        match (text, job) {
            (Ok(text), _) if readable(&text) => wire::say(&mut stream, &text),
            (_, Some(job)) => {
                self.jobs().remove(&job);
                self.tell(Event::Failed {
                    job,
                    error: EngineError::BadSetting {
                        what: "A setting",
                        value: "a number that is none, or a file name that is no text".to_owned(),
                        advice: "Other machines cannot be told such.".to_owned(),
                    },
                });
                Ok(())
            }
            (Ok(_), None) => Ok(()),
            (Err(error), None) => Err(error),
        }
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, HashSet<JobId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        // Nobody listening means the app is gone; the requests say so as well.
        if self.events.send(event).is_ok() {
            let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
            wake();
        }
    }

    /// Every open job fails; without one, the model does, as with an engine that does not start.
    fn tell_loss(&self, error: &io::Error) {
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "the connection was closed".to_owned()
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it does not answer".to_owned(),
            _ => error.to_string(),
        };
        let error = EngineError::Remote {
            address: self.address.clone(),
            what,
            advice: "See that `infinity serve` runs there with the same key, and try again."
                .to_owned(),
        };
        let jobs: Vec<JobId> = self.jobs().drain().collect();
        if jobs.is_empty() {
            self.tell(Event::ModelFailed {
                error: error.clone(),
            });
        }
        for job in jobs {
            self.cancels.forget(job);
            let error = error.clone();
            self.tell(Event::Failed { job, error });
        }
    }
}
