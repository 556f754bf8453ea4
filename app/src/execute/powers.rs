//! Commands of what a model can do that draws in scales: drafts, branches, masks, pictures from pictures.

use std::path::Path;

use infinity_engine::api::{GenerateSpec, JobId, Rgb8Image, Sides, Source, Task};

use super::{Hands, random_seed, use_recipe};
use crate::recipe::Recipe;
use crate::state::{
    Bond, Drafts, Edit, MaskEdit, Origin, Picture, Rebuilding, Saved, Start, Tone, UiState,
    nearest_ratio,
};

/// The wish of the controls as a job, and where its picture will come from.
pub(super) fn task(
    state: &UiState,
    spec: GenerateSpec,
) -> Result<(Task, Origin), infinity_engine::api::EngineError> {
    if let Some(edit) = &state.edit {
        let (source, own_bits) = edit.source()?;
        let bits = edit.spec.bits.clone().filter(|_| own_bits);
        let scale_count = match &bits {
            Some(bits) => Some(bits.grids.len()),
            None => spec.scale_count,
        };
        let spec = GenerateSpec {
            keep: 0,
            bits,
            scale_count,
            ..spec
        };
        let parent = state.picture(edit.parent);
        let start = start_of(edit.parent, &edit.picture, &edit.spec, parent);
        let origin = Origin {
            ancestors: start.ancestors_of(&spec, Bond::Outside),
            parent: Some(edit.parent),
            is_edit: true,
        };
        return Ok((Task::GenerateFrom { spec, source }, origin));
    }
    let Some(start) = state.start.as_ref().filter(|_| spec.keep > 0) else {
        return Ok((Task::Generate(spec), Origin::default()));
    };
    let origin = Origin {
        ancestors: start.ancestors_of(&spec, Bond::Scales(spec.keep)),
        parent: start.job,
        is_edit: false,
    };
    let task = match &start.picture {
        Some(picture) => Task::GenerateFrom {
            spec,
            source: Source {
                picture: picture.clone(),
                mask: None,
            },
        },
        None => Task::Generate(spec),
    };
    Ok((task, origin))
}

/// Asks for drafts of the wish.
pub(super) fn draw_drafts(spec: GenerateSpec, state: &mut UiState, hands: &Hands<'_>) {
    if state.edit.is_some()
        || state
            .start
            .as_ref()
            .is_some_and(|start| start.picture.is_some())
    {
        state.tell(
            Tone::Note,
            "Drafts are drawn from words, or from scales of a picture of this program.",
        );
        return;
    }
    if state.scale_count() < 2 {
        state.tell(Tone::Note, "A picture of one scale has no drafts.");
        return;
    }
    let (count, scales) = (state.settings.draft_count, state.scales_of_drafts());
    let of = state.scale_count();
    match hands.engine.run(Task::Drafts {
        spec,
        count,
        scales,
    }) {
        Ok(job) => {
            if let Some(old) = state.drafts.take().filter(|old| old.done.is_none()) {
                hands.engine.cancel(old.job);
            }
            state.waiting.push_back(job);
            state.drafts = Some(Drafts {
                job,
                count,
                scales,
                of,
                items: Vec::new(),
                done: None,
                open: true,
            });
        }
        Err(error) => state.tell_error(&error),
    }
}

/// Finishes the draft with this number.
pub(super) fn finish_draft(index: usize, state: &mut UiState, hands: &Hands<'_>) {
    let Some(drafts) = &mut state.drafts else {
        return;
    };
    let Some((_, spec)) = drafts.items.get(index).cloned() else {
        return;
    };
    drafts.open = false;
    match hands.engine.run(Task::Generate(spec)) {
        Ok(job) => {
            state.waiting.push_back(job);
            state.follow = true;
            state.held_scale = None;
        }
        Err(error) => state.tell_error(&error),
    }
}

