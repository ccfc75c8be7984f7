//! One numbering for two speakers: packets of our own put into the stream of the other side.
//! Owns:  `Splice`: what the stream towards a listener has come to once we spoke in it.
//! Gives: the header of our next packet; the number that a packet of the other side has from then on.
//! Never: reads a clock, allocates, touches a packet.
//! Holds: towards the listener there is one SSRC without a gap where we began or ended
//!        (RFC 3550 5.1), and timestamps that go on with the time.

use std::time::Duration;

use shared::time::Instant;

use crate::g711::RATE;
use crate::rtp::Header;

/// RFC 3550 A.1: how far back a packet is late rather than of another numbering.
const MISORDER_MAX: u16 = 100;

/// The newest packet of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest {
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) at: Instant,
}

#[derive(Debug)]
pub(crate) struct Splice {
    ssrc: u32,
    /// The number of our next packet.
    next: u16,
    /// RTP time at a moment.
    timestamp: u32,
    at: Instant,
    /// What the other side's numbers are raised by.
    shift: u16,
    /// The first number of the other side after our speech; late ones before it have lost their place.
    floor: Option<u16>,
    speaking: bool,
}

impl Splice {
    /// We begin to speak where `stream`, the other side's, is; or in a stream of our own, whose
    /// names come from `seed`, when nobody has said anything.
    pub(crate) fn begin(
        now: Instant,
        before: Option<Self>,
        stream: Option<Newest>,
        seed: u64,
    ) -> Self {
        match (before, stream) {
            (Some(before), Some(newest)) if before.ssrc == newest.ssrc => {
                let behind_it = newest.sequence.wrapping_add(before.shift).wrapping_add(1);
                let next = if before.speaking { before.next } else { behind_it };
                let (timestamp, at) = (newest.timestamp, newest.at);
                Self { next, timestamp, at, speaking: true, ..before }
            }
            (_, Some(newest)) => Self {
                ssrc: newest.ssrc,
                next: newest.sequence.wrapping_add(1),
                timestamp: newest.timestamp,
                at: newest.at,
                shift: 0,
                floor: None,
                speaking: true,
            },
            (Some(before), None) => Self { speaking: true, ..before },
            (None, None) => {
                let [a, b, c, d, e, f, g, h] = seed.to_be_bytes();
                Self {
                    ssrc: u32::from_be_bytes([a, b, c, d]),
                    next: u16::from_be_bytes([e, f]),
                    timestamp: u32::from_be_bytes([g, h, a, b]),
                    at: now,
                    shift: 0,
                    floor: None,
                    speaking: true,
                }
            }
        }
    }

    /// The header of a packet of ours whose timestamp lies `back` samples before now.
    pub(crate) fn head(
        &mut self,
        now: Instant,
        payload_type: u8,
        marker: bool,
        back: u32,
    ) -> Header {
        let timestamp =
            self.timestamp.wrapping_add(samples_in(now.since(self.at))).wrapping_sub(back);
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        Header { marker, payload_type, sequence, timestamp, ssrc: self.ssrc }
    }

    /// We are silent again: the other side goes on behind its newest packet.
    pub(crate) fn end(&mut self, stream: Option<Newest>) {
        self.speaking = false;
        if let Some(newest) = stream.filter(|newest| newest.ssrc == self.ssrc) {
            let floor = newest.sequence.wrapping_add(1);
            self.shift = self.next.wrapping_sub(floor);
            self.floor = Some(floor);
        }
    }

    /// What becomes of a packet of the other side: its number towards the listener, or `None` when
    /// our speech has its place.
    pub(crate) fn renumber(&mut self, header: &Header) -> Option<u16> {
        if self.speaking {
            return None;
        }
        if header.ssrc != self.ssrc {
            return Some(header.sequence); // another stream, which we never spoke in
        }
        if let Some(floor) = self.floor {
            let behind = floor.wrapping_sub(header.sequence);
            if (1..=MISORDER_MAX).contains(&behind) {
                return None;
            }
            // So far on, nothing from before is merely late.
            if header.sequence.wrapping_sub(floor) > MISORDER_MAX {
                self.floor = None;
            }
        }
        Some(header.sequence.wrapping_add(self.shift))
    }
}

