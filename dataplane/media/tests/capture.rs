//! The capture format: what was written is read back, and damage ends it cleanly.
//! Owns:  the tests of `capture`.
//! Gives: one fixed file whose bytes are spelled out, so that the format cannot change unseen.
//! Never: a file.
//! Holds: the reader takes any bytes.

use std::time::Duration;

use media::capture::{self, NotCapture, Packet, Reader, Record, Tail};
use media::relay::Component;
use media::timeline;
use proptest::prelude::*;
use shared::ids::{CallId, Side};
use shared::time::{Instant, WallMs};

const CALL: CallId = CallId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

fn sample() -> Vec<u8> {
    let mut file = Vec::new();
    capture::write_header(&mut file, CALL, WallMs(1_795_484_958_123));
    let at = Instant::from_nanos(0x0102_0304);
    capture::write_packet(&mut file, at, 0, Side::Caller, Component::Rtp, b"one");
    let at = Instant::from_millis(20);
    capture::write_packet(&mut file, at, 3, Side::Callee, Component::Rtcp, b"");
    capture::write_packet(&mut file, at, 1, Side::Callee, Component::Rtp, &[7; 172]);
    file
}

#[test]
fn what_is_written_is_read_back() {
    let file = sample();
    let mut reader = Reader::new(&file).expect("it is a capture");
    assert_eq!(reader.header(), capture::Header { call: CALL, started: WallMs(1_795_484_958_123) });
    let packets: Vec<Packet<'_>> = reader.by_ref().collect();
    let late = Duration::from_millis(20);
    assert_eq!(
        packets,
        [
            Packet {
                at: Duration::from_nanos(0x0102_0304),
                line: 0,
                side: Side::Caller,
                component: Component::Rtp,
                bytes: b"one",
            },
            Packet {
                at: late,
                line: 3,
                side: Side::Callee,
                component: Component::Rtcp,
                bytes: b"",
            },
            Packet {
                at: late,
                line: 1,
                side: Side::Callee,
                component: Component::Rtp,
                bytes: &[7; 172],
            },
        ]
    );
    assert_eq!(reader.tail(), Tail::Clean);
}

/// Version 1, byte for byte: captures outlive the program that wrote them.
#[test]
fn version_1_looks_like_this() {
    let file = sample();
    let mut expected = b"\x8dRNGCAP\n\x01\x00\x28\x00\x00\x00\x00\x00".to_vec();
    expected.extend([0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00]);
    expected.extend([0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01]);
    expected.extend(1_795_484_958_123_i64.to_le_bytes());
    expected.extend(b"\x01\x00\x00\x00\x03\x00\x00\x00\x04\x03\x02\x01\x00\x00\x00\x00one");
    expected.extend(b"\x01\x03\x03\x00\x00\x00\x00\x00\x00\x2d\x31\x01\x00\x00\x00\x00");
    assert_eq!(file[..expected.len()], expected);
}

#[test]
fn a_file_cut_at_any_byte_reads_up_to_its_last_whole_record() {
    let file = sample();
    let ends = [40, 59, 75, 263];
    assert_eq!(file.len(), ends[3]);
    for length in 0..file.len() {
        let cut = &file[..length];
        match Reader::new(cut) {
            Err(reason) => assert_eq!((reason, length < 40), (NotCapture::TooShort, true)),
            Ok(mut reader) => {
                let whole = ends.iter().rposition(|&end| end <= length).expect("the header");
                assert_eq!(reader.by_ref().count(), whole, "{length}");
                let offset = ends[whole];
                let torn = Tail::Torn { offset: offset as u64 };
                assert_eq!(reader.tail(), if offset == length { Tail::Clean } else { torn });
            }
        }
    }
}

/// A block device may leave zeros behind the last write.
#[test]
fn zeros_behind_the_last_record_are_a_torn_tail() {
    let mut file = sample();
    let end = file.len() as u64;
    file.extend([0; 4_096]);
    let mut reader = Reader::new(&file).expect("it is a capture");
    assert_eq!((reader.by_ref().count(), reader.tail()), (3, Tail::Torn { offset: end }));
}

