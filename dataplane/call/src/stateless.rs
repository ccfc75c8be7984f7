//! Refusals, and answers to OPTIONS, that leave nothing behind: no transaction, no timer, no repeat to a
//! source that may be forged (RFC 3261 8.2.7).
//! Owns:  the rule which answers are forgotten once they have left.
//! Gives: `is_forgotten` for an answer; `Desk::answer_once`; `is_ack_of_refusal` for what comes back.
//! Never: forgets what belongs to a call, or an answer that a repeat of the request would not get again.
//! Holds: a lost challenge is repaired by the phone, which repeats its request: the same To tag, and a
//!        challenge as good as the first one.

use std::rc::Rc;

use sip::wire::{HeaderName, Message, Method};

use crate::core::Core;
use crate::desk::{Desk, response_class};
use crate::mint;
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
    /// The ACK of a refusal that was forgotten carries the tag that only we could have given it.
    pub(crate) fn is_ack_of_refusal(&self, ack: &Message<'_>) -> bool {
        let tag = ack.to().ok().and_then(|to| to.tag());
        let hash = self.desk.transactions.server_hash(ack, Method::Invite);
        let own = mint::refusal_tag(self.desk.settings.shard, hash);
        tag.is_some_and(|tag| tag == own.as_bytes())
    }
}
