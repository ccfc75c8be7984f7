//! What people and programs see of a standing call.
//! Owns:  `CallView` and `DialogView` as the API shows them.
//! Gives: copies; nothing in a view refers back into the call.
//! Never: a secret or an SDP.
//! Holds: ids in a view are the ones of the CDR that follows.

use shared::event::{CallState, CallView, DialogView};
use shared::ids::{ShardId, Side};

use super::compose::readable;
use super::recording::Recorded;
use super::{Call, LegState, State};

impl Call {
    pub(crate) fn view(&self, shard: ShardId) -> CallView {
        let callee = self
            .joined_on(Side::Callee)
            .or_else(|| self.legs.iter().rfind(|leg| leg.side == Side::Callee));
        let named = self.caller_leg().into_iter().chain(callee);
        let call_ids = named.map(|leg| readable(&leg.dialog.call_id)).collect();
        CallView {
            id: self.id,
            shard,
            caller: self.caller.clone(),
            callee: self.callee.clone(),
            sip_call_ids: call_ids,
            direction: self.direction.as_str(),
            state: match self.state {
                State::Ending => CallState::Ending,
                State::Talking => CallState::Talking,
                State::Deciding | State::Locating | State::Opening | State::Ringing => {
                    CallState::Ringing
                }
            },
            started_at: self.started.wall,
            answered_at: self.answered.map(|at| at.wall),
            legs: count(self.legs.iter().filter(|leg| leg.state != LegState::Ended).count()),
            recording: self.media.recorded == Recorded::Now,
            held: Side::BOTH.map(|side| self.joined_on(side).is_some_and(|leg| leg.held)),
            muted: self.media.muted,
            relays: count(self.media.open),
            media_past_us: self.media.past_us,
        }
    }

    pub(crate) fn dialog_views(&self, shard: ShardId) -> impl Iterator<Item = DialogView> + '_ {
        self.legs.iter().map(move |leg| DialogView {
            call: self.id,
            shard,
            side: leg.side,
            state: leg.dialog.state.as_str(),
            call_id: readable(&leg.dialog.call_id),
            local_tag: leg.dialog.local_tag.clone(),
            remote_tag: readable(&leg.dialog.remote_tag),
            from: readable(&leg.dialog.local_party),
            to: readable(&leg.dialog.remote_party),
            remote_target: readable(&leg.dialog.remote_target),
            local_cseq: leg.dialog.local_cseq,
            remote_cseq: leg.dialog.remote_cseq.unwrap_or_default(),
        })
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
