//! The notifier: phones subscribe to dialogs of users and to their mailbox, and are told (RFC 6665).
//! Owns:  the subscriptions of this shard, what is known of the users that they watch.
//! Gives: `begin`, `renewed`, `terminate`; `change_heard` for news, `notify_told` for answers.
//! Never: a NOTIFY for who did not prove who it is; state for more subscriptions than the limits say.
//! Holds: a subscription lives on the shard of its Call-ID and ends with one last NOTIFY, unless its
//!        subscriber has let a NOTIFY fail.

mod accept;
pub(crate) mod dialogs;
pub(crate) mod document;
mod look;
mod pace;
pub(crate) mod subscription;
mod telling;

use std::time::Duration;

use rustc_hash::FxHashMap;
use shared::ids::{FlowKey, ShardId};
use shared::limits::{SUBSCRIPTIONS_PER_SHARD_MAX, SUBSCRIPTIONS_PER_USER_MAX};
use shared::metrics::Counter;
use shared::time::Instant;
use sip::wire::{Message, Method};

use crate::core::Core;
use crate::desk::{TimerKey, Told};
use crate::mint;
use crate::slots::{Key, Slots};
use crate::transactions::{ClientKey, Owner};
use dialogs::{Mark, Says, Watched};
use document::{Phase, Standing, write_dialogs, write_summary};
use look::Look;
use subscription::{Due, Package, Subscription};
use telling::{News, Telling, WATCHERS_PER_STEP};

/// In the place of a leg in a tag: no call has so many.
const SUBSCRIBER: u8 = u8::MAX;
/// Dialogs of one user that are told; a phone has keys for few.
const STANDINGS_MAX: usize = 64;
/// What other shards know is asked for again at most so often, by who refreshes: what got lost between
/// shards is made good by that.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// How long the first NOTIFY waits for other shards, which answer within their turn.
const ASK_WAIT: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Notifier {
    subscriptions: Slots<Subscription>,
    /// How many each watcher has.
    held: FxHashMap<Mark, usize>,
    followed: FxHashMap<Mark, Followed>,
    pub(crate) watched: Watched,
    look: Look,
    telling: Telling,
}

/// A user whose dialogs somebody here watches.
#[derive(Debug, Default)]
struct Followed {
    standings: Vec<(ShardId, Standing)>,
    watchers: Vec<Key>,
    /// Those of them who have not been told anything: they wait for what shards owe.
    waiting: Vec<Key>,
    news: News,
    /// A bit for each shard that still owes its answer.
    owing: u64,
    asked_at: Option<Instant>,
}

