//! Captions of postcards: what a person might write to get one, and which attributes those words name.
//!
//! Two thirds are regular and name every attribute; a third are freer, leave things unsaid and join parts with "above",
//! "over" or "beside". Everything follows from the seed. [`corpus`] and [`vocabulary`] serve the text tokenizer.

use super::attributes::{Colour, Land, Place, Sky, ThingKind, Time};
use super::postcard::{Body, Named, Postcard, Split, Thing};
use super::rng::SplitMix64;

/// A caption and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caption {
    /// The words.
    pub text: String,
    /// The attributes that the words name.
    pub named: Named,
}

impl Caption {
    /// The caption of this seed; one in three is free-form.
    pub fn sample(postcard: &Postcard, seed: u64) -> Self {
        let mut rng = SplitMix64::stream(seed, 2);
        if rng.chance(1.0 / 3.0) {
            free(postcard, &mut rng)
        } else {
            regular(postcard, &mut rng)
        }
    }

    /// A regular caption, which names every attribute.
    pub fn regular(postcard: &Postcard, seed: u64) -> Self {
        regular(postcard, &mut SplitMix64::stream(seed, 3))
    }

    /// A free-form caption, which may leave attributes unsaid.
    pub fn free(postcard: &Postcard, seed: u64) -> Self {
        free(postcard, &mut SplitMix64::stream(seed, 4))
    }

    /// A caption that names all but the colours.
    pub fn without_colours(postcard: &Postcard, seed: u64) -> Self {
        let named = Named {
            land_colour: false,
            body_colour: false,
            thing_colour: false,
            ..Named::all_of(postcard)
        };
        naming(postcard, named, &mut SplitMix64::stream(seed, 6))
    }

    /// A regular caption whose colours are drawn by lot, never a held-out combination. For pictures that are
    /// painted in other colours; `named` says that colours are not to be relied on.
    pub fn in_wrong_colours(postcard: &Postcard, seed: u64) -> Self {
        let mut rng = SplitMix64::stream(seed, 7);
        let mut said = *postcard;
        said.land_colour = rng.pick(said.land.colours());
        if let Some(body) = &mut said.body {
            body.colour = rng.pick(Colour::OF_BODIES);
        }
        if let Some(thing) = &mut said.thing {
            let free: Vec<Colour> = Colour::OF_THINGS
                .iter()
                .copied()
                .filter(|&colour| !Thing { colour, ..*thing }.is_held_out())
                .collect();
            thing.colour = rng.pick(&free);
        }
        let text = naming(&said, Named::all_of(&said), &mut rng).text;
        Self {
            text,
            named: Named {
                land_colour: false,
                body_colour: false,
                thing_colour: false,
                ..Named::all_of(postcard)
            },
        }
    }
}

/// The captions of `count` postcards of all splits, to train a text tokenizer on.
pub fn corpus(count: usize, seed: u64) -> Vec<String> {
    let mut rng = SplitMix64::stream(seed, 5);
    (0..count)
        .map(|_| {
            let postcard = Postcard::sample(rng.next_u64(), Split::Any);
            Caption::sample(&postcard, rng.next_u64()).text
        })
        .collect()
}

/// Every word that a caption can contain, sorted; a comma is no word.
pub fn vocabulary() -> Vec<&'static str> {
    let mut words = vec![
        "a", "an", "one", "two", "three", "trees", "on", "in", "the", "and", "postcard", "of",
        "above", "over", "beside",
    ];
    words.extend(
        Time::ALL
            .iter()
            .flat_map(|&time| phrases(time))
            .flat_map(|phrase| phrase.split(' ')),
    );
    words.extend(Land::ALL.iter().map(|land| land.word()));
    words.extend(Colour::ALL.iter().map(|colour| colour.word()));
    words.extend(Place::ALL.iter().map(|place| place.word()));
    words.extend(ThingKind::ALL.iter().map(|kind| kind.word()));
    words.extend(["sun", "moon", "clouds", "stars"]);
    words.sort_unstable();
    words.dedup();
    words
}

/// How captions say a time of day.
pub fn phrases(time: Time) -> &'static [&'static str] {
    match time {
        Time::Dawn => &["at dawn", "in the early morning"],
        Time::Day => &["at noon", "in daylight", "by day"],
        Time::Sunset => &["at sunset", "in the evening"],
        Time::Night => &["at night", "under the night sky"],
    }
}

fn regular(postcard: &Postcard, rng: &mut SplitMix64) -> Caption {
    naming(postcard, Named::all_of(postcard), rng)
}

