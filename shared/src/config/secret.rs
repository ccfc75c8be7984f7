//! Secrets by reference: `file:PATH` and `env:NAME` instead of the secret itself.
//! Owns:  the two spellings.
//! Gives: the secret text, or why it could not be read.
//! Never: reads a file or the environment by itself; the caller's reader does.
//! Holds: a message about a secret names its place and never its value.

use super::file::SecretText;
use super::problem::Report;

/// Where a secret lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretRef<'a> {
    Env(&'a str),
    File(&'a str),
}

/// Reads what a reference points to; the error says why it could not, without the place.
pub type ReadSecret<'a> = dyn Fn(SecretRef<'_>) -> Result<String, String> + 'a;

impl<'a> SecretRef<'a> {
    /// `None` when the text is the secret itself.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let file = text.strip_prefix("file:").map(Self::File);
        file.or_else(|| text.strip_prefix("env:").map(Self::Env))
    }
}

/// The secret that `written` is or points to.
pub(super) fn resolve(
    written: &SecretText,
    key: &str,
    read: &ReadSecret<'_>,
    report: &mut Report<'_>,
) -> Option<String> {
    let written = written.expose();
    let Some(place) = SecretRef::parse(written) else { return Some(written.to_owned()) };
    match read(place) {
        Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(reason) => {
            report.error(key, format!("{written} cannot be read: {reason}"));
            None
        }
    }
}
