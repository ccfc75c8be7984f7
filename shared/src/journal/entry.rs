//! What a shard writes down about calls.
//! Owns:  `Entry`, its kinds on disk, and the record of a call that a crash cut.
//! Gives: JSON in and out; the CDR itself is the payload, so a new field of it is journaled too.
//! Never: a record that is not whole: a call's start carries everything that its CDR needs.
//! Holds: times of a cut call are counted by the shard's clock, like those of any other.

use crate::cdr::{Cdr, HangupReason};

/// One line of the journal.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// The shard lives: a call that a crash cut lasted at least until now.
    Beat,
    /// An attempt is over, answered or not.
    End(Box<Cdr>),
    /// A call is answered. The CDR is the one that it gets if nothing more is ever heard of it.
    Start(Box<Cdr>),
}

pub(super) const KIND_START: u8 = 1;
pub(super) const KIND_END: u8 = 2;
pub(super) const KIND_BEAT: u8 = 3;

impl Entry {
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Beat => KIND_BEAT,
            Self::End(_) => KIND_END,
            Self::Start(_) => KIND_START,
        }
    }

    pub(super) const fn cdr(&self) -> Option<&Cdr> {
        match self {
            Self::Beat => None,
            Self::End(cdr) | Self::Start(cdr) => Some(cdr),
        }
    }

    pub(super) fn read(kind: u8, payload: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            KIND_BEAT => Self::Beat,
            KIND_END => Self::End(serde_json::from_slice(payload)?),
            _ => Self::Start(serde_json::from_slice(payload)?),
        })
    }
}

/// The record of a call whose shard went without a word: `start` was written at `started_ms`, the
/// shard is known to have lived until `lived_ms`, both by its own clock.
pub fn crashed(mut start: Cdr, started_ms: u64, lived_ms: u64) -> Cdr {
    let more_ms = lived_ms.saturating_sub(started_ms);
    start.duration_ms += more_ms;
    start.end_time = start.end_time.add_ms(more_ms);
    start.hangup_reason = HangupReason::SystemCrash;
    start
}
