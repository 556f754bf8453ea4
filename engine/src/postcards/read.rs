//! The reader: says what a picture of the postcard world shows, and whether that is what a caption named.
//!
//! Every decision takes the best among all alternatives, so it also works on the soft pictures of a small decoder.
//! `backdrop` reads time and land, `fit` the body and the thing; clouds and stars are read here, from what is left.

use serde::{Deserialize, Serialize};

use super::attributes::{Sky, Time};
use super::backdrop::Backdrop;
use super::front::{Front, find_front};
use super::postcard::{Body, Named, Postcard, Thing};
use super::view::{Tone, View, along, distance_to_mix, pixel_of, tone};
use crate::api::Rgb8Image;

/// What `image` shows, as nearly as this world can say it; an empty picture reads as the default postcard.
pub fn read(image: &Rgb8Image) -> Postcard {
    let view = View::new(image);
    if view.tones.is_empty() {
        return Postcard::default();
    }
    let mut backdrop = Backdrop::read(&view);
    let front = find_front(&view, &backdrop);
    backdrop.read_land_behind(&view, &front.covered);
    let sky = read_sky(&view, &backdrop, &front);
    Postcard {
        time: backdrop.time,
        land: backdrop.land,
        land_colour: backdrop.land_colour,
        body: front.body,
        thing: front.thing,
        sky,
    }
}

/// Reads `image` and checks the attributes of `wanted` that are `named`.
pub fn check(image: &Rgb8Image, wanted: &Postcard, named: Named) -> Checks {
    Checks::compare(&read(image), wanted, named)
}

/// One answer per attribute: `None` when the caption does not name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// The sky's colours are those of the time.
    pub time: Option<bool>,
    /// Kind of land.
    pub land: Option<bool>,
    /// Colour of the land.
    pub land_colour: Option<bool>,
    /// A body of this kind is there.
    pub body: Option<bool>,
    /// Colour of the body.
    pub body_colour: Option<bool>,
    /// Third that the body is in.
    pub body_place: Option<bool>,
    /// A thing of this kind is there.
    pub thing: Option<bool>,
    /// Colour of the thing.
    pub thing_colour: Option<bool>,
    /// Third that the thing is in.
    pub thing_place: Option<bool>,
    /// Number of trees.
    pub count: Option<bool>,
    /// Clouds or stars are there; or neither, where a clear sky is named.
    pub sky: Option<bool>,
}

impl Checks {
    /// Checks what was read against the named attributes of what was wanted.
    pub fn compare(read: &Postcard, wanted: &Postcard, named: Named) -> Self {
        let body = |same: fn(&Body, &Body) -> bool| {
            read.body
                .zip(wanted.body)
                .is_some_and(|(read, wanted)| same(&read, &wanted))
        };
        let thing = |same: fn(&Thing, &Thing) -> bool| {
            read.thing
                .zip(wanted.thing)
                .is_some_and(|(read, wanted)| same(&read, &wanted))
        };
        Self {
            time: named.time.then_some(read.time == wanted.time),
            land: named.land.then_some(read.land == wanted.land),
            land_colour: named
                .land_colour
                .then_some(read.land_colour == wanted.land_colour),
            body: named.body.then(|| body(|a, b| a.kind == b.kind)),
            body_colour: named.body_colour.then(|| body(|a, b| a.colour == b.colour)),
            body_place: named.body_place.then(|| body(|a, b| a.place == b.place)),
            thing: named.thing.then(|| thing(|a, b| a.kind == b.kind)),
            thing_colour: named
                .thing_colour
                .then(|| thing(|a, b| a.colour == b.colour)),
            thing_place: named.thing_place.then(|| thing(|a, b| a.place == b.place)),
            count: named.count.then(|| thing(|a, b| a.count == b.count)),
            sky: named.sky.then_some(read.sky == wanted.sky),
        }
    }

