//! What the engine makes of a case, under the names of the recorded tensors.
//!
//! Every group of tensors has a function that starts from recorded inputs as
//! late as it can, so that a fault shows where it is and not downstream.
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
use infinity_engine::api::EngineError;
use infinity_engine::generate::{Outcome, ScaleView, Texts, Watcher, generate};
use infinity_engine::model::{Rope, angles};
use infinity_engine::schedule::Scale;
use infinity_engine::text::TextFeatures;
use infinity_engine::vae::bsq::{self, ResidualSum};
use infinity_tests::tolerance::{Array, Arrays, Values};

use super::case::{Case, Networks, size, sizes, tensor, to_device, to_host};

/// The tensors of `group`, the part of their names before the first slash.
pub(crate) fn produce(case: &Case, networks: &Networks, group: &str) -> Arrays {
    match group {
        "text" => text(case, networks),
        "cond" => condition(case, networks),
        "rope" => rope(case, networks),
        "vae" => vae(case, networks),
        "bsc" => super::train::self_correction(case),
        "train" => super::train::training(case, networks),
        run if case.runs().iter().any(|known| known == run) => {
            let (text, negative) = recorded_text(case, networks, run);
            draw(case, networks, run, text, negative)
        }
        _ => Arrays::new(),
    }
}

fn text(case: &Case, networks: &Networks) -> Arrays {
    let mut arrays = Arrays::new();
    for (prefix, prompts) in [
        ("text/", case.prompts()),
        ("text/neg_", vec![case.negative_prompt()]),
    ] {
        let recorded = case.recorded(&format!("{prefix}t5_last_hidden_state"));
        let [rows, tokens, channels] = recorded.shape[..] else {
            panic!("features have three axes")
        };
        let ids: Vec<Vec<u32>> = prompts
            .iter()
            .map(|prompt| networks.tokenizer.encode(prompt).unwrap())
            .collect();
        let padded = |f: fn(u32) -> u32| {
            let row = |ids: &Vec<u32>| {
                (0..tokens)
                    .map(|i| ids.get(i).copied().map_or(0, f))
                    .collect::<Vec<u32>>()
            };
            Array::whole(&[rows, tokens], ids.iter().flat_map(row))
        };
        arrays.insert(format!("{prefix}input_ids"), padded(|id| id));
        arrays.insert(format!("{prefix}attention_mask"), padded(|_| 1));
        let features = networks.text.forward(&ids);
        let longest = features.padded.dims()[1];
        let got = to_host(features.padded).floats();
        // Rows of padding mean nothing, here and there: they are left as recorded.
        let mut values = recorded.floats();
        for (row, len) in features.lens.into_iter().enumerate() {
            let from = row * longest * channels;
            values[row * tokens * channels..][..len * channels]
                .copy_from_slice(&got[from..from + len * channels]);
        }
        arrays.insert(
            format!("{prefix}t5_last_hidden_state"),
            Array::float(&recorded.shape, values),
        );
    }
    arrays
}

/// Rows `[R, T, C]` without their padding, one after the other, `[sum of lens, C]`.
fn packed(rows: Tensor<3>, lens: &[usize]) -> Array {
    let [_, tokens, channels] = rows.dims();
    let values = to_host(rows).floats();
    let own = values
        .chunks_exact(tokens * channels)
        .zip(lens)
        .flat_map(|(row, len)| row[..len * channels].to_vec());
    Array::float(&[lens.iter().sum(), channels], own.collect())
}

fn condition(case: &Case, networks: &Networks) -> Arrays {
    let text = case.text_features("text/", &[0, 1], &networks.device);
    let tokens = text.padded.dims()[1];
    let transformer = &networks.transformer;
    let features = Tensor::cat(
        vec![text.padded, transformer.unconditional(&text.lens, tokens)],
        0,
    );
    let lens = [text.lens.clone(), text.lens].concat();
    let offsets = lens.iter().scan(0, |sum, len| {
        *sum += *len as u32;
        Some(*sum)
    });
    let mut normed = packed(transformer.normalise_text(features.clone()), &lens);
    let width = normed.shape[1];
    normed = Array::float(&[4, width], normed.floats()[..4 * width].to_vec());
    let condition = transformer.condition(features, &lens);
    let [rows, six, width] = condition.shared_ada.dims();
    Arrays::from([
        (
            "cond/cu_seqlens".to_owned(),
            Array::whole(&[lens.len() + 1], std::iter::once(0).chain(offsets)),
        ),
        ("cond/text_norm_out".to_owned(), normed),
        ("cond/sos_cond_BD".to_owned(), to_host(condition.summary)),
        ("cond/ca_kv".to_owned(), packed(condition.text, &lens)),
        (
            "cond/shared_ada".to_owned(),
            to_host(condition.shared_ada.reshape([rows, 1, six, width])),
        ),
    ])
}

