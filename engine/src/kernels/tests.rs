//! The operations against their definition, at odd sizes: values and gradients.

use std::cell::Cell;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData, activation, module, ops::ConvOptions};

use super::{Precision, Seen, Sight, Then, with_precision};
use crate::layers;
use crate::random::Stream;

thread_local! {
    pub(super) static ONLY_NARROW: Cell<bool> = const { Cell::new(false) };
}

#[cfg(target_arch = "x86_64")]
/// Whether this thread is to do with the narrower set of instructions, where the processor has both.
pub(super) fn only_narrow() -> bool {
    ONLY_NARROW.get()
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    spread(shape, seed, 0.0, 1.0)
}

/// Normally distributed around `mean`.
fn spread<const D: usize>(shape: [usize; D], seed: u64, mean: f32, deviation: f32) -> Tensor<D> {
    let stream = Stream::new(seed, 7);
    let count = shape.iter().product::<usize>() as u64;
    let value = |i| mean + deviation * stream.normal(i) as f32;
    let values: Vec<f32> = (0..count).map(value).collect();
    Tensor::from_data(TensorData::new(values, shape), &device()).require_grad()
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.clone().try_into_vec_as::<f32>().unwrap()
}

/// Largest difference, as a share of the largest value.
fn gap(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let most = b.iter().fold(1e-6_f32, |most, v| most.max(v.abs()));
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    apart.fold(0.0, f32::max) / most
}

/// Values and gradients of three inputs for a random gradient of the result.
fn run<const X: usize, const A: usize, const B: usize, const Y: usize>(
    inputs: &(Tensor<X>, Tensor<A>, Tensor<B>),
    precision: Precision,
    f: &dyn Fn(&Tensor<X>, &Tensor<A>, &Tensor<B>) -> Tensor<Y>,
) -> Vec<Vec<f32>> {
    let (x, a, b) = inputs;
    let y = with_precision(precision, || f(x, a, b));
    let weight = random(y.dims(), 99).detach();
    let gradients = (y.clone() * weight).sum().backward();
    let mut all = vec![values(&y)];
    let zeros = |shape: &[usize]| vec![0.0; shape.iter().product()];
    all.push(
        x.grad(&gradients)
            .map_or_else(|| zeros(&x.dims()), |g| g.try_into_vec_as().unwrap()),
    );
    all.push(
        a.grad(&gradients)
            .map_or_else(|| zeros(&a.dims()), |g| g.try_into_vec_as().unwrap()),
    );
    all.push(
        b.grad(&gradients)
            .map_or_else(|| zeros(&b.dims()), |g| g.try_into_vec_as().unwrap()),
    );
    all
}

/// Compares `f`, which asks for the operation, with itself when operations are off.
fn compare<const X: usize, const A: usize, const B: usize, const Y: usize>(
    name: &str,
    inputs: (Tensor<X>, Tensor<A>, Tensor<B>),
    f: &dyn Fn(&Tensor<X>, &Tensor<A>, &Tensor<B>) -> Tensor<Y>,
) {
    let definition = run(&inputs, Precision::Off, f);
    let precisions = [(Precision::Single, 2e-5), (Precision::Half, 3e-2)];
    let ways = precisions.map(|way| [(way, false), (way, true)]);
    for ((precision, most), narrow) in ways.into_iter().flatten() {
        ONLY_NARROW.set(narrow);
        let found = run(&inputs, precision, f);
        ONLY_NARROW.set(false);
        for (what, (found, wanted)) in ["value", "first", "second", "third"]
            .into_iter()
            .zip(found.iter().zip(&definition))
        {
            let apart = gap(found, wanted);
            assert!(
                apart < most,
                "{name}, {precision:?}, narrow {narrow}, {what}: {apart:e}"
            );
        }
    }
}

fn linear_at(rows: usize, inputs: usize, outputs: usize) {
    let bias = random([outputs], 3);
    compare(
        "linear",
        (
            random([2, rows, inputs], 1),
            random([outputs, inputs], 2),
            bias,
        ),
        &|x, weight, bias| {
            super::linear(x, weight, Some(bias), Then::Nothing).unwrap_or_else(|| {
                let [batch, rows, inputs] = x.dims();
                let flat = x.clone().reshape([batch * rows, inputs]);
                let y = flat.matmul(weight.clone().transpose()) + bias.clone().unsqueeze();
                y.reshape([batch, rows, outputs])
            })
        },
    );
}