impl Notifier {
    pub(crate) fn new() -> Self {
        Self {
            subscriptions: Slots::new(SUBSCRIPTIONS_PER_SHARD_MAX),
            held: FxHashMap::default(),
            followed: FxHashMap::default(),
            watched: Watched::default(),
            look: Look::new(),
            telling: Telling::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Users that are followed here or watched from anywhere, and calls told of.
    pub(crate) fn traces(&self) -> usize {
        let busy = usize::from(!self.look.is_idle());
        self.followed.len() + self.held.len() + self.watched.len() + busy
    }

    /// Whether one more of this watcher has its place.
    fn has_room(&self, watcher: &str) -> bool {
        let held = self.held.get(&Mark::of(watcher.as_bytes())).copied().unwrap_or(0);
        self.subscriptions.next_key().is_some() && held < SUBSCRIPTIONS_PER_USER_MAX
    }
}

/// The subscription whose dialog a tag of ours names.
fn key_of(tag: &[u8]) -> Option<Key> {
    mint::parse_tag(tag).filter(|parts| parts.leg == SUBSCRIBER).map(|parts| parts.call)
}

impl Core {
    /// A new subscription, which was answered: its first NOTIFY follows.
    fn begin(&mut self, subscription: Subscription) {
        let Subscription { package, ref target, ref watcher, .. } = subscription;
        let (user, watcher) = (Mark::of(target.as_bytes()), Mark::of(watcher.as_bytes()));
        let Ok(key) = self.notifier.subscriptions.insert(subscription) else { return };
        *self.notifier.held.entry(watcher).or_insert(0) += 1;
        self.desk.count(Counter::SubscriptionsBegun);
        if package == Package::Dialog {
            self.notifier.followed.entry(user).or_default().watchers.push(key);
            self.follow(user, key);
        }
        self.go_on(key);
    }

    /// Asks the shards for what they know of a user, where that is not known for sure.
    fn follow(&mut self, user: Mark, watcher: Key) {
        let (shards, now) = (self.desk.settings.shards, self.desk.now.mono);
        let followed = self.notifier.followed.entry(user).or_default();
        let is_fresh = followed.asked_at.is_some_and(|at| now.since(at) < ASK_AGAIN);
        if is_fresh && followed.owing == 0 {
            return;
        }
        followed.asked_at = Some(now);
        followed.owing = (0..shards).fold(0, |bits, shard| bits | 1 << shard);
        if followed.waiting.len() > 2 * followed.watchers.len() {
            followed.waiting.clear(); // a shard is silent: each of them waits for its own time
        }
        followed.waiting.push(watcher);
        if let Some(one) = self.notifier.subscriptions.find_mut(watcher) {
            one.waits_until = Some(now + ASK_WAIT);
        }
        for shard in 0..shards {
            self.say_dialogs(ShardId(shard), user, Says::Watch);
        }
    }

    fn unfollow(&mut self, user: Mark, watcher: Key) {
        let Some(followed) = self.notifier.followed.get_mut(&user) else { return };
        if let Some(place) = followed.watchers.iter().position(|one| *one == watcher) {
            followed.watchers.remove(place);
            followed.news.lost(place);
        }
        if !followed.watchers.is_empty() {
            return;
        }
        self.notifier.followed.remove(&user);
        for shard in 0..self.desk.settings.shards {
            self.say_dialogs(ShardId(shard), user, Says::Leave);
        }
    }

    /// One dialog of a user has changed on a shard.
    fn change_heard(&mut self, from: ShardId, user: Mark, standing: Standing) {
        let Some(followed) = self.notifier.followed.get_mut(&user) else {
            // It did not hear that nobody here watches any more.
            return self.say_dialogs(from, user, Says::Leave);
        };
        followed.take(from, &standing);
        self.tell_all(user, &[standing]);
    }

    /// All dialogs that a user has on a shard: what is not among them is over.
    fn all_heard(&mut self, from: ShardId, user: Mark, standings: Vec<Standing>) {
        let Some(followed) = self.notifier.followed.get_mut(&user) else {
            return self.say_dialogs(from, user, Says::Leave);
        };
        followed.owing &= !1_u64.checked_shl(u32::from(from.0)).unwrap_or(0);
        let known = |one: &Standing| followed.standings.iter().any(|(_, old)| old == one);
        let mut news: Vec<Standing> = standings.iter().filter(|one| !known(one)).cloned().collect();
        for (_, old) in followed.standings.iter().filter(|(shard, _)| *shard == from) {
            if !standings.iter().any(|one| one.is_same(old)) {
                news.push(Standing { phase: Phase::Terminated, ..old.clone() });
            }
        }
        for standing in &news {
            followed.take(from, standing);
        }
        let is_whole = followed.owing == 0;
        let waiting = if is_whole { std::mem::take(&mut followed.waiting) } else { Vec::new() };
        self.tell_all(user, &news);
        let now = self.desk.now.mono;
        for (place, key) in waiting.into_iter().enumerate() {
            let steps = u32::try_from(place / WATCHERS_PER_STEP).unwrap_or(u32::MAX);
            // Who waited too long for it has been told already, and has a pace to be held to.
            let one = self.notifier.subscriptions.find_mut(key);
            if let Some(one) = one.filter(|one| one.waits_until.is_some()) {
                one.waits_until = (steps > 0).then(|| now + steps * Duration::from_millis(1));
            }
            self.go_on(key);
        }
    }

    /// Sends what is due, if its time has come, and arms the timer for the rest.
    fn go_on(&mut self, key: Key) {
        let now = self.desk.now.mono;
        let Some(one) = self.notifier.subscriptions.find_mut(key) else { return };
        if one.expires_at <= now {
            return self.terminate(key, "timeout");
        }
        if one.is_ready(now) {
            if one.is_fetch {
                return self.terminate(key, "timeout");
            }
            let due = one.take_due(now);
            if !self.notify(key, &due, None) {
                return self.remove(key);
            }
        }
        let Some(one) = self.notifier.subscriptions.find_mut(key) else { return };
        let at = one.deadline();
        if one.armed.is_none_or(|armed| at < armed) {
            one.armed = Some(at);
            self.desk.wheel.arm(at, TimerKey::Subscription(key));
        }
    }

    /// A wheel entry fired; it may be early.
    pub(crate) fn subscription_due(&mut self, key: Key) {
        if let Some(one) = self.notifier.subscriptions.find_mut(key) {
            one.armed = None;
        }
        self.go_on(key);
    }

    /// `false`: there was no room for it, or nobody to send it to.
    fn notify(&mut self, key: Key, due: &Due, ends: Option<&'static str>) -> bool {
        let now = self.desk.now.mono;
        let Some(one) = self.notifier.subscriptions.find_mut(key) else { return false };
        let user = Mark::of(one.target.as_bytes());
        let (version, is_own) = (one.version, one.watcher == one.target);
        let body = match (one.package, due) {
            (Package::MessageSummary, _) => write_summary(&one.entity),
            (Package::Dialog, Due::Changes(changes)) => {
                write_dialogs(version, false, &one.entity, is_own, changes.iter())
            }
            (Package::Dialog, _) => {
                let followed = self.notifier.followed.get(&user);
                let all = followed.into_iter().flat_map(|followed| &followed.standings);
                let all = all.map(|(_, standing)| standing);
                write_dialogs(version, true, &one.entity, is_own, all)
            }
        };
        one.version += 1;
        let cseq = one.dialog.next_cseq();
        let one = &*one;
        let (way, owner) = (one.way, Owner::Subscription(key));
        let uri = one.dialog.request_uri();
        let sent = self.desk.request(Method::Notify, uri, way, 70, owner, |desk, mut out| {
            one.dialog.write_request_headers(&mut out, cseq, "NOTIFY");
            desk.write_contact(&mut out, &way);
            out.header("User-Agent", desk.settings.product.as_bytes());
            out.header("Event", &one.event());
            match ends {
                Some(why) => {
                    out.header_fmt("Subscription-State", format_args!("terminated;reason={why}"));
                }
                None => {
                    let left = one.left_s(now);
                    out.header_fmt("Subscription-State", format_args!("active;expires={left}"));
                }
            }
            out.body(one.package.content_type(), &body);
        });
        if sent.is_some() {
            self.desk.count(Counter::NotifiesSent);
        }
        if let Some(one) = self.notifier.subscriptions.find_mut(key) {
            one.out = sent;
        }
        sent.is_some()
    }

    /// The last NOTIFY, with the whole state, and nothing more.
    fn terminate(&mut self, key: Key, why: &'static str) {
        let Some(one) = self.notifier.subscriptions.find(key) else { return };
        if !one.is_lost {
            self.notify(key, &Due::Everything, Some(why));
        }
        self.remove(key);
    }

    fn remove(&mut self, key: Key) {
        let Some(one) = self.notifier.subscriptions.remove(key) else { return };
        let watcher = Mark::of(one.watcher.as_bytes());
        if let Some(held) = self.notifier.held.get_mut(&watcher) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.notifier.held.remove(&watcher);
            }
        }
        if one.package == Package::Dialog {
            self.unfollow(Mark::of(one.target.as_bytes()), key);
        }
    }

