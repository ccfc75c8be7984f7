//! HTTP calls that the gateway makes: guarded, signed, bounded; the programs that decide over them; the outbox
//! of events.
//! Owns:  the guard against calls into our own network, the signature, the one client; the HTTP router
//!        and the user backends.
//! Gives: `Client::send` to whoever asks or tells somebody outside; `Decider` to the pump.
//! Never: a call that somebody in a call's path waits for without a bound.
//! Holds: no call leaves the process by another way.

pub mod breaker;
pub mod cache;
mod client;
mod decider;
mod exchanges;
mod guard;
mod multipart;
pub mod outbox;
mod route_words;
mod router;
mod sign;
mod targets;
mod user_words;
mod users;

#[cfg(feature = "s3")]
pub(crate) use client::one_line;
pub use client::{
    Answer, Client, Ending, Failed, Looking, Lookup, Outgoing, Payload, SystemLookup, header_map,
};
pub use decider::Decider;
pub use exchanges::{ExchangeWriter, Exchanges};
pub use guard::{AddressKind, Guard, Reach, Refused, check_addresses, kind_of};
pub use multipart::{Content, Multipart, Part};
pub use sign::{Signer, Signing, fresh_id};