/// What `named` says, and the time, in any order.
fn naming(postcard: &Postcard, named: Named, rng: &mut SplitMix64) -> Caption {
    let mut parts = parts(postcard, named);
    rng.shuffle(&mut parts);
    let text = with_time(&parts.join(", "), postcard.time, rng);
    Caption { text, named }
}

fn free(postcard: &Postcard, rng: &mut SplitMix64) -> Caption {
    let named = leave_unsaid(postcard, rng);
    let mut parts = parts(postcard, named);
    rng.shuffle(&mut parts);
    let text = match rng.below(3) {
        0 => format!("a postcard of {}", joined_with_and(&parts)),
        1 => related(postcard, named, rng).unwrap_or_else(|| joined_with_and(&parts)),
        _ => parts.join(", "),
    };
    let text = if named.time {
        with_time(&text, postcard.time, rng)
    } else {
        text
    };
    Caption { text, named }
}

/// Drops some of what could be said, but never land, body and thing together.
fn leave_unsaid(postcard: &Postcard, rng: &mut SplitMix64) -> Named {
    let mut named = Named::all_of(postcard);
    named.time &= rng.chance(0.8);
    named.sky &= rng.chance(0.6);
    named.body &= rng.chance(0.75);
    named.thing &= rng.chance(0.85);
    named.land &= rng.chance(0.85) || !(named.body || named.thing);
    named.land_colour &= named.land && rng.chance(0.85);
    named.body_colour &= named.body && rng.chance(0.85);
    named.body_place &= named.body && rng.chance(0.5);
    named.thing_colour &= named.thing && rng.chance(0.9);
    named.thing_place &= named.thing && rng.chance(0.5);
    // One tree is always told from several by its grammar.
    let is_single = postcard.thing.is_some_and(|thing| thing.count == 1);
    named.count &= named.thing && (rng.chance(0.8) || is_single);
    named
}

/// "{thing} beside {land}", "{body} over {land}" and the like; `None` without a land or anything to relate to it.
fn related(postcard: &Postcard, named: Named, rng: &mut SplitMix64) -> Option<String> {
    if !named.land {
        return None;
    }
    let land = land_part(postcard, named);
    let body = postcard
        .body
        .filter(|_| named.body)
        .map(|body| body_part(body, named));
    let thing = postcard.thing.filter(|_| named.thing);
    let high = rng.pick(&["above", "over"]);
    let mut text = match (thing, body) {
        (Some(thing), body) => {
            let how = match thing.kind {
                ThingKind::Balloon => high,
                ThingKind::Boat => "on",
                ThingKind::House | ThingKind::Tree | ThingKind::Lighthouse => "beside",
            };
            let low = format!("{} {how} {land}", thing_part(thing, named));
            match body {
                Some(body) if rng.chance(0.5) => format!("{body} {high} {low}"),
                Some(body) => format!("{low} and {body}"),
                None => low,
            }
        }
        (None, Some(body)) => format!("{body} {high} {land}"),
        (None, None) => return None,
    };
    if named.sky {
        text = format!("{text} and {}", postcard.sky.word());
    }
    Some(text)
}

fn parts(postcard: &Postcard, named: Named) -> Vec<String> {
    let mut parts = Vec::with_capacity(4);
    if named.land {
        parts.push(land_part(postcard, named));
    }
    if let Some(thing) = postcard.thing.filter(|_| named.thing) {
        parts.push(thing_part(thing, named));
    }
    if let Some(body) = postcard.body.filter(|_| named.body) {
        parts.push(body_part(body, named));
    }
    if named.sky && postcard.sky != Sky::Clear {
        parts.push(postcard.sky.word().to_owned());
    }
    parts
}

fn land_part(postcard: &Postcard, named: Named) -> String {
    coloured(
        named.land_colour.then_some(postcard.land_colour),
        postcard.land.word(),
    )
}

fn body_part(body: Body, named: Named) -> String {
    let noun = coloured(named.body_colour.then_some(body.colour), body.kind.word());
    placed(&with_article(&noun), named.body_place.then_some(body.place))
}

fn thing_part(thing: Thing, named: Named) -> String {
    let colour = named.thing_colour.then_some(thing.colour);
    if thing.kind != ThingKind::Tree {
        let noun = with_article(&coloured(colour, thing.kind.word()));
        return placed(&noun, thing.place.filter(|_| named.thing_place));
    }
    let trees = coloured(colour, "trees");
    match thing.count {
        1 => format!("one {}", coloured(colour, "tree")),
        _ if !named.count => trees,
        2 => format!("two {trees}"),
        _ => format!("three {trees}"),
    }
}

