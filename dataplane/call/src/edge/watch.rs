//! What the core does at its edge: looks at who sends, weighs what became of it, bans or spares.
//! Owns:  who counts as one of ours; the lines of the security log.
//! Gives: `lets_in`, `stops`, `weigh`, `probed`, `judge`.
//! Never: a ban for a trunk, for this host itself, or for who has a phone or a call here.
//! Holds: a ban of one shard is one of all, unless any of them knows the source.

use std::net::IpAddr;

use shared::event::{Event, Notice, Severity};
use shared::ids::ShardId;
use shared::metrics::Counter;
use shared::net::Source;
use shared::snapshot::Trunk;
use sip::wire::{HeaderName, Message, Start};

use super::agents::{self, Agent};
use super::{Accused, Entry, Why, key_of};
use crate::b2bua::Call;
use crate::core::Core;
use crate::desk::Desk;
use crate::gate::{self, Asked, Gate};
use crate::io::{MeshMessage, Output};
use crate::proved;

/// Of a name that a stranger writes, what the log shows.
const SHOWN_MAX: usize = 64;

impl Core {
    /// Whether a message may be read at all.
    pub(crate) fn lets_in(&mut self, from: &Source, bytes: &[u8]) -> bool {
        let Desk { edge, snapshot, now, .. } = &mut self.desk;
        if !edge.is_on(now.mono, &snapshot.edge) {
            return true;
        }
        match edge.enter(now.mono, snapshot.edge.flood, from.peer.ip(), bytes) {
            Entry::Admitted => true,
            Entry::Banned => {
                self.desk.count(Counter::BannedDropped);
                if let Some(flow) = from.flow {
                    self.desk.out.push(Output::CloseFlow(flow));
                }
                false
            }
            Entry::TooMany => self.is_spared(from),
        }
    }

    /// Whether somebody who sends too much is one of ours.
    fn is_spared(&mut self, from: &Source) -> bool {
        let (now, source) = (self.desk.now.mono, from.peer.ip());
        if source.to_canonical().is_loopback() || is_trunks(&self.desk.snapshot.trunks, source) {
            return true;
        }
        let row = self.desk.edge.row(now, source);
        if row.known_until > now {
            return true;
        }
        if row.strange_until <= now && self.desk.edge.may_search(now) {
            let known = self.knows(source);
            let row = self.desk.edge.row(now, source);
            if known {
                row.known_until = now + super::FOUND;
                return true;
            }
            row.strange_until = now + super::FOUND;
            self.tell_shards(&MeshMessage::Suspected { source });
            self.desk.security("flood", from, String::new);
        }
        self.desk.count(Counter::FloodsDropped);
        false
    }

    /// Whether a request outside of a dialog ends here, answered or not.
    pub(crate) fn stops(&mut self, from: &Source, request: &Message<'_>) -> Option<Stop> {
        let rules = &self.desk.snapshot.edge;
        let agent = agents::verdict(rules, request.first(HeaderName::UserAgent));
        let length = match request.start() {
            Start::Request { uri, .. } => uri.len(),
            Start::Response { .. } => 0,
        };
        let is_long = rules.uri_bytes_max.is_some_and(|most| length > most);
        if agent == Agent::Fine && !is_long
            || gate::is_of_trunk(&self.desk, from.peer)
            || proved::is_of_trunk(&self.desk, from)
        {
            return None;
        }
        let name = || format!(" agent={}", shown(request.first(HeaderName::UserAgent)));
        match agent {
            Agent::Fine => {
                self.desk.count(Counter::UrisTooLong);
                Some(Stop::Answer(414))
            }
            Agent::Refused => {
                self.desk.count(Counter::AgentsRefused);
                self.desk.security("agent_refused", from, name);
                Some(Stop::Answer(403))
            }
            Agent::Scanner => {
                self.desk.count(Counter::ScannersDropped);
                self.desk.security("scanner", from, name);
                self.desk.edge.accuse(from.peer.ip(), Why::Scanner);
                Some(Stop::Silence)
            }
        }
    }

    /// A call counts for the source of its INVITE; one that we make for nobody.
    pub(crate) fn call_begun(&mut self, call: &Call) {
        if call.caller_hash.is_some() {
            self.desk.edge.call_begun(call.source.peer.ip());
        }
    }

