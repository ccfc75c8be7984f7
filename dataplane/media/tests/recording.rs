//! From capture to recording: the right side, the right length, no hole that was not there.
//! Owns:  the tests of `timeline` and `wav`, with a phone and a network that are seeded.
//! Gives: tones, so that a swapped, shifted or torn track is heard (Goertzel).
//! Never: a clock or a file.
//! Holds: a seed that fails fails again.

mod packets;

use std::io::Cursor;

use media::capture::{self, Tail};
use media::g711::Law;
use media::relay::Component;
use media::rtp::Header;
use media::timeline::{self, Summary};
use media::tone::{Tone, goertzel_power, mean_power};
use media::wav;
use packets::{Random, rtcp, rtp_with};
use shared::ids::{CallId, Side};
use shared::time::{Instant, WallMs};

/// Samples of one packet, and of one millisecond.
const PACKET: usize = 160;
const MS: usize = 8;

/// One packet on its way: when it arrives (us), who sent it, what it is.
type Arrival = (u64, Side, Vec<u8>);

/// A phone that talks with a tone.
struct Phone {
    side: Side,
    tone: Tone,
    law: Law,
    header: Header,
    /// When its next packet leaves.
    sends_at_us: u64,
    packet_us: u64,
}

impl Phone {
    fn new(side: Side, frequency_hz: f64, law: Law) -> Self {
        let header = Header {
            marker: false,
            payload_type: law.payload_type(),
            sequence: 65_500,
            timestamp: 0xffff_f000,
            ssrc: 1 + u32::from(law.payload_type()),
        };
        let tone = Tone::new(frequency_hz, 12_000);
        Self { side, tone, law, header, sends_at_us: 3_000_000, packet_us: 20_000 }
    }

    fn caller() -> Self {
        Self::new(Side::Caller, 440.0, Law::U)
    }

    fn callee() -> Self {
        Self::new(Side::Callee, 1_000.0, Law::A)
    }

    /// So many packets, as they leave.
    fn talk(&mut self, count: usize) -> Vec<Arrival> {
        let mut sent = Vec::new();
        for _ in 0..count {
            let (mut samples, mut payload) = ([0; PACKET], Vec::new());
            self.tone.fill(&mut samples);
            self.law.encode_into(&samples, &mut payload);
            sent.push((self.sends_at_us, self.side, rtp_with(self.header, &payload)));
            self.header.sequence = self.header.sequence.wrapping_add(1);
            self.header.timestamp = self.header.timestamp.wrapping_add(160);
            self.sends_at_us += self.packet_us;
        }
        sent
    }

    /// Silence suppression: time and timestamps go on, packets do not.
    fn pause(&mut self, count: u32) {
        self.header.timestamp = self.header.timestamp.wrapping_add(160 * count);
        self.sends_at_us += u64::from(count) * self.packet_us;
    }
}

/// What a network does to packets.
struct Network {
    random: Random,
    jitter_us: u64,
    lost_percent: u64,
    doubled_percent: u64,
}

impl Network {
    fn carry(&mut self, sent: Vec<Arrival>) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for (at, side, packet) in sent {
            if self.random.below(100) < self.lost_percent {
                continue;
            }
            let copies = if self.random.below(100) < self.doubled_percent { 2 } else { 1 };
            for _ in 0..copies {
                let late = if self.jitter_us == 0 { 0 } else { self.random.below(self.jitter_us) };
                arrivals.push((at + late, side, packet.clone()));
            }
        }
        arrivals.sort_by_key(|arrival| arrival.0);
        arrivals
    }
}

fn capture_of(mut arrivals: Vec<Arrival>) -> Vec<u8> {
    arrivals.sort_by_key(|arrival| arrival.0);
    let mut file = Vec::new();
    capture::write_header(&mut file, CallId(1), WallMs(1_000));
    for (at_us, side, packet) in arrivals {
        let at = Instant::from_nanos(1_000 * at_us);
        capture::write_packet(&mut file, at, 0, side, Component::Rtp, &packet);
    }
    file
}

/// Left, right and the summary.
fn hear(arrivals: Vec<Arrival>) -> (Vec<i16>, Vec<i16>, Summary) {
    let (frames, summary) =
        timeline::samples(&capture_of(arrivals), timeline::FRAMES_MAX).expect("it is a capture");
    assert_eq!(frames.len() as u64, 2 * summary.samples);
    let track = |n: usize| frames.iter().skip(n).step_by(2).copied().collect();
    (track(0), track(1), summary)
}

