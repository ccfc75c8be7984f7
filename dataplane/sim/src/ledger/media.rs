//! The book of media: which ports are open, who may be sent packets, who may send them.
//! Owns:  port use and rest, the places that SDP named, the sources that were heard.
//! Gives: breaches: a port used twice or too early, a packet to an address that nobody gave.
//! Never: the relay's own tables.
//! Holds: a port belongs to one open relay at a time and rests 30 s (RTP bleed).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use media::edit::{LocalPair, Remote};
use shared::ids::{RelayKey, Side};
use shared::limits;
use shared::settings::PortSlice;
use shared::time::Instant;

use crate::ledger::asks::HOP;
use crate::ledger::{Breach, Verdict};
use crate::spec::GATEWAY_IP;

#[derive(Debug, Default)]
pub struct Media {
    /// By even port.
    open: BTreeMap<u16, Port>,
    closed_at: BTreeMap<u16, Instant>,
    /// Places that the SDP of a leg named, by Call-ID.
    places: BTreeMap<String, BTreeSet<SocketAddr>>,
    attackers: BTreeSet<SocketAddr>,
    /// Phones may be led to each other.
    pub past_us: bool,
}

#[derive(Debug)]
struct Port {
    shard: u8,
    relay: RelayKey,
    side: Side,
    sources: BTreeSet<SocketAddr>,
    /// Legs whose SDP from us named this port.
    legs: BTreeSet<String>,
    /// Where the core's newest edit sends: only used before this port was announced.
    remote: Option<Remote>,
    /// A packet of the rightful source got through since signalling last spoke about this relay:
    /// it is latched, and nobody else may get through (strict lock).
    settled: bool,
}

impl Media {
    pub fn opened(
        &mut self,
        now: Instant,
        place: (u8, RelayKey),
        local: [LocalPair; 2],
        slice: PortSlice,
    ) -> Verdict {
        let (shard, relay) = place;
        for (pair, side) in local.into_iter().zip(Side::BOTH) {
            let port = pair.rtp_port;
            if !port.is_multiple_of(2) || port < slice.first || pair.rtcp_port() > slice.last {
                return Err(Breach::new("ports", format!("{port} is odd or outside {slice:?}")));
            }
            let closed_at = self.closed_at.get(&port);
            let rest = Duration::from_millis(limits::PORT_REST_MS);
            if closed_at.is_some_and(|closed_at| now.since(*closed_at) < rest) {
                return Err(Breach::new(
                    "ports",
                    format!("{port} was used again before it rested"),
                ));
            }
            let (sources, legs) = (BTreeSet::new(), BTreeSet::new());
            let entry = Port { shard, relay, side, sources, legs, remote: None, settled: false };
            if self.open.insert(port, entry).is_some() {
                return Err(Breach::new("ports", format!("{port} serves two relays")));
            }
        }
        Ok(())
    }

    pub fn closed(&mut self, now: Instant, place: (u8, RelayKey)) -> Verdict {
        let before = self.open.len();
        self.open.retain(|port, open| {
            let stays = (open.shard, open.relay) != place;
            if !stays {
                self.closed_at.insert(*port, now);
            }
            stays
        });
        if before - self.open.len() != 2 {
            return Err(Breach::new("ports", format!("relay {place:?} was closed and not open")));
        }
        Ok(())
    }

    /// Signalling spoke about this side: what was latched may be learnt again.
    pub fn edited(&mut self, place: (u8, RelayKey), side: Side, remote: Remote) {
        for open in self.open.values_mut().filter(|open| (open.shard, open.relay) == place) {
            open.settled = false;
            if open.side == side {
                open.remote = Some(remote);
            }
        }
    }

    /// A leg's SDP to the gateway says that it receives at `place`.
    pub fn named(&mut self, call_id: &str, place: SocketAddr) {
        let places = self.places.entry(call_id.to_owned()).or_default();
        places.insert(place);
        places.insert(SocketAddr::new(place.ip(), place.port().wrapping_add(1)));
    }

