//! The four transaction machines of RFC 3261 17 with the corrections of RFC 6026.
//! Owns:  the words that all four share: inputs, outputs, outcomes.
//! Gives: one type per machine, each with `handle_input`, `poll_output`, `deadline`.
//! Never: stores a message, matches one to a transaction, sends a 100 (Trying): the core does.
//! Holds: drain `poll_output` after every input; nothing follows `Finished`.

pub mod invite_client;
pub mod invite_server;
pub mod non_invite_client;
pub mod non_invite_server;
pub mod timers;
#[cfg(test)]
pub(crate) mod trace;

pub use invite_client::InviteClient;
pub use invite_server::InviteServer;
pub use non_invite_client::NonInviteClient;
pub use non_invite_server::NonInviteServer;
pub use timers::Timers;

/// What happens to a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientInput {
    /// A response with this status matched (RFC 3261 17.1.3).
    Response(u16),
    /// Time passed; early ones do no harm.
    Timeout,
    /// The request could not be sent (RFC 3261 17.1.4).
    TransportFailed,
}

/// What a client transaction wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientOutput {
    /// Pass the response that came in to the transaction's user.
    Deliver(u16),
    /// The last output: forget the machine.
    Finished(Outcome),
    /// Send the request, for the first time or again.
    Send,
    /// INVITE only: send the ACK for the 300-699 response (RFC 3261 17.1.1.3).
    SendAck,
}

/// What happens to a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerInput {
    /// The ACK for a 300-699 response to an INVITE.
    Ack,
    /// The request again.
    Request,
    /// The user gave a response with this status; the table stores its bytes.
    Respond(u16),
    /// Time passed; early ones do no harm.
    Timeout,
    /// The response could not be sent (RFC 3261 17.2.4).
    TransportFailed,
}

/// What a server transaction wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerOutput {
    /// The last output: forget the machine.
    Finished(Outcome),
    /// Send the stored response, for the first time or again.
    Send,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A final response came, or ours was taken.
    Answered,
    /// No final response in time (Timers B, F), or no ACK for ours (Timer H).
    TimedOut,
    TransportFailed,
}

/// The outputs of one input in their order: no edge of any machine has more than two.
#[derive(Debug)]
struct Outputs<T>([Option<T>; 2]);

impl<T> Outputs<T> {
    const fn first(output: T) -> Self {
        Self([Some(output), None])
    }

    const fn none() -> Self {
        Self([None, None])
    }

    fn push(&mut self, output: T) {
        let free = self.0.iter_mut().find(|slot| slot.is_none());
        *free.expect("poll_output must be drained after every input") = Some(output);
    }

    fn take_first(&mut self) -> Option<T> {
        let first = self.0[0].take();
        self.0.swap(0, 1);
        first
    }
}
