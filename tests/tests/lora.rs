#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]
//! Low-rank adapters: what they may change, and which files are refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use infinity_engine::api::{
    DeviceChoice, EngineError, GenerateSpec, LoraWish, Rgb8Image, Storage, WeightStorage,
};
use infinity_engine::device;
use infinity_engine::eval::{EvalSpec, followed};
use infinity_engine::generate::{Bundle, Plan, ScaleView, Watcher, generate};
use infinity_engine::lora::{self, Lora, LoraInfo, Tuned};
use infinity_engine::model::{ModelConfig, Transformer};
use infinity_engine::random::Stream;
use infinity_engine::schedule::ScaleSchedule;
use infinity_engine::text::TextFeatures;
use infinity_engine::train::optimizer::gradient_rows;
use infinity_engine::train::self_correction::{flip_at_random, lesson};
use infinity_engine::train::transformer_loss::bit_loss;
use infinity_engine::weights::{ModelFolder, Network, SaveType, Values, WeightFile, save};

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/starter")
}

fn open() -> Bundle {
    let device = device::open(DeviceChoice::Cpu).unwrap();
    Bundle::open(&starter(), &device).unwrap()
}

fn base() -> String {
    lora::identity(&ModelFolder::open(starter()).unwrap()).unwrap()
}

fn random(count: usize, seed: u64, size: f32) -> Vec<f32> {
    let stream = Stream::new(seed, 5);
    (0..count as u64)
        .map(|i| size * stream.normal(i) as f32)
        .collect()
}

/// Writes an adapter of random numbers for the starter.
fn random_lora(path: &Path, seed: u64, layers: &[&str], base: &str) {
    let layers: Vec<String> = layers.iter().map(|part| (*part).to_owned()).collect();
    let mut tuned = Tuned::new(open().transformer, &layers, 4, 4.0).unwrap();
    for (index, slot) in tuned.all_slots().list.iter_mut().enumerate() {
        let values = random(slot.len(), seed << 8 | index as u64, 0.15);
        slot.fill(values, &Device::flex());
    }
    let info = LoraInfo {
        name: format!("random {seed}"),
        trigger: "zwm".to_owned(),
        base: base.to_owned(),
        base_name: "Starter (postcards)".to_owned(),
        rank: 4,
        alpha: 4.0,
        pictures: 1,
        steps: 2,
        picture: Some(Rgb8Image::new(8, 8, vec![200; 192]).unwrap()),
    };
    tuned.save(path, &info).unwrap();
}

fn wish(path: &Path, strength: f32) -> LoraWish {
    LoraWish::new(path, strength)
}

/// Draws greedily: bits differ only where logits change sign.
fn draw(bundle: &Bundle) -> Vec<u8> {
    let mut spec = GenerateSpec::new("a red house on the left, green hills, at night", 4);
    spec.top_k = 1;
    // Of the thousands of bits of more scales one may be so near a toss-up that the order of sums decides.
    spec.scale_count = Some(5);
    bundle.draw(&spec).unwrap().pixels.to_vec()
}

/// The bits of every scale of the same picture.
fn bits(bundle: &Bundle) -> Vec<Vec<u8>> {
    struct Bits(Vec<Vec<u8>>);
    impl Watcher for Bits {
        fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
            self.0.push(view.bits[0].clone());
            Ok(())
        }
    }
    let mut spec = GenerateSpec::new("a red house on the left, green hills, at night", 4);
    spec.top_k = 1;
    let plan = Plan::new(&spec, 5, bundle.transformer.config.depth).unwrap();
    let texts = bundle.encode(&[&spec.prompt]).unwrap().into();
    let mut bits = Bits(Vec::new());
    generate(bundle.wardrobe(), &texts, &plan, &mut bits).unwrap();
    bits.0
}