    /// The gateway told a leg to send to `place`.
    pub fn announced(&mut self, now: Instant, call_id: &str, place: SocketAddr) -> Verdict {
        if self.past_us && place.ip() != GATEWAY_IP {
            if self.places.values().any(|places| places.contains(&place)) {
                return Ok(());
            }
            let facts = format!("SDP for {call_id} names {place}, which no phone has named");
            return Err(Breach::new("SDP leads astray", facts));
        }
        let Some(open) = self.open.get_mut(&place.port()) else {
            // It may have closed while the message was on its way to the shard that has the flow.
            if self.closed_at.get(&place.port()).is_some_and(|closed_at| now - *closed_at <= HOP) {
                return Ok(());
            }
            let facts = format!("SDP for {call_id} names {place}, no relay is open there");
            return Err(Breach::new("ports", facts));
        };
        open.legs.insert(call_id.to_owned());
        Ok(())
    }

    pub fn add_attacker(&mut self, from: SocketAddr) {
        self.attackers.insert(from);
    }

    pub fn is_attacker(&self, from: SocketAddr) -> bool {
        self.attackers.contains(&from)
    }

    /// A packet reached a port of the gateway.
    pub fn packet_in(&mut self, port: u16, from: SocketAddr) {
        let attacks = self.attackers.contains(&from);
        if let Some(open) = self.open.get_mut(&even(port)).filter(|_| !attacks) {
            open.sources.insert(from);
        }
    }

    /// A packet that came in on `port_in` from `from` leaves from `port_out` to `to`.
    pub fn packet_out(
        &mut self,
        from: SocketAddr,
        port_in: u16,
        port_out: u16,
        to: SocketAddr,
    ) -> Verdict {
        let attacks = self.attackers.contains(&from);
        if let Some(open) = self.open.get_mut(&even(port_in)) {
            // Whoever gets through while nobody is latched has latched (symmetric RTP, RFC 4961).
            open.sources.extend((!open.settled).then_some(from));
            open.settled |= !attacks && port_in == even(port_in);
        }
        if attacks && self.is_settled(port_in) {
            let facts = format!("from {from} on {port_in}, which another source has latched");
            return Err(Breach::new("media from a stranger", facts));
        }
        let Some(open) = self.open.get(&even(port_out)) else {
            return Err(Breach::new("stray media", format!("from {port_out}, which is not open")));
        };
        if self.listens_at(open, to) {
            return Ok(());
        }
        let (sources, legs) = (&open.sources, &open.legs);
        let facts = format!("from {port_out} to {to}; heard there {sources:?}, legs {legs:?}");
        Err(Breach::new("stray media", facts))
    }

    /// The gateway itself speaks from a port of its own: only to where that side listens.
    pub fn said(&self, port_out: u16, to: SocketAddr) -> Verdict {
        let Some(open) = self.open.get(&even(port_out)) else {
            return Err(Breach::new("stray media", format!("from {port_out}, which is not open")));
        };
        if self.listens_at(open, to) {
            return Ok(());
        }
        Err(Breach::new("stray media", format!("said from {port_out} to {to}")))
    }

    /// Whether somebody named this place for the side of a port, or was heard there from it.
    fn listens_at(&self, open: &Port, to: SocketAddr) -> bool {
        let named =
            |call_id: &String| self.places.get(call_id).is_some_and(|places| places.contains(&to));
        // Early media may flow before the caller was told where it comes from.
        let is_remote = open.remote.is_some_and(|remote| to == remote.rtp || to == remote.rtcp);
        let early = open.legs.is_empty() && is_remote && self.places.keys().any(named);
        open.sources.contains(&to) || open.legs.iter().any(named) || early
    }

    pub fn legs_on(&self, ports: &[u16]) -> Vec<String> {
        let open = ports.iter().filter_map(|port| self.open.get(port));
        open.flat_map(|open| open.legs.iter().cloned()).collect()
    }

    /// Ports of open relays, each even one once.
    pub fn open_ports(&self) -> impl Iterator<Item = u16> {
        self.open.keys().copied()
    }

    pub fn is_settled(&self, port: u16) -> bool {
        self.open.get(&even(port)).is_some_and(|open| open.settled)
    }
}

const fn even(port: u16) -> u16 {
    port & !1
}
