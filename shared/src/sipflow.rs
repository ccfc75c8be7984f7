//! The SIP flow: every message of every call, in append-only segments from which a call's are found
//! again.
//! Owns:  the format of a frame, the names of segment files, `Place`, which a call record carries.
//! Gives: `Frame::write` for the shard, `Frame::read` for whoever asks what passed.
//! Never: opens a file, reads a clock, looks into a message.
//! Holds: a frame names the one before it of the same call, so the last one leads to all: there is no
//!        index that could grow, break or lag behind.
//!
//! All numbers are little-endian. Frames follow the header of the segment (`segment`), each at a
//! multiple of 8: length of the message (4), checksum (4), wall time in ms (6), flags (1), zero (1),
//! call (16), segment and offset of the call's previous frame (4, 4; zero for none), port of ours and of
//! the peer (2, 2), address of ours and of the peer (16, 16), messages dropped in front of it (4), the
//! message, zeros up to the next multiple of 8. The highest flag is always set, so that zeros are no frame.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{CallId, ShardId, Side};
use crate::limits::SIP_MESSAGE_BYTES_MAX;
use crate::net::Transport;
use crate::segment::{Family, u32_at};
use crate::time::WallMs;

pub use crate::segment::{HEADER_BYTES, NotSegment, Position, Segment, Stream};

/// Not text, so that no other file is taken for a segment.
pub const FAMILY: Family = Family { magic: *b"\x8dRNGSIP\n", version: 1, extension: "sipflow" };
/// What a frame has in front of its message.
pub const HEAD_BYTES: usize = 80;
const ALIGN: usize = 8;
/// The longest frame: beyond a datagram's length nothing is taken for one.
pub const FRAME_BYTES_MAX: usize = frame_len(SIP_MESSAGE_BYTES_MAX);
/// A segment has room for several of the longest frames, and its offsets fit in four bytes.
pub const SEGMENT_BYTES_MIN: u64 = 512 * 1_024;
pub const SEGMENT_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

const _: () = assert!(SEGMENT_BYTES_MIN as usize > 4 * FRAME_BYTES_MAX);
const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN) && HEAD_BYTES.is_multiple_of(ALIGN));

const IS_FRAME: u8 = 1 << 7;
const PEER_IS_V6: u8 = 1 << 6;
const LOCAL_IS_V6: u8 = 1 << 5;
const TRANSPORT_AT: u8 = 2;
const OF_CALLEE: u8 = 1 << 1;
const CAME: u8 = 1;
const TRANSPORTS: [Transport; 5] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

/// Where the newest frame of a call lies that its record knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub stream: Stream,
    pub position: Position,
}

/// One message that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'b> {
    pub at: WallMs,
    pub call: CallId,
    /// The side of the leg that it came from or went to.
    pub side: Side,
    /// It came; else we sent it.
    pub came: bool,
    pub transport: Transport,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// The frame before it of the same call.
    pub previous: Option<Position>,
    /// Messages of the call between that one and this one that were dropped.
    pub lost: u32,
    /// The message as it was on the wire.
    pub raw: &'b [u8],
}

/// Why there is no frame at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFrame {
    /// The bytes end before it does, which has this length as far as is known.
    Cut(usize),
    /// Something else lies there, or the checksum does not fit.
    Damaged,
}

/// What a frame with a message of this length takes in a segment.
pub const fn frame_len(raw: usize) -> usize {
    (HEAD_BYTES + raw).next_multiple_of(ALIGN)
}