#[test]
fn strength_0_is_the_base_and_merged_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a.safetensors", "b.safetensors"].map(|name| folder.path().join(name));
    random_lora(&a, 1, &["ca.", "ffn."], &base());
    random_lora(&b, 2, &["sa.", "ca."], &base());
    let mut bundle = open();
    let plain = draw(&bundle);
    bundle.wear(&[wish(&a, 0.0), wish(&b, 0.0)]).unwrap();
    assert!(draw(&bundle) == plain);
    let infos = bundle.wear(&[wish(&a, 1.0), wish(&b, -0.5)]).unwrap();
    assert_eq!((infos.len(), infos[0].trigger.as_str()), (2, "zwm"));
    let worn = draw(&bundle);
    assert!(worn != plain);
    // Their order is no matter.
    bundle.wear(&[wish(&b, -0.5), wish(&a, 1.0)]).unwrap();
    assert!(draw(&bundle) == worn);
    bundle.wear(&[]).unwrap();
    assert!(draw(&bundle) == plain);
    let loras = [&a, &b].map(|path| Lora::open(path, &mut bundle.transformer, &base()).unwrap());
    lora::merge(
        &mut bundle.transformer,
        &[(&loras[0], 1.0), (&loras[1], -0.5)],
    )
    .unwrap();
    assert!(draw(&bundle) == worn);
}

#[test]
fn strengths_without_sense_are_refused_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    random_lora(&path, 1, &["ffn."], &base());
    let mut bundle = open();
    bundle.wear(&[wish(&path, 1.0)]).unwrap();
    let worn = draw(&bundle);
    for strength in [f32::NAN, f32::INFINITY, 90.0] {
        let error = bundle.wear(&[wish(&path, strength)]).unwrap_err();
        assert!(error.to_string().contains("strength"), "{error}");
    }
    let gone = bundle.wear(&[wish(&folder.path().join("gone"), 1.0)]);
    assert!(gone.unwrap_err().to_string().contains("gone"));
    assert!(draw(&bundle) == worn);
    // A file that was written anew is read anew.
    random_lora(&path, 9, &["ffn."], &base());
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
    std::fs::File::open(&path)
        .unwrap()
        .set_modified(later)
        .unwrap();
    bundle.wear(&[wish(&path, 1.0)]).unwrap();
    assert!(draw(&bundle) != worn);
}

fn refused(path: &Path) -> String {
    Lora::open(path, &mut open().transformer, &base())
        .unwrap_err()
        .to_string()
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    random_lora(&path, 1, &["ffn."], "another");
    let said = refused(&path);
    assert!(
        said.contains("Starter (postcards)") && said.contains("a.safetensors"),
        "{said}"
    );
    random_lora(&path, 1, &["ffn."], &base());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    assert!(refused(&path).contains("a.safetensors"));
    let said = refused(&starter().join("vae.safetensors"));
    assert!(said.contains("unexpected"), "{said}");
}

/// Renames the tensors of a file.
struct Renamed(Vec<(String, Vec<usize>, Vec<f32>, Tensor<1>)>);

impl Network for Renamed {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut infinity_engine::weights::Slots<'a>) {
        for (name, shape, values, tensor) in &mut self.0 {
            *tensor = Tensor::from_data(
                TensorData::new(values.clone(), [values.len()]),
                &Device::flex(),
            );
            let init = infinity_engine::weights::Init::Constant(0.0);
            slots.add(format!("{prefix}{name}"), tensor, [values.len()], init);
            if let Some(slot) = slots.list.last_mut() {
                slot.shape.clone_from(shape);
            }
        }
    }
}

