//! Where an engine runs: in this process, or on another machine.

use std::fmt;

use infinity_engine::api::{DeviceChoice, DeviceInfo, DeviceKind, EngineError};
use infinity_engine::remote::{Key, connect};
use infinity_engine::{EngineHandle, SpawnOptions, spawn, spawn_fleet};

use crate::settings::remote_key_path;

/// The key itself, in place of the file.
const KEY_VARIABLE: &str = "INFINITY_REMOTE_KEY";

/// Where an engine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Here(DeviceChoice),
    /// In this process, on several devices at once.
    Together(Vec<DeviceChoice>),
    /// On the machine that listens there.
    Remote(String),
}

impl Default for Place {
    fn default() -> Self {
        Self::Here(DeviceChoice::Auto)
    }
}

/// `auto`, `gpu`, `gpu:N`, `cpu`, `software`, several of these with `+` between, or `remote:HOST:PORT`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(device) => f.write_str(&name(*device)),
            Self::Together(devices) => {
                let names: Vec<String> = devices.iter().map(|device| name(*device)).collect();
                f.write_str(&names.join("+"))
            }
            Self::Remote(address) => write!(f, "remote:{address}"),
        }
    }
}

fn name(device: DeviceChoice) -> String {
    match device {
        DeviceChoice::Auto => "auto".to_owned(),
        DeviceChoice::Gpu(None) => "gpu".to_owned(),
        DeviceChoice::Gpu(Some(place)) => format!("gpu:{place}"),
        DeviceChoice::Cpu => "cpu".to_owned(),
        DeviceChoice::Software => "software".to_owned(),
    }
}

/// Every device of a [list](infinity_engine::device::list) with how it is asked for.
pub fn numbered(devices: &[DeviceInfo]) -> impl Iterator<Item = (DeviceChoice, &DeviceInfo)> {
    let mut cards = 0;
    devices.iter().map(move |device| {
        let choice = match device.kind {
            DeviceKind::Gpu => {
                cards += 1;
                DeviceChoice::Gpu(Some(cards - 1))
            }
            DeviceKind::Cpu => DeviceChoice::Cpu,
            DeviceKind::Software => DeviceChoice::Software,
        };
        (choice, device)
    })
}

/// A device of this machine by its name.
///
/// # Errors
/// What can be written.
pub fn device(text: &str) -> Result<DeviceChoice, String> {
    match text {
        "auto" => Ok(DeviceChoice::Auto),
        "gpu" => Ok(DeviceChoice::Gpu(None)),
        "cpu" => Ok(DeviceChoice::Cpu),
        "software" => Ok(DeviceChoice::Software),
        _ => {
            let place = text
                .strip_prefix("gpu:")
                .and_then(|place| place.parse().ok());
            place
                .map(|place| DeviceChoice::Gpu(Some(place)))
                .ok_or_else(|| "use auto, gpu, gpu:N, cpu or software".to_owned())
        }
    }
}

impl Place {
    /// A place as [`Display`](fmt::Display) writes it.
    ///
    /// # Errors
    /// What can be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("remote:") {
            Some(address) => Self::remote(address).ok_or_else(|| "use remote:HOST:PORT".to_owned()),
            None if text.contains('+') => {
                let devices = text.split('+').map(device);
                devices.collect::<Result<_, _>>().map(Self::Together)
            }
            None => device(text)
                .map(Self::Here)
                .map_err(|usage| format!("{usage}, several with + between, or remote:HOST:PORT")),
        }
    }

    /// The machine that listens at `HOST:PORT`.
    pub fn remote(address: &str) -> Option<Self> {
        let (host, port) = address.trim().rsplit_once(':')?;
        let is_whole = !host.is_empty() && port.parse::<u16>().is_ok();
        is_whole.then(|| Self::Remote(address.trim().to_owned()))
    }

    /// Whether it is another machine.
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    /// The devices of this machine; none for another one.
    pub fn devices(&self) -> &[DeviceChoice] {
        match self {
            Self::Here(device) => std::slice::from_ref(device),
            Self::Together(devices) => devices,
            Self::Remote(_) => &[],
        }
    }

    /// The device, where there is one.
    pub fn device(&self) -> DeviceChoice {
        match self {
            Self::Here(device) => *device,
            Self::Together(_) | Self::Remote(_) => DeviceChoice::Auto,
        }
    }

    /// Starts the engine, or a connection to it.
    ///
    /// # Errors
    /// When there is no key for another machine, or the system gives no thread.
    pub fn start(&self, options: SpawnOptions) -> Result<EngineHandle, EngineError> {
        match self {
            Self::Here(_) => spawn(options),
            Self::Together(devices) => spawn_fleet(devices, options),
            Self::Remote(address) => connect(address, key()?, options.wake),
        }
    }
}

/// The key of a machine elsewhere: from the environment, else from the file that `infinity serve` makes.
fn key() -> Result<Key, EngineError> {
    if let Ok(text) = std::env::var(KEY_VARIABLE) {
        let said = format!("${KEY_VARIABLE} is no key: 64 hexadecimal digits");
        return Key::parse(&text).ok_or(EngineError::Told { said });
    }
    let path = remote_key_path().filter(|path| path.exists());
    let path = path.ok_or_else(|| EngineError::Told {
        said: format!(
            "there is no key for another machine. Copy the file that `infinity serve` names there to {}, or put it into \
             ${KEY_VARIABLE}",
            remote_key_path().map_or_else(String::new, |path| path.display().to_string())
        ),
    })?;
    Key::read(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_device_or_an_address() {
        for text in [
            "auto",
            "gpu",
            "gpu:1",
            "cpu",
            "software",
            "gpu:0+gpu:1",
            "remote:studio.local:7860",
        ] {
            assert_eq!(
                Place::parse(text).map(|place| place.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in [
            "remote:studio",
            "remote::7860",
            "remote:studio:port",
            "tpu",
            "gpu:x",
        ] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }
}
