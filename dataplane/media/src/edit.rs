//! Edits of the media plane: what signalling asks of relays between two packets.
//! Owns:  `RelayEdit`, `Remote`, `Mute`, `Say`, `LocalPair`, `RelayReport`.
//! Gives: values that the shell applies to sockets and to `relay::Relays`.
//! Never: an edit per packet.
//! Holds: `Open` comes before any other edit of its relay, `Close` after all of them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use shared::cdr::StreamQuality;
use shared::event::CaptureClosed;
use shared::ids::{CallId, RelayKey, Side};

use crate::speech::Speech;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayEdit {
    Close(RelayKey),
    /// `side` hears nothing of us any more. Answered by the end of the speech, if there was one.
    Hush {
        relay: RelayKey,
        side: Side,
    },
    /// What becomes of what `side` says.
    Mute {
        relay: RelayKey,
        side: Side,
        mute: Mute,
    },
    /// Bind four ports, one pair facing each side. Answered by opened or refused.
    Open {
        relay: RelayKey,
        local: [LocalPair; 2],
    },
    /// Append every forwarded packet of this relay to the call's capture file.
    /// The first `Record` of a call creates the file; further relays of the call share it.
    Record {
        relay: RelayKey,
        call: CallId,
        line: u8,
        path: PathBuf,
    },
    /// What this relay hears is left out of the capture, or no more.
    RecordPause {
        relay: RelayKey,
        line: u8,
        paused: bool,
    },
    /// `side` hears this instead of the other side. Answered when it begins and when it ends.
    Say {
        relay: RelayKey,
        side: Side,
        say: Box<Say>,
    },
    /// What the newest SDP of `side` says about where it receives and what it may send.
    Remote {
        relay: RelayKey,
        side: Side,
        remote: Remote,
    },
    /// How long this relay may be without a packet; zero switches it off. Instead of the setting.
    Timeout {
        relay: RelayKey,
        rtp_timeout: Duration,
    },
}

/// The ports that face one side. RTP is even, RTCP the odd one above (RFC 3550 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalPair {
    /// The address to bind; the unspecified address binds all of its family.
    pub ip: IpAddr,
    pub rtp_port: u16,
}

impl LocalPair {
    pub const fn rtcp_port(self) -> u16 {
        self.rtp_port + 1
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    pub rtp: SocketAddr,
    /// `a=rtcp`, or RTP plus one, or RTP itself under rtcp-mux (RFC 5761).
    pub rtcp: SocketAddr,
    /// This side's SDP lets it send to us (sendrecv, sendonly): else its RTP is dropped and counted.
    pub may_send: bool,
    /// This side's SDP lets us send to it (sendrecv, recvonly).
    pub may_receive: bool,
    /// A program has put this side on hold: whatever the SDP says, nothing of it reaches the other
    /// side, and nothing of the other side reaches it.
    pub held: bool,
    /// The address changed by signalling: forget what was latched and learn again.
    pub relearn: bool,
}

/// What becomes of the sound of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mute {
    /// Its packets stay away: the payload is encrypted, so nothing can be put in its place.
    Drop,
    #[default]
    Off,
    /// Silence takes the place of its payload, so that the stream goes on; packets of a codec whose
    /// silence is not known stay away.
    Silence,
}

/// A speech of the gateway's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Say {
    /// Comes back with every news of it.
    pub token: u64,
    /// Names of the stream, where there is none that it can go into.
    pub seed: u64,
    pub speech: Speech,
}

/// What a relay has seen, given once when it closes.
#[derive(Clone, Debug)]
pub struct RelayReport {
    pub relay: RelayKey,
    /// What the caller sent, then what the callee sent. `line` and `side` are filled in.
    pub streams: [StreamQuality; 2],
    /// Set when this relay was the last one of a recorded call.
    pub capture: Option<CaptureClosed>,
}
