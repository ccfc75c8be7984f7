//! The look for calls of users who are watched anew: one walk for all of them, a bounded part at a time.
//! Owns:  the names that are looked for, the place where the walk is, the calls that it found.
//! Gives: `look_for` when a shard asks for a user's dialogs; `look_on` for the next part.
//! Never: a walk for each SUBSCRIBE: names that come while one is under way share the next.
//! Holds: what is told at the end is as the calls are then, with those that came behind the walk's back.

use rustc_hash::FxHashMap;
use shared::ids::ShardId;

use super::dialogs::{Mark, Says};
use super::document::Standing;
use super::pace::Pace;
use crate::core::Core;
use crate::desk::TimerKey;
use crate::slots::Key;

/// Slots, full or free, that are looked at within one millisecond: some tens of microseconds. A full
/// shard is through in 160 ms, and a first NOTIFY waits longer than that.
const SLOTS_PER_STEP: usize = 128;

/// Shards that want to know of each user, as bits.
type Names = FxHashMap<Mark, u64>;

#[derive(Debug)]
pub(crate) struct Look {
    /// Whom the present walk is for.
    names: Names,
    /// Whom the next one is for.
    next: Names,
    /// The slot that it goes on at.
    slot: u32,
    found: Vec<Key>,
    pace: Pace,
}

impl Look {
    pub(super) fn new() -> Self {
        let (names, next) = (Names::default(), Names::default());
        Self { names, next, slot: 0, found: Vec::new(), pace: Pace::new(SLOTS_PER_STEP) }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.names.is_empty()
    }

    /// A call with somebody who is watched has changed: the walk may have passed it.
    pub(super) fn note(&mut self, call: Key) {
        if !self.is_idle() && self.found.last() != Some(&call) {
            self.found.push(call);
        }
    }
}

impl Core {
    /// A shard asks for all dialogs of a user.
    pub(super) fn look_for(&mut self, user: Mark, bit: u64) {
        let look = &mut self.notifier.look;
        *look.next.entry(user).or_insert(0) |= bit;
        if look.is_idle() {
            self.look_on();
        }
    }

    /// Goes on with the walk, as far as this millisecond allows.
    pub(crate) fn look_on(&mut self) {
        let now = self.desk.now.mono;
        loop {
            let look = &mut self.notifier.look;
            if look.is_idle() {
                if look.next.is_empty() {
                    return;
                }
                (look.names, look.slot) = (std::mem::take(&mut look.next), 0);
            }
            let room = look.pace.room(now);
            if room == 0 {
                if let Some(at) = look.pace.wait(now) {
                    self.desk.wheel.arm(at, TimerKey::Look);
                }
                return;
            }
            let stretch = self.calls.keys_from(look.slot, room);
            look.pace.spend(stretch.looked_at.max(1)); // the end of a walk is work, too
            let names = &look.names;
            let has_any = |key: &&Key| {
                let call = self.calls.find(**key);
                call.is_some_and(|call| call.told_of(|user| names.contains_key(&user)).0)
            };
            look.found.extend(stretch.keys.iter().filter(has_any));
            match stretch.next {
                Some(next) => look.slot = next,
                None => self.tell_found(),
            }
        }
    }

    /// The walk is through: each shard that asked hears all that there is. What they hear becomes what
    /// was told last.
    fn tell_found(&mut self) {
        let (names, mut found) = {
            let look = &mut self.notifier.look;
            (std::mem::take(&mut look.names), std::mem::take(&mut look.found))
        };
        found.sort_unstable_by_key(|key| key.to_bits());
        found.dedup();
        let watched = &mut self.notifier.watched;
        // Whoever left meanwhile wants to know nothing more.
        let wanted = |user: Mark| watched.bits_of(user) & names.get(&user).copied().unwrap_or(0);
        let left: Vec<(Mark, u64)> = names
            .keys()
            .map(|user| (*user, wanted(*user)))
            .filter(|(_, bits)| *bits != 0)
            .collect();
        let wanted: Names = left.iter().copied().collect();
        let mut all: FxHashMap<Mark, Vec<Standing>> = FxHashMap::default();
        for key in found {
            let Some(call) = self.calls.find(key) else { continue };
            let (_, now) = call.told_of(|user| wanted.contains_key(&user));
            for one in &now {
                all.entry(one.user).or_default().extend(call.standing(one.leg, one.phase));
            }
            watched.mark_told(key, now, |user| wanted.contains_key(&user));
        }
        for (user, bits) in left {
            let standings = all.remove(&user).unwrap_or_default();
            for shard in (0..self.desk.settings.shards).filter(|shard| bits >> shard & 1 == 1) {
                self.say_dialogs(ShardId(shard), user, Says::All(standings.clone()));
            }
        }
    }
}
