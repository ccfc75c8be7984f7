//! The voice and the ear of a test phone: a tone out every 20 ms, and what comes in measured.
//! Owns:  one RTP socket of a call, its sender task and its receiver task.
//! Gives: `Heard`: packets, loss by sequence numbers, jitter (RFC 3550 A.8), the tone by Goertzel.
//! Never: plays or records on a sound card.
//! Holds: dropping a `Voice` ends both tasks and closes the socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use media::g711::{self, Law};
use media::rtp::{self, Header};
use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::tones;

/// One G.711 frame of 20 ms.
const FRAME_SAMPLES: usize = 160;
const FRAME: Duration = Duration::from_millis(20);
/// Goertzel window: 100 ms, so that neighbouring probes (10 Hz apart) are orthogonal.
const WINDOW_SAMPLES: usize = 800;

/// What one call has sent and heard so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Heard {
    pub packets_sent: u64,
    pub packets_received: u64,
    /// Expected by sequence numbers less received, per SSRC, summed.
    pub packets_lost: u64,
    /// Packets with a sequence number seen just before.
    pub packets_repeated: u64,
    pub jitter_us: u64,
    /// Longest silence between two packets.
    pub longest_gap_ms: u64,
    /// The strongest tone of the last 100 ms, when it holds more than half of the energy.
    pub tone_hz: Option<f32>,
}

#[derive(Clone, Copy, Debug)]
struct Aim {
    to: Option<SocketAddr>,
}

#[derive(Debug)]
pub struct Voice {
    local: SocketAddr,
    aim: watch::Sender<Aim>,
    ear: Arc<Mutex<Ear>>,
    tasks: [JoinHandle<()>; 2],
}

impl Voice {
    /// Binds an even port (RFC 3550 11) of `ip` and listens; nothing is sent before `aim`.
    pub fn bind(ip: IpAddr, tone_hz: f32) -> io::Result<Self> {
        let socket = Arc::new(even_socket(ip)?);
        let local = socket.local_addr()?;
        let (aim, aimed) = watch::channel(Aim { to: None });
        let ear = Arc::new(Mutex::new(Ear::default()));
        let tasks = [
            tokio::spawn(speak(Arc::clone(&socket), aimed, tone_hz, Arc::clone(&ear))),
            tokio::spawn(listen(socket, Arc::clone(&ear))),
        ];
        Ok(Self { local, aim, ear, tasks })
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends to `to` from now on; `None` is silence.
    pub fn aim(&self, to: Option<SocketAddr>) {
        self.aim.send_replace(Aim { to });
    }

    pub fn heard(&self) -> Heard {
        lock(&self.ear).heard()
    }

    /// How much of the energy of the last 100 ms lies at `hz`: near 1.0 for that tone alone.
    pub fn tone_share(&self, hz: f32) -> f32 {
        lock(&self.ear).tone_share(hz)
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn lock(ear: &Mutex<Ear>) -> std::sync::MutexGuard<'_, Ear> {
    // An ear is plain numbers: a panicked writer leaves nothing half done that matters to a test.
    ear.lock().unwrap_or_else(PoisonError::into_inner)
}

fn even_socket(ip: IpAddr) -> io::Result<UdpSocket> {
    // Odd ports are held until an even one comes, so that the kernel does not offer them again.
    let mut odd = Vec::new();
    while odd.len() < 64 {
        let socket = std::net::UdpSocket::bind((ip, 0))?;
        if socket.local_addr()?.port().is_multiple_of(2) {
            socket.set_nonblocking(true)?;
            return UdpSocket::from_std(socket);
        }
        odd.push(socket);
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no even port in 64 tries"))
}

async fn speak(
    socket: Arc<UdpSocket>,
    mut aimed: watch::Receiver<Aim>,
    tone_hz: f32,
    ear: Arc<Mutex<Ear>>,
) {
    let mut header = Header {
        sequence: rand::random(),
        timestamp: rand::random(),
        ssrc: rand::random(),
        marker: true,
        payload_type: Law::U.payload_type(),
    };
    let mut tone = tones::of(tone_hz);
    let mut samples = [0i16; FRAME_SAMPLES];
    let mut packet = Vec::with_capacity(rtp::HEADER_BYTES + FRAME_SAMPLES);
    let mut tick = tokio::time::interval(FRAME);
    loop {
        let Some(to) = aimed.borrow_and_update().to else {
            if aimed.changed().await.is_err() {
                return;
            }
            tick.reset_immediately();
            continue;
        };
        tick.tick().await;
        tone.fill(&mut samples);
        packet.clear();
        packet.extend(header.to_bytes());
        Law::U.encode_into(&samples, &mut packet);
        // A refused packet (nobody there yet) is the same as a lost one: the other ear counts it.
        if socket.send_to(&packet, to).await.is_ok() {
            lock(&ear).packets_sent += 1;
        }
        header.marker = false;
        header.sequence = header.sequence.wrapping_add(1);
        header.timestamp = header.timestamp.wrapping_add(FRAME_SAMPLES as u32);
    }
}

async fn listen(socket: Arc<UdpSocket>, ear: Arc<Mutex<Ear>>) {
    let mut buffer = [0u8; 2_048];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, _)) => lock(&ear).hear(Instant::now(), &buffer[..length]),
            // ICMP errors of our own packets; the socket stays usable.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[derive(Debug, Default)]
struct Ear {
    packets_sent: u64,
    packets_received: u64,
    packets_repeated: u64,
    lost_before: u64,
    stream: Option<Stream>,
    jitter: f64,
    longest_gap: Duration,
    /// The newest ones, a Goertzel window.
    samples: Vec<i16>,
}

/// One SSRC (RFC 3550 A.1, A.3).
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    first: u64,
    highest: u64,
    received: u64,
    last_at: Instant,
    last_stamp: u32,
}

impl Stream {
    fn lost(&self) -> u64 {
        (self.highest - self.first + 1).saturating_sub(self.received)
    }
}

impl Ear {
    fn hear(&mut self, now: Instant, packet: &[u8]) {
        let Ok(rtp::Packet { header, payload }) = rtp::Packet::parse(packet) else { return };
        self.packets_received += 1;
        self.count(now, header.ssrc, header.sequence, header.timestamp);
        if let Some(law) = Law::of_payload_type(header.payload_type) {
            law.decode_into(payload, &mut self.samples);
            let old = self.samples.len().saturating_sub(WINDOW_SAMPLES);
            self.samples.drain(..old);
        }
    }

