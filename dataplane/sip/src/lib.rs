//! Bytes and RFC 3261 machines: the wire layer, SDP, transactions, dialogs, digest.
//! Owns:  how a message reads and is written, and what a single transaction or dialog may do next.
//! Gives: views over the received bytes; machines with `handle_input`, `poll_output`, `deadline`.
//! Never: a socket, a clock, a thread; a decision about who may call whom.
//! Holds: no input panics; every refusal says what the peer did.
#![forbid(unsafe_code)]

pub mod auth;
pub mod dialog;
pub mod sdp;
pub mod stun;
pub mod transaction;
pub mod wire;
