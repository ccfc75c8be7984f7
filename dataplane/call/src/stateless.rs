//! Refusals, and answers to OPTIONS, that leave nothing behind: no transaction, no timer, no repeat to a
//! source that may be forged (RFC 3261 8.2.7).
//! Owns:  the rule which answers are forgotten once they have left.
//! Gives: `is_forgotten` for an answer; `Desk::answer_once`; `refuse_stateless`; `ends_refusal` for the
//!        ACK that comes back.
//! Never: forgets what belongs to a call, or an answer that a repeat of the request would not get again.
//! Holds: a lost challenge is repaired by the phone, which repeats its request: the same To tag, and a
//!        challenge as good as the first one.

use std::rc::Rc;

use shared::metrics::Counter;
use shared::net::Source;
use sip::wire::{HeaderName, Message, Method, reply};

use crate::core::Core;
use crate::desk::{Desk, response_class};
use crate::gate;
use crate::mint;
use crate::receive::reply_destination;
use crate::transactions::{Server, ServerKey};

/// A refusal of an INVITE would be repeated eleven times to wherever its source says it is (Timer G),
/// and every challenge would take 32 s of memory. So what is refused before anything came of it is
/// said once. A phone that has heard a provisional response repeats nothing: then we have to.
pub(crate) fn is_forgotten(server: &Server, request: &Message<'_>, status: u16) -> bool {
    let is_alone = server.call.is_none() && server.rung.is_none() && server.response.is_none();
    // Whether we are there may be asked, and answered, any number of times.
    if request.method() == Method::Options && status >= 200 {
        return is_alone;
    }
    if status < 300 || !is_alone {
        return false;
    }
    let shows = |name| request.first(name).is_some();
    // Whose credentials were refused has used them up: the transaction answers its repeats.
    request.method() == Method::Invite
        || matches!(status, 401 | 407)
        || !(shows(HeaderName::Authorization) || shows(HeaderName::ProxyAuthorization))
}

impl Desk {
    /// Sends this answer, and forgets the request.
    pub(crate) fn answer_once(&mut self, key: ServerKey, status: u16, answer: Rc<Vec<u8>>) {
        let Some(server) = self.transactions.remove_server(key) else { return };
        self.count(response_class(status));
        self.out.send(server.reply_to, answer, None);
    }
}

impl Core {
    /// The ACK of a refusal that was forgotten: it carries the tag that only we could have given it, and
    /// nothing else of it is looked at.
    pub(crate) fn ends_refusal(&mut self, from: &Source, ack: &Message<'_>) -> bool {
        let tag = ack.to().ok().and_then(|to| to.tag());
        let Some(tag) = tag.filter(|tag| mint::is_stray(tag)) else { return false };
        let hash = self.desk.transactions.server_hash(ack, Method::Invite);
        let is_its = tag == mint::refusal_tag(self.desk.settings.shard, hash)
            && self.desk.transactions.server_by_hash(hash).is_none();
        if is_its {
            self.keep_ack(from, ack);
        }
        is_its
    }

    /// An answer without a transaction: for what is too broken, or too much, to keep. `hash`: of the
    /// request, where it is known; each repeat then gets the same tag (RFC 3261 8.2.7).
    pub(crate) fn refuse_stateless(
        &mut self,
        from: &Source,
        request: &Message<'_>,
        hash: Option<u128>,
        status: u16,
    ) {
        let hash = hash.unwrap_or_else(|| u128::from(self.desk.mint.random()));
        let tag = mint::refusal_tag(self.desk.settings.shard, hash);
        let to = reply_destination(request, from);
        self.desk.count(response_class(status));
        let mut wait = None;
        if status == 503 {
            self.desk.count(Counter::OverloadRefused);
            wait = Some(gate::spread_wait(&mut self.desk));
        }
        let bytes = self.desk.out.write(|bytes| {
            let mut out = reply(bytes, request, status, Some(&tag), from.peer);
            if let Some(wait) = wait {
                out.header_fmt("Retry-After", format_args!("{wait}"));
            }
            out.end();
        });
        self.desk.out.send(to, bytes, None);
    }
}
