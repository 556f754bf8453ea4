//! What a model that draws in scales can do besides: drafts, rebuilding, masks, pictures from pictures, two prompts.
//! All through the real channels.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use infinity_engine::EngineHandle;
use infinity_engine::api::{
    Doubt, EngineError, Event, GenerateSpec, Mask, Rgb8Image, Sides, Source, Task,
};
use infinity_engine::kernels;
use infinity_tests::models::{self, STARTER_SCALES, STARTER_SIDE};

const PROMPT: &str = "at night, a red house on the left, green hills, a white moon on the right";

fn engine() -> EngineHandle {
    models::engine(&models::starter())
}

struct Drawn {
    image: Rgb8Image,
    spec: GenerateSpec,
    doubt: Option<Doubt>,
}

fn run(engine: &EngineHandle, task: Task) -> Result<Drawn, EngineError> {
    engine.run(task).unwrap();
    loop {
        match engine.wait_event().expect("the engine is there") {
            Event::ImageDone {
                image, spec, doubt, ..
            } => return Ok(Drawn { image, spec, doubt }),
            Event::Failed { error, .. } => return Err(error),
            _ => {}
        }
    }
}

fn drafts(
    engine: &EngineHandle,
    spec: &GenerateSpec,
    (count, scales): (usize, usize),
) -> Result<(Vec<(Rgb8Image, GenerateSpec)>, f32), EngineError> {
    let spec = spec.clone();
    engine
        .run(Task::Drafts {
            spec,
            count,
            scales,
        })
        .unwrap();
    let mut all = Vec::new();
    loop {
        match engine.wait_event().expect("the engine is there") {
            Event::DraftDone {
                index, image, spec, ..
            } => {
                assert_eq!(index, all.len());
                all.push((image, spec));
            }
            Event::DraftsDone { cost, .. } => return Ok((all, cost)),
            Event::Failed { error, .. } => return Err(error),
            _ => {}
        }
    }
}

fn rebuilt(engine: &EngineHandle, spec: &GenerateSpec) -> Result<Vec<Rgb8Image>, EngineError> {
    engine.run(Task::Rebuild(spec.clone())).unwrap();
    loop {
        match engine.wait_event().expect("the engine is there") {
            Event::Rebuilt { scales, .. } => return Ok(scales),
            Event::Failed { error, .. } => return Err(error),
            _ => {}
        }
    }
}

/// Fifty drafts, sixteen at a time; every one, finished, is the picture drawn in one go, to the bit.
#[test]
fn finished_drafts_are_the_pictures_drawn_in_one_go() {
    let engine = engine();
    for (ratio, count, scales) in [(1.0, 20, 3), (1.5, 13, 4), (0.8, 9, 1), (1.0, 8, 2)] {
        let spec = GenerateSpec {
            ratio,
            half_products: scales == 2,
            ..GenerateSpec::new(PROMPT, 100 * scales as u64)
        };
        let (all, cost) = drafts(&engine, &spec, (count, scales)).unwrap();
        assert_eq!(all.len(), count);
        assert!(cost < count as f32 * 0.6, "{cost}");
        for (index, (image, draft)) in all.iter().enumerate() {
            assert!(image.width < 256 && draft.keep == scales);
            let finished = run(&engine, Task::Generate(draft.clone())).unwrap();
            let seed = spec.seed + index as u64;
            let whole = GenerateSpec {
                seed,
                ..spec.clone()
            };
            let whole = run(&engine, Task::Generate(whole)).unwrap();
            assert_eq!(
                finished.spec.bits, whole.spec.bits,
                "{ratio} {scales} {index}"
            );
            assert!(finished.image == whole.image);
        }
    }
    for (count, scales) in [(0, 3), (65, 3), (4, 0), (4, STARTER_SCALES), (4, 99)] {
        let error = drafts(&engine, &GenerateSpec::new("a", 1), (count, scales)).unwrap_err();
        assert!(error.to_string().contains("draft"), "{error}");
    }
    engine.shut_down().unwrap();
}

/// Rounded products draw what exact ones draw but for bits in doubt, the same every time, and the recipe says so.
#[test]
fn rounded_products_draw_nearly_the_same() {
    let engine = engine();
    let drawn = |half_products| {
        let spec = GenerateSpec {
            half_products,
            ..GenerateSpec::new(PROMPT, 5)
        };
        run(&engine, Task::Generate(spec)).unwrap()
    };
    let (exact, half, again) = (drawn(false), drawn(true), drawn(true));
    assert!(half.image == again.image && half.spec == again.spec);
    assert!(half.spec.half_products && !exact.spec.half_products);
    let bits = |drawn: &Drawn| drawn.spec.bits.as_ref().unwrap().scales().unwrap();
    for (scale, (a, b)) in bits(&exact).iter().zip(bits(&half)).enumerate() {
        let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
        assert!(
            10 * same >= 9 * a.len(),
            "scale {scale}: {same} of {}",
            a.len()
        );
    }
    assert_eq!(exact.image == half.image, !kernels::has_half_products());
    assert!(rebuilt(&engine, &half.spec).unwrap().last() == Some(&half.image));
    assert!(rebuilt(&engine, &exact.spec).unwrap().last() == Some(&exact.image));
    engine.shut_down().unwrap();
}

