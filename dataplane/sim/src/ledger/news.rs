//! The book of news: what listening programs hear of a call, stage by stage.
//! Owns:  the stages that were told of each call.
//! Gives: breaches of their order, and of their agreement with the records.
//! Never: proof of anything else: news may be left out while the control plane is behind.
//! Holds: in the simulator nobody is behind, so every call is told from its start to its end.

use std::collections::BTreeMap;

use shared::cdr::{Cdr, HangupReason};
use shared::event::{CallNews, CallStage};
use shared::ids::CallId;

use crate::ledger::{Breach, Verdict};

#[derive(Debug, Default)]
pub(super) struct News {
    by_call: BTreeMap<CallId, Told>,
}

#[derive(Debug, Default)]
struct Told {
    rang: bool,
    answered: bool,
    ended: Option<(HangupReason, u16)>,
}

impl News {
    pub(super) fn heard(&mut self, news: &CallNews) -> Verdict {
        let stage = news.stage;
        let wrong = || Err(Breach::new("news", format!("{}: {stage:?} out of turn", news.call)));
        if stage == CallStage::Created {
            let known = self.by_call.insert(news.call, Told::default());
            return if known.is_some() { wrong() } else { Ok(()) };
        }
        let Some(told) = self.by_call.get_mut(&news.call) else { return wrong() };
        let in_turn = told.ended.is_none()
            && match stage {
                CallStage::Created => false,
                CallStage::Ringing => !std::mem::replace(&mut told.rang, true) && !told.answered,
                CallStage::Answered => !std::mem::replace(&mut told.answered, true),
                CallStage::Ended { reason, sip_status, .. } => {
                    told.ended = Some((reason, sip_status));
                    true
                }
            };
        if in_turn { Ok(()) } else { wrong() }
    }

    /// What was told of a call is what its record says.
    pub(super) fn close<'a>(&self, records: impl Iterator<Item = &'a Cdr>) -> Verdict {
        for record in records {
            let told = self.by_call.get(&record.session_id);
            let agrees = told.is_some_and(|told| {
                let Some((reason, status)) = told.ended else { return false };
                let answered = record.answer_time.is_some();
                told.answered == answered
                    && reason == record.hangup_reason
                    && (answered || status == record.status_code)
            });
            if !agrees {
                let facts = format!("{}: told {told:?}, recorded {record:?}", record.session_id);
                return Err(Breach::new("news", facts));
            }
        }
        Ok(())
    }
}