    /// What became of a NOTIFY. Who does not take one wants no other (RFC 6665 4.2.2).
    pub(crate) fn notify_told(
        &mut self,
        key: Key,
        client: ClientKey,
        told: Told,
        response: Option<&Message<'_>>,
    ) {
        let status = response.and_then(|response| response.status()).unwrap_or_default();
        let Some(one) = self.notifier.subscriptions.find_mut(key) else { return };
        if one.out != Some(client) || (told == Told::Response && status < 200) {
            return;
        }
        one.out = None;
        match told {
            Told::Response if status < 300 => self.go_on(key),
            // Its connection went while this was under way: a refresh hears everything anew.
            Told::Failed(503) if one.is_lost => one.due = Due::Everything,
            Told::Response | Told::Failed(_) => {
                self.desk.count(Counter::SubscriptionsLost);
                self.remove(key);
            }
        }
    }

    /// A connection is gone, and with it the way to who subscribed over it.
    pub(crate) fn subscribers_lost(&mut self, flow: FlowKey) {
        for key in self.notifier.subscriptions.keys() {
            let one = self.notifier.subscriptions.find_mut(key);
            if let Some(one) = one.filter(|one| one.way.flow == Some(flow)) {
                one.is_lost = true;
            }
        }
    }

    /// The gateway stops: whoever watches is to subscribe anew, with whoever serves then.
    pub(crate) fn stop_notifying(&mut self) {
        for key in self.notifier.subscriptions.keys() {
            self.terminate(key, "deactivated");
        }
    }
}

impl Followed {
    fn take(&mut self, from: ShardId, standing: &Standing) {
        self.standings.retain(|(_, old)| !old.is_same(standing));
        if standing.phase != Phase::Terminated && self.standings.len() < STANDINGS_MAX {
            self.standings.push((from, standing.clone()));
        }
    }
}
