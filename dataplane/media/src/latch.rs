//! Who one stream is believed to come from: latching with probation, and the source lock.
//! Owns:  the latched source of one side's RTP, and the sources that are on probation.
//! Gives: a judgement per packet; at most one source is trusted at a time.
//! Never: forwards, counts for metrics, reads a clock, allocates.
//! Holds: under `MediaLock::Strict` the latched source changes only by `forget`, or to a source
//!        that the SDP prefers (same address and port over same address over any other).
//!
//! An RTP packet carries no proof of its sender, so the SDP is the only witness. The address that
//! it names latches with its first packet. A phone behind NAT names an address that it never sends
//! from: its source must first send `probation_packets` packets with one SSRC and advancing
//! sequence numbers (RFC 3550 A.1); until then its packets are held back. Several sources may be on
//! probation at once, so that a spray of single packets does not keep a phone out.

use std::net::SocketAddr;
use std::time::Duration;

use shared::settings::{MediaLock, MediaSettings};
use shared::time::Instant;

use crate::rtp::Header;

/// How long the latched source must be silent before `MediaLock::Relearn` lets another one in.
pub(crate) const RELEARN_SILENCE: Duration = Duration::from_millis(500);
/// A source on probation that was not heard for this long gives its place away first.
const CANDIDATE_REST: Duration = Duration::from_secs(1);
/// How long a source that was latched before signalling moved the stream may not latch again while
/// the new one has its chance: a phone that lost a fork goes on sending until its CANCEL arrives.
const FORMER_REST: Duration = Duration::from_secs(2);
/// RFC 3550 A.1 MAX_DROPOUT: a larger step of the sequence is another stream.
const STEP_MAX: u16 = 3_000;
/// Sources on probation at a time.
const CANDIDATES: usize = 4;

/// How well a source fits the address that the SDP names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Foreign,
    SameAddress,
    Named,
}

/// What is to become of a packet whose source was not the latched one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Not trusted yet.
    Held,
    /// Another source than the latched one.
    Mismatch,
    /// This packet made its source the latched one, after a probation or at once.
    Latched(Probation),
}

/// What was held back of a source before it latched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probation {
    /// Without the packet that ended the probation.
    pub(crate) packets: u8,
    pub(crate) bytes: u32,
    /// Sequence number of the first one; only meaningful when `packets` is not 0.
    pub(crate) first_sequence: u16,
}

/// What a judgement needs to know beside the packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) lock: MediaLock,
    pub(crate) probation_packets: u8,
}

impl Rules {
    pub(crate) const fn new(settings: MediaSettings) -> Self {
        // Without a probation the first packet still has to come.
        let probation_packets =
            if settings.probation_packets == 0 { 1 } else { settings.probation_packets };
        Self { lock: settings.lock, probation_packets }
    }
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    source: SocketAddr,
    rank: Rank,
    ssrc: u32,
    sequence: u16,
    seen: Probation,
    first_at: Instant,
    heard_at: Instant,
}

#[derive(Clone, Debug)]
pub(crate) struct Latch {
    source: Option<SocketAddr>,
    rank: Rank,
    /// When the latched source was last heard.
    heard_at: Instant,
    candidates: [Option<Candidate>; CANDIDATES],
    /// The source that signalling moved away from, and until when it is held back.
    former: Option<(SocketAddr, Instant)>,
}

/// One packet whose source is in question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stranger<'a> {
    pub(crate) now: Instant,
    pub(crate) from: SocketAddr,
    /// The address of the SDP.
    pub(crate) named: SocketAddr,
    pub(crate) header: &'a Header,
    pub(crate) bytes: u32,
}

impl Latch {
    pub(crate) const fn new() -> Self {
        Self {
            source: None,
            rank: Rank::Foreign,
            heard_at: Instant::ZERO,
            candidates: [None; CANDIDATES],
            former: None,
        }
    }

    pub(crate) const fn source(&self) -> Option<SocketAddr> {
        self.source
    }

    /// The common case, one comparison: true when `from` is the latched source.
    #[inline]
    pub(crate) fn recognise(&mut self, now: Instant, from: SocketAddr) -> bool {
        let known = self.source == Some(from);
        if known {
            self.heard_at = now;
        }
        known
    }

    /// Signalling named another address: learn again.
    pub(crate) fn forget(&mut self, now: Instant) {
        let former = self.source.map(|source| (source, now + FORMER_REST)).or(self.former);
        *self = Self { former, ..Self::new() };
    }

    /// `MediaLock::Off`: whoever sent last is the source.
    pub(crate) const fn follow(&mut self, now: Instant, from: SocketAddr) {
        self.adopt(now, from, Rank::Foreign);
    }

