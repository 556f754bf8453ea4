//! Small model folders for tests, made of the golden cases.

use std::path::{Path, PathBuf};

use infinity_engine::import::{ImportSpec, import};
use infinity_engine::weights::{Defaults, SaveType};

/// The folder of a golden case.
pub fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(case)
}

/// What imports the golden case `case` into `out`, to be drawn with four scales.
pub fn import_spec(case: &str, out: &Path) -> ImportSpec {
    let case = golden(case);
    ImportSpec {
        transformer: case.join("transformer.pth"),
        vae: case.join("vae.pth"),
        text: case.join("t5"),
        out: out.to_owned(),
        kind: SaveType::F32,
        name: "Tiny".to_owned(),
        about: "Draws noise.".to_owned(),
        defaults: Defaults { cfg: 3.0, tau: 0.5, scale_count: 4 },
    }
}

/// Makes a model folder with random weights at `out`.
pub fn tiny(out: &Path) {
    import(&import_spec("infinity-open", out), &mut |_| ()).expect("the golden case is a model");
}