/// Has the next picture start from scales of the shown one; with 0, from nothing.
pub(super) fn keep_scales(count: usize, state: &mut UiState) {
    let shown = state.shown_picture().cloned();
    let spec = &mut state.draft.spec;
    (spec.keep, spec.bits) = (0, None);
    state.start = None;
    let Some(picture) = shown.filter(|_| count > 0) else {
        return;
    };
    spec.keep = count;
    spec.bits.clone_from(&picture.spec.bits);
    spec.ratio = picture.spec.ratio;
    spec.scale_count = picture.spec.scale_count;
    state.start = Some(start_of(
        picture.job,
        &picture.image,
        &picture.spec,
        Some(&picture),
    ));
}

/// Changes how many scales are kept of the picture that is the start.
pub(super) fn set_keep(count: usize, state: &mut UiState) {
    let most = state.scale_count().saturating_sub(1);
    if count == 0
        && state
            .start
            .as_ref()
            .is_none_or(|start| start.picture.is_none())
    {
        keep_scales(0, state);
        return;
    }
    state.draft.spec.keep = count.min(most);
}

fn start_of(job: JobId, image: &Rgb8Image, spec: &GenerateSpec, listed: Option<&Picture>) -> Start {
    Start {
        job: Some(job),
        name: listed.map(Picture::name).unwrap_or_default(),
        picture: spec.bits.is_none().then(|| image.clone()),
        spec: Some(spec.clone()).filter(|spec| spec.bits.is_some()),
        ancestors: listed
            .map(|picture| picture.ancestors.clone())
            .unwrap_or_default(),
    }
}

/// Begins or ends changing a part of the shown picture.
pub(super) fn set_edit_open(open: bool, state: &mut UiState) {
    state.edit = None;
    let Some(picture) = state.shown_picture().filter(|_| open).cloned() else {
        return;
    };
    edit(&picture, state);
}

/// Takes the shown result for the picture whose parts are changed.
pub(super) fn edit_result(state: &mut UiState) {
    if let Some(picture) = state.shown_picture().cloned() {
        let brush = state.edit.as_ref().map(|edit| (edit.brush, edit.feather));
        edit(&picture, state);
        if let (Some(edit), Some((brush, feather))) = (&mut state.edit, brush) {
            (edit.brush, edit.feather) = (brush, feather);
        }
    }
}

fn edit(picture: &Picture, state: &mut UiState) {
    let doubt = picture.doubt.clone();
    state.edit = Edit::new(&picture.image, &picture.spec, picture.job, doubt);
    state.held_scale = None;
    state.show_doubt = false;
    if state.edit.is_none() {
        state.tell(
            Tone::Trouble,
            "This picture is too large to paint on. Make it smaller than 8192 pixels, or use the command line with --mask.",
        );
    } else if state.draft.spec.prompt.trim().is_empty() && !picture.spec.prompt.is_empty() {
        state.draft.spec.prompt.clone_from(&picture.spec.prompt);
    }
}

/// Takes in what is done to the mask.
pub(super) fn edit_mask(change: MaskEdit, state: &mut UiState) {
    if let Some(edit) = &mut state.edit {
        if let MaskEdit::Sides(sides) = change {
            let most = 2 * edit.picture.width.max(edit.picture.height);
            let within = |side: u32| side.min(most);
            let sides = Sides {
                left: within(sides.left),
                top: within(sides.top),
                right: within(sides.right),
                bottom: within(sides.bottom),
            };
            edit.apply(MaskEdit::Sides(sides));
        } else {
            edit.apply(change);
        }
    }
}

