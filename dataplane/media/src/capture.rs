//! The capture: every forwarded packet of one call in one append-only file.
//! Owns:  the format, its version, its writer and its reader.
//! Gives: bytes to append, and packets read in place from a whole file or from pieces of one.
//! Never: opens a file, reads a clock, checks what is inside a packet.
//! Holds: a file cut off at any byte reads back up to its last whole record, and the reader says
//!        that it was cut.
//!
//! All numbers are little-endian. The file starts with 40 bytes: magic (8), version (2), length of
//! this header (2), zero (4), call id (16), wall time of the header in ms since 1970 (8). Records
//! follow, each with 16 bytes before its content: kind (1), media line (1), flags (1: bit 0 set for
//! the callee, bit 1 for the RTCP port), zero (1), length of the content (4), ns since the header
//! (8). Kind 1 is a packet on a media port. Readers skip kinds that they do not know; kind 0 is
//! never written, so a zero-filled end of file reads as torn.

use std::fmt;
use std::time::Duration;

use shared::ids::{CallId, Side};
use shared::time::{Instant, WallMs};

use crate::relay::Component;

/// Not text, so that no other file is taken for a capture.
const MAGIC: [u8; 8] = *b"\x8dRNGCAP\n";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 40;
const RECORD_HEADER_BYTES: usize = 16;
/// One UDP datagram.
pub const RECORD_BYTES_MAX: usize = 65_535;
const KIND_NONE: u8 = 0;
const KIND_PACKET: u8 = 1;
const FLAG_CALLEE: u8 = 1;
const FLAG_RTCP: u8 = 2;

/// What a capture says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub call: CallId,
    /// The moment from which packets count their time.
    pub started: WallMs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Since the header was written.
    pub at: Duration,
    /// Media line, from 0.
    pub line: u8,
    /// Who sent it.
    pub side: Side,
    /// The port that it came in on; RTCP may come in on the RTP port (RFC 5761).
    pub component: Component,
    pub bytes: &'a [u8],
}

/// Why bytes are not a capture that this version reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCapture {
    Magic,
    /// Cut off within the header.
    TooShort,
    Version(u16),
}

impl fmt::Display for NotCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("not a capture file"),
            Self::TooShort => f.write_str("the capture file ends within its header"),
            Self::Version(found) => {
                write!(f, "capture format {found} is not known, this program reads {VERSION}")
            }
        }
    }
}

impl std::error::Error for NotCapture {}

/// How a capture ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// With a whole record.
    Clean,
    /// Bytes from `offset` on are not records; the writer was stopped there, or the disk lied.
    Torn { offset: u64 },
}

/// What stands at the start of a piece of a capture, behind the file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// No record can start like this.
    Broken,
    /// The piece ends within the record, which needs so many bytes (or more, when even its length
    /// is not there).
    NeedMore(usize),
    /// A packet, and the bytes that its record takes.
    Packet(Packet<'a>, usize),
    /// A record of a kind that came with a later version.
    Unknown(usize),
}

/// Starts a capture.
pub fn write_header(out: &mut Vec<u8>, call: CallId, started: WallMs) {
    out.reserve(HEADER_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let length = u16::try_from(HEADER_BYTES).expect("the header is 40 bytes");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&call.0.to_le_bytes());
    out.extend_from_slice(&started.0.to_le_bytes());
}

