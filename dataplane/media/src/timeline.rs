//! The sound of a call: packets of both sides laid on one time axis, caller left, callee right.
//! Owns:  `Timeline`: a bounded window of both tracks, the choice of the audio line, the summary.
//! Gives: interleaved stereo samples at 8 kHz, in order, as soon as nothing can change them.
//! Never: holds more than some seconds of sound, whatever the length of the call or the timestamps
//!        of a sender; reads a clock or a file.
//! Holds: samples lie at their RTP time; gaps are silence; what came first at an instant stays, so
//!        duplicates change nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::ids::Side;

use crate::capture::{NotCapture, Packet, Reader};
use crate::g711::{Law, RATE};
use crate::relay::Component;
use crate::rtcp;
use crate::rtp;
use crate::segment::{Place, Segment};

/// A day of sound: no call is recorded longer.
pub const FRAMES_MAX: u64 = 24 * 3_600 * RATE as u64;
/// Comfort noise (RFC 3389).
const COMFORT_NOISE: u8 = 13;
/// Window of one track in samples; more than twice `HORIZON`.
const WINDOW: usize = 1 << 17;
const WINDOW_LENGTH: i64 = 1 << 17;
/// Sound older than this against arrival is final: 6 s, more than settling and lateness together.
const HORIZON: i64 = 48_000;
/// Runs of RTP time that one side may have at once (SSRC changes, jumps, reordering around them).
const SEGMENTS_MAX: usize = 4;
/// Frames handed out at a time.
const CHUNK_FRAMES: usize = 2_048;
const NANOS_PER_SAMPLE: u64 = 125_000;
/// No sample yet.
const EMPTY: i32 = i32::MIN;

/// What became of the packets of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The media line that is heard: the first one with a codec that we decode.
    pub line: Option<u8>,
    /// Packets whose sound (or comfort noise) is in the recording.
    pub packets_used: u64,
    /// Packets whose instant was filled already.
    pub packets_repeated: u64,
    /// Packets too far behind or beyond the end of the longest recording.
    pub packets_late: u64,
    pub packets_malformed: u64,
    /// RTP packets of other lines and of codecs that we do not decode, by payload type.
    pub packets_skipped: BTreeMap<u8, u64>,
    /// Stereo frames.
    pub samples: u64,
    /// From the start of the capture to the first frame.
    pub started_offset: Duration,
}

#[derive(Debug)]
pub struct Timeline {
    tracks: [Track; 2],
    /// Arrival of the newest packet.
    now: i64,
    /// Positions below are final; the window starts here.
    floor: Option<i64>,
    /// Position of the first frame, once a frame was given out.
    origin: Option<i64>,
    frames_max: i64,
    decoded: Vec<i16>,
    summary: Summary,
}

/// What one side said.
#[derive(Debug)]
struct Track {
    segments: Vec<Segment>,
    /// Ring by position: a sample, or `EMPTY`.
    window: Box<[i32]>,
    /// The cell that was taken last.
    before: i32,
    /// First position that ever got sound, and the one behind the last.
    first: Option<i64>,
    end: i64,
    tally: Tally,
}

/// What became of the packets of one track.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    used: u64,
    repeated: u64,
    late: u64,
}

/// Where the window stands.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    floor: i64,
    ceiling: i64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new(FRAMES_MAX)
    }
}

