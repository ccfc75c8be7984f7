//! The journal: what a shard has promised about calls, in append-only segments that outlive a kill.
//! Owns:  the format of segments, frames and entries, and the names of segment files.
//! Gives: `Frames` to fill and seal for the writer, `Scan` for the reader, `crashed` for what was cut.
//! Never: opens a file, reads a clock.
//! Holds: a frame is valid in its own place only: its checksum covers run, shard, segment and offset,
//!        so neither an old file's rest nor bytes that a caller chose are taken for a frame.
//!
//! All numbers are little-endian. A segment starts with 40 bytes: magic (8), version (2), length of
//! this header (2), shard (1), zero (3), run (8), segment (8), checksum (4), zero (4). Frames follow,
//! each at a multiple of 8: length of the payload (4), checksum (4), time (6), kind (1), zero (1),
//! payload, zeros up to the next multiple of 8. The time is that of the shard's monotonic clock in
//! ms. A segment is allocated ahead and therefore ends in zeros; kind 0 is never written.

mod entry;
mod frames;
mod scan;

pub use entry::{Entry, crashed};
pub use frames::Frames;
pub use scan::{Found, Record, Scan};

use std::fmt;

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use crate::ids::ShardId;

/// Not text, so that no other file is taken for a segment.
const MAGIC: [u8; 8] = *b"\x8dRNGJRN\n";
const VERSION: u16 = 1;
pub const HEADER_BYTES: usize = 40;
pub const FRAME_BYTES: usize = 16;
const ALIGN: usize = 8;
/// A record of a call has some 700 bytes; one with the most legs and the longest texts 60 KiB.
pub const PAYLOAD_BYTES_MAX: usize = 128 * 1_024;
/// A segment has room for several of the longest frames.
pub const SEGMENT_BYTES_MIN: u64 = 1_024 * 1_024;
pub const EXTENSION: &str = "journal";

const _: () = assert!(SEGMENT_BYTES_MIN as usize > 4 * (FRAME_BYTES + PAYLOAD_BYTES_MAX));
const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN) && FRAME_BYTES.is_multiple_of(ALIGN));

/// The journal of one shard in one life of the process.
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

impl fmt::Display for NotSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("the header of the segment is damaged"),
            Self::Magic => f.write_str("not a segment of a journal"),
            Self::Version(found) => {
                write!(f, "journal format {found} is not known, this program reads {VERSION}")
            }
        }
    }
}

impl std::error::Error for NotSegment {}

impl Segment {
    pub const FIRST: u64 = 1;

    pub fn header(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        bytes[12] = self.stream.shard.0;
        bytes[16..24].copy_from_slice(&self.stream.run.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..32]);
        bytes[32..36].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub fn read(bytes: &[u8]) -> Result<Self, NotSegment> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(NotSegment::Damaged)?;
        if bytes[..8] != MAGIC {
            return Err(NotSegment::Magic);
        }
        if crc32fast::hash(&bytes[..32]) != u32_at(bytes, 32) {
            return Err(NotSegment::Damaged);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(NotSegment::Version(version));
        }
        let stream = Stream { run: u64_at(bytes, 16), shard: ShardId(bytes[12]) };
        Ok(Self { stream, number: u64_at(bytes, 24) })
    }

    /// Sorts as the segments do.
    pub fn file_name(self) -> String {
        let Self { stream: Stream { run, shard }, number } = self;
        format!("{run:016x}-{:02}-{number:08}.{EXTENSION}", shard.0)
    }

    /// The segment that a file's name stands for.
    pub fn of_file_name(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
        let mut words = stem.split('-');
        let run = u64::from_str_radix(words.next()?, 16).ok()?;
        let shard = ShardId(words.next()?.parse().ok()?);
        let segment = Self { stream: Stream { run, shard }, number: words.next()?.parse().ok()? };
        (segment.file_name() == name).then_some(segment)
    }

    /// Over everything of a frame but the checksum itself, and over where it stands.
    fn checksum(self, offset: u64, head: &[u8; FRAME_BYTES], payload: &[u8]) -> u32 {
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

/// What a frame with this payload takes in a segment.
const fn frame_len(payload: usize) -> usize {
    (FRAME_BYTES + payload).next_multiple_of(ALIGN)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the caller looked at the length"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the caller looked at the length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: Segment =
        Segment { stream: Stream { run: 0x0192_aabb_ccdd_eeff, shard: ShardId(7) }, number: 42 };

    #[test]
    fn a_header_comes_back_and_any_flipped_bit_in_it_is_seen() {
        let header = SEGMENT.header();
        assert_eq!(Segment::read(&header), Ok(SEGMENT));
        for bit in 0..8 * 36 {
            let mut broken = header;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(Segment::read(&broken).is_err(), "bit {bit}");
        }
        assert_eq!(Segment::read(&header[..39]), Err(NotSegment::Damaged));
        assert_eq!(Segment::read(&[0; 64]), Err(NotSegment::Magic));
    }

    #[test]
    fn file_names_sort_as_segments_and_come_back() {
        let later = Segment { number: 43, ..SEGMENT };
        assert!(SEGMENT.file_name() < later.file_name());
        assert_eq!(Segment::of_file_name(&SEGMENT.file_name()), Some(SEGMENT));
        for other in ["", "x.journal", "0192aabbccddeeff-07-42.journal", "a-1-2.wav"] {
            assert_eq!(Segment::of_file_name(other), None, "{other}");
        }
    }
}