/// Appends one packet. `at` counts from the header: `Instant::ZERO` is the moment of
/// `write_header`, so that a shell writes `Instant::ZERO + (now - started)`.
///
/// # Panics
/// When `packet` is longer than any datagram.
pub fn write_packet(
    out: &mut Vec<u8>,
    at: Instant,
    line: u8,
    side: Side,
    component: Component,
    packet: &[u8],
) {
    assert!(packet.len() <= RECORD_BYTES_MAX, "a packet came in one datagram");
    let length = u32::try_from(packet.len()).expect("a datagram is shorter than 64 KiB");
    let callee = if side == Side::Callee { FLAG_CALLEE } else { 0 };
    let rtcp = if component == Component::Rtcp { FLAG_RTCP } else { 0 };
    out.reserve(RECORD_HEADER_BYTES + packet.len());
    out.extend_from_slice(&[KIND_PACKET, line, callee | rtcp, 0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&at.as_nanos().to_le_bytes());
    out.extend_from_slice(packet);
}

/// The header of a file, and where its first record starts.
pub fn read_header(bytes: &[u8]) -> Result<(Header, usize), NotCapture> {
    let shown = bytes.len().min(MAGIC.len());
    if bytes[..shown] != MAGIC[..shown] {
        return Err(NotCapture::Magic);
    }
    let mut fields = Fields(bytes);
    let _magic: [u8; 8] = fields.take().ok_or(NotCapture::TooShort)?;
    let version = u16::from_le_bytes(fields.take().ok_or(NotCapture::TooShort)?);
    if version != VERSION {
        return Err(NotCapture::Version(version));
    }
    let length = usize::from(u16::from_le_bytes(fields.take().ok_or(NotCapture::TooShort)?));
    let _zero: [u8; 4] = fields.take().ok_or(NotCapture::TooShort)?;
    let call = CallId(u128::from_le_bytes(fields.take().ok_or(NotCapture::TooShort)?));
    let started = WallMs(i64::from_le_bytes(fields.take().ok_or(NotCapture::TooShort)?));
    if length < HEADER_BYTES || length > bytes.len() {
        return Err(NotCapture::TooShort);
    }
    Ok((Header { call, started }, length))
}

/// The record at the start of `bytes`.
pub fn read_record(bytes: &[u8]) -> Record<'_> {
    let Some(head) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else {
        return Record::NeedMore(RECORD_HEADER_BYTES);
    };
    let [kind, line, flags, zero, rest @ ..] = head;
    let mut fields = Fields(rest);
    let length = fields.take().map_or(0, u32::from_le_bytes) as usize;
    let nanos = fields.take().map_or(0, u64::from_le_bytes);
    if *kind == KIND_NONE || length > RECORD_BYTES_MAX {
        return Record::Broken;
    }
    let total = RECORD_HEADER_BYTES + length;
    let Some(content) = bytes.get(RECORD_HEADER_BYTES..total) else {
        return Record::NeedMore(total);
    };
    if *kind != KIND_PACKET {
        return Record::Unknown(total);
    }
    if flags & !(FLAG_CALLEE | FLAG_RTCP) != 0 || *zero != 0 {
        return Record::Broken;
    }
    let packet = Packet {
        at: Duration::from_nanos(nanos),
        line: *line,
        side: if flags & FLAG_CALLEE == 0 { Side::Caller } else { Side::Callee },
        component: if flags & FLAG_RTCP == 0 { Component::Rtp } else { Component::Rtcp },
        bytes: content,
    };
    Record::Packet(packet, total)
}

/// Iterates over the packets of a whole file in memory.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    header: Header,
    bytes: &'a [u8],
    offset: usize,
    tail: Tail,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, NotCapture> {
        let (header, offset) = read_header(bytes)?;
        Ok(Self { header, bytes, offset, tail: Tail::Clean })
    }

    pub const fn header(&self) -> Header {
        self.header
    }

    /// How the file ends; known once the iterator is at its end.
    pub const fn tail(&self) -> Tail {
        self.tail
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Packet<'a>;

    fn next(&mut self) -> Option<Packet<'a>> {
        while self.tail == Tail::Clean && self.offset < self.bytes.len() {
            match read_record(&self.bytes[self.offset..]) {
                Record::Packet(packet, length) => {
                    self.offset += length;
                    return Some(packet);
                }
                Record::Unknown(length) => self.offset += length,
                Record::Broken | Record::NeedMore(_) => {
                    self.tail = Tail::Torn { offset: self.offset as u64 };
                }
            }
        }
        None
    }
}

/// Takes arrays off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }
}
