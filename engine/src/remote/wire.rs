//! Bytes on the wire: how two sides meet, and messages one after the other.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::{BYTES, Key, drawn};

/// First bytes of both sides; changes when what is said changes.
const GREETING: [u8; 8] = *b"INFNTY01";
/// Longest message in bytes; a picture of 4096×4096 pixels as text is 67 MB.
const LONGEST: usize = 256 << 20;
/// What the server answers to the client's proof.
const WELCOME: u8 = 1;
const WRONG_KEY: u8 = 2;
const BUSY: u8 = 3;

/// Time for a meeting, from its first byte to its last.
pub(super) const MEETING: Duration = Duration::from_secs(10);
/// How often either side nods when it has nothing to say.
pub(super) const NOD_EVERY: Duration = Duration::from_secs(3);
/// Who has not even nodded for so long is not there any more.
const SILENCE: Duration = Duration::from_secs(12);

/// Who proves.
const CLIENT: &str = "client";
const SERVER: &str = "server";

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn read_array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn greet(from: &mut impl Read) -> io::Result<()> {
    if read_array(from)? == GREETING {
        Ok(())
    } else {
        Err(wrong(
            "it is another program, or another version of this one",
        ))
    }
}

fn number() -> io::Result<[u8; BYTES]> {
    drawn().map_err(|error| io::Error::other(error.to_string()))
}

/// A wire that ends at a fixed time, however slowly bytes come.
struct Until<'a> {
    stream: &'a TcpStream,
    end: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(bytes)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Prepares a new wire for a meeting that is over in time.
fn meeting(stream: &TcpStream) -> io::Result<Until<'_>> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(MEETING))?;
    let end = Instant::now() + MEETING;
    Ok(Until { stream, end })
}

/// The server's side of a meeting; `is_free` is asked once the client has proven itself.
pub(super) fn welcome(
    stream: &TcpStream,
    key: &Key,
    is_free: impl FnOnce() -> bool,
) -> io::Result<()> {
    let wire = &mut meeting(stream)?;
    let own = number()?;
    wire.write_all(&[&GREETING[..], &own].concat())?;
    greet(wire)?;
    let theirs: [u8; BYTES] = read_array(wire)?;
    let proof: [u8; BYTES] = read_array(wire)?;
    if !key.is_proven(CLIENT, [&own, &theirs], &proof) {
        wire.write_all(&[WRONG_KEY])?;
        return Err(wrong("it does not know the key"));
    }
    if !is_free() {
        wire.write_all(&[BUSY])?;
        return Err(wrong("somebody else is being drawn for"));
    }
    let answer = key.proof(SERVER, [&theirs, &own]);
    wire.write_all(&[&[WELCOME][..], &answer].concat())?;
    stream.set_read_timeout(Some(SILENCE))
}

/// The client's side of a meeting.
pub(super) fn meet(stream: &TcpStream, key: &Key) -> io::Result<()> {
    let wire = &mut meeting(stream)?;
    greet(wire)?;
    let theirs: [u8; BYTES] = read_array(wire)?;
    let own = number()?;
    let proof = key.proof(CLIENT, [&theirs, &own]);
    wire.write_all(&[&GREETING[..], &own, &proof].concat())?;
    match read_array(wire)? {
        [WELCOME] => {}
        [BUSY] => return Err(wrong("it draws for somebody else")),
        _ => return Err(wrong("it has another key")),
    }
    let answer: [u8; BYTES] = read_array(wire)?;
    if key.is_proven(SERVER, [&own, &theirs], &answer) {
        stream.set_read_timeout(Some(SILENCE))
    } else {
        Err(wrong("it does not know the key itself"))
    }
}

/// A message that the other side can read back; numbers that are none and names that are no text cannot be.
pub(super) fn packed<T: Serialize + DeserializeOwned>(message: &T) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message)?;
    if text.len() > LONGEST {
        return Err(wrong("a message is too long"));
    }
    Ok(text)
}

/// Sends a packed message.
pub(super) fn say(wire: &mut impl Write, text: &[u8]) -> io::Result<()> {
    wire.write_all(&(text.len() as u32).to_le_bytes())?;
    wire.write_all(text)?;
    wire.flush()
}

/// Says that one is still there: a message of no length.
pub(super) fn nod(wire: &mut impl Write) -> io::Result<()> {
    wire.write_all(&[0; 4])
}

/// Receives a message; `None` for a nod.
pub(super) fn hear<T: DeserializeOwned>(wire: &mut impl Read) -> io::Result<Option<T>> {
    let length = u32::from_le_bytes(read_array(wire)?) as usize;
    if length == 0 {
        return Ok(None);
    }
    if length > LONGEST {
        return Err(wrong("a message is too long"));
    }
    // Memory is taken as bytes arrive, not as they are announced.
    let mut text = Vec::new();
    wire.take(length as u64).read_to_end(&mut text)?;
    if text.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(serde_json::from_slice(&text)?))
}