/// RTP time that passes meanwhile, which wraps after days.
#[expect(clippy::cast_possible_truncation, reason = "RTP time wraps")]
fn samples_in(time: Duration) -> u32 {
    (time.as_nanos() * u128::from(RATE) / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSRC: u32 = 0xabcd;

    fn newest(sequence: u16, ms: u64) -> Newest {
        let timestamp = 160 * u32::from(sequence);
        Newest { ssrc: SSRC, sequence, timestamp, at: Instant::from_millis(ms) }
    }

    fn theirs(sequence: u16) -> Header {
        Header { sequence, ssrc: SSRC, ..Header::default() }
    }

    fn numbers(splice: &mut Splice, ms: u64, count: u64) -> Vec<u16> {
        let head = |n| splice.head(Instant::from_millis(ms + 20 * n), 0, n == 0, 0).sequence;
        (0..count).map(head).collect()
    }

    /// The other side sends 10, we send five packets while it sends 11 to 13, it goes on with 14.
    #[test]
    fn numbers_go_on_without_a_gap_before_and_after_us() {
        let mut splice = Splice::begin(Instant::from_millis(220), None, Some(newest(10, 200)), 7);
        assert_eq!(numbers(&mut splice, 220, 5), [11, 12, 13, 14, 15]);
        assert_eq!(splice.renumber(&theirs(12)), None, "we speak");
        splice.end(Some(newest(13, 260)));
        assert_eq!(splice.renumber(&theirs(14)), Some(16));
        assert_eq!(splice.renumber(&theirs(13)), None, "late: its place is taken");
        assert_eq!(splice.renumber(&theirs(15)), Some(17));
        // And again, from where it is now.
        let mut splice =
            Splice::begin(Instant::from_millis(320), Some(splice), Some(newest(15, 300)), 8);
        assert_eq!(numbers(&mut splice, 320, 2), [18, 19]);
        splice.end(Some(newest(15, 300)));
        assert_eq!(splice.renumber(&theirs(16)), Some(20), "it had paused meanwhile");
    }

    #[test]
    fn numbers_wrap_and_a_restart_of_the_other_side_is_passed_on() {
        let mut splice = Splice::begin(Instant::ZERO, None, Some(newest(65_535, 0)), 7);
        assert_eq!(numbers(&mut splice, 20, 3), [0, 1, 2]);
        splice.end(Some(newest(65_535, 0)));
        assert_eq!(splice.renumber(&theirs(0)), Some(3));
        for sequence in 1..=60_000 {
            assert_eq!(splice.renumber(&theirs(sequence)), Some(sequence + 3));
        }
        assert_eq!(splice.renumber(&theirs(5)), Some(8), "a jump back is not for us to hide");
        let other = Header { ssrc: 1, ..theirs(9) };
        assert_eq!(splice.renumber(&other), Some(9), "another stream keeps its numbers");
    }

    #[test]
    fn timestamps_go_on_with_the_time_of_the_other_side() {
        let mut splice = Splice::begin(Instant::from_millis(220), None, Some(newest(10, 200)), 7);
        let first = splice.head(Instant::from_millis(220), 101, true, 0);
        assert_eq!((first.timestamp, first.ssrc, first.marker), (1_600 + 160, SSRC, true));
        let third = splice.head(Instant::from_millis(260), 101, false, 320);
        assert_eq!(third.timestamp, first.timestamp, "a key keeps its start");
    }

    #[test]
    fn where_nobody_spoke_the_stream_is_our_own() {
        let mut splice = Splice::begin(Instant::ZERO, None, None, 0x0102_0304_0506_0708);
        let head = splice.head(Instant::from_millis(20), 8, true, 0);
        assert_eq!((head.ssrc, head.sequence), (0x0102_0304, 0x0506));
        splice.end(None);
        assert_eq!(splice.renumber(&theirs(40)), Some(40));
        let mut again = Splice::begin(Instant::from_millis(90), Some(splice), None, 9);
        assert_eq!(again.head(Instant::from_millis(90), 8, true, 0).sequence, 0x0507);
        // Then the other side speaks: from now on it is its stream.
        again.end(Some(newest(10, 100)));
        let mut last =
            Splice::begin(Instant::from_millis(120), Some(again), Some(newest(10, 100)), 9);
        assert_eq!(last.head(Instant::from_millis(120), 8, true, 0).sequence, 11);
    }
}
