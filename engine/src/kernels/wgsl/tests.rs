//! Shaders against their definition: on the software driver at odd sizes, and as text without any driver.

mod attention;
mod units;

use burn::tensor::{DType, Device, Tensor, TensorData, activation};

use super::super::{Precision, Room, Then, with_precision};
use super::bridge::Shader;
use crate::api::DeviceChoice;
use crate::model::Rope;
use crate::random::Stream;
use crate::schedule::ScaleSchedule;
use crate::{device, layers, model, vae};

fn software() -> Option<Device> {
    if let Ok(open) = device::open(DeviceChoice::Software) {
        return Some(open.device);
    }
    eprintln!("SKIPPED: no software graphics driver");
    None
}

fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let stream = Stream::new(seed, 11);
    let count = shape.iter().product::<usize>() as u64;
    let values: Vec<f32> = (0..count).map(|i| stream.normal(i) as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Compares what `f` makes with shaders on the software driver, where they must have been used, with what tensor
/// operations make of the same numbers on the processor.
fn compare<const D: usize>(
    name: &str,
    software: &Device,
    f: &dyn Fn(&Device) -> Option<Tensor<D>>,
    definition: &dyn Fn(&Device) -> Tensor<D>,
) {
    compare_within(2e-5, name, software, f, definition);
}

/// As [`compare`], to a difference of `most_apart` of the largest value.
fn compare_within<const D: usize>(
    most_apart: f32,
    name: &str,
    software: &Device,
    f: &dyn Fn(&Device) -> Option<Tensor<D>>,
    definition: &dyn Fn(&Device) -> Tensor<D>,
) {
    let values = |tensor: Tensor<D>| tensor.try_into_vec_as::<f32>().unwrap();
    let found = f(software).unwrap_or_else(|| panic!("{name}: no shader applied"));
    let wanted = with_precision(Precision::Off, || definition(&Device::flex()));
    assert_eq!(found.dims(), wanted.dims(), "{name}");
    let (found, wanted) = (values(found), values(wanted));
    let most = wanted.iter().fold(1e-6_f32, |most, v| most.max(v.abs()));
    let apart = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs() / most);
    let apart = apart.fold(0.0, |most: f32, v| {
        if v.is_nan() {
            f32::INFINITY
        } else {
            most.max(v)
        }
    });
    assert!(apart < most_apart, "{name}: {apart:e} apart");
}

#[test]
fn gelu_is_its_definition() {
    let Some(software) = software() else { return };
    for shape in [[1, 1, 1], [3, 7, 37], [2, 257, 65]] {
        let x = |device: &Device| random(shape, 1, device) * 4.0;
        compare(
            "gelu",
            &software,
            &|device| super::gelu_tanh(&x(device)),
            &|device| layers::gelu_tanh(x(device)),
        );
    }
    // Numbers on which drivers have been seen to fail.
    let far = |device: &Device| {
        let values = [-1e4, -30.0, -1e-30, 0.0, 1e-30, 30.0, 1e4, 3e38];
        Tensor::<1>::from_floats(values, device)
    };
    compare(
        "gelu, far",
        &software,
        &|device| super::gelu_tanh(&far(device)),
        &|device| layers::gelu_tanh(far(device)),
    );
}

#[test]
fn what_becomes_of_products_is_its_definition() {
    let Some(software) = software() else { return };
    for [rows, length, width] in [[1, 1, 1], [3, 7, 37], [2, 5, 36], [2, 131, 260]] {
        for (biased, which) in [false, true]
            .into_iter()
            .flat_map(|b| (0..4).map(move |w| (b, w)))
        {
            let make = |device: &Device, is_shader: bool| {
                let y: Tensor<3> = random([rows, length, width], 1, device) * 2.0;
                let bias: Tensor<1> = random([width], 2, device);
                let to = random([rows, length, width], 3, device);
                let gate = random([rows, 1, width], 4, device);
                let then = match which {
                    0 => Then::Gelu,
                    1 => Then::Scaled(0.3),
                    2 => Then::Added(&to, None),
                    _ => Then::Added(&to, Some(&gate)),
                };
                let bias = biased.then_some(&bias);
                if is_shader {
                    super::finish(&y, bias, then)
                } else {
                    Some(layers::finished(y, bias, then))
                }
            };
            compare(
                "what becomes of a product",
                &software,
                &|device| make(device, true),
                &|device| make(device, false).unwrap(),
            );
        }
    }
}

