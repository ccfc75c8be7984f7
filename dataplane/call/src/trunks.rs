//! What this shard knows of its trunks: how many calls stand, who asked to be left alone, who is down.
//! Owns:  the share of each trunk's limits that is taken, the rests after a 503, the list of the dead.
//! Gives: `take_call`, `take_late`, `return_call`, `rest`, `set_down`, `is_fit`.
//! Never: picks a trunk; the router and the hunt ask.
//! Holds: a call that was taken is returned once; a rest ends by itself, and never lasts longer than
//!        `TRUNK_REST_MAX`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use shared::limits::TRUNK_REST_MAX;
use shared::snapshot::{Entrance, Trunk};
use shared::time::{Instant, Now, WallMs};
use shared::trunk_view::DestinationView;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Trunks {
    /// Standing calls by outbound trunk.
    calls: FxHashMap<Box<str>, u32>,
    /// When calls began of trunks with a limit per second: the last ones, as many as may begin.
    begun: FxHashMap<Box<str>, VecDeque<Instant>>,
    /// At most one for each destination of each trunk, and only while it lasts.
    rests: Vec<Rest>,
    /// Those that do not answer OPTIONS: `health` keeps this list.
    down: Vec<(Box<str>, SocketAddr)>,
    /// When a destination last went on that list or left it, those of trunks that are there.
    turned: Vec<(Box<str>, SocketAddr, WallMs)>,
}

#[derive(Debug)]
struct Rest {
    trunk: Box<str>,
    at: SocketAddr,
    until: Instant,
}

impl Trunks {
    /// Whether one more call fits; each of `shards` keeps its share of the limits. `again`: the call
    /// has begun here before, at another destination, so that only how many stand matters.
    pub(crate) fn has_room(
        &self,
        now: Instant,
        name: &str,
        trunk: Option<&Trunk>,
        shards: u8,
        again: bool,
    ) -> bool {
        let most = trunk.and_then(|trunk| share(trunk.max_calls, shards)).unwrap_or(u32::MAX);
        if self.calls.get(name).is_some_and(|standing| *standing >= most) {
            return false;
        }
        if again {
            return true;
        }
        let (Some(rate), Some(begun)) =
            (trunk.and_then(|trunk| share(trunk.max_cps, shards)), self.begun.get(name))
        else {
            return true;
        };
        let nth = begun.len().checked_sub(rate as usize).and_then(|place| begun.get(place));
        nth.is_none_or(|at| now.since(*at) >= SECOND)
    }

    /// Counts a call against the limits, to be returned; `false` when the trunk is full.
    pub(crate) fn take_call(
        &mut self,
        now: Instant,
        name: &str,
        trunk: Option<&Trunk>,
        shards: u8,
        again: bool,
    ) -> bool {
        if !self.has_room(now, name, trunk, shards, again) {
            return false;
        }
        *self.calls.entry(name.into()).or_default() += 1;
        if !again && let Some(rate) = trunk.and_then(|trunk| share(trunk.max_cps, shards)) {
            let begun = self.begun.entry(name.into()).or_default();
            begun.push_back(now);
            while begun.len() > rate as usize {
                begun.pop_front();
            }
        }
        true
    }

    /// Counts a call that was returned and stands after all, to be returned; whether there is room or not.
    pub(crate) fn take_late(&mut self, name: &str) {
        *self.calls.entry(name.into()).or_default() += 1;
    }

    /// What is known of trunks that are gone is forgotten; their standing calls are not.
    pub(crate) fn forget_others(&mut self, trunks: &[Trunk]) {
        let is_there = |name: &str| trunks.iter().any(|trunk| *trunk.name == *name);
        self.calls.retain(|name, standing| *standing > 0 || is_there(name));
        self.begun.retain(|name, _| is_there(name));
        let stands = |name: &str, at: SocketAddr| {
            let mut own = trunks.iter().filter(|trunk| *trunk.name == *name);
            own.any(|trunk| trunk.entrances.iter().any(|entrance| entrance.address == at))
        };
        self.turned.retain(|(name, at, _)| stands(name, *at));
    }

    pub(crate) fn return_call(&mut self, name: &str) {
        if let Some(count) = self.calls.get_mut(name) {
            *count = count.saturating_sub(1);
        }
    }

    /// Calls that were taken and not returned, of all trunks.
    pub(crate) fn standing(&self) -> usize {
        self.calls.values().map(|calls| *calls as usize).sum()
    }

    /// The destination wants no calls for so long (RFC 3261 21.5.4).
    pub(crate) fn rest(&mut self, now: Instant, name: &str, at: SocketAddr, wait: Duration) {
        self.rests.retain(|rest| rest.until > now && !(*rest.trunk == *name && rest.at == at));
        let until = now + wait.min(TRUNK_REST_MAX);
        self.rests.push(Rest { trunk: name.into(), at, until });
    }

