//! Where uploads go: a bucket, a program that takes a form, or a folder on this machine.
//! Owns:  the trait `Target`, `Source` (what is uploaded), `NotStored`.
//! Gives: one way to store and to read back, whatever is behind it.
//! Never: says that something can be read back before it was, or before its checksum was compared.
//! Holds: storing the same source twice under one key leaves one object.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use axum::body::Body;
use sha2::{Digest, Sha256};

/// Bytes that are read at a time when a file is hashed.
const READ_BYTES: usize = 1 << 16;

/// An outcome that is on its way.
pub type Storing<'a, T> = Pin<Box<dyn Future<Output = Result<T, NotStored>> + Send + 'a>>;

/// What is uploaded, with its size and hash known before the first byte leaves.
#[derive(Clone, Debug)]
pub struct Source {
    pub content: Content,
    pub size: u64,
    pub sha256: [u8; 32],
    pub media_type: &'static str,
    /// For a target that takes a form.
    pub label: Option<Label>,
}

/// Whose recording it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub session_id: String,
    /// The Call-ID of the caller's leg, as in the call record.
    pub call_id: String,
}

#[derive(Clone, Debug)]
pub enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// Why an object is not safely there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// What came back is not what was sent.
    Corrupt(String),
    /// The file that was to be uploaded cannot be read.
    Source(String),
    /// Refused, unreachable, or too slow.
    Target(String),
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(reason) => write!(f, "the stored object is not what was sent: {reason}"),
            Self::Source(reason) => write!(f, "the file cannot be read: {reason}"),
            Self::Target(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for NotStored {}

/// An object that is read back, whole or in part.
#[derive(Debug)]
pub struct Object {
    pub body: Body,
    /// Bytes of `body`.
    pub length: u64,
}

pub trait Target: fmt::Debug + Send + Sync {
    /// Stores and verifies. Gives the key under which it can be read back; none when the target took it
    /// and does not give it back, so that our copy is the only one that we know of.
    fn store<'a>(&'a self, key: &'a str, source: &'a Source) -> Storing<'a, Option<String>>;

    /// Reads back: everything, or the bytes of `range`.
    fn read<'a>(&'a self, key: &'a str, range: Option<RangeInclusive<u64>>) -> Storing<'a, Object>;

    /// The key under which something of this call's day is stored: with the target's root.
    fn key_for(&self, below_root: &str) -> String;

    /// Whether a recording needs its `Label`.
    fn wants_label(&self) -> bool {
        false
    }
}

impl Source {
    pub fn of_bytes(bytes: Vec<u8>, media_type: &'static str) -> Self {
        let sha256 = Sha256::digest(&bytes).into();
        let size = bytes.len() as u64;
        Self { content: Content::Bytes(bytes), size, sha256, media_type, label: None }
    }

    /// Reads the file from end to end; call it where blocking is allowed.
    pub fn of_file(path: &Path, media_type: &'static str) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let (mut size, mut buffer) = (0_u64, vec![0; READ_BYTES]);
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            size += count as u64;
        }
        let content = Content::File(path.to_owned());
        Ok(Self { content, size, sha256: hash.finalize().into(), media_type, label: None })
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_bytes_have_one_hash() {
        let folder = std::env::temp_dir().join(format!("source-{}", std::process::id()));
        let bytes = vec![7; 3 * READ_BYTES + 5];
        std::fs::write(&folder, &bytes).expect("a writable temporary folder");
        let file = Source::of_file(&folder, "audio/wav").expect("it is there");
        let memory = Source::of_bytes(bytes, "audio/wav");
        assert_eq!((file.size, file.sha256), (memory.size, memory.sha256));
        assert_eq!(hex(&[0, 0xab]), "00ab");
        std::fs::remove_file(&folder).expect("it is ours");
        assert!(Source::of_file(&folder, "audio/wav").is_err());
    }
}
