//! Programs that act on calls: which call is meant, and that each act gets its one answer.
//! Owns:  the way of a `Command::Act` to its call.
//! Gives: `Core::act`; the answer leaves as `Answer::Acted`.
//! Never: decides what an act does; that is `b2bua/acts.rs`.
//! Holds: an act is answered at once, or kept by its call, which answers it before it goes.

use shared::act::{Acted, CallAction, CallName};
use shared::event::{Answer, Event};
use shared::ids::CallId;
use shared::metrics::Counter;

use crate::b2bua::{Call, Leg};
use crate::core::Core;
use crate::desk::Desk;
use crate::slots::Key;

impl Core {
    pub(crate) fn act(&mut self, id: u64, name: &CallName, action: CallAction) {
        let Some(key) = self.find_call(name) else {
            return answer(&mut self.desk, id, Acted::UnknownCall);
        };
        if let CallAction::Transfer { leaves, target } = &action {
            return self.transfer_for_program(id, key, *leaves, target);
        }
        self.with_call(Some(key), |call, desk, _| call.act(desk, id, action));
    }

    fn find_call(&self, name: &CallName) -> Option<Key> {
        match name {
            CallName::Id(id) => self.call_by_id(*id),
            CallName::Leg(call_id) => self.call_by_leg(call_id.as_bytes()),
        }
    }

    fn call_by_id(&self, id: CallId) -> Option<Key> {
        let (key, call) = self.calls.at(id.slot())?;
        (call.id == id).then_some(key)
    }

    /// The Call-IDs that we mint for B legs start with the call's id. What callers minted is looked
    /// for call by call: a table of it would cost every call, for the few that are acted on by it.
    /// Two calls keep a leg that is on loan or has moved: it is the name of one of them only.
    fn call_by_leg(&self, call_id: &[u8]) -> Option<Key> {
        let is_it = |leg: &Leg| leg.dialog.call_id == call_id && leg.is_at_home();
        let has = |call: &Call| call.legs.iter().any(is_it);
        let ours = call_id.get(..32).and_then(|digits| std::str::from_utf8(digits).ok());
        let ours = ours.and_then(|digits| digits.parse().ok()).and_then(|id| self.call_by_id(id));
        if let Some(key) = ours.filter(|key| self.calls.find(*key).is_some_and(has)) {
            return Some(key);
        }
        self.calls.iter().find(|(_, call)| has(call)).map(|(key, _)| key)
    }
}

pub(crate) fn answer(desk: &mut Desk, id: u64, acted: Acted) {
    desk.count(match acted {
        Acted::Done { .. } => Counter::ActsDone,
        Acted::Refused { .. } | Acted::UnknownCall => Counter::ActsRefused,
    });
    let shard = desk.settings.shard;
    desk.out.event(Event::Answer { id, shard, answer: Answer::Acted(acted) });
}
