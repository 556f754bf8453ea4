//! From weight files to networks and back.
//!
//! Files are untrusted: headers are checked before memory is taken, nothing in
//! them is ever executed, and every name and shape must fit the network.

mod slots;

pub use slots::{Init, Network, Slot, Slots, WeightMut};