#[test]
fn linear() {
    for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (13, 33, 31), (70, 64, 96)] {
        linear_at(rows, inputs, outputs);
    }
}

/// Weights in half precision are multiplied as they lie: the same to the bit as when they are widened before.
#[test]
fn weights_in_half_precision() {
    let ways = [Precision::Single, Precision::Half].map(|way| [(way, false), (way, true)]);
    for (precision, narrow) in ways.into_iter().flatten() {
        for (rows, inputs, outputs) in [
            (1, 1, 1),
            (3, 5, 7),
            (13, 33, 31),
            (70, 301, 600),
            (101, 130, 67),
        ] {
            let [found, wanted] = [DType::F16, DType::F32].map(|kept| {
                let half = random([outputs, inputs], 2)
                    .without_autodiff()
                    .cast(DType::F16);
                let weight = half.cast(kept).autodiff();
                let f = |x: &_, weight: &_, bias: &_| {
                    super::linear(x, weight, Some(bias), Then::Nothing).unwrap()
                };
                ONLY_NARROW.set(narrow);
                let found = run(
                    &(random([2, rows, inputs], 1), weight, random([outputs], 3)),
                    precision,
                    &f,
                );
                ONLY_NARROW.set(false);
                found
            });
            assert!(
                found == wanted,
                "{precision:?}, narrow {narrow}, {rows} {inputs} {outputs}"
            );
        }
    }
}

/// What becomes of a product in the same pass is to the bit what becomes of it afterwards.
#[test]
fn what_becomes_of_products() {
    let plain = |shape: [usize; 3], seed| random(shape, seed).without_autodiff();
    let ways = [Precision::Single, Precision::Half].map(|way| [(way, false), (way, true)]);
    for (precision, narrow) in ways.into_iter().flatten() {
        for (length, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (13, 33, 31), (101, 301, 600)] {
            let x = plain([2, length, inputs], 1);
            let weight = random([outputs, inputs], 2).without_autodiff();
            let own = random([outputs], 3).without_autodiff();
            let (to, gate) = (plain([2, length, outputs], 4), plain([2, 1, outputs], 5));
            for bias in [None, Some(&own)] {
                for then in [
                    Then::Gelu,
                    Then::Scaled(0.3),
                    Then::Added(&to, None),
                    Then::Added(&to, Some(&gate)),
                ] {
                    ONLY_NARROW.set(narrow);
                    let [found, wanted] = with_precision(precision, || {
                        let found = super::linear(&x, &weight, bias, then).unwrap();
                        let product = super::linear(&x, &weight, bias, Then::Nothing).unwrap();
                        [found, layers::finished(product, None, then)]
                    });
                    ONLY_NARROW.set(false);
                    assert_eq!(found.dims(), wanted.dims());
                    assert!(
                        values(&found) == values(&wanted),
                        "{precision:?}, narrow {narrow}, {length} {inputs} {outputs} {then:?}"
                    );
                }
            }
            // A gate of another shape is not what it takes.
            let wrong = plain([2, 2, outputs], 6);
            assert!(super::linear(&x, &weight, None, Then::Added(&to, Some(&wrong))).is_none());
        }
    }
}

/// Beyond every limit of a block: 96 or 192 rows, 256 or 512 columns, 128 or 256 steps; shared out and not.
#[test]
fn large_products() {
    let large = || {
        for (rows, inputs, outputs) in [(99, 301, 600), (100, 301, 600), (101, 1, 600)] {
            linear_at(rows, inputs, outputs);
        }
    };
    large();
    for threads in [1, 9] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(large);
    }
}

#[test]
fn convolutions() {
    for (inputs, outputs, h, w, side) in [
        (1, 1, 1, 1, 3),
        (3, 5, 4, 7, 3),
        (5, 33, 9, 3, 3),
        (13, 14, 5, 34, 3),
        (7, 9, 3, 5, 1),
    ] {
        for double in [false, true] {
            compare(
                "conv",
                (
                    random([2, inputs, h, w], 1),
                    random([outputs, inputs, side, side], 2),
                    random([outputs], 3),
                ),
                &|x, weight, bias| {
                    super::conv(x, weight, bias, double).unwrap_or_else(|| {
                        let times = if double { 2 } else { 1 };
                        let x = x
                            .clone()
                            .reshape([2, inputs, h, 1, w, 1])
                            .expand([2, inputs, h, times, w, times])
                            .reshape([2, inputs, times * h, times * w]);
                        let options = ConvOptions::new([1, 1], [side / 2; 2], [1, 1], 1);
                        module::conv2d(x, weight.clone(), Some(bias.clone()), options)
                    })
                },
            );
        }
    }
}

