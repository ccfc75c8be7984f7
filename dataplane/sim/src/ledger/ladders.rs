//! Whose message is whose: the ladder of a call, as the core tells it.
//! Owns:  which call the messages of each Call-ID were said to belong to.
//! Gives: a breach for a Call-ID of two calls, or a leg of a record that had no message.
//! Never: the order of messages; tests look at that.
//! Holds: every leg that a record names is in the ladder of its call, and in no other, unless calls
//!        were joined.

use std::collections::{BTreeSet, HashMap};

use call::io::Rung;
use shared::cdr::Cdr;
use shared::ids::CallId;

use super::{Breach, Verdict};
use crate::speech::glance::Glance;

#[derive(Debug, Default)]
pub(crate) struct Ladders {
    by_call_id: HashMap<String, BTreeSet<CallId>>,
    /// A phone has asked for two calls to be joined: from then on a leg may change its call.
    joins: bool,
}

impl Ladders {
    pub(crate) fn passed(&mut self, rung: Rung, message: &[u8]) -> Verdict {
        let Some(glance) = Glance::read(message) else { return Ok(()) };
        let call_id = glance.call_id;
        self.joins |= glance.is_request("REFER") && message.windows(9).any(|at| at == b"Replaces=");
        let known = self.by_call_id.entry(call_id.to_owned()).or_default();
        known.insert(rung.call);
        if known.len() == 1 || self.joins {
            return Ok(());
        }
        let facts = format!("{call_id} belongs to {known:?}");
        Err(Breach::new("ladder of another call", facts))
    }

    pub(crate) fn ended(&self, record: &Cdr) -> Verdict {
        for leg in &record.sip_leg_roles {
            let known = self.by_call_id.get(&leg.call_id);
            if !known.is_some_and(|calls| calls.contains(&record.session_id)) {
                let facts = format!("{} of {} has no message", leg.call_id, record.session_id);
                return Err(Breach::new("ladder without a leg", facts));
            }
        }
        Ok(())
    }
}
