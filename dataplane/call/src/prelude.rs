//! INVITEs that were asked for credentials: they are no call yet, but belong in front of the call that
//! they become.
//! Owns:  the exchange of each, for half a minute and as many as `KEPT_MAX`, where the flow is kept.
//! Gives: `poll_earlier` for the shell, in front of the message that made the call.
//! Never: a message of somebody who does not come back with credentials: that one has no call.
//! Holds: a message is given out once, with the time at which it passed.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use shared::net::{Destination, Source};
use shared::time::{Instant, WallMs};
use sip::wire::Message;

use crate::core::Core;
use crate::io::Rung;
use crate::receive::reply_destination;

/// A person may type a password; nobody takes longer than the transaction does (RFC 3261 17.2.1).
const KEPT_FOR: Duration = Duration::from_secs(32);
const KEPT_MAX: usize = 256;
/// INVITE, 407 and ACK, for a first nonce and for two that had run out.
const MESSAGES_MAX: usize = 9;

/// A message that passed before there was a call for it.
#[derive(Debug)]
pub struct Earlier {
    pub rung: Rung,
    pub at: WallMs,
    pub came: bool,
    pub way: Destination,
    pub bytes: Rc<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(crate) struct Preludes {
    /// By Call-ID and From tag.
    kept: FxHashMap<u64, Prelude>,
    /// In the order in which they came.
    ages: VecDeque<(Instant, u64)>,
    earlier: VecDeque<Earlier>,
}

#[derive(Debug)]
struct Prelude {
    since: Instant,
    messages: Vec<(WallMs, bool, Destination, Rc<Vec<u8>>)>,
    /// The call that came of it, when it has been shown: an ACK that was slower is the call's as well.
    shown: Option<Rung>,
}

impl Preludes {
    fn forget_old(&mut self, now: Instant) {
        while let Some((since, hash)) = self.ages.front().copied() {
            if now.since(since) < KEPT_FOR && self.ages.len() <= KEPT_MAX {
                return;
            }
            self.ages.pop_front();
            if self.kept.get(&hash).is_some_and(|prelude| prelude.since == since) {
                self.kept.remove(&hash);
            }
        }
    }
}

impl Core {
    /// What passed before the call of the last input existed, oldest first. To be asked before `heard`.
    pub fn poll_earlier(&mut self) -> Option<Earlier> {
        self.preludes.earlier.pop_front()
    }

    /// An INVITE has got this challenge.
    pub(crate) fn keep_challenged(
        &mut self,
        from: &Source,
        request: &Message<'_>,
        answer: Option<Rc<Vec<u8>>>,
    ) {
        if self.desk.settings.sipflow.is_none() {
            return;
        }
        let Some(response) = answer else { return };
        let (now, hash) = (self.desk.now, self.caller_hash(request));
        let to = reply_destination(request, from);
        let bytes = self.desk.out.write(|bytes| bytes.extend_from_slice(request.bytes()));
        self.preludes.ages.push_back((now.mono, hash));
        self.preludes.forget_old(now.mono);
        let since = now.mono;
        let new = || Prelude { since, messages: Vec::with_capacity(3), shown: None };
        let prelude = self.preludes.kept.entry(hash).or_insert_with(new);
        (prelude.since, prelude.shown) = (since, None);
        if prelude.messages.len() + 2 <= MESSAGES_MAX {
            prelude.messages.push((now.wall, true, from.back(), bytes));
            prelude.messages.push((now.wall, false, to, response));
        }
    }

    /// The ACK of a refusal: a challenge's belongs to what is kept, or to the call that came of it.
    pub(crate) fn keep_ack(&mut self, from: &Source, ack: &Message<'_>) {
        if self.desk.settings.sipflow.is_none() || self.desk.heard.is_some() {
            return;
        }
        let (now, hash) = (self.desk.now, self.caller_hash(ack));
        let Some(prelude) = self.preludes.kept.get_mut(&hash) else { return };
        if prelude.shown.is_some() {
            self.desk.heard = prelude.shown;
        } else if prelude.messages.len() < MESSAGES_MAX {
            let bytes = self.desk.out.write(|bytes| bytes.extend_from_slice(ack.bytes()));
            prelude.messages.push((now.wall, true, from.back(), bytes));
        }
    }

    /// The INVITE came back with credentials and has its call.
    pub(crate) fn show_prelude(&mut self, request: &Message<'_>, rung: Rung) {
        if self.preludes.kept.is_empty() {
            return;
        }
        let (now, hash) = (self.desk.now.mono, self.caller_hash(request));
        let Some(prelude) = self.preludes.kept.get_mut(&hash) else { return };
        if now.since(prelude.since) >= KEPT_FOR {
            return;
        }
        prelude.shown = Some(rung);
        let shown = std::mem::take(&mut prelude.messages)
            .into_iter()
            .map(|(at, came, way, bytes)| Earlier { rung, at, came, way, bytes });
        self.preludes.earlier.extend(shown);
    }
}
