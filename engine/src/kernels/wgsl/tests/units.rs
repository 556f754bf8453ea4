//! What matrix units do against its definition: on a software driver that has them, and as text without any driver.

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};

use super::super::units::{self, MatrixUnits};
use super::super::{attend, conv, cross_attention};
use super::attention::split;
use super::{compare, compare_within, random, software, validate};
use crate::kernels::{Precision, Seen, Sight, Then, with_precision};
use crate::{layers, model, vae};

#[test]
fn what_matrix_units_do_is_valid_by_itself() {
    for tile in [8, 16] {
        for subgroup in [8, 32, 64] {
            let units = MatrixUnits {
                tile,
                subgroup,
                memory: 32 << 10,
            };
            for width in [16, 64, 96, 128] {
                for kept in ["f32", "f16"] {
                    let shader = units.attention(width, kept, width == 64).unwrap();
                    validate(&shader.source(), &format!("attention, {units:?}, {width}"));
                }
            }
            assert!(
                [40, 144]
                    .iter()
                    .all(|width| units.attention(*width, "f32", false).is_none())
            );
            for pieces in [[2, 2], [4, 4]] {
                for (side, double) in [(1, 1), (3, 2)] {
                    let shader = units.convolution(pieces, [("SIDE", side), ("DOUBLE", double)]);
                    validate(&shader.source(), &format!("convolution, {units:?}"));
                }
                for weight in ["f32", "f16"] {
                    let name = format!("product, {units:?}, {pieces:?}, {weight}");
                    let follows = [("BIASED", 1), ("GELU", 1), ("GATED", 1), ("ADDED", 1)];
                    validate(&units.product(pieces, weight, follows).source(), &name);
                }
            }
        }
    }
}

/// The software driver, where it has matrix units.
fn with_units() -> Option<Device> {
    let software = software()?;
    if units::matrix_units(&software).is_none() {
        eprintln!("SKIPPED: the software graphics driver has no matrix units; that of Mesa 26 has");
        return None;
    }
    Some(software)
}

/// As f16 holds it where there is room for large values.
fn rounded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.div_scalar(64.0).cast(DType::F16).cast(DType::F32) * 64.0
}

#[test]
fn attention_on_matrix_units_is_that_of_rounded_values() {
    let Some(software) = with_units() else { return };
    for ([rows, heads, length, head_width], keys) in [
        ([1, 1, 1, 32], 1),
        ([2, 3, 5, 64], 33),
        ([2, 5, 67, 32], 91),
        ([1, 2, 130, 128], 177),
        ([1, 1, 65, 96], 32),
    ] {
        // Scores that rise as keys pass by, so that sums are brought to new maxima.
        let inputs = |device: &Device| {
            let [query, key, value] = [length, keys, keys]
                .map(|places| random([rows, heads, places, head_width], places as u64, device));
            let rise = Tensor::<1, burn::tensor::Int>::arange(0..keys as i64, device).float();
            let key = key * (rise / keys as f32 * 2.0).reshape([1, 1, keys, 1]);
            [query * 2.0, key, value * 300.0]
        };
        let sights = Sight::all(length, keys);
        for kept in [DType::F32, DType::F16] {
            compare_within(
                1e-3,
                "attention on matrix units",
                &software,
                &|device| {
                    let [query, key, value] = inputs(device);
                    let [key, value] = [key, value].map(|part| part.cast(kept));
                    with_precision(Precision::Rounded, || {
                        attend(&query, &split(key, value), &sights)
                    })
                },
                &|device| {
                    let [query, key, value] = inputs(device);
                    let query = query.cast(DType::F16).cast(DType::F32);
                    model::mix(
                        query,
                        Seen::all(rounded(key), rounded(value)),
                        None,
                        usize::MAX,
                    )
                },
            );
        }
    }
}

#[test]
fn attention_to_text_on_matrix_units_is_that_of_rounded_values() {
    let Some(software) = with_units() else { return };
    let (rows, length, heads, head_width, tokens) = (3, 9, 5, 32, 45);
    let width = heads * head_width;
    let lens: Arc<[usize]> = [45, 1, 33].into();
    let inputs = |device: &Device| {
        let query: Tensor<3> = random([rows, length, width], 1, device);
        (query, random([rows, tokens, 2 * width], 2, device))
    };
    compare_within(
        1e-3,
        "attention to text on matrix units",
        &software,
        &|device| {
            let (query, text) = inputs(device);
            with_precision(Precision::Rounded, || {
                cross_attention(&query, &text, heads, &lens)
            })
        },
        &|device| {
            let (query, text) = inputs(device);
            let head = |x: Tensor<3>| model::split_heads(x, heads);
            let query = query.cast(DType::F16).cast(DType::F32);
            let parts = lens.iter().enumerate().map(|(row, &len)| {
                let text = rounded(text.clone().narrow(0, row, 1).narrow(1, 0, len));
                let key = text.clone().narrow(2, 0, width);
                let value = text.narrow(2, width, width);
                let query = query.clone().narrow(0, row, 1);
                model::mix(
                    head(query),
                    Seen::all(head(key), head(value)),
                    None,
                    usize::MAX,
                )
            });
            Tensor::cat(parts.collect(), 0)
        },
    );
}