#[test]
fn group_norm_silu() {
    for (channels, groups, h, w) in [(4, 2, 3, 5), (6, 6, 1, 7), (48, 24, 5, 9)] {
        compare(
            "group norm",
            (
                random([2, channels, h, w], 1),
                random([channels], 2),
                random([channels], 3),
            ),
            &|x, scale, shift| {
                super::group_norm_silu(x, groups, scale, shift, 1e-6).unwrap_or_else(|| {
                    let grouped = x.clone().reshape([2, groups, channels / groups * h * w]);
                    let normal = layers::layer_norm(grouped, 1e-6).reshape([2, channels, h, w]);
                    let scale = scale.clone().reshape([1, channels, 1, 1]);
                    activation::silu(normal * scale + shift.clone().reshape([1, channels, 1, 1]))
                })
            },
        );
    }
}

#[test]
fn rows() {
    for (length, width) in [(1, 7), (5, 17), (9, 64)] {
        for rows in [1, 3] {
            compare(
                "layer norm",
                (
                    random([3, length, width], 1),
                    random([rows, 1, width], 2),
                    random([rows, 1, width], 3),
                ),
                &|x, scale, shift| layers::scaled_norm(x, scale, shift, 1.0, 1e-6),
            );
        }
        compare(
            "gated sum",
            (
                random([3, length, width], 1),
                random([3, length, width], 2),
                random([3, 1, width], 3),
            ),
            &|x, branch, gate| layers::finished(branch.clone(), None, Then::Added(x, Some(gate))),
        );
        compare(
            "gelu",
            (
                spread([3, length, width], 1, 0.0, 3.0),
                random([1], 2),
                random([1], 3),
            ),
            &|x, _, _| layers::gelu_tanh(x.clone()),
        );
    }
}

#[test]
fn self_attention() {
    use crate::model::{Mask, Rope};
    use crate::schedule::ScaleSchedule;
    for (heads, width, scales) in [(1, 4, 1), (2, 8, 3), (3, 32, 5)] {
        let schedule = ScaleSchedule::nearest(1.25, scales).unwrap();
        let tokens = schedule.tokens();
        let rope = Rope::new(&schedule, 0..scales, width, &device());
        let mask = Mask::block_causal(&schedule);
        compare(
            "self attention",
            (
                random([2, tokens, 3 * heads * width], 1),
                spread([1, heads, 1, 1], 2, 1.0, 0.5),
                random([1], 3),
            ),
            &|qkv, lengths, _| {
                let [query, key, value] = crate::model::split_and_turn(qkv.clone(), lengths, &rope);
                crate::model::mix(query, Seen::all(key, value), Some(&mask), usize::MAX)
            },
        );
    }
}

/// Keys and values written into room for more are what they are by themselves, to the bit; what was there stays.
#[test]
fn turned_into_room() {
    use crate::model::Rope;
    use crate::schedule::ScaleSchedule;
    let schedule = ScaleSchedule::nearest(1.25, 3).unwrap();
    let tokens = schedule.tokens();
    for (heads, width) in [(1, 4), (3, 32)] {
        let rope = Rope::new(&schedule, 0..3, width, &Device::flex());
        let qkv = random([2, tokens, 3 * heads * width], 1).without_autodiff();
        let lengths = spread([1, heads, 1, 1], 2, 1.0, 3.0).without_autodiff();
        for narrow in [false, true] {
            ONLY_NARROW.set(narrow);
            let shape = [2, heads, tokens + 5, width];
            // Twice, as no one else may hold what is written in place.
            let make = || [3, 4].map(|seed| random(shape, seed).without_autodiff());
            let [keys, values_of] = make();
            let [own_keys, own_values] = make();
            let room = super::Room {
                keys: own_keys,
                values: own_values,
                first: 3,
            };
            let (turns, on_device) = (rope.turns(), rope.device_turns());
            let (query, room) = super::turn_into(&qkv, &lengths, turns, on_device, room);
            let own = super::turn(&qkv, &lengths, turns, on_device).unwrap();
            ONLY_NARROW.set(false);
            assert!(values(&query.unwrap()) == values(&own[0]));
            let places = [0..2, 0..heads, 3..3 + tokens, 0..width];
            for (found, was, own) in [
                (room.keys, keys, &own[1]),
                (room.values, values_of, &own[2]),
            ] {
                let wanted = was.slice_assign(places.clone(), own.clone());
                assert!(values(&found) == values(&wanted), "narrow {narrow}");
            }
        }
    }
}

