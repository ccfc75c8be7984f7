//! What calls tell about the dialogs of watched users, from any shard to those where watchers are.
//! Owns:  `Watched`: the users that somebody watches, and what was told of calls with them.
//! Gives: `tell_watchers` after each input to a call; `hear_dialogs` for what shards say to each other.
//! Never: a table shared between shards, a copy of a call that nobody watches.
//! Holds: a call without a watched user costs one comparison. Every shard knows who is watched; a word
//!        that was lost is made good when the whole state is asked for again.

use std::hash::Hasher as _;
use std::num::NonZeroU64;

use rustc_hash::{FxHashMap, FxHasher};
use shared::ids::ShardId;

use super::document::{Phase, Standing};
use crate::b2bua::{Call, INVITER, Leg, LegState, small};
use crate::core::Core;
use crate::io::MeshMessage;
use crate::slots::Key;

/// A user's name as a number: a leg carries it without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark(NonZeroU64);

impl Mark {
    pub(crate) fn of(name: &[u8]) -> Self {
        let mut hash = FxHasher::default();
        hash.write(name);
        Self(NonZeroU64::new(hash.finish()).unwrap_or(NonZeroU64::MAX))
    }

    /// For people: a user whose name this shard does not know.
    pub(crate) const fn number(self) -> u64 {
        self.0.get()
    }
}

/// What one shard says to another about dialogs of a user.
#[derive(Clone, Debug)]
pub struct DialogNews(pub(crate) Box<Word>);

#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub user: Mark,
    pub says: Says,
}

#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// All that the sender has, as an answer to `Watch`.
    All(Vec<Standing>),
    Changed(Standing),
    /// The sender has nobody any more who watches.
    Leave,
    /// Somebody watches there: tell all now, and changes from now on.
    Watch,
}

#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// A bit for each shard with somebody who watches the user.
    by_user: FxHashMap<Mark, u64>,
    told: FxHashMap<Key, Vec<Told>>,
    /// Grows when somebody is watched who was not before.
    round: u32,
}

/// The dialog of a leg as it was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub user: Mark,
    pub leg: u8,
    pub phase: Phase,
}

/// In a call: when it was looked at last, and how many legs it had, without anybody in it who is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unwatched {
    round: u32,
    legs: u8,
}

impl Watched {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_user.is_empty() && self.told.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_user.len() + self.told.len()
    }

    pub(crate) fn forget(&mut self, call: Key) {
        self.told.remove(&call);
    }

    /// The shards with somebody who watches the user, as bits.
    pub(super) fn bits_of(&self, user: Mark) -> u64 {
        self.by_user.get(&user).copied().unwrap_or(0)
    }

    /// All that is told of a call's dialogs of these users.
    pub(super) fn mark_told(&mut self, call: Key, now: Vec<Told>, is_meant: impl Fn(Mark) -> bool) {
        if !now.is_empty() {
            let of_call = self.told.entry(call).or_default();
            of_call.retain(|one| !is_meant(one.user));
            of_call.extend(now);
        }
    }
}

impl Call {
    /// The user of ours whose phone this leg is.
    pub(crate) fn user_of(&self, index: u8) -> Option<Mark> {
        let invited = index == INVITER
            && self.caller_hash.is_some()
            && self.inbound_trunk.is_none()
            && !self.is_guests;
        let caller = || invited.then(|| Mark::of(self.caller.as_bytes()));
        self.leg(index)?.user.or_else(caller)
    }

    /// `None`: over, or another call's.
    fn phase_of(&self, index: u8, leg: &Leg) -> Option<Phase> {
        let is_let_go = leg.cancelled || leg.cancel_wanted.is_some() || leg.given_up;
        match leg.state {
            _ if self.ended.is_some() || leg.on_loan.is_some() => None,
            LegState::Ended => None,
            LegState::Up => Some(Phase::Confirmed),
            LegState::Inviting if is_let_go => None,
            LegState::Inviting if index == INVITER && leg.invite.is_none() => {
                Some(if self.ringing.is_some() { Phase::Early } else { Phase::Trying })
            }
            LegState::Inviting => Some(if leg.rang { Phase::Early } else { Phase::Trying }),
        }
    }

