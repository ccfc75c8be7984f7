//! What a call of a `FlowPhone` sounds like: a tone out, a count of what comes in, one packet at a time.
//! Owns:  a UDP socket and the stream that it sends.
//! Gives: where it listens, and an exchange that goes on until enough has come.
//! Never: a clock of its own: the packets that come set the pace, or 20 ms without one.
//! Holds: packets from anywhere else than where the gateway said that it sends are errors.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use media::g711::Law;
use media::rtp;
use media::tone::Tone;

use super::LIMIT;
use crate::{sdp, text, tones};

/// 20 ms of G.711.
const FRAME_SAMPLES: usize = 160;

#[derive(Debug)]
pub struct Media {
    socket: UdpSocket,
    header: rtp::Header,
    tone: Tone,
    remote: Option<SocketAddr>,
}

impl Media {
    pub(super) fn bind(ip: IpAddr, tone_hz: f32) -> Result<Self, String> {
        let bound = UdpSocket::bind((ip, 0)).and_then(|socket| {
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            Ok(socket)
        });
        let socket = bound.map_err(|error| format!("RTP on {ip}: {error}"))?;
        let header = rtp::Header { ssrc: rand::random(), ..rtp::Header::default() };
        Ok(Self { socket, header, tone: tones::of(tone_hz), remote: None })
    }

    pub(super) fn local(&self) -> Result<SocketAddr, String> {
        self.socket.local_addr().map_err(|error| error.to_string())
    }

    /// Towards where this message's description listens.
    pub(super) fn aim(&mut self, message: &str) -> Result<(), String> {
        let audio = sdp::read_audio(text::body(message).as_bytes());
        let audio = audio.ok_or_else(|| format!("no audio in {message}"))?;
        self.remote = Some(audio.address);
        Ok(())
    }

    pub fn send(&mut self) -> Result<(), String> {
        let to = self.remote.ok_or("nobody said where RTP goes")?;
        let mut samples = [0; FRAME_SAMPLES];
        self.tone.fill(&mut samples);
        let mut packet = self.header.to_bytes().to_vec();
        Law::U.encode_into(&samples, &mut packet);
        self.header.sequence = self.header.sequence.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(FRAME_SAMPLES as u32);
        self.socket.send_to(&packet, to).map_err(|error| format!("RTP to {to}: {error}"))?;
        Ok(())
    }

    /// Whether a packet came within 20 ms.
    pub fn hear(&mut self) -> Result<bool, String> {
        let mut packet = [0; 2_048];
        match self.socket.recv_from(&mut packet) {
            Ok((length, from)) if Some(from) == self.remote => {
                Ok(rtp::Packet::parse(&packet[..length]).is_ok())
            }
            Ok((_, from)) => Err(format!("RTP from {from} instead of {:?}", self.remote)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) => Err(format!("RTP: {error}")),
        }
    }

    /// Speaks until so many packets have come.
    pub fn exchange(&mut self, packets: u32) -> Result<(), String> {
        let give_up_at = Instant::now() + LIMIT;
        let mut heard = 0;
        while heard < packets {
            if Instant::now() >= give_up_at {
                return Err(format!("{heard} of {packets} packets of RTP from {:?}", self.remote));
            }
            self.send()?;
            heard += u32::from(self.hear()?);
        }
        Ok(())
    }
}
