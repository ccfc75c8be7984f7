//! Watchers are told one after the other, so many in a millisecond: a user may have thousands of them.
//! Owns:  whose watchers are being told, and how far that is.
//! Gives: `tell_all` when something changed; `tell_on` for the next of them.
//! Never: a copy of the news per watcher that waits for it, or more than two sets of them per user.
//! Holds: every watcher hears the last word; what changes while they are told is told to all in a second
//!        round, and to those who come later in this one at once.

use std::collections::VecDeque;

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
    pace: Pace,
}

impl Telling {
    pub(super) fn new() -> Self {
        Self { users: VecDeque::new(), pace: Pace::new(WATCHERS_PER_STEP) }
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
    is_queued: bool,
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
        if !std::mem::replace(&mut followed.news.is_queued, true) {
            self.notifier.telling.users.push_back(user);
        }
        self.tell_on();
    }

    /// Tells as many as this millisecond allows.
    pub(crate) fn tell_on(&mut self) {
        let now = self.desk.now.mono;
        while let Some(user) = self.notifier.telling.users.front().copied() {
            let Some(Followed { watchers, news, .. }) = self.notifier.followed.get_mut(&user)
            else {
                self.notifier.telling.users.pop_front(); // nobody watches any more
                continue;
            };
            if news.now == Due::Nothing && !news.begin_round() {
                news.is_queued = false;
                self.notifier.telling.users.pop_front();
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