    /// Every attribute's name with its answer, in the order of the fields.
    pub fn entries(&self) -> [(&'static str, Option<bool>); 11] {
        [
            ("time", self.time),
            ("land", self.land),
            ("land colour", self.land_colour),
            ("body", self.body),
            ("body colour", self.body_colour),
            ("body place", self.body_place),
            ("thing", self.thing),
            ("thing colour", self.thing_colour),
            ("thing place", self.thing_place),
            ("count", self.count),
            ("sky", self.sky),
        ]
    }

    /// Whether every named attribute holds, but for clouds and stars.
    ///
    /// A star is smaller than a pixel of a small picture, so the sky is counted apart.
    pub fn followed(&self) -> bool {
        Self { sky: None, ..*self }.followed_with_sky()
    }

    /// Whether every named attribute holds.
    pub fn followed_with_sky(&self) -> bool {
        self.entries()
            .iter()
            .all(|(_, holds)| *holds != Some(false))
    }
}

/// Clouds are looked for above here, and stars above the highest mountains.
const CLOUDS_END: f32 = 0.45;
const STARS_END: f32 = 0.36;
/// Clouds cover at least this much, in squared shorter sides; two painted ones cover about .02.
const LEAST_CLOUD: f32 = 0.005;
/// Mean third power of how far details stand out; blurred stars have 0.15 or more, noise below 0.05.
const LEAST_STARLIGHT: f32 = 0.08;

/// Part that this sum is of the same sum without signs; 1 for a still sky with stars, about 0 for noise.
const LEAST_LOPSIDED: f32 = 0.15;

fn read_sky(view: &View, backdrop: &Backdrop, front: &Front) -> Sky {
    let covered = view.widened(&front.covered, 5);
    let area = view.short() * view.short();
    if backdrop.time == Time::Night {
        let (light, noise) = starlight(view, &covered);
        let is_starry = light / area > LEAST_STARLIGHT && light > LEAST_LOPSIDED * noise;
        return if is_starry { Sky::Starry } else { Sky::Clear };
    }
    let white = tone([245.0, 245.0, 240.0]);
    let is_cloud = |at: Tone, y: f32| {
        let sky = backdrop.sky(y);
        along(at, sky, white) > 0.4 && distance_to_mix(at, sky, white) < 18.0
    };
    let rows = view
        .rows()
        .zip(covered.chunks_exact(view.width))
        .take_while(|((y, _), _)| *y < CLOUDS_END);
    let cloud = rows
        .map(|((y, tones), covered)| {
            let free = tones.iter().zip(covered).filter(|(_, covered)| !**covered);
            free.filter(|(at, _)| is_cloud(**at, y)).count()
        })
        .sum::<usize>();
    if cloud as f32 / area > LEAST_CLOUD {
        Sky::Cloudy
    } else {
        Sky::Clear
    }
}

/// Sums the third powers of the sky's fine detail, with and without their signs: noise goes up and down alike, stars
/// only up.
fn starlight(view: &View, covered: &[bool]) -> (f32, f32) {
    const FAR: usize = 4;
    let rows = pixel_of(STARS_END, view.height);
    // Only free pixels count, else a bright body would darken its surroundings.
    let mean = |column: usize, row: usize, reach: usize| {
        let (mut sum, mut count) = (0.0, 0.0);
        for near_row in row - reach..=row + reach {
            let start = near_row * view.width + column - reach;
            let near = start..=start + 2 * reach;
            let tones = view.tones.get(near.clone()).unwrap_or(&[]);
            for ([brightness, _, _], covered) in tones.iter().zip(covered.get(near).unwrap_or(&[]))
            {
                if !*covered {
                    sum += brightness;
                    count += 1.0;
                }
            }
        }
        sum / f32::max(count, 1.0)
    };
    let (mut light, mut noise) = (0.0, 0.0);
    for row in FAR..rows {
        for column in FAR..view.width.saturating_sub(FAR) {
            if covered.get(row * view.width + column) == Some(&false) {
                let detail = mean(column, row, 1) - mean(column, row, FAR);
                let cube = detail.clamp(-12.0, 12.0).powi(3);
                light += cube;
                noise += cube.abs();
            }
        }
    }
    (light, noise)
}

#[cfg(test)]
mod tests {
    use super::{Checks, check, read};
    use crate::api::Rgb8Image;
    use crate::postcards::{
        Body, BodyKind, Colour, Land, Named, Place, Postcard, Sky, Split, SplitMix64, Thing,
        ThingKind, Time, paint,
    };

