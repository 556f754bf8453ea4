//! Attention against its definition.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::super::{attend, cross_attention};
use super::{compare, random, software};
use crate::kernels::{Seen, Sight};
use crate::model;

/// The same keys and values, those of the last third in tensors of their own, and one that does not count before them.
pub(super) fn split(keys: Tensor<4>, values: Tensor<4>) -> Seen {
    let all = keys.dims()[2];
    let count = all - all / 3;
    if count == all {
        return Seen::all(keys, values);
    }
    let first = |t: &Tensor<4>| {
        let first = t.clone().narrow(2, 0, count);
        Tensor::cat(vec![first, t.clone().narrow(2, 0, 1) * 1e3], 2)
    };
    let own = [&keys, &values].map(|t| t.clone().narrow(2, count, all - count));
    Seen {
        keys: first(&keys),
        values: first(&values),
        count,
        own: Some(own),
    }
}

#[test]
fn attention_is_its_definition() {
    let Some(software) = software() else { return };
    for ([rows, heads, length, head_width], keys) in [
        ([1, 1, 1, 32], 1),
        ([2, 3, 5, 64], 33),
        ([2, 5, 67, 32], 91),
        ([1, 2, 130, 128], 77),
        ([1, 1, 65, 96], 32),
        ([1, 1, 3, 256], 40),
    ] {
        let inputs = |device: &Device| {
            [length, keys, keys].map(|places| {
                random([rows, heads, places, head_width], places as u64, device) * 2.0
            })
        };
        let sights = Sight::all(length, keys);
        for seen in [Seen::all, split] {
            compare(
                "attention",
                &software,
                &|device| {
                    let [query, key, value] = inputs(device);
                    attend(&query, &seen(key, value), &sights)
                },
                &|device| {
                    let [query, key, value] = inputs(device);
                    model::mix(query, Seen::all(key, value), None, usize::MAX)
                },
            );
        }
    }
}

#[test]
fn attention_sees_only_what_it_may() {
    let Some(software) = software() else { return };
    let sights: Arc<[Sight]> = [(0..2, 3), (2..7, 9), (7..8, 9), (8..11, 20)]
        .map(|(queries, keys)| Sight { queries, keys })
        .into();
    let inputs = |device: &Device| {
        [11, 20, 20].map(|places| random([2, 3, places, 32], places as u64, device))
    };
    compare(
        "sights",
        &software,
        &|device| {
            let [query, key, value] = inputs(device);
            attend(&query, &split(key, value), &sights)
        },
        &|device| {
            let [query, key, value] = inputs(device);
            let part = |sight: &Sight| {
                let query = query
                    .clone()
                    .narrow(2, sight.queries.start, sight.queries.len());
                let [key, value] = [&key, &value].map(|t| t.clone().narrow(2, 0, sight.keys));
                model::mix(query, Seen::all(key, value), None, usize::MAX)
            };
            Tensor::cat(sights.iter().map(part).collect(), 1)
        },
    );
}

#[test]
fn cross_attention_is_its_definition() {
    let Some(software) = software() else { return };
    // More rows than one launch takes.
    for ([rows, length, heads, head_width], tokens) in
        [([1, 1, 1, 32], 1), ([3, 9, 5, 32], 13), ([70, 3, 2, 64], 6)]
    {
        let width = heads * head_width;
        let lens: Arc<[usize]> = (0..rows).map(|row| 1 + row % tokens).collect();
        let inputs = |device: &Device| {
            (
                random([rows, length, width], 1, device),
                random([rows, tokens, 2 * width], 2, device),
            )
        };
        compare(
            "cross attention",
            &software,
            &|device| {
                let (query, text) = inputs(device);
                cross_attention(&query, &text, heads, &lens)
            },
            &|device| {
                let (query, text) = inputs(device);
                let head = |x: Tensor<3>| model::split_heads(x, heads);
                let parts = lens.iter().enumerate().map(|(row, &len)| {
                    let text = text.clone().narrow(0, row, 1).narrow(1, 0, len);
                    let (key, value) = (
                        text.clone().narrow(2, 0, width),
                        text.narrow(2, width, width),
                    );
                    model::mix(
                        head(query.clone().narrow(0, row, 1)),
                        Seen::all(head(key), head(value)),
                        None,
                        usize::MAX,
                    )
                });
                Tensor::cat(parts.collect(), 0)
            },
        );
    }
}
