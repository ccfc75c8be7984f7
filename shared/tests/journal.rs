//! The journal's format against cuts, flips, holes and strangers: what is read was written.

use std::collections::BTreeMap;

use proptest::prelude::*;
use shared::cdr::{CallStatus, Cdr, Direction, HangupMessage, HangupReason, LegRole, LegTimeline};
use shared::ids::{CallId, ShardId, Side};
use shared::journal::{
    Entry, FRAME_BYTES, Found, Frames, HEADER_BYTES, PAYLOAD_BYTES_MAX, Scan, Segment, Stream,
    crashed,
};
use shared::time::WallMs;

const SEGMENT: Segment = Segment { stream: Stream { run: 0xabcd, shard: ShardId(1) }, number: 3 };
const BASE: u64 = HEADER_BYTES as u64;

fn cdr(number: u128, caller: &str) -> Cdr {
    let start = WallMs(1_795_514_400_000);
    Cdr {
        call_id: format!("{number}@phone"),
        session_id: CallId(number),
        caller: caller.to_owned(),
        callee: "1002".to_owned(),
        caller_uri: format!("sip:{caller}@pbx"),
        callee_uri: "sip:1002@pbx".to_owned(),
        direction: Direction::Internal,
        status: CallStatus::Completed,
        start_time: start,
        ring_time: None,
        answer_time: Some(start.add_ms(2_000)),
        end_time: start.add_ms(2_000),
        duration_ms: 0,
        status_code: 200,
        hangup_reason: HangupReason::SystemCrash,
        hangup_messages: Vec::new(),
        sip_leg_roles: vec![LegRole { call_id: format!("{number}@phone"), role: Side::Caller }],
        leg_timeline: LegTimeline::default(),
        source_addr: "192.0.2.1:5060".to_owned(),
        sip_trunk: None,
        outbound_trunk: None,
        user_agent: None,
        recorded: false,
        media_quality: Vec::new(),
        sip_flow: None,
        metadata: BTreeMap::new(),
        last_error: None,
        shard: 1,
    }
}

/// Entries as they come: every third a beat, starts and ends of calls with any text in them.
fn entries(texts: &[String]) -> Vec<Entry> {
    let entry = |(number, text): (usize, &String)| match number % 3 {
        0 => Entry::Start(Box::new(cdr(number as u128, text))),
        1 => Entry::Beat,
        _ => Entry::End(Box::new(cdr(number as u128, text))),
    };
    texts.iter().enumerate().map(entry).collect()
}

/// A segment without its header, with room behind what is written; and where each frame ends.
fn written(entries: &[Entry], room: usize) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    let mut frames = Frames::default();
    for (number, entry) in entries.iter().enumerate() {
        frames.push(1_000 + number as u64, entry);
        let sealed = frames.seal(SEGMENT, BASE + bytes.len() as u64, u64::MAX).to_vec();
        frames.written(sealed.len());
        bytes.extend_from_slice(&sealed);
        ends.push(bytes.len());
    }
    bytes.resize(bytes.len() + room, 0);
    (bytes, ends)
}

/// Where damaged bytes begin and end.
type Damaged = Vec<(u64, u64)>;

/// What a whole scan finds: entries with their times, and damaged bytes.
fn read(bytes: &[u8]) -> (Vec<(u64, Entry)>, Damaged) {
    let mut scan = Scan::whole(SEGMENT, BASE, bytes);
    let (mut found, mut damage) = (Vec::new(), Vec::new());
    loop {
        match scan.next() {
            Found::Record(record) => {
                found.push((record.at_ms, record.entry().expect("of this version")));
            }
            Found::Damaged { from, to } => damage.push((from - BASE, to - BASE)),
            Found::End => return (found, damage),
            other => panic!("{other:?} in a whole scan"),
        }
    }
}

fn numbered(entries: Vec<Entry>) -> Vec<(u64, Entry)> {
    entries.into_iter().enumerate().map(|(number, entry)| (1_000 + number as u64, entry)).collect()
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("\\PC{0,40}|[\\x00-\\x7f]{0,60}", 1..24)
}