/// As while drawing: more queries than are taken at once, and more keys than queries.
#[test]
fn attention_to_all() {
    for (queries, keys) in [(1, 1), (5, 21), (300, 307)] {
        compare(
            "attention",
            (
                random([2, 3, queries, 8], 1),
                random([2, 3, keys, 8], 2),
                random([2, 3, keys, 8], 3),
            ),
            &|query, key, value| {
                let seen = Seen::all(key.clone(), value.clone());
                crate::model::mix(query.clone(), seen, None, usize::MAX)
            },
        );
    }
}

/// Keys in two tensors: in f32 to the bit as in one, as sums go on where they stood.
#[test]
fn attention_to_two_pieces() {
    let plain = |places, seed| random([2, 3, places, 8], seed).without_autodiff();
    let ways = [(Precision::Single, 0.0), (Precision::Half, 1e-2)];
    let ways = ways.map(|way| [(way, false), (way, true)]);
    for ((precision, most), narrow) in ways.into_iter().flatten() {
        for (queries, first, own) in [(2, 1, 1), (5, 16, 5), (300, 131, 300)] {
            let [keys, values_of] = [2, 3].map(|seed| plain(first + own, seed));
            let query = plain(queries, 1);
            let both = Seen {
                // Room behind what counts.
                keys: Tensor::cat(vec![keys.clone().narrow(2, 0, first), plain(2, 4)], 2),
                values: Tensor::cat(vec![values_of.clone().narrow(2, 0, first), plain(2, 5)], 2),
                count: first,
                own: Some([&keys, &values_of].map(|t| t.clone().narrow(2, first, own))),
            };
            for sights in [
                Sight::all(queries, first + own),
                // Some see less than the first piece.
                vec![
                    Sight {
                        queries: 0..1,
                        keys: 1,
                    },
                    Sight {
                        queries: 1..queries,
                        keys: first + own,
                    },
                ]
                .into(),
            ] {
                ONLY_NARROW.set(narrow);
                let all = Seen::all(keys.clone(), values_of.clone());
                let [found, wanted] = [&both, &all].map(|seen| {
                    with_precision(precision, || super::attend(&query, seen, &sights).unwrap())
                });
                ONLY_NARROW.set(false);
                let apart = gap(&values(&found), &values(&wanted));
                assert!(
                    apart <= most,
                    "{precision:?}, narrow {narrow}, {queries}: {apart:e}"
                );
            }
        }
    }
}

#[test]
fn cross_attention() {
    let (heads, width) = (2, 12);
    for (tokens, lens) in [(1, [1, 1]), (7, [5, 2]), (21, [3, 9])] {
        let lens: Arc<[usize]> = Arc::new(lens);
        let words = lens.iter().copied().max().unwrap();
        compare(
            "cross attention",
            (
                random([2, tokens, heads * width], 1),
                random([2, words, 2 * heads * width], 2),
                random([1], 3),
            ),
            &|query, text, _| {
                super::cross_attention(query, text, heads, &lens).unwrap_or_else(|| {
                    let split = |x: Tensor<3>| {
                        let [rows, length, channels] = x.dims();
                        x.reshape([rows, length, heads, channels / heads])
                            .swap_dims(1, 2)
                    };
                    let bias = lens.iter().flat_map(|&len| {
                        (0..words).map(move |word| if word < len { 0.0 } else { -1e9 })
                    });
                    let bias = TensorData::new(bias.collect::<Vec<f32>>(), [2, 1, 1, words]);
                    let mixed = crate::model::attend(
                        split(query.clone()),
                        split(text.clone().narrow(2, 0, heads * width)),
                        split(text.clone().narrow(2, heads * width, heads * width)),
                        Some(Tensor::from_data(bias, &device())),
                        usize::MAX,
                    );
                    mixed.swap_dims(1, 2).reshape([2, tokens, heads * width])
                })
            },
        );
    }
}

/// Without this the comparisons above would compare a definition with itself.
#[test]
#[cfg(target_arch = "x86_64")]
fn operations_are_used_where_the_processor_can() {
    let x = random([1, 2, 3], 1);
    let used = super::gelu_tanh(&x).is_some();
    assert_eq!(used, super::available());
    assert_eq!(
        super::x86::set().is_some(),
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    );
    assert!(with_precision(Precision::Off, || super::gelu_tanh(&x)).is_none());
}
