//! The gateway's side of the world: inputs to a core, its outputs, its timers (what a shell does).
//! Owns:  nothing; it is the part of `World` that touches cores.
//! Gives: every output to the ledger first, then to the network, the mesh or the relays.
//! Never: an input while outputs wait.
//! Holds: after each input the core's relays and ports match what is open here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use call::io::Rung;
use call::{Input, MeshMessage, Output};
use media::speech::FRAME;
use shared::event::{Answer, Event as Told};
use shared::ids::{FlowKey, ShardId};
use shared::journal::Entry;
use shared::net::{Destination, Source, Transport};
use shared::time::Instant;

use crate::broken::Broken;
use crate::ledger::{Breach, Verdict, shard_name};
use crate::noted::Passed;
use crate::random::mix;
use crate::shell::{Done, Said, Shell};
use crate::spec::GATEWAY;
use crate::speech::glance::Glance;
use crate::world::{Event, Sent, World};

/// Outputs of one input; a call has at most 16 branches with a few messages each.
const OUTPUTS_MAX: usize = 200;
/// Timeouts of one shard in one virtual second.
const TIMEOUTS_MAX: u32 = 3_000;
/// Timeouts at one instant before it counts as standing still.
const AT_ONCE_MAX: u32 = 4;

impl World {
    pub(crate) fn deadline_of(&self, shell: &Shell) -> Option<Instant> {
        if self.settings.broken == Some(Broken::BusyLoop) && !self.noted.records.is_empty() {
            return Some(self.now);
        }
        shell.core.deadline()
    }

    pub(crate) fn time_out(&mut self, shard: usize) -> Verdict {
        let second = self.now.as_millis() / 1_000;
        let loops = &mut self.loops[shard];
        loops.timeouts = if loops.second == second { loops.timeouts + 1 } else { 1 };
        loops.at_once = if loops.last == self.now { loops.at_once + 1 } else { 1 };
        (loops.second, loops.last) = (second, self.now);
        if loops.timeouts > TIMEOUTS_MAX || loops.at_once > AT_ONCE_MAX {
            let facts = format!("shard {shard}: {loops:?}");
            return Err(Breach::new("busy loop", facts));
        }
        self.feed(shard, Input::Timeout)
    }

    /// One input, all its outputs, and the inputs that these lead to at once.
    pub(crate) fn feed(&mut self, shard: usize, input: Input<'_>) -> Verdict {
        let moved = matches!(&input, Input::Moved { .. });
        let heard = match &input {
            Input::Moved { bytes, .. } | Input::Received { bytes, .. } => *bytes,
            _ => b"",
        };
        let clock = self.clock();
        self.shells[shard].core.handle_input(clock, input);
        self.passed(self.shells[shard].core.heard(), true, heard)?;
        let mut answers: VecDeque<Input<'static>> = VecDeque::new();
        let mut outputs = 0;
        loop {
            while let Some(output) = self.shells[shard].core.poll_output() {
                outputs += 1;
                if outputs > OUTPUTS_MAX {
                    return Err(Breach::new("busy loop", "too many outputs of one input"));
                }
                self.apply(shard, output, moved, &mut answers)?;
            }
            let Some(answer) = answers.pop_front() else { break };
            self.shells[shard].core.handle_input(clock, answer);
        }
        self.compare_relays(shard)
    }

    fn compare_relays(&self, shard: usize) -> Verdict {
        let shell = &self.shells[shard];
        let (census, open) = (shell.core.census(), shell.open_relays());
        if census.relays == open && census.ports_in_use == 2 * open {
            return Ok(());
        }
        let facts = format!("shard {shard} has {open} relays open, the core counts {census:?}");
        Err(Breach::new("relays", facts))
    }

    fn apply(
        &mut self,
        shard: usize,
        output: Output,
        moved: bool,
        answers: &mut VecDeque<Input<'static>>,
    ) -> Verdict {
        match output {
            Output::CloseFlow(flow) => {
                if let Some(closed) = self.flows.close(flow) {
                    self.seats[closed.phone].phone.handle_flow_closed(self.now);
                    self.ledger.flow_closed(flow);
                    answers.push_back(Input::FlowClosed(flow));
                }
                Ok(())
            }
            Output::Event(event) => self.told(event),
            Output::Journal(entry) => self.journaled(entry),
            Output::Keep { rung, came, bytes, .. } => self.passed(Some(rung), came, &bytes),
            Output::Mesh { to, message } => self.mesh_out(shard, to, message, moved),
            Output::Relay(edit) => self.edit(shard, edit, answers),
            Output::Send { to, bytes, rung } => {
                self.passed(rung, false, &bytes)?;
                let result = self.send(shard, &to, &bytes, answers);
                self.shells[shard].core.recycle(bytes);
                result
            }
        }
    }