/// Tables by schedule, read off from turned unit vectors and checked against the angles.
fn rope(case: &Case, networks: &Networks) -> Arrays {
    let mut arrays = Arrays::new();
    let width = networks.transformer.config.head_width();
    for name in case.config["schedules"]
        .as_object()
        .expect("schedules")
        .keys()
    {
        let schedule = case.schedule(name);
        let tokens = schedule.tokens();
        let device = &networks.device;
        let table = Rope::new(&schedule, 0..schedule.scales.len(), width, &device.device);
        let units: Vec<f32> = (0..tokens * width)
            .map(|i| if i % 2 == 0 { 1.0 } else { 0.0 })
            .collect();
        let turned = to_host(table.turn(to_device(units, [1, 1, tokens, width], device))).floats();
        let scales = schedule.scales.iter();
        let angles: Vec<f32> = scales
            .flat_map(|&scale| angles(scale, schedule.rope_base, width))
            .collect();
        for (part, first, f) in [("cos", 0, f32::cos as fn(f32) -> f32), ("sin", 1, f32::sin)] {
            let values: Vec<f32> = turned.iter().skip(first).step_by(2).copied().collect();
            let apart = values
                .iter()
                .zip(&angles)
                .map(|(value, angle)| (value - f(*angle)).abs())
                .fold(0.0, f32::max);
            assert!(apart < 1e-5, "tables and angles are {apart} apart");
            arrays.insert(
                format!("rope/{name}/{part}"),
                Array::float(&[tokens, width / 2], values),
            );
        }
    }
    arrays
}

fn vae(case: &Case, networks: &Networks) -> Arrays {
    let features = networks
        .vae
        .encode(tensor(case.recorded("vae/image_pm1"), &networks.device));
    let [_, d, h, w] = features.dims();
    let features = to_host(features);
    let scales: Vec<Scale> = (0..)
        .map_while(|index| case.io.get(&format!("vae/s{index}/bit_labels")))
        .map(|labels| Scale {
            h: labels.shape[2],
            w: labels.shape[3],
        })
        .collect();
    let (bits, sum) = bsq::encode(&features.floats(), d, &scales);
    let mut arrays = Arrays::new();
    for (index, (bits, scale)) in bits.iter().zip(&scales).enumerate() {
        let labels = Array::whole(&[1, 1, scale.h, scale.w, d], bits.iter().copied());
        arrays.insert(format!("vae/s{index}/bit_labels"), labels);
    }
    let quantised = Array::float(&[1, d, h, w], sum.latents().to_vec());
    let pixels = networks.vae.decode(tensor(&quantised, &networks.device));
    arrays.insert("vae/encoder_features".to_owned(), features);
    arrays.insert("vae/z_quantized".to_owned(), quantised);
    arrays.insert("vae/recon_pm1".to_owned(), to_host(pixels));
    arrays
}

/// Text of run `run` as recorded: the prompts' and the negative prompt's, if it has one.
fn recorded_text(
    case: &Case,
    networks: &Networks,
    run: &str,
) -> (TextFeatures, Option<TextFeatures>) {
    let settings = &case.config["runs"][run];
    let which = sizes(&settings["prompt_indices"]);
    let negative = settings["negative"].as_bool().unwrap_or(false);
    (
        case.text_features("text/", &which, &networks.device),
        negative.then(|| case.text_features("text/neg_", &vec![0; which.len()], &networks.device)),
    )
}

/// The tensors of run `run`, all the way from the words of its prompts.
pub(crate) fn from_words(case: &Case, networks: &Networks, run: &str) -> Arrays {
    let settings = &case.config["runs"][run];
    let prompts = case.prompts();
    let which = sizes(&settings["prompt_indices"]);
    let text = networks.encode(&which.iter().map(|&i| prompts[i]).collect::<Vec<&str>>());
    let negative = settings["negative"].as_bool().unwrap_or(false);
    let negative = negative.then(|| networks.encode(&vec![case.negative_prompt(); which.len()]));
    draw(case, networks, run, text, negative)
}

/// Writes down everything that a run shows.
struct Recorder<'a> {
    run: &'a str,
    bits: usize,
    arrays: Arrays,
}

impl Watcher for Recorder<'_> {
    fn looks_inside(&self) -> bool {
        true
    }

    fn tensor(&mut self, index: usize, name: &str, tensor: &Tensor<3>) {
        self.arrays.insert(
            format!("{}/s{index}/{name}", self.run),
            to_host(tensor.clone()),
        );
    }

    fn scale(&mut self, view: &ScaleView<'_>) -> Result<(), EngineError> {
        let (rows, tokens) = (view.bits.len(), view.scale.tokens());
        let mut put = |name: &str, array| {
            self.arrays
                .insert(format!("{}/s{}/{name}", self.run, view.index), array)
        };
        put(
            "logits",
            Array::float(&[rows, tokens, 2 * self.bits], view.logits.concat()),
        );
        put(
            "bits",
            Array::whole(&[rows, tokens, self.bits], view.bits.concat()),
        );
        let sums: Vec<f32> = view
            .sums
            .iter()
            .flat_map(|sum| sum.latents().to_vec())
            .collect();
        put(
            "summed_codes",
            Array {
                shape: Vec::new(),
                values: Values::Float(sums),
            },
        );
        Ok(())
    }
}