    /// Postcards a test; few without optimisation, where reading one takes a tenth of a second.
    const COUNT: u64 = if cfg!(debug_assertions) { 50 } else { 500 };
    const SIZES: [(u32, u32); 5] = [(128, 128), (256, 256), (160, 128), (128, 192), (192, 112)];

    /// Every attribute that the postcard has, a clear sky as well.
    fn all_named(postcard: &Postcard) -> Named {
        Named {
            sky: true,
            ..Named::all_of(postcard)
        }
    }

    fn others<T: Copy + PartialEq>(values: &[T], value: T) -> impl Iterator<Item = T> {
        values.iter().copied().filter(move |other| *other != value)
    }

    /// The postcard with one attribute changed, in all ways; a changed prompt need not be a legal postcard.
    fn changed(postcard: &Postcard) -> Vec<Postcard> {
        let card = *postcard;
        let mut all: Vec<Postcard> = Vec::new();
        all.extend(others(Time::ALL, card.time).map(|time| Postcard { time, ..card }));
        all.extend(others(Land::ALL, card.land).map(|land| Postcard { land, ..card }));
        let colours = others(Colour::OF_LANDS, card.land_colour);
        all.extend(colours.map(|land_colour| Postcard {
            land_colour,
            ..card
        }));
        all.extend(others(Sky::ALL, card.sky).map(|sky| Postcard { sky, ..card }));
        if let Some(body) = card.body {
            let mut bodies: Vec<Body> = Vec::new();
            bodies.extend(others(BodyKind::ALL, body.kind).map(|kind| Body { kind, ..body }));
            bodies.extend(
                others(Colour::OF_BODIES, body.colour).map(|colour| Body { colour, ..body }),
            );
            bodies.extend(others(Place::ALL, body.place).map(|place| Body { place, ..body }));
            all.extend(bodies.into_iter().map(|body| Postcard {
                body: Some(body),
                ..card
            }));
        }
        if let Some(thing) = card.thing {
            let mut things: Vec<Thing> = Vec::new();
            things.extend(others(ThingKind::ALL, thing.kind).map(|kind| Thing { kind, ..thing }));
            things.extend(
                others(Colour::OF_THINGS, thing.colour).map(|colour| Thing { colour, ..thing }),
            );
            if let Some(place) = thing.place {
                things.extend(others(Place::ALL, place).map(|place| Thing {
                    place: Some(place),
                    ..thing
                }));
            } else {
                things
                    .extend(others(&[1, 2, 3], thing.count).map(|count| Thing { count, ..thing }));
            }
            all.extend(things.into_iter().map(|thing| Postcard {
                thing: Some(thing),
                ..card
            }));
        }
        all
    }