impl<'b> Frame<'b> {
    /// Appends the frame that will stand at `offset` of `segment`. The message is no longer than
    /// `SIP_MESSAGE_BYTES_MAX`.
    pub fn write(&self, segment: Segment, offset: u64, bytes: &mut Vec<u8>) {
        let head = self.head();
        let checksum = segment.checksum(offset, &head, self.raw);
        let start = bytes.len();
        bytes.extend_from_slice(&head);
        bytes[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(self.raw);
        bytes.resize(start + frame_len(self.raw.len()), 0);
    }

    fn head(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        let length = u32::try_from(self.raw.len()).unwrap_or(u32::MAX);
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[8..14].copy_from_slice(&self.at.0.max(0).to_le_bytes()[..6]);
        head[14] = self.flags();
        head[16..32].copy_from_slice(&self.call.0.to_le_bytes());
        let small = |number: u64| u32::try_from(number).unwrap_or(0).to_le_bytes();
        let previous = self.previous.unwrap_or_default();
        head[32..36].copy_from_slice(&small(previous.segment));
        head[36..40].copy_from_slice(&small(previous.offset));
        head[40..42].copy_from_slice(&self.local.port().to_le_bytes());
        head[42..44].copy_from_slice(&self.peer.port().to_le_bytes());
        write_ip(&mut head[44..60], self.local.ip());
        write_ip(&mut head[60..76], self.peer.ip());
        head[76..].copy_from_slice(&self.lost.to_le_bytes());
        head
    }

    fn flags(&self) -> u8 {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let transport = TRANSPORTS.iter().position(|one| *one == self.transport).unwrap_or(0);
        IS_FRAME
            | flag(self.came, CAME)
            | flag(self.side == Side::Callee, OF_CALLEE)
            | flag(self.local.is_ipv6(), LOCAL_IS_V6)
            | flag(self.peer.is_ipv6(), PEER_IS_V6)
            | ((transport as u8) << TRANSPORT_AT)
    }

    /// The frame at the start of `bytes`, which stand at `offset` of `segment`, and its length there.
    pub fn read(segment: Segment, offset: u64, bytes: &'b [u8]) -> Result<(Self, usize), NotFrame> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(NotFrame::Cut(HEAD_BYTES));
        };
        let (length, flags) = (u32_at(head, 0) as usize, head[14]);
        let transport = TRANSPORTS.get(usize::from((flags >> TRANSPORT_AT) & 0b111));
        let (Some(transport), true) = (transport, flags & IS_FRAME != 0) else {
            return Err(NotFrame::Damaged);
        };
        if length > SIP_MESSAGE_BYTES_MAX {
            return Err(NotFrame::Damaged);
        }
        let whole = frame_len(length);
        let Some(raw) = rest.get(..length).filter(|_| bytes.len() >= whole) else {
            return Err(NotFrame::Cut(whole));
        };
        if segment.checksum(offset, head, raw) != u32_at(head, 4) {
            return Err(NotFrame::Damaged);
        }
        let mut time = [0; 8];
        time[..6].copy_from_slice(&head[8..14]);
        let call = head[16..32].first_chunk().copied().unwrap_or_default();
        let previous =
            Position { segment: u32_at(head, 32).into(), offset: u32_at(head, 36).into() };
        let port = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let ip = |at: usize, is_v6: u8| read_ip(&head[at..at + 16], flags & is_v6 != 0);
        let frame = Self {
            at: WallMs(i64::from_le_bytes(time)),
            call: CallId(u128::from_le_bytes(call)),
            side: if flags & OF_CALLEE == 0 { Side::Caller } else { Side::Callee },
            came: flags & CAME != 0,
            transport: *transport,
            local: SocketAddr::new(ip(44, LOCAL_IS_V6), port(40)),
            peer: SocketAddr::new(ip(60, PEER_IS_V6), port(42)),
            previous: (previous != Position::default()).then_some(previous),
            lost: u32_at(head, 76),
            raw,
        };
        Ok((frame, whole))
    }
}

fn write_ip(bytes: &mut [u8], ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes.copy_from_slice(&ip.octets()),
    }
}

fn read_ip(bytes: &[u8], is_v6: bool) -> IpAddr {
    if is_v6 {
        let octets: [u8; 16] = bytes.first_chunk().copied().unwrap_or_default();
        return Ipv6Addr::from(octets).into();
    }
    let octets: [u8; 4] = bytes.first_chunk().copied().unwrap_or_default();
    Ipv4Addr::from(octets).into()
}

impl Place {
    pub const fn segment(self) -> Segment {
        Segment { stream: self.stream, number: self.position.segment }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream: Stream { run, shard }, position } = self;
        write!(f, "{run:016x}-{:02}-{:08}-{}", shard.0, position.segment, position.offset)
    }
}

/// The text is not a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPlace;

impl fmt::Display for NotPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a place in a SIP flow")
    }
}

impl std::error::Error for NotPlace {}

impl FromStr for Place {
    type Err = NotPlace;
    fn from_str(text: &str) -> Result<Self, NotPlace> {
        let mut words = text.split('-');
        let mut word = || words.next().ok_or(NotPlace);
        let run = u64::from_str_radix(word()?, 16).map_err(|_| NotPlace)?;
        let shard = ShardId(word()?.parse().map_err(|_| NotPlace)?);
        let segment = word()?.parse().map_err(|_| NotPlace)?;
        let offset = word()?.parse().map_err(|_| NotPlace)?;
        let place = Self { stream: Stream { run, shard }, position: Position { segment, offset } };
        words.next().is_none().then_some(place).ok_or(NotPlace)
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
