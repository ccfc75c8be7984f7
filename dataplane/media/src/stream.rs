//! What one side sent us: received and lost packets, jitter, bytes (RFC 3550 6.4.1, A.1, A.3, A.8).
//! Owns:  `Reception`, the running statistics of one direction of one relay.
//! Gives: a `StreamQuality` at any time.
//! Never: judges a source (that is `latch`), reads a clock, allocates.
//! Holds: a lost packet is counted once, and neither a duplicate nor a new SSRC hides one.

use shared::cdr::StreamQuality;
use shared::ids::Side;
use shared::time::Instant;

use crate::jitter::Jitter;
use crate::latch::Probation;
use crate::rtp::Header;
use crate::splice::Newest;

/// RFC 3550 A.1: a larger step forward is a restart of the sender, not a loss.
const DROPOUT_MAX: u16 = 3_000;
/// RFC 3550 A.1: how far back a packet is late rather than a restart.
const MISORDER_MAX: u16 = 100;

#[derive(Clone, Debug, Default)]
pub(crate) struct Reception {
    packets: u64,
    bytes: u64,
    forwarded: u64,
    mismatches: u64,
    /// Lost packets of SSRCs and sequence runs that ended.
    lost_before: u64,
    ssrc: u32,
    run: Option<Run>,
    jitter: Jitter,
}

impl Reception {
    pub(crate) const fn new() -> Self {
        Self {
            packets: 0,
            bytes: 0,
            forwarded: 0,
            mismatches: 0,
            lost_before: 0,
            ssrc: 0,
            run: None,
            jitter: Jitter::new(),
        }
    }

    /// One RTP packet of the trusted source; `bytes` with its header.
    #[inline]
    pub(crate) fn count(&mut self, now: Instant, header: &Header, bytes: u64) {
        self.packets += 1;
        self.bytes += bytes;
        let fresh = match &mut self.run {
            Some(run) if self.ssrc == header.ssrc => match run.receive(header.sequence) {
                Arrival::Fresh => true,
                Arrival::Repeat => false,
                Arrival::Restart => {
                    self.start_run(header.ssrc, Run::restarted(header.sequence));
                    true
                }
            },
            _ => {
                self.start_run(header.ssrc, Run::new(header.sequence));
                true
            }
        };
        if fresh {
            self.jitter.measure(now, header);
        }
    }

    /// Packets that were held back before this source was trusted: it did send them.
    pub(crate) fn credit(&mut self, probation: Probation, ssrc: u32) {
        if probation.packets == 0 {
            return;
        }
        self.packets += u64::from(probation.packets);
        self.bytes += u64::from(probation.bytes);
        self.start_run(ssrc, Run::credited(probation.first_sequence, probation.packets));
    }

    #[inline]
    pub(crate) const fn count_forwarded(&mut self) {
        self.forwarded += 1;
    }

    pub(crate) const fn count_mismatch(&mut self) {
        self.mismatches += 1;
    }

    /// The newest packet of the stream, for whoever goes on with its numbers.
    pub(crate) fn newest(&self) -> Option<Newest> {
        let (at, timestamp) = self.jitter.newest()?;
        let highest = self.run.as_ref()?.highest;
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are meant")]
        let sequence = highest as u16;
        Some(Newest { ssrc: self.ssrc, sequence, timestamp, at })
    }

    pub(crate) fn quality(&self, line: u8, side: Side) -> StreamQuality {
        StreamQuality {
            line,
            side: Some(side),
            packets: self.packets,
            bytes: self.bytes,
            lost: self.lost_before + self.run.as_ref().map_or(0, Run::lost),
            jitter_us: self.jitter.micros(),
            source_mismatches: self.mismatches,
            forwarded: self.forwarded,
        }
    }

    #[cold]
    fn start_run(&mut self, ssrc: u32, run: Run) {
        self.lost_before += self.run.as_ref().map_or(0, Run::lost);
        self.ssrc = ssrc;
        self.run = Some(run);
        self.jitter.restart();
    }
}

/// What a sequence number says about its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    Fresh,
    /// A duplicate, or a stray number far from the others.
    Repeat,
    /// The second packet in a row far from the others: the sender started anew.
    Restart,
}

/// One unbroken numbering of one SSRC, extended beyond 16 bits.
#[derive(Clone, Debug)]
struct Run {
    /// Lowest and highest extended sequence number so far.
    base: u64,
    highest: u64,
    /// Packets without duplicates.
    received: u64,
    /// Bit n is set when `highest - n` was received.
    window: u64,
    /// What would follow the last stray number (RFC 3550 A.1 `bad_seq`).
    stray_next: Option<u16>,
}

impl Run {
    /// The extended number of the first packet, so that an earlier one can still come.
    const ORIGIN: u64 = 1 << 16;

    fn new(first: u16) -> Self {
        let base = Self::ORIGIN + u64::from(first);
        Self { base, highest: base, received: 1, window: 1, stray_next: None }
    }

    /// Starts at the stray number before `second`, which was not counted when it came.
    fn restarted(second: u16) -> Self {
        let mut run = Self::new(second.wrapping_sub(1));
        run.receive(second);
        run
    }

    /// Starts with `packets` (not 0) packets from `first` on, taken for consecutive. Where numbers
    /// were missing between them, the next `receive` steps further and shows it.
    fn credited(first: u16, packets: u8) -> Self {
        let mut run = Self::new(first);
        run.received = u64::from(packets);
        run.highest += u64::from(packets) - 1;
        run.window = u64::MAX.checked_shr(64 - u32::from(packets.min(64))).unwrap_or(0);
        run
    }

