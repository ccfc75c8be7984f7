//! What programs that listen hear of a call: that it came to be, rang, was answered, ended.
//! Owns:  `Call::tell`.
//! Gives: one event per stage, each stage once.
//! Never: anything per packet or per message. Not durable: the record of a call is in the journal.
//! Holds: news gives way: while the control plane is behind, none is added to what it has to read.

use shared::cdr::HangupReason;
use shared::event::{CallNews, CallStage, Event};
use shared::ids::Side;
use shared::limits;
use shared::metrics::Counter;

use super::{Call, Ended, compose::readable};
use crate::desk::Desk;

impl Call {
    pub(crate) fn tell(&self, desk: &mut Desk, stage: CallStage) {
        let waiting = desk.out.counters.of(Counter::EventBacklog);
        if waiting >= limits::NEWS_BACKLOG_MAX as u64 {
            desk.count(Counter::CallNewsDropped);
            return;
        }
        let news = CallNews {
            call: self.id,
            shard: desk.settings.shard,
            stage,
            at: desk.now.wall,
            caller: self.caller.clone(),
            callee: self.callee.clone(),
            // As in the record: a call without a leg has the name that its first one will have.
            sip_call_id: self
                .caller_leg()
                .map_or_else(|| self.leg_call_id(0), |leg| readable(&leg.dialog.call_id)),
            direction: self.direction,
        };
        desk.out.event(Event::Call(Box::new(news)));
    }
}

impl Ended {
    pub(crate) fn stage(&self) -> CallStage {
        let by = match self.reason {
            HangupReason::ByCaller | HangupReason::Canceled => Some(Side::Caller),
            HangupReason::ByCallee | HangupReason::Rejected => Some(Side::Callee),
            HangupReason::Autohangup
            | HangupReason::ByRefer
            | HangupReason::BySystem
            | HangupReason::Failed
            | HangupReason::NoAnswer
            | HangupReason::RtpTimeout
            | HangupReason::ServerUnavailable
            | HangupReason::SystemCrash => None,
        };
        CallStage::Ended { reason: self.reason, by, sip_status: self.status }
    }
}
