//! RTP packets: the fixed header as a value, and the payload behind it (RFC 3550 5.1, 5.3.1).
//! Owns:  `Header`, `Packet`, the checks that make bytes an RTP packet.
//! Gives: a view that borrows the packet, and a writer into the caller's buffer.
//! Never: looks inside a payload, allocates while it reads.
//! Holds: whatever `Header::parse` accepts, `Header::write_to` writes back bit for bit
//!        (without padding, extension and CSRC list, which a `Header` does not carry).

use std::fmt;

/// The fixed part of the header.
pub const HEADER_BYTES: usize = 12;
/// RFC 3550 is version 2; STUN starts with 0, DTLS with 20 to 63, TURN channels with 64 to 79.
const VERSION: u8 = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub marker: bool,
    /// 0..=127.
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// CSRC list or header extension run past the end.
    HeaderBeyondPacket,
    /// The padding count is zero or more than there is payload.
    PaddingBeyondPayload,
    TooShort,
    Version,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeaderBeyondPacket => "the RTP header runs past the end of the packet",
            Self::PaddingBeyondPayload => "the RTP padding is longer than the payload",
            Self::TooShort => "shorter than an RTP header",
            Self::Version => "not RTP version 2",
        })
    }
}

impl std::error::Error for Malformed {}

/// One RTP packet, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub header: Header,
    /// Without CSRC list, header extension and padding.
    pub payload: &'a [u8],
}

impl Header {
    /// Version, minimum length, and that CSRC list and extension fit (RFC 3550 A.1).
    /// Padding is not looked at: under SRTP it is encrypted.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let Some(fixed) = packet.first_chunk::<HEADER_BYTES>() else {
            return Err(Malformed::TooShort);
        };
        if fixed[0] >> 6 != VERSION {
            return Err(Malformed::Version);
        }
        // Nearly every audio packet has neither CSRC list nor extension.
        if fixed[0] & 0x1f != 0 && payload_offset(packet).is_none() {
            return Err(Malformed::HeaderBeyondPacket);
        }
        Ok(Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        })
    }

    /// The twelve bytes of this header, without padding, extension and CSRC list.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION << 6;
        bytes[1] = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        bytes[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&self.ssrc.to_be_bytes());
        bytes
    }

    /// Writes the header to the start of `out` and gives the rest of it, where the payload goes;
    /// `None` when `out` is too short.
    pub fn write_to<'b>(&self, out: &'b mut [u8]) -> Option<&'b mut [u8]> {
        let (head, payload) = out.split_first_chunk_mut::<HEADER_BYTES>()?;
        *head = self.to_bytes();
        Some(payload)
    }
}

impl<'a> Packet<'a> {
    /// The whole packet, padding removed. Not for SRTP.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let header = Header::parse(packet)?;
        let offset = payload_offset(packet).ok_or(Malformed::HeaderBeyondPacket)?;
        let mut payload = &packet[offset..];
        if packet[0] & 0x20 != 0 {
            let padding = usize::from(payload.last().copied().unwrap_or(0));
            if padding == 0 || padding > payload.len() {
                return Err(Malformed::PaddingBeyondPayload);
            }
            payload = &payload[..payload.len() - padding];
        }
        Ok(Self { header, payload })
    }
}

/// Fills the payload of a packet that `Header::parse` accepted; header and padding stay as they are.
pub fn fill_payload(packet: &mut [u8], code: u8) {
    let Some(start) = payload_offset(packet) else { return };
    let padded = packet[0] & 0x20 != 0;
    let padding = if padded { packet.last().map_or(0, |&count| usize::from(count)) } else { 0 };
    let end = packet.len().saturating_sub(padding).max(start);
    packet[start..end].fill(code);
}

/// Gives a packet that `Header::parse` accepted another sequence number.
pub fn renumber(packet: &mut [u8], sequence: u16) {
    if let Some(field) = packet.get_mut(2..4) {
        field.copy_from_slice(&sequence.to_be_bytes());
    }
}

