//! Low-rank adapters of the transformer (LoRA, Hu et al., arXiv 2106.09685): files in and out, put on and taken off.
//!
//! Files are `.safetensors` with PEFT's dotted names, `base_model.model.<layer>.lora_A.weight` and `lora_B.weight`;
//! kohya's names with underscores are read too. The metadata name the model it was made for, and a LoRA of
//! another one is refused.

mod card;

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::api::{EngineError, KeyProblems, Rgb8Image};
use crate::layers::LowRank;
use crate::model::Transformer;
use crate::weights::{Init, ModelFolder, Network, SaveType, Slots, WeightFile, save};
pub use card::find_loras;

/// Before a layer's name in a file.
const PREFIX: &str = "base_model.model.";
/// Before it in kohya's files.
const KOHYA_PREFIX: &str = "lora_unet_";
/// Largest rank that is read.
const MOST_RANK: usize = 1024;

/// What a LoRA file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoraInfo {
    /// Name for people.
    pub name: String,
    /// Word that calls it up; empty for none.
    pub trigger: String,
    /// Name of the model it was made for.
    pub base_name: String,
    /// Identity of that model's transformer, see [`identity`]; empty where the file does not say.
    pub base: String,
    /// Rows of the thin matrices.
    pub rank: usize,
    /// Numerator of the scale `alpha / rank`.
    pub alpha: f32,
    /// Pictures and updates it was trained with.
    pub pictures: usize,
    /// Updates.
    pub steps: u64,
    /// A picture drawn with it.
    #[serde(skip)]
    pub picture: Option<Rgb8Image>,
}