    pub(crate) fn call_over(&mut self, call: &Call) {
        if call.caller_hash.is_some() {
            self.desk.edge.call_over(call.source.peer.ip());
        }
    }

    /// The operator's limit on calls is reached (`max_concurrency`); each shard keeps its share.
    pub(crate) fn is_full(&self) -> bool {
        let shards = usize::from(self.desk.settings.shards.max(1));
        let share = self.desk.snapshot.edge.calls_max.map(|most| most.div_ceil(shards));
        share.is_some_and(|share| self.calls.len() >= share)
    }

    /// One source has as many calls as it may (`dos_max_concurrent_per_ip`).
    pub(crate) fn holds_too_many(&self, from: &Source, request: &Message<'_>) -> bool {
        let flood = self.desk.snapshot.edge.flood;
        let flood = flood.filter(|_| !from.peer.ip().to_canonical().is_loopback());
        let held = || self.desk.edge.calls_of(from.peer.ip());
        flood.is_some_and(|flood| held() >= flood.calls_max) && !self.dials_emergency(from, request)
    }

    /// What the gate says about a request counts for or against its source.
    pub(crate) fn weigh(
        &mut self,
        from: &Source,
        request: &Message<'_>,
        asked: Asked,
        gate: &Gate,
    ) {
        let (now, source) = (self.desk.now.mono, from.peer.ip());
        let Desk { edge, snapshot, .. } = &mut self.desk;
        match gate {
            Gate::Challenge { stale: false } => edge.challenged(now, &snapshot.edge, source),
            Gate::Challenge { stale: true } => edge.answered(now, source),
            Gate::Passed(_) => edge.passed(now, source),
            Gate::Refused(_) => self.auth_failed(from, request, asked),
        }
    }

    /// A challenge was answered, rightly or not: whoever decides may be out of reach for long.
    pub(crate) fn answers(&mut self, from: &Source) {
        self.desk.edge.answered(self.desk.now.mono, from.peer.ip());
    }

    pub(crate) fn auth_failed(&mut self, from: &Source, request: &Message<'_>, asked: Asked) {
        let name = gate::name(&self.desk, request, asked);
        let is_known = gate::knows(&self.desk, request, asked);
        let user = name.as_deref().filter(|_| is_known).map(str::as_bytes);
        self.desk.edge.failed(self.desk.now.mono, from.peer.ip(), user);
        let method = asked.method();
        self.desk.security("auth_failed", from, || {
            format!(" method={method} user={}", shown(name.as_deref().map(str::as_bytes)))
        });
    }

    /// Somebody has right credentials, and speaks for somebody else.
    pub(crate) fn other_identity(&mut self, from: &Source, user: &str) {
        let text = || format!(" user={}", shown(Some(user.as_bytes())));
        self.desk.security("other_identity", from, text);
    }

    /// A request that leads nowhere.
    pub(crate) fn probed(&mut self, from: &Source) {
        let Desk { edge, snapshot, now, .. } = &mut self.desk;
        edge.probed(now.mono, &snapshot.edge, from.peer.ip());
    }

    /// After each input: who has done enough is banned, or spared.
    pub(crate) fn judge(&mut self) {
        let Some(Accused { source, why }) = self.desk.edge.take_accused() else { return };
        let (now, ban) = (self.desk.now.mono, self.desk.snapshot.edge.ban);
        if ban.is_zero() {
            return;
        }
        let is_known = source.to_canonical().is_loopback()
            || self.desk.edge.row(now, source).known_until > now;
        // Who keeps on is accused again when the next search is due.
        if !is_known && !self.desk.edge.may_search(now) {
            return;
        }
        let (shown, word) = (source.to_canonical(), why.word());
        if is_known || self.knows(source) {
            self.desk.edge.vouch(now, source);
            self.desk.count(Counter::SourcesSpared);
            return self.desk.out.security(now, "spared", || {
                format!("security event=spared source={shown} why={word}")
            });
        }
        self.desk.edge.ban(now, source, ban);
        self.desk.count(Counter::SourcesBanned);
        // Not within the limit of other lines: floods must not hide it, and searches bound it.
        let seconds = ban.as_secs();
        let detail = format!("security event=banned source={shown} why={word} seconds={seconds}");
        let (shard, severity) = (self.desk.settings.shard, Severity::Warning);
        let notice = Notice { shard, severity, code: "banned", detail, suppressed: 0 };
        self.desk.out.event(Event::Notice(notice));
        self.tell_shards(&MeshMessage::Banned { source, time: ban });
    }

