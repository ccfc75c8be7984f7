//! What a program may do to a standing call, and what became of it (surface.md section 5).
//! Owns:  `CallName`, `CallAction`, `Acted`, `Refusal`.
//! Gives: the words of `command::Command::Act` and of its one answer.
//! Never: an action without an answer: each ends as done, as refused, or with an unknown call.
//! Holds: `Done` means that it happened on the wire; what was only sent is not done.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::ids::{CallId, Side};
use crate::time::WallMs;

/// How a program names a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallName {
    /// Our id, which says which shard has the call.
    Id(CallId),
    /// The SIP Call-ID of any of its legs: any shard may have it.
    Leg(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallAction {
    /// Answer the caller of a ringing call; the callee goes on ringing and is joined when it answers.
    Accept {
        /// Where the caller's media goes until then; without one, nowhere.
        sdp: Option<Box<str>>,
    },
    /// End the call, ringing or talking.
    HangUp(HangUp),
    /// Tell the phone of `side` that it is on hold, or no more.
    Hold {
        side: Side,
        on: bool,
    },
    /// Press keys towards `side`.
    Keys {
        side: Side,
        keys: Box<str>,
    },
    /// Nothing of what `side` says reaches the other side; its stream goes on where it can.
    Mute {
        side: Side,
        on: bool,
    },
    Play(Play),
    Record(Recording),
    /// End what is played towards these sides.
    StopPlaying {
        towards: [bool; 2],
    },
    /// Somebody else takes the place of the leg on this side; the other leg stays.
    Transfer {
        leaves: Side,
        target: Box<str>,
    },
}

/// Sound that takes the place of what the other side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Play {
    /// Caller, callee.
    pub towards: [bool; 2],
    pub samples: Samples,
    /// Again and again, until it is stopped.
    pub repeat: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    Pause,
    Resume,
    Start,
    Stop,
}

/// Linear samples at 8 kHz, shared by all who hear them.
#[derive(Clone, PartialEq, Eq)]
pub struct Samples(Arc<[i16]>);

impl Samples {
    pub fn new(samples: impl Into<Arc<[i16]>>) -> Self {
        Self(samples.into())
    }

    pub fn as_slice(&self) -> &[i16] {
        &self.0
    }
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Samples({})", self.0.len())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HangUp {
    /// What a caller who still hears it ring is told, and the cause in Reason (RFC 3326).
    pub code: Option<u16>,
    /// For the peers and the CDR.
    pub reason: Option<Box<str>>,
    /// Who wanted it, for the CDR.
    pub by: Box<str>,
}

/// The one answer to an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    Done {
        call: CallId,
        at: WallMs,
    },
    Refused {
        call: CallId,
        why: Refusal,
    },
    /// The shard has no such call.
    UnknownCall,
}

/// Why an action was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is recorded already.
    AlreadyRecording,
    /// Another change of the call is under way, and was for too long.
    Busy,
    /// It ended before the action, or while the action was under way.
    CallEnded,
    /// The phone speaks no codec that we can write, or its media is encrypted.
    CodecUnknown,
    /// Nothing more is recorded until the disk has room.
    DiskFull,
    /// The call has no audio that goes through us.
    NoMedia,
    /// The INVITE carried no offer that could be answered.
    NoOffer,
    /// There is no phone on that side yet.
    NotAnswered,
    /// It was sent, and nobody confirmed it in time.
    NotConfirmed,
    /// The call is not answered, or another change of it is under way.
    NotNow,
    /// The target of a transfer did not take the call: the SIP status that says why.
    TargetFailed(u16),
    /// The target of a transfer is no SIP address.
    TargetUnreadable,
    NotPlaying,
    NotRecording,
    /// It does not ring, or was answered.
    NotRinging,
    /// The phone said no, with this status.
    PeerRefused(u16),
    /// The session description does not read, or does not fit the offer.
    SdpUnusable,
    /// The shard speaks to too many phones already.
    SpeakersFull,
    /// Too many actions of this call wait already.
    TooMany,
}

impl FromStr for CallName {
    type Err = std::convert::Infallible;

    /// 32 hex digits may be our id; any other text is a Call-ID.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ours = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        Ok(match text.parse() {
            Ok(id) if ours => Self::Id(id),
            _ => Self::Leg(text.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_32_hex_digits_are_taken_for_our_id() {
        let name = |text: &str| text.parse::<CallName>().expect("every text is a name");
        let ours = "0191d2a3b4c5070000010123456789ab";
        assert_eq!(name(ours), CallName::Id(ours.parse().expect("an id")));
        for other in ["", "+191d2a3b4c5070000010123456789ab", "a84b4c76e66710@pc33", &ours[1..]] {
            assert_eq!(name(other), CallName::Leg(other.into()));
        }
    }
}