    pub(super) fn standing(&self, index: u8, phase: Phase) -> Option<Standing> {
        let Leg { dialog, has_called, .. } = self.leg(index)?;
        Some(Standing {
            call: self.id,
            leg: index,
            phase,
            is_caller: *has_called,
            call_id: dialog.call_id.as_slice().into(),
            local_tag: dialog.remote_tag.as_slice().into(),
            remote_tag: dialog.local_tag.as_str().into(),
            local: dialog.remote_party.as_slice().into(),
            remote: dialog.local_party.as_slice().into(),
        })
    }

    pub(super) fn told_of(&self, is_meant: impl Fn(Mark) -> bool) -> (bool, Vec<Told>) {
        let mut told = Vec::new();
        let mut is_any = false;
        for (index, leg) in self.legs.iter().enumerate() {
            let index = small(index);
            let Some(user) = self.user_of(index).filter(|user| is_meant(*user)) else { continue };
            is_any = true;
            let phase = self.phase_of(index, leg);
            told.extend(phase.map(|phase| Told { user, leg: index, phase }));
        }
        (is_any, told)
    }
}

impl Core {
    /// A call has taken an input: what changed for the watchers of its users.
    pub(crate) fn tell_watchers(&mut self, key: Key) {
        let watched = &mut self.notifier.watched;
        let Some(call) = self.calls.find_mut(key) else { return };
        let legs = u8::try_from(call.legs.len()).unwrap_or(u8::MAX);
        let unwatched = Unwatched { round: watched.round, legs };
        if call.unwatched == unwatched {
            return;
        }
        let (is_any, now) = call.told_of(|user| watched.by_user.contains_key(&user));
        let before = watched.told.remove(&key).unwrap_or_default();
        if is_any {
            self.notifier.look.note(key);
        } else {
            call.unwatched = unwatched;
        }
        let changed = now.iter().filter(|one| !before.contains(one)).copied();
        let is_over = |old: &&Told| !now.iter().any(|one| one.leg == old.leg);
        let over = before.iter().filter(is_over);
        let over = over.map(|old| Told { phase: Phase::Terminated, ..*old });
        let news: Vec<Told> = changed.chain(over).collect();
        if !now.is_empty() {
            watched.told.insert(key, now);
        }
        for Told { user, leg, phase } in news {
            let standing = self.calls.find(key).and_then(|call| call.standing(leg, phase));
            if let Some(standing) = standing {
                self.spread(user, &standing);
            }
        }
    }

    /// To every shard with somebody who watches.
    fn spread(&mut self, user: Mark, standing: &Standing) {
        let bits = self.notifier.watched.bits_of(user);
        for shard in (0..self.desk.settings.shards).filter(|shard| bits >> shard & 1 == 1) {
            self.say_dialogs(ShardId(shard), user, Says::Changed(standing.clone()));
        }
    }

    /// To another shard or to this one.
    pub(crate) fn say_dialogs(&mut self, to: ShardId, user: Mark, says: Says) {
        let own = self.desk.settings.shard;
        let news = DialogNews(Box::new(Word { user, says }));
        if to == own {
            return self.hear_dialogs(own, news);
        }
        self.desk.out.mesh(to, MeshMessage::Dialogs(news));
    }

    pub(crate) fn hear_dialogs(&mut self, from: ShardId, DialogNews(word): DialogNews) {
        let Word { user, says } = *word;
        let bit = 1_u64.checked_shl(u32::from(from.0)).unwrap_or(0);
        match says {
            Says::All(standings) => self.all_heard(from, user, standings),
            Says::Changed(standing) => self.change_heard(from, user, standing),
            Says::Leave => {
                let watched = &mut self.notifier.watched;
                let Some(bits) = watched.by_user.get_mut(&user) else { return };
                *bits &= !bit;
                if *bits == 0 {
                    watched.by_user.remove(&user);
                }
                // What was told of this user's calls goes with the next input to each of them.
                if watched.by_user.is_empty() {
                    watched.told.clear();
                }
            }
            Says::Watch => {
                let bits = self.notifier.watched.by_user.entry(user).or_insert(0);
                if *bits == 0 {
                    self.notifier.watched.round = self.notifier.watched.round.wrapping_add(1);
                }
                *bits |= bit;
                self.look_for(user, bit);
            }
        }
    }
}
