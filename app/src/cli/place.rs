//! What commands ask about the place they draw at.

use std::path::Path;

use infinity_engine::SpawnOptions;
use infinity_engine::api::WeightStorage;

use super::{CliError, models};
use crate::place::Place;

/// Refuses what another machine decides for itself.
pub(super) fn check(
    place: &Place,
    model: Option<&Path>,
    weights: WeightStorage,
) -> Result<(), CliError> {
    if !place.is_remote() || (model.is_none() && weights == WeightStorage::Auto) {
        return Ok(());
    }
    Err(CliError::Usage(
        "another machine draws with its own model, kept its own way: `infinity serve --model DIR --weights HOW` there"
            .to_owned(),
    ))
}

/// The options of an engine with `model`, or with the one found; none is needed for another machine, which has
/// its own.
pub(super) fn options(place: &Place, model: Option<&Path>) -> Result<SpawnOptions, CliError> {
    let model = if place.is_remote() {
        None
    } else {
        Some(models::find_or_say(model)?)
    };
    Ok(SpawnOptions::new(place.device(), model))
}

#[cfg(test)]
mod tests {
    use infinity_engine::api::DeviceChoice;

    use super::*;

    #[test]
    fn another_machine_keeps_its_own_model_its_own_way() {
        let there = Place::Remote("studio.local:7860".to_owned());
        let here = Place::Here(DeviceChoice::Cpu);
        let (own, none) = (Some(Path::new("model")), None);
        assert!(check(&here, own, WeightStorage::Half).is_ok());
        assert!(check(&there, none, WeightStorage::Auto).is_ok());
        assert!(check(&there, own, WeightStorage::Auto).is_err());
        assert!(check(&there, none, WeightStorage::Half).is_err());
    }
}
