//! The machine that has the window.

use std::collections::HashSet;
use std::io::{self, BufReader};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::wire::{NOD_EVERY, SILENCE};
use super::{Key, Saying, wire};
use crate::api::{EngineError, Event, JobId, Request};
use crate::{CancelBoard, EngineHandle};

/// Time to reach a machine and to meet it.
const PATIENCE: Duration = Duration::from_secs(10);
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
        loop {
            match self.connection(requests, waiting.take()) {
                End::AppGone => return,
                End::Lost(error) => self.tell_loss(&error),
            }
            match requests.recv() {
                Ok(request) => {
                    self.opened(&request);
                    waiting = Some(request);
                }
                Err(_) => return,
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
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(mut stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    wire::meet(&mut stream, &self.key)?;
                    stream.set_read_timeout(Some(SILENCE))?;
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
        mut stream: &TcpStream,
        requests: &Receiver<Request>,
        first: Option<Request>,
        is_lost: &dyn Fn() -> bool,
    ) -> Result<(), Option<io::Error>> {
        let mut said: [HashSet<JobId>; 2] = Default::default();
        let mut nodded = Instant::now();
        if let Some(request) = first {
            wire::say(&mut stream, &Saying::Ask(request)).map_err(Some)?;
        }
        loop {
            match requests.recv_timeout(LOOK_EVERY) {
                Ok(request) => {
                    self.opened(&request);
                    wire::say(&mut stream, &Saying::Ask(request)).map_err(Some)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if is_lost() {
                return Err(None);
            }
            if nodded.elapsed() >= NOD_EVERY {
                wire::nod(&mut stream).map_err(Some)?;
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
                wire::say(&mut stream, &saying).map_err(Some)?;
            }
            said = marked;
        }
    }

    fn opened(&self, request: &Request) {
        if let Request::Run { job, .. } = request {
            self.jobs().insert(*job);
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
