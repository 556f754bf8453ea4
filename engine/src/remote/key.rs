//! The key that both machines know.

use std::io::Write as _;
use std::path::Path;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::api::EngineError;

/// Bytes of a key, of a drawn number, and of a proof.
pub(super) const BYTES: usize = 32;

/// What both machines know and nobody else: 32 bytes, written as 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key(..)")
    }
}

/// Bytes nobody can foresee.
///
/// # Errors
/// [`EngineError::Internal`] when the system gives none.
pub(super) fn drawn() -> Result<[u8; BYTES], EngineError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| EngineError::internal(format!("the system's random numbers: {error}")))?;
    Ok(bytes)
}

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the system gives no random numbers.
    pub fn draw() -> Result<Self, EngineError> {
        Ok(Self(drawn()?))
    }

    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().as_bytes();
        let mut bytes = [0; BYTES];
        if text.len() != 2 * BYTES {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Some(Self(bytes))
    }

    /// As 64 hexadecimal digits.
    pub fn text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key in the file, or a new one written there for its owner's eyes only.
    ///
    /// # Errors
    /// [`EngineError::BadConfig`] for a file that holds no key, [`EngineError::Read`] and [`EngineError::Write`].
    pub fn of_file(path: &Path) -> Result<Self, EngineError> {
        if path.exists() {
            return Self::read(path);
        }
        let key = Self::draw()?;
        let failed = |error| EngineError::write(path, error);
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        // Files of this kind are readable by their owner only, and stay so.
        let mut beside = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        writeln!(beside, "{}", key.text()).map_err(failed)?;
        beside.as_file().sync_all().map_err(failed)?;
        match beside.persist_noclobber(path) {
            Ok(_) => Ok(key),
            // Another process was quicker.
            Err(_) if path.exists() => Self::read(path),
            Err(error) => Err(failed(error.error)),
        }
    }

    /// The key in the file.
    ///
    /// # Errors
    /// [`EngineError::BadConfig`] for a file that holds no key, [`EngineError::Read`].
    pub fn read(path: &Path) -> Result<Self, EngineError> {
        let text = std::fs::read_to_string(path).map_err(|error| EngineError::read(path, error))?;
        Self::parse(&text)
            .ok_or_else(|| EngineError::bad_config(path, "a key is 64 hexadecimal digits"))
    }

    fn hash(&self, who: &str, numbers: [&[u8; BYTES]; 2]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "any length is a key")]
        let mut hash = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length is a key");
        hash.update(who.as_bytes());
        hash.update(numbers[0]);
        hash.update(numbers[1]);
        hash
    }

    /// What shows that `who` knows the key, for numbers that both sides have drawn.
    pub(super) fn proof(&self, who: &str, numbers: [&[u8; BYTES]; 2]) -> [u8; BYTES] {
        self.hash(who, numbers).finalize().into_bytes().into()
    }

    /// Whether that is shown; in the same time, right or wrong.
    pub(super) fn is_proven(
        &self,
        who: &str,
        numbers: [&[u8; BYTES]; 2],
        proof: &[u8; BYTES],
    ) -> bool {
        self.hash(who, numbers).verify_slice(proof).is_ok()
    }
}
