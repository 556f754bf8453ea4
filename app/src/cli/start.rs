//! What a picture is drawn from: scales of another, what lies outside of a mask, a larger canvas.

use std::path::{Path, PathBuf};

use infinity_engine::api::{GenerateSpec, Sides, Source, Task};
use infinity_engine::{read_mask, read_picture};

use super::{CliError, values};
use crate::recipe::{Recipe, RecipeError, read_recipe};

/// What a picture is drawn from.
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// A picture to start from (with --keep, --mask or --extend), or a draft to finish.
    #[arg(long, value_name = "FILE", conflicts_with = "ratio")]
    pub(super) from: Option<PathBuf>,
    /// How many first scales to keep of --from: same layout, other details.
    #[arg(long, value_name = "K", requires = "from")]
    keep: Option<usize>,
    /// A black and white picture as large as --from: anew where it is white, byte for byte the same where it is black.
    #[arg(
        long,
        value_name = "FILE",
        requires = "from",
        conflicts_with = "extend"
    )]
    mask: Option<PathBuf>,
    /// Pixels over which new and old are mixed, inside of the mask.
    #[arg(long, value_name = "N", default_value_t = 4)]
    feather: u32,
    /// Pixels to add to --from at the left, above, at the right and below.
    #[arg(long, value_name = "L,T,R,B", requires = "from", value_parser = values::sides)]
    extend: Option<Sides>,
}

/// A picture to start from, read.
pub(super) struct Opened {
    recipe: Option<Recipe>,
    source: Option<Source>,
    keep: usize,
}

impl Start {
    /// Reads what was named.
    pub(super) fn open(&self) -> Result<Option<Opened>, CliError> {
        let Some(from) = &self.from else {
            return Ok(None);
        };
        let recipe = recipe_of(from)?;
        let own_keep = recipe
            .as_ref()
            .map_or(0, |recipe| draft_scales(&recipe.spec));
        let has_bits = recipe
            .as_ref()
            .is_some_and(|recipe| recipe.spec.bits.is_some());
        let source = match (&self.mask, self.extend) {
            (_, Some(sides)) => Some(Source::extended(&read_picture(from)?, sides)?),
            (Some(mask), None) => {
                let source = Source {
                    picture: read_picture(from)?,
                    mask: Some(read_mask(mask)?),
                };
                source.check()?;
                let mask = source.mask.map(|mask| mask.feathered(self.feather));
                Some(Source { mask, ..source })
            }
            (None, None) if !has_bits => Some(Source {
                picture: read_picture(from)?,
                mask: None,
            }),
            (None, None) => None,
        };
        let is_edit = self.mask.is_some() || self.extend.is_some();
        let keep = match self.keep {
            Some(keep) => keep,
            None if is_edit => 0,
            None if own_keep > 0 => own_keep,
            None => {
                return Err(CliError::Usage(format!(
                    "--from needs --keep, --mask or --extend, for this is no draft: {from:?}"
                )));
            }
        };
        Ok(Some(Opened {
            recipe,
            source,
            keep,
        }))
    }
}

impl Opened {
    /// The words of the picture, when it says any.
    pub(super) fn prompt(&self) -> Option<&str> {
        let recipe = self.recipe.as_ref()?;
        Some(recipe.spec.prompt.as_str())
    }

    /// The wish of a draft that is to be finished: what is not asked for otherwise is as it was.
    pub(super) fn draft(&self) -> Option<&GenerateSpec> {
        let spec = &self.recipe.as_ref()?.spec;
        (self.source.is_none() && draft_scales(spec) == self.keep).then_some(spec)
    }

    /// The task that draws `spec` from this picture.
    pub(super) fn task(&self, spec: GenerateSpec) -> Task {
        let grown = self.source.as_ref().is_some_and(|source| {
            let size = (source.picture.width, source.picture.height);
            self.recipe
                .as_ref()
                .is_none_or(|own| (own.width, own.height) != size)
        });
        let own = self.recipe.as_ref().map(|recipe| &recipe.spec);
        let own = own.filter(|own| own.bits.is_some() && !grown);
        let spec = match own {
            Some(own) => GenerateSpec {
                keep: self.keep,
                bits: own.bits.clone(),
                ratio: own.ratio,
                scale_count: spec.scale_count.or(own.scale_count),
                ..spec
            },
            None => GenerateSpec {
                keep: self.keep,
                ..spec
            },
        };
        match &self.source {
            Some(source) => Task::GenerateFrom {
                spec,
                source: source.clone(),
            },
            None => Task::Generate(spec),
        }
    }
}

/// How many scales a draft has; 0 for a finished picture.
fn draft_scales(spec: &GenerateSpec) -> usize {
    let drawn = spec.bits.as_ref().map_or(0, |bits| bits.grids.len());
    let is_draft = drawn > 0 && spec.scale_count.is_some_and(|count| drawn < count);
    if is_draft { drawn } else { 0 }
}

/// The recipe inside a picture; `None` for a picture of anybody else.
fn recipe_of(path: &Path) -> Result<Option<Recipe>, CliError> {
    match read_recipe(path) {
        Ok(recipe) => Ok(Some(recipe)),
        Err(RecipeError::NoRecipe { .. } | RecipeError::NotPng { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
