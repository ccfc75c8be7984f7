//! Why a leg is released, in the words of RFC 3326: the peer's own, else ours (RFC 3398, RFC 6432).
//! Owns:  the Q.850 cause of a status, and of an end that is our own doing.
//! Gives: Reason for BYE and CANCEL, and for the final answer to who called us.
//! Never: a word of ours where the peer has given one.
//! Holds: what crosses has no control character and a bounded length.

use shared::cdr::HangupReason;
use sip::wire::{HeaderName, Message};

use super::compose::readable;
use super::parting::parting_of;
use super::{Call, Failure};

/// Reasons of one message that cross: one per protocol is what RFC 3326 has.
const REASONS_MAX: usize = 4;

/// The Reason of a message, as one line; `None` where it has none.
pub(crate) fn cause_of(message: &Message<'_>) -> Option<Box<str>> {
    message.first(HeaderName::Reason)?;
    let values = message.values(HeaderName::Reason).take(REASONS_MAX).map(readable);
    Some(values.collect::<Vec<_>>().join(", ").into())
}

impl Call {
    /// A request that may end the call says why.
    pub(crate) fn hear_cause(&mut self, request: &Message<'_>) {
        if self.ended.is_none() {
            self.cause = cause_of(request);
            self.parting = parting_of(request);
        }
    }

    /// It has not ended the call.
    pub(crate) fn forget_cause(&mut self) {
        if self.ended.is_none() {
            self.cause = None;
            self.parting = None;
        }
    }

    /// Reason of our BYE and CANCEL. Empty where there is nothing to say beyond that it ends.
    pub(crate) fn release_cause(&self) -> String {
        let by_program = self.hang_up_cause();
        if !by_program.is_empty() {
            return by_program;
        }
        if let Some(heard) = &self.cause {
            return heard.to_string();
        }
        let own = self.ended.and_then(|ended| match ended.reason {
            // Recovery on timer expiry; temporary failure.
            HangupReason::Autohangup | HangupReason::RtpTimeout => Some(102),
            HangupReason::BySystem | HangupReason::ServerUnavailable => Some(41),
            _ => None,
        });
        own.map(|cause| format!("Q.850;cause={cause}")).unwrap_or_default()
    }

    /// Reason of the final failure that the inviter hears: that of who was called; for a trunk else
    /// the cause that its network knows for the status.
    pub(crate) fn failure_cause(&self, failure: Option<&Failure>, status: u16) -> Option<String> {
        if status == 487 {
            return None; // the caller's own doing
        }
        if let Some(heard) = failure.and_then(|failure| failure.cause.as_deref()) {
            return Some(heard.to_owned());
        }
        let cause = q850_of(status).filter(|_| self.inbound_trunk.is_some())?;
        Some(format!("Q.850;cause={cause}"))
    }
}

/// RFC 3398 8.2.6.1. A 487 answers a CANCEL, which needs no cause.
const fn q850_of(status: u16) -> Option<u8> {
    Some(match status {
        400 | 481 | 500 | 503 => 41,
        401 | 402 | 403 | 407 | 603 => 21,
        404 | 485 | 604 => 1,
        405 => 63,
        406 | 415 | 501 => 79,
        408 | 504 => 102,
        410 => 22,
        413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => 127,
        480 => 18,
        482 | 483 => 25,
        484 => 28,
        486 | 600 => 17,
        488 | 606 => 88,
        502 => 38,
        _ => return None,
    })
}
