//! Who asks: a user with a session, a token, an address that the configuration lets in, or nobody.
//! Owns:  `Caller`.
//! Gives: its rights, its name for the audit log, its key for what is kept per caller.
//! Never: a secret.
//! Holds: a caller without credentials has no rights, unless its address alone let it in.

use std::fmt;
use std::net::IpAddr;

use super::rights::{Right, Rights};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Let in by its address.
    Address,
    /// A token of the configuration file, by its place in the list, from 1.
    ConfiguredToken(usize),
    Nobody,
    /// A token that was made here, by the part of it that is not secret.
    Token {
        public_id: String,
        name: String,
    },
    User {
        id: i64,
        name: String,
        session: SessionKey,
    },
}

/// SHA-256 of what the session's cookie carries, in hex: names a session and opens none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKey(pub(super) String);

#[derive(Clone, Debug)]
pub struct Caller {
    pub principal: Principal,
    pub rights: Rights,
    /// The other end of the connection; unknown only where there is none, as in a test.
    pub source: Option<IpAddr>,
}

impl Caller {
    pub const fn nobody(source: Option<IpAddr>) -> Self {
        Self { principal: Principal::Nobody, rights: Rights::NONE, source }
    }

    pub const fn may(&self, right: Right) -> bool {
        self.rights.has(right)
    }

    /// The same for every request of one principal, and different for any other.
    pub fn key(&self) -> String {
        match &self.principal {
            Principal::Address => format!("address {}", self.shown_source()),
            Principal::ConfiguredToken(place) => format!("configured token {place}"),
            Principal::Nobody => "nobody".to_owned(),
            Principal::Token { public_id, .. } => format!("token {public_id}"),
            Principal::User { id, .. } => format!("user {id}"),
        }
    }

    pub fn shown_source(&self) -> String {
        self.source.map_or_else(|| "unknown".to_owned(), |source| source.to_string())
    }
}

/// As the audit log names it.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.principal {
            Principal::Address => write!(f, "address {}", self.shown_source()),
            Principal::ConfiguredToken(place) => write!(f, "configured token {place}"),
            Principal::Nobody => f.write_str("nobody"),
            Principal::Token { public_id, name } => write!(f, "token {public_id} ({name})"),
            Principal::User { name, .. } => write!(f, "user {name}"),
        }
    }
}
