//! Digest (RFC 7616, RFC 8760 for SIP, RFC 2069 for phones that know nothing newer).
//! Owns:  the hashes, the challenge and answer headers, the nonces of one shard.
//! Gives: verdicts; what they cost the peer is decided elsewhere.
//! Never: looks a user up, keeps a password, sends anything.
//! Holds: secrets are compared in constant time; a count of a nonce is accepted once.

mod algorithms;
mod challenge;
mod client;
mod credentials;
mod nonces;
mod params;
mod verify;

use std::fmt;

use crate::wire::Malformed;

pub use algorithms::Algorithm;
pub use challenge::{Challenge, answer, write_challenges};
pub use client::{NonceCounts, Tries, Unanswered, header_names};
pub use credentials::Credentials;
pub use nonces::{NonceVerdict, Nonces, Signer};
pub use params::is_digest;
pub use verify::verify;

/// Why well-formed digest parameters are not ones that we work with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `MD5-sess` and the like: one hash for many requests, which nothing in SIP needs.
    AlgorithmSess,
    AlgorithmUnknown,
    /// The parameters cannot be read at all.
    Malformed(Malformed),
    /// Another scheme than Digest.
    NotDigest,
    /// The body would be hashed as well; we never offer it.
    QopAuthInt,
    /// Without qop only MD5 is defined (RFC 2069).
    QopMissing,
    QopUnknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlgorithmSess => f.write_str("digest algorithm with -sess is not supported"),
            Self::AlgorithmUnknown => f.write_str("digest algorithm is unknown"),
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::NotDigest => f.write_str("authentication scheme is not Digest"),
            Self::QopAuthInt => f.write_str("digest qop auth-int is not supported"),
            Self::QopMissing => f.write_str("digest without qop is defined for MD5 only"),
            Self::QopUnknown => f.write_str("digest qop is unknown"),
        }
    }
}

impl std::error::Error for Refusal {}