#[test]
fn products_on_matrix_units_are_those_of_rounded_factors() {
    let Some(software) = with_units() else { return };
    for [batch, length, inputs, outputs] in [
        [1, 1, 4, 1],
        [2, 7, 36, 5],
        [1, 65, 132, 67],
        [2, 83, 64, 140],
    ] {
        let inputs_of = |device: &Device| {
            let x: Tensor<3> = random([batch, length, inputs], 1, device);
            // Some that f16 itself cannot hold.
            let spikes = random([batch, length, inputs], 2, device).greater_elem(2.5);
            let weight: Tensor<2> = random([outputs, inputs], 3, device);
            let bias: Tensor<1> = random([outputs], 4, device);
            (x.mask_fill(spikes, 3e5), weight, bias)
        };
        for kept in [DType::F32, DType::F16] {
            for (with_bias, which) in [(false, 0), (true, 0), (true, 1), (true, 2), (false, 3)] {
                // With what becomes of it.
                let followed = |device: &Device, f: &dyn Fn(Then<'_>) -> Option<Tensor<3>>| {
                    let to: Tensor<3> = random([batch, length, outputs], 5, device);
                    let gate: Tensor<3> = random([batch, 1, outputs], 6, device);
                    f(match which {
                        0 => Then::Nothing,
                        1 => Then::Gelu,
                        2 => Then::Added(&to, Some(&gate)),
                        _ => Then::Scaled(0.3),
                    })
                };
                compare(
                    "product on matrix units",
                    &software,
                    &|device| {
                        let (x, weight, bias) = inputs_of(device);
                        let bias = with_bias.then_some(&bias);
                        followed(device, &|then| {
                            units::product(&x, &weight.clone().cast(kept), bias, then)
                        })
                    },
                    &|device| {
                        let (x, weight, bias) = inputs_of(device);
                        let weight = weight.cast(DType::F16).cast(DType::F32);
                        let y = rounded(x).matmul(weight.transpose().unsqueeze());
                        let bias = with_bias.then_some(&bias);
                        let all = followed(device, &|then| {
                            Some(layers::finished(y.clone(), bias, then))
                        });
                        all.unwrap()
                    },
                );
            }
        }
    }
}

#[test]
fn convolutions_on_matrix_units_are_those_of_rounded_values() {
    let Some(software) = with_units() else { return };
    for ([batch, inputs, height, width], outputs, side, double) in [
        ([1, 1, 1, 1], 16, 3, false),
        ([2, 3, 7, 11], 17, 3, false),
        ([1, 37, 9, 13], 65, 3, false),
        ([2, 16, 5, 6], 33, 3, true),
        ([1, 20, 17, 19], 140, 1, false),
    ] {
        let inputs_of = |device: &Device| {
            let x: Tensor<4> = random([batch, inputs, height, width], 1, device) * 300.0;
            let weight: Tensor<4> = random([outputs, inputs, side, side], 2, device);
            (x, weight, random([outputs], 3, device))
        };
        compare_within(
            2e-5,
            "convolution on matrix units",
            &software,
            &|device| {
                let (x, weight, bias) = inputs_of(device);
                with_precision(Precision::Rounded, || conv(&x, &weight, &bias, double))
            },
            &|device| {
                let (x, weight, bias) = inputs_of(device);
                let weight = weight.cast(DType::F16).cast(DType::F32);
                vae::convolve(rounded(x), &weight, &bias, double)
            },
        );
    }
}

/// Where fewer subgroups run than a workgroup has parts, they go round again; where more run, some do a part twice.
#[test]
fn any_number_of_subgroups_makes_all_parts() {
    let Some(software) = with_units() else { return };
    let own = units::matrix_units(&software).unwrap();
    let sights = Sight::all(67, 40);
    let make = || {
        let x: Tensor<3> = random([1, 67, 36], 1, &software);
        let weight: Tensor<2> = random([45, 36], 2, &software);
        let map: Tensor<4> = random([1, 5, 9, 13], 3, &software);
        let filters: Tensor<4> = random([65, 5, 3, 3], 4, &software);
        let bias: Tensor<1> = random([65], 5, &software);
        let [query, key, value] =
            [67, 40, 40].map(|places| random([1, 2, places, 32], places as u64, &software));
        with_precision(Precision::Rounded, || {
            [
                units::product(&x, &weight, None, Then::Nothing).unwrap(),
                conv(&map, &filters, &bias, true).unwrap().flatten(0, 1),
                attend(&query, &Seen::all(key, value), &sights).unwrap(),
            ]
            .map(|made| made.try_into_vec_as::<f32>().unwrap())
        })
    };
    let wanted = make();
    // A workgroup has room for four subgroups of what is said here.
    for subgroup in [own.subgroup / 4, own.subgroup / 2, 2 * own.subgroup] {
        units::FORCED.set(Some(MatrixUnits { subgroup, ..own }));
        let found = make();
        units::FORCED.set(None);
        assert!(found == wanted, "{subgroup}");
    }
}
