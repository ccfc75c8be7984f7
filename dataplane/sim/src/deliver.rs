//! The phones' side of the world: what they say goes onto the lines, what is for them arrives.
//! Owns:  nothing; it is the part of `World` that knows who sits where.
//! Gives: datagrams through NAT and weather, messages on flows, packets of strangers.
//! Never: a decision of the gateway.
//! Holds: phones speak to the gateway only; an address elsewhere in what it told them is a breach,
//!        unless the world lets media go past the gateway.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shared::ids::{FlowKey, ShardId};
use shared::net::{Destination, Transport};

use crate::ledger::{Breach, Verdict};
use crate::phone::Output;
use crate::spec::{GATEWAY, outside_of};
use crate::world::{Event, World};

impl World {
    /// Everything that the phones want sent, and what they hold against the gateway.
    pub(crate) fn take_phone_outputs(&mut self) -> Verdict {
        for number in 0..self.seats.len() {
            while let Some(output) = self.seats[number].phone.poll_output() {
                match output {
                    Output::Sip { to, bytes } => self.phone_says(number, to, bytes)?,
                    Output::Rtp { from, to, bytes } => {
                        self.phone_speaks(number, from, to, bytes)?
                    }
                }
            }
            if let Some(breach) = self.seats[number].phone.take_breaches().into_iter().next() {
                return Err(Breach::new("phone", format!("phone {number}: {breach}")));
            }
        }
        Ok(())
    }

    fn phone_says(&mut self, number: usize, to: SocketAddr, bytes: Rc<[u8]>) -> Verdict {
        if to != GATEWAY {
            let facts = format!("phone {number} was led to {to} instead of {GATEWAY}");
            return Err(Breach::new("contact leads astray", facts));
        }
        let home = self.seats[number].phone.settings().home;
        if self.seats[number].phone.settings().transport == Transport::Udp {
            let from = self.outside(number, home);
            self.trace.message(self.now, "phone", from, to, &bytes);
            for at in self.line.carry(self.now) {
                self.agenda.push(at, Event::SipIn { from, bytes: Rc::clone(&bytes) });
            }
            return Ok(());
        }
        let flow = self.flow_of(number);
        let (now, delay) = (self.now, self.line.delay());
        self.trace.message(now, "phone", home, to, &bytes);
        let at = self.flows.arrival(flow, true, now, delay);
        self.agenda.push(at, Event::FlowIn { flow, bytes });
        Ok(())
    }

    fn phone_speaks(
        &mut self,
        number: usize,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Rc<[u8]>,
    ) -> Verdict {
        if to.ip() != GATEWAY.ip() && self.settings.media_past_us {
            let from = self.outside(number, from);
            self.send_media(from, to, &bytes);
            return Ok(());
        }
        if to.ip() != GATEWAY.ip() {
            let facts = format!("phone {number} was told to send media to {to}");
            return Err(Breach::new("SDP leads astray", facts));
        }
        let from = self.outside(number, from);
        for at in self.line.carry(self.now) {
            let bytes = Rc::clone(&bytes);
            self.agenda.push(at, Event::MediaIn { port: to.port(), from, bytes });
        }
        Ok(())
    }

    /// The flow of a phone; a new one lands on a random shard, as SO_REUSEPORT listeners do.
    fn flow_of(&mut self, number: usize) -> FlowKey {
        if let Some(open) = self.flows.of_phone(number) {
            return open;
        }
        let shard = u8::try_from(self.random.below(self.shells.len() as u64)).expect("few shards");
        let home = self.seats[number].phone.settings().home;
        let port = 40_000 + u16::try_from(self.flows.count()).expect("few flows");
        let behind_nat = self.seats[number].nat.is_some();
        let ip = if behind_nat { outside_of(number) } else { home.ip() };
        self.flows.open(ShardId(shard), number, SocketAddr::new(ip, port))
    }

    /// A packet's source as the gateway sees it.
    fn outside(&mut self, number: usize, from: SocketAddr) -> SocketAddr {
        match &mut self.seats[number].nat {
            Some(nat) => nat.outbound(from),
            None => from,
        }
    }

