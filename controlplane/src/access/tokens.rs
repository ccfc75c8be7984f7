//! API tokens: `gwk_<id>_<secret>`, and those of the configuration file.
//! Owns:  the form of a token, its hash, what the file's tokens may do.
//! Gives: new tokens; whether a text is a token, and whose.
//! Never: keeps a token: only its SHA-256.
//! Holds: the prefix is fixed, so that scanners for leaked secrets find it.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use shared::config::ApiToken;

use super::rights::{Rights, Scope};

pub const TOKEN_PREFIX: &str = "gwk_";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;
/// Longer texts are no token of ours.
pub const TOKEN_CHARS_MAX: usize = 512;

/// A new token: what is shown once, and what is kept.
#[derive(Clone)]
pub struct NewToken {
    pub public_id: String,
    pub text: String,
    pub hash: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("public_id", &self.public_id).finish_non_exhaustive()
    }
}

impl NewToken {
    pub fn make() -> Self {
        let public_id = hex(&rand::random::<[u8; ID_BYTES]>());
        let secret = hex(&rand::random::<[u8; SECRET_BYTES]>());
        let text = format!("{TOKEN_PREFIX}{public_id}_{secret}");
        let hash = hex(&sha256(&text));
        Self { public_id, text, hash }
    }
}

/// The part of a token that is not secret, when the text has the form of one.
pub(super) fn public_id(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    let is_hex = |part: &str, bytes: usize| {
        part.len() == 2 * bytes && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    (is_hex(id, ID_BYTES) && is_hex(secret, SECRET_BYTES)).then_some(id)
}

/// A token of the configuration file.
#[derive(Debug)]
pub(super) struct Configured {
    hash: [u8; 32],
    rights: Rights,
}

impl Configured {
    pub(super) fn all(tokens: &[ApiToken]) -> Vec<Self> {
        let rights = |scopes: &[String]| {
            let known = scopes.iter().filter_map(|scope| Scope::parse(scope));
            known.fold(Rights::NONE, |rights, scope| rights.and(scope.rights()))
        };
        let one = |token: &ApiToken| Self {
            hash: sha256(token.expose()),
            rights: rights(token.scopes()),
        };
        tokens.iter().map(one).collect()
    }

    /// Its place from 1, and its rights.
    pub(super) fn find(tokens: &[Self], text: &str) -> Option<(usize, Rights)> {
        let hash = sha256(text);
        // All of them are compared, so that the time says nothing about the place.
        let mut found = None;
        for (place, token) in tokens.iter().enumerate() {
            if same(&token.hash, &hash) {
                found = Some((place + 1, token.rights));
            }
        }
        found
    }
}

pub(super) fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text grows");
        text
    })
}

/// The same for texts.
pub fn same_text(one: &str, other: &str) -> bool {
    same(one.as_bytes(), other.as_bytes())
}

/// Compares in a time that does not depend on where two texts differ.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |bits, (a, b)| bits | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_has_the_form_that_scanners_know() {
        let (one, two) = (NewToken::make(), NewToken::make());
        assert_ne!(one.text, two.text);
        assert_eq!(public_id(&one.text), Some(one.public_id.as_str()));
        assert_eq!(one.text.len(), "gwk_".len() + 12 + 1 + 64);
        assert_eq!(one.hash, hex(&sha256(&one.text)));
        let shown = format!("{one:?}");
        assert!(!shown.contains(&one.hash) && !shown.contains(&one.text), "{shown}");
    }

    #[test]
    fn what_is_no_token_has_no_id() {
        let good = NewToken::make().text;
        let cut = &good[..good.len() - 1];
        let other = good.replace('_', "-");
        for text in ["", "gwk_", "gwk__", cut, other.as_str(), "gwk_0123456789ab_x"] {
            assert_eq!(public_id(text), None, "{text}");
        }
    }

    #[test]
    fn equal_is_equal_whatever_the_length() {
        assert!(same(b"", b"") && same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab") && !same(b"", b"a"));
    }
}
