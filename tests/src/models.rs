//! Small model folders for tests, made of the golden cases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use infinity_engine::api::DeviceChoice;
use infinity_engine::bench::Preset;
use infinity_engine::device;
use infinity_engine::import::{ImportSpec, import};
use infinity_engine::model::Transformer;
use infinity_engine::text::T5Encoder;
use infinity_engine::vae::Vae;
use infinity_engine::weights::{Defaults, ModelFolder, ModelJson, Network, SaveType, save};
use infinity_engine::{EngineHandle, Previews, SpawnOptions, spawn};

/// The folder of a golden case.
pub fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(case)
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
        defaults: Defaults {
            cfg: 3.0,
            tau: 0.5,
            scale_count: 4,
        },
    }
}

/// Makes a model folder with random weights at `out`.
pub fn tiny(out: &Path) {
    import(&import_spec("infinity-open", out), &mut |_| ()).expect("the golden case is a model");
}

/// Makes a model folder of the starter's shape with random weights at `out`, to be timed.
pub fn starter_shaped(out: &Path) {
    let (model, vae, text) = Preset::Starter
        .sizes()
        .expect("the starter's settings can be read");
    let text = text.expect("the starter has a text encoder");
    let open = device::open(DeviceChoice::Cpu).expect("there is a processor");
    std::fs::create_dir_all(out.join("text")).expect("the folder can be made");
    let write = |network: &mut dyn Network, name: &str| {
        network.initialise(1, &open.device);
        save(network, out.join(name), SaveType::F16, &BTreeMap::new())
            .expect("the weights can be written");
    };
    write(
        &mut Transformer::new(&model, &open.device, usize::MAX),
        "transformer.safetensors",
    );
    write(
        &mut Vae::new(&vae, &open.device, usize::MAX),
        "vae.safetensors",
    );
    write(
        &mut T5Encoder::new(&text, &open.device),
        "text/model.safetensors",
    );
    let json = |value| serde_json::to_value(value).expect("sizes are plain");
    let config = serde_json::to_vec(&text).expect("sizes are plain");
    std::fs::write(out.join("text/config.json"), config).expect("the file can be written");
    let words = golden("infinity-open").join("t5/tokenizer.json");
    std::fs::copy(words, out.join("text/tokenizer.json")).expect("the file can be copied");
    let defaults = Defaults {
        cfg: 3.0,
        tau: 0.5,
        scale_count: 7,
    };
    let vae = serde_json::to_value(&vae).expect("sizes are plain");
    let description = ModelJson::new("Starter-shaped", defaults, json(&model), vae);
    description
        .write(ModelFolder::description_path(out))
        .expect("the file can be written");
}

/// Scales that the bundled model draws.
pub const STARTER_SCALES: usize = 7;

/// Side of the starter's square pictures, in pixels.
pub const STARTER_SIDE: u32 = 256;

/// The folder of the bundled model.
pub fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter")
}

/// An engine on the processor that loads the model in `folder` and decodes finished pictures only.
pub fn engine(folder: &Path) -> EngineHandle {
    let options = SpawnOptions::new(DeviceChoice::Cpu, Some(folder.to_owned()));
    spawn(SpawnOptions {
        previews: Previews::Off,
        ..options
    })
    .unwrap()
}
