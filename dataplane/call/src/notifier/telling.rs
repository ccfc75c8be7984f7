//! Watchers are told one after the other, so many in a millisecond: a user may have thousands of them.
//! Owns:  whose watchers are being told, and how far that is.
//! Gives: `tell_all` when something changed; `tell_on` for the next of them.
//! Never: a copy of the news per watcher that waits for it, or more than two sets of them per user.
//! Holds: every watcher hears the last word; what changes while they are told is told to all in a second
//!        round, and to those who come later in this one at once.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::Followed;
use super::dialogs::Mark;
use super::document::Standing;
use super::pace::Pace;
use super::subscription::Due;
use crate::core::Core;
use crate::desk::TimerKey;

/// A NOTIFY costs about 10 microseconds, so a step is well below a millisecond; 20 000 are told in 0.3 s.
pub(super) const WATCHERS_PER_STEP: usize = 64;

#[derive(Debug)]
pub(crate) struct Telling {
    users: VecDeque<Mark>,
    /// Who is among them: each is once, even who lost all watchers meanwhile and found others.
    queued: FxHashSet<Mark>,
    pace: Pace,
}

impl Telling {
    pub(super) fn new() -> Self {
        let (users, queued) = (VecDeque::new(), FxHashSet::default());
        Self { users, queued, pace: Pace::new(WATCHERS_PER_STEP) }
    }

    fn queue(&mut self, user: Mark) {
        if self.queued.insert(user) {
            self.users.push_back(user);
        }
    }

    fn drop_first(&mut self) {
        if let Some(user) = self.users.pop_front() {
            self.queued.remove(&user);
        }
    }
}

/// What the watchers of one user are to hear.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Of this round, and who is next in it.
    now: Due,
    next_watcher: usize,
    /// Of the next round.
    next: Due,
}

impl News {
    fn add(&mut self, change: &Standing) {
        self.now.replace(change);
        self.next.add(change);
    }

    /// The next round, if there is something to say.
    fn begin_round(&mut self) -> bool {
        (self.now, self.next_watcher) = (std::mem::take(&mut self.next), 0);
        self.now != Due::Nothing
    }

    /// A watcher in this place has gone.
    pub(super) fn lost(&mut self, place: usize) {
        self.next_watcher -= usize::from(place < self.next_watcher);
    }
}

impl Core {
    pub(super) fn tell_all(&mut self, user: Mark, news: &[Standing]) {
        let Some(followed) = self.notifier.followed.get_mut(&user) else { return };
        if news.is_empty() {
            return;
        }
        news.iter().for_each(|standing| followed.news.add(standing));
        self.notifier.telling.queue(user);
        self.tell_on();
    }

    /// Tells as many as this millisecond allows.
    pub(crate) fn tell_on(&mut self) {
        let now = self.desk.now.mono;
        while let Some(user) = self.notifier.telling.users.front().copied() {
            let Some(Followed { watchers, news, .. }) = self.notifier.followed.get_mut(&user)
            else {
                self.notifier.telling.drop_first(); // nobody watches any more
                continue;
            };
            if news.now == Due::Nothing && !news.begin_round() {
                self.notifier.telling.drop_first();
                continue;
            }
            let Some(&watcher) = watchers.get(news.next_watcher) else {
                news.now = Due::Nothing;
                self.notifier.telling.users.rotate_left(1); // others have waited
                continue;
            };
            let pace = &mut self.notifier.telling.pace;
            if pace.room(now) == 0 {
                if let Some(at) = pace.wait(now) {
                    self.desk.wheel.arm(at, TimerKey::Telling);
                }
                return;
            }
            pace.spend(1);
            news.next_watcher += 1;
            if let Some(one) = self.notifier.subscriptions.find_mut(watcher) {
                one.due.add_all(&news.now);
            }
            self.go_on(watcher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_waits_once_whoever_watches_meanwhile() {
        let (mut telling, [one, other]) = (Telling::new(), ["1001", "1002"].map(str::as_bytes));
        let (one, other) = (Mark::of(one), Mark::of(other));
        for user in [one, other, one] {
            telling.queue(user);
        }
        assert_eq!(telling.users, [one, other]);
        telling.drop_first();
        telling.queue(one);
        assert_eq!(telling.users, [other, one]);
    }
}
