//! How different pictures of one prompt are in what the prompt leaves free.

use rayon::prelude::*;
use serde::Serialize;

use crate::postcards::{Caption, Checks, Postcard, Split};
use crate::random::Stream;

/// Pictures of one prompt.
pub(super) const PICTURES: usize = 16;
/// A prompt names at most this many attributes, so that enough is free.
const MOST_NAMED: usize = 5;
/// Painted postcards tried for one prompt.
const TRIES: u64 = 3_000_000;

/// How often two pictures of one prompt differ in an attribute that the prompt leaves free.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttributeSpread {
    /// The attribute.
    pub name: String,
    /// Share of pairs of drawn pictures that differ.
    pub drawn: f32,
    /// Share of pairs of painted postcards that differ, of those that a caption with the same gaps was written for.
    pub painted: f32,
}

/// A prompt and postcards that could have been meant by it.
pub(super) struct Prompt {
    pub(super) caption: Caption,
    card: Postcard,
    painted: Vec<Postcard>,
}

/// Loosely worded prompts, each with as many postcards as pictures are drawn.
pub(super) fn prompts(seed: u64, count: usize) -> Vec<Prompt> {
    let stream = Stream::new(seed ^ 0x7A21, 0);
    let mut prompts = Vec::new();
    for index in 0.. {
        let seed = stream.bits(index);
        let card = Postcard::sample(seed, Split::Train);
        let caption = Caption::free(&card, seed);
        let checks = Checks::compare(&card, &card, caption.named);
        if checks.entries().iter().flat_map(|(_, named)| named).count() > MOST_NAMED {
            continue;
        }
        prompts.push(Prompt {
            painted: meant_by(&caption, &card, seed),
            caption,
            card,
        });
        if prompts.len() == count {
            break;
        }
    }
    prompts
}

/// Postcards whose own caption names the same attributes with the same values.
fn meant_by(caption: &Caption, card: &Postcard, seed: u64) -> Vec<Postcard> {
    let stream = Stream::new(seed, 0x3EA7);
    let one = |index: u64| {
        let other = Postcard::sample(stream.bits(2 * index), Split::Train);
        let fits = Checks::compare(&other, card, caption.named).followed_with_sky();
        let named = || Caption::sample(&other, stream.bits(2 * index + 1)).named;
        (fits && named() == caption.named).then_some(other)
    };
    let mut found: Vec<Postcard> = Vec::new();
    for first in (0..TRIES).step_by(20_000) {
        found.par_extend((first..first + 20_000).into_par_iter().filter_map(one));
        if found.len() >= PICTURES {
            break;
        }
    }
    found.truncate(PICTURES);
    found
}

/// Every attribute's name and value; `None` where the postcard has no such part.
fn values(card: &Postcard) -> [(&'static str, Option<String>); 9] {
    let (body, thing) = (card.body, card.thing);
    [
        ("time", Some(format!("{:?}", card.time))),
        ("land", Some(format!("{:?}", card.land))),
        ("land colour", Some(format!("{:?}", card.land_colour))),
        ("body", Some(format!("{:?}", body.map(|b| b.kind)))),
        ("body colour", body.map(|b| format!("{:?}", b.colour))),
        ("body place", body.map(|b| format!("{:?}", b.place))),
        ("thing", Some(format!("{:?}", thing.map(|t| t.kind)))),
        ("thing colour", thing.map(|t| format!("{:?}", t.colour))),
        (
            "thing place",
            thing
                .and_then(|t| t.place)
                .map(|place| format!("{place:?}")),
        ),
    ]
}

/// Pairs that differ, and all pairs, by attribute; only attributes that `checks` does not name.
fn pairs(cards: &[Postcard], checks: &Checks) -> [(usize, usize); 9] {
    let all: Vec<_> = cards.iter().map(values).collect();
    let mut counts = [(0, 0); 9];
    for (at, (differ, total)) in counts.iter_mut().enumerate() {
        let known: Vec<_> = all
            .iter()
            .filter_map(|values| Some((values[at].0, values[at].1.as_ref()?)))
            .collect();
        let is_named = |name: &str| {
            let named = checks
                .entries()
                .into_iter()
                .find(|(other, _)| *other == name);
            named.is_some_and(|(_, value)| value.is_some())
        };
        for (index, (name, value)) in known.iter().enumerate() {
            if is_named(name) {
                continue;
            }
            for (_, other) in &known[index + 1..] {
                *total += 1;
                *differ += usize::from(value != other);
            }
        }
    }
    counts
}

/// Compares what was drawn for each of `prompts` with what could have been painted.
pub(super) fn spread(prompts: &[Prompt], drawn: &[Vec<Postcard>]) -> Vec<AttributeSpread> {
    let mut sums = [[(0_usize, 0_usize); 9]; 2];
    for (prompt, drawn) in prompts.iter().zip(drawn) {
        let named = Checks::compare(&prompt.card, &prompt.card, prompt.caption.named);
        for (sums, cards) in sums.iter_mut().zip([drawn, &prompt.painted]) {
            for (sum, one) in sums.iter_mut().zip(pairs(cards, &named)) {
                *sum = (sum.0 + one.0, sum.1 + one.1);
            }
        }
    }
    let share = |(differ, total): (usize, usize)| differ as f32 / total.max(1) as f32;
    let [drawn, painted] = sums;
    values(&Postcard::default())
        .iter()
        .enumerate()
        .filter(|(at, _)| painted[*at].1 > 0)
        .map(|(at, (name, _))| AttributeSpread {
            name: (*name).to_owned(),
            drawn: share(drawn[at]),
            painted: share(painted[at]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{PICTURES, prompts, spread};
    use crate::postcards::Checks;

    #[test]
    fn painted_postcards_keep_to_the_prompt_and_differ_elsewhere() {
        let prompts = prompts(3, 4);
        for prompt in &prompts {
            assert_eq!(prompt.painted.len(), PICTURES, "{}", prompt.caption.text);
            for card in &prompt.painted {
                let checks = Checks::compare(card, &prompt.card, prompt.caption.named);
                assert!(checks.followed_with_sky(), "{}", prompt.caption.text);
            }
        }
        // Drawing one picture over and over has no variety; drawing what is painted has all of it.
        let same: Vec<_> = prompts
            .iter()
            .map(|prompt| vec![prompt.card; PICTURES])
            .collect();
        let rows = spread(&prompts, &same);
        assert!(rows.iter().any(|row| row.painted > 0.3), "{rows:?}");
        assert!(rows.iter().all(|row| row.drawn == 0.0), "{rows:?}");
        let painted: Vec<_> = prompts
            .iter()
            .map(|prompt| prompt.painted.clone())
            .collect();
        assert!(
            spread(&prompts, &painted)
                .iter()
                .all(|row| row.drawn == row.painted)
        );
    }
}