#[test]
fn records_of_a_later_kind_are_skipped() {
    let mut file = sample();
    file.extend(b"\x02\x00\xff\xff\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00INVIT");
    let at = Instant::from_millis(40);
    capture::write_packet(&mut file, at, 0, Side::Caller, Component::Rtp, b"two");
    let mut reader = Reader::new(&file).expect("it is a capture");
    assert_eq!((reader.by_ref().count(), reader.tail()), (4, Tail::Clean));
}

#[test]
fn other_files_and_later_versions_are_refused() {
    assert_eq!(Reader::new(b"RIFF").err(), Some(NotCapture::Magic));
    assert_eq!(Reader::new(&[0; 100]).err(), Some(NotCapture::Magic));
    assert_eq!(Reader::new(b"").err(), Some(NotCapture::TooShort));
    let mut file = sample();
    file[8] = 2;
    assert_eq!(Reader::new(&file).err(), Some(NotCapture::Version(2)));
    assert_eq!(
        NotCapture::Version(2).to_string(),
        "capture format 2 is not known, this program reads 1"
    );
}

#[test]
fn a_record_longer_than_any_datagram_is_broken() {
    let mut file = sample();
    file[44..48].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(capture::read_record(&file[40..]), Record::Broken);
    let mut reader = Reader::new(&file).expect("its header stands");
    assert_eq!((reader.by_ref().count(), reader.tail()), (0, Tail::Torn { offset: 40 }));
}

#[derive(Clone, Debug)]
struct Written {
    at: u64,
    line: u8,
    side: Side,
    component: Component,
    bytes: Vec<u8>,
}

fn any_written() -> impl Strategy<Value = Written> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        // Often something like RTP, so that the timeline has work.
        (any::<[u8; 11]>(), 0..9_u8).prop_map(|(rest, payload_type)| {
            let mut packet = vec![0x80, payload_type];
            packet.extend(rest);
            packet.extend([0x55; 160]);
            packet
        }),
    ];
    let (sides, components) = (any::<bool>(), any::<bool>());
    (0..30_000_000_000_u64, 0..2_u8, sides, components, bytes).prop_map(
        |(at, line, callee, rtcp, bytes)| Written {
            at,
            line,
            side: if callee { Side::Callee } else { Side::Caller },
            component: if rtcp { Component::Rtcp } else { Component::Rtp },
            bytes,
        },
    )
}

fn file_of(packets: &[Written]) -> Vec<u8> {
    let mut file = Vec::new();
    capture::write_header(&mut file, CALL, WallMs(0));
    for p in packets {
        let at = Instant::from_nanos(p.at);
        capture::write_packet(&mut file, at, p.line, p.side, p.component, &p.bytes);
    }
    file
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_packets_are_read_back(packets in prop::collection::vec(any_written(), 0..40)) {
        let file = file_of(&packets);
        let mut reader = Reader::new(&file).expect("it is a capture");
        for written in &packets {
            let read = reader.next().expect("as many as were written");
            prop_assert_eq!(read.at, Duration::from_nanos(written.at));
            prop_assert_eq!((read.line, read.side), (written.line, written.side));
            prop_assert_eq!((read.component, read.bytes), (written.component, &written.bytes[..]));
        }
        prop_assert_eq!(reader.next(), None);
        prop_assert_eq!(reader.tail(), Tail::Clean);
    }

    /// Cut off and with bytes changed: reader and timeline come to an end, within their bounds.
    #[test]
    fn damaged_files_never_panic_and_stay_within_bounds(
        packets in prop::collection::vec(any_written(), 0..40),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = file_of(&packets);
        for (place, value) in damage {
            let place = place.index(file.len());
            file[place] = value;
        }
        file.truncate(cut.index(file.len() + 1));
        if let Ok(mut reader) = Reader::new(&file) {
            prop_assert!(reader.by_ref().count() <= file.len());
            prop_assert_eq!(reader.next(), None);
        }
        if let Ok((frames, summary)) = timeline::samples(&file, 100_000) {
            prop_assert!(frames.len() <= 200_000);
            prop_assert_eq!(frames.len() as u64, 2 * summary.samples);
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(Reader::new(&bytes).is_err());
        let mut file = file_of(&[]);
        file.extend(&bytes);
        let mut reader = Reader::new(&file).expect("its header stands");
        prop_assert!(reader.by_ref().count() <= bytes.len() / 16);
    }
}
