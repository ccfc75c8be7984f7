//! One unbroken run of RTP time of one SSRC, and where it lies on the time axis of a recording.
//! Owns:  `Segment`: the unwrapped timestamps, the anchor that ties them to arrival time.
//! Gives: the position of a packet in samples of the recording.
//! Never: decodes, holds more than `PENDING_MAX` packets, reads a clock.
//! Holds: once anchored, two packets lie as far apart as their timestamps say, whenever they
//!        arrived; only a drift between the two clocks moves the anchor, one sample at a time.
//!
//! The network only ever delays. So the packet that was delayed least tells best where RTP time
//! lies in arrival time: packets of the first second wait until it is known. Positions and times
//! are in samples at 8 kHz.

/// How long the first packets wait for the least delayed one.
const SETTLE: i64 = 8_000;
/// Packets that wait at most; five seconds of 20 ms each.
const PENDING_MAX: usize = 256;
/// A packet that arrives further from where its timestamp puts it belongs to another segment.
const DEVIATION_MAX: i64 = 8_000;
/// Least delay is measured anew over each such span.
const DRIFT_SPAN: i64 = 80_000;
/// Fewer packets in a span say nothing about the least delay.
const DRIFT_PACKETS_MIN: u32 = 100;
/// Drift below 40 ms is left alone.
const DRIFT_TOLERANCE: i64 = 320;
/// One sample of correction per so many packets: 780 ppm at 20 ms, far beyond any sound card.
const DRIFT_PACKETS_PER_SAMPLE: u32 = 8;

#[derive(Debug)]
pub(crate) struct Segment {
    ssrc: u32,
    /// Timestamp of the newest packet, and the same unwrapped, from the segment's first one.
    timestamp: u32,
    elapsed: i64,
    first_arrival: i64,
    heard_at: i64,
    /// Least arrival less unwrapped timestamp, while settling.
    least: i64,
    state: State,
}

#[derive(Debug)]
enum State {
    Anchored { anchor: i64, drift: Drift },
    Settling(Vec<Pending>),
}

/// A packet that waits for the anchor.
#[derive(Debug)]
pub(crate) struct Pending {
    elapsed: i64,
    pub(crate) samples: Vec<i16>,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    At(i64),
    /// The segment still settles: hand it over to `wait`.
    Wait(i64),
}

/// How the sender's clock runs against ours.
#[derive(Debug)]
struct Drift {
    span_ends: i64,
    least: i64,
    packets: u32,
    /// Samples by which the anchor still has to move.
    pending: i64,
}

impl Segment {
    pub(crate) const fn new(ssrc: u32, timestamp: u32, arrival: i64) -> Self {
        Self {
            ssrc,
            timestamp,
            elapsed: 0,
            first_arrival: arrival,
            heard_at: arrival,
            least: arrival,
            state: State::Settling(Vec::new()),
        }
    }

    pub(crate) const fn heard_at(&self) -> i64 {
        self.heard_at
    }

    /// Whether a packet fits: same SSRC, and its timestamp lies where its arrival would put it.
    pub(crate) fn fits(&self, ssrc: u32, timestamp: u32, arrival: i64) -> bool {
        let transit = arrival - self.elapsed_of(timestamp);
        let expected = match &self.state {
            State::Anchored { anchor, .. } => *anchor,
            State::Settling(_) => self.least,
        };
        self.ssrc == ssrc && (transit - expected).abs() <= DEVIATION_MAX
    }

    /// The position of a packet that fits.
    pub(crate) fn place(&mut self, timestamp: u32, arrival: i64) -> Place {
        let elapsed = self.elapsed_of(timestamp);
        let transit = arrival - elapsed;
        self.heard_at = arrival;
        if elapsed > self.elapsed {
            (self.elapsed, self.timestamp) = (elapsed, timestamp);
        }
        match &mut self.state {
            State::Settling(_) => {
                self.least = self.least.min(transit);
                Place::Wait(elapsed)
            }
            State::Anchored { anchor, drift } => {
                *anchor += drift.follow(*anchor, transit, arrival);
                Place::At(*anchor + elapsed)
            }
        }
    }

    /// Keeps a packet that `place` told to wait.
    pub(crate) fn wait(&mut self, elapsed: i64, samples: &[i16]) {
        if let State::Settling(pending) = &mut self.state {
            pending.push(Pending { elapsed, samples: samples.to_vec() });
        }
    }

    /// Whether the packets that wait have waited long enough.
    pub(crate) fn is_due(&self, now: i64) -> bool {
        match &self.state {
            State::Anchored { .. } => false,
            State::Settling(pending) => {
                now - self.first_arrival >= SETTLE || pending.len() >= PENDING_MAX
            }
        }
    }

    /// Anchors the segment at its least delayed packet and gives back those that waited, each with
    /// its position.
    pub(crate) fn settle(&mut self) -> impl Iterator<Item = (i64, Pending)> + use<> {
        let anchor = self.least;
        let pending = match &mut self.state {
            State::Anchored { .. } => Vec::new(),
            State::Settling(pending) => {
                let pending = std::mem::take(pending);
                let drift = Drift::new(self.heard_at);
                self.state = State::Anchored { anchor, drift };
                pending
            }
        };
        pending.into_iter().map(move |packet| (anchor + packet.elapsed, packet))
    }

    const fn elapsed_of(&self, timestamp: u32) -> i64 {
        self.elapsed + timestamp.wrapping_sub(self.timestamp).cast_signed() as i64
    }
}

impl Drift {
    const fn new(now: i64) -> Self {
        Self { span_ends: now + DRIFT_SPAN, least: i64::MAX, packets: 0, pending: 0 }
    }

    /// Watches one packet; gives the step of the anchor: -1, 0 or 1.
    fn follow(&mut self, anchor: i64, transit: i64, arrival: i64) -> i64 {
        if arrival >= self.span_ends {
            let error = self.least.saturating_sub(anchor);
            if self.packets >= DRIFT_PACKETS_MIN && error.abs() > DRIFT_TOLERANCE {
                self.pending = error;
            }
            *self = Self { pending: self.pending, ..Self::new(arrival) };
        }
        self.least = self.least.min(transit);
        self.packets += 1;
        if !self.packets.is_multiple_of(DRIFT_PACKETS_PER_SAMPLE) {
            return 0;
        }
        let step = self.pending.signum();
        self.pending -= step;
        step
    }
}
