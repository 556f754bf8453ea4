//! Vectors for single functions, from `extras.safetensors`.
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
use infinity_engine::device::OpenDevice;
use infinity_engine::generate::sampling::Rule;
use infinity_engine::resize::{Filter, Resize};
use infinity_engine::schedule::Scale;
use infinity_engine::text::bucket;
use infinity_engine::train::vae_loss::{bit_entropies, quantise, zero_probability};
use infinity_tests::tolerance::{Array, Arrays};

use super::case::{tensor, to_host};

/// The tensors of `group` made from its inputs in `recorded`.
pub(crate) fn produce(recorded: &Arrays, group: &str, device: &OpenDevice) -> Arrays {
    match group {
        "sampling" => sampling(recorded),
        "resize" => resize(recorded),
        "bsqloss" => tokenizer_loss(recorded, device),
        "t5" => buckets(recorded),
        _ => Arrays::new(),
    }
}

/// Whether `name` is given to the engine and not asked of it.
pub(crate) fn is_input(name: &str) -> bool {
    let inputs = [
        "sampling/logits",
        "resize/input",
        "resize/small_input",
        "t5/rel",
    ];
    inputs.contains(&name) || name.starts_with("bsqloss/") && name.ends_with("/z")
}

fn sampling(recorded: &Arrays) -> Arrays {
    let logits = &recorded["sampling/logits"];
    let rules = [
        (
            "k900_p097",
            Rule {
                top_k: 900,
                top_p: 0.97,
            },
        ),
        (
            "k0_p0",
            Rule {
                top_k: 0,
                top_p: 0.0,
            },
        ),
        (
            "k1_p0",
            Rule {
                top_k: 1,
                top_p: 0.0,
            },
        ),
        (
            "k2_p05",
            Rule {
                top_k: 2,
                top_p: 0.5,
            },
        ),
        (
            "k0_p090",
            Rule {
                top_k: 0,
                top_p: 0.9,
            },
        ),
    ];
    let probabilities = |rule: Rule| {
        let pairs = logits.floats();
        let ones = pairs
            .chunks_exact(2)
            .map(|pair| rule.probability(pair[0], pair[1]));
        Array::float(&logits.shape, ones.flat_map(|p| [1.0 - p, p]).collect())
    };
    rules
        .map(|(name, rule)| (format!("sampling/probs_{name}"), probabilities(rule)))
        .into()
}

fn resize(recorded: &Arrays) -> Arrays {
    let mut arrays = Arrays::new();
    for (name, expected) in recorded
        .iter()
        .filter(|(name, _)| name.starts_with("resize/") && !is_input(name))
    {
        let filter = if name.contains("area_") {
            Filter::Area
        } else {
            Filter::Bilinear
        };
        let input = &recorded[if name.contains("small_") {
            "resize/small_input"
        } else {
            "resize/input"
        }];
        let resized = Resize::new(
            filter,
            (input.shape[2], input.shape[3]),
            (expected.shape[2], expected.shape[3]),
        );
        arrays.insert(
            name.clone(),
            Array::float(&expected.shape, resized.apply(&input.floats())),
        );
    }
    arrays
}

fn tokenizer_loss(recorded: &Arrays, device: &OpenDevice) -> Arrays {
    let mut arrays = Arrays::new();
    for name in recorded
        .keys()
        .filter(|name| name.starts_with("bsqloss/") && name.ends_with("/z"))
    {
        let z = &recorded[name];
        let [batch, places, one, d] = z.shape[..] else {
            panic!("{name} has four axes")
        };
        let mut training = device.clone();
        training.device = device.device.clone().autodiff();
        let z: Tensor<4> = tensor(z, &training).require_grad(); // [B, n, 1, d]
        let features = z.clone().permute([0, 3, 1, 2]);
        let scale = Scale { h: places, w: one };
        let quantised = quantise(features.clone(), &[scale], &[true]);
        let loss = quantised.commitment.clone() * 0.25 + quantised.entropy * 0.1;
        let gradients = loss.clone().backward();
        let gradient = z.grad(&gradients).expect("a gradient");

        let flat = features.detach().reshape([batch, d, places]);
        let unit = flat.clone() / flat.square().sum_dim(1).sqrt();
        let zero = to_host(zero_probability(unit.clone()).mean_dim(0).mean_dim(2)).floats();
        let (per_place, of_mean) = bit_entropies(unit);
        let mut put = |part: &str, array| arrays.insert(name.replace("/z", part), array);
        put(
            "/avg_prob",
            Array::float(&[d, 2], zero.iter().flat_map(|p| [*p, 1.0 - p]).collect()),
        );
        put("/per_sample_entropy", to_host(per_place));
        put("/codebook_entropy", to_host(of_mean));
        put("/commit", to_host(quantised.commitment));
        put("/aux", to_host(loss));
        put("/aux_grad_z", to_host(gradient));
    }
    arrays
}

fn buckets(recorded: &Arrays) -> Arrays {
    let distances = recorded["t5/rel"].wholes();
    let classes = distances.iter().map(|&distance| {
        let far = distance.unsigned_abs() as usize;
        let (query, key) = if distance > 0 { (0, far) } else { (far, 0) };
        bucket(query, key) as i64
    });
    Arrays::from([(
        "t5/bucket".to_owned(),
        Array::whole(&[distances.len()], classes),
    )])
}
