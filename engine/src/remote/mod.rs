//! The engine of another machine.
//!
//! What crosses the channels between window and engine is plain data, so it can cross a wire as well: a workstation
//! [serves](Server), and a laptop [`connect`]s and gets the same [`EngineHandle`](crate::EngineHandle) that an engine in
//! its own process gives. Model, LoRAs and folders of pictures are those of the machine that draws.
//!
//! Both sides prove that they know a key, each by a keyed hash (HMAC-SHA-256) of numbers that the other has just drawn;
//! the key itself never crosses. What crosses afterwards is not encrypted: beyond one's own network it belongs in a
//! tunnel, and a server listens on its own machine only unless told otherwise.

mod client;
mod key;
mod server;
#[cfg(test)]
mod tests;
mod wire;

pub use client::connect;
pub use key::Key;
pub use server::{Server, ServerOptions};

use serde::{Deserialize, Serialize};

use crate::api::{JobId, Request};

/// What the app's side says.
#[derive(Debug, Serialize, Deserialize)]
enum Saying {
    /// A request.
    Ask(Request),
    /// Stop a job.
    Cancel(JobId),
    /// Pause a lesson, or have it go on.
    Pause(JobId, bool),
}