/// Drafts can start from scales of a picture: variations of one layout.
#[test]
fn drafts_of_a_layout_keep_it() {
    let engine = engine();
    let parent = run(&engine, Task::Generate(GenerateSpec::new(PROMPT, 5))).unwrap();
    let spec = GenerateSpec {
        keep: 2,
        seed: 77,
        ..parent.spec.clone()
    };
    let (all, _) = drafts(&engine, &spec, (4, 4)).unwrap();
    let own = parent.spec.bits.unwrap().scales().unwrap();
    let mut bits = Vec::new();
    for (_, draft) in &all {
        let other = draft.bits.as_ref().unwrap().scales().unwrap();
        assert_eq!(other.len(), 4);
        assert_eq!(own[..2], other[..2]);
        bits.push(other);
    }
    assert!(bits.windows(2).any(|pair| pair[0] != pair[1]));
    engine.shut_down().unwrap();
}

#[test]
fn pictures_are_rebuilt_from_their_bits() {
    let engine = engine();
    for ratio in [1.0, 1.5] {
        let wish = GenerateSpec {
            ratio,
            ..GenerateSpec::new(PROMPT, 9)
        };
        let drawn = run(&engine, Task::Generate(wish)).unwrap();
        let scales = rebuilt(&engine, &drawn.spec).unwrap();
        assert_eq!(scales.len(), STARTER_SCALES);
        assert!(scales.last() == Some(&drawn.image));
        assert!(
            scales
                .windows(2)
                .all(|pair| pair[0].pixels.len() < pair[1].pixels.len())
        );
        let without = GenerateSpec {
            bits: None,
            ..drawn.spec
        };
        let error = rebuilt(&engine, &without).unwrap_err().to_string();
        assert!(error.contains("without bits"), "{error}");
    }
    engine.shut_down().unwrap();
}

/// Outside of a mask every byte stays; the part inside becomes another; the result can be drawn on.
#[test]
fn masks_keep_the_outside_byte_for_byte() {
    let engine = engine();
    let parent = run(&engine, Task::Generate(GenerateSpec::new(PROMPT, 5))).unwrap();
    let (width, height) = (parent.image.width, parent.image.height);
    let hard = Mask::from_fn(width, height, |x, y| {
        if (10..60).contains(&x) && (40..110).contains(&y) {
            255
        } else {
            0
        }
    });
    let mask = hard.feathered(4);
    let source = Source {
        picture: parent.image.clone(),
        mask: Some(mask.clone()),
    };
    let wish = GenerateSpec {
        keep: 0,
        prompt: PROMPT.replace("red house", "yellow lighthouse"),
        ..parent.spec.clone()
    };
    let task = |spec: &GenerateSpec, source: &Source| Task::GenerateFrom {
        spec: spec.clone(),
        source: source.clone(),
    };
    let edited = run(&engine, task(&wish, &source)).unwrap();
    let differs = |x: u32, y: u32| edited.image.pixel(x, y) != parent.image.pixel(x, y);
    let mut changed = 0;
    for (x, y) in (0..width).flat_map(|x| (0..height).map(move |y| (x, y))) {
        let inside = mask.values[(y * width + x) as usize] > 0;
        assert!(inside || !differs(x, y), "{x} {y}");
        changed += u32::from(inside && differs(x, y));
    }
    assert!(changed > 200, "{changed}");
    // The bits are those of the whole new picture.
    assert_eq!(
        rebuilt(&engine, &edited.spec).unwrap().len(),
        STARTER_SCALES
    );
    // A photograph, larger than the model draws and without bits.
    let large = parent.image.resized(300, 310).unwrap();
    let photo = Source {
        picture: large.clone(),
        mask: Some(Mask::from_fn(
            300,
            310,
            |x, _| if x < 100 { 255 } else { 0 },
        )),
    };
    let bare = GenerateSpec { bits: None, ..wish };
    let edited = run(&engine, task(&bare, &photo)).unwrap().image;
    assert_eq!((edited.width, edited.height), (300, 310));
    for (x, y) in (100..300).flat_map(|x| (0..310).map(move |y| (x, y))) {
        assert_eq!(edited.pixel(x, y), large.pixel(x, y));
    }
    let wrong = Source {
        mask: Some(Mask::filled(3, 3, 255)),
        ..photo
    };
    let error = run(&engine, task(&bare, &wrong)).err().unwrap().to_string();
    assert!(error.contains("size of the picture"), "{error}");
    engine.shut_down().unwrap();
}

#[test]
fn canvases_grow_and_keep_the_picture() {
    let engine = engine();
    let parent = run(&engine, Task::Generate(GenerateSpec::new(PROMPT, 5))).unwrap();
    let sides = Sides {
        right: 64,
        ..Sides::default()
    };
    let source = Source::extended(&parent.image, sides).unwrap();
    let spec = GenerateSpec {
        bits: None,
        ..parent.spec
    };
    let grown = run(&engine, Task::GenerateFrom { spec, source })
        .unwrap()
        .image;
    let side = STARTER_SIDE;
    assert_eq!((grown.width, grown.height), (side + 64, side));
    for (x, y) in (0..side).flat_map(|x| (0..side).map(move |y| (x, y))) {
        assert_eq!(grown.pixel(x, y), parent.image.pixel(x, y));
    }
    engine.shut_down().unwrap();
}

