//! Append-only files of a shard: the journal's and those of the SIP flow.
//! Owns:  their header, their names, a place in them, the checksum of a frame.
//! Gives: segments of one `Family`; another family's file is not taken for one.
//! Never: opens a file; knows what is in a frame.
//! Holds: a frame's checksum covers run, shard, segment and offset: it is valid in its place only.
//!
//! A segment starts with 40 bytes, little-endian: magic (8), version (2), length of this header (2),
//! shard (1), zero (3), run (8), segment (8), checksum (4), zero (4).

use std::fmt;

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use crate::ids::ShardId;

pub const HEADER_BYTES: usize = 40;

/// What one shard writes in one life of the process.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stream {
    /// Differs from start to start, and grows.
    pub run: u64,
    pub shard: ShardId,
}

/// One segment of a stream; segments count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    pub stream: Stream,
    pub number: u64,
}

/// A place within a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub segment: u64,
    pub offset: u64,
}

/// Why a file is not a segment that this version reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSegment {
    /// The header does not fit its checksum, or is cut off.
    Damaged,
    Magic,
    Version(u16),
}

/// Files of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub magic: [u8; 8],
    pub version: u16,
    pub extension: &'static str,
}

impl fmt::Display for NotSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("the header of the segment is damaged"),
            Self::Magic => f.write_str("not a segment of this kind"),
            Self::Version(found) => {
                write!(f, "format {found} of segments is not known")
            }
        }
    }
}

impl std::error::Error for NotSegment {}

impl Segment {
    pub const FIRST: u64 = 1;

    pub fn header_of(self, family: &Family) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&family.magic);
        bytes[8..10].copy_from_slice(&family.version.to_le_bytes());
        bytes[10..12].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        bytes[12] = self.stream.shard.0;
        bytes[16..24].copy_from_slice(&self.stream.run.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..32]);
        bytes[32..36].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub fn read_of(family: &Family, bytes: &[u8]) -> Result<Self, NotSegment> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(NotSegment::Damaged)?;
        if bytes[..8] != family.magic {
            return Err(NotSegment::Magic);
        }
        if crc32fast::hash(&bytes[..32]) != u32_at(bytes, 32) {
            return Err(NotSegment::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != family.version {
            return Err(NotSegment::Version(version));
        }
        let stream = Stream { run: u64_at(bytes, 16), shard: ShardId(bytes[12]) };
        Ok(Self { stream, number: u64_at(bytes, 24) })
    }

    /// Sorts as the segments do.
    pub fn file_name_of(self, family: &Family) -> String {
        let Self { stream: Stream { run, shard }, number } = self;
        format!("{run:016x}-{:02}-{number:08}.{}", shard.0, family.extension)
    }

    /// The segment that a file's name stands for.
    pub fn of_file_name_of(family: &Family, name: &str) -> Option<Self> {
        let stem = name.strip_suffix(family.extension)?.strip_suffix('.')?;
        let mut words = stem.split('-');
        let run = u64::from_str_radix(words.next()?, 16).ok()?;
        let shard = ShardId(words.next()?.parse().ok()?);
        let segment = Self { stream: Stream { run, shard }, number: words.next()?.parse().ok()? };
        (segment.file_name_of(family) == name).then_some(segment)
    }

    /// Over everything of a frame but the checksum itself, which is at 4 to 8 of its head, and over
    /// where it stands.
    pub(crate) fn checksum(self, offset: u64, head: &[u8], payload: &[u8]) -> u32 {
        let mut hasher = Hasher::new();
        hasher.update(&self.stream.run.to_le_bytes());
        hasher.update(&[self.stream.shard.0]);
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&offset.to_le_bytes());
        hasher.update(&head[..4]);
        hasher.update(&head[8..]);
        hasher.update(payload);
        hasher.finalize()
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the caller looked at the length"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the caller looked at the length"))
}