    /// A message of a call, for its ladder.
    fn passed(&mut self, rung: Option<Rung>, came: bool, bytes: &[u8]) -> Verdict {
        let (Some(rung), Some(message)) = (rung, Glance::read(bytes)) else { return Ok(()) };
        self.noted.ladder.push(Passed {
            call: rung.call,
            side: rung.side,
            came,
            method: message.method.to_owned(),
            status: message.status,
            call_id: message.call_id.to_owned(),
        });
        self.ledger.ladders.passed(rung, bytes)
    }

    fn told(&mut self, event: Told) -> Verdict {
        self.trace.note(self.now, "event", &format!("{event:?}"));
        self.ledger.event(self.now, &event)?;
        match event {
            Told::Answer { answer, .. } => match answer {
                Answer::Acted(_) => {}
                Answer::Calls(calls) => {
                    self.noted.answers += 1;
                    self.noted.calls.extend(calls);
                }
                Answer::Originated(originated) => self.noted.originated.push(originated),
                _ => self.noted.answers += 1,
            },
            Told::Asked { shard, id, ask } => {
                if let Some((wait, decision)) = self.program.answer(&ask) {
                    let decision = Box::new(decision);
                    let at = self.now + wait;
                    self.agenda.push(at, Event::Decided { shard, id, decision });
                }
                self.noted.asked.push(*ask);
            }
            Told::Drained(shard) => self.noted.drained.push(shard),
            Told::Registration(change) => self.noted.registrations.push(*change),
            Told::SnapshotLive { generation, .. } => self.noted.generations.push(generation),
            _ => {}
        }
        Ok(())
    }

    fn journaled(&mut self, entry: Entry) -> Verdict {
        self.trace.note(self.now, "journal", &format!("{entry:?}"));
        let entry = match (self.settings.broken, entry) {
            (Some(Broken::DropRecord), Entry::End(_))
            | (Some(Broken::LateStart), Entry::Start(_))
                if !self.broke =>
            {
                self.broke = true;
                return Ok(());
            }
            (Some(Broken::DoubleRecord), entry @ Entry::End(_)) if !self.broke => {
                self.broke = true;
                self.ledger.journaled(self.now, &entry)?;
                entry
            }
            (Some(Broken::WrongStatus), Entry::End(mut record)) => {
                record.status_code += 1;
                Entry::End(record)
            }
            (_, entry) => entry,
        };
        self.ledger.journaled(self.now, &entry)?;
        match entry {
            Entry::Beat => Ok(()),
            Entry::End(record) => {
                self.noted.records.push(*record);
                self.break_silence()
            }
            Entry::Start(record) => {
                self.noted.starts.push(*record);
                Ok(())
            }
        }
    }

    /// `late-request`: an INFO leaves for a call that has just ended.
    fn break_silence(&mut self) -> Verdict {
        if self.settings.broken != Some(Broken::LateRequest) {
            return Ok(());
        }
        let call_id = self.noted.records.last().map(|record| record.call_id.clone());
        let call_id = call_id.expect("a record came just now");
        let text = format!(
            "INFO sip:x@10.1.0.2 SIP/2.0\r\nVia: SIP/2.0/UDP {GATEWAY};branch=z9hG4bKlate\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: {call_id}\r\nCSeq: 9 INFO\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        let to = Destination {
            transport: Transport::Udp,
            local: GATEWAY,
            peer: GATEWAY,
            flow: None,
            shows: None,
        };
        self.ledger.sent(self.now + Duration::from_secs(1), &to, text.as_bytes())
    }

    fn mesh_out(
        &mut self,
        shard: usize,
        to: ShardId,
        message: MeshMessage,
        moved: bool,
    ) -> Verdict {
        let from = self.shells[shard].id;
        if matches!(message, MeshMessage::Message { .. }) {
            self.noted.moved += 1;
            if moved {
                return Err(Breach::new(
                    "moved twice",
                    format!("{} to {}", shard_name(from), to.0),
                ));
            }
        }
        if from == to || usize::from(to.0) >= self.shells.len() {
            return Err(Breach::new("mesh", format!("{} to {}", shard_name(from), shard_name(to))));
        }
        let last = self.mesh_arrival.entry((from.0, to.0)).or_default();
        let hop = self.random.delay(Duration::from_micros(5), Duration::from_micros(300));
        *last = (self.now + hop).max(*last + Duration::from_nanos(1));
        let at = *last;
        self.agenda.push(at, Event::Mesh { from, to, message });
        Ok(())
    }