    fn count(&mut self, now: Instant, ssrc: u32, sequence: u16, stamp: u32) {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.ssrc == ssrc) else {
            self.lost_before += self.stream.as_ref().map_or(0, Stream::lost);
            let first = 0x1_0000 + u64::from(sequence);
            self.stream = Some(Stream {
                ssrc,
                first,
                highest: first,
                received: 1,
                last_at: now,
                last_stamp: stamp,
            });
            return;
        };
        let ahead = sequence.wrapping_sub(stream.highest as u16);
        if ahead == 0 {
            self.packets_repeated += 1;
            return;
        }
        stream.received += 1;
        if ahead < 0x8000 {
            stream.highest += u64::from(ahead);
        }
        let gap = now - stream.last_at;
        let wire = f64::from(stamp.wrapping_sub(stream.last_stamp) as i32) / f64::from(g711::RATE);
        let transit = (gap.as_secs_f64() - wire).abs();
        self.jitter += (transit - self.jitter) / 16.0;
        self.longest_gap = self.longest_gap.max(gap);
        (stream.last_at, stream.last_stamp) = (now, stamp);
    }

    fn heard(&self) -> Heard {
        Heard {
            packets_sent: self.packets_sent,
            packets_received: self.packets_received,
            packets_lost: self.lost_before + self.stream.as_ref().map_or(0, Stream::lost),
            packets_repeated: self.packets_repeated,
            jitter_us: (self.jitter * 1e6) as u64,
            longest_gap_ms: self.longest_gap.as_millis() as u64,
            tone_hz: self.tone(),
        }
    }

    fn tone_share(&self, hz: f32) -> f32 {
        tones::share(&self.samples, hz)
    }

    fn tone(&self) -> Option<f32> {
        let probes = (10..340).map(|step| step as f32 * 10.0);
        probes
            .map(|hz| (hz, self.tone_share(hz)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|(_, share)| *share > 0.5)
            .map(|(hz, _)| hz)
    }
}
