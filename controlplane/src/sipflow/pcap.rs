//! A call's flow as a capture file: the messages in packets as they may have been on the wire.
//! Owns:  the classic pcap format (LINKTYPE_RAW) and headers of IP, UDP and TCP made up round messages.
//! Gives: bytes that Wireshark, sngrep and tcpdump read.
//! Never: a link layer, fragments, acknowledgements: nobody kept them.
//! Holds: lengths and checksums are right; TCP numbers go on from message to message.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use shared::net::Transport;

use super::Message;

const MAGIC: u32 = 0xa1b2_c3d4;
const SNAP_BYTES: u32 = 262_144;
/// Packets begin with their IP header.
const LINKTYPE_RAW: u32 = 101;
const UDP: u8 = 17;
const TCP: u8 = 6;
/// Below what an IP packet of either family has room for.
const PIECE_BYTES: usize = 60_000;
/// PSH and ACK.
const TCP_FLAGS: u8 = 0x18;

pub fn write(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [MAGIC, 2 | (4 << 16), 0, 0, SNAP_BYTES, LINKTYPE_RAW] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let mut numbers = HashMap::new();
    for message in messages {
        write_message(&mut out, message, &mut numbers);
    }
    out
}

/// The next byte's number of each direction.
type Numbers = HashMap<(SocketAddr, SocketAddr), u32>;

fn write_message(out: &mut Vec<u8>, message: &Message, numbers: &mut Numbers) {
    let (from, to) = one_family(message.source(), message.target());
    if message.transport == Transport::Udp {
        // A longer datagram does not exist; the length says how long the message was.
        let payload = &message.raw[..message.raw.len().min(PIECE_BYTES)];
        let segment = udp(from, to, payload);
        return write_packet(out, message, &ip(from, to, UDP, segment));
    }
    for piece in message.raw.chunks(PIECE_BYTES) {
        let acknowledged = numbers.get(&(to, from)).copied().unwrap_or(1);
        let number = numbers.entry((from, to)).or_insert(1);
        let segment = tcp(from, to, piece, *number, acknowledged);
        *number = number.wrapping_add(u32::try_from(piece.len()).unwrap_or(0));
        write_packet(out, message, &ip(from, to, TCP, segment));
    }
}

fn write_packet(out: &mut Vec<u8>, message: &Message, packet: &[u8]) {
    let at = message.at.0.max(0);
    let seconds = u32::try_from(at / 1_000).unwrap_or(u32::MAX);
    let micros = u32::try_from(at % 1_000 * 1_000).unwrap_or(0);
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    for word in [seconds, micros, length, length] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(packet);
}

/// An address of ours that is not known (a wildcard) may be of the other family.
fn one_family(from: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    if from.is_ipv4() == to.is_ipv4() {
        return (from, to);
    }
    let six = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    (six(from), six(to))
}

fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = short(8 + payload.len());
    let mut segment = Vec::with_capacity(8 + payload.len());
    for half in [from.port(), to.port(), length, 0] {
        segment.extend_from_slice(&half.to_be_bytes());
    }
    segment.extend_from_slice(payload);
    // Zero would say that there is none (RFC 768).
    let checksum = match transport_checksum(from, to, UDP, &segment) {
        0 => u16::MAX,
        checksum => checksum,
    };
    segment[6..8].copy_from_slice(&checksum.to_be_bytes());
    segment
}

fn tcp(
    from: SocketAddr,
    to: SocketAddr,
    payload: &[u8],
    number: u32,
    acknowledged: u32,
) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20 + payload.len());
    segment.extend_from_slice(&from.port().to_be_bytes());
    segment.extend_from_slice(&to.port().to_be_bytes());
    segment.extend_from_slice(&number.to_be_bytes());
    segment.extend_from_slice(&acknowledged.to_be_bytes());
    segment.extend_from_slice(&[5 << 4, TCP_FLAGS, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(payload);
    let checksum = transport_checksum(from, to, TCP, &segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

fn ip(from: SocketAddr, to: SocketAddr, protocol: u8, segment: Vec<u8>) -> Vec<u8> {
    let mut packet = Vec::with_capacity(40 + segment.len());
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&short(20 + segment.len()).to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]); // not to be fragmented
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
            let checksum = fold(sum(&packet));
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (from, to) => {
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&short(segment.len()).to_be_bytes());
            packet.extend_from_slice(&[protocol, 64]);
            packet.extend_from_slice(&octets(from));
            packet.extend_from_slice(&octets(to));
        }
    }
    packet.extend_from_slice(&segment);
    packet
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Over the pseudo header too (RFC 768, RFC 9293 3.1, RFC 8200 8.1).
fn transport_checksum(from: SocketAddr, to: SocketAddr, protocol: u8, segment: &[u8]) -> u16 {
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    let addresses = sum(&octets(from.ip())) + sum(&octets(to.ip()));
    fold(addresses + u64::from(length) + u64::from(protocol) + sum(segment))
}