#[test]
fn kohya_names_are_read_too_and_halves_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["a.safetensors", "k.safetensors"].map(|name| folder.path().join(name));
    random_lora(&ours, 3, &["ffn."], &base());
    let file = WeightFile::open(&ours).unwrap();
    let rename = |without: Option<&str>| {
        let mut list = Vec::new();
        for name in file
            .names()
            .filter(|name| without.is_none_or(|part| !name.contains(part)))
        {
            let layer = name.trim_start_matches("base_model.model.");
            let (layer, end) = if let Some(layer) = layer.strip_suffix(".lora_A.weight") {
                (layer, "lora_down.weight")
            } else {
                (
                    layer.strip_suffix(".lora_B.weight").unwrap(),
                    "lora_up.weight",
                )
            };
            let new = format!("lora_unet_{}.{end}", layer.replace('.', "_"));
            let zeros = Tensor::zeros([1], &Device::flex());
            list.push((
                new,
                file.shape(name).unwrap().to_vec(),
                file.read_f32(name).unwrap(),
                zeros,
            ));
        }
        save(&mut Renamed(list), &theirs, SaveType::F16, &BTreeMap::new()).unwrap();
    };
    rename(None);
    let mut bundle = open();
    bundle.wear(&[wish(&ours, 1.0)]).unwrap();
    let own = draw(&bundle);
    bundle.wear(&[wish(&theirs, 1.0)]).unwrap();
    assert!(draw(&bundle) == own);
    rename(Some("blocks.0.ffn.fc1.lora_B"));
    let error = bundle.wear(&[wish(&theirs, 1.0)]).unwrap_err();
    assert!(matches!(&error, EngineError::BadWeights { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("lora_unet_blocks_0_ffn_fc1.lora_up"),
        "{error}"
    );
}

/// Also where the weights that do not learn are kept in less, and widened for every product.
#[test]
fn gradients_of_the_training_loss_are_slopes() {
    for storage in [Storage::Single, Storage::Half, Storage::Eight] {
        gradients_are_slopes(storage);
    }
}

/// The gradient of the whole training loss by the adapters' weights, against small changes of them.
fn gradients_are_slopes(storage: Storage) {
    let device = Device::flex().autodiff();
    let config: ModelConfig = serde_json::from_str(
        r#"{ "depth": 2, "width": 32, "heads": 2, "mlp_hidden": 48, "block_chunks": 1,
            "text_channels": 128, "text_maxlen": 8, "codebook_dim": 4, "patchify": false }"#,
    )
    .unwrap();
    let mut transformer = Transformer::new(&config, &device, usize::MAX);
    transformer.initialise(3, &device);
    // The head starts small; here the loss should depend on what comes before it.
    for slot in &mut transformer.all_slots().list {
        if slot.name == "head.weight" {
            let large = slot
                .weight
                .values()
                .unwrap()
                .iter()
                .map(|v| 50.0 * v)
                .collect();
            slot.fill(large, &device);
        }
        if ModelConfig::is_in_block(&slot.name) {
            let values = Values::Single(slot.weight.values().unwrap());
            slot.fill_as(values, storage, &device);
        }
    }
    let layers = ["sa.", "ca.", "ffn."].map(str::to_owned);
    let mut tuned = Tuned::new(transformer, &layers, 2, 2.0).unwrap();
    let mut weights: Vec<Vec<f32>> = Vec::new();
    for (index, slot) in tuned.all_slots().list.iter_mut().enumerate() {
        weights.push(random(slot.len(), 40 + index as u64, 0.3));
        slot.fill(weights[index].clone(), &device);
    }
    let schedule = ScaleSchedule::nearest(1.0, 3).unwrap();
    let places = schedule.last().tokens();
    let lessons: Vec<_> = (0..2)
        .map(|row| {
            let flip = flip_at_random(0.3, 13, Stream::new(8, row));
            lesson(
                &random(4 * places, 70 + row, 1.0),
                4,
                &schedule.scales,
                false,
                flip,
            )
        })
        .collect();
    let loss = |tuned: &Tuned| {
        let padded = TensorData::new(random(2 * 5 * 128, 6, 1.0), [2, 5, 128]);
        let text = TextFeatures {
            padded: Tensor::from_data(padded, &device),
            lens: vec![5, 3],
        };
        let condition = tuned.transformer.condition(text.padded, &text.lens);
        let inputs: Vec<f32> = lessons.iter().flat_map(|one| one.inputs.clone()).collect();
        let shape = [2, schedule.tokens() - 1, 4];
        let inputs = Tensor::from_data(TensorData::new(inputs, shape), &device);
        let logits = tuned
            .transformer
            .forward_all(&condition, Some(inputs), &schedule);
        bit_loss(logits, &lessons).total(&schedule, true, 0)
    };
    let gradients = loss(&tuned).backward();
    let rows = gradient_rows(&mut tuned, &gradients).unwrap();
    assert_eq!(rows.len(), 2 * 2 * 7);
    // Along the gradient itself the slope is its length, which no rounding hides.
    for (index, row) in rows.iter().enumerate() {
        let row = row.as_ref().expect("every adapter takes part");
        let length = row.iter().map(|g| g * g).sum::<f32>().sqrt();
        assert!(length > 0.0, "{index}");
        let step = 0.05 / length;
        let at = |tuned: &mut Tuned, by: f32| -> f32 {
            let moved: Vec<f32> = weights[index]
                .iter()
                .zip(row)
                .map(|(w, g)| w + by * g)
                .collect();
            tuned.all_slots().list[index].fill(moved, &device);
            loss(tuned).into_scalar()
        };
        let slope = (at(&mut tuned, step) - at(&mut tuned, -step)) / (2.0 * step);
        tuned.all_slots().list[index].fill(weights[index].clone(), &device);
        let apart = (slope - length * length).abs() / (length * length);
        assert!(apart < 0.05, "{index}: {slope} for {}", length * length);
    }
}

