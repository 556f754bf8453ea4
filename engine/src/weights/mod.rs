//! From weight files to networks and back.
//!
//! Files are untrusted: headers are checked before memory is taken, nothing in
//! them is ever executed, and every name and shape must fit the network before
//! the first value is read. Writing never leaves half a file behind.

mod container;
mod folder;
mod key_map;
mod load;
mod mapped;
mod number;
mod pytorch;
mod safetensors_file;
mod save;
mod sharded;
mod slots;
mod source;
mod storage;

#[cfg(test)]
mod tests;

pub use folder::{Defaults, FileNames, ModelFolder, ModelJson};
pub use key_map::KeyMap;
pub use load::{check, load_as, load_into};
pub use number::{NumberType, Values};
pub use save::{SaveType, atomic_write, convert, save};
pub use slots::{Init, Network, Slot, Slots, WeightMut};
pub use source::WeightFile;
pub(crate) use storage::BLOCK;
pub use storage::{stored, widened};
