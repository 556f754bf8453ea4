//! One recorded case: its settings, its tensors, and its networks on a device.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use infinity_engine::device::OpenDevice;
use infinity_engine::generate::Plan;
use infinity_engine::generate::sampling::Rule;
use infinity_engine::model::{ModelConfig, Transformer};
use infinity_engine::schedule::{Scale, ScaleSchedule};
use infinity_engine::text::{PromptTokenizer, T5Config, T5Encoder, TextFeatures};
use infinity_engine::vae::{Vae, VaeConfig};
use infinity_engine::weights::{KeyMap, Network, WeightFile, load_into};
use infinity_tests::tolerance::{Array, Arrays, read_arrays};
use serde_json::Value;

/// Settings and recorded tensors.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) config: Value,
    pub(crate) io: Arrays,
}

impl Case {
    /// Reads the case in `folder`; its tensors only if it is of a kind that is known.
    pub(crate) fn read(name: &str, folder: &Path) -> Result<Self, String> {
        let path = folder.join("config.json");
        let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let config = serde_json::from_slice(&text)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let mut case = Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            config,
            io: Arrays::new(),
        };
        if case.unknown_kind().is_none() {
            case.io = read_arrays(&folder.join("io.safetensors"))?;
        }
        Ok(case)
    }

    /// The kind of a case that is not one of this engine's models.
    pub(crate) fn unknown_kind(&self) -> Option<String> {
        match self.config["kind"].as_str() {
            Some("infinity") => None,
            Some(kind) => Some(kind.to_owned()),
            None if self.config["transformer"].is_object() => None,
            None => Some("without a name".to_owned()),
        }
    }

    /// The recorded tensor called `name`.
    pub(crate) fn recorded(&self, name: &str) -> &Array {
        self.io
            .get(name)
            .unwrap_or_else(|| panic!("{}: io.safetensors has no {name}", self.name))
    }

    /// Spatial patchify: places of the code map along one side of a token.
    pub(crate) fn fold(&self) -> usize {
        if self.model_config().patchify { 2 } else { 1 }
    }

    pub(crate) fn model_config(&self) -> ModelConfig {
        let t = &self.config["transformer"];
        let config = ModelConfig {
            depth: size(&t["depth"]),
            width: size(&t["embed_dim"]),
            heads: size(&t["num_heads"]),
            mlp_hidden: size(&t["mlp_hidden"]),
            block_chunks: size(&t["block_chunks"]),
            text_channels: size(&t["text_channels"]),
            text_maxlen: size(&t["text_maxlen"]),
            codebook_dim: size(&self.config["vae"]["codebook_dim"]),
            patchify: t["apply_spatial_patchify"] == 1,
        };
        assert_eq!(config.token_bits(), size(&t["d_vae"]), "d_vae");
        assert_eq!(
            config.pool_heads(),
            size(&t["text_pool_heads"]),
            "text_pool_heads"
        );
        config
    }

    pub(crate) fn vae_config(&self) -> VaeConfig {
        let v = &self.config["vae"];
        let blocks = size(&v["num_res_blocks"]);
        VaeConfig {
            codebook_dim: size(&v["codebook_dim"]),
            patch_size: size(&v["patch_size"]),
            stem: 1,
            base_ch: size(&v["base_ch"]),
            encoder_res_blocks: blocks,
            decoder_res_blocks: blocks + 1,
            encoder_ch_mult: sizes(&v["encoder_ch_mult"]),
            decoder_ch_mult: sizes(&v["decoder_ch_mult"]),
        }
    }

    /// The schedule called `name`: a prefix of a tabulated one.
    pub(crate) fn schedule(&self, name: &str) -> ScaleSchedule {
        let schedule = &self.config["schedules"][name];
        let base = sizes(&schedule["rope_base_hw"]);
        let scales = schedule["scales"]
            .as_array()
            .expect("scales")
            .iter()
            .map(|scale| {
                let [_, h, w] = sizes(scale)[..] else {
                    panic!("a scale is [1, h, w]")
                };
                Scale { h, w }
            });
        ScaleSchedule {
            ratio: schedule["ratio"].as_f64().expect("ratio") as f32,
            scales: scales.collect(),
            rope_base: Scale {
                h: base[0],
                w: base[1],
            },
        }
    }

    /// Names of the generation runs.
    pub(crate) fn runs(&self) -> Vec<String> {
        self.config["runs"]
            .as_object()
            .map(|runs| runs.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// What run `name` draws.
    pub(crate) fn plan(&self, name: &str) -> Plan {
        let run = &self.config["runs"][name];
        let layers = run["cfg_insertion_layer"]
            .as_array()
            .expect("cfg_insertion_layer");
        let schedule = self.schedule(run["schedule"].as_str().expect("schedule"));
        Plan {
            depth: size(&self.config["transformer"]["depth"]),
            drawn: schedule.scales.len(),
            together: true,
            detail_from: None,
            outside: None,
            damage: None,
            schedule,
            cfg: numbers(&run["cfg"]),
            tau: numbers(&run["tau"]),
            certainty: None,
            rule: Rule {
                top_k: size(&run["top_k"]),
                top_p: run["top_p"].as_f64().expect("top_p") as f32,
            },
            cfg_insertion_layers: layers
                .iter()
                .map(|layer| layer.as_i64().expect("layer") as i32)
                .collect(),
            kept: Vec::new(),
            seeds: vec![0; sizes(&run["prompt_indices"]).len()],
            notes: Vec::new(),
        }
    }

    pub(crate) fn prompts(&self) -> Vec<&str> {
        let prompts = self.config["prompts"].as_array().expect("prompts");
        prompts
            .iter()
            .map(|prompt| prompt.as_str().expect("prompt"))
            .collect()
    }

    pub(crate) fn negative_prompt(&self) -> &str {
        self.config["negative_prompt"]
            .as_str()
            .expect("negative_prompt")
    }

    /// Number of tokens of the prompts (`text/`) or of the negative prompt (`text/neg_`).
    pub(crate) fn text_lens(&self, prefix: &str) -> Vec<usize> {
        let mask = self.recorded(&format!("{prefix}attention_mask"));
        mask.wholes()
            .chunks_exact(mask.shape[1])
            .map(|row| row.iter().sum::<i64>() as usize)
            .collect()
    }

    /// Recorded text features of the rows `which`, with the recorded padding.
    pub(crate) fn text_features(
        &self,
        prefix: &str,
        which: &[usize],
        device: &OpenDevice,
    ) -> TextFeatures {
        let features = self.recorded(&format!("{prefix}t5_last_hidden_state"));
        let [_, tokens, channels] = features.shape[..] else {
            panic!("features have three axes")
        };
        let values = features.floats();
        let row = tokens * channels;
        let chosen: Vec<f32> = which
            .iter()
            .flat_map(|&i| values[i * row..(i + 1) * row].to_vec())
            .collect();
        let lens = self.text_lens(prefix);
        TextFeatures {
            padded: to_device(chosen, [which.len(), tokens, channels], device),
            lens: which.iter().map(|&i| lens[i]).collect(),
        }
    }
}

/// The networks of a case on one device.
pub(crate) struct Networks {
    pub(crate) device: OpenDevice,
    pub(crate) transformer: Transformer,
    pub(crate) vae: Vae,
    pub(crate) text: T5Encoder,
    pub(crate) tokenizer: PromptTokenizer,
}

impl Networks {
    pub(crate) fn load(case: &Case, device: &OpenDevice) -> Self {
        let (burn, limit) = (&device.device, device.max_elements);
        let model_config = case.model_config();
        let vae_config = case.vae_config();
        model_config.check().unwrap();
        vae_config.check().unwrap();
        let mut transformer = Transformer::new(&model_config, burn, limit);
        fill(
            &mut transformer,
            &case.folder.join("transformer.pth"),
            &KeyMap::published(),
            device,
        );
        let mut vae = Vae::new(&vae_config, burn, limit);
        fill(
            &mut vae,
            &case.folder.join("vae.pth"),
            &KeyMap::vae(),
            device,
        );
        let t5 = case
            .folder
            .join(case.config["t5"]["dir"].as_str().expect("t5.dir"));
        let mut text = T5Encoder::new(&T5Config::open(&t5.join("config.json")).unwrap(), burn);
        fill(
            &mut text,
            &t5.join("model.safetensors"),
            &KeyMap::text(),
            device,
        );
        let max_length = size(&case.config["t5"]["max_length"]);
        let tokenizer = PromptTokenizer::open(&t5.join("tokenizer.json"), max_length).unwrap();
        Self {
            device: device.clone(),
            transformer,
            vae,
            text,
            tokenizer,
        }
    }

    /// Text features of `prompts`, all the way from their words.
    pub(crate) fn encode(&self, prompts: &[&str]) -> TextFeatures {
        let ids: Vec<Vec<u32>> = prompts
            .iter()
            .map(|prompt| self.tokenizer.encode(prompt).unwrap())
            .collect();
        self.text.forward(&ids)
    }
}

fn fill(network: &mut impl Network, path: &Path, names: &KeyMap, device: &OpenDevice) {
    let file = WeightFile::open(path).unwrap_or_else(|error| panic!("{error}"));
    load_into(network, &file, names, &device.device).unwrap_or_else(|error| panic!("{error}"));
}

/// Values of a tensor of any rank on `device`.
pub(crate) fn to_device<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &OpenDevice,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), &device.device)
}

