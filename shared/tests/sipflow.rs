//! The frames of the SIP flow: what is written comes back, and nothing else is taken for a frame.
//! Owns:  frames of any content.
//! Gives: proof that torn ends and flipped bits are seen.
//! Never: a file.
//! Holds: a frame is valid in its own place only.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use shared::ids::{CallId, ShardId, Side};
use shared::net::Transport;
use shared::sipflow::{Frame, NotFrame, Place, Position, Segment, Stream, frame_len};
use shared::time::WallMs;

const SEGMENT: Segment =
    Segment { stream: Stream { run: 0x0192_aabb_ccdd_eeff, shard: ShardId(7) }, number: 42 };
const OFFSET: u64 = 4_096;

#[derive(Clone, Debug)]
struct Passed {
    at: i64,
    call: u128,
    bits: u8,
    addresses: [(IpAddr, u16); 2],
    previous: Option<(u32, u32)>,
    lost: u32,
    raw: Vec<u8>,
}

impl Passed {
    fn frame(&self) -> Frame<'_> {
        let transports =
            [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
        let [local, peer] = self.addresses.map(|(ip, port)| SocketAddr::new(ip, port));
        Frame {
            at: WallMs(self.at),
            call: CallId(self.call),
            side: Side::BOTH[usize::from(self.bits & 1)],
            came: self.bits & 2 != 0,
            transport: transports[usize::from(self.bits >> 2) % 5],
            local,
            peer,
            previous: self.previous.map(|(segment, offset)| Position {
                segment: segment.into(),
                offset: offset.into(),
            }),
            lost: self.lost,
            raw: &self.raw,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.frame().write(SEGMENT, OFFSET, &mut bytes);
        bytes
    }
}

fn passed() -> impl Strategy<Value = Passed> {
    let address = (any::<IpAddr>(), any::<u16>());
    let previous = proptest::option::of((1..u32::MAX, any::<u32>()));
    let raw = proptest::collection::vec(any::<u8>(), 0..2_000);
    let head = (0..1_i64 << 47, any::<u128>(), any::<u8>(), [address.clone(), address]);
    (head, previous, any::<u32>(), raw).prop_map(|(head, previous, lost, raw)| {
        let (at, call, bits, addresses) = head;
        Passed { at, call, bits, addresses, previous, lost, raw }
    })
}

proptest! {
    #[test]
    fn any_message_comes_back_as_it_was(passed in passed(), more in any::<[u8; 16]>()) {
        let mut bytes = passed.bytes();
        let length = bytes.len();
        prop_assert_eq!(length, frame_len(passed.raw.len()));
        bytes.extend_from_slice(&more);
        let (frame, found) = Frame::read(SEGMENT, OFFSET, &bytes).expect("it is whole");
        prop_assert_eq!((frame, found), (passed.frame(), length));
    }

    #[test]
    fn a_torn_frame_is_seen_wherever_it_is_torn(passed in passed(), at in any::<prop::sample::Index>()) {
        let bytes = passed.bytes();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(matches!(Frame::read(SEGMENT, OFFSET, cut), Err(NotFrame::Cut(_))));
        // The file was longer, but the rest was never written.
        let mut blank = cut.to_vec();
        blank.resize(bytes.len(), 0);
        if blank != bytes {
            prop_assert!(Frame::read(SEGMENT, OFFSET, &blank).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_is_seen(passed in passed(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut bytes = passed.bytes();
        // Zeros behind the message mean nothing.
        let at = at.index(80 + passed.raw.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Frame::read(SEGMENT, OFFSET, &bytes).is_err(), "byte {}", at);
    }

    #[test]
    fn a_frame_in_another_place_is_none(passed in passed()) {
        let bytes = passed.bytes();
        let other = Segment { number: 43, ..SEGMENT };
        prop_assert_eq!(Frame::read(other, OFFSET, &bytes), Err(NotFrame::Damaged));
        prop_assert_eq!(Frame::read(SEGMENT, OFFSET + 8, &bytes), Err(NotFrame::Damaged));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Frame::read(SEGMENT, OFFSET, &bytes).is_err());
    }
}

#[test]
fn a_place_travels_as_text() {
    let position = Position { segment: 42, offset: OFFSET };
    let place = Place { stream: SEGMENT.stream, position };
    let text = serde_json::to_string(&place).expect("text");
    assert_eq!(text, "\"0192aabbccddeeff-07-00000042-4096\"");
    assert_eq!(serde_json::from_str::<Place>(&text).expect("a place"), place);
    for other in ["", "x", "1-2-3", "1-2-3-4-5", "1-300-3-4"] {
        assert!(other.parse::<Place>().is_err(), "{other}");
    }
}
