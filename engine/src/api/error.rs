//! Why something did not work. `Display` is shown to the user: what happened, to what, what to do.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Tensor names of a weight file that do not fit the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyProblems {
    /// Names the model needs and the file lacks.
    pub missing: Vec<String>,
    /// Names the file has and the model does not know.
    pub unexpected: Vec<String>,
    /// Names with a wrong shape: name, wanted, found.
    pub misshapen: Vec<String>,
}

impl KeyProblems {
    /// Whether everything fits.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

impl std::fmt::Display for KeyProblems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 12;
        let mut first = true;
        for (what, names) in [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("wrong shape", &self.misshapen),
        ] {
            if names.is_empty() {
                continue;
            }
            if !first {
                write!(f, "; ")?;
            }
            first = false;
            let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
            write!(f, "{what}: {}", shown.join(", "))?;
            if names.len() > SHOWN {
                write!(f, " and {} more", names.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

/// Why a job, a model or a file was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// A setting has no meaning.
    #[error("{what} cannot be {value}. {advice}")]
    BadSetting {
        /// Which setting.
        what: &'static str,
        /// What it was.
        value: String,
        /// What to do.
        advice: String,
    },
    /// No model is loaded.
    #[error("No model is loaded. Choose a model folder first.")]
    NoModel,
    /// A model folder or one of its files is wrong.
    #[error("This is not a model this program can use ({reason}): {path:?}")]
    BadModel {
        /// What is wrong and what to do.
        reason: String,
        /// The file or folder.
        path: PathBuf,
    },
    /// A configuration file is wrong.
    #[error("This configuration cannot be used ({reason}): {path:?}")]
    BadConfig {
        /// What is wrong.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// A picture file cannot be used.
    #[error("This picture cannot be used ({reason}): {path:?}")]
    BadPicture {
        /// What is wrong and what to do.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// The tensors of a weight file do not fit.
    #[error("The weights do not fit the model ({problems}): {path:?}")]
    BadWeights {
        /// What does not fit.
        problems: KeyProblems,
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint belongs to another run.
    #[error("This run cannot go on ({what}): {path:?}")]
    OtherRun {
        /// What differs and what to do.
        what: String,
        /// The checkpoint.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("Could not read a file ({source}): {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// A file could not be written.
    #[error(
        "Could not write a file ({source}). Choose another folder or free some space: {path:?}"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// The asked-for device is not there.
    #[error("There is no such device: {wanted}. `infinity devices` lists what was found.")]
    NoDevice {
        /// What was asked for.
        wanted: String,
    },
    /// A device computes otherwise than the processor.
    #[error(
        "The device {device} computes wrong with the driver {driver:?} ({what}). Update the driver, or use the processor: --device cpu."
    )]
    DeviceWrong {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// What was seen.
        what: String,
    },
    /// A device's memory is full, and no smaller way is left.
    #[error(
        "Memory ran out ({device}), and there is no smaller way left to do this. Close other programs, choose a smaller picture, or use the processor: --device cpu."
    )]
    OutOfMemory {
        /// The device.
        device: String,
    },
    /// A device stopped answering.
    #[error(
        "The device {device} stopped answering ({what}). Try again; if it goes on, update its driver, or use the processor: --device cpu."
    )]
    DeviceLost {
        /// The device.
        device: String,
        /// What its driver says.
        what: String,
    },
    /// A calculation gave numbers that are not numbers.
    #[error("The numbers went wrong ({what}). {advice}")]
    NotFinite {
        /// Where.
        what: String,
        /// What to do.
        advice: String,
    },
    /// Another machine does not draw for us.
    #[error("{address} does not draw for this program ({what}). {advice}")]
    Remote {
        /// The machine.
        address: String,
        /// What happened.
        what: String,
        /// What to do.
        advice: String,
    },
    /// What another machine said; a sentence for the user.
    #[error("{said}")]
    Told {
        /// Its words.
        said: String,
    },
    /// The engine thread has ended.
    #[error("The engine has stopped. Start the program again.")]
    EngineGone,
    /// A mistake in this program.
    #[error(
        "Something went wrong inside the engine ({what}). Please report this; the window can go on."
    )]
    Internal {
        /// What is known.
        what: String,
    },
}

impl EngineError {
    /// A read error with its path.
    pub fn read(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Read {
            path: path.into(),
            source: Arc::new(source),
        }
    }

    /// A write error with its path.
    pub fn write(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Write {
            path: path.into(),
            source: Arc::new(source),
        }
    }

    /// A mistake in this program, or a device that failed.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::Internal { what: what.into() }
    }

    /// A configuration refused for `reason`.
    pub fn bad_config(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::BadConfig {
            reason: reason.into(),
            path: path.into(),
        }
    }

    /// A model refused for `reason`.
    pub fn bad_model(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::BadModel {
            path: path.into(),
            reason: reason.into(),
        }
    }
}

/// Over a wire goes what the user is told.
impl Serialize for EngineError {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for EngineError {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let said = String::deserialize(from)?;
        Ok(Self::Told { said })
    }
}