/// A recorded tensor on `device`.
pub(crate) fn tensor<const D: usize>(array: &Array, device: &OpenDevice) -> Tensor<D> {
    let shape: [usize; D] = array.shape.as_slice().try_into().expect("rank");
    to_device(array.floats(), shape, device)
}

/// A tensor on the host.
pub(crate) fn to_host<const D: usize>(tensor: Tensor<D>) -> Array {
    let shape = tensor.dims();
    Array::float(&shape, tensor.try_into_vec_as::<f32>().unwrap())
}

pub(crate) fn size(value: &Value) -> usize {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("a size, not {value}")) as usize
}

pub(crate) fn sizes(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("a list, not {value}"))
        .iter()
        .map(size)
        .collect()
}

fn numbers(value: &Value) -> Vec<f32> {
    let list = value
        .as_array()
        .unwrap_or_else(|| panic!("a list, not {value}"));
    list.iter()
        .map(|number| number.as_f64().expect("number") as f32)
        .collect()
}

/// Folders with a case: those in this repository, then those of `$INFINITY_GOLDEN_DIR`.
///
/// A case is a folder with `config.json` and `io.safetensors`; the variable names one, or a
/// folder of several. The result is name to folder.
pub(crate) fn folders() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let own = home();
    add_folders(&own, &mut found);
    assert!(!found.is_empty(), "{} holds no case", own.display());
    if let Some(more) = std::env::var_os("INFINITY_GOLDEN_DIR") {
        let before = found.len();
        let more = PathBuf::from(more)
            .canonicalize()
            .expect("INFINITY_GOLDEN_DIR is no folder");
        add_folders(&more, &mut found);
        if found.len() == before && more != own {
            panic!(
                "INFINITY_GOLDEN_DIR={} holds no case: no folder with config.json and io.safetensors",
                more.display()
            );
        }
    }
    found
}

/// The folder of the cases in this repository.
pub(crate) fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .canonicalize()
        .expect("the folder golden")
}

fn add_folders(folder: &Path, found: &mut BTreeMap<String, PathBuf>) {
    let inner = std::fs::read_dir(folder)
        .expect("readable")
        .map(|entry| entry.expect("readable").path());
    for path in inner.chain([folder.to_owned()]) {
        if !(path.join("config.json").is_file() && path.join("io.safetensors").is_file()) {
            continue;
        }
        if found.values().any(|known| *known == path) {
            continue;
        }
        let plain = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let mut name = plain.clone();
        let mut number = 2;
        while found.contains_key(&name) {
            name = format!("{plain}-{number}");
            number += 1;
        }
        found.insert(name, path);
    }
}