    #[inline]
    fn receive(&mut self, sequence: u16) -> Arrival {
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are meant")]
        let step = sequence.wrapping_sub(self.highest as u16);
        if step == 0 {
            return Arrival::Repeat;
        }
        if step < DROPOUT_MAX {
            self.highest += u64::from(step);
            self.window = self.window.checked_shl(u32::from(step)).unwrap_or(0) | 1;
            self.received += 1;
            self.stray_next = None;
            return Arrival::Fresh;
        }
        self.receive_out_of_order(sequence, step.wrapping_neg())
    }

    #[cold]
    fn receive_out_of_order(&mut self, sequence: u16, back: u16) -> Arrival {
        if back > MISORDER_MAX {
            if self.stray_next == Some(sequence) {
                return Arrival::Restart;
            }
            self.stray_next = Some(sequence.wrapping_add(1));
            return Arrival::Repeat;
        }
        // Numbers that left the window are taken for late packets, not for duplicates.
        if let Some(bit) = 1_u64.checked_shl(u32::from(back)) {
            if self.window & bit != 0 {
                return Arrival::Repeat;
            }
            self.window |= bit;
        }
        self.received += 1;
        self.base = self.base.min(self.highest - u64::from(back));
        Arrival::Fresh
    }

    /// RFC 3550 A.3: expected less received, here without duplicates.
    fn lost(&self) -> u64 {
        (self.highest - self.base + 1).saturating_sub(self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(reception: &mut Reception, ssrc: u32, sequences: impl IntoIterator<Item = u16>) {
        for sequence in sequences {
            let header = Header { sequence, ssrc, ..Header::default() };
            reception.count(Instant::ZERO, &header, 172);
        }
    }

    fn lost_of(sequences: impl IntoIterator<Item = u16>) -> u64 {
        let mut reception = Reception::new();
        receive(&mut reception, 1, sequences);
        reception.quality(0, Side::Caller).lost
    }

    #[test]
    fn nothing_is_lost_in_an_unbroken_stream_across_the_wrap() {
        assert_eq!(lost_of((65_000..=65_535).chain(0..500)), 0);
    }

    #[test]
    fn each_missing_number_is_lost_once_across_the_wrap() {
        assert_eq!(lost_of([65_533, 65_534, 1, 2, 5]), 4);
    }

    #[test]
    fn late_packets_are_not_lost() {
        assert_eq!(lost_of([10, 12, 11, 14, 13, 15]), 0);
    }

    #[test]
    fn a_packet_before_the_first_one_hides_no_loss() {
        assert_eq!(lost_of([11, 10, 12, 14]), 1);
    }

    #[test]
    fn duplicates_hide_no_loss() {
        assert_eq!(lost_of([1, 2, 2, 2, 4, 4, 3, 3, 6]), 1);
    }

    #[test]
    fn a_duplicate_of_a_lost_packets_neighbour_after_the_window_is_bounded() {
        // 100 numbers back is late (RFC 3550 A.1), 101 is a stray and does not count.
        assert_eq!(lost_of([0, 200, 100]), 198);
        assert_eq!(lost_of([0, 200, 99]), 199);
    }

    /// RFC 3550 A.1: two packets in a row at the new place are a restarted sender.
    #[test]
    fn a_restarted_sender_loses_nothing_and_a_stray_number_changes_nothing() {
        assert_eq!(lost_of([1, 2, 3, 40_000, 4, 5]), 0);
        assert_eq!(lost_of([1, 2, 4, 40_000, 40_001, 40_003]), 2);
    }

    #[test]
    fn a_new_ssrc_starts_anew_and_keeps_what_was_lost_before() {
        let mut reception = Reception::new();
        receive(&mut reception, 1, [1, 2, 4]);
        receive(&mut reception, 2, [60_000, 60_001, 60_003]);
        let quality = reception.quality(3, Side::Callee);
        assert_eq!((quality.lost, quality.packets, quality.bytes), (2, 6, 6 * 172));
        assert_eq!((quality.line, quality.side), (3, Some(Side::Callee)));
    }

    #[test]
    fn packets_on_probation_were_sent_and_their_gaps_are_losses() {
        let mut reception = Reception::new();
        let probation = Probation { packets: 2, bytes: 344, first_sequence: 7 };
        reception.credit(probation, 1);
        receive(&mut reception, 1, [9, 10]);
        let quality = reception.quality(0, Side::Caller);
        assert_eq!((quality.packets, quality.bytes, quality.lost), (4, 4 * 172, 0));

        let mut reception = Reception::new();
        reception.credit(probation, 1);
        receive(&mut reception, 1, [12, 13]);
        assert_eq!(reception.quality(0, Side::Caller).lost, 3);
    }

    /// 5 % loss, 1 % duplicates and reordering: the loss is reported within half a point (NW2).
    #[test]
    fn reported_loss_is_what_was_lost_under_duplicates_and_reordering() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let (mut arrivals, mut lost) = (Vec::new(), 0_u64);
        for packet in 0..20_000_u64 {
            // The last packets arrive, so that every loss is seen.
            if packet < 19_990 && packet > 10 && below(100) < 5 {
                lost += 1;
                continue;
            }
            let copies = if below(100) < 1 { 2 } else { 1 };
            arrivals.extend((0..copies).map(|_| (20 * packet + below(60), packet)));
        }
        arrivals.sort_unstable();
        let got = lost_of(
            arrivals
                .into_iter()
                .map(|(_, packet)| u16::try_from((packet + 60_000) % 65_536).expect("16 bits")),
        );
        assert!(lost > 900, "{lost}");
        assert_eq!(got, lost);
    }
}
