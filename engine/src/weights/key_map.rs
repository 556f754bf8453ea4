//! Publishers' spellings of tensor names, in one table per kind of file.
//!
//! A map brings every spelling of a name to one form. Names of the network and
//! names of the file meet in that form, so either may use any spelling.

/// Turns a spelling into the common one.
type Spell = Box<dyn Fn(&str) -> String + Send + Sync>;

/// How names in a file relate to names in a network, and which names to pass over.
pub struct KeyMap {
    spell: Spell,
    passed_over: Vec<String>,
}

impl KeyMap {
    /// Names are the same in file and network.
    pub fn published() -> Self {
        Self::new(str::to_owned, &[])
    }

    /// Names are compared after `spell`; file names that start with one of `passed_over` are not an error.
    pub fn new(
        spell: impl Fn(&str) -> String + Send + Sync + 'static,
        passed_over: &[&str],
    ) -> Self {
        Self {
            spell: Box::new(spell),
            passed_over: passed_over
                .iter()
                .map(|&prefix| prefix.to_owned())
                .collect(),
        }
    }

    /// Tokenizer files, with or without the inner `.conv` and `.norm`.
    ///
    /// Training leaves a perceptual network and copies of the code mask beside the weights.
    pub fn vae() -> Self {
        Self::new(
            without_wrapper,
            &[
                "perceptual_model.",
                "quantizer.lfq.mask",
                "quantize.lfq.mask",
            ],
        )
    }

    /// Text encoder files, alone or with the decoder that was trained beside them.
    ///
    /// The embedding is published under either of two names, or under both.
    pub fn text() -> Self {
        let spell = |name: &str| match name {
            "encoder.embed_tokens.weight" => "shared.weight".to_owned(),
            _ => name.to_owned(),
        };
        Self::new(
            spell,
            &["encoder.embed_tokens.weight", "decoder.", "lm_head."],
        )
    }

    /// The common spelling of `name`.
    pub fn spelled(&self, name: &str) -> String {
        (self.spell)(name)
    }

    /// Whether a tensor `name` that no weight asks for is fine.
    pub fn passes_over(&self, name: &str) -> bool {
        self.passed_over
            .iter()
            .any(|prefix| name.starts_with(prefix.as_str()))
    }
}

/// `encoder.conv_in.conv.weight` and `encoder.conv_in.weight` both become the latter.
///
/// The published tokenizers wrap each convolution and each norm in a module of
/// one child; the models they stem from do not. The convolution inside a
/// resampling step is called `conv` itself, so only a repeated name is dropped.
fn without_wrapper(name: &str) -> String {
    let spelled = || {
        let (module, value) = name.rsplit_once('.')?;
        let (outer, inner) = module.rsplit_once('.')?;
        let last = outer.rsplit('.').next()?;
        let wraps = match inner {
            "conv" => last.starts_with("conv") || last == "nin_shortcut",
            "norm" => last.starts_with("norm"),
            _ => false,
        };
        wraps.then(|| format!("{outer}.{value}"))
    };
    spelled().unwrap_or_else(|| name.to_owned())
}
