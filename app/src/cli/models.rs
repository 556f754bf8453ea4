//! Which model folder to use when none is named.

use std::path::{Path, PathBuf};

use super::CliError;

/// Names a model folder for all commands.
const MODEL_VARIABLE: &str = "INFINITY_MODEL";
/// Where the model that comes along lies in the source folder.
const STARTER: &str = "assets/starter";
/// Where it lies in an installed program, seen from the folder above the program's.
const INSTALLED: &str = "share/infinity/starter";

/// The model folder to use: the named one, `$INFINITY_MODEL`, else the starter.
///
/// A named folder is taken as it is, so that what is wrong with it is said.
pub(super) fn find(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    if let Some(variable) = std::env::var_os(MODEL_VARIABLE).filter(|value| !value.is_empty()) {
        return Some(variable.into());
    }
    starters()
        .into_iter()
        .find(|folder| folder.join("model.json").is_file())
}

/// The same, or what to do when there is none.
pub(super) fn find_or_say(named: Option<&Path>) -> Result<PathBuf, CliError> {
    find(named).ok_or_else(|| {
        CliError::failed(format!(
            "no model was found. Name a model folder with --model or ${MODEL_VARIABLE}, or start the program where {STARTER} is"
        ))
    })
}

/// Places where the starter may be, the likelier first.
fn starters() -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(STARTER)];
    if let Ok(program) = std::env::current_exe() {
        let program = program.canonicalize().unwrap_or(program);
        places.extend(
            program
                .ancestors()
                .skip(1)
                .map(|folder| folder.join(STARTER)),
        );
        places.extend(
            program
                .ancestors()
                .nth(2)
                .map(|folder| folder.join(INSTALLED)),
        );
    }
    // Built from source and moved away.
    places.push(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(STARTER),
    );
    places
}
