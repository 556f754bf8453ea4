//! What a LoRA file shows of itself before it is put on.

use std::path::PathBuf;

use super::Rgb8Image;

/// A LoRA file at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraCard {
    /// The file.
    pub path: PathBuf,
    /// Name for people.
    pub name: String,
    /// Word that calls it up; empty for none.
    pub trigger: String,
    /// Name of the model it was made for.
    pub base_name: String,
    /// Rows of the thin matrices; 0 when the file does not say.
    pub rank: usize,
    /// Pictures and updates it was taught with; 0 when the file does not say.
    pub pictures: usize,
    /// Updates.
    pub steps: u64,
    /// Notes beside it, from the `.txt` file of the same name.
    pub notes: String,
    /// A picture that was drawn with it.
    pub picture: Option<Rgb8Image>,
}
