//! The book of requests: who asked what, and whether it was answered as RFC 3261 17 wants.
//! Owns:  every request that reached or left the gateway, by branch and method.
//! Gives: breaches of transaction rules: two answers, none, too many repeats, a missing ACK.
//! Never: dialogs or calls.
//! Holds: an entry is one transaction; its first final answer stays for good.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use shared::ids::FlowKey;
use shared::net::{Destination, Source};
use shared::time::Instant;

use crate::agenda::Agenda;
use crate::ledger::legs::Legs;
use crate::ledger::{Breach, Verdict};
use crate::random::mix;
use crate::speech::glance::Glance;

/// 64*T1 with the default T1, and room for a mesh hop.
const LIFETIME: Duration = Duration::from_secs(32);
const MARGIN: Duration = Duration::from_secs(2);
/// Longer than any way over the mesh.
pub(super) const HOP: Duration = Duration::from_millis(1);
/// RFC 3261 17.1.1.2: 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s.
const INVITES_MAX: u32 = 7;
/// RFC 3261 17.1.2.2: 0, 0.5, 1.5, 3.5, 7.5 s and then every T2 up to 64*T1.
const REQUESTS_MAX: u32 = 11;

#[derive(Debug, Default)]
pub(super) struct Asks {
    inbound: BTreeMap<Key, Inbound>,
    outbound: BTreeMap<Key, Outbound>,
    /// Requests other than INVITE, by the time their answer is due; failures, by their ACK's.
    due: Agenda<Key>,
    /// 2xx answers to INVITEs of the gateway that want an ACK: by Call-ID, To tag, CSeq.
    owed: BTreeMap<(String, String, u32), Instant>,
    /// When the first 2xx to an INVITE came, of any tag: Timer M runs from there (RFC 6026 8.4).
    accepted: BTreeMap<(String, u32), Instant>,
}

type Key = (String, String);

#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) call_id: String,
    first_at: Instant,
    source: SocketAddr,
    flow: Option<FlowKey>,
    flow_is_closed: bool,
    copies: u32,
    answers: u32,
    pub(super) answer: Option<Final>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Final {
    pub(super) status: u16,
    pub(super) at: Instant,
    to_tag: String,
    body: u64,
}

#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) call_id: String,
    bytes: u64,
    copies: u32,
    /// Timer B or F: an answer that comes later finds no transaction (RFC 3261 17.1).
    gives_up_at: Instant,
    heard_at: Option<Instant>,
    pub(super) provisional: bool,
    pub(super) answer: Option<u16>,
    acknowledged: bool,
}

impl Asks {
    pub(super) fn request_in(&mut self, now: Instant, message: &Glance<'_>, from: &Source) {
        if message.method == "ACK" {
            return;
        }
        let key = key_of(message);
        if let Some(known) = self.inbound.get_mut(&key) {
            known.copies += 1;
            return;
        }
        if message.method != "INVITE" {
            self.due.push(now + LIFETIME + MARGIN, key.clone());
        }
        let ask = Inbound {
            call_id: message.call_id.to_owned(),
            first_at: now,
            source: from.peer,
            flow: from.flow,
            flow_is_closed: false,
            copies: 1,
            answers: 0,
            answer: None,
        };
        self.inbound.insert(key, ask);
    }