impl LoraInfo {
    /// Header entries, in the field's usual words.
    fn metadata(&self) -> BTreeMap<String, String> {
        let entries = [
            ("modelspec.sai_model_spec", "1.0.1".to_owned()),
            ("modelspec.architecture", "infinity/lora".to_owned()),
            ("modelspec.title", self.name.clone()),
            ("modelspec.trigger_phrase", self.trigger.clone()),
            ("ss_network_module", "networks.lora".to_owned()),
            ("ss_network_dim", self.rank.to_string()),
            ("ss_network_alpha", self.alpha.to_string()),
            ("ss_base_model_version", "infinity".to_owned()),
            ("ss_sd_model_name", self.base_name.clone()),
            ("ss_sd_model_hash", self.base.clone()),
            ("ss_num_train_images", self.pictures.to_string()),
            ("ss_steps", self.steps.to_string()),
            (
                "modelspec.thumbnail",
                self.picture
                    .as_ref()
                    .map(card::picture_text)
                    .unwrap_or_default(),
            ),
        ];
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    fn of(file: &WeightFile) -> Self {
        let text = |key: &str| file.metadata(key).unwrap_or_default().to_owned();
        Self {
            name: text("modelspec.title"),
            trigger: text("modelspec.trigger_phrase"),
            base_name: text("ss_sd_model_name"),
            base: text("ss_sd_model_hash"),
            rank: text("ss_network_dim").parse().unwrap_or(0),
            alpha: text("ss_network_alpha").parse().unwrap_or(0.0),
            pictures: text("ss_num_train_images").parse().unwrap_or(0),
            steps: text("ss_steps").parse().unwrap_or(0),
            picture: card::picture_of(&text("modelspec.thumbnail")),
        }
    }
}

/// A model's identity: a digest of its transformer file's length and of 16 blocks spread over it.
///
/// # Errors
/// [`EngineError::Read`] with the path.
pub fn identity(model: &ModelFolder) -> Result<String, EngineError> {
    file_identity(&model.transformer_path())
}

/// A digest of a weight file's length and of 16 blocks spread over it.
///
/// # Errors
/// [`EngineError::Read`] with the path.
pub fn file_identity(path: &Path) -> Result<String, EngineError> {
    const BLOCKS: u64 = 16;
    const BLOCK: u64 = 1 << 16;
    let failed = |error| EngineError::read(path, error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut digest = Sha256::new();
    digest.update(length.to_le_bytes());
    let mut block = Vec::new();
    for index in 0..BLOCKS {
        let start = length.saturating_sub(BLOCK) / (BLOCKS - 1) * index;
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        block.clear();
        (&file)
            .take(BLOCK)
            .read_to_end(&mut block)
            .map_err(failed)?;
        digest.update(&block);
    }
    let bytes = digest.finalize();
    Ok(bytes
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The rank that a matrix `A` of this shape has; 0 for no matrix.
fn rank_of(shape: Option<&[usize]>) -> usize {
    shape.and_then(|shape| shape.first()).copied().unwrap_or(0)
}

/// One layer's matrices.
#[derive(Clone, Debug, PartialEq)]
struct Layer {
    name: String,
    /// Numbers of results and of inputs.
    shape: [usize; 2],
    rank: usize,
    /// Alpha over rank.
    scale: f32,
    /// `A`, `[rank, in]`.
    down: Vec<f32>,
    /// `B`, `[out, rank]`.
    up: Vec<f32>,
}

/// An adapter as it is on the disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// What it says of itself.
    pub info: LoraInfo,
    /// Where it was read.
    pub path: PathBuf,
    layers: Vec<Layer>,
}

impl Lora {
    /// Reads the file at `path` for `transformer`, whose identity is `base`.
    ///
    /// # Errors
    /// [`EngineError::Read`], [`EngineError::BadModel`] for a file that is damaged or made for another model, saying
    /// which, [`EngineError::BadWeights`] naming what does not fit.
    pub fn open(
        path: &Path,
        transformer: &mut Transformer,
        base: &str,
    ) -> Result<Self, EngineError> {
        let file = WeightFile::open(path)?;
        let info = LoraInfo::of(&file);
        if !info.base.is_empty() && info.base != base {
            let wanted = if info.base_name.is_empty() {
                "another model".to_owned()
            } else {
                format!(
                    "{:?} in another version or another model of that name",
                    info.base_name
                )
            };
            return Err(EngineError::bad_model(
                path,
                format!("this LoRA was made for {wanted}; load that model first"),
            ));
        }
        let mut problems = KeyProblems::default();
        let mut known = Vec::new();
        let mut layers = Vec::new();
        for layer in transformer.adaptables() {
            let kohya = format!("{KOHYA_PREFIX}{}", layer.name.replace('.', "_"));
            let dotted = format!("{PREFIX}{}", layer.name);
            let spellings = [
                (
                    format!("{dotted}.lora_A.weight"),
                    format!("{dotted}.lora_B.weight"),
                    String::new(),
                ),
                (
                    format!("{kohya}.lora_down.weight"),
                    format!("{kohya}.lora_up.weight"),
                    format!("{kohya}.alpha"),
                ),
            ];
            let Some((down, up, alpha)) = spellings
                .into_iter()
                .find(|(down, up, _)| file.contains(down) || file.contains(up))
            else {
                continue;
            };
            for (name, other) in [(&down, &up), (&up, &down)] {
                if !file.contains(name) {
                    problems.missing.push(format!("{name} (there is {other})"));
                }
            }
            let ([outputs, inputs], rank) = (layer.shape, rank_of(file.shape(&down)));
            let fits = file.shape(&down) == Some(&[rank, inputs])
                && file.shape(&up) == Some(&[outputs, rank])
                && (1..=MOST_RANK).contains(&rank);
            if !fits {
                problems.misshapen.push(layer.name.clone());
            }
            known.extend([down.clone(), up.clone(), alpha.clone()]);
            if !problems.is_empty() {
                continue;
            }
            let own_alpha = if file.contains(&alpha) {
                file.read_f32(&alpha)?.first().copied()
            } else {
                None
            };
            let alpha = own_alpha.unwrap_or(if info.alpha > 0.0 {
                info.alpha
            } else {
                rank as f32
            });
            layers.push(Layer {
                name: layer.name,
                shape: layer.shape,
                rank,
                scale: alpha / rank as f32,
                down: file.read_f32(&down)?,
                up: file.read_f32(&up)?,
            });
        }
        let unknown = file
            .names()
            .filter(|name| !known.iter().any(|other| other == name));
        problems.unexpected.extend(unknown.map(str::to_owned));
        if layers.is_empty() && problems.is_empty() {
            return Err(EngineError::bad_model(
                path,
                "there is no LoRA in it; choose another file",
            ));
        }
        if !problems.is_empty() {
            return Err(EngineError::BadWeights {
                problems,
                path: path.to_owned(),
            });
        }
        let mut all = layers
            .iter()
            .flat_map(|layer| layer.down.iter().chain(&layer.up));
        if layers.iter().any(|layer| !layer.scale.is_finite())
            || !all.all(|value| value.is_finite())
        {
            return Err(EngineError::NotFinite {
                what: format!("reading {path:?}"),
                advice: "The file is damaged; copy it again.".to_owned(),
            });
        }
        Ok(Self {
            info,
            path: path.to_owned(),
            layers,
        })
    }
}

/// Puts `loras` with their strengths on `transformer`, in place of those that were on it.
///
/// They are added in the order of their contents, so that their order in the list changes nothing.
pub fn put_on(transformer: &mut Transformer, loras: &[(&Lora, f32)]) {
    let device = transformer.device().clone();
    let mut loras = loras.to_vec();
    loras.sort_by(|(a, _), (b, _)| {
        let key = |lora: &Lora| (lora.path.clone(), lora.info.name.clone());
        key(a).cmp(&key(b))
    });
    for layer in transformer.adaptables() {
        layer.additions.clear();
        for (lora, strength) in &loras {
            let Some(own) = lora.layers.iter().find(|own| own.name == layer.name) else {
                continue;
            };
            layer.additions.push(low_rank(own, *strength, &device));
        }
    }
}

fn low_rank(layer: &Layer, strength: f32, device: &Device) -> LowRank {
    let [outputs, inputs] = layer.shape;
    let matrix = |values: &[f32], shape: [usize; 2]| {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
    };
    LowRank {
        down: matrix(&layer.down, [layer.rank, inputs]),
        up: matrix(&layer.up, [outputs, layer.rank]),
        scale: layer.scale * strength,
    }
}

/// Adds `loras` with their strengths to the weights themselves, for a model folder that needs no LoRA.
///
/// # Errors
/// [`EngineError::Internal`] when the device fails.
pub fn merge(transformer: &mut Transformer, loras: &[(&Lora, f32)]) -> Result<(), EngineError> {
    let device = transformer.device().clone();
    for mut slot in transformer.all_slots().list {
        let layer = slot
            .name
            .strip_suffix(".weight")
            .unwrap_or(&slot.name)
            .to_owned();
        let mut sum: Option<Vec<f32>> = None;
        for (lora, strength) in loras {
            let Some(own) = lora.layers.iter().find(|own| own.name == layer) else {
                continue;
            };
            let values = match &mut sum {
                Some(values) => values,
                none => none.insert(slot.weight.values()?),
            };
            let [_, inputs] = own.shape;
            let factor = own.scale * strength;
            for (row, up) in values
                .chunks_exact_mut(inputs)
                .zip(own.up.chunks_exact(own.rank))
            {
                for (value, down) in up.iter().zip(own.down.chunks_exact(inputs)) {
                    for (weight, down) in row.iter_mut().zip(down) {
                        *weight += factor * value * down;
                    }
                }
            }
        }
        if let Some(values) = sum {
            slot.fill(values, &device);
        }
    }
    Ok(())
}

/// A transformer of which only low-rank additions learn.
pub struct Tuned {
    /// The network; its own weights take no gradients.
    pub transformer: Transformer,
}

impl Tuned {
    /// Additions of `rank` for the layers whose names contain one of `layers`, and nothing else that learns.
    ///
    /// # Errors
    /// [`EngineError::BadSetting`] when no layer has such a name.
    pub fn new(
        mut transformer: Transformer,
        layers: &[String],
        rank: usize,
        alpha: f32,
    ) -> Result<Self, EngineError> {
        let device = transformer.device().clone();
        for slot in &mut transformer.all_slots().list {
            slot.weight.freeze();
        }
        let mut count = 0;
        for layer in transformer.adaptables() {
            layer.additions.clear();
            if layers.iter().any(|part| layer.name.contains(part.as_str())) {
                count += 1;
                let [outputs, inputs] = layer.shape;
                layer.additions.push(LowRank {
                    down: Tensor::zeros([rank, inputs], &device),
                    up: Tensor::zeros([outputs, rank], &device),
                    scale: alpha / rank as f32,
                });
            }
        }
        if count == 0 {
            return Err(EngineError::BadSetting {
                what: "the list of layers",
                value: format!("{layers:?}"),
                advice: "Name parts of layers: sa., ca., ffn., head or several of them.".to_owned(),
            });
        }
        Ok(Self { transformer })
    }

    /// Writes the additions as a LoRA file.
    ///
    /// # Errors
    /// [`EngineError::Write`] or [`EngineError::NotFinite`] with the path.
    pub fn save(&mut self, path: &Path, info: &LoraInfo) -> Result<(), EngineError> {
        save(self, path, SaveType::F16, &info.metadata())
    }
}

impl Network for Tuned {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        for layer in self.transformer.adaptables() {
            let [outputs, inputs] = layer.shape;
            for one in layer.additions {
                let rank = one.down.dims()[0];
                let name = format!("{prefix}{PREFIX}{}", layer.name);
                // A starts at random and B at zero: the first picture is the base model's.
                let start = Init::Normal(1.0 / (inputs as f32).sqrt());
                let (down, up) = (&mut one.down, &mut one.up);
                slots.add(format!("{name}.lora_A.weight"), down, [rank, inputs], start);
                let start = Init::Constant(0.0);
                slots.add(format!("{name}.lora_B.weight"), up, [outputs, rank], start);
            }
        }
    }
}