proptest! {
    /// The rest of a page may be left out before any frame; a reader of pieces finds the same.
    #[test]
    fn pages_that_were_left_are_no_damage(
        texts in texts(),
        leaves in prop::collection::vec(any::<bool>(), 24),
        piece in 1_usize..20_000,
    ) {
        let entries = entries(&texts);
        let mut bytes = Vec::new();
        let mut frames = Frames::default();
        for (number, entry) in entries.iter().enumerate() {
            let mut offset = BASE + bytes.len() as u64;
            if leaves[number] {
                offset = Segment::next_page(offset);
                bytes.resize((offset - BASE) as usize, 0);
            }
            frames.push(1_000 + number as u64, entry);
            let sealed = frames.seal(SEGMENT, offset, u64::MAX).to_vec();
            frames.written(sealed.len());
            bytes.extend_from_slice(&sealed);
        }
        let written = bytes.len();
        bytes.resize(written + 9_000, 0);
        let all = numbered(entries);
        prop_assert_eq!(read(&bytes), (all.clone(), vec![]));
        // Pieces: whatever one does not decide, a longer one does.
        let (mut found, mut at, mut length) = (Vec::new(), 0, piece);
        while at < written {
            let until = bytes.len().min(at + length);
            let mut scan = Scan::piece(SEGMENT, BASE + at as u64, &bytes[at..until]);
            length = loop {
                match scan.next() {
                    Found::Record(record) => {
                        found.push((record.at_ms, record.entry().expect("of this version")));
                        at = (record.next - BASE) as usize;
                    }
                    Found::Short { needed, .. } => break piece.max(needed),
                    Found::Unclear { .. } => break usize::MAX >> 1,
                    other => panic!("{other:?} in a piece"),
                }
            };
        }
        prop_assert_eq!(found, all);
    }

    #[test]
    fn what_was_written_is_read(texts in texts(), room in 0_usize..2_000) {
        let entries = entries(&texts);
        let (bytes, _) = written(&entries, room);
        prop_assert_eq!(read(&bytes), (numbered(entries), vec![]));
    }

    /// A kill in the middle of a write, or a page that never reached the disk: everything before the
    /// cut is read, nothing behind it, and only the cut frame is called damaged.
    #[test]
    fn any_cut_costs_only_the_frame_it_goes_through(
        texts in texts(),
        cut in any::<prop::sample::Index>(),
        zeros in any::<bool>(),
    ) {
        let entries = entries(&texts);
        let (mut bytes, ends) = written(&entries, 0);
        let cut = cut.index(bytes.len() + 1);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        if zeros { bytes[cut..].fill(0) } else { bytes.truncate(cut) }
        // Only padding was cut off: the frame is there. A file that is shorter lacks it all the same.
        let (found, damage) = read(&bytes);
        let all = numbered(entries);
        if found.len() == whole {
            let start = if whole == 0 { 0 } else { ends[whole - 1] } as u64;
            prop_assert!(damage.iter().all(|(from, to)| *from == start && *to <= cut as u64));
            prop_assert_eq!(found, &all[..whole]);
        } else {
            prop_assert!(zeros && found.len() == whole + 1, "padding of one frame");
            prop_assert_eq!((found.as_slice(), damage), (&all[..=whole], vec![]));
        }
    }

    /// A flipped byte anywhere costs the frame it is in, and no other.
    #[test]
    fn any_flipped_byte_costs_one_frame(
        texts in texts(),
        place in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let entries = entries(&texts);
        let (mut bytes, ends) = written(&entries, 512);
        let place = place.index(bytes.len() - 512);
        bytes[place] ^= flip;
        let hit = ends.iter().position(|end| place < *end).expect("it lies in a frame");
        let start = if hit == 0 { 0 } else { ends[hit - 1] };
        let mut expected = numbered(entries);
        expected.remove(hit);
        let (found, damage) = read(&bytes);
        prop_assert_eq!(found, expected);
        let [(from, to)] = damage.as_slice() else { panic!("{damage:?}") };
        prop_assert_eq!(*from, start as u64);
        prop_assert!(*to <= ends[hit] as u64);
    }

    /// Power failed while pages were on their way: a hole of zeros, and frames behind it.
    #[test]
    fn a_hole_costs_the_frames_in_it(
        texts in texts(),
        one in any::<prop::sample::Index>(),
        two in any::<prop::sample::Index>(),
    ) {
        let entries = entries(&texts);
        let (mut bytes, ends) = written(&entries, 64);
        let written = bytes.len() - 64;
        let (one, two) = (one.index(written), two.index(written));
        let hole = one.min(two)..one.max(two) + 1;
        bytes[hole.clone()].fill(0);
        let (found, _) = read(&bytes);
        let whole = |number: &usize| {
            let start = if *number == 0 { 0 } else { ends[*number - 1] };
            hole.end <= start || ends[*number] <= hole.start
        };
        for (number, expected) in numbered(entries).into_iter().enumerate() {
            // A hole in padding alone changes nothing.
            prop_assert!(!whole(&number) || found.contains(&expected));
        }
    }

    /// reliability.md DU2: power fails, and any of the sectors that were not synced are missing or old.
    #[test]
    fn lost_power_costs_only_what_was_not_synced(
        texts in texts(),
        synced in any::<prop::sample::Index>(),
        kept in prop::collection::vec(any::<bool>(), 64),
    ) {
        const SECTOR: usize = 512;
        let entries = entries(&texts);
        let (mut bytes, ends) = written(&entries, 3_000);
        let synced = synced.index(ends.len());
        let safe = ends[synced];
        for (number, sector) in bytes.chunks_mut(SECTOR).enumerate() {
            let start = safe.saturating_sub(number * SECTOR).min(sector.len());
            if !kept[number % kept.len()] {
                sector[start..].fill(0);
            }
        }
        let (found, _) = read(&bytes);
        let all = numbered(entries);
        prop_assert_eq!(found.get(..=synced), all.get(..=synced), "what was synced is there");
        prop_assert!(found.iter().all(|entry| all.contains(entry)), "and nothing was made up");
    }

    /// In pieces of any size the same records come, and never damage.
    #[test]
    fn pieces_give_the_same_as_the_whole(texts in texts(), piece in FRAME_BYTES..700) {
        let entries = entries(&texts);
        let (bytes, _) = written(&entries, 100);
        let (mut at, mut length, mut found) = (0, piece, Vec::new());
        'file: while at < bytes.len() {
            let end = bytes.len().min(at + length);
            let mut scan = Scan::piece(SEGMENT, BASE + at as u64, &bytes[at..end]);
            loop {
                match scan.next() {
                    Found::Record(record) => {
                        at = (record.next - BASE) as usize;
                        found.push((record.at_ms, record.entry().expect("of this version")));
                    }
                    Found::Short { from, needed } => {
                        prop_assert_eq!(from, BASE + at as u64);
                        length = needed.max(piece);
                        break;
                    }
                    Found::Unclear { from } => {
                        // The zeros behind the last record; a whole scan knows that they are the end.
                        prop_assert_eq!(from, BASE + at as u64);
                        break 'file;
                    }
                    other => panic!("{other:?} in a piece"),
                }
            }
        }
        prop_assert_eq!(found, numbered(entries));
    }

    /// Bytes of anybody are not records, wherever they come from.
    #[test]
    fn noise_is_damage_and_never_a_record(noise in prop::collection::vec(any::<u8>(), 0..4_000)) {
        let (found, _) = read(&noise);
        prop_assert!(found.is_empty(), "{:?}", found);
    }
}

