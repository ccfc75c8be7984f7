//! The three hashes of RFC 8760 and the digest that is made with them.
//! Owns:  names, strength order, hexadecimal text, comparison in constant time.
//! Gives: `Digest`: a hash value that compares and prints as digest wants it.
//! Never: allocates.
//! Holds: every algorithm of ours has a word, and reads back from it.

use std::fmt;
use std::hint::black_box;

use md5::Md5;
use sha2::digest::Digest as _;
use sha2::{Sha256, Sha512_256};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Md5,
    Sha256,
    Sha512_256,
}

impl Algorithm {
    pub const STRONGEST_FIRST: [Self; 3] = [Self::Sha512_256, Self::Sha256, Self::Md5];

    /// The word of the `algorithm` parameter (RFC 7616 6.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        Self::STRONGEST_FIRST
            .into_iter()
            .find(|algorithm| word.eq_ignore_ascii_case(algorithm.as_str().as_bytes()))
    }
}

/// A hash value: 16 bytes for MD5, 32 for the others.
#[derive(Clone, Copy)]
pub(super) struct Digest {
    bytes: [u8; 32],
    length: usize,
}

impl Digest {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut digest = Self { bytes: [0; 32], length: bytes.len() };
        digest.bytes[..bytes.len()].copy_from_slice(bytes);
        digest
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Small hex digits (RFC 7616 3.1); the first `2 * length` bytes count.
    pub(super) fn hex(&self) -> Hex {
        let mut hex = Hex { digits: [0; 64], length: 2 * self.length };
        for (pair, byte) in hex.digits.chunks_exact_mut(2).zip(self.bytes()) {
            pair[0] = hex_digit(byte >> 4);
            pair[1] = hex_digit(byte & 15);
        }
        hex
    }

    /// Does this hex text say the same? The time does not depend on where they differ.
    pub(super) fn equals_hex(&self, text: &[u8]) -> bool {
        let hex = self.hex();
        let expected = hex.as_bytes();
        if text.len() != expected.len() {
            return false;
        }
        let pairs = expected.iter().zip(text);
        black_box(pairs.fold(0, |all, (a, b)| black_box(all | (a ^ b.to_ascii_lowercase())))) == 0
    }
}

#[derive(Clone, Copy)]
pub(super) struct Hex {
    digits: [u8; 64],
    length: usize,
}

impl Hex {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digits[..self.length]
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|&digit| write!(f, "{}", char::from(digit)))
    }
}

/// A hash that is being fed.
pub(super) enum Hasher {
    Md5(Md5),
    Sha256(Sha256),
    Sha512_256(Sha512_256),
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512_256 => Self::Sha512_256(Sha512_256::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512_256(hash) => hash.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        match self {
            Self::Md5(hash) => Digest::new(&hash.finalize()),
            Self::Sha256(hash) => Digest::new(&hash.finalize()),
            Self::Sha512_256(hash) => Digest::new(&hash.finalize()),
        }
    }
}

/// The hash of the parts joined by colons.
pub(super) fn hash_joined(algorithm: Algorithm, parts: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hasher.update(b":");
        }
        hasher.update(part);
    }
    hasher.finish()
}

/// What a request adds to H(A1): everything that the response covers (RFC 7616 3.4.1).
#[derive(Clone, Copy)]
pub(super) struct Proof<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) nonce: &'a [u8],
    /// nc and cnonce as written; `None` is the form of RFC 2069.
    pub(super) counted: Option<(&'a [u8], &'a [u8])>,
    pub(super) method: &'a [u8],
    pub(super) uri: &'a [u8],
}

impl Proof<'_> {
    /// RFC 7616 3.4.1 with qop=auth, RFC 2069 2.1.2 without.
    pub(super) fn response(&self, ha1: &Digest) -> Digest {
        let ha1 = ha1.hex();
        let ha2 = hash_joined(self.algorithm, &[self.method, self.uri]).hex();
        let (ha1, ha2) = (ha1.as_bytes(), ha2.as_bytes());
        match self.counted {
            Some((nc, cnonce)) => {
                hash_joined(self.algorithm, &[ha1, self.nonce, nc, cnonce, b"auth", ha2])
            }
            None => hash_joined(self.algorithm, &[ha1, self.nonce, ha2]),
        }
    }
}

pub(super) const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}
