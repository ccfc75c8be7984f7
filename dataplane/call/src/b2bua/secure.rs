//! Calls to `sips` addresses: no hop that we see may be in the clear (RFC 3261 26.2.2, RFC 5630).
//! Owns:  what such a call keeps away from.
//! Gives: `is_sips`; targets without those that are reached in the clear.
//! Never: a promise about hops behind the next one.
//! Holds: an emergency call goes out whatever its address asks for.

use super::{Call, Failure, compose};
use crate::desk::Desk;
use shared::event::Severity;

/// Whether an address asks for TLS on the whole way.
pub(crate) fn is_sips(uri: &[u8]) -> bool {
    uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"))
}

/// What RFC 5630 7.2.1 calls it.
const REASON: &[u8] = b"SIPS Not Allowed";

impl Call {
    pub(crate) fn drop_in_the_clear(&mut self, desk: &mut Desk) {
        if !self.is_sips {
            return;
        }
        if !self.source.transport.is_secure() {
            // By whatever rule or program it got here.
            self.targets.clear();
            let uri = self.callee_uri.clone();
            return self.note_failure(Failure::ours(416, uri));
        }
        let (kept, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.targets)
            .into_iter()
            .partition(|target| target.way.transport.is_secure());
        self.targets = kept;
        for target in others {
            let (id, uri) = (self.id, compose::readable(&target.uri));
            let word = target.way.transport.via_word();
            desk.notice(Severity::Info, "target_in_the_clear", || {
                format!("call {id} asks for TLS, and {uri} is reached over {word}")
            });
            self.note_failure(Failure { reason: REASON.to_vec(), ..Failure::ours(480, uri) });
        }
    }
}