/// Weights in half precision take half the memory; a model that was saved so draws, learns and merges the same to the bit.
#[test]
fn half_precision_changes_nothing_that_was_saved_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    random_lora(&path, 7, &["sa.", "ca.", "ffn."], &base());
    let drawn = |weights: WeightStorage| {
        let mut device = device::open(DeviceChoice::Cpu).unwrap();
        device.weights = weights;
        let mut bundle = Bundle::open(&starter(), &device).unwrap();
        let kept = match weights {
            WeightStorage::Half => Storage::Half,
            _ => Storage::Single,
        };
        assert_eq!(bundle.info.keeping.weights, kept);
        let spec = GenerateSpec::new("blue sea, a red boat in the center", 5);
        let plain = bundle.draw(&spec).unwrap();
        let on = [wish(&path, 1.0)];
        bundle.wear(&on).unwrap();
        let worn = bundle.draw(&spec).unwrap();
        let need = bundle.info.memory[6].clone();
        bundle.merge(&on).unwrap();
        bundle.wear(&[]).unwrap();
        (plain, worn, bundle.draw(&spec).unwrap(), need)
    };
    let (single, half) = (drawn(WeightStorage::Single), drawn(WeightStorage::Half));
    assert!(single.0 == half.0, "the plain picture differs");
    assert!(single.1 == half.1, "the picture with a LoRA differs");
    assert!(
        single.1 != single.0 && half.2 != half.0,
        "the LoRA does nothing"
    );
    assert!(half.3.bytes() < single.3.bytes());
    assert_eq!(2 * half.3.parts[0].bytes, single.3.parts[0].bytes);
}

/// Keys and values in half precision draw nearly the same; a text encoder that leaves comes back.
#[test]
fn a_small_model_draws_nearly_the_same() {
    let mut device = device::open(DeviceChoice::Cpu).unwrap();
    let whole = Bundle::open(&starter(), &device).unwrap();
    let spec = GenerateSpec::new("blue sea, a red boat in the center", 5);
    let other = whole.draw(&spec).unwrap();
    // A machine on which nothing fits.
    device.info.memory = Some(1);
    let mut bytes = u64::MAX;
    for (wish, weights, cache) in [
        (WeightStorage::Small, Storage::Half, Storage::Half),
        (WeightStorage::Smaller, Storage::Half, Storage::Eight),
        (WeightStorage::Eight, Storage::Eight, Storage::Eight),
    ] {
        device.weights = wish;
        let mut small = Bundle::open(&starter(), &device).unwrap();
        let keeping = small.info.keeping;
        assert!(keeping.cache == cache && keeping.weights == weights && !keeping.text_stays);
        let picture = small.draw(&spec).unwrap();
        small.leave_text();
        assert!(small.draw(&spec).unwrap() == picture);
        let apart: u64 = other
            .pixels
            .iter()
            .zip(picture.pixels.iter())
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        let mean = apart as f64 / other.pixels.len() as f64;
        println!("{wish:?}: pixels differ by {mean:.2} in the mean");
        assert!(
            mean > 0.0 && mean < 6.0,
            "pixels differ by {mean} in the mean"
        );
        let need = small.info.memory[6].bytes();
        assert!(need < bytes);
        bytes = need;
    }
    device.weights = WeightStorage::Auto;
    let least = Bundle::open(&starter(), &device).unwrap();
    assert_eq!(least.info.memory[6].bytes(), bytes);
}

