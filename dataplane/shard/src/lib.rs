//! The shell of the data plane: threads, sockets, clock and files round the pure core of each shard.
//! Owns:  one pinned executor and one io_uring per configured CPU, and every descriptor of the data plane.
//! Gives: `spawn`, and `Shards` to talk to what it started.
//! Never: a decision about a call or a packet: `call` and `media` decide, this carries it out.
//! Holds: nothing mutable is shared between shards; `unsafe` stays in the files that say so.
#![deny(unsafe_code)]

mod arrival;
mod background;
mod backlog;
mod bell;
mod capture;
mod clock;
mod completions;
mod executor;
mod journal;
mod keys;
mod link;
mod listeners;
mod mesh;
mod outputs;
mod pace;
mod pktinfo;
mod preflight;
mod process_limits;
mod relay_sockets;
mod ring;
mod shards;
mod shell;
mod sip_tcp;
mod sip_udp;
mod sipflow;
mod spawn;
mod start_error;
mod turn;
mod web_frames;

pub use keys::Keys;
pub use shards::Shards;
pub use spawn::spawn;
pub use start_error::StartError;
