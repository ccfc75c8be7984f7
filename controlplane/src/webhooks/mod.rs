//! HTTP calls that the gateway makes: guarded, signed, bounded.
//! Owns:  the guard against calls into our own network, the signature, the one client.
//! Gives: `Client::send` to whoever asks or tells somebody outside.
//! Never: decides what is sent or when; its users do.
//! Holds: no call leaves the process by another way.

mod client;
mod guard;
mod sign;

pub use client::{
    Answer, Client, Ending, Failed, Looking, Lookup, Outgoing, Payload, SystemLookup, header_map,
};
pub use guard::{AddressKind, Guard, Reach, Refused, check_addresses, kind_of};
pub use sign::{Signer, Signing, fresh_id};
