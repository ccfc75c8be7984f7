//! A call that somebody asks us to make: one party is called, then the other, then they are joined.
//! Owns:  `Originate`, `Originated`, `Unstarted`.
//! Gives: the words of `command::Command::Originate` and of its one answer.
//! Never: an address that was not read; the shard reads both.
//! Holds: `Started` means that the call exists and its CDR is certain.

use std::time::Duration;

use crate::headers::ExtraHeader;
use crate::ids::CallId;

/// An address is a SIP URI, or a user part of our own domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Originate {
    /// Who is called first.
    pub from: Box<str>,
    /// Who is called when the first has answered.
    pub to: Box<str>,
    /// Whom the second sees as the caller; without it the first.
    pub caller_id: Option<Box<str>>,
    /// How long each of them may ring; without it the time of every call.
    pub ring: Option<Duration>,
    pub headers: Vec<ExtraHeader>,
    /// Whether it is recorded; without it as every call.
    pub record: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Originated {
    Refused(Unstarted),
    Started(CallId),
}

/// Which of the two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    CallerId,
    From,
    To,
}

/// Why no call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstarted {
    /// A user that nobody has registered.
    NotRegistered(Party),
    /// A full table, or the gateway is about to stop.
    Overloaded,
    /// Nobody of this name, or nowhere to send a call to: the status that a caller would hear.
    Unreachable(Party, u16),
    /// It is no SIP address.
    Unreadable(Party),
}