#[test]
fn layer_norms_are_their_definition() {
    let Some(software) = software() else { return };
    for ([rows, length, width], own) in [
        ([1, 1, 5], 1),
        ([3, 5, 67], 3),
        ([2, 9, 160], 1),
        ([2, 65, 33], 2),
    ] {
        let inputs = |device: &Device| {
            // Far from zero, where a careless variance loses its digits.
            let x = random([rows, length, width], 1, device) + 50.0;
            (
                x,
                random([own, 1, width], 2, device),
                random([own, 1, width], 3, device),
            )
        };
        compare(
            "layer norm",
            &software,
            &|device| {
                let (x, scale, shift) = inputs(device);
                super::layer_norm(&x, &scale, &shift, 1.0, 1e-6)
            },
            &|device| {
                let (x, scale, shift) = inputs(device);
                layers::scaled_norm(&x, &scale, &shift, 1.0, 1e-6)
            },
        );
    }
}

#[test]
fn turns_are_their_definition() {
    let Some(software) = software() else { return };
    let schedule = ScaleSchedule::nearest(1.5, 4).unwrap();
    let length = schedule.tokens();
    for (heads, head_width) in [(1, 8), (5, 32), (3, 128), (17, 4), (2, 96), (1, 256)] {
        let inputs = |device: &Device| {
            let qkv: Tensor<3> = random([2, length, 3 * heads * head_width], 1, device);
            // Some lengths beyond what they are held to.
            let lengths: Tensor<4> = random([1, heads, 1, 1], 2, device) * 3.0;
            (qkv, lengths, Rope::new(&schedule, 0..4, head_width, device))
        };
        compare::<5>(
            "turn",
            &software,
            &|device| {
                let (qkv, lengths, rope) = inputs(device);
                super::turn(&qkv, &lengths, rope.device_turns())
                    .map(|all| Tensor::stack(all.to_vec(), 0))
            },
            &|device| {
                let (qkv, lengths, rope) = inputs(device);
                Tensor::stack(model::split_and_turn(qkv, &lengths, &rope).to_vec(), 0)
            },
        );
        // Into room for more, some of which is taken, in either precision; what was there stays.
        for kept in [DType::F32, DType::F16] {
            let room = |device: &Device| {
                let shape = [2, heads, length + 5, head_width];
                let [keys, values] = [3, 4].map(|seed| random(shape, seed, device).cast(kept));
                Room {
                    keys,
                    values,
                    first: 3,
                }
            };
            let all = |query: Tensor<4>, keys: Tensor<4>, values: Tensor<4>| {
                let rooms = [keys, values].map(|t| t.cast(DType::F32));
                Tensor::cat([&[query][..], &rooms].concat(), 2)
            };
            compare_within(
                if kept == DType::F16 { 1e-3 } else { 2e-5 },
                "turn into room",
                &software,
                &|device| {
                    let (qkv, lengths, rope) = inputs(device);
                    let turns = rope.device_turns();
                    let (query, room) = super::turn_into(&qkv, &lengths, turns, room(device));
                    Some(all(query?, room.keys, room.values))
                },
                &|device| {
                    let (qkv, lengths, rope) = inputs(device);
                    let [query, keys, values] = model::split_and_turn(qkv, &lengths, &rope);
                    let room = room(device);
                    let put = |room: Tensor<4>, own: Tensor<4>| {
                        let places = [0..2, 0..heads, 3..3 + length, 0..head_width];
                        room.slice_assign(places, own.cast(kept))
                    };
                    all(query, put(room.keys, keys), put(room.values, values))
                },
            );
        }
    }
}

