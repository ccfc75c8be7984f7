//! The call detail record: one per call attempt, answered or not (surface.md section 4).
//! Owns:  `Cdr` in the camelCase JSON shape that integrators already read.
//! Gives: durations from the monotonic clock, times for people in UTC.
//! Never: a secret, an SDP body or a key.
//! Holds: `start <= ring <= answer <= end` for those that are there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{CallId, Side};
use crate::sipflow::Place;
use crate::time::WallMs;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cdr {
    /// SIP Call-ID of the A leg.
    pub call_id: String,
    /// Our id of the call: unique, and the name of its files.
    pub session_id: CallId,
    /// User part of From, or the host where it has none.
    pub caller: String,
    /// User part of the Request-URI.
    pub callee: String,
    pub caller_uri: String,
    pub callee_uri: String,
    pub direction: Direction,
    pub status: CallStatus,
    pub start_time: WallMs,
    pub ring_time: Option<WallMs>,
    pub answer_time: Option<WallMs>,
    pub end_time: WallMs,
    /// From answer to end, monotonic; 0 when never answered.
    pub duration_ms: u64,
    /// Final status that the caller saw: 200, or the code of the failure.
    pub status_code: u16,
    pub hangup_reason: HangupReason,
    pub hangup_messages: Vec<HangupMessage>,
    /// SIP Call-ID of every leg and its role, A leg first.
    pub sip_leg_roles: Vec<LegRole>,
    /// What became of legs between the beginning and the end: transfers, trunks that were left.
    #[serde(default)]
    pub leg_timeline: LegTimeline,
    /// Source address of the INVITE.
    pub source_addr: String,
    pub sip_trunk: Option<String>,
    pub outbound_trunk: Option<String>,
    pub user_agent: Option<String>,
    /// Whether a capture was written; the recording follows after hang-up.
    pub recorded: bool,
    pub media_quality: Vec<StreamQuality>,
    pub last_error: Option<LastError>,
    /// The shard that served the call.
    pub shard: u8,
    /// Where the call's messages are found, when they are kept. It means nothing to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_flow: Option<Place>,
    /// What the router said about the call in `extensions`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Inbound,
    Internal,
    Outbound,
}

impl Direction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Internal => "internal",
            Self::Outbound => "outbound",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallStatus {
    Completed,
    Failed,
    Missed,
}

/// Who or what ended the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HangupReason {
    /// It lasted as long as the router allowed.
    Autohangup,
    ByCallee,
    ByCaller,
    /// A leg handed the call to somebody who did not take it, and was gone by then; or it joined the call
    /// with another one of its own, which goes on.
    ByRefer,
    BySystem,
    Canceled,
    Failed,
    NoAnswer,
    Rejected,
    RtpTimeout,
    ServerUnavailable,
    /// The process was killed while the call stood; its end is the last moment that is known.
    SystemCrash,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HangupMessage {
    pub code: u16,
    pub reason: String,
    pub target: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegRole {
    pub call_id: String,
    pub role: Side,
}

/// Oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegTimeline {
    pub events: Vec<LegEvent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegEvent {
    pub timestamp: WallMs,
    /// SIP Call-ID, as in `sipLegRoles`.
    pub leg_id: String,
    pub event_type: LegEventType,
    pub peer_leg_id: Option<String>,
    pub details: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegEventType {
    /// It was called in place of a trunk that did not take the call; the details name its trunk.
    Added,
    /// The call went on to somebody else for a user's forwarding; the details name both and why.
    Forwarded,
    /// It was let go after somebody else took its place, hung up while somebody was to take it, or did
    /// not take the call: the details say why.
    Removed,
    TransferAccepted,
    TransferFailed,
    /// It is to be replaced; the details name by whom.
    Transferred,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    pub code: u16,
    pub reason: String,
}

/// What one side sent us on one media line (RFC 3550 6.4.1, A.3, A.8).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamQuality {
    /// Media line, from 0.
    pub line: u8,
    pub side: Option<Side>,
    pub packets: u64,
    pub bytes: u64,
    /// Expected less received; never negative here.
    pub lost: u64,
    pub jitter_us: u64,
    /// Packets from another address than the latched one.
    pub source_mismatches: u64,
    /// Of `packets`, how many went out on the other side.
    pub forwarded: u64,
}
