//! The book of wishes: calls that programs asked for, which we make ourselves (RFC 3725 4).
//! Owns:  each wish and the id that it was answered with.
//! Gives: the side of a leg that we call for one; breaches between a wish, its legs and its record.
//! Never: a call that somebody else made.
//! Holds: a wish that was granted has one record, whatever became of the call.

use std::collections::BTreeMap;

use shared::cdr::{Cdr, HangupReason};
use shared::ids::{CallId, Side};
use shared::originate::{Originate, Originated};

use crate::ledger::legs::{Leg, Legs};
use crate::ledger::{Breach, Verdict};
use crate::speech::glance::{Glance, uri_of, user_of};

#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Asked, and not answered yet.
    asked: Option<Wish>,
    granted: BTreeMap<CallId, Wish>,
}

/// The user parts of both parties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) first: String,
    pub(super) second: String,
}

impl Wishes {
    pub(super) fn wished(&mut self, wanted: &Originate) {
        let user = |text: &str| if text.contains(':') { user_of(text) } else { text }.to_owned();
        self.asked = Some(Wish { first: user(&wanted.from), second: user(&wanted.to) });
    }

    pub(super) fn answered(&mut self, said: Originated) -> Verdict {
        let Some(wish) = self.asked.take() else {
            return Err(Breach::new("wish", format!("{said:?} answers nothing that was asked")));
        };
        if let Originated::Started(id) = said {
            self.granted.insert(id, wish);
        }
        Ok(())
    }

    pub(super) fn find(&self, id: CallId) -> Option<&Wish> {
        self.granted.get(&id)
    }

    /// For an INVITE that we send for a wish: the caller's side when it goes to the first party.
    pub(super) fn side_of(&self, message: &Glance<'_>) -> Option<Side> {
        let (id, _) = message.call_id.split_once('.')?;
        let wish = self.find(id.parse().ok()?)?;
        let called = user_of(uri_of(message.to));
        // A rule may have written the first party's number anew.
        let is_first = called == wish.first || called != wish.second;
        Some(if is_first { Side::Caller } else { Side::Callee })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = CallId> {
        self.granted.keys().copied()
    }
}

/// What the wire showed of a call of ours against its record; `leg` is the first party's that it is
/// named after.
pub(super) fn compare(record: &Cdr, wish: &Wish, leg: &Leg, legs: &Legs) -> Verdict {
    let wrong = |facts: String| {
        Err(Breach::new("record", format!("{} (wish): {facts}", record.session_id)))
    };
    let parties = (record.caller.as_str(), record.callee.as_str());
    if parties != (wish.first.as_str(), wish.second.as_str()) {
        return wrong(format!("{parties:?} in the record, {wish:?}"));
    }
    if record.answer_time.is_some() {
        let second = legs.second_answered(&record.call_id, record.session_id);
        if leg.answered.is_none() || second.is_none() || record.status_code != 200 {
            return wrong(format!("answered with {} in the record", record.status_code));
        }
        return Ok(());
    }
    let heard = || legs.of_record(record.session_id).filter_map(|leg| leg.last.map(|(s, _)| s));
    let gave_up = leg.byes.iter().any(|bye| bye.incoming && bye.accepted);
    let code = record.status_code;
    match record.hangup_reason {
        HangupReason::Canceled if gave_up && code == 487 => Ok(()),
        HangupReason::Rejected if heard().any(|status| status == code) => Ok(()),
        HangupReason::Rejected | HangupReason::Canceled => {
            wrong(format!("{:?} with {code}, and nobody said so", record.hangup_reason))
        }
        _ if (300..700).contains(&code) => Ok(()),
        _ => wrong(format!("never answered, and {code}")),
    }
}