#[test]
fn group_norms_are_their_definition() {
    let Some(software) = software() else { return };
    for ([batch, channels, height, width], groups) in [
        ([1, 4, 1, 3], 2),
        ([2, 6, 5, 7], 3),
        ([1, 64, 51, 53], 32),
        ([2, 32, 97, 31], 1),
    ] {
        let inputs = |device: &Device| {
            (
                random([batch, channels, height, width], 1, device) + 20.0,
                random([channels], 2, device),
                random([channels], 3, device),
            )
        };
        compare(
            "group norm",
            &software,
            &|device| {
                let (x, scale, shift) = inputs(device);
                super::group_norm_silu(&x, groups, &scale, &shift, 1e-6)
            },
            &|device| {
                let (x, scale, shift) = inputs(device);
                let grouped =
                    x.clone()
                        .reshape([batch, groups, channels / groups * height * width]);
                let normal = layers::layer_norm(grouped, 1e-6).reshape(x.dims());
                let [scale, shift] =
                    [scale, shift].map(|values| values.reshape([1, channels, 1, 1]));
                activation::silu(normal * scale + shift)
            },
        );
    }
}

#[test]
fn convolutions_are_their_definition() {
    let Some(software) = software() else { return };
    for ([batch, inputs, height, width], outputs, side, double) in [
        ([1, 1, 1, 1], 16, 3, false),
        ([2, 3, 7, 11], 17, 3, false),
        ([1, 37, 9, 13], 65, 3, false),
        ([2, 16, 5, 6], 33, 3, true),
        ([1, 20, 12, 9], 70, 1, false),
        ([1, 5, 6, 7], 19, 3, true),
    ] {
        let inputs = |device: &Device| {
            (
                random([batch, inputs, height, width], 1, device),
                random([outputs, inputs, side, side], 2, device),
                random([outputs], 3, device),
            )
        };
        compare(
            "convolution",
            &software,
            &|device| {
                let (x, weight, bias) = inputs(device);
                super::conv(&x, &weight, &bias, double)
            },
            &|device| {
                let (x, weight, bias) = inputs(device);
                vae::convolve(x, &weight, &bias, double)
            },
        );
    }
}

#[test]
fn nothing_applies_to_gradients_or_to_the_processor() {
    let Some(software) = software() else { return };
    for device in [software.autodiff(), Device::flex()] {
        let x: Tensor<3> = random([1, 2, 3], 1, &device);
        assert!(super::gelu_tanh(&x).is_none());
    }
}

#[test]
fn every_shader_is_valid_by_itself() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text: &'static str = std::fs::read_to_string(&path).unwrap().leak();
        if text.contains("enable wgpu_cooperative_matrix") {
            continue; // the test below
        }
        for (half, width, passing, value) in [
            (1, 32, 32, "f32"),
            (16, 96, 16, "vec4<f32>"),
            (64, 128, 8, "vec4<f32>"),
        ] {
            let constants = vec![
                ("HALF", half),
                ("SLOTS", 64 / half),
                ("WIDTH", width),
                ("PASSING", passing),
                ("OWN", width / 32),
                ("SIDE", 3),
                ("DOUBLE", 2),
                ("SPLIT", half % 2),
                ("BIASED", 1),
                ("GELU", half % 2),
                ("GATED", 1),
                ("ADDED", 1),
            ];
            let constants = constants
                .into_iter()
                .filter(|(name, _)| text.contains(name))
                .collect();
            let types = [
                ("Value", value),
                ("Kept", if half == 1 { "f16" } else { "f32" }),
            ];
            let types = types
                .into_iter()
                .filter(|(name, _)| text.contains(&format!("<{name}>")))
                .collect();
            let source = Shader {
                name: "",
                text,
                constants,
                types,
            }
            .source();
            validate(&source, &path.display().to_string());
        }
        seen += 1;
    }
    assert_eq!(seen, 7);
}

/// Checks a shader's text without any driver.
fn validate(source: &str, name: &str) {
    use wgpu::naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags};
    let module = wgpu::naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(source)));
    assert_eq!(module.entry_points.len(), 1, "{name}");
    assert_eq!(module.entry_points[0].name, "main", "{name}");
    let more =
        Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP;
    let capabilities = if source.contains("enable wgpu_cooperative_matrix") {
        more
    } else if source.contains("enable f16;") {
        Capabilities::SHADER_FLOAT16
    } else {
        Capabilities::empty()
    };
    let mut validator = wgpu::naga::valid::Validator::new(ValidationFlags::all(), capabilities);
    validator
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all());
    validator
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
}
