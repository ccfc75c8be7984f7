//! OPTIONS to trunks whose health is checked: down after so many failures, up after so many answers.
//! Owns:  `Watches`: one watch for each destination that this shard asks, and what it said lately.
//! Gives: `watch_trunks` after each snapshot, `ping_due`, `ping_told`, `health_heard`.
//! Never: two shards that ask the same trunk; a trunk's name decides which one does, and that one
//!        tells the others after every answer, so a lost word is said again.
//! Holds: a watch has one timer that counts; what is known of a destination outlives a reload that
//!        leaves it in place.

use std::net::SocketAddr;
use std::time::Duration;

use shared::event::Severity;
use shared::ids::ShardId;
use shared::limits::TRUNK_WATCHES_MAX;
use shared::metrics::Counter;
use shared::net::{Destination, Transport};
use shared::snapshot::{HealthChecks, Trunk};
use shared::time::Instant;
use sip::wire::Method;

use crate::core::Core;
use crate::desk::{Desk, TimerKey, Told};
use crate::io::MeshMessage;
use crate::locate;
use crate::slots::{Key, Slots};
use crate::transactions::{ClientKey, Owner};

pub(crate) type Watches = Slots<Watch>;

#[derive(Debug)]
pub(crate) struct Watch {
    trunk: Box<str>,
    at: SocketAddr,
    transport: Transport,
    pulse: Pulse,
    /// The OPTIONS that is out.
    asked: Option<ClientKey>,
    /// Wheel entries before this one are leftovers.
    due_at: Instant,
}

/// What the last answers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pulse {
    is_down: bool,
    /// In a row, of the kind that would change the state.
    against: u32,
}

impl Pulse {
    /// Whether the state has changed.
    fn beat(&mut self, alive: bool, checks: HealthChecks) -> bool {
        if alive != self.is_down {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let most = if self.is_down { checks.successes } else { checks.failures };
        let changed = self.against >= most;
        if changed {
            *self = Self { is_down: !self.is_down, against: 0 };
        }
        changed
    }
}

/// Of a trunk that calls are sent to.
fn checks_of(trunk: &Trunk) -> Option<HealthChecks> {
    trunk.health.filter(|_| trunk.enabled && trunk.direction.takes_calls())
}

fn is_checked(desk: &Desk, name: &str, at: SocketAddr) -> bool {
    let trunk = desk.snapshot.trunks.iter().find(|trunk| *trunk.name == *name);
    trunk.is_some_and(|trunk| {
        checks_of(trunk).is_some() && trunk.entrances.iter().any(|entrance| entrance.address == at)
    })
}

pub(crate) fn watches() -> Watches {
    Slots::new(TRUNK_WATCHES_MAX)
}

impl Core {
    /// Brings the watches in line with the snapshot.
    pub(crate) fn watch_trunks(&mut self) {
        let snapshot = std::sync::Arc::clone(&self.desk.snapshot);
        for key in self.watches.keys() {
            let Some(watch) = self.watches.find(key) else { continue };
            let is_wanted = |trunk: &Trunk| {
                *trunk.name == *watch.trunk
                    && checks_of(trunk).is_some()
                    && trunk.entrances.iter().any(|entrance| {
                        entrance.address == watch.at && entrance.transport == watch.transport
                    })
            };
            if !snapshot.trunks.iter().any(is_wanted) {
                self.unwatch(key);
            }
        }
        let stale =
            self.desk.trunks.known_down().filter(|(name, at)| !is_checked(&self.desk, name, *at));
        let stale: Vec<(Box<str>, SocketAddr)> =
            stale.map(|(name, at)| (name.into(), at)).collect();
        for (name, at) in stale {
            self.desk.trunks.set_down(self.desk.now.wall, &name, at, false);
        }
        let settings = &self.desk.settings;
        let (me, shards) = (settings.shard, settings.shards);
        let is_mine = |trunk: &&Trunk| ShardId::of_name(trunk.name.as_bytes(), shards) == me;
        for trunk in snapshot.trunks.iter().filter(is_mine) {
            let Some(checks) = checks_of(trunk) else { continue };
            for entrance in &trunk.entrances {
                self.watch(&trunk.name, entrance.address, entrance.transport, checks);
            }
        }
    }

