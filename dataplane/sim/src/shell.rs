//! One shard without sockets: the real core, the real relays, and a table of ports.
//! Owns:  a core, its relays, which port belongs to which relay and side.
//! Gives: the work of a shell done at once, so an `Open` is answered before the next input.
//! Never: the network; what is to be sent goes back to the world.
//! Holds: the core's outputs are applied in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use call::Core;
use media::edit::{LocalPair, RelayEdit, RelayReport};
use media::relay::{Change, Component, Relays, Verdict};
use media::speakers::{SpeechNews, Spoken};
use shared::event::CaptureClosed;
use shared::ids::{CallId, RelayKey, ShardId, Side};
use shared::metrics::Counters;
use shared::settings::ShardSettings;
use shared::snapshot::Snapshot;
use shared::time::{Instant, Now};

#[derive(Debug)]
pub struct Shell {
    pub id: ShardId,
    pub core: Core,
    pub settings: Arc<ShardSettings>,
    /// Of the packets only; the core keeps its own.
    pub counters: Counters,
    relays: Relays,
    open: BTreeMap<RelayKey, [LocalPair; 2]>,
    ports: BTreeMap<u16, (RelayKey, Side, Component)>,
    recording: BTreeMap<RelayKey, CallId>,
    captures: BTreeMap<CallId, Capture>,
}

#[derive(Debug)]
struct Capture {
    path: PathBuf,
    packets: u64,
    bytes: u64,
    relays: usize,
}

/// What an edit led to.
#[derive(Debug)]
pub enum Done {
    Closed(Box<RelayReport>),
    Nothing,
    Opened,
    Said(SpeechNews),
}

impl Done {
    fn of(news: Option<SpeechNews>) -> Self {
        news.map_or(Self::Nothing, Self::Said)
    }
}

/// A packet on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    pub from_port: u16,
    pub to: SocketAddr,
    pub change: Option<Change>,
}

/// A packet of the gateway's own.
#[derive(Clone, Debug)]
pub struct Said {
    pub from_port: u16,
    pub to: SocketAddr,
    pub bytes: Rc<[u8]>,
}

impl Shell {
    pub fn new(now: Now, settings: Arc<ShardSettings>, snapshot: Arc<Snapshot>) -> Self {
        Self {
            id: settings.shard,
            core: Core::new(now, Arc::clone(&settings), snapshot),
            relays: Relays::new(settings.media),
            settings,
            counters: Counters::default(),
            open: BTreeMap::new(),
            ports: BTreeMap::new(),
            recording: BTreeMap::new(),
            captures: BTreeMap::new(),
        }
    }

    pub fn edit(&mut self, now: Instant, edit: RelayEdit) -> Done {
        match edit {
            RelayEdit::Open { relay, local } => {
                self.relays.open(now, relay);
                for side in Side::BOTH {
                    let pair = local[side.index()];
                    self.ports.insert(pair.rtp_port, (relay, side, Component::Rtp));
                    self.ports.insert(pair.rtcp_port(), (relay, side, Component::Rtcp));
                }
                self.open.insert(relay, local);
                Done::Opened
            }
            RelayEdit::Hush { relay, side } => Done::of(self.relays.hush(relay, side)),
            RelayEdit::Say { relay, side, say } => {
                Done::of(self.relays.say(now, relay, side, *say))
            }
            RelayEdit::RecordPause { relay, line, paused } => {
                self.relays.set_recording(relay, line, !paused);
                Done::Nothing
            }
            RelayEdit::Mute { relay, side, mute } => {
                self.relays.set_mute(relay, side, mute);
                Done::Nothing
            }
            RelayEdit::Remote { relay, side, remote } => {
                self.relays.set_remote(now, relay, side, remote);
                Done::Nothing
            }
            RelayEdit::Timeout { relay, rtp_timeout } => {
                self.relays.set_timeout(now, relay, rtp_timeout);
                Done::Nothing
            }
            RelayEdit::Record { relay, call, line, path } => {
                self.relays.set_recording(relay, line, true);
                let capture = Capture { path, packets: 0, bytes: 0, relays: 0 };
                let capture = self.captures.entry(call).or_insert(capture);
                capture.relays += usize::from(self.recording.insert(relay, call).is_none());
                Done::Nothing
            }
            RelayEdit::Close(relay) => match self.relays.close(relay) {
                Some(streams) => {
                    self.open.remove(&relay);
                    self.ports.retain(|_, (owner, ..)| *owner != relay);
                    let capture = self.close_capture(relay);
                    Done::Closed(Box::new(RelayReport { relay, streams, capture }))
                }
                None => Done::Nothing,
            },
        }
    }

    fn close_capture(&mut self, relay: RelayKey) -> Option<CaptureClosed> {
        let call = self.recording.remove(&relay)?;
        let capture = self.captures.get_mut(&call)?;
        capture.relays -= 1;
        if capture.relays > 0 {
            return None;
        }
        let Capture { path, packets, bytes, .. } = self.captures.remove(&call)?;
        Some(CaptureClosed { call, path, packets, bytes, lost: 0, error: None })
    }

    /// One packet on a port of ours.
    pub fn packet(
        &mut self,
        now: Instant,
        port: u16,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<Forwarded> {
        let &(relay, side, component) = self.ports.get(&port)?;
        let counters = &mut self.counters;
        let verdict = self.relays.handle_packet(now, relay, side, component, from, bytes, counters);
        let Verdict::Forward { to, component, record, change } = verdict else { return None };
        if let Some(capture) = self
            .recording
            .get(&relay)
            .filter(|_| record)
            .and_then(|call| self.captures.get_mut(call))
        {
            capture.packets += 1;
            capture.bytes += bytes.len() as u64;
        }
        let pair = self.open.get(&relay)?[side.other().index()];
        let from_port = if component == Component::Rtp { pair.rtp_port } else { pair.rtcp_port() };
        Some(Forwarded { from_port, to, change })
    }

    pub fn is_speaking(&self) -> bool {
        self.relays.is_speaking()
    }

    /// The next 20 ms of what the gateway says itself.
    pub fn beat(&mut self, now: Instant) -> (Vec<Said>, Vec<SpeechNews>) {
        let (mut said, mut news) = (Vec::new(), Vec::new());
        let open = &self.open;
        let send = |spoken: Spoken<'_>| {
            let Some(local) = open.get(&spoken.relay) else { return };
            let from_port = local[spoken.side.index()].rtp_port;
            said.push(Said { from_port, to: spoken.to, bytes: Rc::from(spoken.packet) });
        };
        self.relays.beat(now, send, |one| news.push(one));
        (said, news)
    }

    /// Relays that fell silent, with their even ports.
    pub fn sweep(&mut self, now: Instant) -> Vec<(RelayKey, [u16; 2])> {
        let mut silent = Vec::new();
        self.relays.sweep(now, |relay| silent.push(relay));
        let ports =
            |relay: &RelayKey| self.open.get(relay).map(|local| local.map(|pair| pair.rtp_port));
        silent.iter().filter_map(|relay| ports(relay).map(|ports| (*relay, ports))).collect()
    }

    pub fn open_relays(&self) -> usize {
        self.open.len()
    }
}
