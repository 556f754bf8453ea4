//! The text form of a recipe that other programs write and read.
//!
//! Prompt, then `Negative prompt: …`, then one line of `Key: value` pairs, as
//! the Stable Diffusion web interface (AUTOMATIC1111) puts it into the PNG
//! chunk `parameters`. Values with a comma stand in quotes.

use infinity_engine::api::GenerateSpec;

use super::{FORMAT, Recipe};

const NEGATIVE: &str = "Negative prompt: ";
/// What this program calls its sampler, which tells its own texts from others'.
const SAMPLER: &str = "Infinity";

pub(super) fn write(recipe: &Recipe) -> String {
    let spec = &recipe.spec;
    let mut text = spec.prompt.trim().to_owned();
    if !spec.negative_prompt.trim().is_empty() {
        text.push('\n');
        text.push_str(NEGATIVE);
        text.push_str(spec.negative_prompt.trim());
    }
    text.push('\n');
    let mut pairs: Vec<(&str, String)> = Vec::new();
    if let Some(count) = spec.scale_count {
        pairs.push(("Steps", count.to_string()));
    }
    pairs.push(("Sampler", SAMPLER.to_owned()));
    pairs.push(("CFG scale", first(&spec.cfg).to_string()));
    pairs.push(("Seed", spec.seed.to_string()));
    pairs.push(("Size", format!("{}x{}", recipe.width, recipe.height)));
    pairs.push(("Model", quoted(&recipe.model)));
    pairs.push(("Tau", first(&spec.tau).to_string()));
    pairs.push(("Version", format!("infinity {}", recipe.version)));
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(key, value)| format!("{key}: {value}"))
        .collect();
    text.push_str(&pairs.join(", "));
    text
}

pub(super) fn read(text: &str) -> Option<Recipe> {
    let text = text.trim_end();
    let (body, last) = text.rsplit_once('\n').unwrap_or(("", text));
    let pairs = pairs(last);
    let value = |key: &str| {
        pairs
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, value)| value.as_str())
    };
    let seed = value("Seed")?.parse::<u64>().ok()?;
    let (prompt, negative) = split_prompts(body);
    let mut spec = GenerateSpec::new(prompt, seed);
    spec.negative_prompt = negative;
    if let Some(cfg) = number(value("CFG scale")) {
        spec.cfg = vec![cfg.clamp(0.0, 100.0)];
    }
    if let Some(tau) = number(value("Tau")) {
        spec.tau = vec![tau.clamp(0.0, 100.0)];
    }
    if value("Sampler") == Some(SAMPLER) {
        // Steps of another sampler are no scales.
        spec.scale_count = value("Steps")
            .and_then(|steps| steps.parse::<usize>().ok())
            .filter(|count| (1..=64).contains(count));
    }
    let size = value("Size").and_then(|size| {
        let (width, height) = size.split_once('x')?;
        Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
    });
    let (width, height): (u32, u32) = size.unwrap_or((0, 0));
    if width > 0 && height > 0 {
        spec.ratio = (height as f32 / width as f32).clamp(0.02, 50.0);
    }
    let version = value("Version")
        .and_then(|version| version.strip_prefix("infinity "))
        .unwrap_or_default();
    Some(Recipe {
        format: FORMAT,
        version: version.to_owned(),
        model: value("Model").unwrap_or_default().to_owned(),
        spec,
        width,
        height,
        ancestors: Vec::new(),
    })
}

fn first(list: &[f32]) -> f32 {
    list.first().copied().unwrap_or(1.0)
}

fn number(text: Option<&str>) -> Option<f32> {
    text?.parse::<f32>().ok().filter(|value| value.is_finite())
}

/// Splits what stands above the pairs into prompt and negative prompt.
fn split_prompts(body: &str) -> (String, String) {
    let marker = if body.starts_with(NEGATIVE) {
        Some((0, NEGATIVE.len()))
    } else {
        let marker = format!("\n{NEGATIVE}");
        body.rfind(&marker).map(|at| (at, marker.len()))
    };
    match marker {
        Some((at, length)) => (
            body[..at].trim().to_owned(),
            body[at + length..].trim().to_owned(),
        ),
        None => (body.trim().to_owned(), String::new()),
    }
}

fn quoted(text: &str) -> String {
    let one_line = text.replace(['\n', '\r'], " ");
    if one_line.contains([',', ':', '"']) {
        serde_json::Value::String(one_line).to_string()
    } else {
        one_line
    }
}

/// Splits `Key: value, Key: "quoted, value"` into pairs.
fn pairs(line: &str) -> Vec<(String, String)> {
    let mut parts = vec![String::new()];
    let mut in_quotes = false;
    let mut escaped = false;
    for c in line.chars() {
        match c {
            ',' if !in_quotes => {
                parts.push(String::new());
                continue;
            }
            '"' if !escaped => in_quotes = !in_quotes,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
        .iter()
        .filter_map(|part| {
            let (key, value) = part.split_once(':')?;
            let value = value.trim();
            let unquoted = serde_json::from_str::<String>(value);
            Some((
                key.trim().to_owned(),
                unquoted.unwrap_or_else(|_not_quoted| value.to_owned()),
            ))
        })
        .collect()
}