/// The more scales of a picture are kept, the nearer the result comes to it.
#[test]
fn any_picture_can_be_a_start() {
    let engine = engine();
    let seen = run(&engine, Task::Generate(GenerateSpec::new(PROMPT, 21))).unwrap();
    let source = Source {
        picture: seen.image.resized(300, 300).unwrap(),
        mask: None,
    };
    let mut far = Vec::new();
    for keep in [0, 1, 4, 6] {
        let spec = GenerateSpec {
            keep,
            ..GenerateSpec::new("in daylight, gray desert, a green tree", 3)
        };
        let source = source.clone();
        let drawn = run(&engine, Task::GenerateFrom { spec, source }).unwrap();
        assert_eq!(drawn.image.width, STARTER_SIDE);
        let pairs = drawn.image.pixels.iter().zip(seen.image.pixels.iter());
        far.push(pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>());
    }
    assert!(far[0] > far[2] && far[2] > far[3], "{far:?}");
    // Forty-two million pixels, of which a corner is drawn anew.
    let large = Rgb8Image::new(7000, 6000, vec![90; 3 * 42_000_000]).unwrap();
    let source = Source {
        picture: large.clone(),
        mask: Some(Mask::from_fn(7000, 6000, |x, y| {
            if x < 900 && y < 900 { 255 } else { 0 }
        })),
    };
    let spec = GenerateSpec::new("in daylight, gray desert", 3);
    let drawn = run(&engine, Task::GenerateFrom { spec, source })
        .unwrap()
        .image;
    let rest = 3 * 7000 * 900;
    assert!(drawn.pixels[rest..] == large.pixels[rest..]);
    engine.shut_down().unwrap();
}

#[test]
fn a_second_prompt_takes_over() {
    let engine = engine();
    let wish = GenerateSpec::new("at night, green hills, a red house on the left", 3);
    let plain = run(&engine, Task::Generate(wish.clone())).unwrap();
    let with = |from: usize, prompt: &str| GenerateSpec {
        detail_prompt: prompt.to_owned(),
        detail_from: from,
        ..wish.clone()
    };
    let other = "in daylight, gray desert, a white boat on the right";
    let two = run(&engine, Task::Generate(with(3, other))).unwrap();
    let bits = |drawn: &Drawn| drawn.spec.bits.as_ref().unwrap().scales().unwrap();
    assert_eq!(bits(&plain)[..3], bits(&two)[..3]);
    assert_ne!(bits(&plain)[3], bits(&two)[3]);
    // The same words twice are the plain picture, and from the first scale on they are the other prompt.
    let same = run(&engine, Task::Generate(with(2, &wish.prompt))).unwrap();
    assert!(same.image == plain.image);
    let all = run(&engine, Task::Generate(with(0, other))).unwrap();
    let only = GenerateSpec {
        prompt: other.to_owned(),
        ..wish.clone()
    };
    let only = run(&engine, Task::Generate(only)).unwrap();
    assert!(all.image == only.image);
    let error = run(&engine, Task::Generate(with(STARTER_SCALES, other)))
        .err()
        .unwrap();
    assert!(error.to_string().contains("second prompt"), "{error}");
    engine.shut_down().unwrap();
}

#[test]
fn doubt_is_told_where_scales_are_drawn() {
    let engine = engine();
    let drawn = run(&engine, Task::Generate(GenerateSpec::new(PROMPT, 3))).unwrap();
    let doubt = drawn.doubt.unwrap();
    assert_eq!(
        (doubt.width, doubt.height, doubt.values.len()),
        (16, 16, 256)
    );
    let (least, most) = (doubt.values.iter().min(), doubt.values.iter().max());
    assert!(least < most && *most.unwrap() < 200, "{doubt:?}");
    engine.shut_down().unwrap();
}

/// Where no later scale is guided, the pictures without text are left out; next to no guidance, which has them, gives the
/// same bits.
#[test]
fn guidance_that_ends_is_guidance_of_one() {
    let engine = engine();
    for seed in 0..4 {
        let with = |last: f32| GenerateSpec {
            cfg: vec![3.0, 3.0, 3.0, 3.0, 1.0, 1.0, last],
            ..GenerateSpec::new(PROMPT, seed)
        };
        let ended = run(&engine, Task::Generate(with(1.0))).unwrap();
        let whole = run(&engine, Task::Generate(with(1.0 + f32::EPSILON))).unwrap();
        assert_eq!(ended.spec.bits, whole.spec.bits, "{seed}");
        // And from kept scales on, as well.
        let kept = GenerateSpec {
            keep: 3,
            ..ended.spec.clone()
        };
        let again = run(&engine, Task::Generate(kept)).unwrap();
        assert!(again.image == ended.image);
    }
    engine.shut_down().unwrap();
}
