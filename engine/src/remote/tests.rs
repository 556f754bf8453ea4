//! Meetings, messages, and whole visits on this machine.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Key, Server, ServerOptions, connect, wire};
use crate::EngineHandle;
use crate::api::{DeviceChoice, EngineError, Event, GenerateSpec, Rgb8Image, Task, WeightStorage};

fn starter() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../assets/starter")
}

/// A thread that ends with the test program.
fn in_background(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name("other machine".to_owned());
    thread.spawn(work).unwrap();
}

/// A server with the starter on a thread that ends with the test program, and what it says.
fn server(key: &Key) -> (String, Arc<Mutex<Vec<String>>>) {
    let options = ServerOptions {
        devices: vec![DeviceChoice::Cpu],
        weights: WeightStorage::Single,
        model: Some(starter()),
        passed: None,
    };
    let server = Server::listen("127.0.0.1:0", key.clone(), options).unwrap();
    let address = server.address().unwrap().to_string();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let said = lines.clone();
    in_background(move || server.run(&|line| said.lock().unwrap().push(line.to_owned())));
    (address, lines)
}

fn visit(address: &str, key: &Key) -> EngineHandle {
    connect(address, key.clone(), Box::new(|| ())).unwrap()
}

/// Events until one fits.
fn until(engine: &EngineHandle, fits: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = engine.event_within(Duration::from_secs(120)).unwrap();
        if fits(&event) {
            return event;
        }
    }
}

fn failure(engine: &EngineHandle) -> String {
    match until(engine, |event| matches!(event, Event::ModelFailed { .. })) {
        Event::ModelFailed { error } => error.to_string(),
        _ => unreachable!(),
    }
}

fn drawn(engine: &EngineHandle, seed: u64) -> Rgb8Image {
    let task = Task::Generate(GenerateSpec::new("blue sea, a red boat", seed));
    let job = engine.run(task).unwrap();
    match until(engine, |event| event.ends() == Some(job)) {
        Event::ImageDone { image, .. } => image,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_reads_itself_back_and_nothing_else() {
    let key = Key::draw().unwrap();
    assert!(Key::parse(&format!(" {}\n", key.text())) == Some(key.clone()));
    assert!(Key::parse(&key.text()[1..]).is_none());
    assert!(Key::parse(&"g".repeat(64)).is_none());
    assert!(Key::parse(&"é".repeat(32)).is_none());
    assert!(!format!("{key:?}").contains(&key.text()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/key");
    let made = Key::of_file(&path).unwrap();
    assert!(Key::of_file(&path).unwrap() == made);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may read the key");
    }
    std::fs::write(&path, "nothing").unwrap();
    assert!(matches!(
        Key::of_file(&path),
        Err(EngineError::BadConfig { .. })
    ));
}

#[test]
fn pictures_are_those_of_an_engine_here_to_the_bit() {
    let key = Key::draw().unwrap();
    let (address, _) = server(&key);
    let there = visit(&address, &key);
    until(&there, |event| matches!(event, Event::ModelLoaded { .. }));
    let here = crate::spawn(crate::SpawnOptions {
        weights: WeightStorage::Single,
        ..crate::SpawnOptions::new(DeviceChoice::Cpu, Some(starter()))
    });
    let here = here.unwrap();
    assert!(drawn(&there, 5) == drawn(&here, 5));
}

#[test]
fn without_the_key_nobody_is_drawn_for() {
    let (address, lines) = server(&Key::draw().unwrap());
    let stranger = visit(&address, &Key::draw().unwrap());
    let error = failure(&stranger);
    assert!(error.contains("another key"), "{error}");
    // The server says so a moment later.
    let is_told = || {
        lines
            .lock()
            .unwrap()
            .concat()
            .contains("does not know the key")
    };
    let told = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        is_told()
    });
    assert!(told);
    // Somebody who talks something else is sent away, too.
    let mut odd = TcpStream::connect(&address).unwrap();
    odd.write_all(&[b'G'; 200]).unwrap();
    let message: std::io::Result<Option<Event>> = wire::hear(&mut odd);
    assert!(message.is_err());
}

#[test]
fn a_machine_that_only_pretends_to_know_the_key_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    in_background(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The greeting, a number, and a welcome with a proof made up.
        let _sent = stream.write_all(&[&b"INFNTY01"[..], &[7; 32], &[1], &[9; 32]].concat());
        std::thread::sleep(Duration::from_secs(5));
    });
    let error = failure(&visit(&address, &Key::draw().unwrap()));
    assert!(error.contains("does not know the key itself"), "{error}");
}

#[test]
fn one_at_a_time_and_the_next_when_it_has_gone() {
    let key = Key::draw().unwrap();
    let (address, _) = server(&key);
    let first = visit(&address, &key);
    until(&first, |event| matches!(event, Event::ModelLoaded { .. }));
    let error = failure(&visit(&address, &key));
    assert!(error.contains("somebody else"), "{error}");
    drop(first);
    for _ in 0..100 {
        let second = visit(&address, &key);
        let event = until(&second, |event| {
            matches!(event, Event::ModelLoaded { .. } | Event::ModelFailed { .. })
        });
        if let Event::ModelLoaded { .. } = event {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the server stays busy");
}

#[test]
fn a_stopped_job_ends_there_as_well() {
    let key = Key::draw().unwrap();
    let (address, _) = server(&key);
    let engine = visit(&address, &key);
    until(&engine, |event| matches!(event, Event::ModelLoaded { .. }));
    let mut spec = GenerateSpec::new("green hills", 1);
    spec.scale_count = Some(13);
    let job = engine.run(Task::Generate(spec)).unwrap();
    until(&engine, |event| matches!(event, Event::Started { .. }));
    engine.cancel(job);
    let end = until(&engine, |event| event.ends() == Some(job));
    assert!(matches!(end, Event::Cancelled { .. }), "{end:?}");
}

#[test]
fn nobody_there_is_an_error_and_the_next_wish_tries_again() {
    let key = Key::draw().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let engine = visit(&address, &key);
    let error = failure(&engine);
    assert!(
        error.contains(&address) && error.contains("infinity serve"),
        "{error}"
    );
    let options = ServerOptions {
        devices: vec![DeviceChoice::Cpu],
        weights: WeightStorage::Single,
        model: Some(starter()),
        passed: None,
    };
    let server = Server::listen(&address, key, options).unwrap();
    in_background(move || server.run(&|_| ()));
    drawn(&engine, 1);
}

#[test]
fn a_message_that_is_too_long_or_cut_short_is_an_error() {
    let mut announced = &[0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3][..];
    assert!(wire::hear::<Event>(&mut announced).is_err());
    let mut cut = &[10, 0, 0, 0, b'{'][..];
    assert!(wire::hear::<Event>(&mut cut).is_err());
    let mut nod = &[0, 0, 0, 0][..];
    assert!(wire::hear::<Event>(&mut nod).unwrap().is_none());
    // A picture whose bytes do not fit its size is no picture.
    let text = br#"{"width":2,"height":2,"pixels":"AAAA"}"#;
    assert!(serde_json::from_slice::<Rgb8Image>(text).is_err());
}
