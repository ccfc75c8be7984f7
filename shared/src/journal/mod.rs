//! The journal: what a shard has promised about calls, in append-only segments that outlive a kill.
//! Owns:  the format of frames and entries.
//! Gives: `Frames` to fill and seal for the writer, `Scan` for the reader, `crashed` for what was cut.
//! Never: opens a file, reads a clock.
//! Holds: a frame is valid in its own place only: its checksum covers run, shard, segment and offset,
//!        so neither an old file's rest nor bytes that a caller chose are taken for a frame.
//!
//! All numbers are little-endian. A segment starts with the header of its family (`segment`). Frames
//! follow, each at a multiple of 8: length of the payload (4), checksum (4), time (6), kind (1), zero (1),
//! payload, zeros up to the next multiple of 8. The time is that of the shard's monotonic clock in
//! ms. A segment is allocated ahead and therefore ends in zeros; kind 0 is never written. A writer may
//! leave the rest of a page out: behind zeros up to a multiple of `PAGE` the frames go on.

mod entry;
mod frames;
mod scan;

pub use entry::{Entry, crashed};
pub use frames::Frames;
pub use scan::{Found, Record, Scan};

pub use crate::segment::{HEADER_BYTES, NotSegment, Position, Segment, Stream};

use crate::segment::{Family, u32_at, u64_at};

/// Not text, so that no other file is taken for a segment.
const FAMILY: Family = Family { magic: *b"\x8dRNGJRN\n", version: 1, extension: EXTENSION };
pub const FRAME_BYTES: usize = 16;
const ALIGN: usize = 8;
/// The kernel writes files back in pages of this size, and holds up who writes to one of them meanwhile.
pub const PAGE: u64 = 4_096;
/// A record of a call has some 700 bytes; one with the most legs and the longest texts 60 KiB.
pub const PAYLOAD_BYTES_MAX: usize = 128 * 1_024;
/// A segment has room for several of the longest frames.
pub const SEGMENT_BYTES_MIN: u64 = 1_024 * 1_024;
pub const EXTENSION: &str = "journal";

const _: () = assert!(SEGMENT_BYTES_MIN as usize > 4 * (FRAME_BYTES + PAYLOAD_BYTES_MAX));
const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN) && FRAME_BYTES.is_multiple_of(ALIGN));

impl Segment {
    pub fn header(self) -> [u8; HEADER_BYTES] {
        self.header_of(&FAMILY)
    }

    pub fn read(bytes: &[u8]) -> Result<Self, NotSegment> {
        Self::read_of(&FAMILY, bytes)
    }

    /// Where frames may go on when the page that has `offset` is not to be written to: at the next one,
    /// or at `offset` itself when nothing of its page is written yet.
    pub const fn next_page(offset: u64) -> u64 {
        offset.next_multiple_of(PAGE)
    }

    /// Sorts as the segments do.
    pub fn file_name(self) -> String {
        self.file_name_of(&FAMILY)
    }

    /// The segment that a file's name stands for.
    pub fn of_file_name(name: &str) -> Option<Self> {
        Self::of_file_name_of(&FAMILY, name)
    }
}

/// What a frame with this payload takes in a segment.
const fn frame_len(payload: usize) -> usize {
    (FRAME_BYTES + payload).next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

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
