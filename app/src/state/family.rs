//! Where a picture came from.

use infinity_engine::api::{GenerateSpec, JobId, Rgb8Image};
use serde::{Deserialize, Serialize};

/// Most ancestors a picture remembers.
const MOST: usize = 16;

/// What a picture has of the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bond {
    /// Its first scales.
    Scales(usize),
    /// All that lies outside of a mask.
    Outside,
}

/// A picture that another was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ancestor {
    /// What is left of it.
    pub bond: Bond,
    /// Its prompt.
    pub prompt: String,
    /// Its seed.
    pub seed: u64,
    /// What was changed, in words.
    pub changed: Vec<String>,
}

/// The picture that the next one starts from.
#[derive(Clone, Debug)]
pub struct Start {
    /// The picture in the list of this session, when it is there.
    pub job: Option<JobId>,
    /// Its name for people.
    pub name: String,
    /// The picture itself, when it is none of this program and has to be encoded.
    pub picture: Option<Rgb8Image>,
    /// How it was made, when that is known.
    pub spec: Option<GenerateSpec>,
    /// Its own ancestors, nearest first.
    pub ancestors: Vec<Ancestor>,
}

impl Start {
    /// The ancestors of a picture that is made from this one by `spec`.
    pub fn ancestors_of(&self, spec: &GenerateSpec, bond: Bond) -> Vec<Ancestor> {
        let own = match &self.spec {
            Some(own) => Ancestor {
                bond,
                prompt: own.prompt.clone(),
                seed: own.seed,
                changed: changes(own, spec),
            },
            None => Ancestor {
                bond,
                prompt: self.name.clone(),
                seed: 0,
                changed: Vec::new(),
            },
        };
        let older = self.ancestors.iter().cloned();
        std::iter::once(own).chain(older).take(MOST).collect()
    }
}

/// What differs between two wishes, in words.
fn changes(old: &GenerateSpec, new: &GenerateSpec) -> Vec<String> {
    let mut list = Vec::new();
    let mut add = |differs: bool, word: &str| {
        if differs {
            list.push(word.to_owned());
        }
    };
    add(old.prompt.trim() != new.prompt.trim(), "prompt");
    add(
        old.detail_prompt.trim() != new.detail_prompt.trim(),
        "second prompt",
    );
    add(
        old.negative_prompt.trim() != new.negative_prompt.trim(),
        "what is left out",
    );
    add(old.seed != new.seed, "seed");
    add(old.cfg != new.cfg, "guidance");
    add(old.tau != new.tau, "looseness");
    add(old.certainty != new.certainty, "variety");
    add(old.half_products != new.half_products, "quick products");
    add(old.loras != new.loras, "LoRAs");
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_named_and_ancestors_kept() {
        let old = GenerateSpec::new("a house", 1);
        let new = GenerateSpec {
            seed: 2,
            cfg: vec![4.0],
            ..GenerateSpec::new("a boat", 1)
        };
        let mut start = Start {
            job: None,
            name: String::new(),
            picture: None,
            spec: Some(old),
            ancestors: Vec::new(),
        };
        let line = start.ancestors_of(&new, Bond::Scales(3));
        assert_eq!(line[0].changed, ["prompt", "seed", "guidance"]);
        start.ancestors = vec![line[0].clone(); 40];
        assert_eq!(start.ancestors_of(&new, Bond::Outside).len(), MOST);
    }
}
