//! Names that clients have proved by a certificate, and the trunks that go by them (RFC 5922 7.3).
//! Owns:  which flow has proved which names, of all shards.
//! Gives: `trunk_of` a request over such a flow, `is_of_trunk`; who shows a name of no trunk is sent away.
//! Never: a look at a certificate; the shell says what it stands for.
//! Holds: a name counts as long as its flow stands and a trunk goes by it, whatever a reload says.

use std::net::IpAddr;

use rustc_hash::FxHashMap;
use shared::event::Severity;
use shared::ids::{FlowKey, ShardId};
use shared::metrics::Counter;
use shared::net::Source;
use shared::snapshot::Trunk;

use crate::b2bua::Call;
use crate::core::Core;
use crate::desk::Desk;
use crate::io::{MeshMessage, Output};

/// Names of a certificate that the log shows.
const SHOWN_MAX: usize = 4;

/// By the place of the flow, so that a flow whose end nobody heard of gives way to the next one there.
#[derive(Debug, Default)]
pub(crate) struct Proved(FxHashMap<(ShardId, u32), Proof>);

#[derive(Debug)]
struct Proof {
    generation: u32,
    peer: IpAddr,
    names: Vec<Box<str>>,
}

impl Proved {
    pub(crate) fn add(&mut self, from: &Source, names: Vec<Box<str>>) {
        let Some(FlowKey { shard, slot, generation }) = from.flow else { return };
        let proof = Proof { generation, peer: from.peer.ip(), names };
        self.0.insert((shard, slot), proof);
    }

    pub(crate) fn remove(&mut self, flow: FlowKey) {
        let place = (flow.shard, flow.slot);
        if self.0.get(&place).is_some_and(|proof| proof.generation == flow.generation) {
            self.0.remove(&place);
        }
    }

    /// Where those who have proved a name are.
    pub(crate) fn sources(&self) -> impl Iterator<Item = IpAddr> {
        self.0.values().map(|proof| proof.peer)
    }

    pub(crate) fn names(&self, flow: Option<FlowKey>) -> &[Box<str>] {
        let Some(flow) = flow.filter(|_| !self.0.is_empty()) else { return &[] };
        let proof = self.0.get(&(flow.shard, flow.slot));
        let proof = proof.filter(|proof| proof.generation == flow.generation);
        proof.map_or(&[], |proof| &proof.names)
    }
}

impl Core {
    /// Whoever shows a certificate says that it is a trunk. The other shards have to hear of it: calls
    /// over this flow may be theirs.
    pub(crate) fn flow_proved(&mut self, from: &Source, names: Vec<Box<str>>) {
        let Some(flow) = from.flow else { return };
        if !self.desk.snapshot.trunks.iter().any(|trunk| trunk.enabled && goes_by(trunk, &names)) {
            self.name_unknown(from, &names);
            return self.desk.out.push(Output::CloseFlow(flow));
        }
        let me = self.desk.settings.shard.0;
        for other in (0..self.desk.settings.shards).filter(|&other| other != me) {
            let message = MeshMessage::FlowProved { from: *from, names: names.clone() };
            self.desk.out.mesh(ShardId(other), message);
        }
        self.desk.proved.add(from, names);
    }

    fn name_unknown(&mut self, from: &Source, names: &[Box<str>]) {
        self.desk.count(Counter::TlsNamesUnknown);
        self.desk.notice(Severity::Warning, "tls_name_unknown", || {
            let (ip, port) = (from.peer.ip().to_canonical(), from.peer.port());
            let shown = names[..names.len().min(SHOWN_MAX)].join(" ");
            let transport = from.transport.via_word();
            format!(
                "security event=tls_name_unknown source={ip} port={port} transport={transport} \
                 names={shown:?} count={}",
                names.len()
            )
        });
    }
}

impl Call {
    /// Later requests try a new connection to the same peer, under the same certificate.
    pub(crate) fn flow_closed(&mut self, desk: &Desk, flow: FlowKey) {
        for leg in 0..self.legs.len() as u8 {
            if self.leg(leg).is_none_or(|own| own.way.flow != Some(flow)) {
                continue;
            }
            let trunk = self.trunk_of(leg);
            let trunk = desk.snapshot.trunks.iter().find(|known| Some(&*known.name) == trunk);
            if let Some(own) = self.leg_mut(leg) {
                own.way.flow = None;
                own.way.shows = trunk.and_then(|trunk| trunk.shows(own.way.transport));
            }
        }
    }
}

/// The trunk that a call over this flow comes from; the users of From and To tell trunks of one name
/// apart.
pub(crate) fn trunk_of<'s>(
    desk: &'s Desk,
    from: &Source,
    from_user: &[u8],
    to_user: &[u8],
) -> Option<&'s Trunk> {
    let starts = |prefix: &Option<Box<str>>, user: &[u8]| {
        prefix.as_ref().is_none_or(|prefix| user.starts_with(prefix.as_bytes()))
    };
    trunks(desk, from).find(|trunk| {
        trunk.direction.gives_calls()
            && starts(&trunk.from_prefix, from_user)
            && starts(&trunk.to_prefix, to_user)
    })
}

/// Whether any enabled trunk goes by a name of this flow.
pub(crate) fn is_of_trunk(desk: &Desk, from: &Source) -> bool {
    trunks(desk, from).next().is_some()
}

fn trunks<'s>(desk: &'s Desk, from: &Source) -> impl Iterator<Item = &'s Trunk> {
    let names = desk.proved.names(from.flow);
    // Without a name no trunk is looked at.
    let trunks = if names.is_empty() { &[][..] } else { &desk.snapshot.trunks[..] };
    trunks.iter().filter(move |trunk| trunk.enabled && goes_by(trunk, names))
}

fn goes_by(trunk: &Trunk, names: &[Box<str>]) -> bool {
    trunk.options.tls_names.iter().any(|name| names.contains(name))
}
