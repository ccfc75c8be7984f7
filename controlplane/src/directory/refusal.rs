//! Why a change did not happen, or did not arrive everywhere.
//! Owns:  `Refusal`, `NotRead`, `Reason`.
//! Gives: reasons that a program can act on and a person can read.
//! Never: a status or a body; the API has those.
//! Holds: only `Late` leaves something changed: it is stored, and a shard does not serve it yet.

use std::fmt;

use shared::config::Origin;
use shared::document::Flaws;
use shared::ids::ShardId;

use super::{Id, Kind};
use crate::store::StoreError;

#[derive(Debug)]
pub enum Refusal {
    /// It is not as the caller saw it.
    Changed,
    Flaws(Flaws),
    /// Where the object is defined.
    InFile {
        kind: Kind,
        name: String,
        origin: String,
    },
    /// Names of the rules that need it.
    InUse {
        name: String,
        by: Vec<String>,
    },
    Late(Vec<ShardId>),
    NameTaken {
        kind: Kind,
        name: String,
        by: String,
    },
    NoSuch {
        kind: Kind,
        id: Id,
    },
    Store(StoreError),
    TooMany {
        kind: Kind,
        most: usize,
    },
    /// A name server does not know the trunk's host.
    Unresolved(String),
}

/// What is wrong with a configuration that is right in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// In which file, if it is one.
    pub origin: Option<Origin>,
    pub text: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        f.write_str(&self.text)
    }
}

/// Why files and database could not be read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRead {
    /// In one line.
    Invalid(String),
    Store(StoreError),
}

impl From<StoreError> for NotRead {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for NotRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(reason) => f.write_str(reason),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotRead {}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => {
                f.write_str("it has changed since then; read it again and write with its new ETag")
            }
            Self::Flaws(flaws) => {
                let first = flaws.0.iter().find(|flaw| flaw.kind.refuses());
                match first {
                    Some(flaw) => write!(f, "{}: {}", flaw.path.pointer(), flaw.text),
                    None => f.write_str("nothing is wrong"),
                }
            }
            Self::InFile { kind, name, origin } => {
                let noun = kind.noun();
                write!(f, "the {noun} \"{name}\" is defined in {origin}: change it there")
            }
            Self::InUse { name, by } => {
                write!(f, "the trunk \"{name}\" is used by: {}", by.join(", "))
            }
            Self::Late(shards) => {
                let shards: Vec<_> = shards.iter().map(|shard| shard.0.to_string()).collect();
                let shards = shards.join(", ");
                write!(f, "it is stored, but shard {shards} does not serve it yet")
            }
            Self::NameTaken { kind, name, by } => {
                let noun = kind.noun();
                write!(f, "there is an {noun} named \"{name}\" already ({by})")
            }
            Self::NoSuch { kind, id } => write!(f, "there is no {} \"{id}\"", kind.noun()),
            Self::Store(error) => error.fmt(f),
            Self::TooMany { kind, most } => write!(f, "there are {most} {}s already", kind.noun()),
            Self::Unresolved(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Refusal {}