/// A frame is good in its own place only: neither in another segment, nor in another run, nor moved.
#[test]
fn a_frame_that_stands_elsewhere_is_no_frame() {
    let (bytes, _) = written(&entries(&["1001".to_owned()]), 0);
    let others = [
        Segment { number: 4, ..SEGMENT },
        Segment { stream: Stream { run: 0xabce, ..SEGMENT.stream }, ..SEGMENT },
        Segment { stream: Stream { shard: ShardId(2), ..SEGMENT.stream }, ..SEGMENT },
    ];
    for other in others {
        let mut scan = Scan::whole(other, BASE, &bytes);
        assert!(matches!(scan.next(), Found::Damaged { .. }), "{other:?}");
        assert_eq!(scan.next(), Found::End);
    }
    let mut moved = Scan::whole(SEGMENT, BASE + 8, &bytes);
    assert!(matches!(moved.next(), Found::Damaged { .. }));
}

#[test]
fn frames_that_do_not_fit_wait_for_the_next_segment() {
    let mut frames = Frames::default();
    for number in 0..10 {
        frames.push(number, &Entry::Beat);
    }
    let end = BASE + 4 * FRAME_BYTES as u64 + 8;
    assert_eq!(frames.seal(SEGMENT, BASE, end).len(), 4 * FRAME_BYTES);
    frames.written(4 * FRAME_BYTES);
    assert_eq!(frames.len(), 6 * FRAME_BYTES);
    let next = Segment { number: 4, ..SEGMENT };
    let rest = frames.seal(next, BASE, u64::MAX).to_vec();
    let mut scan = Scan::whole(next, BASE, &rest);
    for number in 4..10 {
        let Found::Record(record) = scan.next() else { panic!("record {number}") };
        assert_eq!(record.at_ms, number);
    }
    assert_eq!(scan.next(), Found::End);
}

#[test]
fn a_record_of_endless_texts_is_shortened_and_kept() {
    let mut long = cdr(1, &"\u{1}".repeat(60_000));
    let message = || HangupMessage { code: 486, reason: "b".repeat(500), target: "t".repeat(500) };
    long.hangup_messages = (0..200).map(|_| message()).collect();
    let mut frames = Frames::default();
    frames.push(5, &Entry::End(Box::new(long)));
    assert!(frames.len() < PAYLOAD_BYTES_MAX);
    let bytes = frames.seal(SEGMENT, BASE, u64::MAX).to_vec();
    let (found, damage) = read(&bytes);
    let [(5, Entry::End(kept))] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((kept.session_id, kept.status_code, kept.caller.len()), (CallId(1), 200, 1_024));
    assert!(damage.is_empty() && kept.hangup_messages.is_empty());
}

#[test]
fn a_crash_ends_a_call_at_the_last_moment_that_is_known() {
    let start = cdr(1, "1001");
    let cut = crashed(start.clone(), 5_000, 12_500);
    assert_eq!((cut.duration_ms, cut.end_time), (7_500, start.end_time.add_ms(7_500)));
    assert_eq!(cut.hangup_reason, HangupReason::SystemCrash);
    let json = serde_json::to_value(&cut).expect("JSON");
    assert_eq!(json["hangupReason"], "systemCrash");
    assert_eq!(json["status"], "completed");
    // A start that was written again says how long the call stood by then.
    let again = crashed(cut, 20_000, 21_000);
    assert_eq!(again.duration_ms, 8_500);
    assert_eq!(crashed(start, 9_000, 1_000).duration_ms, 0, "time never runs back");
}