impl Timeline {
    /// `frames_max` bounds the recording, at most `FRAMES_MAX`.
    pub fn new(frames_max: u64) -> Self {
        Self {
            tracks: [Track::new(), Track::new()],
            now: i64::MIN,
            floor: None,
            origin: None,
            frames_max: frames_max.min(FRAMES_MAX).cast_signed(),
            decoded: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// Takes the next packet of the capture. `emit` gets interleaved frames that are final, left
    /// then right, in portions of at most a few thousand.
    pub fn push<E>(
        &mut self,
        packet: &Packet<'_>,
        mut emit: impl FnMut(&[i16]) -> Result<(), E>,
    ) -> Result<(), E> {
        // A capture is written in order of arrival; a damaged time must not turn it back.
        self.now = self.now.max(position(packet.at));
        self.floor.get_or_insert(self.now - HORIZON);
        self.settle(false);
        self.flush(self.now - HORIZON, &mut emit)?;
        self.lay(packet);
        Ok(())
    }

    /// Gives out the rest.
    pub fn finish<E>(
        mut self,
        mut emit: impl FnMut(&[i16]) -> Result<(), E>,
    ) -> Result<Summary, E> {
        self.settle(true);
        let end = self.tracks.iter().map(|track| track.end).max().unwrap_or(0);
        self.flush(end, &mut emit)?;
        let origin = self.origin.unwrap_or(0).max(0).unsigned_abs();
        self.summary.started_offset = Duration::from_nanos(origin.saturating_mul(NANOS_PER_SAMPLE));
        for Track { tally, .. } in &self.tracks {
            self.summary.packets_used += tally.used;
            self.summary.packets_repeated += tally.repeated;
            self.summary.packets_late += tally.late;
        }
        Ok(self.summary)
    }

    /// Lays one packet into its track, or counts why not.
    fn lay(&mut self, packet: &Packet<'_>) {
        let muxed = packet.bytes.get(1).is_some_and(|&second| rtcp::is_rtcp_byte(second));
        if packet.component == Component::Rtcp || muxed {
            return;
        }
        let Ok(rtp) = rtp::Packet::parse(packet.bytes) else {
            self.summary.packets_malformed += 1;
            return;
        };
        let payload_type = rtp.header.payload_type;
        let law = Law::of_payload_type(payload_type);
        let heard = law.is_some() && *self.summary.line.get_or_insert(packet.line) == packet.line;
        let noise = payload_type == COMFORT_NOISE && self.summary.line == Some(packet.line);
        if !heard && !noise {
            *self.summary.packets_skipped.entry(payload_type).or_default() += 1;
            return;
        }
        self.decoded.clear();
        if let Some(law) = law {
            law.decode_into(rtp.payload, &mut self.decoded);
        }
        let bounds = self.bounds();
        let track = &mut self.tracks[packet.side.index()];
        track.lay(&rtp.header, self.now, &self.decoded, bounds);
    }

    /// Anchors segments whose time has come.
    fn settle(&mut self, all: bool) {
        let bounds = self.bounds();
        for track in &mut self.tracks {
            for number in 0..track.segments.len() {
                if all || track.segments[number].is_due(self.now) {
                    track.settle(number, bounds);
                }
            }
        }
    }

    fn bounds(&self) -> Bounds {
        let floor = self.floor.unwrap_or(0);
        let last = self.origin.map_or(i64::MAX, |origin| origin + self.frames_max);
        Bounds { floor, ceiling: last.min(floor + WINDOW_LENGTH) }
    }

    /// Gives out everything below `target`.
    fn flush<E>(
        &mut self,
        target: i64,
        emit: &mut impl FnMut(&[i16]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(floor) = self.floor else { return Ok(()) };
        let started = self.tracks.iter().filter_map(|track| track.first).min();
        let (Some(start), true) = (self.origin.or(started), floor < target) else {
            self.floor = Some(floor.max(target));
            return Ok(());
        };
        let start_here = if self.origin.is_some() { floor } else { start };
        if start_here >= target {
            return Ok(());
        }
        self.origin = Some(start);
        let end = target.min(start + self.frames_max);
        let mut frames = [0; 2 * CHUNK_FRAMES];
        let mut at = start_here;
        while at < end {
            let count = CHUNK_FRAMES.min(usize::try_from(end - at).unwrap_or(CHUNK_FRAMES));
            let chunk = &mut frames[..2 * count];
            for frame in chunk.chunks_exact_mut(2) {
                frame[Side::Caller.index()] = self.tracks[Side::Caller.index()].take(at);
                frame[Side::Callee.index()] = self.tracks[Side::Callee.index()].take(at);
                at += 1;
            }
            emit(chunk)?;
            self.summary.samples += count as u64;
        }
        self.floor = Some(target);
        Ok(())
    }
}

impl Track {
    fn new() -> Self {
        Self {
            segments: Vec::with_capacity(SEGMENTS_MAX),
            window: vec![EMPTY; WINDOW].into_boxed_slice(),
            before: EMPTY,
            first: None,
            end: 0,
            tally: Tally::default(),
        }
    }

    fn lay(&mut self, header: &rtp::Header, now: i64, samples: &[i16], bounds: Bounds) {
        let number = self.segment_for(header, now, bounds);
        let segment = &mut self.segments[number];
        match segment.place(header.timestamp, now) {
            Place::At(at) => self.write(at, samples, bounds),
            Place::Wait(elapsed) => segment.wait(elapsed, samples),
        }
    }

    /// Writes the packets that waited for the anchor of a segment.
    fn settle(&mut self, number: usize, bounds: Bounds) {
        for (at, pending) in self.segments[number].settle() {
            self.write(at, &pending.samples, bounds);
        }
    }

    /// The newest segment that the packet fits, or a new one, which starts where it arrived.
    fn segment_for(&mut self, header: &rtp::Header, now: i64, bounds: Bounds) -> usize {
        let fits = |segment: &Segment| segment.fits(header.ssrc, header.timestamp, now);
        if let Some(number) = self.segments.iter().rposition(fits) {
            return number;
        }
        if self.segments.len() == SEGMENTS_MAX {
            let longest_silent = self
                .segments
                .iter()
                .enumerate()
                .min_by_key(|(_, segment)| segment.heard_at())
                .map_or(0, |(number, _)| number);
            self.settle(longest_silent, bounds);
            self.segments.remove(longest_silent);
        }
        self.segments.push(Segment::new(header.ssrc, header.timestamp, now));
        self.segments.len() - 1
    }

    /// Lays a packet down and counts it.
    fn write(&mut self, at: i64, samples: &[i16], bounds: Bounds) {
        match self.fill(at, samples, bounds) {
            None => self.tally.late += 1,
            Some(0) if !samples.is_empty() => self.tally.repeated += 1,
            Some(_) => self.tally.used += 1,
        }
    }

    /// Fills the free positions from `at` on; how many were free, or `None` outside the window.
    fn fill(&mut self, at: i64, samples: &[i16], bounds: Bounds) -> Option<usize> {
        let end = at + i64::try_from(samples.len()).expect("a packet is short");
        if at < bounds.floor || end > bounds.ceiling {
            return None;
        }
        let mut filled = 0;
        for (position, &sample) in (at..end).zip(samples) {
            let cell = &mut self.window[cell_of(position)];
            if *cell == EMPTY {
                *cell = i32::from(sample);
                filled += 1;
            }
        }
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.end = self.end.max(end);
        Some(filled)
    }

    /// The sample at a position, silence where there is none; the cell is free again.
    fn take(&mut self, position: i64) -> i16 {
        let cell = std::mem::replace(&mut self.window[cell_of(position)], EMPTY);
        let sample = if cell == EMPTY { self.bridge(position) } else { cell };
        self.before = cell;
        i16::try_from(sample).expect("a sample, or between two samples")
    }

    /// A single missing sample is where a segment followed the clock of its sender: no silence, but
    /// the middle of its neighbours.
    fn bridge(&self, position: i64) -> i32 {
        let after = self.window[cell_of(position + 1)];
        if self.before == EMPTY || after == EMPTY { 0 } else { (self.before + after) / 2 }
    }
}

/// Everything that is said in a capture in memory, at most `frames_max` frames of it, interleaved.
/// For long calls use `wav::write`, which holds only some seconds of it.
pub fn samples(capture: &[u8], frames_max: u64) -> Result<(Vec<i16>, Summary), NotCapture> {
    let mut frames = Vec::new();
    let mut keep = |portion: &[i16]| -> Result<(), std::convert::Infallible> {
        frames.extend_from_slice(portion);
        Ok(())
    };
    let mut timeline = Timeline::new(frames_max);
    for packet in Reader::new(capture)? {
        let Ok(()) = timeline.push(&packet, &mut keep);
    }
    let Ok(summary) = timeline.finish(&mut keep);
    Ok((frames, summary))
}

/// Arrival as a position: samples since the start of the capture.
fn position(at: Duration) -> i64 {
    let samples = at.as_nanos() / u128::from(NANOS_PER_SAMPLE);
    i64::try_from(samples).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

#[expect(clippy::cast_sign_loss, reason = "the ring repeats below zero as above")]
#[expect(clippy::cast_possible_truncation, reason = "only the lower bits are kept")]
const fn cell_of(position: i64) -> usize {
    position as usize & (WINDOW - 1)
}
