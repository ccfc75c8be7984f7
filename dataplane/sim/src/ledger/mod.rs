//! The checker: what crossed the gateway's boundary, held against what may (reliability.md 5.4, 8).
//! Owns:  the books of requests, legs, records, media and registrations of one run.
//! Gives: the first `Breach`, with the rule and the facts; nothing when all is well.
//! Never: looks inside the core; it reads messages as raw text, events and edits.
//! Holds: every rule names the RFC section or the design line that it stands on.

mod asks;
pub mod commands;
pub(crate) mod forwards;
mod ladders;
mod legs;
pub mod media;
mod news;
mod pracks;
mod records;
mod registrations;
mod wishes;

use std::net::SocketAddr;

use shared::ask::Ask;
use shared::event::{Answer, Event};
use shared::ids::{FlowKey, ShardId};
use shared::journal::Entry;
use shared::net::{Destination, Source};
use shared::originate::Originate;
use shared::time::Instant;

use crate::ledger::asks::Asks;
use crate::ledger::commands::Commands;
use crate::ledger::ladders::Ladders;
use crate::ledger::legs::Legs;
use crate::ledger::media::Media;
use crate::ledger::news::News;
use crate::ledger::pracks::Pracks;
use crate::ledger::records::Records;
use crate::ledger::registrations::Registrations;
use crate::ledger::wishes::Wishes;
use crate::phone::Report;
use crate::speech::glance::Glance;

pub use crate::ledger::records::Attempt;

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Short and stable, for counting and for `--broken`.
    pub rule: &'static str,
    pub facts: String,
}

impl Breach {
    pub fn new(rule: &'static str, facts: impl Into<String>) -> Self {
        Self { rule, facts: facts.into() }
    }
}

pub type Verdict = Result<(), Breach>;

#[derive(Debug, Default)]
pub struct Ledger {
    asks: Asks,
    pub commands: Commands,
    pub(crate) ladders: Ladders,
    legs: Legs,
    pub media: Media,
    news: News,
    pracks: Pracks,
    records: Records,
    pub registrations: Registrations,
    wishes: Wishes,
}

impl Ledger {
    pub fn new(media_past_us: bool) -> Self {
        let mut ledger = Self::default();
        ledger.media.past_us = media_past_us;
        ledger
    }

    /// A message reached the gateway.
    pub fn received(&mut self, now: Instant, from: &Source, bytes: &[u8]) -> Verdict {
        let Some(message) = Glance::read(bytes) else { return Ok(()) };
        if message.status.is_none() {
            self.asks.request_in(now, &message, from);
        } else if !self.asks.response_in(now, &message) {
            return Ok(());
        }
        self.pracks.message_in(now, &message);
        self.legs.message_in(now, &message, from.peer);
        for place in legs::places_in(&message) {
            self.media.named(message.call_id, place);
        }
        Ok(())
    }

    /// The gateway sent a message.
    pub fn sent(&mut self, now: Instant, to: &Destination, bytes: &[u8]) -> Verdict {
        let Some(message) = Glance::read(bytes) else {
            let text = String::from_utf8_lossy(bytes);
            return Err(Breach::new("form", format!("not a whole SIP message: {text}")));
        };
        check_length(&message)?;
        self.records.may_leave(&message, &self.legs)?;
        let news = if message.status.is_some() {
            self.asks.response_out(now, &message, to)?
        } else {
            self.asks.request_out(now, &message, to, bytes)?
        };
        self.pracks.message_out(&message, news)?;
        let wish = self.wishes.side_of(&message);
        self.legs.message_out(now, &message, to.peer, news, wish)?;
        if news {
            self.registrations.response_out(now, &message)?;
        }
        // A repeated INVITE may outlive its call: RFC 3261 9.1 has no CANCEL before a response.
        // An ACK has no transaction, so nobody knows whether it is a repeat, which may come late.
        let is_ack = message.is_request("ACK");
        let is_new = |place: &SocketAddr| (news || is_ack) && place.port() != 0;
        for place in legs::places_in(&message).filter(is_new) {
            let announced = self.media.announced(now, message.call_id, place);
            if !is_ack {
                announced?;
            }
        }
        Ok(())
    }

    /// The shard wrote something down.
    pub fn journaled(&mut self, now: Instant, entry: &Entry) -> Verdict {
        match entry {
            Entry::Beat => Ok(()),
            Entry::End(record) => {
                self.ladders.ended(record)?;
                forwards::check(record)?;
                let wished = self.wishes.find(record.session_id).is_some();
                self.records.ended(now, record, &mut self.legs, wished)
            }
            Entry::Start(record) => self.records.began(record),
        }
    }

    pub fn event(&mut self, now: Instant, event: &Event) -> Verdict {
        match event {
            Event::Answer { id, shard, answer: Answer::Acted(acted) } => {
                self.commands.answered(now, *id, *shard, *acted)
            }
            Event::Answer { answer: Answer::Originated(said), .. } => self.wishes.answered(*said),
            Event::Call(news) => self.news.heard(news),
            Event::Registration(change) => self.registrations.event(now, change),
            Event::Asked { ask, .. } => {
                if let Ask::User(ask) = ask.as_ref() {
                    self.legs.sender_asked(&ask.call_id);
                }
                Ok(())
            }
            Event::Notice(notice) if notice.code == "panic" => {
                Err(Breach::new("panic", notice.detail.clone()))
            }
            _ => Ok(()),
        }
    }

    /// A program is about to ask for this call.
    pub fn wished(&mut self, wanted: &Originate) {
        self.wishes.wished(wanted);
    }

    /// A relay was reported silent: its call is expected to end for that.
    pub fn silent(&mut self, now: Instant, ports: &[u16]) {
        for call_id in self.media.legs_on(ports) {
            self.legs.silent(&call_id, now);
        }
    }

    pub fn flow_closed(&mut self, flow: FlowKey) {
        self.asks.flow_closed(flow);
    }

    /// What can be late by now.
    pub fn tick(&mut self, now: Instant) -> Verdict {
        self.asks.tick(now)
    }

    /// When `tick` has something to look at.
    pub fn next_tick(&self) -> Option<Instant> {
        self.asks.next_tick()
    }

    pub fn attempts(&self) -> impl Iterator<Item = Attempt<'_>> {
        self.records.attempts(&self.legs)
    }

    /// After the quiet time: everything is over and the books agree.
    pub fn close(&self, reports: &[(usize, Report)]) -> Verdict {
        self.asks.close(&self.legs)?;
        self.legs.close(&self.asks)?;
        self.pracks.close()?;
        self.commands.close(&self.legs)?;
        self.news.close(self.records.all())?;
        self.records.close(&self.legs, &self.asks, &self.wishes, reports)
    }

    /// Whether the gateway did its part to end what this phone still holds.
    pub fn was_told_to_end(&self, report: &Report) -> bool {
        self.legs.was_told(&report.call_id, &report.local_tag, &self.asks)
    }

    pub fn is_attacker(&self, from: SocketAddr) -> bool {
        self.media.is_attacker(from)
    }
}

/// RFC 3261 20.14, 18.3: what we send says how long its body is.
fn check_length(message: &Glance<'_>) -> Verdict {
    let declared = message.content_length.and_then(|length| length.parse::<usize>().ok());
    if declared == Some(message.body.len()) {
        return Ok(());
    }
    let head = message.head;
    Err(Breach::new("form", format!("Content-Length is wrong or missing (RFC 3261 20.14): {head}")))
}

/// The shard of a flow, for messages.
pub fn shard_name(shard: ShardId) -> String {
    format!("shard {}", shard.0)
}
