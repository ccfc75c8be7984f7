//! What this shard knows of its trunks: how many calls stand, who asked to be left alone, who is down.
//! Owns:  the share of each trunk's limit that is taken, the rests after a 503, the list of the dead.
//! Gives: `take_call`, `return_call`, `rest`, `set_down`, `is_fit`.
//! Never: picks a trunk; the router and the hunt ask.
//! Holds: a call that was taken is returned once; a rest ends by itself, and never lasts longer than
//!        `TRUNK_REST_MAX`.

use std::net::SocketAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;
use shared::limits::TRUNK_REST_MAX;
use shared::snapshot::Trunk;
use shared::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Trunks {
    /// Standing calls by outbound trunk.
    calls: FxHashMap<Box<str>, u32>,
    /// At most one for each destination of each trunk, and only while it lasts.
    rests: Vec<Rest>,
    /// Those that do not answer OPTIONS: `health` keeps this list.
    down: Vec<(Box<str>, SocketAddr)>,
}

#[derive(Debug)]
struct Rest {
    trunk: Box<str>,
    at: SocketAddr,
    until: Instant,
}

impl Trunks {
    /// Whether one more call fits; each of `shards` keeps its share of the limit.
    pub(crate) fn has_room(&self, name: &str, trunk: Option<&Trunk>, shards: u8) -> bool {
        let most = trunk.and_then(|trunk| trunk.max_calls).unwrap_or(u32::MAX);
        let share = most.div_ceil(u32::from(shards.max(1)));
        self.calls.get(name).is_none_or(|standing| *standing < share)
    }

    /// Counts a call against the limit, to be returned; `false` when the trunk is full.
    pub(crate) fn take_call(&mut self, name: &str, trunk: Option<&Trunk>, shards: u8) -> bool {
        let room = self.has_room(name, trunk, shards);
        if room {
            *self.calls.entry(name.into()).or_default() += 1;
        }
        room
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

    pub(crate) fn set_down(&mut self, name: &str, at: SocketAddr, is_down: bool) {
        self.down.retain(|(known, peer)| !(**known == *name && *peer == at));
        if is_down {
            self.down.push((name.into(), at));
        }
    }
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
        let took = |trunks: &mut Trunks| trunks.take_call("a", Some(&trunk), 2);
        assert!(took(&mut trunks) && took(&mut trunks) && !took(&mut trunks));
        trunks.return_call("a");
        assert!(took(&mut trunks) && !took(&mut trunks));
        assert!(trunks.take_call("b", None, 2), "no limit");
    }
}