fn draw(
    case: &Case,
    networks: &Networks,
    run: &str,
    text: TextFeatures,
    negative: Option<TextFeatures>,
) -> Arrays {
    let plan = case.plan(run);
    let config = &networks.transformer.config;
    let mut recorder = Recorder {
        run,
        bits: config.token_bits(),
        arrays: Arrays::new(),
    };
    let texts = Texts {
        negative,
        ..text.into()
    };
    let outcome = generate(&networks.transformer, &texts, &plan, &mut recorder).unwrap();
    let Outcome::Done(sums) = outcome else {
        panic!("cancelled by nobody")
    };
    let last = plan.schedule.last();
    let code_map = Scale {
        h: case.fold() * last.h,
        w: case.fold() * last.w,
    };
    let shape = [sums.len(), config.codebook_dim, code_map.h, code_map.w];
    let mut arrays = recorder.arrays;
    for (name, array) in &mut arrays {
        if name.ends_with("/summed_codes") {
            array.shape = shape.to_vec();
        }
    }
    let latents: Vec<f32> = sums
        .iter()
        .flat_map(|sum: &ResidualSum| sum.latents().to_vec())
        .collect();
    arrays.insert(format!("{run}/final_codes"), Array::float(&shape, latents));
    let (image, corner) = (
        format!("{run}/image01"),
        format!("{run}/image_u8_bgr_corner"),
    );
    if case.io.contains_key(&image) || case.io.contains_key(&corner) {
        let first = sums[0].latents();
        let latents = to_device(
            first.to_vec(),
            [1, config.codebook_dim, code_map.h, code_map.w],
            &networks.device,
        );
        let pixels = (networks.vae.decode(latents) + 1.0) / 2.0;
        arrays.insert(image, to_host(pixels));
        let picture = networks.vae.picture(first, code_map).unwrap();
        let places = (0..8).flat_map(|y| (0..8).map(move |x| (x, y)));
        let bgr = places.flat_map(|(x, y)| picture.pixel(x, y).unwrap().into_iter().rev());
        arrays.insert(corner, Array::whole(&[1, 8, 8, 3], bgr));
    }
    arrays
}

/// The schedule of a part of config.json that names one.
pub(crate) fn schedule_of(case: &Case, part: &str) -> infinity_engine::schedule::ScaleSchedule {
    case.schedule(case.config[part]["schedule"].as_str().expect("schedule"))
}

/// Which prompts the training step is recorded for.
pub(crate) fn training_prompts(case: &Case) -> Vec<usize> {
    case.config["train"]["prompt_indices"]
        .as_array()
        .map(|list| list.iter().map(size).collect())
        .expect("prompt_indices")
}

/// Whether the file of a case holds all that its settings promise.
pub(crate) fn check_complete(case: &Case) -> Result<(), String> {
    let mut wanted: Vec<String> = Vec::new();
    let mut want = |group: &str, names: &[&str]| {
        wanted.extend(names.iter().map(|name| format!("{group}/{name}")));
    };
    want(
        "text",
        &["input_ids", "attention_mask", "t5_last_hidden_state"],
    );
    want(
        "text",
        &[
            "neg_input_ids",
            "neg_attention_mask",
            "neg_t5_last_hidden_state",
        ],
    );
    want(
        "cond",
        &[
            "cu_seqlens",
            "text_norm_out",
            "sos_cond_BD",
            "ca_kv",
            "shared_ada",
        ],
    );
    want(
        "vae",
        &["image_pm1", "encoder_features", "z_quantized", "recon_pm1"],
    );
    want("bsc", &["raw_features", "x_BLC_wo_prefix", "labels"]);
    want(
        "train",
        &[
            "logits",
            "token_loss",
            "loss_uniform",
            "loss_reweighted",
            "loss_sum_bits",
            "logits_sample1_uncond",
        ],
    );
    for run in case.runs() {
        want(&run, &["final_codes"]);
        for index in 0..case.plan(&run).schedule.scales.len() {
            let scale = format!("{run}/s{index}");
            want(&scale, &["logits", "bits"]);
            if index > 0 {
                want(&scale, &["input_features"]);
            }
        }
    }
    for (part, labels, first_only) in [("vae", "bit_labels", 0), ("bsc", "flip_mask", 1)] {
        let scales = schedule_of(case, "bsc").scales.len() - first_only;
        for index in 0..scales {
            want(&format!("{part}/s{index}"), &[labels]);
        }
    }
    wanted.retain(|name| !case.io.contains_key(name));
    if wanted.is_empty() {
        Ok(())
    } else {
        Err(format!("io.safetensors has no {}", wanted.join(", ")))
    }
}
