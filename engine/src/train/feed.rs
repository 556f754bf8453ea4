//! Painted batches, and what is made of them, prepared on a thread of their own.
//!
//! Batch `n` is a pure function of the seed and `n`, so a resumed run sees the
//! same pictures as one that never stopped.

use crossbeam_channel::{Receiver, bounded};

use super::config::{Phase, place_of};
use crate::api::{EngineError, Rgb8Image};
use crate::postcards::{Caption, Inks, Postcard, Sky, grade, paint_in, scribble};
use crate::random::Stream;
use crate::schedule::ScaleSchedule;

/// Postcards that are looked at for one with stars.
const MOST_TRIED: u64 = 100;

/// Pictures of one size with their captions.
pub struct Batch {
    /// Which update it is for, from 0.
    pub step: u64,
    /// The grids of the pictures.
    pub schedule: ScaleSchedule,
    /// The grids to train: all, or the first of them ([`Phase::first_scales`]).
    pub learned: ScaleSchedule,
    /// How many of these are given and not learned: 0 unless the batch is about finishing ([`Phase::finish`]).
    pub given: usize,
    /// The pictures.
    pub images: Vec<Rgb8Image>,
    /// A caption for each.
    pub captions: Vec<Caption>,
    /// What each picture shows.
    pub cards: Vec<Postcard>,
    /// The number each picture was painted from.
    pub card_seeds: Vec<u64>,
    /// Whether a picture is all that its number says: in its own colours, not scribbled on.
    pub plain: Vec<bool>,
}

/// Makes the batch of `step`, of cards that `world` gives for numbers; `None` after the last phase. `pool` bounds how
/// many different numbers there are.
///
/// # Errors
/// [`EngineError::BadSetting`] for a ratio or scale count that is not in the table.
pub fn make_batch(
    seed: u64,
    step: u64,
    phases: &[Phase],
    pool: u64,
    world: fn(u64) -> Postcard,
) -> Result<Option<Batch>, EngineError> {
    let Some(place) = place_of(phases, step, 0) else {
        return Ok(None);
    };
    let stream = Stream::new(seed ^ 0xBA7C, step);
    let ratios = &place.phase.ratios;
    let ratio = ratios
        .get(stream.below(0, ratios.len()))
        .copied()
        .unwrap_or(1.0);
    let schedule = ScaleSchedule::nearest(ratio, place.phase.scale_count)?;
    let (width, height) = schedule.size_px();
    let mut learned = schedule.clone();
    let counts = &place.phase.first_scales;
    let finishing = stream.uniform(2) < f64::from(place.phase.finish);
    match counts.get(stream.below(1, counts.len().max(1))) {
        Some(&count) if !finishing => learned.scales.truncate(count),
        _ => {}
    }
    let given = if finishing {
        place.phase.finish_from
    } else {
        0
    };
    let mut batch = Batch {
        step,
        schedule,
        learned,
        given,
        images: Vec::new(),
        captions: Vec::new(),
        cards: Vec::new(),
        card_seeds: Vec::new(),
        plain: Vec::new(),
    };
    for index in 0..place.phase.batch as u64 {
        let free = Stream::new(seed ^ 0xC010, step << 16 | index);
        let first_seed = stream.bits(16 + index);
        let numbered = |next: u64| {
            let number = first_seed.wrapping_add(next);
            if pool > 0 { number % pool } else { number }
        };
        let mut card_seed = numbered(0);
        if free.uniform(5) < f64::from(place.phase.starry) {
            let mut others = (0..MOST_TRIED).map(numbered);
            let starry = others.find(|&number| world(number).sky == Sky::Starry);
            card_seed = starry.unwrap_or(card_seed);
        }
        let card = world(card_seed);
        let recoloured = finishing || free.uniform(0) < f64::from(place.phase.recolour);
        let inks = if recoloured {
            Inks::any(&card, free.bits(1))
        } else {
            Inks::of(&card)
        };
        let mut image = paint_in(&card, &inks, card_seed, width, height);
        let scribbled = free.uniform(2) < f64::from(place.phase.scribble);
        if scribbled {
            image = scribble(&image, free.bits(3));
        }
        let graded = free.uniform(6) < f64::from(place.phase.grade);
        if graded {
            image = grade(&image, free.bits(7));
        }
        batch.plain.push(!recoloured && !scribbled && !graded);
        batch.images.push(image);
        let words = stream.bits(1 << 20 | index);
        let contradicted = free.uniform(4) < f64::from(place.phase.contradict);
        batch.captions.push(if finishing && contradicted {
            Caption::in_wrong_colours(&card, words)
        } else if finishing {
            Caption::without_colours(&card, words)
        } else {
            Caption::sample(&card, words)
        });
        batch.cards.push(card);
        batch.card_seeds.push(card_seed);
    }
    Ok(Some(batch))
}

/// Starts a thread that gives `make` one batch number after the other from `first_step` on, at most three
/// ahead, until it gives nothing or an error.
///
/// # Errors
/// [`EngineError::Internal`] when the system gives no thread.
pub fn start<T: Send + 'static>(
    first_step: u64,
    mut make: impl FnMut(u64) -> Result<Option<T>, EngineError> + Send + 'static,
) -> Result<Receiver<Result<T, EngineError>>, EngineError> {
    let (sender, receiver) = bounded(3);
    let failed = |error: &dyn std::fmt::Display| {
        EngineError::internal(format!("starting the painter: {error}"))
    };
    // One core: the others are busy with updates.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| failed(&error))?;
    std::thread::Builder::new()
        .name("painter".to_owned())
        .spawn(move || {
            for step in first_step.. {
                let made = match pool.install(|| make(step)) {
                    Ok(Some(batch)) => Ok(batch),
                    Ok(None) => return,
                    Err(error) => Err(error),
                };
                let failed = made.is_err();
                if sender.send(made).is_err() || failed {
                    return;
                }
            }
        })
        .map_err(|error| failed(&error))?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::make_batch;
    use crate::postcards::{Postcard, Sky, paint};
    use crate::train::config::Phase;

    fn phase(starry: f32) -> Phase {
        let text = format!(
            r#"{{"steps": 4, "batch": 16, "scale_count": 3, "ratios": [1.0], "learning_rate": [0.1, 0.1], "starry": {starry}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    /// Starry nights are as frequent as asked, and a card is still what its number says.
    #[test]
    fn more_nights_are_starry_when_asked() {
        let count = |starry: f32, pool: u64| {
            let phases = [phase(starry)];
            let batches = (0..4).map(|step| {
                make_batch(5, step, &phases, pool, Postcard::learned)
                    .unwrap()
                    .unwrap()
            });
            let mut starred = 0;
            for batch in batches {
                let (width, height) = batch.schedule.size_px();
                for ((card, seed), image) in
                    batch.cards.iter().zip(&batch.card_seeds).zip(&batch.images)
                {
                    assert_eq!(*card, Postcard::learned(*seed));
                    assert!(pool == 0 || *seed < pool);
                    assert_eq!(*image, paint(card, *seed, width, height));
                    starred += usize::from(card.sky == Sky::Starry);
                }
            }
            starred
        };
        assert!(count(0.0, 0) < 20);
        assert!((30..56).contains(&count(0.6, 0)));
        assert!((30..56).contains(&count(0.6, 200)));
    }
}
