//! Checks against numbers recorded from the reference program, in `tests/golden`.
//!
//! The hidden states were computed in f32 from the same f16 weights, so 1e-4 leaves
//! room for another order of summation only.

use std::path::PathBuf;

use burn::tensor::Device;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::position::bucket;
use super::{PromptTokenizer, T5Config, T5Encoder};
use crate::weights::Network;

const CASES: [&str; 2] = ["infinity-open", "infinity-open-patchify"];

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(name)
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn floats(view: &TensorView<'_>) -> Vec<f32> {
    match view.dtype() {
        Dtype::F16 => view
            .data()
            .chunks_exact(2)
            .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
            .collect(),
        Dtype::F32 => view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn integers(view: &TensorView<'_>) -> Vec<i64> {
    match view.dtype() {
        Dtype::I32 => view
            .data()
            .chunks_exact(4)
            .map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .collect(),
        Dtype::I64 => view
            .data()
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// The case's encoder with its weights on `device`.
fn encoder(case: &str, device: &Device) -> T5Encoder {
    let config = T5Config::open(&golden(&format!("{case}/t5/config.json"))).unwrap();
    let bytes = read(&format!("{case}/t5/model.safetensors"));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut encoder = T5Encoder::new(&config, device);
    let mut slots = encoder.all_slots();
    for slot in &mut slots.list {
        let view = file.tensor(&slot.name).unwrap();
        assert_eq!(view.shape(), slot.shape, "{}", slot.name);
        slot.fill(floats(&view), device);
    }
    assert_eq!(file.len(), slots.list.len());
    drop(slots);
    encoder
}

fn tokenizer(case: &str, max_length: usize) -> PromptTokenizer {
    PromptTokenizer::open(&golden(&format!("{case}/t5/tokenizer.json")), max_length).unwrap()
}

fn case_json(case: &str) -> serde_json::Value {
    serde_json::from_slice(&read(&format!("{case}/config.json"))).unwrap()
}

/// The recorded ids without padding.
fn recorded_ids(io: &SafeTensors<'_>, prefix: &str) -> Vec<Vec<u32>> {
    let view = io.tensor(&format!("text/{prefix}input_ids")).unwrap();
    let mask = integers(&io.tensor(&format!("text/{prefix}attention_mask")).unwrap());
    let length = view.shape()[1];
    let rows = integers(&view);
    rows.chunks(length)
        .zip(mask.chunks(length))
        .map(|(ids, mask)| {
            let kept = ids.iter().zip(mask).filter(|(_, mask)| **mask == 1);
            kept.map(|(id, _)| u32::try_from(*id).unwrap()).collect()
        })
        .collect()
}

/// Largest difference between the recorded hidden states and ours, over real tokens.
fn hidden_gap(case: &str, prefix: &str, device: &Device) -> f32 {
    let bytes = read(&format!("{case}/io.safetensors"));
    let io = SafeTensors::deserialize(&bytes).unwrap();
    let ids = recorded_ids(&io, prefix);
    let view = io
        .tensor(&format!("text/{prefix}t5_last_hidden_state"))
        .unwrap();
    let [length, width] = [view.shape()[1], view.shape()[2]];
    let wanted = floats(&view);
    let features = encoder(case, device).forward(&ids);
    let longest = features.padded.dims()[1];
    let got = features.padded.try_to_vec_as::<f32>().unwrap();
    let mut gap = 0.0_f32;
    for (row, len) in features.lens.iter().enumerate() {
        let wanted = &wanted[row * length * width..][..len * width];
        let got = &got[row * longest * width..][..len * width];
        gap = got
            .iter()
            .zip(wanted)
            .map(|(a, b)| (a - b).abs())
            .fold(gap, f32::max);
        assert!(got.iter().all(|value| value.is_finite()));
    }
    gap
}

#[test]
fn hidden_states_match() {
    for case in CASES {
        for prefix in ["", "neg_"] {
            let gap = hidden_gap(case, prefix, &Device::flex());
            println!("text golden: {case} {prefix}hidden states, max error {gap:e}");
            assert!(gap < 1e-4, "{case} {prefix}: {gap}");
        }
    }
}

#[test]
fn hidden_states_match_while_training() {
    let gap = hidden_gap(CASES[0], "", &Device::flex().autodiff());
    assert!(gap < 1e-4, "{gap}");
}

#[test]
fn ids_match() {
    for case in CASES {
        let json = case_json(case);
        let max_length = json["t5"]["max_length"].as_u64().unwrap() as usize;
        let tokenizer = tokenizer(case, max_length);
        let config = T5Config::open(&golden(&format!("{case}/t5/config.json"))).unwrap();
        assert!(tokenizer.id_limit() <= config.vocab_size);
        let bytes = read(&format!("{case}/io.safetensors"));
        let io = SafeTensors::deserialize(&bytes).unwrap();
        let prompts = json["prompts"].as_array().unwrap().iter();
        let ids: Vec<Vec<u32>> = prompts
            .map(|prompt| tokenizer.encode(prompt.as_str().unwrap()).unwrap())
            .collect();
        assert_eq!(ids, recorded_ids(&io, ""), "{case}");
        let negative = json["negative_prompt"].as_str().unwrap();
        let ids = tokenizer.encode(negative).unwrap();
        assert_eq!(vec![ids], recorded_ids(&io, "neg_"), "{case}");
    }
}

#[test]
fn odd_prompts_have_ids() {
    for case in CASES {
        let tokenizer = tokenizer(case, 24);
        assert_eq!(tokenizer.encode("").unwrap(), [1]);
        for prompt in [
            "🦊 a fox 👩‍👩‍👧 with 🏳️‍🌈",
            "قطة حمراء على الطاولة",
            "\u{202e}reversed\u{202c} שלום",
            "\0\u{feff}\n\t",
            &"snow on the wall ".repeat(1250),
            &"x".repeat(20_000),
        ] {
            let ids = tokenizer.encode(prompt).unwrap();
            assert!((1..=24).contains(&ids.len()), "{}", ids.len());
            assert_eq!(ids.last(), Some(&1));
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.id_limit()));
        }
        let long = tokenizer.encode(&"snow on the wall ".repeat(1250)).unwrap();
        assert_eq!(long.len(), 24);
    }
}

#[test]
fn position_classes_match() {
    let bytes = read("extras.safetensors");
    let extras = SafeTensors::deserialize(&bytes).unwrap();
    let distances = integers(&extras.tensor("t5/rel").unwrap());
    let wanted = integers(&extras.tensor("t5/bucket").unwrap());
    assert_eq!(distances.len(), 601);
    for (distance, wanted) in distances.into_iter().zip(wanted) {
        let far = distance.unsigned_abs() as usize;
        let (query, key) = if distance > 0 { (0, far) } else { (far, 0) };
        assert_eq!(bucket(query, key) as i64, wanted, "{distance}");
    }
}
