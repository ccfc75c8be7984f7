//! What a shard tells the control plane, over a bounded lock-free queue.
//! Owns:  `Event` and the views that answer a question.
//! Gives: self-contained values; nothing refers back into the shard.
//! Never: blocks a shard; a full queue is kept in the shard's bounded backlog.
//! Holds: what must survive a kill is not in here: it is in the journal, and `Journaled` says how far.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::act::Acted;
use crate::ask::Ask;
use crate::cdr::{Direction, HangupReason};
use crate::ids::{CallId, ShardId, Side};
use crate::journal::Position;
use crate::metrics::Counters;
use crate::net::Transport;
use crate::originate::Originated;
use crate::route::Explanation;
use crate::time::WallMs;
use crate::trunk_view::TrunkView;

#[derive(Clone, Debug)]
pub enum Event {
    Answer {
        id: u64,
        shard: ShardId,
        answer: Answer,
    },
    /// A decision that the shard waits for: `command::Command::Decided` with the same id.
    Asked {
        shard: ShardId,
        id: u64,
        ask: Box<Ask>,
    },
    /// A call has reached another stage. News gives way when the queue grows.
    Call(Box<CallNews>),
    CaptureClosed(CaptureClosed),
    /// Once a second, and once before `Stopped`.
    Counters {
        shard: ShardId,
        counters: Box<Counters>,
    },
    Drained(ShardId),
    /// The journal of this shard is good up to here. Sent once for many records.
    Journaled {
        shard: ShardId,
        position: Position,
        /// Calls that have ended since the start of the process.
        ends: u64,
        /// The last word: the shard writes no more, and this is all of it.
        last: bool,
    },
    Notice(Notice),
    Registration(Box<Registration>),
    SnapshotLive {
        shard: ShardId,
        generation: u64,
    },
    Started(ShardId),
    Stopped(ShardId),
}

#[derive(Clone, Debug)]
pub enum Answer {
    /// What became of a `command::Command::Act`.
    Acted(Acted),
    Bindings(Vec<BindingView>),
    Calls(Vec<CallView>),
    Dialogs(Vec<DialogView>),
    /// What became of a `command::Command::Originate`.
    Originated(Originated),
    Explained(Box<Explanation>),
    Trunks(Vec<TrunkView>),
}

/// A capture file that nobody writes any more, ready for the finalizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureClosed {
    pub call: CallId,
    pub path: PathBuf,
    pub packets: u64,
    pub bytes: u64,
    /// Packets that did not reach the file, and why the last one did not.
    pub lost: u64,
    pub error: Option<String>,
}

/// Something that an operator should read. Shards bound how many they send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub shard: ShardId,
    pub severity: Severity,
    /// Stable word for filters and tests, e.g. `auth_failed`.
    pub code: &'static str,
    pub detail: String,
    /// Notices that were left out since the last one that was sent.
    pub suppressed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Info,
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub change: RegistrationChange,
    pub at: WallMs,
    /// `sip:1001@pbx.com`
    pub aor: String,
    /// The Contact URI as the phone sent it.
    pub contact: String,
    /// Where calls to it really go.
    pub destination: SocketAddr,
    pub transport: Transport,
    pub user_agent: Option<String>,
    pub expires_s: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationChange {
    /// Its time ran out, or its flow closed.
    Offline,
    Registered,
    Unregistered,
}

impl RegistrationChange {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Registered => "registered",
            Self::Unregistered => "unregistered",
        }
    }
}

/// One registered contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingView {
    /// User part of the AOR.
    pub aor: String,
    pub contact: String,
    pub destination: SocketAddr,
    pub transport: Transport,
    pub user_agent: Option<String>,
    pub instance: Option<String>,
    pub path: Vec<String>,
    /// Seconds that are left.
    pub expires_s: u64,
    /// Seconds since it was last refreshed.
    pub age_s: u64,
    pub shard: ShardId,
}

/// What programs that listen hear of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallNews {
    pub call: CallId,
    pub shard: ShardId,
    pub stage: CallStage,
    pub at: WallMs,
    pub caller: String,
    pub callee: String,
    /// As in the call's record.
    pub sip_call_id: String,
    pub direction: Direction,
}

/// In this order, each at most once. A call may end from any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStage {
    Created,
    Ringing,
    Answered,
    Ended {
        reason: HangupReason,
        /// Who hung up, or refused. None: the gateway.
        by: Option<Side>,
        /// What the caller saw as the final status.
        sip_status: u16,
    },
}

#[derive(Clone, Debug, Serialize)]
pub struct CallView {
    pub id: CallId,
    pub shard: ShardId,
    pub caller: String,
    pub callee: String,
    /// SIP Call-ID of the A leg, then of the answered or newest B leg.
    pub sip_call_ids: Vec<String>,
    pub direction: &'static str,
    pub state: CallState,
    pub started_at: WallMs,
    pub answered_at: Option<WallMs>,
    pub legs: u32,
    pub recording: bool,
    /// Caller, callee: put on hold by a program; muted by a program.
    pub held: [bool; 2],
    pub muted: [bool; 2],
    /// Relays open for this call.
    pub relays: u32,
    /// The legs send to each other.
    pub media_past_us: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum CallState {
    Ending,
    Ringing,
    Talking,
}

#[derive(Clone, Debug, Serialize)]
pub struct DialogView {
    pub call: CallId,
    pub shard: ShardId,
    pub side: Side,
    /// `Early`, `Confirmed`, `Terminated`.
    pub state: &'static str,
    pub call_id: String,
    pub local_tag: String,
    pub remote_tag: String,
    pub from: String,
    pub to: String,
    pub remote_target: String,
    pub local_cseq: u32,
    pub remote_cseq: u32,
}
