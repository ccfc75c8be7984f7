//! Per-packet rules: what becomes of one RTP or RTCP packet, and what a stream has been like.
//! Owns:  relays, stream statistics, latching, port choice, the capture format, G.711 and tones.
//! Gives: pure functions and tables; the same ones serve the shell and the simulator.
//! Never: a socket, a file, a clock, an allocation per packet.
//! Holds: a packet from an unexpected source never reaches the other side under
//!        `MediaLock::Strict`.
#![forbid(unsafe_code)]

pub mod capture;
pub mod edit;
pub mod g711;
mod jitter;
mod latch;
mod peer;
pub mod ports;
pub mod prompt;
pub mod relay;
pub mod rtcp;
pub mod rtp;
mod segment;
pub mod speakers;
pub mod speech;
mod splice;
mod stream;
pub mod timeline;
pub mod tone;
pub mod wav;