    fn edit(
        &mut self,
        shard: usize,
        edit: media::edit::RelayEdit,
        answers: &mut VecDeque<Input<'static>>,
    ) -> Verdict {
        use media::edit::RelayEdit;
        self.trace.note(self.now, "edit", &format!("{edit:?}"));
        let number = u8::try_from(shard).expect("few shards");
        if let RelayEdit::Open { relay, .. } = &edit
            && self.random.percent(self.settings.refused_relays)
        {
            self.trace.note(self.now, "refused", &format!("{relay:?}"));
            answers.push_back(Input::RelayRefused(*relay));
            return Ok(());
        }
        match &edit {
            RelayEdit::Open { relay, local } => {
                let slice = self.shells[shard].settings.rtp_ports;
                self.ledger.media.opened(self.now, (number, *relay), *local, slice)?;
                self.start_to_sweep();
            }
            RelayEdit::Close(relay) => self.ledger.media.closed(self.now, (number, *relay))?,
            RelayEdit::Remote { relay, side, remote } => {
                self.ledger.media.edited((number, *relay), *side, *remote);
            }
            RelayEdit::Say { .. } => self.start_to_beat(),
            RelayEdit::Hush { .. }
            | RelayEdit::Mute { .. }
            | RelayEdit::Record { .. }
            | RelayEdit::RecordPause { .. }
            | RelayEdit::Timeout { .. } => {}
        }
        let opened = match &edit {
            RelayEdit::Open { relay, .. } => Some(*relay),
            _ => None,
        };
        match (self.shells[shard].edit(self.now, edit), opened) {
            (Done::Said(news), _) => answers.push_back(Input::Speech(news)),
            (Done::Opened, Some(relay)) => answers.push_back(Input::RelayOpened(relay)),
            (Done::Closed(report), _) if self.settings.broken != Some(Broken::LeakPort) => {
                answers.push_back(Input::RelayClosed(*report));
            }
            _ => {}
        }
        Ok(())
    }

    fn start_to_sweep(&mut self) {
        if !std::mem::replace(&mut self.sweeping, true) {
            self.agenda.push(self.now + Duration::from_secs(1), Event::Sweep);
        }
    }

    fn start_to_beat(&mut self) {
        if !std::mem::replace(&mut self.beating, true) {
            self.agenda.push(self.now + FRAME, Event::Beat);
        }
    }

    /// Every shard's next 20 ms of its own speech.
    pub(crate) fn beat(&mut self) -> Verdict {
        self.beating = false;
        for shard in 0..self.shells.len() {
            let (said, news) = self.shells[shard].beat(self.now);
            for Said { from_port, to, bytes } in said {
                self.ledger.media.said(from_port, to)?;
                self.noted.said += 1;
                let local = SocketAddr::new(GATEWAY.ip(), from_port);
                self.trace.packet(self.now, "said", local, to);
                self.send_media(local, to, &bytes);
            }
            for one in news {
                self.feed(shard, Input::Speech(one))?;
            }
        }
        if self.shells.iter().any(Shell::is_speaking) {
            self.start_to_beat();
        }
        Ok(())
    }

    pub(crate) fn sweep(&mut self) -> Verdict {
        self.sweeping = false;
        let now = self.now;
        for shard in 0..self.shells.len() {
            for (relay, ports) in self.shells[shard].sweep(now) {
                self.noted.silent += 1;
                self.trace.note(now, "silent", &format!("{relay:?}"));
                self.ledger.silent(now, &ports);
                self.feed(shard, Input::RelaySilent(relay))?;
            }
        }
        if self.shells.iter().any(|shell| shell.open_relays() > 0) {
            self.start_to_sweep();
        }
        Ok(())
    }

    fn send(
        &mut self,
        shard: usize,
        to: &Destination,
        bytes: &[u8],
        answers: &mut VecDeque<Input<'static>>,
    ) -> Verdict {
        if self.is_swallowed(bytes) {
            return Ok(());
        }
        self.noted.messages += 1;
        let bytes: Rc<[u8]> = Rc::from(bytes);
        self.trace.message(self.now, "gw sends", to.local, to.peer, &bytes);
        self.ledger.sent(self.now, to, &bytes)?;
        if let Some(message) = Glance::read(&bytes) {
            self.noted.sent.push(Sent {
                at: self.now,
                to: to.peer,
                method: message.method.to_owned(),
                status: message.status,
                call_id: message.call_id.to_owned(),
            });
            self.answer_twice(to, &message, &bytes)?;
        }
        if to.local != GATEWAY {
            let facts = format!("sent from {}, the listener is {GATEWAY}", to.local);
            return Err(Breach::new("sent from nowhere", facts));
        }
        if to.transport == Transport::Udp {
            if !self.send_datagram(to.peer, bytes) {
                answers.push_back(Input::SendFailed(*to));
            }
            return Ok(());
        }
        let own = self.shells[shard].id;
        if let Some(flow) = to.flow.filter(|flow| flow.shard != own) {
            return Err(Breach::new("foreign flow", format!("{} uses {flow:?}", shard_name(own))));
        }
        if !self.send_on_flow(own, to, bytes) {
            self.trace.note(self.now, "unsent", &format!("{to:?}"));
            answers.push_back(Input::SendFailed(*to));
        }
        Ok(())
    }