fn coloured(colour: Option<Colour>, noun: &str) -> String {
    colour.map_or_else(
        || noun.to_owned(),
        |colour| format!("{} {noun}", colour.word()),
    )
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {noun}")
}

fn placed(noun: &str, place: Option<Place>) -> String {
    match place {
        None => noun.to_owned(),
        Some(Place::Center) => format!("{noun} in the center"),
        Some(place @ (Place::Left | Place::Right)) => format!("{noun} on the {}", place.word()),
    }
}

fn with_time(text: &str, time: Time, rng: &mut SplitMix64) -> String {
    let phrase = rng.pick(phrases(time));
    if rng.chance(0.5) {
        format!("{phrase}, {text}")
    } else {
        format!("{text} {phrase}")
    }
}

/// "a", "a and b", "a, b and c".
fn joined_with_and(parts: &[String]) -> String {
    match parts.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Caption, corpus, vocabulary};
    use crate::postcards::{
        Body, BodyKind, Colour, Land, Named, Place, Postcard, Sky, Split, Thing, ThingKind, Time,
    };

    #[test]
    fn a_regular_caption_says_everything() {
        let postcard = Postcard {
            time: Time::Night,
            land: Land::Sea,
            land_colour: Colour::Green,
            body: Some(Body {
                kind: BodyKind::Moon,
                colour: Colour::Orange,
                place: Place::Center,
            }),
            thing: Some(Thing {
                kind: ThingKind::Boat,
                colour: Colour::Red,
                place: Some(Place::Left),
                count: 1,
            }),
            sky: Sky::Starry,
        };
        for seed in 0..20 {
            let caption = Caption::regular(&postcard, seed);
            assert_eq!(caption.named, Named::all_of(&postcard));
            for part in [
                "green sea",
                "a red boat on the left",
                "an orange moon in the center",
                "stars",
                "night",
            ] {
                assert!(caption.text.contains(part), "{}", caption.text);
            }
            assert_eq!(caption, Caption::regular(&postcard, seed));
        }
    }

    #[test]
    fn wrong_colours_are_never_a_held_out_combination() {
        let mut purple_trees = 0;
        let mut contradicted = 0;
        for seed in 0..3000 {
            let postcard = Postcard::sample(seed, Split::Train);
            let Caption { text, named } = Caption::in_wrong_colours(&postcard, seed);
            assert!(!named.land_colour && !named.body_colour && !named.thing_colour);
            purple_trees += u32::from(text.contains("purple tree"));
            contradicted += u32::from(!text.contains(postcard.land_colour.word()));
        }
        assert_eq!(purple_trees, 0);
        assert!(contradicted > 1000, "{contradicted}");
    }

    #[test]
    fn a_caption_without_colours_names_all_else() {
        for seed in 0..500 {
            let postcard = Postcard::sample(seed, Split::Any);
            let Caption { text, named } = Caption::without_colours(&postcard, seed);
            let colours: Vec<&str> = Colour::ALL.iter().map(|colour| colour.word()).collect();
            assert!(!says(&text, &colours), "{text}");
            assert!(says(&text, &[postcard.land.word()]), "{text}");
            let body = postcard
                .body
                .is_some_and(|body| says(&text, &[body.kind.word()]));
            assert_eq!((named.body, named.body_colour), (body, false), "{text}");
        }
    }

    fn says(text: &str, words: &[&str]) -> bool {
        text.split([' ', ',']).any(|word| words.contains(&word))
    }

    #[test]
    fn words_are_named_exactly_when_said() {
        for seed in 0..3000 {
            let postcard = Postcard::sample(seed, Split::Any);
            let Caption { text, named } = Caption::sample(&postcard, seed);
            assert!(!text.is_empty() && !text.contains("  "), "{text:?}");
            assert_eq!(named.land, says(&text, &[postcard.land.word()]), "{text}");
            assert_eq!(named.sky, says(&text, &["clouds", "stars"]), "{text}");
            if let Some(thing) = postcard.thing {
                assert_eq!(
                    named.thing,
                    says(&text, &[thing.kind.word(), "trees"]),
                    "{text}"
                );
                assert_eq!(named.count, says(&text, &["one", "two", "three"]), "{text}");
            }
            if let Some(body) = postcard.body {
                assert_eq!(named.body, says(&text, &[body.kind.word()]), "{text}");
            }
        }
    }

    #[test]
    fn the_vocabulary_is_what_captions_use() {
        let captions = corpus(6000, 1);
        let used: BTreeSet<&str> = captions
            .iter()
            .flat_map(|text| text.split([' ', ',']))
            .filter(|word| !word.is_empty())
            .collect();
        assert_eq!(used.into_iter().collect::<Vec<_>>(), vocabulary());
    }
}
