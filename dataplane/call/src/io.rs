//! The alphabet between the core of a shard and its shell.
//! Owns:  `Input`, `Output`, `MeshMessage`.
//! Gives: one vocabulary for the glommio shell and for the simulator.
//! Never: a socket, a file, a pointer into the core.
//! Holds: an `Output::Relay(Open)` is answered by `RelayOpened` or `RelayRefused`, a `Close` by
//!        `RelayClosed`, each before the next other input when the shell works synchronously.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use media::edit::{RelayEdit, RelayReport};
use media::speakers::SpeechNews;
use shared::command::Command;
use shared::event::Event;
use shared::ids::{CallId, FlowKey, RelayKey, ShardId, Side};
use shared::journal::Entry;
use shared::net::{Destination, Source};
use shared::time::Instant;

pub use crate::loan::Loan;
pub use crate::notifier::dialogs::DialogNews;
pub use crate::toll::{Account, Tally};

/// What the shell knows of a TLS handshake that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFailure {
    pub with: Source,
    /// We connected.
    pub is_ours: bool,
    /// One of a few words.
    pub why: &'static str,
    /// For people; bounded.
    pub detail: String,
}

/// What the shell feeds to the core.
#[derive(Debug)]
pub enum Input<'a> {
    Command(Command),
    /// The flow is gone: closed by the peer, cut by us, or never connected.
    FlowClosed(FlowKey),
    /// A TLS handshake did not come to its end.
    HandshakeFailed(Box<HandshakeFailure>),
    /// Who opened this flow has shown a certificate that we believe, which stands for these names; nothing
    /// came over it before.
    FlowProved {
        from: Source,
        names: Vec<Box<str>>,
    },
    /// The journal goes on in a new segment: calls that stand have to be in it, too.
    JournalTurned,
    /// Of another shard. A shell that looks at a `Message` afterwards feeds it as `Moved`.
    Mesh {
        from: ShardId,
        message: MeshMessage,
    },
    /// A message that another shard received and this one owns.
    Moved {
        from: Source,
        bytes: &'a [u8],
    },
    /// One UDP datagram, or one message cut from a stream by `sip::wire::frame`.
    Received {
        from: Source,
        bytes: &'a [u8],
    },
    RelayClosed(RelayReport),
    RelayOpened(RelayKey),
    /// No port of it could be bound; the core tries another pair or refuses the call.
    RelayRefused(RelayKey),
    /// No media for the time-out in either direction.
    RelaySilent(RelayKey),
    /// What became of something that we say ourselves.
    Speech(SpeechNews),
    /// A message could not be sent: refused, unreachable, no connection, send queue full.
    SendFailed(Destination),
    /// Time passed; call it whenever `deadline()` is reached.
    Timeout,
}

/// What the core wants done.
#[derive(Debug)]
pub enum Output {
    /// Cut this flow.
    CloseFlow(FlowKey),
    /// A message for the ladder of a call that is no `Send` and was not heard in this input: it leaves
    /// through another shard, or passed before the call existed.
    Keep {
        rung: Rung,
        came: bool,
        way: Destination,
        bytes: Rc<Vec<u8>>,
    },
    Event(Event),
    /// To be written before any message that follows leaves: a promise is on the disk before it is made.
    Journal(Entry),
    Mesh {
        to: ShardId,
        message: MeshMessage,
    },
    Relay(RelayEdit),
    /// Send one message. The bytes are shared with the transaction that may send them again.
    Send {
        to: Destination,
        bytes: Rc<Vec<u8>>,
        rung: Option<Rung>,
    },
}

/// Whose message one is: its place in the ladder diagram of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    pub call: CallId,
    /// Of the call's slot: a later tenant has another one.
    pub generation: u32,
    /// The side of the leg that it came from or goes to.
    pub side: Side,
}

/// What one shard says to another.
#[derive(Clone, Debug)]
pub enum MeshMessage {
    /// Who is registered as `aor` (user part)? `ask` comes back with the answer.
    AskBindings {
        ask: u64,
        aor: Box<str>,
        /// Of this phone alone.
        phone: Option<Phone>,
    },
    /// May somebody without credentials call `aor` (user part)? `ask` comes back with the answer.
    AskGuests {
        ask: u64,
        aor: Box<str>,
    },
    /// Messages of this source are to be dropped for a while.
    Banned {
        source: IpAddr,
        time: Duration,
    },
    Bindings {
        ask: u64,
        targets: Vec<BindingTarget>,
    },
    /// About dialogs of a user that somebody watches.
    Dialogs(DialogNews),
    /// A flow of the sending shard is gone; bindings and calls over it end.
    FlowClosed(FlowKey),
    /// Who opened a flow of the sending shard has proved these names.
    FlowProved {
        from: Source,
        names: Vec<Box<str>>,
    },
    Guests {
        ask: u64,
        welcome: bool,
    },
    /// About a leg that one call lends to another.
    Loan(Loan),
    /// A message that the receiving shard owns, where it came from, and since when it has waited.
    Message {
        from: Source,
        bytes: Vec<u8>,
        since: Instant,
    },
    /// This source sends too much: does anybody know it?
    Suspected {
        source: IpAddr,
    },
    /// A message of a leg that has moved to a call of the receiving shard. Its tag still names the shard
    /// that it came to be on, so that it may have moved there first.
    Onward {
        from: Source,
        bytes: Vec<u8>,
    },
    /// What an account has called over trunks on the sending shard. `begun`: calls that have begun since
    /// the last word about it.
    Toll {
        counted: Box<(Account, Tally)>,
        begun: u32,
    },
    /// What the shard that asks this trunk if it is there has found. Said again after every answer.
    TrunkHealth {
        trunk: Box<str>,
        at: SocketAddr,
        is_down: bool,
    },
    /// This source is a trunk's, or has a phone or a call with us.
    Vouched {
        source: IpAddr,
    },
    /// Send this over a flow that the receiving shard owns.
    Send {
        to: Destination,
        bytes: Vec<u8>,
    },
}

impl MeshMessage {
    /// Whether nothing makes its loss good: a word about a leg, or about who opened a flow, is said once,
    /// and there may be no next word about an account.
    pub const fn has_to_arrive(&self) -> bool {
        matches!(self, Self::FlowProved { .. } | Self::Loan(_) | Self::Toll { .. })
    }

    /// A later word to the same shard goes along with this one, which waits: what an account did is said
    /// whole each time.
    ///
    /// # Errors
    /// The later word, where it is about something else.
    pub fn absorb(&mut self, later: Self) -> Result<(), Self> {
        match (self, later) {
            (Self::Toll { counted, begun }, Self::Toll { counted: newer, begun: more })
                if counted.0 == newer.0 =>
            {
                *counted = newer;
                *begun = begun.saturating_add(more);
                Ok(())
            }
            (_, later) => Err(later),
        }
    }
}

/// One phone of a user, as a GRUU names it (RFC 5627).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phone {
    /// By its `+sip.instance`, without quotes and brackets.
    Instance(Box<[u8]>),
    /// By the registration that a temporary one was given for.
    Temporary(u64),
}

/// Where one registered contact is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingTarget {
    /// The Contact URI as registered: it becomes the Request-URI.
    pub uri: Vec<u8>,
    /// Where the REGISTER came from (RFC 5626, NAT), over which listener or flow.
    pub destination: Destination,
    /// Path header values, first hop first (RFC 3327).
    pub path: Vec<Vec<u8>>,
    /// 0..=1000 (RFC 3261 20.10).
    pub q: u16,
}