    /// The phone behind an address, and its own name for it.
    fn find(&self, to: SocketAddr) -> Option<(usize, SocketAddr)> {
        self.seats.iter().enumerate().find_map(|(number, seat)| match &seat.nat {
            Some(nat) => nat.inbound(to).map(|inside| (number, inside)),
            None => (seat.phone.settings().home.ip() == to.ip()).then_some((number, to)),
        })
    }

    /// False when the network says that nobody is there.
    pub(crate) fn send_datagram(&mut self, to: SocketAddr, bytes: Rc<[u8]>) -> bool {
        let Some((phone, _)) = self.find(to) else {
            // Nobody is there: a raw sender of a test, a NAT that forgot, a private address.
            self.noted.heard_raw.push(String::from_utf8_lossy(&bytes).into_owned());
            return true;
        };
        if self.seats[phone].phone.is_gone() && self.random.percent(self.settings.unreachable) {
            self.trace.note(self.now, "unreached", "ICMP port unreachable");
            return false;
        }
        for at in self.line.carry(self.now) {
            self.agenda.push(at, Event::SipOut { phone, bytes: Rc::clone(&bytes) });
        }
        true
    }

    pub(crate) fn send_media(&mut self, from: SocketAddr, to: SocketAddr, bytes: &Rc<[u8]>) {
        let Some((phone, inside)) = self.find(to) else { return };
        for at in self.line.carry(self.now) {
            let bytes = Rc::clone(bytes);
            self.agenda.push(at, Event::MediaOut { phone, to: inside, from, bytes });
        }
    }

    /// Says whether there is a way: the flow that is named, one to that peer, or a listening phone.
    pub(crate) fn send_on_flow(&mut self, own: ShardId, to: &Destination, bytes: Rc<[u8]>) -> bool {
        let flow = match to.flow {
            Some(named) => self.flows.find(named).map(|flow| flow.key),
            None => self.flows.to_peer(own, to.peer).or_else(|| self.connect(own, to.peer)),
        };
        let Some(flow) = flow else { return false };
        let (now, delay) = (self.now, self.line.delay());
        let at = self.flows.arrival(flow, false, now, delay);
        self.agenda.push(at, Event::FlowOut { flow, bytes });
        true
    }

    fn connect(&mut self, own: ShardId, peer: SocketAddr) -> Option<FlowKey> {
        let number = self.seats.iter().position(|seat| {
            let settings = seat.phone.settings();
            let listens = settings.transport != Transport::Udp && settings.home == peer;
            listens && seat.nat.is_none() && !seat.phone.is_gone()
        })?;
        Some(self.flows.open(own, number, peer))
    }

    pub(crate) fn flow_out(&mut self, key: FlowKey, bytes: &[u8]) {
        let Some(flow) = self.flows.find(key) else { return };
        let number = flow.phone;
        self.seats[number].phone.handle_sip(self.now, GATEWAY, bytes);
    }

    /// A stranger sprays every open media port with well-formed packets (RTP bleed).
    pub(crate) fn attack(&mut self) {
        let from = SocketAddr::new([10, 66, 6, 6].into(), 9_000);
        self.ledger.media.add_attacker(from);
        let ports: Vec<u16> = self.ledger.media.open_ports().collect();
        let settled = ports.into_iter().filter(|port| self.ledger.media.is_settled(*port));
        for (nth, port) in settled.collect::<Vec<_>>().into_iter().enumerate() {
            for sequence in 0..4_u8 {
                let mut packet = [0_u8; crate::phone::talk::PACKET_LEN];
                (packet[0], packet[3], packet[8]) = (0x80, sequence, 0x66);
                let at = self.now + Duration::from_millis(nth as u64 + 20 * u64::from(sequence));
                let bytes = Rc::from(packet.as_slice());
                self.agenda.push(at, Event::MediaIn { port, from, bytes });
            }
        }
    }
}