/// A strength per scale: ones are the LoRA, zeros the base, and the first scales do not know what comes later.
#[test]
fn strengths_per_scale_count_where_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    random_lora(&path, 3, &["sa.", "ca.", "ffn."], &base());
    let mut bundle = open();
    let mut drawn = |by_scale: Vec<f32>| {
        let curve = LoraWish {
            by_scale,
            ..wish(&path, 0.7)
        };
        bundle.wear(&[curve]).unwrap();
        bits(&bundle)
    };
    let (whole, none) = (drawn(vec![]), drawn(vec![0.0]));
    assert!(drawn(vec![1.0; 3]) == whole);
    let late = drawn(vec![0.0, 0.0, 1.0]);
    assert!(late[..2] == none[..2] && late[2..] != none[2..]);
    let early = drawn(vec![1.0, 1.0, 0.0]);
    assert!(early[..2] == whole[..2] && early[2..] != whole[2..]);
    let curve = LoraWish {
        by_scale: vec![1.0, f32::NAN],
        ..wish(&path, 1.0)
    };
    assert!(bundle.wear(std::slice::from_ref(&curve)).is_err());
    assert!(bundle.merge(&[curve]).is_err());
    bundle.wear(&[]).unwrap();
    assert!(bits(&bundle) == none);
}

/// A card says what a file is, with its picture and the notes beside it; other files are none.
#[test]
fn a_card_says_what_a_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mills/lora.safetensors");
    std::fs::create_dir(folder.path().join("mills")).unwrap();
    random_lora(&path, 3, &["ffn."], &base());
    std::fs::write(folder.path().join("mills/checkpoint.safetensors"), "no").unwrap();
    std::fs::write(path.with_extension("txt"), "good at 0.8").unwrap();
    let cards = infinity_engine::find_loras(folder.path());
    assert_eq!(cards.len(), 1, "{cards:?}");
    let card = &cards[0];
    assert_eq!(
        (card.name.as_str(), card.trigger.as_str()),
        ("random 3", "zwm")
    );
    assert_eq!((card.rank, card.notes.as_str()), (4, "good at 0.8"));
    let picture = card.picture.as_ref().unwrap();
    assert_eq!((picture.width, picture.height), (8, 8));
    assert!(infinity_engine::find_loras(&folder.path().join("nowhere")).is_empty());
}

/// What is measured of a model is measured with the strengths per scale that it wears.
#[test]
fn strengths_per_scale_count_where_prompts_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    random_lora(&path, 3, &["sa.", "ca.", "ffn."], &base());
    let mut bundle = open();
    let spec = EvalSpec::new(8, 1);
    let own = followed(&bundle, &spec).unwrap();
    let mut worn = |by_scale: Vec<f32>| {
        let curve = LoraWish {
            by_scale,
            ..wish(&path, 4.0)
        };
        bundle.wear(&[curve]).unwrap();
        followed(&bundle, &spec).unwrap()
    };
    // Noise at four times its strength spoils every picture; with factors of 0 none.
    let (whole, none) = (worn(vec![]), worn(vec![0.0]));
    assert!(
        own > 0.5 && whole < 0.2 && none == own,
        "{own} {whole} {none}"
    );
}
