//! What a shard knows of a trunk: who is down, who rests, whether we are registered, how many calls.
//! Owns:  `TrunkView` and its parts.
//! Gives: the answer to `command::Question::Trunks`, for the API to put together.
//! Never: a name or password of the account there.
//! Holds: a registration is in the view of one shard only; calls and rests are each shard's own.

use std::net::SocketAddr;

use serde::Serialize;

use crate::net::Transport;
use crate::time::WallMs;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrunkView {
    pub name: String,
    /// Calls that go out through it and stand.
    pub calls: u32,
    /// `dest`, then `backup_dest`.
    pub destinations: Vec<DestinationView>,
    /// None: it is another shard's, or there is none.
    pub registration: Option<RegistrationView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationView {
    pub address: SocketAddr,
    pub transport: Transport,
    /// It is asked by OPTIONS whether it is there.
    pub is_checked: bool,
    /// It does not answer them.
    pub is_down: bool,
    /// When its answers last changed that, as far as this shard has seen it.
    pub changed_at: Option<WallMs>,
    /// It asked for no calls until then.
    pub rests_until: Option<WallMs>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationView {
    pub state: RegistrationState,
    /// Calls reach us by it until then.
    pub until: Option<WallMs>,
    /// Of the last answer, or lack of one, that was a failure; none since the last success.
    pub status: Option<u16>,
    pub reason: Option<String>,
    /// When `state` last changed.
    pub changed_at: WallMs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrationState {
    /// The carrier did not take it, or it ran out.
    Failed,
    Registered,
    /// The first REGISTER is out, or on its way.
    Trying,
    /// It is being taken back.
    Unregistering,
}

impl RegistrationState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Registered => "registered",
            Self::Trying => "trying",
            Self::Unregistering => "unregistering",
        }
    }
}