    /// The first question is spread over one interval: a start does not ask every trunk at once.
    fn watch(&mut self, name: &str, at: SocketAddr, transport: Transport, checks: HealthChecks) {
        let is_it =
            |watch: &Watch| *watch.trunk == *name && watch.at == at && watch.transport == transport;
        if self.watches.iter().any(|(_, watch)| is_it(watch)) {
            return;
        }
        let is_down = self.desk.trunks.known_down().any(|(down, peer)| down == name && peer == at);
        let pulse = Pulse { is_down, against: 0 };
        let due_at = self.desk.now.mono;
        let watch = Watch { trunk: name.into(), at, transport, pulse, asked: None, due_at };
        let Ok(key) = self.watches.insert(watch) else {
            return self.desk.notice(Severity::Warning, "trunk_not_watched", || {
                format!("trunk {name} at {at} is one too many to check its health")
            });
        };
        let wait = part(checks.interval, self.desk.mint.random());
        self.wake(key, wait);
    }

    fn unwatch(&mut self, key: Key) {
        let asked = self.watches.remove(key).and_then(|watch| watch.asked);
        if let Some(client) = asked {
            self.desk.drop_client(client);
        }
    }

    /// The gateway stops: nobody is asked any more.
    pub(crate) fn stop_watching(&mut self) {
        for key in self.watches.keys() {
            self.unwatch(key);
        }
    }

    fn wake(&mut self, key: Key, wait: Duration) {
        let due_at = self.desk.now.mono + wait;
        if let Some(watch) = self.watches.find_mut(key) {
            watch.due_at = due_at;
            self.desk.wheel.arm(due_at, TimerKey::Ping(key));
        }
    }

    fn checks_at(&self, key: Key) -> Option<HealthChecks> {
        let name = &self.watches.find(key)?.trunk;
        let trunk = self.desk.snapshot.trunks.iter().find(|trunk| trunk.name == *name)?;
        checks_of(trunk)
    }

    /// A wheel entry of a watch fired: it is time to ask, or the time for the answer is over.
    pub(crate) fn ping_due(&mut self, key: Key) {
        let now = self.desk.now.mono;
        let Some(watch) = self.watches.find_mut(key).filter(|watch| watch.due_at <= now) else {
            return;
        };
        if let Some(client) = watch.asked.take() {
            self.desk.drop_client(client);
            return self.pulse(key, false, "did not answer");
        }
        let Some(checks) = self.checks_at(key) else { return };
        match self.ping(key) {
            Ok(client) => {
                if let Some(watch) = self.watches.find_mut(key) {
                    watch.asked = Some(client);
                }
                self.wake(key, checks.timeout);
            }
            Err(Unasked::NoRoom) => self.wake(key, checks.interval), // that says nothing about it
            Err(Unasked::NoWay) => self.pulse(key, false, "cannot be reached from here"),
        }
    }

    fn ping(&mut self, key: Key) -> Result<ClientKey, Unasked> {
        let way = self.way_of(key).ok_or(Unasked::NoWay)?;
        let (uri, route) = self.asked_at(key, &way);
        let (tag, random) = (self.desk.mint.stray_tag(), self.desk.mint.random());
        let from = self.desk.advertised(&way);
        let owner = Owner::Ping(key);
        let sent =
            self.desk.request(Method::Options, uri.as_bytes(), way, 70, owner, |desk, mut out| {
                if let Some(route) = &route {
                    out.header("Route", route.as_bytes());
                }
                out.header_fmt("From", format_args!("<sip:{from}>;tag={tag}"));
                out.header_fmt("To", format_args!("<{uri}>"));
                out.header_fmt("Call-ID", format_args!("{random:016x}@{}", from.ip()));
                out.header("CSeq", b"1 OPTIONS");
                desk.write_contact(&mut out, &way);
                out.header("Accept", b"application/sdp");
                out.header("User-Agent", desk.settings.product.as_bytes());
                out.end();
            });
        let client = sent.ok_or(Unasked::NoRoom)?;
        self.desk.count(Counter::TrunkPings);
        Ok(client)
    }

    /// Whom the question is for, and the outbound proxy that it goes through.
    fn asked_at(&self, key: Key, way: &Destination) -> (String, Option<Box<str>>) {
        let trunk = self
            .watched_trunk(key)
            .and_then(|name| self.desk.snapshot.trunks.iter().find(|trunk| *trunk.name == *name));
        let proxied = trunk.and_then(|trunk| Some((trunk, trunk.options.route.clone()?)));
        match (proxied, way.transport) {
            (Some((trunk, route)), _) => (format!("sip:{}", trunk.address()), Some(route)),
            (None, Transport::Udp) => (format!("sip:{}", way.peer), None),
            (None, other) => (format!("sip:{};transport={}", way.peer, other.uri_word()), None),
        }
    }

    fn way_of(&self, key: Key) -> Option<Destination> {
        let watch = self.watches.find(key)?;
        let trunk = self.desk.snapshot.trunks.iter().find(|trunk| trunk.name == watch.trunk)?;
        let entrance = trunk.entrances.iter().find(|entrance| entrance.address == watch.at)?;
        let way = locate::way_to(&self.desk, trunk, entrance, &self.own_source())?;
        // Our listener may be on all addresses, and then only a route tells which one it is.
        (!way.local.ip().is_unspecified()).then_some(way)
    }