    /// Says whether the gateway said something new.
    pub(super) fn response_out(
        &mut self,
        now: Instant,
        message: &Glance<'_>,
        to: &Destination,
    ) -> Result<bool, Breach> {
        let status = message.status.expect("a response");
        let name = name_of(message);
        let Some(ask) = self.inbound.get_mut(&key_of(message)) else {
            return Err(Breach::new("stray answer", format!("{status} for {name}, never asked")));
        };
        if ask.source != to.peer {
            let facts = format!("{status} for {name} went to {}, asked by {}", to.peer, ask.source);
            return Err(Breach::new("answer goes astray", facts));
        }
        if status < 200 {
            if ask.answer.is_some() {
                let facts = format!("{status} for {name} after its final answer");
                return Err(Breach::new("provisional after final", facts));
            }
            return Ok(true);
        }
        ask.answers += 1;
        if ask.answers > REQUESTS_MAX + 1 + ask.copies {
            let facts =
                format!("{} answers {status} for {name}, {} copies", ask.answers, ask.copies);
            return Err(Breach::new("too many repeats", facts));
        }
        let to_tag = message.to_tag.unwrap_or_default().to_owned();
        let said = Final { status, at: now, to_tag, body: hash(message.body.as_bytes()) };
        match &ask.answer {
            None => {
                ask.answer = Some(said);
                Ok(true)
            }
            Some(first)
                if (first.status, &first.to_tag, first.body)
                    == (status, &said.to_tag, said.body) =>
            {
                Ok(false)
            }
            // A refusal that left no transaction (RFC 3261 8.2.7): the same request, come once more, is
            // decided anew, and meanwhile the gateway may be full or draining.
            Some(first)
                if (300..503).contains(&first.status)
                    && status == 503
                    && first.to_tag == said.to_tag =>
            {
                Ok(false)
            }
            Some(first) => {
                let facts = format!("{name}: first {first:?}, then {said:?} (RFC 3261 17.2)");
                Err(Breach::new("two final answers", facts))
            }
        }
    }

    /// Says whether the gateway said something new.
    pub(super) fn request_out(
        &mut self,
        now: Instant,
        message: &Glance<'_>,
        to: &Destination,
        bytes: &[u8],
    ) -> Result<bool, Breach> {
        if message.method == "ACK" {
            self.acknowledged(message);
            return Ok(false);
        }
        let (bytes, name) = (hash(bytes), name_of(message));
        let Some(ask) = self.outbound.get_mut(&key_of(message)) else {
            let ask = Outbound {
                call_id: message.call_id.to_owned(),
                bytes,
                copies: 1,
                gives_up_at: now + LIFETIME,
                heard_at: None,
                provisional: false,
                answer: None,
                acknowledged: false,
            };
            self.outbound.insert(key_of(message), ask);
            return Ok(true);
        };
        ask.copies += 1;
        let invite = message.method == "INVITE";
        let most = match (to.transport.is_reliable(), invite) {
            (true, _) => 1,
            (false, true) => INVITES_MAX,
            (false, false) => REQUESTS_MAX,
        };
        if ask.bytes != bytes {
            return Err(Breach::new(
                "repeat differs",
                format!("{name} was sent again with other bytes"),
            ));
        }
        if ask.copies > most {
            let facts = format!("{name} was sent {} times over {:?}", ask.copies, to.transport);
            return Err(Breach::new("too many repeats", facts));
        }
        // A response that landed on another shard needs a hop before its transaction knows of it.
        let knows = ask.heard_at.is_some_and(|heard_at| now - heard_at > HOP);
        if knows && (ask.answer.is_some() || (invite && ask.provisional)) {
            let facts = format!("{name} was sent again after its answer (RFC 3261 17.1)");
            return Err(Breach::new("repeat after answer", facts));
        }
        Ok(false)
    }

    /// Says whether a transaction of the gateway still waits for it.
    pub(super) fn response_in(&mut self, now: Instant, message: &Glance<'_>) -> bool {
        let status = message.status.expect("a response");
        // RFC 3261 9.1: 64*T1 after its CANCEL an INVITE is given up.
        let cancel = self.outbound.get(&(message.branch.to_owned(), "CANCEL".to_owned()));
        let cancelled = cancel.is_some_and(|cancel| now >= cancel.gives_up_at);
        let Some(ask) = self.outbound.get_mut(&key_of(message)) else { return false };
        let heard = ask.provisional || ask.answer.is_some();
        if (!heard && now >= ask.gives_up_at) || (cancelled && ask.answer.is_none()) {
            return false;
        }
        if ask.answer.is_none() && (status >= 200 || !ask.provisional) {
            ask.heard_at = Some(now);
        }
        if status < 200 {
            ask.provisional = true;
            return true;
        }
        ask.answer = ask.answer.or(Some(status));
        if message.method == "INVITE" && status < 300 {
            let tag = message.to_tag.unwrap_or_default().to_owned();
            let owed = (message.call_id.to_owned(), tag, message.cseq);
            let invite = (message.call_id.to_owned(), message.cseq);
            let first_at = *self.accepted.entry(invite).or_insert(now);
            if now - first_at >= LIFETIME {
                return false;
            }
            self.owed.entry(owed).or_insert(now);
        } else if message.method == "INVITE" && !ask.acknowledged {
            // RFC 3261 17.1.1.3: the ACK of a failure goes out at once; a mesh hop may lie between.
            self.due.push(now + Duration::from_millis(500), key_of(message));
        }
        true
    }