    /// Blurs with a Gaussian, then shifts all colours alike, and each pixel by noise.
    fn soften(image: &Rgb8Image, sigma: f32, seed: u64) -> Rgb8Image {
        let mut rng = SplitMix64::new(seed);
        let (width, height) = (image.width as usize, image.height as usize);
        let reach: isize = 5; // Enough for a sigma of 1.5.
        let weights: Vec<f32> = (-reach..=reach)
            .map(|at| (-(at * at) as f32 / (2.0 * sigma * sigma)).exp())
            .collect();
        let total: f32 = weights.iter().sum();
        let mut values: Vec<f32> = image.pixels.iter().map(|&byte| f32::from(byte)).collect();
        for (step, size) in [(1, width), (width, height)] {
            let before = values.clone();
            for (place, value) in values.iter_mut().enumerate() {
                let (pixel, channel) = (place / 3, place % 3);
                let at = (pixel / step) % size;
                let sum: f32 = (-reach..=reach)
                    .zip(&weights)
                    .map(|(offset, weight)| {
                        let near = at.saturating_add_signed(offset).min(size - 1);
                        weight * before[(pixel - at * step + near * step) * 3 + channel]
                    })
                    .sum();
                *value = sum / total;
            }
        }
        let drift = [0; 3].map(|_| rng.around(0.0, 6.0));
        let pixels = values.iter().enumerate().map(|(place, value)| {
            let noise = rng.around(0.0, 4.0) + rng.around(0.0, 4.0);
            crate::postcards::paint::byte(value + drift[place % 3] + noise)
        });
        Rgb8Image::new(image.width, image.height, pixels.collect()).unwrap()
    }

    /// Over all sizes: every postcard is read right, and no changed prompt passes.
    #[test]
    fn painted_pictures_follow_their_prompt_and_no_other() {
        let (mut followed, mut fooled, mut changes) = (0u64, 0u64, 0u64);
        for (seed, (width, height)) in (0..COUNT).zip(SIZES.into_iter().cycle()) {
            let postcard = Postcard::sample(1000 + seed, Split::Any);
            let seen = read(&paint(&postcard, seed, width, height));
            let named = all_named(&postcard);
            followed += u64::from(Checks::compare(&seen, &postcard, named).followed_with_sky());
            for other in changed(&postcard) {
                changes += 1;
                fooled += u64::from(Checks::compare(&seen, &other, named).followed_with_sky());
            }
        }
        assert!(followed * 100 >= COUNT * 99, "{followed} of {COUNT} follow");
        assert!(
            fooled * 100 <= changes,
            "{fooled} of {changes} changed prompts pass"
        );
    }

    #[test]
    fn soft_pictures_are_still_read() {
        let mut missed = Vec::new();
        for seed in 0..COUNT {
            let postcard = Postcard::sample(5000 + seed, Split::Any);
            let sigma = if seed % 2 == 0 { 1.0 } else { 1.5 };
            let image = soften(&paint(&postcard, seed, 128, 128), sigma, seed);
            let checks = check(&image, &postcard, all_named(&postcard));
            if !checks.followed_with_sky() {
                missed.push((seed, checks));
            }
        }
        let followed = COUNT - missed.len() as u64;
        assert!(followed * 100 >= COUNT * 97, "{missed:?}");
    }

    #[test]
    fn what_is_not_there_is_not_seen() {
        let mut wrong = Vec::new();
        for seed in 0..COUNT / 5 {
            let sampled = Postcard::sample(seed, Split::Any);
            let empty = Postcard {
                body: None,
                thing: None,
                ..sampled
            };
            let seen = read(&paint(&empty, seed, 128, 128));
            if seen != empty {
                wrong.push((seed, seen));
            }
        }
        assert!(wrong.len() <= 1, "{wrong:?}");
    }

    #[test]
    fn unnamed_attributes_are_free() {
        let postcard = Postcard::sample(4, Split::Any);
        let other = Postcard {
            time: Time::Night,
            sky: Sky::Starry,
            ..postcard
        };
        let image = paint(&other, 4, 128, 128);
        let free = Named {
            time: false,
            sky: false,
            ..Named::all_of(&postcard)
        };
        assert_eq!(check(&image, &postcard, free).time, None);
        assert!(check(&image, &postcard, free).followed_with_sky());
    }

    #[test]
    fn tiny_and_empty_pictures_do_not_stop_the_reader() {
        for (width, height) in [(0, 0), (1, 1), (3, 40), (16, 16), (300, 5)] {
            let pixels = vec![128; (width * height * 3) as usize];
            read(&Rgb8Image::new(width, height, pixels).unwrap());
        }
    }
}
