//! Peers and loads for the gateway: soft phones, foreign user agents, call and RTP generators, analysers.
//! Owns:  what stands outside the gateway in a test; nothing of the gateway itself.
//! Gives: `phone::Phone` for the demo and the tests, `load` for the benches.
//! Never: the gateway's own SIP code: messages are built and read with rsip or as raw text, so that a
//!        bug of ours cannot cancel itself out.
//! Holds: every wait has a deadline, every child process is ended by its id.

pub mod baresip;
pub mod certificate;
pub mod commands;
pub mod connected;
pub mod digest;
pub mod dnsmasq;
pub mod flow;
pub mod gateway;
pub mod host;
pub mod http;
pub mod kills;
pub mod ledger;
pub mod load;
pub mod message;
pub mod mutate;
pub mod netns;
pub mod outage;
pub mod overload;
pub mod peers;
pub mod phone;
pub mod postgres;
pub mod process;
pub mod quiet;
pub mod receiver;
pub mod registrations;
pub mod scene;
pub mod sdp;
pub mod sipp;
pub mod sippy;
pub mod storm;
pub mod text;
pub mod tones;
pub mod voice;
pub mod wait;
pub mod wav;
