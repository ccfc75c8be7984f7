//! Standing calls written down again when the journal goes on in a new segment.
//! Owns:  the round through the calls, share by share, so that no turn of the shard is long.
//! Gives: old segments that can go: each standing call's start is in a newer one.
//! Never: a call that has ended, or whose start is in the new segment already.
//! Holds: a round that is under way when the journal turns again is followed by another one.

use std::time::Duration;

use shared::time::Instant;

use crate::core::Core;
use crate::desk::TimerKey;
use crate::slots::Stretch;

/// 640 slots a second: the fullest shard is through in half a minute.
const SHARE: usize = 32;
const SHARE_WAIT: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// Calls whose newest start is not newer than this are in an old segment.
    turned_at: Instant,
    /// Where the next share begins.
    slot: u32,
    /// The journal turned again meanwhile.
    again: Option<Instant>,
}

impl Core {
    pub(crate) fn journal_turned(&mut self) {
        let now = self.desk.now.mono;
        match &mut self.restating {
            Some(round) => round.again = Some(now),
            None => self.begin_round(now),
        }
    }

    fn begin_round(&mut self, turned_at: Instant) {
        self.restating = Some(Round { turned_at, slot: 0, again: None });
        self.desk.wheel.arm(self.desk.now.mono + SHARE_WAIT, TimerKey::Restate);
    }

    /// The next share of a round.
    pub(crate) fn restate(&mut self) {
        let Some(Round { turned_at, slot, again }) = self.restating else { return };
        let Stretch { keys, next, .. } = self.calls.keys_from(slot, SHARE);
        for key in keys {
            self.with_call(Some(key), |call, desk, _| {
                let old = call.journaled.is_some_and(|journaled| journaled <= turned_at);
                if old && call.ended.is_none() {
                    call.journal_start(desk);
                }
            });
        }
        match (next, again) {
            (Some(slot), again) => {
                self.restating = Some(Round { turned_at, slot, again });
                self.desk.wheel.arm(self.desk.now.mono + SHARE_WAIT, TimerKey::Restate);
            }
            (None, Some(again)) => self.begin_round(again),
            (None, None) => self.restating = None,
        }
    }
}