/// The longest run of silence in ms: 16 zeros are more than any tone here has.
fn longest_gap_ms(track: &[i16]) -> usize {
    let (mut longest, mut run) = (0, 0);
    for &sample in track {
        run = if sample.abs() <= 8 { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest / MS
}

/// Whether each 100 ms of the track is that tone and nothing else.
fn assert_tone(track: &[i16], frequency_hz: f64, other_hz: f64) {
    for (n, part) in track.chunks_exact(100 * MS).enumerate() {
        let (wanted, other) = (goertzel_power(part, frequency_hz), goertzel_power(part, other_hz));
        let all = mean_power(part);
        assert!(wanted > 0.9 * all, "100 ms number {n}: {wanted} of {all} at {frequency_hz} Hz");
        assert!(other < 0.01 * all, "100 ms number {n}: {other} of {all} at {other_hz} Hz");
    }
}

fn assert_talk_ms(samples: usize, talk_ms: usize) {
    let length_ms = samples / MS;
    assert!(length_ms.abs_diff(talk_ms) <= 100, "{length_ms} ms of {talk_ms} ms");
}

#[test]
fn the_caller_is_left_and_the_callee_right() {
    let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
    let (left, right, summary) = hear([caller.talk(500), callee.talk(500)].concat());
    assert_eq!((left.len(), right.len()), (500 * PACKET, 500 * PACKET));
    assert_tone(&left, 440.0, 1_000.0);
    assert_tone(&right, 1_000.0, 440.0);
    assert_eq!((longest_gap_ms(&left), longest_gap_ms(&right)), (0, 0));
    assert_eq!((summary.packets_used, summary.line), (1_000, Some(0)));
    assert_eq!(summary.started_offset.as_millis(), 3_000);
    assert!(summary.packets_skipped.is_empty());
}

/// Up to 200 ms of jitter with reordering and duplicates, unbroken RTP time: an unbroken recording.
#[test]
fn jitter_and_reordering_leave_no_gap_and_the_right_length() {
    for seed in 1..=20 {
        let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
        let mut network = Network {
            random: Random(seed),
            jitter_us: 200_000,
            lost_percent: 0,
            doubled_percent: 2,
        };
        let sent = [caller.talk(500), callee.talk(500)].concat();
        let (left, right, summary) = hear(network.carry(sent));
        assert_talk_ms(left.len(), 10_000);
        assert!(summary.packets_repeated > 0 && summary.packets_late == 0, "seed {seed}");
        assert_eq!(summary.packets_used, 1_000, "seed {seed}");
        for (track, own, other) in [(&left, 440.0, 1_000.0), (&right, 1_000.0, 440.0)] {
            let start = track.iter().position(|&s| s != 0).expect("there is sound");
            let end = track.iter().rposition(|&s| s != 0).expect("there is sound");
            assert!(longest_gap_ms(&track[start..end]) == 0, "seed {seed}");
            // Both are aligned by their least delayed packets: each track starts where it should.
            assert!(start <= 100 * MS && track.len() - end <= 100 * MS, "seed {seed}");
            assert_tone(&track[start..end], own, other);
        }
    }
}

/// With loss, each gap is as long as the packets that are missing: nothing shifts.
#[test]
fn lost_packets_are_silence_of_their_own_length() {
    for seed in 1..=20 {
        let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
        let mut network = Network {
            random: Random(seed),
            jitter_us: 120_000,
            lost_percent: 5,
            doubled_percent: 1,
        };
        let sent = [caller.talk(500), callee.talk(500)].concat();
        let arrivals = network.carry(sent);
        let mut kept: Vec<u16> = arrivals
            .iter()
            .filter(|arrival| arrival.1 == Side::Caller)
            .map(|arrival| Header::parse(&arrival.2).expect("RTP").sequence.wrapping_sub(65_500))
            .collect();
        kept.sort_unstable();
        kept.dedup();
        let (left, _, _) = hear(arrivals);
        assert_talk_ms(left.len(), 10_000);
        let mut whole = vec![0; 500 * PACKET];
        Tone::new(440.0, 12_000).fill(&mut whole);
        let mut expected = vec![0; 500 * PACKET];
        for &packet in &kept {
            let range = PACKET * usize::from(packet)..PACKET * (usize::from(packet) + 1);
            for at in range {
                expected[at] = Law::U.decode(Law::U.encode(whole[at]));
            }
        }
        // The same samples at the same distances, wherever the recording begins.
        let first = PACKET * usize::from(kept[0]);
        let start = left.iter().zip(1..).find(|(s, _)| **s != 0).expect("there is sound").1 - 1;
        let first_loud = expected[first..].iter().position(|&s| s != 0).expect("a tone") + first;
        let shared = (left.len() - start).min(expected.len() - first_loud);
        assert!(shared > 490 * PACKET);
        assert_eq!(left[start..start + shared], expected[first_loud..first_loud + shared]);
    }
}

#[test]
fn sides_that_start_apart_stay_apart() {
    let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
    callee.sends_at_us += 1_500_000;
    let (left, right, _) = hear([caller.talk(200), callee.talk(100)].concat());
    assert_eq!(left.len(), 200 * PACKET);
    assert!(right[..1_500 * MS].iter().all(|&sample| sample == 0));
    assert_tone(&right[1_500 * MS..3_500 * MS], 1_000.0, 440.0);
    assert!(right[3_500 * MS..].iter().all(|&sample| sample == 0));
}

#[test]
fn suppressed_silence_is_silence_of_the_same_length() {
    let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
    let mut sent = caller.talk(100);
    caller.pause(150);
    sent.extend(caller.talk(100));
    sent.extend(callee.talk(350));
    let (left, right, _) = hear(sent);
    assert_eq!((left.len(), right.len()), (350 * PACKET, 350 * PACKET));
    assert_tone(&left[..100 * PACKET], 440.0, 1_000.0);
    assert!(left[100 * PACKET..250 * PACKET].iter().all(|&sample| sample == 0));
    assert_tone(&left[250 * PACKET..], 440.0, 1_000.0);
}

/// A hold of an hour and more: the stretch between is not kept anywhere.
#[test]
fn a_long_hold_is_a_long_silence() {
    let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
    let mut sent = [caller.talk(100), callee.talk(100)].concat();
    caller.pause(50 * 4_000);
    callee.sends_at_us = caller.sends_at_us;
    callee.header.timestamp = 77; // A jump: only arrival tells where it belongs.
    sent.extend(caller.talk(100));
    sent.extend(callee.talk(100));
    let (left, right, _) = hear(sent);
    let length = 50 * 4_000 * PACKET + 200 * PACKET;
    assert_eq!((left.len(), right.len()), (length, length));
    let after = length - 100 * PACKET;
    assert_tone(&left[after..], 440.0, 1_000.0);
    assert_tone(&right[after..], 1_000.0, 440.0);
    assert_eq!(goertzel_power(&left[100 * PACKET..after], 440.0), 0.0);
}

#[test]
fn a_new_ssrc_and_a_jump_of_the_timestamp_go_on_where_they_arrive() {
    for change in 0..3 {
        let mut caller = Phone::caller();
        let mut sent = caller.talk(200);
        match change {
            0 => (caller.header.ssrc, caller.header.timestamp) = (99, 5),
            1 => caller.header.timestamp = caller.header.timestamp.wrapping_add(1 << 31),
            _ => caller.header.timestamp = caller.header.timestamp.wrapping_sub(1 << 20),
        }
        sent.extend(caller.talk(200));
        let (left, _, summary) = hear(sent);
        assert_eq!(left.len(), 400 * PACKET, "change {change}");
        assert_eq!(longest_gap_ms(&left), 0);
        assert_tone(&left, 440.0, 1_000.0);
        assert_eq!(summary.packets_used, 400);
    }
}

/// One packet with a wild timestamp moves nothing but itself.
#[test]
fn a_single_wild_timestamp_does_not_move_the_rest() {
    let mut caller = Phone::caller();
    let mut sent = caller.talk(400);
    sent[100].2[4] ^= 0x5a;
    let (left, _, _) = hear(sent);
    assert_eq!(left.len(), 400 * PACKET);
    assert_tone(&left, 440.0, 1_000.0);
}

/// Whatever the timestamps are, the recording is as long as the call.
#[test]
fn hostile_timestamps_do_not_stretch_the_recording() {
    let mut random = Random(7);
    let mut caller = Phone::caller();
    let mut sent = caller.talk(500);
    for (_, _, packet) in &mut sent {
        let wild = u32::try_from(random.below(1 << 32)).expect("32 bits");
        packet[4..8].copy_from_slice(&wild.to_be_bytes());
    }
    let (left, _, summary) = hear(sent);
    assert!(left.len() <= 12_000 * MS, "{}", left.len());
    assert!(summary.packets_used + summary.packets_repeated <= 500);
}

/// Clocks differ by up to some 100 ppm: after an hour both sides are still aligned.
#[test]
fn a_drifting_clock_is_followed_without_a_gap() {
    for (packet_us, name) in [(20_006, "slow"), (19_994, "fast")] {
        let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
        caller.packet_us = packet_us;
        let count = 50 * 1_800;
        let mut network =
            Network { random: Random(3), jitter_us: 60_000, lost_percent: 0, doubled_percent: 0 };
        let sent = [caller.talk(count), callee.talk(count)].concat();
        let (left, right, _) = hear(network.carry(sent));
        // 300 ppm of half an hour is 540 ms, which must not all come to stand at the end.
        let end_of = |track: &[i16]| track.iter().rposition(|&s| s != 0).expect("sound") / MS;
        let late = end_of(&left).cast_signed() - end_of(&right).cast_signed();
        let expected: isize = if packet_us > 20_000 { 540 } else { -540 };
        assert!((late - expected).abs() <= 80, "{name}: {late} ms");
        assert_eq!((longest_gap_ms(&left[8_000..left.len() - 8_000]), name), (0, name));
        // Where a sample was inserted or left out, the wave goes on: a hole would be a step of up
        // to the amplitude, the steepest two samples of the tone are 8 300 apart.
        let steps = left[8_000..left.len() - 8_000].windows(2).map(|w| w[1].abs_diff(w[0]));
        assert!(steps.max() < Some(9_500), "{name}");
        for part in left[8_000..left.len() - 16_000].chunks_exact(100 * MS) {
            assert!(goertzel_power(part, 440.0) > 0.9 * mean_power(part), "{name}");
        }
    }
}

#[test]
fn comfort_noise_and_other_codecs_are_silence_and_counted() {
    let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
    let mut sent = caller.talk(100);
    for (n, payload_type) in [(50, 13), (51, 101), (52, 101), (53, 9)] {
        sent[n].2[1] = payload_type;
    }
    sent[54].2.truncate(11);
    sent.extend(callee.talk(100));
    sent.push((3_500_000, Side::Caller, rtcp()));
    let (left, _, summary) = hear(sent);
    assert!(left[50 * PACKET..55 * PACKET].iter().all(|&sample| sample == 0));
    assert_tone(&left[..50 * PACKET], 440.0, 1_000.0);
    assert_eq!(summary.packets_used, 196);
    assert_eq!(summary.packets_malformed, 1);
    assert_eq!(summary.packets_skipped.into_iter().collect::<Vec<_>>(), [(9, 1), (101, 2)]);
}

#[test]
fn the_first_line_with_a_known_codec_is_the_one_that_is_heard() {
    let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
    let (mut file, video) = (Vec::new(), Header { payload_type: 96, ..caller.header });
    capture::write_header(&mut file, CallId(1), WallMs(1_000));
    let first = Instant::from_millis(2_900);
    let picture = rtp_with(video, &[1; 500]);
    capture::write_packet(&mut file, first, 0, Side::Caller, Component::Rtp, &picture);
    let sent = [caller.talk(50), callee.talk(50)].concat();
    for (n, (at_us, side, packet)) in sent.into_iter().enumerate() {
        let line = if n < 50 { 2 } else { 1 };
        let at = Instant::from_nanos(1_000 * at_us);
        capture::write_packet(&mut file, at, line, side, Component::Rtp, &packet);
    }
    let (_, summary) = timeline::samples(&file, timeline::FRAMES_MAX).expect("a capture");
    assert_eq!((summary.line, summary.packets_used), (Some(2), 50));
    let skipped: Vec<_> = summary.packets_skipped.into_iter().collect();
    assert_eq!(skipped, [(8, 50), (96, 1)]);
}

#[test]
fn csrc_list_extension_and_padding_are_not_heard() {
    let mut caller = Phone::caller();
    let mut sent = caller.talk(100);
    for (_, _, packet) in &mut sent {
        let payload = packet.split_off(12);
        packet[0] |= 0x20 | 0x10 | 1;
        packet.extend([9; 4]);
        packet.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
        packet.extend(payload);
        packet.extend([0, 0, 0, 4]);
    }
    let (left, _, summary) = hear(sent);
    assert_eq!((left.len(), summary.packets_used), (100 * PACKET, 100));
    assert_tone(&left, 440.0, 1_000.0);
}

#[test]
fn a_recording_ends_at_its_limit() {
    let mut caller = Phone::caller();
    let file = capture_of(caller.talk(1_000));
    let (frames, summary) = timeline::samples(&file, 8_000).expect("it is a capture");
    assert_eq!((frames.len(), summary.samples), (16_000, 8_000));
    assert!(summary.packets_late >= 500);
}

/// Another program reads what we wrote.
#[test]
fn the_wav_file_is_what_hound_reads() {
    let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
    let file = capture_of([caller.talk(300), callee.talk(300)].concat());
    let mut out = Cursor::new(Vec::new());
    let recording = wav::write(file.as_slice(), &mut out).expect("memory takes it");
    assert_eq!((recording.tail, recording.summary.samples), (Tail::Clean, 48_000));
    assert_eq!(recording.capture.call, CallId(1));
    let mut reader = hound::WavReader::new(Cursor::new(out.into_inner())).expect("a WAV file");
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8_000, 16));
    assert_eq!(reader.duration(), 48_000);
    let read: Vec<i16> = reader.samples().map(|sample| sample.expect("a sample")).collect();
    let (expected, _) = timeline::samples(&file, timeline::FRAMES_MAX).expect("a capture");
    assert_eq!(read, expected);
}

