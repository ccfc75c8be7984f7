//! The wire layer: received bytes become a checked view, values become bytes (RFC 3261 7, 20, 25).
//! Owns:  scanning, header names, methods, typed headers, URIs, stream framing, writing.
//! Gives: `scan` for one whole message, `frame::next_frame` for a stream, `write::Writer` for output.
//! Never: copies or allocates while it reads; guesses what a broken message may have meant.
//! Holds: a message that passed `check_request` has every header that a response needs.

pub mod check;
pub mod frame;
pub mod header;
mod malformed;
mod method;
mod name;
mod scan;
mod uri;
pub mod write;

pub use header::{CSeq, NameAddr, RAck, Refresher, Replaces, SessionExpires, Via};
pub use malformed::Malformed;
pub use method::Method;
pub use name::HeaderName;
pub use scan::{Message, Start, scan};
pub use uri::{Host, Scheme, Uri};
pub use write::{Writer, reason_phrase, reply};
