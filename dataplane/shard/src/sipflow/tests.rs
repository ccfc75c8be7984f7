//! The shard's end of the SIP flow and the writer's: chains, segments, a writer that is behind, retention.
//! Owns:  a folder per test; the writer's work done by hand, without its thread.
//! Gives: what lies in the files.
//! Never: a shard.
//! Holds: what has a place is read back there; what has none was counted.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use shared::cdr::{CallStatus, Cdr, Direction, HangupReason, LegTimeline};
use shared::ids::{ShardId, Side};
use shared::net::Transport;
use shared::sipflow::{FAMILY, SEGMENT_BYTES_MIN};
use shared::time::WallMs;

use super::writer::{Files, Line};
use super::*;

const STREAM: Stream = Stream { run: 99, shard: ShardId(3) };
const DAY: Duration = Duration::from_secs(86_400);

struct Desk {
    flow: SipFlow,
    files: Files,
    counters: Counters,
    folder: PathBuf,
    now: Now,
}

impl Desk {
    fn new(test: &str, bytes_max: u64) -> Self {
        let folder = std::env::temp_dir().join(format!("sipflow-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let settings = SipFlowSettings {
            folder: folder.clone(),
            run: STREAM.run,
            segment_bytes: SEGMENT_BYTES_MIN,
            bytes_max,
            ttl: DAY,
        };
        let deck = Arc::new(Deck::new());
        let line = Line::new(3, Arc::clone(&deck));
        Self {
            flow: SipFlow::new(STREAM, &settings, deck, std::thread::current()),
            files: Files::new(settings, vec![line]),
            counters: Counters::default(),
            folder,
            now: Now { mono: Instant::from_millis(1_000), wall: WallMs(1_795_000_000_000) },
        }
    }

    fn keep(&mut self, rung: Rung, bytes: &[u8]) {
        let local: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
        let peer: SocketAddr = "192.0.2.7:5062".parse().expect("an address");
        let way = Destination { transport: Transport::Udp, local, peer, flow: None, shows: None };
        let passed = Passed { rung, came: true, way, bytes };
        self.flow.keep(self.now, &passed, &mut self.counters);
    }

    /// What the record of a call says, when it is written now.
    fn place(&mut self, rung: Rung, ends: bool) -> Option<Place> {
        let cdr = Box::new(cdr(rung.call));
        let mut entry = if ends { Entry::End(cdr) } else { Entry::Start(cdr) };
        self.flow.stamp(&mut entry);
        match entry {
            Entry::End(cdr) | Entry::Start(cdr) => cdr.sip_flow,
            Entry::Beat => None,
        }
    }

    /// Everything on the disk.
    fn write(&mut self) {
        self.flow.hand_over_all();
        self.files.look();
    }

    fn segments(&self) -> Vec<u64> {
        let names = fs::read_dir(&self.folder).expect("the folder");
        let names = names.map(|entry| entry.expect("an entry").file_name());
        let mut numbers: Vec<u64> = names
            .filter_map(|name| Segment::of_file_name_of(&FAMILY, name.to_str()?))
            .map(|segment| segment.number)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    /// The messages of a chain, oldest first, with what was lost in front of each.
    fn chain(&self, place: Place) -> Vec<(Vec<u8>, u32)> {
        let (mut next, mut found) = (Some(place.position), Vec::new());
        while let Some(position) = next {
            let segment = Segment { stream: place.stream, number: position.segment };
            let bytes = fs::read(self.folder.join(segment.file_name_of(&FAMILY)));
            let bytes = bytes.expect("the segment");
            assert_eq!(Segment::read_of(&FAMILY, &bytes), Ok(segment));
            let at = usize::try_from(position.offset).expect("it is small");
            let frame = Frame::read(segment, position.offset, &bytes[at..]);
            let (frame, _) = frame.expect("a frame in its place");
            found.push((frame.raw.to_vec(), frame.lost));
            next = frame.previous;
        }
        found.reverse();
        found
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// A call of this slot; the number tells tenants apart.
fn rung(slot: u128, number: u32) -> Rung {
    let id = (1_795_000_000_000 << 80) | (3 << 72) | (slot << 48) | u128::from(number);
    Rung { call: CallId(id), generation: number, side: Side::Caller }
}

fn cdr(call: CallId) -> Cdr {
    Cdr {
        call_id: "call".to_owned(),
        session_id: call,
        caller: "1001".to_owned(),
        callee: "1002".to_owned(),
        caller_uri: "sip:1001@a".to_owned(),
        callee_uri: "sip:1002@a".to_owned(),
        direction: Direction::Internal,
        status: CallStatus::Completed,
        start_time: WallMs(1),
        ring_time: None,
        answer_time: None,
        end_time: WallMs(3),
        duration_ms: 0,
        status_code: 404,
        hangup_reason: HangupReason::Failed,
        hangup_messages: Vec::new(),
        sip_leg_roles: Vec::new(),
        leg_timeline: LegTimeline::default(),
        source_addr: "127.0.0.1:1".to_owned(),
        sip_trunk: None,
        outbound_trunk: None,
        user_agent: None,
        recorded: false,
        media_quality: Vec::new(),
        last_error: None,
        shard: 3,
        sip_flow: None,
        metadata: std::collections::BTreeMap::new(),
    }
}

#[test]
fn the_messages_of_two_calls_are_two_chains_across_segments() {
    let mut desk = Desk::new("chains", u64::MAX);
    let (one, two) = (rung(1, 1), rung(2, 1));
    let message = |call: u8, number: u8| [call, number].repeat(20_000);
    for number in 0..30 {
        desk.keep(one, &message(1, number));
        desk.keep(two, &message(2, number));
        // The writer keeps up.
        desk.files.look();
    }
    desk.write();
    assert!(desk.segments().len() >= 4, "{:?}", desk.segments());
    for (rung, call) in [(one, 1), (two, 2)] {
        let place = desk.place(rung, true).expect("it has messages");
        let expected: Vec<_> = (0..30).map(|number| (message(call, number), 0)).collect();
        assert!(desk.chain(place) == expected, "call {call}");
    }
    assert_eq!(desk.counters.of(Counter::SipFlowMessages), 60);
    assert_eq!(desk.counters.of(Counter::SipFlowDropped), 0);
}

#[test]
fn what_waits_is_handed_over_after_a_quarter_of_a_second() {
    let mut desk = Desk::new("flush", u64::MAX);
    assert_eq!(desk.flow.due(), None);
    desk.keep(rung(1, 1), b"INVITE");
    let due = desk.flow.due().expect("something waits");
    assert_eq!(due, desk.now.mono + FLUSH_WAIT);
    desk.flow.hand_over_old(desk.now.mono);
    assert_eq!(desk.flow.deck.full.len(), 0);
    desk.flow.hand_over_old(due);
    assert_eq!((desk.flow.deck.full.len(), desk.flow.due()), (1, None));
}

#[test]
fn a_writer_that_is_behind_costs_messages_and_the_next_one_says_how_many() {
    let mut desk = Desk::new("behind", u64::MAX);
    let rung = rung(1, 1);
    let long = vec![b'x'; 60_000];
    let mut kept = 0;
    while desk.counters.of(Counter::SipFlowDropped) < 3 {
        desk.keep(rung, &long);
        kept += 1;
        assert!(kept < 10_000, "memory is bounded");
    }
    kept -= 3;
    assert!(kept * long.len() <= BLOCKS_MAX * BLOCK_BYTES, "{kept} kept");
    let full = desk.flow.block.bytes.capacity();
    desk.files.look();
    desk.keep(rung, b"BYE");
    desk.write();
    let place = desk.place(rung, true).expect("it has messages");
    let chain = desk.chain(place);
    assert_eq!(chain.len(), kept + 1);
    assert_eq!(chain.last(), Some(&(b"BYE".to_vec(), 3)), "three are missing in front of it");
    // Blocks go round: none was made anew, none has grown.
    assert_eq!((desk.flow.blocks, full), (BLOCKS_MAX, BLOCK_BYTES));
    assert_eq!(desk.flow.block.bytes.capacity(), BLOCK_BYTES);
}

#[test]
fn a_full_disk_takes_nothing_and_later_all_again() {
    let mut desk = Desk::new("full", u64::MAX);
    let rung = rung(1, 1);
    desk.keep(rung, b"INVITE");
    desk.flow.set_taking(false);
    desk.keep(rung, b"180");
    desk.flow.set_taking(true);
    desk.keep(rung, b"200");
    desk.write();
    let place = desk.place(rung, false).expect("it has messages");
    assert_eq!(desk.chain(place), [(b"INVITE".to_vec(), 0), (b"200".to_vec(), 1)]);
    assert_eq!(desk.counters.of(Counter::SipFlowDropped), 1);
}

#[test]
fn a_disk_that_refuses_is_asked_again_with_the_same_block_and_the_operator_hears_of_it() {
    let mut desk = Desk::new("refuses", u64::MAX);
    let rung = rung(1, 1);
    desk.keep(rung, b"INVITE");
    // A folder in the place of the file.
    let name = Segment { stream: STREAM, number: Segment::FIRST }.file_name_of(&FAMILY);
    fs::create_dir(desk.folder.join(&name)).expect("a folder");
    desk.write();
    let notice = desk.flow.take_notice(&mut desk.counters).expect("a word");
    assert_eq!(notice.code, "sipflow_failed");
    assert_eq!(desk.counters.of(Counter::SipFlowFailures), 1);
    desk.keep(rung, b"BYE");
    fs::remove_dir(desk.folder.join(&name)).expect("it was there");
    desk.files.forget_failures();
    desk.write();
    let place = desk.place(rung, true).expect("it has messages");
    assert_eq!(desk.chain(place).len(), 2, "nothing was lost");
    let over = desk.flow.take_notice(&mut desk.counters).expect("a word");
    assert!(over.detail.starts_with("it is over"), "{}", over.detail);
}

#[test]
fn late_messages_of_a_slots_last_tenant_leave_the_next_one_alone() {
    let mut desk = Desk::new("slots", u64::MAX);
    let (first, second) = (rung(7, 1), rung(7, 2));
    desk.keep(first, b"INVITE 1");
    let first_place = desk.place(first, true).expect("it has messages");
    desk.keep(first, b"ACK 1");
    assert_eq!(desk.place(first, true), Some(first_place), "it stays what the record says");
    desk.keep(second, b"INVITE 2");
    desk.keep(first, b"ACK 1 again");
    desk.keep(second, b"404 2");
    assert_eq!(desk.place(first, true), None, "nobody remembers it");
    let second_place = desk.place(second, true).expect("it has messages");
    desk.write();
    assert_eq!(desk.chain(first_place), [(b"INVITE 1".to_vec(), 0)]);
    assert_eq!(desk.chain(second_place), [(b"INVITE 2".to_vec(), 0), (b"404 2".to_vec(), 0)]);
}

#[test]
fn the_oldest_segments_go_when_there_are_too_many_and_all_when_their_time_is_over() {
    // Four segments, one of them for what is being written.
    let mut desk = Desk::new("retention", 4 * SEGMENT_BYTES_MIN);
    let long = vec![b'x'; 60_000];
    for number in 0..100 {
        desk.keep(rung(1, 1), &long);
        if number % 4 == 0 {
            desk.files.look();
        }
    }
    desk.write();
    let left = desk.segments();
    let newest = desk.flow.block.segment.number;
    assert!(newest > 8, "segment {newest}");
    assert_eq!(left.last(), Some(&newest));
    assert!((3..=4).contains(&left.len()), "{left:?}");
    assert!(left.windows(2).all(|two| two[0] + 1 == two[1]), "the newest stay: {left:?}");
    fs::write(desk.folder.join("somebody's"), "file").expect("room");
    desk.files.expire(SystemTime::now() + DAY - Duration::from_secs(60)).expect("it can be read");
    assert_eq!(desk.segments(), left);
    desk.files.expire(SystemTime::now() + DAY + Duration::from_secs(60)).expect("it can be read");
    assert_eq!(desk.segments(), [0; 0]);
    assert!(desk.folder.join("somebody's").exists());
}

#[test]
fn a_segment_ends_after_an_eighth_of_the_time_that_messages_are_kept() {
    let mut desk = Desk::new("turns", u64::MAX);
    desk.keep(rung(1, 1), b"INVITE");
    desk.now.mono = desk.now.mono + (DAY / 8 - Duration::from_secs(1));
    desk.keep(rung(1, 1), b"UPDATE");
    assert_eq!(desk.flow.block.segment.number, 1);
    desk.now.mono = desk.now.mono + Duration::from_secs(1);
    desk.keep(rung(1, 1), b"BYE");
    assert_eq!(desk.flow.block.segment.number, 2);
    desk.write();
    let place = desk.place(rung(1, 1), true).expect("it has messages");
    assert_eq!(desk.chain(place).len(), 3);
}
