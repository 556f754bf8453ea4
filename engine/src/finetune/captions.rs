//! The words beside a picture.

use std::path::Path;

use crate::random::Stream;

/// Endings of caption files.
const ENDINGS: [&str; 2] = ["txt", "caption"];
/// Longest caption file that is read.
const MOST_BYTES: u64 = 1 << 16;

/// The words in the `.txt` or `.caption` file beside `path`; empty when there is none.
pub(super) fn caption_beside(path: &Path) -> Result<String, String> {
    for end in ENDINGS {
        let beside = path.with_extension(end);
        let Ok(about) = std::fs::metadata(&beside) else {
            continue;
        };
        if about.len() > MOST_BYTES {
            return Err(format!(
                "its caption file {:?} is too long",
                beside.file_name().unwrap_or_default()
            ));
        }
        let bytes = std::fs::read(&beside)
            .map_err(|error| format!("its caption cannot be read ({error})"))?;
        return words_of(&bytes).ok_or_else(|| {
            format!(
                "its caption file {:?} is no text; save it as UTF-8",
                beside.file_name().unwrap_or_default()
            )
        });
    }
    Ok(String::new())
}

/// UTF-8, or UTF-16 with its mark, in one line.
fn words_of(bytes: &[u8]) -> Option<String> {
    let wide = |from: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..]
            .chunks_exact(2)
            .map(|pair| from([pair[0], pair[1]]))
            .collect();
        String::from_utf16(&units).ok()
    };
    let text = match bytes {
        [0xFF, 0xFE, ..] => wide(u16::from_le_bytes)?,
        [0xFE, 0xFF, ..] => wide(u16::from_be_bytes)?,
        _ => String::from_utf8(bytes.to_vec()).ok()?,
    };
    let text = text.trim_start_matches('\u{FEFF}');
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The words with what calls them up: before them, or where they say `[trigger]`.
pub(super) fn with_trigger(caption: &str, trigger: &str) -> String {
    if trigger.is_empty() {
        caption.replace("[trigger]", "").trim().to_owned()
    } else if caption.contains("[trigger]") {
        caption.replace("[trigger]", trigger)
    } else if caption.is_empty() {
        trigger.to_owned()
    } else {
        format!("{trigger}, {caption}")
    }
}

/// `caption` and `count - 1` others that say less: its parts, between commas, in another order, each left out with the
/// chance `drop`, but for those with the `trigger`. Every one is still true of the picture, and few pictures say more.
pub(super) fn variants(caption: &str, trigger: &str, drop: f32, count: usize) -> Vec<String> {
    let parts: Vec<&str> = caption.split(',').map(str::trim).collect();
    let mut list = vec![caption.to_owned()];
    if drop <= 0.0 || parts.len() < 2 {
        return list;
    }
    for index in 1..count as u64 {
        let stream = Stream::new(index, 0xCA97);
        let is_first = |part: &str| !trigger.is_empty() && part.contains(trigger);
        let mut kept: Vec<(f64, &str)> = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            let place = 2 * place as u64;
            if is_first(part) {
                kept.push((-1.0, part));
            } else if stream.uniform(place) >= f64::from(drop) {
                kept.push((stream.uniform(place + 1), part));
            }
        }
        if kept.is_empty() {
            kept.push((0.0, parts[stream.below(1000, parts.len())]));
        }
        kept.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let kept: Vec<&str> = kept.into_iter().map(|(_, part)| part).collect();
        list.push(kept.join(", "));
    }
    list
}

/// What `caption` says of the mirrored picture: left is right.
pub(super) fn mirrored(caption: &str) -> String {
    const SIDES: [[&str; 2]; 3] = [["left", "right"], ["Left", "Right"], ["LEFT", "RIGHT"]];
    let other = |word: &str| {
        let pair = SIDES.iter().find(|pair| pair.contains(&word))?;
        pair.iter().find(|side| **side != word).copied()
    };
    let mut text = String::with_capacity(caption.len() + 1);
    let mut rest = caption;
    while !rest.is_empty() {
        let is_word = rest.starts_with(char::is_alphanumeric);
        let end = rest.find(|c: char| c.is_alphanumeric() != is_word);
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        text.push_str(other(word).unwrap_or(word));
        rest = after;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{mirrored, variants};

    #[test]
    fn left_is_right_in_a_mirror() {
        let caption = "Left of the boat, a bright moon on the right; left-handed – an outright lie";
        let seen = "Right of the boat, a bright moon on the left; right-handed – an outright lie";
        assert_eq!(mirrored(caption), seen);
        assert_eq!(mirrored(seen), caption);
        assert_eq!(mirrored(""), "");
    }

    #[test]
    fn what_is_left_of_a_caption_is_true() {
        let caption = "ink, at night, purple hills, a red moon on the left";
        let parts: Vec<&str> = caption.split(", ").collect();
        let list = variants(caption, "ink", 0.4, 40);
        assert_eq!((list.len(), list[0].as_str()), (40, caption));
        let mut counts = [0; 4];
        for one in &list[1..] {
            let own: Vec<&str> = one.split(", ").collect();
            assert_eq!(own[0], "ink");
            for part in &own {
                let place = parts.iter().position(|other| other == part).unwrap();
                counts[place] += 1;
            }
        }
        assert_eq!(counts[0], 39);
        assert!(counts[1..].iter().all(|&count| (12..35).contains(&count)));
        assert!(list.iter().any(|one| one.starts_with("ink, a red moon")));
        assert_eq!(variants(caption, "", 0.0, 8), [caption]);
        assert_eq!(variants("a lighthouse", "", 0.5, 8), ["a lighthouse"]);
        assert!(
            variants("a, b", "", 0.99, 30)
                .iter()
                .all(|one| !one.is_empty())
        );
    }
}
