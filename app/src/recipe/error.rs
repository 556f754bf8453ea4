//! Why a recipe or a picture was refused, in words for the user.

use std::path::PathBuf;

use super::FORMAT;

/// Why a recipe could not be read or a picture not written.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be opened.
    #[error("Could not read a file ({source}): {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no PNG, or a broken one.
    #[error("This is not a PNG picture ({reason}). Only PNG files carry their settings: {path:?}")]
    NotPng {
        /// What the reader says.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// The picture carries no settings.
    #[error(
        "This picture carries no settings. It was not drawn here, or was saved again by another program: {path:?}"
    )]
    NoRecipe {
        /// The file.
        path: PathBuf,
    },
    /// The settings are of a later program.
    #[error(
        "The settings of this picture have format {found}; this program knows formats up to {FORMAT}. Use a newer version of the program: {path:?}"
    )]
    UnknownFormat {
        /// The number in the file.
        found: u64,
        /// The file.
        path: PathBuf,
    },
    /// The settings are damaged.
    #[error("The settings in this picture cannot be used ({reason}): {path:?}")]
    Broken {
        /// What is wrong.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// The picture cannot be written.
    #[error(
        "The picture could not be saved ({source}). Choose another folder or free some space: {path:?}"
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