    /// Whether this destination of the trunk may be called as far as we know.
    pub(crate) fn is_fit(&self, now: Instant, name: &str, at: SocketAddr) -> bool {
        let is_it = |rest: &&Rest| *rest.trunk == *name && rest.at == at;
        self.rests.iter().find(is_it).is_none_or(|rest| rest.until <= now)
            && !self.known_down().any(|(down, peer)| down == name && peer == at)
    }

    pub(crate) fn known_down(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.down.iter().map(|(name, at)| (&**name, *at))
    }

    pub(crate) fn set_down(&mut self, now: WallMs, name: &str, at: SocketAddr, is_down: bool) {
        let before = self.down.len();
        self.down.retain(|(known, peer)| !(**known == *name && *peer == at));
        let was_down = self.down.len() < before;
        if is_down {
            self.down.push((name.into(), at));
        }
        if was_down != is_down {
            self.turned.retain(|(known, peer, _)| !(**known == *name && *peer == at));
            self.turned.push((name.into(), at, now));
        }
    }

    /// Calls of this trunk that were taken and not returned.
    pub(crate) fn calls_of(&self, name: &str) -> u32 {
        self.calls.get(name).copied().unwrap_or_default()
    }

    /// Destinations that rest.
    pub(crate) fn resting(&self, now: Instant) -> usize {
        self.rests.iter().filter(|rest| rest.until > now).count()
    }

    pub(crate) fn view(&self, now: Now, trunk: &Trunk, entrance: &Entrance) -> DestinationView {
        let (name, address) = (&*trunk.name, entrance.address);
        let turned = self.turned.iter().find(|(known, at, _)| **known == *name && *at == address);
        let rest = self.rests.iter().find(|rest| *rest.trunk == *name && rest.at == address);
        let rests_until = rest.filter(|rest| rest.until > now.mono).map(|rest| {
            let left = rest.until.since(now.mono).as_millis();
            now.wall.add_ms(u64::try_from(left).unwrap_or(u64::MAX))
        });
        DestinationView {
            address,
            transport: entrance.transport,
            is_checked: trunk.health.is_some(),
            is_down: self.known_down().any(|(known, at)| known == name && at == address),
            changed_at: turned.map(|(_, _, at)| *at),
            rests_until,
        }
    }
}

/// Every shard's part of a limit, rounded up: a small one leaves no shard without a call.
fn share(limit: Option<u32>, shards: u8) -> Option<u32> {
    limit.map(|most| most.div_ceil(u32::from(shards.max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_ends_by_itself_and_is_bounded() {
        let at = SocketAddr::from(([10, 0, 0, 9], 5_060));
        let other = SocketAddr::from(([10, 0, 0, 8], 5_060));
        let (start, mut trunks) = (Instant::from_millis(5_000), Trunks::default());
        trunks.rest(start, "a", at, Duration::from_secs(10));
        assert!(!trunks.is_fit(start, "a", at));
        assert!(trunks.is_fit(start, "b", at) && trunks.is_fit(start, "a", other));
        assert!(trunks.is_fit(start + Duration::from_secs(10), "a", at));
        trunks.rest(start, "a", at, Duration::from_secs(86_400));
        assert!(!trunks.is_fit(start + Duration::from_secs(59), "a", at));
        assert!(trunks.is_fit(start + TRUNK_REST_MAX, "a", at));
        assert_eq!(trunks.rests.len(), 1, "the first is forgotten");
    }

    #[test]
    fn each_shard_takes_its_share_and_no_more() {
        let address = SocketAddr::from(([10, 0, 0, 9], 5_060));
        let plain = Trunk::plain("a", "a.test", address, shared::net::Transport::Udp);
        let trunk = Trunk { max_calls: Some(3), ..plain };
        let mut trunks = Trunks::default();
        let start = Instant::from_millis(5_000);
        let took = |trunks: &mut Trunks| trunks.take_call(start, "a", Some(&trunk), 2, false);
        assert!(took(&mut trunks) && took(&mut trunks) && !took(&mut trunks));
        trunks.return_call("a");
        assert!(took(&mut trunks) && !took(&mut trunks));
        assert!(trunks.take_call(start, "b", None, 2, false), "no limit");
        assert_eq!(trunks.standing(), 3);
    }

    #[test]
    fn no_second_has_more_calls_than_the_limit() {
        let address = SocketAddr::from(([10, 0, 0, 9], 5_060));
        let plain = Trunk::plain("a", "a.test", address, shared::net::Transport::Udp);
        let trunk = Trunk { max_cps: Some(3), ..plain };
        let mut trunks = Trunks::default();
        let taken: Vec<u64> = (0..300)
            .map(|step| 10 * step)
            .filter(|at| trunks.take_call(Instant::from_millis(*at), "a", Some(&trunk), 1, false))
            .collect();
        assert_eq!(taken, [0, 10, 20, 1_000, 1_010, 1_020, 2_000, 2_010, 2_020]);
        trunks.forget_others(&[]);
        assert!(trunks.begun.is_empty() && trunks.standing() == 9);
    }
}
