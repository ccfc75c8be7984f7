//! Interarrival jitter of one stream (RFC 3550 6.4.1, A.8).
//! Owns:  `Jitter`, and the clock rate behind the timestamps, told where SDP is not at hand.
//! Gives: the jitter in microseconds, whatever the clock rate.
//! Never: reads a clock, allocates.
//! Holds: packets without a rhythm of their own (telephone events, comfort noise) change nothing.

use shared::time::Instant;

use crate::rtp::Header;

/// Packets of another payload type in a row before the clock of that type is measured: longer than
/// a telephone-event, whose timestamps stand still (RFC 4733 2.5.1.2).
const CLOCK_CHANGE_PACKETS: u8 = 64;
/// How long a dynamic payload type is watched before its clock rate is told.
const CLOCK_WATCH_NS: u64 = 500_000_000;
/// A larger difference is a jump of the timestamp and not jitter.
const TRANSIT_STEP_MAX_NS: u64 = 10_000_000_000;
/// Clock rates in use for dynamic payload types.
const CLOCK_RATES: [u32; 7] = [8_000, 16_000, 24_000, 32_000, 44_100, 48_000, 90_000];

/// Interarrival jitter (RFC 3550 6.4.1, A.8), kept in nanoseconds so that every clock rate fits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jitter {
    /// Sixteen times the jitter, as in A.8.
    scaled_ns: u64,
    clock: Option<Clock>,
    last: Option<Point>,
    /// Packets in a row of another payload type than the clock's.
    foreign: u8,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    at: Instant,
    timestamp: u32,
}

/// The sampling clock behind the timestamps.
#[derive(Clone, Copy, Debug)]
struct Clock {
    payload_type: u8,
    /// Nanoseconds per tick; 0 while a dynamic type is still being watched from `start`.
    tick_ns: u32,
    start: Point,
}

impl Jitter {
    pub(crate) const fn new() -> Self {
        Self { scaled_ns: 0, clock: None, last: None, foreign: 0 }
    }

    /// Another SSRC or numbering: timestamps have nothing to do with those before.
    pub(crate) const fn restart(&mut self) {
        self.clock = None;
        self.last = None;
        self.foreign = 0;
    }

    /// When the newest packet with a rhythm came, and its timestamp.
    pub(crate) fn newest(&self) -> Option<(Instant, u32)> {
        self.last.map(|point| (point.at, point.timestamp))
    }

    #[inline]
    pub(crate) fn measure(&mut self, now: Instant, header: &Header) {
        let point = Point { at: now, timestamp: header.timestamp };
        let Some(clock) = self.clock else {
            return self.start(header.payload_type, point);
        };
        if clock.payload_type != header.payload_type {
            return self.skip(header.payload_type, point);
        }
        self.foreign = 0;
        if clock.tick_ns == 0 {
            return self.watch(clock, point);
        }
        if let Some(last) = self.last.replace(point) {
            let arrived = signed(now.as_nanos()).wrapping_sub(signed(last.at.as_nanos()));
            let ticks = header.timestamp.wrapping_sub(last.timestamp).cast_signed();
            let sampled = i64::from(ticks) * i64::from(clock.tick_ns);
            let step_ns = arrived.wrapping_sub(sampled).unsigned_abs();
            if step_ns < TRANSIT_STEP_MAX_NS {
                // J += (|D| - J) / 16, in integers as in RFC 3550 A.8.
                self.scaled_ns = self.scaled_ns + step_ns - ((self.scaled_ns + 8) >> 4);
            }
        }
    }

    pub(crate) const fn micros(&self) -> u64 {
        (self.scaled_ns >> 4) / 1_000
    }

    #[cold]
    fn start(&mut self, payload_type: u8, point: Point) {
        let tick_ns = static_clock_rate(payload_type).map_or(0, tick_ns);
        self.clock = Some(Clock { payload_type, tick_ns, start: point });
        self.last = Some(point);
        self.foreign = 0;
    }

    /// Telephone events and comfort noise share the numbering but not the rhythm.
    #[cold]
    fn skip(&mut self, payload_type: u8, point: Point) {
        self.foreign += 1;
        if self.foreign >= CLOCK_CHANGE_PACKETS {
            self.start(payload_type, point);
        }
    }

    /// Tells the clock rate of a dynamic payload type from how fast its timestamps run.
    #[cold]
    fn watch(&mut self, clock: Clock, point: Point) {
        self.last = Some(point);
        let elapsed_ns = u64::try_from((point.at - clock.start.at).as_nanos()).unwrap_or(u64::MAX);
        if elapsed_ns < CLOCK_WATCH_NS {
            return;
        }
        let ticks = u64::from(point.timestamp.wrapping_sub(clock.start.timestamp));
        let rate = ticks.saturating_mul(1_000_000_000) / elapsed_ns;
        let nearest = CLOCK_RATES
            .into_iter()
            .min_by_key(|&known| u64::from(known).abs_diff(rate))
            .expect("there are known rates");
        self.clock = Some(Clock { tick_ns: tick_ns(nearest), ..clock });
    }
}