/// Ones' complement sum of 16-bit words (RFC 1071), not folded yet.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u64::from(u16::from_be_bytes([pair[0], low]))
    });
    words.sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::ids::Side;
    use shared::time::WallMs;

    fn message(transport: Transport, local: &str, peer: &str, came: bool, raw: &str) -> Message {
        Message {
            at: WallMs(1_795_484_958_123),
            side: Side::Caller,
            came,
            transport,
            local: local.parse().expect("an address"),
            peer: peer.parse().expect("an address"),
            raw: raw.as_bytes().to_vec(),
        }
    }

    fn packets(file: &[u8]) -> Vec<&[u8]> {
        let (mut rest, mut packets) = (&file[24..], Vec::new());
        while !rest.is_empty() {
            let length = u32::from_le_bytes(*rest[8..].first_chunk().expect("a head")) as usize;
            packets.push(&rest[16..16 + length]);
            rest = &rest[16 + length..];
        }
        packets
    }

    #[test]
    fn a_datagram_has_headers_with_right_lengths_and_checksums() {
        let raw = "OPTIONS sip:a SIP/2.0\r\n\r\n";
        let one = message(Transport::Udp, "192.0.2.1:5060", "198.51.100.7:5062", true, raw);
        let file = write(&[one]);
        assert_eq!(&file[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
        assert_eq!(
            file[24..32],
            [1_795_484_958_u32.to_le_bytes(), 123_000_u32.to_le_bytes()].concat()
        );
        let [packet] = packets(&file)[..] else { panic!("one packet") };
        assert_eq!(fold(sum(&packet[..20])), 0, "the checksum makes the sum whole");
        assert_eq!(packet[2..4], (28 + raw.len() as u16).to_be_bytes());
        assert_eq!(
            (&packet[12..16], &packet[16..20]),
            (&[198, 51, 100, 7][..], &[192, 0, 2, 1][..])
        );
        assert_eq!((&packet[20..22], &packet[28..]), (&5062_u16.to_be_bytes()[..], raw.as_bytes()));
        let pseudo = sum(&packet[12..20]) + u64::from(UDP) + (8 + raw.len() as u64);
        assert_eq!(fold(pseudo + sum(&packet[20..])), 0);
    }

    #[test]
    fn numbers_of_a_connection_go_on() {
        let one = |came, raw| message(Transport::Tcp, "[::1]:5060", "[::2]:4000", came, raw);
        let file = write(&[one(true, "hello"), one(false, "you"), one(true, "again")]);
        let numbers: Vec<(u32, u32)> = packets(&file)
            .iter()
            .map(|packet| {
                assert_eq!((packet[0] >> 4, packet[6]), (6, TCP));
                let word = |at: usize| u32::from_be_bytes(*packet[at..].first_chunk().expect("it"));
                (word(44), word(48))
            })
            .collect();
        assert_eq!(numbers, [(1, 1), (1, 6), (6, 4)]);
    }

    #[test]
    fn a_message_that_fits_into_no_packet_is_cut_or_in_pieces() {
        let raw = "x".repeat(65_535);
        let long = |transport| message(transport, "192.0.2.1:1", "192.0.2.2:2", true, &raw);
        assert_eq!(packets(&write(&[long(Transport::Udp)])).len(), 1);
        assert_eq!(packets(&write(&[long(Transport::Tcp)])).len(), 2);
    }
}
