//! RTCP packets: telling them from RTP, and walking a compound packet (RFC 3550 6.1, RFC 5761 4).
//! Owns:  the demultiplexing rule and the compound check.
//! Gives: `looks_like_rtcp` for the relay, `Compound` for those who read reports.
//! Never: decides about forwarding, allocates.
//! Holds: `Compound` yields packets whose lengths add up to the datagram, or ends with an error.

use std::fmt;

/// Header and SSRC of the sender: no RTCP packet is shorter.
pub const PACKET_BYTES_MIN: usize = 8;

/// Whether a version 2 packet on an RTP port is RTCP: payload types 64 to 95 are kept free for it,
/// so that the second byte decides (RFC 5761 4).
#[inline]
pub const fn is_rtcp_byte(second: u8) -> bool {
    matches!(second & 0x7f, 64..=95)
}

/// Version 2, a packet type of 192 to 223, and long enough to name a sender. The rest may be
/// encrypted (SRTCP), so it is not walked here.
pub fn looks_like_rtcp(packet: &[u8]) -> bool {
    packet.len() >= PACKET_BYTES_MIN
        && packet[0] >> 6 == 2
        && matches!(packet[1], 192..=223)
        && declared_bytes(packet) <= packet.len()
}

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// 200 SR, 201 RR, 202 SDES, 203 BYE, 204 APP, 205 RTPFB, 206 PSFB, 207 XR.
    pub packet_type: u8,
    /// Report count, source count, subtype or feedback type, by packet type.
    pub count: u8,
    /// The whole packet, header included.
    pub bytes: &'a [u8],
}

impl Part<'_> {
    /// SSRC of the sender, or of the first source (SDES, BYE).
    pub fn ssrc(&self) -> Option<u32> {
        self.bytes.get(4..8).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }
}

/// Why a datagram is not a compound RTCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A length field runs past the end, or bytes are left over.
    Length,
    /// A padding bit on a packet that is not the last (RFC 3550 6.4.1).
    Padding,
    /// A packet type outside 192 to 223.
    Type,
    Version,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "an RTCP length does not fit the datagram",
            Self::Padding => "RTCP padding before the last packet",
            Self::Type => "not an RTCP packet type",
            Self::Version => "not RTCP version 2",
        })
    }
}

impl std::error::Error for Malformed {}

/// Iterates over the packets of one datagram. Reduced-size packets (RFC 5506) are accepted.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

impl<'a> Compound<'a> {
    pub const fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    /// Whether the whole datagram is well formed and not empty.
    pub fn check(datagram: &[u8]) -> Result<(), Malformed> {
        if datagram.is_empty() {
            return Err(Malformed::Length);
        }
        Compound::new(datagram).try_for_each(|part| part.map(|_| ()))
    }

    fn next_part(&mut self) -> Result<Part<'a>, Malformed> {
        if self.rest.len() < 4 {
            return Err(Malformed::Length);
        }
        if self.rest[0] >> 6 != 2 {
            return Err(Malformed::Version);
        }
        if !matches!(self.rest[1], 192..=223) {
            return Err(Malformed::Type);
        }
        let length = declared_bytes(self.rest);
        if length > self.rest.len() {
            return Err(Malformed::Length);
        }
        if self.rest[0] & 0x20 != 0 && length != self.rest.len() {
            return Err(Malformed::Padding);
        }
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(Part { packet_type: bytes[1], count: bytes[0] & 0x1f, bytes })
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Result<Part<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let part = self.next_part();
        if part.is_err() {
            self.rest = &[];
        }
        Some(part)
    }
}

/// Bytes of the first packet, by its length field (32-bit words less one).
fn declared_bytes(packet: &[u8]) -> usize {
    4 * (usize::from(u16::from_be_bytes([packet[2], packet[3]])) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty receiver report and a BYE of the same source.
    const COMPOUND: [u8; 16] = [0x80, 201, 0, 1, 1, 2, 3, 4, 0x81, 203, 0, 1, 1, 2, 3, 4];

    #[test]
    fn a_compound_is_walked_packet_by_packet() {
        let parts: Vec<_> = Compound::new(&COMPOUND).map(Result::unwrap).collect();
        let seen: Vec<_> = parts.iter().map(|p| (p.packet_type, p.count, p.ssrc())).collect();
        assert_eq!(seen, [(201, 0, Some(0x0102_0304)), (203, 1, Some(0x0102_0304))]);
        assert_eq!(Compound::check(&COMPOUND), Ok(()));
        assert!(looks_like_rtcp(&COMPOUND));
    }

    #[test]
    fn lengths_must_add_up() {
        for length in 0..COMPOUND.len() {
            let expected = if length == 8 { Ok(()) } else { Err(Malformed::Length) };
            assert_eq!(Compound::check(&COMPOUND[..length]), expected, "{length}");
        }
        assert!(!looks_like_rtcp(&COMPOUND[..7]));
    }

    #[test]
    fn version_type_and_early_padding_are_checked() {
        for (offset, value, expected) in [
            (0, 0x40, Malformed::Version),
            (1, 191, Malformed::Type),
            (9, 224, Malformed::Type),
            (0, 0xa0, Malformed::Padding),
        ] {
            let mut datagram = COMPOUND;
            datagram[offset] = value;
            assert_eq!(Compound::check(&datagram), Err(expected), "{offset}");
        }
    }

    /// RFC 5761 4: 64 to 95 are never RTP payload types where both share a port.
    #[test]
    fn the_second_byte_tells_rtcp_from_rtp() {
        for second in 0..=255_u8 {
            let expected = (192..=223).contains(&second) || (64..=95).contains(&second);
            assert_eq!(is_rtcp_byte(second), expected, "{second}");
        }
    }

    /// An iterator that met an error ends: no caller loops for ever on hostile bytes.
    #[test]
    fn the_walk_ends_after_an_error() {
        assert_eq!(Compound::new(&[0xff; 100]).count(), 1);
    }
}
