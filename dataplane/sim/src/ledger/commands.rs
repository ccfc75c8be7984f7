//! The book of commands: each act of a program gets its one answer, in time, and a true one.
//! Owns:  every `Command::Act` of a run, with what each asked shard answered.
//! Gives: a breach for an answer too many, too late or missing, and for one that the wire denies.
//! Never: the core's own opinion of a call; legs are what crossed the boundary.
//! Holds: "done" for a hang-up means that the caller and the winner were told to end by then.

use std::collections::{BTreeMap, BTreeSet};

use shared::act::{Acted, CallAction};
use shared::ids::ShardId;
use shared::limits::ACT_WAIT_MAX;
use shared::time::Instant;

use crate::ledger::asks::{HOP, millis};
use crate::ledger::legs::{Leg, Legs};
use crate::ledger::{Breach, Verdict};

#[derive(Debug, Default)]
pub struct Commands {
    by_id: BTreeMap<u64, Asked>,
}

#[derive(Debug)]
struct Asked {
    at: Instant,
    /// SIP Call-ID of the caller's leg.
    call_id: String,
    action: CallAction,
    waits: BTreeSet<ShardId>,
    answers: Vec<(Instant, Acted)>,
}

impl Commands {
    /// A program wants something of a call; these shards were asked.
    pub fn asked(
        &mut self,
        now: Instant,
        call_id: &str,
        action: &CallAction,
        shards: impl Iterator<Item = ShardId>,
    ) -> u64 {
        let id = self.by_id.len() as u64;
        let (call_id, action) = (call_id.to_owned(), action.clone());
        let asked = Asked { at: now, call_id, action, waits: shards.collect(), answers: vec![] };
        self.by_id.insert(id, asked);
        id
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        id: u64,
        shard: ShardId,
        acted: Acted,
    ) -> Verdict {
        let Some(asked) = self.by_id.get_mut(&id) else {
            return Err(Breach::new("stray answer", format!("{id}: {acted:?}")));
        };
        if !asked.waits.remove(&shard) {
            return Err(Breach::new("two answers", format!("{asked:?}: {acted:?}")));
        }
        if now - asked.at > ACT_WAIT_MAX {
            return Err(Breach::new("late answer", format!("{asked:?}: {acted:?}")));
        }
        asked.answers.push((now, acted));
        Ok(())
    }

    pub(super) fn close(&self, legs: &Legs) -> Verdict {
        for asked in self.by_id.values() {
            if !asked.waits.is_empty() {
                return Err(Breach::new("no answer to a command", format!("{asked:?}")));
            }
            let meant = asked.answers.iter().filter(|(_, acted)| *acted != Acted::UnknownCall);
            if meant.count() > 1 {
                return Err(Breach::new("two calls of one name", format!("{asked:?}")));
            }
            for (at, acted) in &asked.answers {
                if matches!(acted, Acted::Done { .. }) {
                    asked.is_true(*at, legs)?;
                }
            }
        }
        Ok(())
    }

    /// How many commands were carried out.
    pub fn done(&self) -> usize {
        let all = self.by_id.values().flat_map(|asked| &asked.answers);
        all.filter(|(_, acted)| matches!(acted, Acted::Done { .. })).count()
    }

    /// Everything that was answered to the command of this number, in order.
    pub fn answers(&self, id: u64) -> impl Iterator<Item = &Acted> {
        self.by_id.get(&id).into_iter().flat_map(|asked| asked.answers.iter().map(|(_, one)| one))
    }
}

impl Asked {
    fn is_true(&self, at: Instant, legs: &Legs) -> Verdict {
        match self.action {
            CallAction::HangUp(_) => self.was_hung_up(at, legs),
            CallAction::Transfer { .. } => self.was_transferred(at, legs),
            // What a muted side says, and what is said to it, is in the books of the phones.
            _ => Ok(()),
        }
    }

    /// Somebody whom we called for it had taken the call by then, and may have gone on in another one.
    fn was_transferred(&self, at: Instant, legs: &Legs) -> Verdict {
        let record = legs.by_call_id.get(&self.call_id).and_then(|leg| leg.record);
        let Some((id, _)) = record else { return Ok(()) };
        let took = |leg: &Leg| {
            let answered = leg.answered.as_ref();
            // Whoever had answered before the program asked did not come for it.
            let in_time = |answered: Instant| self.at <= answered && answered <= at + HOP;
            leg.is_successor && answered.is_some_and(|(answered, _)| in_time(*answered))
        };
        if legs.of_record(id).chain(legs.gone_from(id)).any(took) {
            return Ok(());
        }
        let facts = format!("{self:?} said done at {}: nobody took the call", millis(at));
        Err(Breach::new("untrue answer", facts))
    }

    fn was_hung_up(&self, at: Instant, legs: &Legs) -> Verdict {
        let lie = |what: String| {
            let at = millis(at);
            Err(Breach::new("untrue answer", format!("{self:?} said done at {at}: {what}")))
        };
        let Some(caller) = legs.by_call_id.get(&self.call_id) else {
            return Ok(()); // a call of ours that ended before anybody was called
        };
        // A message of another shard's flow leaves one hop later.
        let in_time = |ended: Option<Instant>| ended.is_some_and(|ended| ended <= at + HOP);
        let stood = |leg: &Leg| leg.answered.as_ref().is_some_and(|(answered, _)| *answered <= at);
        if !caller.is_called() && !stood(caller) {
            let told = caller.last.filter(|(status, _)| *status >= 300).map(|(_, at)| at);
            return if in_time(told) { Ok(()) } else { lie("the caller was not told".to_owned()) };
        }
        let winner = legs.winner(&self.call_id).map(|(_, leg)| leg);
        // A phone that was still ringing is told by CANCEL, when that may be sent.
        let mut standing = [Some(caller), winner].into_iter().flatten().filter(|leg| stood(leg));
        let left = standing.find(|leg| !in_time(leg.ended_at()));
        match left {
            None => Ok(()),
            Some(leg) => lie(format!("its {:?} leg ended at {:?}", leg.side, leg.ended_at())),
        }
    }
}
