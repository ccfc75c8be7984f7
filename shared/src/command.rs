//! What the control plane tells or asks a shard, over a bounded lock-free queue.
//! Owns:  `Command`, `Question`.
//! Gives: every question and act has an id; its answer comes back as `event::Event::Answer`. What a
//!        shard asked with `event::Event::Asked` is answered by `Decided`.
//! Never: waits; a full queue is the asker's answer.
//! Holds: a command is applied between two messages, never in the middle of one.

use std::sync::Arc;

use crate::act::{CallAction, CallName};
use crate::ask::Decision;
use crate::originate::Originate;
use crate::route::Trial;
use crate::snapshot::Snapshot;

#[derive(Clone, Debug)]
pub enum Command {
    /// A program acts on a call; answered by one `event::Answer::Acted`, within
    /// `limits::ACT_WAIT_MAX` whatever the peers do.
    Act {
        id: u64,
        call: CallName,
        action: CallAction,
    },
    Ask {
        id: u64,
        question: Question,
    },
    /// The answer to an `event::Event::Asked` with this id; a late one is dropped and counted.
    Decided {
        id: u64,
        decision: Box<Decision>,
    },
    /// No new calls (503 + Retry-After); standing ones go on. `Event::Drained` follows the last one.
    Drain,
    /// What calls may cost: a full disk takes no messages, no recordings, or no calls.
    Intake(Intake),
    /// Call two parties and join them; answered by one `event::Answer::Originated`.
    Originate {
        id: u64,
        wanted: Box<Originate>,
    },
    /// Replace users, trunks and routes; answered by `Event::SnapshotLive`.
    Publish(Arc<Snapshot>),
    /// End every call (BYE or 503 to both legs), write what is open, then stop the executor.
    Stop,
}

/// What a shard may take in now. Standing calls go on whatever it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    /// New calls; else they hear 503.
    pub calls: bool,
    /// Recordings of calls that begin now.
    pub recordings: bool,
    /// Messages of calls (`sipflow`), of standing ones too.
    pub messages: bool,
}

impl Intake {
    pub const ALL: Self = Self { calls: true, recordings: true, messages: true };
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Of these users; a shard knows those that hash to it.
    Bindings(Arc<[Box<str>]>),
    Calls,
    Dialogs,
    /// Where would this call go? Any shard knows.
    Explain(Arc<Trial>),
    /// What is known of these trunks; each shard knows its part.
    Trunks(Arc<[Box<str>]>),
}
