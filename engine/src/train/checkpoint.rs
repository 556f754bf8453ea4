//! Stopping a training run and going on later: one file, written beside and renamed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::optimizer::State;
use crate::api::EngineError;
use crate::weights::atomic_write;

/// What a run needs to go on exactly.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// Updates made.
    pub step: u64,
    /// Weights, moments and averages by name.
    pub state: State,
    /// What the run is, for those that must not go on as another: words by name.
    pub about: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Writes to `path`; a reader sees the old file or the new one, never a part.
    ///
    /// # Errors
    /// [`EngineError::Write`] with the path.
    pub fn save(&self, path: &Path) -> Result<(), EngineError> {
        let views = self
            .state
            .iter()
            .map(|(name, row)| {
                TensorView::new(Dtype::F32, vec![row.len()], bytemuck::cast_slice(row))
                    .map(|view| (name.as_str(), view))
                    .map_err(|error| EngineError::internal(error.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let about = serde_json::to_string(&self.about);
        let about = about.map_err(|error| EngineError::internal(error.to_string()))?;
        let metadata = HashMap::from([
            ("step".to_owned(), self.step.to_string()),
            ("about".to_owned(), about),
        ]);
        let bytes = safetensors::serialize(views, Some(metadata))
            .map_err(|error| EngineError::internal(error.to_string()))?;
        atomic_write(path, &bytes)
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// [`EngineError::Read`] or [`EngineError::BadModel`] with the path.
    pub fn load(path: &Path) -> Result<Self, EngineError> {
        let bytes = std::fs::read(path).map_err(|error| EngineError::read(path, error))?;
        let bad = |what: String| {
            EngineError::bad_model(
                path,
                format!("not a whole checkpoint: {what}; delete it to start anew"),
            )
        };
        let (_, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| bad(error.to_string()))?;
        let step = metadata
            .metadata()
            .as_ref()
            .and_then(|map| map.get("step"))
            .and_then(|step| step.parse().ok())
            .ok_or_else(|| bad("no step in it".to_owned()))?;
        let about = metadata
            .metadata()
            .as_ref()
            .and_then(|map| map.get("about"))
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
        let state = tensors
            .iter()
            .map(|(name, view)| (name.to_owned(), bytemuck::pod_collect_to_vec(view.data())))
            .collect();
        Ok(Self { step, state, about })
    }
}
