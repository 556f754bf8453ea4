//! How large previews may be, so that they do not slow down the picture.
//!
//! Decoding costs about the same per token at every size, and so does drawing.
//! Both are measured while a picture is drawn, the end of the run is foreseen
//! from them, and a preview that would take previews beyond their share is
//! decoded from a coarser grid instead.

use crate::schedule::Scale;

/// Largest share of a run that previews may take. A little below the quarter
/// that is promised, for foresight errs.
const SHARE: f32 = 0.22;
/// Previews of so few tokens are always made: they are what a user waits for first.
const FREE_TOKENS: usize = 4;

/// What decoding has cost so far, over all pictures of one model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DecodeCost {
    /// Seconds whatever the size.
    fixed_secs: Option<f32>,
    /// Seconds per token of the grid.
    per_token_secs: Option<f32>,
}

impl DecodeCost {
    /// Takes in that decoding `tokens` took `secs`.
    pub(super) fn learn(&mut self, tokens: usize, secs: f32) {
        let fixed = self.fixed_secs.map_or(secs, |known| known.min(secs));
        self.fixed_secs = Some(fixed);
        if tokens > FREE_TOKENS {
            self.per_token_secs = Some((secs - fixed).max(0.0) / tokens as f32);
        }
    }

    /// Seconds that decoding `tokens` will take; `None` before anything is known.
    fn foresee(&self, tokens: usize) -> Option<f32> {
        let fixed = self.fixed_secs?;
        // Until a larger grid was decoded, all of the time may have been per token.
        Some(
            self.per_token_secs
                .map_or(fixed * tokens as f32, |per| fixed + per * tokens as f32),
        )
    }
}

/// Where a run is when a preview is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Seconds since the job started.
    pub(super) elapsed_secs: f32,
    /// Of those, spent on previews.
    pub(super) preview_secs: f32,
    /// Seconds the scale just finished took per token.
    pub(super) draw_secs_per_token: f32,
    /// Tokens of the scales still to draw.
    pub(super) tokens_left: usize,
    /// Tokens of the finished picture.
    pub(super) last_tokens: usize,
}

/// The finest grid of `scales`, up to `index`, of at most `most_tokens`, whose preview keeps within the share.
pub(super) fn preview_grid(
    scales: &[Scale],
    index: usize,
    most_tokens: usize,
    cost: &DecodeCost,
    at: Moment,
) -> Option<Scale> {
    let fits = |scale: &Scale| {
        let tokens = scale.tokens();
        if tokens <= FREE_TOKENS || tokens > most_tokens {
            return tokens <= FREE_TOKENS;
        }
        let (Some(own), Some(last)) = (cost.foresee(tokens), cost.foresee(at.last_tokens)) else {
            return false;
        };
        let to_draw = at.draw_secs_per_token * at.tokens_left as f32;
        let total = at.elapsed_secs + own + to_draw + last;
        at.preview_secs + own <= SHARE * total
    };
    scales
        .iter()
        .take(index + 1)
        .rev()
        .find(|scale| fits(scale))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::ScaleSchedule;

    /// The side of the preview of each scale but the last, and the share previews took.
    fn run(
        draw_per_token: f32,
        fixed: f32,
        decode_per_token: f32,
        mut cost: DecodeCost,
    ) -> (Vec<usize>, f32, DecodeCost) {
        let scales = ScaleSchedule::nearest(1.0, 7).unwrap().scales;
        let decode = |tokens: usize| fixed + decode_per_token * tokens as f32;
        let (mut elapsed_secs, mut preview_secs) = (0.01, 0.0);
        let mut sides = Vec::new();
        for index in 0..6 {
            elapsed_secs += draw_per_token * scales[index].tokens() as f32;
            let at = Moment {
                elapsed_secs,
                preview_secs,
                draw_secs_per_token: draw_per_token,
                tokens_left: scales[index + 1..].iter().map(|s| s.tokens()).sum(),
                last_tokens: 256,
            };
            let grid = preview_grid(&scales, index, 256, &cost, at).unwrap();
            let secs = decode(grid.tokens());
            cost.learn(grid.tokens(), secs);
            elapsed_secs += secs;
            preview_secs += secs;
            sides.push(grid.h);
        }
        cost.learn(256, decode(256));
        let total = elapsed_secs + draw_per_token * 256.0 + decode(256);
        (sides, preview_secs / total, cost)
    }

    #[test]
    fn cheap_decoding_shows_every_scale_at_its_size() {
        let (_, _, cost) = run(4e-3, 1e-3, 1e-4, DecodeCost::default());
        let (sides, share, _) = run(4e-3, 1e-3, 1e-4, cost);
        assert_eq!(sides, [1, 2, 4, 6, 8, 12]);
        assert!(share < 0.1, "{share}");
    }

    #[test]
    fn little_memory_shows_coarser_pictures() {
        let scales = ScaleSchedule::nearest(1.0, 7).unwrap().scales;
        let (_, _, cost) = run(4e-3, 1e-3, 1e-4, DecodeCost::default());
        let at = Moment {
            elapsed_secs: 10.0,
            preview_secs: 0.0,
            draw_secs_per_token: 1.0,
            tokens_left: 256,
            last_tokens: 256,
        };
        let side = |most| preview_grid(&scales, 5, most, &cost, at).unwrap().h;
        assert_eq!([side(256), side(64), side(63), side(0)], [12, 8, 6, 2]);
    }

    #[test]
    fn dear_decoding_shows_coarser_pictures() {
        let mut cost = DecodeCost::default();
        for round in 0..2 {
            let (sides, share, learned) = run(1e-3, 1e-3, 2e-3, cost);
            cost = learned;
            assert!(share < 0.25, "round {round}: {sides:?} {share}");
            assert!(sides.iter().all(|&side| side >= 1), "{sides:?}");
            assert!(sides[5] < 12, "{sides:?}");
        }
    }
}
