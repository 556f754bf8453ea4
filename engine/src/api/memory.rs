//! What a job takes in memory.

use serde::{Deserialize, Serialize};

/// One part of what a job takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPart {
    /// What it is, for people.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// What a job takes in memory at its peak, computed before it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNeed {
    /// The parts that are there at the same time.
    pub parts: Vec<MemoryPart>,
}

impl MemoryNeed {
    /// All parts together.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Adds a part; none for nothing.
    pub fn add(&mut self, name: &str, bytes: u64) {
        if bytes > 0 {
            self.parts.push(MemoryPart {
                name: name.to_owned(),
                bytes,
            });
        }
    }
}

/// `bytes` in words: `512 MB`, `4.7 GB`, in steps of 1000 as memory is sold.
pub fn bytes_text(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 1.0 {
        format!("{:.0} kB", bytes as f64 / 1e3)
    } else if megabytes < 1000.0 {
        format!("{megabytes:.0} MB")
    } else {
        format!("{:.1} GB", megabytes / 1e3)
    }
}
