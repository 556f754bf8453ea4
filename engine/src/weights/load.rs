//! Filling a network from a file, strictly.
//!
//! Every name and shape is compared first and everything that does not fit is
//! reported together. Then one tensor at a time goes to the device, on the processor one per
//! core, so the largest tensors bound the memory this takes; matrices that the file has as they are to be kept stay where
//! they lie.

use std::collections::BTreeMap;

use burn::tensor::Device;
use rayon::prelude::*;

use super::{KeyMap, Network, Slot, Slots, WeightFile, WeightMut};
use crate::api::{EngineError, KeyProblems, Storage};

/// Fills `network` from `file` on `device`.
///
/// # Errors
/// [`EngineError::BadWeights`] with every missing, unexpected and misshapen name, before
/// anything is read. While reading: [`EngineError::NotFinite`], [`EngineError::Read`] or
/// [`EngineError::BadModel`]; the network is then half filled and must not be used.
pub fn load_into<N: Network + ?Sized>(
    network: &mut N,
    file: &WeightFile,
    names: &KeyMap,
    device: &Device,
) -> Result<(), EngineError> {
    load_as(network, file, names, device, |_| Storage::Single)
}

/// Fills `network` as [`load_into`] does; matrices are kept as `kept` says of their names.
///
/// # Errors
/// As [`load_into`].
pub fn load_as<N: Network + ?Sized>(
    network: &mut N,
    file: &WeightFile,
    names: &KeyMap,
    device: &Device,
    kept: impl Fn(&str) -> Storage + Sync,
) -> Result<(), EngineError> {
    let mut slots = network.all_slots();
    let file_names = matched(&slots, file, names)?;
    let is_processor = device.clone().without_autodiff() == Device::flex();
    let fill = |(slot, file_name): (&mut Slot<'_>, &String)| {
        let (storage, slot_len) = (kept(&slot.name), slot.len());
        let check = |count: usize, not_finite: Option<usize>| {
            if count != slot_len {
                let reason = format!("{file_name} changed while it was read; try again");
                return Err(EngineError::bad_model(file.path(), reason));
            }
            not_finite.map_or(Ok(()), |index| {
                Err(EngineError::NotFinite {
                    what: format!("{file_name}, value {index}, in {:?}", file.path()),
                    advice: "The file is damaged or its training went wrong; use another one."
                        .to_owned(),
                })
            })
        };
        // Weights that learn are changed; those that do not can stay or come from where they lie.
        if !device.is_autodiff()
            && let WeightMut::D2(matrix) = &mut slot.weight
            && let Some(values) = file.mapped(file_name, storage)
        {
            check(values.len(), values.not_finite())?;
            let place = if slot.on_host {
                &Device::flex()
            } else {
                device
            };
            **matrix = values.into_matrix([slot.shape[0], slot.shape[1]], place);
            return Ok(());
        }
        let values = file.read(file_name, storage == Storage::Half)?;
        check(values.len(), values.not_finite())?;
        slot.fill_as(values, storage, device);
        Ok(())
    };
    if is_processor {
        let slots = slots.list.par_iter_mut();
        slots.zip(&file_names).try_for_each(fill)
    } else {
        let mut slots = slots.list.iter_mut().zip(&file_names);
        slots.try_for_each(fill)
    }
}

/// Compares names and shapes of `network` and `file` without reading a value.
///
/// # Errors
/// [`EngineError::BadWeights`] with every missing, unexpected and misshapen name.
pub fn check<N: Network + ?Sized>(
    network: &mut N,
    file: &WeightFile,
    names: &KeyMap,
) -> Result<(), EngineError> {
    matched(&network.all_slots(), file, names).map(|_| ())
}

/// The name in the file of every slot, in the order of the slots.
pub(super) fn matched(
    slots: &Slots<'_>,
    file: &WeightFile,
    names: &KeyMap,
) -> Result<Vec<String>, EngineError> {
    let mut places = BTreeMap::new();
    for (place, slot) in slots.list.iter().enumerate() {
        if places.insert(names.spelled(&slot.name), place).is_some() {
            return Err(EngineError::internal(format!(
                "two weights are called {}",
                slot.name
            )));
        }
    }
    let mut found: Vec<Option<&str>> = vec![None; slots.list.len()];
    let mut spare = Vec::new();
    for name in file.names() {
        let place = places.get(&names.spelled(name)).copied();
        match place.and_then(|place| Some((slots.list.get(place)?, found.get_mut(place)?))) {
            // Of two spellings of one name, the network's own is taken.
            Some((slot, entry)) if entry.is_none() || slot.name == name => {
                spare.extend(entry.replace(name));
            }
            _ => spare.push(name),
        }
    }
    let mut problems = KeyProblems::default();
    for (slot, name) in slots.list.iter().zip(&found) {
        match name {
            Some(name) => note_shape(&mut problems, file, name, &slot.shape),
            None => problems.missing.push(slot.name.clone()),
        }
    }
    let unused: BTreeMap<&str, &[usize]> = slots
        .unused
        .iter()
        .map(|(name, shape)| (name.as_str(), shape.as_slice()))
        .collect();
    for name in spare {
        match unused.get(name) {
            Some(shape) => note_shape(&mut problems, file, name, shape),
            None if names.passes_over(name) => {}
            None => problems.unexpected.push(name.to_owned()),
        }
    }
    if problems.is_empty() {
        return Ok(found.into_iter().flatten().map(str::to_owned).collect());
    }
    let path = file.path().to_owned();
    Err(EngineError::BadWeights { problems, path })
}

fn note_shape(problems: &mut KeyProblems, file: &WeightFile, name: &str, wanted: &[usize]) {
    let shape = file.shape(name).unwrap_or_default();
    if shape != wanted {
        problems
            .misshapen
            .push(format!("{name} (wanted {wanted:?}, found {shape:?})"));
    }
}