    /// What another shard says about a source.
    pub(crate) fn edge_told(&mut self, from: ShardId, message: &MeshMessage) {
        let now = self.desk.now.mono;
        let (source, ban) = match *message {
            MeshMessage::Banned { source, time } => (source, Some(time)),
            MeshMessage::Suspected { source } => (source, None),
            MeshMessage::Vouched { source } => return self.desk.edge.vouch(now, source),
            _ => return,
        };
        // Word that it is one of ours may have come by another way before its ban.
        if self.desk.edge.row(now, source).known_until > now || self.knows(source) {
            self.desk.edge.vouch(now, source);
            let vouched = MeshMessage::Vouched { source };
            match ban {
                Some(_) => self.tell_shards(&vouched),
                None => self.desk.out.mesh(from, vouched),
            }
        } else if let Some(time) = ban {
            self.desk.edge.ban(now, source, time);
        }
    }

    fn tell_shards(&mut self, message: &MeshMessage) {
        let me = self.desk.settings.shard.0;
        for other in (0..self.desk.settings.shards).filter(|&other| other != me) {
            self.desk.out.mesh(ShardId(other), message.clone());
        }
    }

    /// Trunks may have come with a new snapshot.
    pub(crate) fn pardon_trunks(&mut self) {
        let Desk { edge, snapshot, now, .. } = &mut self.desk;
        edge.pardon_where(now.mono, |source| is_trunks(&snapshot.trunks, source));
    }

    /// A trunk, or somebody with a phone or a call on this shard a moment ago.
    fn knows(&mut self, source: IpAddr) -> bool {
        if is_trunks(&self.desk.snapshot.trunks, source) {
            return true;
        }
        let now = self.desk.now.mono;
        let Desk { edge, proved, .. } = &mut self.desk;
        if edge.ours.is_old(now) {
            let stands =
                |call: &&Call| call.ended.is_none() && (call.answered.is_some() || !call.is_guests);
            let calls = self.calls.iter().map(|(_, call)| call).filter(stands);
            let of_call = |call: &Call| {
                let legs = call.legs.iter().map(|leg| leg.way.peer.ip());
                legs.chain([call.source.peer.ip()]).collect::<Vec<_>>()
            };
            let of_flows = self.registrar.sources().chain(proved.sources());
            let all = of_flows.chain(calls.flat_map(of_call));
            edge.ours.renew(now, all.map(|ip| edge.sources.hash(key_of(ip))));
        }
        edge.ours.has(edge.sources.hash(key_of(source)))
    }
}

/// What is done with a request that ends at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Answer(u16),
    Silence,
}

impl Desk {
    /// A line of the security log. What a stranger wrote stands last, in quotes and escaped.
    pub(crate) fn security(
        &mut self,
        event: &'static str,
        from: &Source,
        rest: impl FnOnce() -> String,
    ) {
        let (source, port, transport) =
            (from.peer.ip().to_canonical(), from.peer.port(), from.transport.via_word());
        self.out.security(self.now.mono, event, || {
            let rest = rest();
            format!(
                "security event={event} source={source} port={port} transport={transport}{rest}"
            )
        });
    }
}

fn is_trunks(trunks: &[Trunk], source: IpAddr) -> bool {
    let key = key_of(source);
    trunks.iter().filter(|trunk| trunk.enabled).any(|trunk| {
        trunk.entrances.iter().any(|entrance| key_of(entrance.address.ip()) == key)
            || trunk.inbound.iter().flat_map(|host| &host.addresses).any(|ip| key_of(*ip) == key)
            || trunk.inbound_networks.iter().any(|network| network.contains(source))
    })
}

fn shown(text: Option<&[u8]>) -> String {
    let text = text.unwrap_or_default();
    format!("{:?}", String::from_utf8_lossy(&text[..text.len().min(SHOWN_MAX)]))
}