/// After kill -9 the tail is torn: the rest is a good recording.
#[test]
fn a_torn_capture_gives_a_recording_up_to_the_tear() {
    let mut caller = Phone::caller();
    let mut file = capture_of(caller.talk(100));
    let whole = file.len();
    file.truncate(whole - 1);
    let mut out = Cursor::new(Vec::new());
    let recording = wav::write(file.as_slice(), &mut out).expect("memory takes it");
    let record = 16 + 172;
    assert_eq!(recording.tail, Tail::Torn { offset: (whole - record) as u64 });
    assert_eq!(recording.summary.packets_used, 99);
    let reader = hound::WavReader::new(Cursor::new(out.into_inner())).expect("a WAV file");
    assert_eq!(reader.duration(), 99 * 160);
}

#[test]
fn a_call_without_media_is_an_empty_recording() {
    let mut out = Cursor::new(Vec::new());
    let recording = wav::write(capture_of(Vec::new()).as_slice(), &mut out).expect("it is whole");
    assert_eq!((recording.tail, recording.summary), (Tail::Clean, Summary::default()));
    assert_eq!(out.into_inner(), wav::header(0));
    assert!(matches!(
        wav::write(&b"nonsense"[..], &mut Cursor::new(Vec::new())),
        Err(wav::WavError::Capture(capture::NotCapture::Magic))
    ));
}

/// A reader that gives one byte at a time, as a slow disk or a pipe may.
struct Trickle<'a>(&'a [u8]);

impl std::io::Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = out.len().min(self.0.len()).min(7);
        out[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// More than one piece of the capture, cut anywhere.
#[test]
fn the_capture_may_come_in_pieces_of_any_length() {
    let (mut caller, mut callee) = (Phone::caller(), Phone::callee());
    let file = capture_of([caller.talk(4_000), callee.talk(4_000)].concat());
    assert!(file.len() > 1 << 20);
    let (mut whole, mut pieces) = (Cursor::new(Vec::new()), Cursor::new(Vec::new()));
    let first = wav::write(file.as_slice(), &mut whole).expect("memory takes it");
    let second = wav::write(Trickle(&file), &mut pieces).expect("memory takes it");
    assert_eq!(first, second);
    assert_eq!(first.summary.packets_used, 8_000);
    assert!(whole.into_inner() == pieces.into_inner());
}