const fn signed(nanos: u64) -> i64 {
    nanos.cast_signed()
}

const fn tick_ns(rate: u32) -> u32 {
    (1_000_000_000 + rate / 2) / rate
}

/// RFC 3551 6, tables 4 and 5. G.722 says 8000 although it samples at 16 000 (4.5.2).
const fn static_clock_rate(payload_type: u8) -> Option<u32> {
    match payload_type {
        0 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 13 | 15 | 18 => Some(8_000),
        6 => Some(16_000),
        10 | 11 => Some(44_100),
        14 | 25 | 26 | 28 | 31..=34 => Some(90_000),
        16 => Some(11_025),
        17 => Some(22_050),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program of RFC 3550 A.8, in ticks of 8 kHz.
    #[derive(Default)]
    struct Reference {
        transit: i64,
        jitter: u32,
        started: bool,
    }

    impl Reference {
        fn measure(&mut self, arrival: i64, timestamp: i64) {
            let transit = arrival - timestamp;
            let d = (transit - self.transit).unsigned_abs();
            self.transit = transit;
            if std::mem::replace(&mut self.started, true) {
                self.jitter = self.jitter + u32::try_from(d).unwrap() - ((self.jitter + 8) >> 4);
            }
        }
    }

    fn header(payload_type: u8, timestamp: u32) -> Header {
        Header { payload_type, timestamp, ..Header::default() }
    }

    /// A fixed pattern of delays in ms, irregular enough that an error shows.
    fn delay_ms(packet: u32) -> u32 {
        packet.wrapping_mul(2_654_435_761) >> 27
    }

    #[test]
    fn jitter_follows_the_program_of_rfc_3550_a8() {
        let (mut jitter, mut reference) = (Jitter::new(), Reference::default());
        for packet in 0..1_000_u32 {
            let arrival_ms = 20 * packet + delay_ms(packet);
            jitter.measure(Instant::from_millis(u64::from(arrival_ms)), &header(0, 160 * packet));
            reference.measure(i64::from(8 * arrival_ms), i64::from(160 * packet));
        }
        let expected_us = i64::from(reference.jitter >> 4) * 125;
        let got_us = i64::try_from(jitter.micros()).unwrap();
        assert!(expected_us > 5_000, "the pattern jitters: {expected_us}");
        assert!((got_us - expected_us).abs() <= 125, "{got_us} us, RFC: {expected_us} us");
    }

    #[test]
    fn a_steady_stream_has_no_jitter_across_the_wrap_of_its_timestamps() {
        let mut jitter = Jitter::new();
        for packet in 0..500_u32 {
            let timestamp = 0xffff_8000_u32.wrapping_add(160 * packet);
            jitter.measure(Instant::from_millis(20 * u64::from(packet)), &header(8, timestamp));
        }
        assert_eq!(jitter.micros(), 0);
    }

    /// Opus counts 48 000 ticks per second and has no static payload type (RFC 7587 4.1).
    #[test]
    fn the_clock_of_a_dynamic_payload_type_is_told_from_its_pace() {
        let mut jitter = Jitter::new();
        for packet in 0..500_u32 {
            let at = Instant::from_millis(20 * u64::from(packet));
            jitter.measure(at, &header(111, 960 * packet));
        }
        assert_eq!(jitter.clock.map(|clock| clock.tick_ns), Some(20_833));
        assert!(jitter.micros() < 10, "{}", jitter.micros());
    }

    /// The timestamp of a telephone-event stands still while the event lasts (RFC 4733 2.5.1.2).
    #[test]
    fn telephone_events_are_not_jitter() {
        let mut jitter = Jitter::new();
        for packet in 0..200_u32 {
            let at = Instant::from_millis(20 * u64::from(packet));
            let dials = (50..80).contains(&packet);
            let timestamp = if dials { 160 * 50 } else { 160 * packet };
            jitter.measure(at, &header(if dials { 101 } else { 0 }, timestamp));
        }
        assert_eq!(jitter.micros(), 0);
    }

    #[test]
    fn another_payload_type_that_stays_is_measured() {
        let mut jitter = Jitter::new();
        for packet in 0..200_u32 {
            let at = Instant::from_millis(u64::from(20 * packet + delay_ms(packet)));
            jitter.measure(at, &header(if packet < 10 { 0 } else { 8 }, 160 * packet));
        }
        assert!(jitter.micros() > 5_000, "{}", jitter.micros());
    }

    #[test]
    fn a_jump_of_the_timestamp_is_not_jitter() {
        let mut jitter = Jitter::new();
        for packet in 0..200_u32 {
            let jump = if packet < 100 { 0 } else { 0x7000_0000 };
            let at = Instant::from_millis(20 * u64::from(packet));
            jitter.measure(at, &header(0, 160 * packet + jump));
        }
        assert_eq!(jitter.micros(), 0);
    }
}
