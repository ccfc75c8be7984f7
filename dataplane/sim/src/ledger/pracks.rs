//! The book of reliable provisional responses: who owes a PRACK, and what must wait for it (RFC 3262).
//! Owns:  each numbered response that crossed the gateway's boundary, until its PRACK did.
//! Gives: breaches: a 2xx before its description was acknowledged, an answered call without a PRACK.
//! Never: a response that no transaction waits for any more.
//! Holds: one PRACK of the gateway for each number of an early dialog, and one more for each time that
//!        a carrier asks who sends it.

use std::collections::{BTreeMap, BTreeSet};

use shared::time::Instant;

use crate::ledger::asks::HOP;
use crate::ledger::{Breach, Verdict};
use crate::speech::glance::Glance;

#[derive(Debug, Default)]
pub(super) struct Pracks {
    /// Sent by the gateway, by Call-ID: the number, and whether its description waits for the PRACK.
    sent: BTreeMap<String, BTreeMap<u32, bool>>,
    /// Heard by the gateway: Call-ID, callee's tag, number.
    owed: BTreeMap<Name, Instant>,
    paid: BTreeSet<Name>,
    /// By branch, and those of them that were asked for credentials: they may come once more.
    asked: BTreeMap<String, Name>,
    challenged: BTreeSet<Name>,
    /// Dialogs that were answered: Call-ID and callee's tag.
    answered: BTreeMap<(String, String), Instant>,
    finals: BTreeSet<String>,
}

type Name = (String, String, u32);

impl Pracks {
    pub(super) fn message_in(&mut self, now: Instant, message: &Glance<'_>) {
        let call_id = message.call_id.to_owned();
        let tag = message.to_tag.unwrap_or_default().to_owned();
        match (message.method, message.status) {
            ("PRACK", None) => {
                let acknowledged = number_in(message, "RAck");
                let sent = self.sent.get_mut(&call_id);
                // It stays known: a repeat of the INVITE gets the same response once more, which
                // waits for nothing then (RFC 3261 17.2.1).
                if let Some(waits) = sent.zip(acknowledged).and_then(|(sent, n)| sent.get_mut(&n)) {
                    *waits = false;
                }
            }
            ("PRACK", Some(401 | 407)) => {
                self.challenged.extend(self.asked.remove(message.branch));
            }
            ("INVITE", Some(101..=199)) if !self.finals.contains(message.branch) => {
                if let Some(rseq) = number_of(message) {
                    self.owed.entry((call_id, tag, rseq)).or_insert(now);
                }
            }
            ("INVITE", Some(status)) if status >= 200 => {
                self.finals.insert(message.branch.to_owned());
                if status < 300 {
                    self.answered.entry((call_id, tag)).or_insert(now);
                }
            }
            _ => {}
        }
    }

    /// `news`: no repeat of a request.
    pub(super) fn message_out(&mut self, message: &Glance<'_>, news: bool) -> Verdict {
        let call_id = message.call_id.to_owned();
        match (message.method, message.status) {
            ("PRACK", None) if news => self.paid(message),
            ("INVITE", Some(101..=199)) => {
                if let Some(rseq) = number_of(message) {
                    let sent = self.sent.entry(call_id).or_default();
                    sent.entry(rseq).or_insert_with(|| message.body.starts_with("v="));
                }
                Ok(())
            }
            ("INVITE", Some(200..=299)) => {
                let waits = |sent: &BTreeMap<u32, bool>| sent.values().any(|waits| *waits);
                match self.sent.get(&call_id).filter(|sent| waits(sent)) {
                    Some(sent) => {
                        Err(Breach::new("answer before PRACK", format!("{call_id}: {sent:?}")))
                    }
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn paid(&mut self, message: &Glance<'_>) -> Verdict {
        let call_id = message.call_id.to_owned();
        let tag = message.to_tag.unwrap_or_default().to_owned();
        let name = (call_id, tag, number_in(message, "RAck").unwrap_or_default());
        let is_first = self.paid.insert(name.clone());
        if !self.owed.contains_key(&name) || !is_first && !self.challenged.remove(&name) {
            return Err(Breach::new("stray PRACK", format!("{name:?}, twice or for nothing")));
        }
        self.asked.insert(message.branch.to_owned(), name);
        Ok(())
    }

    /// A call that was answered has acknowledged all that rang for it. Where both came at once, the
    /// answer may have overtaken the ringing on the way to the call's shard, and ended it.
    pub(super) fn close(&self) -> Verdict {
        let unpaid = self.owed.iter().find(|(name, heard_at)| {
            let answered_at = self.answered.get(&(name.0.clone(), name.1.clone()));
            let in_time = answered_at.is_some_and(|at| *at > **heard_at + HOP);
            in_time && !self.paid.contains(*name)
        });
        match unpaid {
            Some((name, _)) => Err(Breach::new("no PRACK", format!("{name:?} (RFC 3262 4)"))),
            None => Ok(()),
        }
    }
}

/// RSeq of a response that is to be acknowledged.
fn number_of(message: &Glance<'_>) -> Option<u32> {
    let mut options = message.values("Require").flat_map(|value| value.split(','));
    let wanted = options.any(|option| option.trim().eq_ignore_ascii_case("100rel"));
    number_in(message, "RSeq").filter(|_| wanted)
}

fn number_in(message: &Glance<'_>, name: &'static str) -> Option<u32> {
    message.values(name).next()?.split_ascii_whitespace().next()?.parse().ok()
}
