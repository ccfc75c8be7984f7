//! Calls to `sips` addresses: no hop that we see may be in the clear (RFC 3261 26.2.2, RFC 5630).
//! Owns:  what such a call keeps away from, for as long as it lasts.
//! Gives: `is_sips`; targets without those that are reached in the clear; whether a leg may join.
//! Never: a promise about hops behind the next one.
//! Holds: an emergency call goes out whatever its address asks for.

use super::{Call, Failure, Target, compose};
use crate::desk::Desk;
use shared::event::Severity;
use shared::net::Destination;
use sip::wire::{Message, Start};

/// Whether an address asks for TLS on the whole way.
pub(crate) fn is_sips(uri: &[u8]) -> bool {
    uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"))
}

/// Whether who sends this request asks for it.
pub(crate) fn asks_tls(request: &Message<'_>) -> bool {
    matches!(request.start(), Start::Request { uri, .. } if is_sips(uri))
}

/// What RFC 5630 7.2.1 calls it.
pub(crate) const REASON: &[u8] = b"SIPS Not Allowed";

impl Call {
    pub(crate) fn drop_in_the_clear(&mut self, desk: &mut Desk) {
        if !self.is_sips && !self.changes.is_sips {
            return;
        }
        if !self.source.transport.is_secure() {
            // By whatever rule or program it got here.
            self.targets.clear();
            let uri = self.callee_uri.clone();
            return self.note_failure(Failure::ours(416, uri));
        }
        let targets = std::mem::take(&mut self.targets);
        self.targets = self.kept_secure(desk, targets);
    }

    /// Those of the targets that are reached over TLS; the others leave their failure.
    pub(crate) fn kept_secure(&mut self, desk: &mut Desk, targets: Vec<Target>) -> Vec<Target> {
        let (kept, others): (Vec<_>, Vec<_>) =
            targets.into_iter().partition(|target| target.way.transport.is_secure());
        for target in others {
            let (id, uri) = (self.id, compose::readable(&target.uri));
            let word = target.way.transport.via_word();
            desk.notice(Severity::Info, "target_in_the_clear", || {
                format!("call {id} asks for TLS, and {uri} is reached over {word}")
            });
            self.note_failure(Failure { reason: REASON.to_vec(), ..Failure::ours(480, uri) });
        }
        kept
    }

    /// Whether a leg that is reached by `comes` may talk with leg `stays`. `asks`: it brings the wish
    /// for TLS with it.
    pub(crate) fn admits_way(&self, comes: &Destination, stays: u8, asks: bool) -> bool {
        let is_secure = |way: &Destination| way.transport.is_secure();
        let both = || is_secure(comes) && self.leg(stays).is_some_and(|leg| is_secure(&leg.way));
        !(self.is_sips || asks) || both()
    }
}