    /// `swallow-answer`, `lost-bye` and `lost-prack`.
    fn is_swallowed(&self, bytes: &[u8]) -> bool {
        let Some(message) = Glance::read(bytes) else { return false };
        match self.settings.broken {
            Some(Broken::SwallowAnswer) => {
                let challenge = matches!(message.status, Some(401 | 407));
                message.is_response_to("INVITE") && message.is_final() && !challenge
            }
            Some(Broken::LostBye) => message.is_request("BYE"),
            Some(Broken::LostPrack) => message.is_request("PRACK"),
            _ => false,
        }
    }

    /// `second-answer`.
    fn answer_twice(&mut self, to: &Destination, message: &Glance<'_>, bytes: &[u8]) -> Verdict {
        let breaks = self.settings.broken == Some(Broken::SecondAnswer) && !self.broke;
        if !breaks || message.method != "INVITE" || !matches!(message.status, Some(300..)) {
            return Ok(());
        }
        self.broke = true;
        let text = String::from_utf8_lossy(bytes);
        let (_, rest) = text.split_once("\r\n").expect("a message has lines");
        let other = format!("SIP/2.0 699 Changed My Mind\r\n{rest}");
        self.ledger.sent(self.now, to, other.as_bytes())
    }

    // What comes in --------------------------------------------------------------------------

    pub(crate) fn sip_in(&mut self, from: SocketAddr, bytes: &Rc<[u8]>) -> Verdict {
        let source = Source { transport: Transport::Udp, local: GATEWAY, peer: from, flow: None };
        let shards = self.shells.len() as u64;
        let steered = if self.settings.scatter {
            self.random.below(shards)
        } else {
            let SocketAddr::V4(v4) = from else { unreachable!("the world is IPv4") };
            mix(u64::from(v4.ip().to_bits()) << 16 | u64::from(v4.port())) % shards
        };
        let shard = usize::try_from(steered).expect("few shards");
        self.trace.message(self.now, "gw hears", from, GATEWAY, bytes);
        self.ledger.received(self.now, &source, bytes)?;
        self.feed(shard, Input::Received { from: source, bytes })
    }

    pub(crate) fn flow_in(&mut self, key: FlowKey, bytes: &Rc<[u8]>) -> Verdict {
        let Some(flow) = self.flows.find(key) else { return Ok(()) };
        let peer = flow.peer;
        let source = Source { transport: Transport::Tcp, local: GATEWAY, peer, flow: Some(key) };
        self.trace.message(self.now, "gw hears", peer, GATEWAY, bytes);
        self.ledger.received(self.now, &source, bytes)?;
        self.feed(usize::from(key.shard.0), Input::Received { from: source, bytes })
    }

    pub(crate) fn media_in(&mut self, port: u16, from: SocketAddr, bytes: &Rc<[u8]>) -> Verdict {
        let attacks = self.ledger.is_attacker(from);
        self.ledger.media.packet_in(port, from);
        let now = self.now;
        let forwarded =
            self.shells.iter_mut().find_map(|shell| shell.packet(now, port, from, bytes));
        let Some(mut out) = forwarded else {
            self.trace.packet(now, "dropped", from, SocketAddr::new(GATEWAY.ip(), port));
            self.noted.repelled += u64::from(attacks);
            return Ok(());
        };
        if self.settings.broken == Some(Broken::StrayMedia) {
            out.to = SocketAddr::new([10, 66, 6, 6].into(), 6_666);
        }
        self.ledger.media.packet_out(from, port, out.from_port, out.to)?;
        self.noted.forwarded += 1;
        let local = SocketAddr::new(GATEWAY.ip(), out.from_port);
        self.trace.packet(now, "forwarded", from, out.to);
        let mut bytes = Rc::clone(bytes);
        if let Some(change) = out.change {
            let mut changed = bytes.to_vec();
            change.apply(&mut changed);
            bytes = Rc::from(changed);
        }
        self.send_media(local, out.to, &bytes);
        Ok(())
    }

    pub(crate) fn break_flow_of(&mut self, number: usize) -> Verdict {
        let Some(key) = self.flows.of_phone(number) else { return Ok(()) };
        self.flows.close(key);
        self.ledger.flow_closed(key);
        self.seats[number].phone.handle_flow_closed(self.now);
        self.feed(usize::from(key.shard.0), Input::FlowClosed(key))
    }
}
