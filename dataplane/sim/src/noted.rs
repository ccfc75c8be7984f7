//! What a run leaves behind: facts for tests, and the failure that prints its seed.
//! Owns:  `Noted`, `Sent`, `Failure`.
//! Gives: counts by method and status; the newest messages of a run that failed.
//! Never: a verdict.
//! Holds: a failure's step and hash are the same in every replay of its seed.

use std::fmt;
use std::net::SocketAddr;

use shared::ask::Ask;
use shared::cdr::Cdr;
use shared::event::{CallView, Registration};
use shared::ids::{CallId, ShardId, Side};
use shared::originate::Originated;
use shared::time::Instant;

use crate::ledger::Breach;

/// What tests look at afterwards.
#[derive(Debug, Default)]
pub struct Noted {
    pub records: Vec<Cdr>,
    /// As the journal got them, those that were written again included.
    pub starts: Vec<Cdr>,
    pub registrations: Vec<Registration>,
    /// What programs were asked, in order.
    pub asked: Vec<Ask>,
    pub drained: Vec<ShardId>,
    pub generations: Vec<u64>,
    pub answers: u32,
    /// What programs heard to their wishes for a call.
    pub originated: Vec<Originated>,
    /// What stood when the shards were asked last.
    pub calls: Vec<CallView>,
    /// Messages that moved from one shard to another.
    pub moved: u64,
    pub messages: u64,
    pub forwarded: u64,
    /// Packets of the gateway's own.
    pub said: u64,
    /// Packets of strangers that were dropped.
    pub repelled: u64,
    pub silent: u64,
    /// Every SIP message that the gateway sent, in order.
    pub sent: Vec<Sent>,
    /// Every message that the core said to belong to a call, in order.
    pub ladder: Vec<Passed>,
    /// What the gateway sent to nobody of this world: answers to raw senders.
    pub heard_raw: Vec<String>,
}

/// One message in a call's ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub call: CallId,
    pub side: Side,
    /// It came; else the gateway sent it.
    pub came: bool,
    /// Of the request, or of the request that is answered.
    pub method: String,
    pub status: Option<u16>,
    pub call_id: String,
}

/// One message of the gateway, as tests count them.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: Instant,
    pub to: SocketAddr,
    /// Of the request, or of the request that is answered.
    pub method: String,
    pub status: Option<u16>,
    pub call_id: String,
}

impl Noted {
    /// Requests of this method that the gateway sent, repeats included.
    pub fn requests<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Sent> {
        self.sent.iter().filter(move |sent| sent.status.is_none() && sent.method == method)
    }

    /// Answers with this status to requests of this method, repeats included.
    pub fn answers<'a>(&'a self, method: &'a str, status: u16) -> impl Iterator<Item = &'a Sent> {
        self.sent.iter().filter(move |sent| sent.status == Some(status) && sent.method == method)
    }

    /// The one record of a run with one call.
    ///
    /// # Panics
    /// When there is none or more than one.
    pub fn record(&self) -> &Cdr {
        let [record] = self.records.as_slice() else {
            panic!("{} records instead of one", self.records.len());
        };
        record
    }
}

/// A breach and how to see it again. `Debug` prints the same text, for tests that return it.
#[derive(Clone)]
pub struct Failure {
    pub seed: u64,
    pub step: u64,
    pub at: Instant,
    pub breach: Breach,
    pub trace: Vec<String>,
    pub hash: u64,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- the last {} messages ---", self.trace.len())?;
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let Breach { rule, facts } = &self.breach;
        let at = self.at.as_nanos() as f64 / 1e9;
        writeln!(f, "--- seed {} step {} at {at:.6} s ---", self.seed, self.step)?;
        write!(f, "{rule}: {facts}")
    }
}