    /// What became of an OPTIONS of this watch. Whoever answers is there, even with 404 or 405;
    /// 408 and the 5xx of overload and of a dead next hop say that calls would not get through.
    pub(crate) fn ping_told(&mut self, key: Key, client: ClientKey, told: Told, status: u16) {
        let Some(watch) = self.watches.find_mut(key) else { return };
        if watch.asked != Some(client) || (told == Told::Response && status < 200) {
            return;
        }
        watch.asked = None;
        match (told, status) {
            (Told::Failed(408), _) => self.pulse(key, false, "did not answer"),
            (Told::Failed(_), _) => self.pulse(key, false, "was not reached"),
            (Told::Response, 408 | 500 | 502..=504) => self.pulse(key, false, "answers failures"),
            (Told::Response, _) => self.pulse(key, true, "answers"),
        }
    }

    pub(crate) fn watched_trunk(&self, key: Key) -> Option<&str> {
        self.watches.find(key).map(|watch| &*watch.trunk)
    }

    pub(crate) fn waits_for_ping(&self, key: Key, client: ClientKey) -> bool {
        self.watches.find(key).is_some_and(|watch| watch.asked == Some(client))
    }

    /// The OPTIONS went out once more, with credentials.
    pub(crate) fn pinged_again(&mut self, key: Key, client: ClientKey) {
        if let Some(watch) = self.watches.find_mut(key) {
            watch.asked = Some(client);
        }
    }

    /// One more answer, or none: the state may change, and the next question is laid out.
    fn pulse(&mut self, key: Key, alive: bool, what: &str) {
        let Some(checks) = self.checks_at(key) else { return };
        let Some(watch) = self.watches.find_mut(key) else { return };
        let changed = watch.pulse.beat(alive, checks);
        let (name, at, is_down) = (watch.trunk.clone(), watch.at, watch.pulse.is_down);
        if !alive {
            self.desk.count(Counter::TrunkPingsFailed);
        }
        if changed {
            self.desk.trunks.set_down(self.desk.now.wall, &name, at, is_down);
            let (severity, code) = match is_down {
                true => (Severity::Warning, "trunk_down"),
                false => (Severity::Info, "trunk_up"),
            };
            self.desk.notice(severity, code, || format!("trunk {name} at {at} {what}"));
        }
        let me = self.desk.settings.shard.0;
        for other in (0..self.desk.settings.shards).filter(|&other| other != me) {
            let message = MeshMessage::TrunkHealth { trunk: name.clone(), at, is_down };
            self.desk.out.mesh(ShardId(other), message);
        }
        // 90 to 110 of 100, so that trunks do not fall into step.
        let jitter = part(checks.interval / 5, self.desk.mint.random());
        self.wake(key, checks.interval * 9 / 10 + jitter);
    }

    /// Another shard asks that trunk, and says what it found.
    pub(crate) fn health_heard(&mut self, name: &str, at: SocketAddr, is_down: bool) {
        let is_down = is_down && is_checked(&self.desk, name, at);
        self.desk.trunks.set_down(self.desk.now.wall, name, at, is_down);
    }

    /// Destinations that this shard asks and found to be down: each is counted on one shard.
    pub(crate) fn trunks_down(&self) -> usize {
        self.watches.iter().filter(|(_, watch)| watch.pulse.is_down).count()
    }
}

enum Unasked {
    NoRoom,
    NoWay,
}

/// Some part of `whole`, by the high bits of `random`.
pub(crate) fn part(whole: Duration, random: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(beats: &[bool]) -> Vec<bool> {
        let checks = HealthChecks { failures: 3, successes: 2, ..HealthChecks::default() };
        let mut pulse = Pulse::default();
        let beat = |&alive: &bool| {
            pulse.beat(alive, checks);
            pulse.is_down
        };
        beats.iter().map(beat).collect()
    }

    #[test]
    fn a_trunk_goes_down_after_three_failures_and_up_after_two_answers() {
        let (yes, no) = (true, false);
        assert_eq!(states(&[no, no, yes, no, no, no]), [false, false, false, false, false, true]);
        assert_eq!(
            states(&[no, no, no, yes, no, yes, yes, no]),
            [false, false, true, true, true, true, false, false]
        );
    }

    #[test]
    fn a_part_is_never_more_than_the_whole() {
        let whole = Duration::from_secs(30);
        assert_eq!(part(whole, 0), Duration::ZERO);
        assert_eq!(part(whole, 1 << 63), Duration::from_secs(15));
        assert!(part(whole, u64::MAX) < whole);
    }
}
