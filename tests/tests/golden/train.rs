//! The transformer's training step.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a test stops at the first surprise"
)]

use burn::tensor::Tensor;
use infinity_engine::train::self_correction::{Lesson, lesson};
use infinity_engine::train::transformer_loss::bit_loss;
use infinity_tests::tolerance::{Array, Arrays};

use super::case::{Case, Networks, tensor, to_host};
use super::stages::{schedule_of, training_prompts};

/// What self-correction makes of recorded features under recorded flips; host code, the same on every device.
fn lessons(case: &Case) -> Vec<Lesson> {
    let scales = schedule_of(case, "bsc").scales;
    let features = case.recorded("bsc/raw_features");
    let [rows, d, h, w] = features.shape[..] else {
        panic!("features have four axes")
    };
    let values = features.floats();
    let maps = values.chunks_exact(d * h * w).enumerate();
    maps.map(|(row, map)| {
        lesson(
            map,
            d,
            &scales,
            case.model_config().patchify,
            |index, bits| {
                let Some(mask) = case.io.get(&format!("bsc/s{index}/flip_mask")) else {
                    return;
                };
                let flips = mask.wholes();
                let own = flips.len() / rows;
                assert_eq!(own, bits.len(), "flip mask of scale {index}");
                for (bit, flip) in bits.iter_mut().zip(&flips[row * own..]) {
                    *bit ^= *flip as u8;
                }
            },
        )
    })
    .collect()
}

pub(crate) fn self_correction(case: &Case) -> Arrays {
    let lessons = lessons(case);
    let (rows, bits) = (lessons.len(), case.model_config().token_bits());
    let tokens = schedule_of(case, "bsc").tokens();
    let inputs: Vec<f32> = lessons
        .iter()
        .flat_map(|lesson| lesson.inputs.clone())
        .collect();
    let labels = lessons.iter().flat_map(|lesson| lesson.labels.clone());
    Arrays::from([
        (
            "bsc/x_BLC_wo_prefix".to_owned(),
            Array::float(&[rows, tokens - 1, bits], inputs),
        ),
        (
            "bsc/labels".to_owned(),
            Array::whole(&[rows, tokens, bits], labels),
        ),
    ])
}

/// Logits and losses of the training pass over recorded inputs and labels.
pub(crate) fn training(case: &Case, networks: &Networks) -> Arrays {
    let (transformer, device) = (&networks.transformer, &networks.device);
    let schedule = schedule_of(case, "train");
    let text = case.text_features("text/", &training_prompts(case), device);
    let inputs: Tensor<3> = tensor(case.recorded("bsc/x_BLC_wo_prefix"), device);
    let labels = case.recorded("bsc/labels");
    let [rows, tokens, bits] = labels.shape[..] else {
        panic!("labels have three axes")
    };
    let mut arrays = Arrays::new();

    let len = text.lens[1];
    let dropped = transformer.condition(
        transformer.unconditional(&[len], text.padded.dims()[1]),
        &[len],
    );
    let second = inputs.clone().narrow(0, 1, 1);
    let logits = transformer.forward_all(&dropped, Some(second), &schedule);
    arrays.insert("train/logits_sample1_uncond".to_owned(), to_host(logits));

    let condition = transformer.condition(text.padded, &text.lens);
    let logits = transformer.forward_all(&condition, Some(inputs), &schedule);
    arrays.insert("train/logits".to_owned(), to_host(logits.clone()));

    let labels: Vec<u8> = labels.wholes().into_iter().map(|bit| bit as u8).collect();
    let labels = labels.chunks_exact(tokens * bits);
    let lessons: Vec<Lesson> = labels
        .map(|own| Lesson {
            labels: own.to_vec(),
            ..Lesson::default()
        })
        .collect();
    let loss = bit_loss(logits, &lessons);
    let per_token = loss.per_bit.clone().mean_dim(2).reshape([rows, tokens]);
    arrays.insert("train/token_loss".to_owned(), to_host(per_token));
    let uniform = loss.total(&schedule, false, 0);
    // The engine minimises the mean over bits; their sum is that many times as much.
    arrays.insert(
        "train/loss_sum_bits".to_owned(),
        to_host(uniform.clone() * bits as f32),
    );
    arrays.insert("train/loss_uniform".to_owned(), to_host(uniform));
    arrays.insert(
        "train/loss_reweighted".to_owned(),
        to_host(loss.total(&schedule, true, 0)),
    );
    arrays
}