/// Where the payload starts; `None` when CSRC list or extension run past the end.
fn payload_offset(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut offset = HEADER_BYTES + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        let length = packet.get(offset + 2..offset + 4)?;
        offset += 4 + 4 * usize::from(u16::from_be_bytes([length[0], length[1]]));
    }
    (offset <= packet.len()).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        marker: true,
        payload_type: 8,
        sequence: 0xfffe,
        timestamp: 0x0102_0304,
        ssrc: 0xdead_beef,
    };

    #[test]
    fn a_written_header_is_read_back() {
        let mut packet = [0xaa; 16];
        HEADER.write_to(&mut packet).unwrap().copy_from_slice(b"abcd");
        assert_eq!(packet[..2], [0x80, 0x88]);
        let read = Packet::parse(&packet).unwrap();
        assert_eq!((read.header, read.payload), (HEADER, b"abcd".as_slice()));
        assert_eq!(HEADER.write_to(&mut [0; 11]), None);
    }

    #[test]
    fn csrc_list_extension_and_padding_are_not_payload() {
        let mut packet = HEADER.to_bytes().to_vec();
        packet[0] |= 0x20 | 0x10 | 2;
        packet.extend([0x11; 8]); // two CSRCs
        packet.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]); // one word of extension
        packet.extend(b"sound");
        packet.extend([0, 0, 3]);
        let read = Packet::parse(&packet).unwrap();
        assert_eq!((read.header, read.payload), (HEADER, b"sound".as_slice()));
    }

    #[test]
    fn every_shorter_piece_of_a_header_is_refused() {
        let mut packet = HEADER.to_bytes().to_vec();
        packet[0] |= 0x10 | 1;
        packet.extend([0; 4]);
        packet.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(Header::parse(&packet).is_ok());
        for length in 0..packet.len() {
            let expected = if length < HEADER_BYTES {
                Malformed::TooShort
            } else {
                Malformed::HeaderBeyondPacket
            };
            assert_eq!(Header::parse(&packet[..length]), Err(expected), "{length}");
        }
    }

    #[test]
    fn padding_longer_than_the_payload_is_refused_and_all_padding_is_an_empty_payload() {
        let mut packet = HEADER.to_bytes().to_vec();
        packet[0] |= 0x20;
        assert_eq!(Packet::parse(&packet), Err(Malformed::PaddingBeyondPayload));
        packet.extend([0, 0, 0]);
        assert_eq!(Packet::parse(&packet), Err(Malformed::PaddingBeyondPayload));
        packet[14] = 4;
        assert_eq!(Packet::parse(&packet), Err(Malformed::PaddingBeyondPayload));
        packet[14] = 3;
        assert_eq!(Packet::parse(&packet).unwrap().payload, b"");
    }

    #[test]
    fn filling_a_payload_leaves_header_extension_and_padding() {
        let mut packet = HEADER.to_bytes().to_vec();
        packet[0] |= 0x20 | 0x10 | 1;
        packet.extend([0x11; 4]); // one CSRC
        packet.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
        let head = packet.clone();
        packet.extend(b"sound\0\0\x03");
        fill_payload(&mut packet, 0xd5);
        let expected = [head.as_slice(), &[0xd5; 5], b"\0\0\x03"].concat();
        assert_eq!(packet, expected);
        // A padding count that lies takes nothing but payload.
        *packet.last_mut().unwrap() = 200;
        fill_payload(&mut packet, 0xff);
        assert_eq!(packet[..head.len()], head);
    }

    #[test]
    fn other_versions_are_not_rtp() {
        for first in [0x00, 0x40, 0xc0] {
            let mut packet = HEADER.to_bytes();
            packet[0] = first;
            assert_eq!(Header::parse(&packet), Err(Malformed::Version));
        }
    }
}
