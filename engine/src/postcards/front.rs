//! Finds what stands before sky and land: settles who owns the pixels that both the body and the thing claim, and
//! names their colours.

use super::attributes::Colour;
use super::backdrop::{Backdrop, least};
use super::fit::Field;
use super::postcard::{Body, Thing};
use super::view::{View, distance, tone};

/// What stands before the backdrop, and where.
#[derive(Clone, Debug, Default)]
pub(super) struct Front {
    pub(super) body: Option<Body>,
    pub(super) thing: Option<Thing>,
    /// Per pixel: whether the body or the thing covers it.
    pub(super) covered: Vec<bool>,
}

/// Finds the body and the thing; the one that explains more first, then the other in what is left of the picture.
pub(super) fn find_front(view: &View, backdrop: &Backdrop) -> Front {
    let mut field = Field::new(view, backdrop);
    let mut body = field.find_body();
    let mut thing = field.find_thing();
    if let (Some(first), Some(second)) = (&body, &thing)
        && overlap(&first.covered, &second.covered)
    {
        // The greater gain is the truer one where both claim the same pixels: a sun fits into a balloon, but explains
        // less of it. The other has to make do with what is left.
        if first.score.gain > second.score.gain {
            field.cover(&first.covered);
            thing = field.find_thing();
        } else {
            field.cover(&second.covered);
            body = field.find_body();
        }
    }
    if let Some(fit) = &mut body {
        fit.what.colour = purest_colour(
            view,
            backdrop,
            fit.what.colour,
            &fit.covered,
            Colour::OF_BODIES,
        );
    }
    if let Some(fit) = &mut thing {
        fit.what.colour = purest_colour(
            view,
            backdrop,
            fit.what.colour,
            &fit.covered,
            Colour::OF_THINGS,
        );
    }
    let mut covered = vec![false; view.tones.len()];
    let in_body = body.iter().flat_map(|fit| &fit.covered);
    for &(place, _) in in_body.chain(thing.iter().flat_map(|fit| &fit.covered)) {
        if let Some(flag) = covered.get_mut(place) {
            *flag = true;
        }
    }
    Front {
        body: body.map(|fit| fit.what),
        thing: thing.map(|fit| fit.what),
        covered,
    }
}

fn overlap(some: &[(usize, bool)], others: &[(usize, bool)]) -> bool {
    let mut places: Vec<usize> = some.iter().map(|(place, _)| *place).collect();
    places.sort_unstable();
    others
        .iter()
        .any(|(place, _)| places.binary_search(place).is_ok())
}

/// The colour that the pixels mix with their backdrop.
///
/// Blur darkens a yellow crescent at night until most of its pixels are nearer to orange than to yellow; but they all
/// lie between yellow and the night, not between orange and the night.
fn purest_colour(
    view: &View,
    backdrop: &Backdrop,
    seen: Colour,
    covered: &[(usize, bool)],
    colours: &[Colour],
) -> Colour {
    let cost = |colour: &Colour| {
        let ink = tone(colour.rgb().map(f32::from));
        let own = covered.iter().filter(|(_, is_own)| *is_own);
        let misfits = own.filter_map(|&(place, _)| {
            let y = ((place / view.width.max(1)) as f32 + 0.5) / view.height as f32;
            let at = view.tones.get(place)?;
            Some((backdrop.distance_to_mix_with(ink, *at, y) + 0.3 * distance(*at, ink)).min(80.0))
        });
        // The colour found before wins a near tie.
        misfits.sum::<f32>() * if *colour == seen { 0.9 } else { 1.0 }
    };
    least(colours, cost)
}
