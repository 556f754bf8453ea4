//! Where the engine runs: in this process, or on another machine.

use std::path::Path;

use infinity_engine::api::{DeviceChoice, EngineError, WeightStorage};
use infinity_engine::remote::{Key, connect};
use infinity_engine::{EngineHandle, SpawnOptions, spawn};

use super::{CliError, models, values};
use crate::settings::remote_key_path;

/// The key itself, in place of the file.
const KEY_VARIABLE: &str = "INFINITY_REMOTE_KEY";

/// Where the engine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In this process.
    Here(DeviceChoice),
    /// On the machine that listens there.
    Remote(String),
}

/// `auto`, `gpu`, `gpu:N`, `cpu`, `software` or `remote:HOST:PORT`.
pub(super) fn parse(text: &str) -> Result<Place, String> {
    match text.strip_prefix("remote:") {
        Some(address) if address.contains(':') => Ok(Place::Remote(address.to_owned())),
        Some(_) => Err("use remote:HOST:PORT".to_owned()),
        None => values::device(text)
            .map(Place::Here)
            .map_err(|usage| format!("{usage}, or remote:HOST:PORT")),
    }
}

/// The key of a machine elsewhere: from the environment, else from the file that `infinity serve` makes.
fn key() -> Result<Key, CliError> {
    if let Ok(text) = std::env::var(KEY_VARIABLE) {
        let wrong =
            || CliError::failed(format!("${KEY_VARIABLE} is no key: 64 hexadecimal digits"));
        return Key::parse(&text).ok_or_else(wrong);
    }
    let path = remote_key_path().filter(|path| path.exists());
    let path = path.ok_or_else(|| {
        CliError::failed(format!(
            "there is no key for another machine. Copy the file that `infinity serve` names there to {}, or put it into \
             ${KEY_VARIABLE}",
            remote_key_path().map_or_else(String::new, |path| path.display().to_string())
        ))
    })?;
    Ok(Key::read(&path)?)
}

impl Place {
    /// The device, for what runs in this process only.
    pub(super) fn device(&self) -> DeviceChoice {
        match self {
            Self::Here(device) => *device,
            Self::Remote(_) => DeviceChoice::Auto,
        }
    }

    /// Refuses what another machine decides for itself.
    pub(super) fn check(
        &self,
        model: Option<&Path>,
        weights: WeightStorage,
    ) -> Result<(), CliError> {
        let is_here = matches!(self, Self::Here(_));
        if is_here || (model.is_none() && weights == WeightStorage::Auto) {
            return Ok(());
        }
        Err(CliError::Usage(
            "another machine draws with its own model, kept its own way: `infinity serve --model DIR --weights HOW` there"
                .to_owned(),
        ))
    }

    /// The options of an engine with `model`, or with the one found; none is needed for another machine, which has
    /// its own.
    pub(super) fn options(&self, model: Option<&Path>) -> Result<SpawnOptions, CliError> {
        let model = match self {
            Self::Remote(_) => None,
            Self::Here(_) => Some(models::find_or_say(model)?),
        };
        Ok(SpawnOptions::new(self.device(), model))
    }

    /// Starts the engine, or a connection to it.
    pub(super) fn start(&self, options: SpawnOptions) -> Result<EngineHandle, CliError> {
        Ok(match self {
            Self::Here(_) => spawn(options)?,
            Self::Remote(address) => connect(address, key()?, options.wake)?,
        })
    }

    /// As [`start`](Self::start), for a window: it opens whatever happens, and says what did.
    pub(super) fn start_or_say(&self, options: SpawnOptions) -> EngineHandle {
        self.start(options).unwrap_or_else(|error| {
            EngineHandle::failed(EngineError::Told {
                said: error.to_string(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_device_or_an_address() {
        assert_eq!(parse("cpu"), Ok(Place::Here(DeviceChoice::Cpu)));
        let address = "studio.local:7860".to_owned();
        assert_eq!(
            parse("remote:studio.local:7860"),
            Ok(Place::Remote(address))
        );
        assert!(parse("remote:studio").is_err());
        assert!(parse("tpu").is_err());
    }

    #[test]
    fn another_machine_keeps_its_own_model_its_own_way() {
        let there = Place::Remote("studio.local:7860".to_owned());
        let here = Place::Here(DeviceChoice::Cpu);
        let (own, none) = (Some(Path::new("model")), None);
        assert!(here.check(own, WeightStorage::Half).is_ok());
        assert!(there.check(none, WeightStorage::Auto).is_ok());
        assert!(there.check(own, WeightStorage::Auto).is_err());
        assert!(there.check(none, WeightStorage::Half).is_err());
    }
}