    /// A packet that does not come from the latched source.
    #[cold]
    pub(crate) fn judge(&mut self, stranger: &Stranger<'_>, rules: Rules) -> Judgement {
        let rank = rank_of(stranger.named, stranger.from);
        let Some(_) = self.source else {
            return self.judge_first(stranger, rank, rules);
        };
        let preferred = rank > self.rank;
        let relearns =
            rules.lock == MediaLock::Relearn && stranger.now - self.heard_at >= RELEARN_SILENCE;
        if !preferred && !relearns {
            return Judgement::Mismatch;
        }
        // A probation that ran while the latched source still spoke proves nothing.
        let since = if preferred { Instant::ZERO } else { self.heard_at };
        match self.try_probation(stranger, rank, rules, since) {
            Some(probation) => Judgement::Latched(probation),
            None => Judgement::Mismatch,
        }
    }

    fn judge_first(&mut self, stranger: &Stranger<'_>, rank: Rank, rules: Rules) -> Judgement {
        if rank == Rank::Named {
            self.adopt(stranger.now, stranger.from, rank);
            return Judgement::Latched(Probation::default());
        }
        let moved_away = self
            .former
            .is_some_and(|(source, until)| source == stranger.from && stranger.now < until);
        if moved_away && rank == Rank::Foreign {
            return Judgement::Held;
        }
        match self.try_probation(stranger, rank, rules, Instant::ZERO) {
            Some(probation) => Judgement::Latched(probation),
            None => Judgement::Held,
        }
    }

    /// Counts one packet of a source on probation. `Some` when it has passed and is now latched.
    fn try_probation(
        &mut self,
        stranger: &Stranger<'_>,
        rank: Rank,
        rules: Rules,
        since: Instant,
    ) -> Option<Probation> {
        let Stranger { now, from, header, .. } = *stranger;
        let slot = self.candidate_slot(now, from, rank)?;
        let candidate = match &mut self.candidates[slot] {
            // The network doubled it: that says nothing for or against the source.
            Some(known) if known.source == from && known.repeats(header) => return None,
            Some(known) if known.source == from && known.continues(header, since) => {
                known.sequence = header.sequence;
                known.heard_at = now;
                known
            }
            place => place.insert(Candidate {
                source: from,
                rank,
                ssrc: header.ssrc,
                sequence: header.sequence,
                seen: Probation { packets: 0, bytes: 0, first_sequence: header.sequence },
                first_at: now,
                heard_at: now,
            }),
        };
        if candidate.seen.packets + 1 >= rules.probation_packets {
            let seen = candidate.seen;
            self.adopt(now, from, rank);
            return Some(seen);
        }
        candidate.seen.packets += 1;
        candidate.seen.bytes = candidate.seen.bytes.saturating_add(stranger.bytes);
        None
    }

    /// The place of `from` among those on probation: its own, or that of another port of its IP
    /// address (a spray from one host takes one place), or a free one, or that of the weakest.
    /// `None` when that one is live and nearer to its goal, or preferred by the SDP.
    fn candidate_slot(&self, now: Instant, from: SocketAddr, rank: Rank) -> Option<usize> {
        let place_of = |fits: &dyn Fn(&Candidate) -> bool| {
            self.candidates.iter().position(|place| place.as_ref().is_some_and(fits))
        };
        if let Some(slot) = place_of(&|known| known.source == from) {
            return Some(slot);
        }
        let is_live = |known: &Candidate| now - known.heard_at < CANDIDATE_REST;
        if let Some(slot) = place_of(&|known| is_live(known) && known.source.ip() == from.ip()) {
            let settled = self.candidates[slot].is_some_and(|known| known.seen.packets > 1);
            return (!settled).then_some(slot);
        }
        let strength =
            |known: &Candidate| (is_live(known), known.rank, known.seen.packets, known.heard_at);
        let (slot, weakest) = self
            .candidates
            .iter()
            .enumerate()
            .min_by_key(|(_, place)| place.as_ref().map(strength))
            .expect("there is at least one place");
        match weakest {
            Some(known) if is_live(known) && known.rank > rank => None,
            _ => Some(slot),
        }
    }

    const fn adopt(&mut self, now: Instant, source: SocketAddr, rank: Rank) {
        let candidates = [None; CANDIDATES];
        *self = Self { source: Some(source), rank, heard_at: now, candidates, former: None };
    }
}

impl Candidate {
    const fn repeats(&self, header: &Header) -> bool {
        self.ssrc == header.ssrc && self.sequence == header.sequence
    }

    /// Same SSRC, the sequence moves on, and all of it after `since`.
    fn continues(&self, header: &Header, since: Instant) -> bool {
        let step = header.sequence.wrapping_sub(self.sequence);
        self.ssrc == header.ssrc && (1..=STEP_MAX).contains(&step) && self.first_at >= since
    }
}

fn rank_of(named: SocketAddr, from: SocketAddr) -> Rank {
    if named == from {
        Rank::Named
    } else if named.ip() == from.ip() {
        Rank::SameAddress
    } else {
        Rank::Foreign
    }
}
