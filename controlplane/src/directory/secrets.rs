//! The hashes of a SIP password: what digest needs, without the password (RFC 7616 3.4.2).
//! Owns:  H(username:realm:password) for the three algorithms.
//! Gives: hex, as the columns hold it.
//! Never: keeps the password.
//! Holds: a hash is good for one realm; the column beside it says which.

use md5::{Digest as _, Md5};
use sha2::{Sha256, Sha512_256};

pub(super) struct Hashes {
    pub(super) md5: String,
    pub(super) sha256: String,
    pub(super) sha512_256: String,
}

pub(super) fn hash(username: &str, realm: &str, password: &str) -> Hashes {
    let text = format!("{username}:{realm}:{password}");
    Hashes {
        md5: hex(&Md5::digest(text.as_bytes())),
        sha256: hex(&Sha256::digest(text.as_bytes())),
        sha512_256: hex(&Sha512_256::digest(text.as_bytes())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 3.9.1 has this user; the hashes were made with coreutils.
    #[test]
    fn hashes_are_those_of_the_rfc() {
        let hashes = hash("Mufasa", "http-auth@example.org", "Circle of Life");
        assert_eq!(hashes.md5, "3d78807defe7de2157e2b0b6573a855f");
        let sha256 = "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232";
        assert_eq!(hashes.sha256, sha256);
        assert_eq!(hashes.sha512_256.len(), 64);
    }
}