    fn acknowledged(&mut self, message: &Glance<'_>) {
        if let Some(invite) =
            self.outbound.get_mut(&(message.branch.to_owned(), "INVITE".to_owned()))
        {
            invite.acknowledged = true;
        }
        let tag = message.to_tag.unwrap_or_default().to_owned();
        self.owed.remove(&(message.call_id.to_owned(), tag, message.cseq));
    }

    pub(super) fn flow_closed(&mut self, flow: FlowKey) {
        for ask in self.inbound.values_mut().filter(|ask| ask.flow == Some(flow)) {
            ask.flow_is_closed = true;
        }
    }

    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.due.next_at()
    }

    pub(super) fn tick(&mut self, now: Instant) -> Verdict {
        while let Some(key) = self.due.pop_due(now) {
            if let Some(ask) = self.inbound.get(&key)
                && ask.answer.is_none()
                && !ask.flow_is_closed
            {
                let facts = format!("{} of {} since {}", key.1, ask.call_id, millis(ask.first_at));
                return Err(Breach::new("no final answer", facts));
            }
            if let Some(ask) = self.outbound.get(&key)
                && ask.answer.is_some_and(|status| status >= 300)
                && !ask.acknowledged
                && key.1 == "INVITE"
            {
                let facts =
                    format!("failure of INVITE {} got no ACK (RFC 3261 17.1.1.3)", ask.call_id);
                return Err(Breach::new("no ACK", facts));
            }
        }
        Ok(())
    }

    pub(super) fn close(&self, legs: &Legs) -> Verdict {
        for ((_, method), ask) in &self.inbound {
            if ask.answer.is_none() && !ask.flow_is_closed {
                let facts = format!("{method} of {} since {}", ask.call_id, millis(ask.first_at));
                return Err(Breach::new("no final answer", facts));
            }
        }
        for ((call_id, tag, cseq), at) in &self.owed {
            if !legs.may_lack_ack(call_id, tag) {
                let at = millis(*at);
                let facts =
                    format!("2xx of {call_id} tag {tag} CSeq {cseq} at {at} (RFC 3261 13.2.2.4)");
                return Err(Breach::new("no ACK", facts));
            }
        }
        Ok(())
    }

    pub(super) fn sent_of<'a>(
        &'a self,
        call_id: &'a str,
        method: &'a str,
    ) -> impl Iterator<Item = &'a Outbound> {
        self.outbound
            .iter()
            .filter(move |((_, found), ask)| found == method && ask.call_id == call_id)
            .map(|(_, ask)| ask)
    }

    /// Whether a connection that this leg asked over broke.
    pub(super) fn flow_broke(&self, call_id: &str) -> bool {
        self.inbound.values().any(|ask| ask.call_id == call_id && ask.flow_is_closed)
    }
}

/// RFC 3261 17.1.3, 17.2.3: branch and method; a CANCEL shares the branch, not the transaction.
fn key_of(message: &Glance<'_>) -> Key {
    (message.branch.to_owned(), message.method.to_owned())
}

fn name_of(message: &Glance<'_>) -> String {
    format!("{} {} of {}", message.cseq, message.method, message.call_id)
}

pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(word))
    })
}

pub(super) fn millis(at: Instant) -> String {
    format!("{:.3} s", at.as_nanos() as f64 / 1e9)
}