/// Has the scales of a listed picture made again, when they were forgotten.
pub(super) fn recall_scales(job: JobId, state: &mut UiState, hands: &Hands<'_>) {
    let known = |waiting: &Rebuilding| matches!(waiting, Rebuilding::Listed(own) if *own == job);
    if state.rebuilding.values().any(known) {
        return;
    }
    let own_model = state.model.as_ref().map(|model| model.name.clone());
    let wanted = state.picture(job).filter(|picture| {
        picture.scales.is_empty()
            && picture.spec.bits.is_some()
            && Some(&picture.model) == own_model.as_ref()
    });
    let Some(spec) = wanted.map(|picture| picture.spec.clone()) else {
        return;
    };
    if let Ok(rebuild) = hands.engine.run(Task::Rebuild(spec)) {
        state.rebuilding.insert(rebuild, Rebuilding::Listed(job));
    }
}

/// Takes in a picture from a file: one of this program with settings and scales, any other one as a start.
pub(super) fn picture_read(
    path: &Path,
    image: Rgb8Image,
    recipe: Option<Recipe>,
    state: &mut UiState,
    hands: &Hands<'_>,
) {
    state.loras = None;
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let opened = |job: JobId, spec: GenerateSpec, recipe: Option<&Recipe>| Picture {
        job,
        image: image.clone(),
        spec,
        model: recipe
            .map(|recipe| recipe.model.clone())
            .unwrap_or_default(),
        schedule: Vec::new(),
        scales: Vec::new(),
        elapsed_secs: 0.0,
        saved: Saved::In(path.to_path_buf()),
        doubt: None,
        ancestors: recipe
            .map(|recipe| recipe.ancestors.clone())
            .unwrap_or_default(),
        parent: None,
    };
    let free = JobId(u64::MAX - state.pictures.len() as u64 - random_seed());
    let Some(recipe) = recipe else {
        let ratio = image.height as f32 / image.width.max(1) as f32;
        let nearest = state
            .model
            .as_ref()
            .and_then(|model| nearest_ratio(model, ratio));
        let spec = GenerateSpec {
            ratio: nearest.unwrap_or(ratio),
            scale_count: state.draft.spec.scale_count,
            ..GenerateSpec::new("", 0)
        };
        state.edit = None;
        state.list(opened(free, spec, None));
        keep_scales(state.scale_count() / 2, state);
        let text = format!(
            "{name} is the start of the next picture: its layout is kept. Or change a part of it."
        );
        state.tell(Tone::Note, text);
        return;
    };
    use_recipe(state, &recipe);
    state.tell(Tone::Note, format!("Settings loaded from {name}."));
    let same_model = state
        .model
        .as_ref()
        .is_some_and(|model| model.name == recipe.model);
    let whole = recipe.spec.bits.as_ref().is_some_and(|bits| {
        recipe
            .spec
            .scale_count
            .is_none_or(|count| bits.grids.len() == count)
    });
    if !(same_model && whole) {
        return;
    }
    match hands.engine.run(Task::Rebuild(recipe.spec.clone())) {
        Ok(job) => {
            let picture = opened(free, recipe.spec.clone(), Some(&recipe));
            state
                .rebuilding
                .insert(job, Rebuilding::Opened(Box::new(picture)));
        }
        Err(error) => state.tell_error(&error),
    }
}

/// Guidance or temperature with another first value; a curve keeps its form.
pub(super) fn moved(values: &[f32], value: f32, off: f32) -> Vec<f32> {
    let first = values.first().copied().unwrap_or(value);
    if values.len() < 2 || (first - off).abs() < 1e-3 {
        return vec![value];
    }
    let factor = (value - off) / (first - off);
    values
        .iter()
        .map(|own| off + (own - off) * factor)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::moved;

    #[test]
    fn sliders_move_curves_as_they_are() {
        assert_eq!(moved(&[3.0], 4.0, 1.0), [4.0]);
        assert_eq!(moved(&[3.0, 2.0, 1.0], 5.0, 1.0), [5.0, 3.0, 1.0]);
        assert_eq!(moved(&[1.0, 2.0], 5.0, 1.0), [5.0]);
        assert_eq!(moved(&[0.5, 1.0], 1.0, 0.0), [1.0, 2.0]);
    }
}
