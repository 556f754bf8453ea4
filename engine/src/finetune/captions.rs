//! The words beside a picture.

use std::path::Path;

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
