//! The book of legs: one entry per Call-ID that carries a call, with its answers, BYEs and ends.
//! Owns:  what happened to each leg at the gateway's boundary, and when.
//! Gives: breaches of dialog rules; the facts that a call record is compared with.
//! Never: a phone's opinion.
//! Holds: a leg is the caller's when its first INVITE came in, the callee's when it went out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use shared::ids::{CallId, Side};
use shared::time::Instant;

use crate::ledger::asks::{Asks, HOP, millis};
use crate::ledger::{Breach, Verdict};
use crate::speech::glance::{Glance, uri_of};
use crate::speech::sdp::Spoken;

#[derive(Debug, Default)]
pub(super) struct Legs {
    pub(super) by_call_id: BTreeMap<String, Leg>,
}

#[derive(Debug)]
pub(super) struct Leg {
    pub(super) side: Side,
    /// We called it for a wish, whichever side it is on.
    pub(super) is_wished: bool,
    /// The record bears its Call-ID.
    pub(super) is_named: bool,
    /// We called it to take another leg's place (it is told by Referred-By, RFC 3892).
    pub(super) is_successor: bool,
    pub(super) began_at: Instant,
    pub(super) peer: SocketAddr,
    pub(super) uri: String,
    pub(super) from_uri: String,
    pub(super) offerless: bool,
    /// Newest final answer to the first INVITE that was no challenge: sent by us for the caller's
    /// leg, heard by us for the callee's.
    pub(super) last: Option<(u16, Instant)>,
    pub(super) challenged: bool,
    pub(super) rang_at: Option<Instant>,
    /// First 2xx and its To tag.
    pub(super) answered: Option<(Instant, String)>,
    /// CSeq of the INVITE that was answered.
    answered_cseq: Option<u32>,
    /// To tags of every 2xx that the gateway heard.
    pub(super) answer_tags: BTreeSet<String>,
    pub(super) provisional_heard: bool,
    /// First BYE of each dialog, by the callee-side tag.
    pub(super) byes: Vec<Bye>,
    pub(super) cancelled_at: Option<Instant>,
    pub(super) acknowledged: bool,
    /// A request inside the dialog was answered 408 or 481: the peer has no such dialog.
    pub(super) dead_at: Option<Instant>,
    pub(super) silent_at: Option<Instant>,
    pub(super) record: Option<(CallId, Instant)>,
    /// The call that it was in before it was joined with another one, and its side there.
    pub(super) before: Option<(CallId, Side)>,
    /// Its record says that it went before the call did: somebody was to take its place.
    pub(super) went_first: bool,
    /// The backends were asked who the caller is: until then there is no call.
    pub(super) unidentified: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Bye {
    pub(super) at: Instant,
    pub(super) incoming: bool,
    pub(super) tags: [String; 2],
    /// An incoming BYE counts once we answered 2xx.
    pub(super) accepted: bool,
}

impl Leg {
    fn new(side: Side, now: Instant, message: &Glance<'_>, peer: SocketAddr) -> Self {
        Self {
            side,
            is_wished: false,
            is_named: false,
            is_successor: false,
            began_at: now,
            peer,
            uri: message.uri.to_owned(),
            from_uri: uri_of(message.from).to_owned(),
            offerless: !message.body.starts_with("v="),
            last: None,
            challenged: false,
            rang_at: None,
            answered: None,
            answered_cseq: None,
            answer_tags: BTreeSet::new(),
            provisional_heard: false,
            byes: Vec::new(),
            cancelled_at: None,
            acknowledged: false,
            dead_at: None,
            silent_at: None,
            record: None,
            before: None,
            went_first: false,
            unidentified: false,
        }
    }

    /// The first BYE of the dialog that carried the call.
    pub(super) fn bye(&self) -> Option<&Bye> {
        let tag = self.answered.as_ref().map(|(_, tag)| tag)?;
        self.byes.iter().find(|bye| bye.tags.contains(tag) && (!bye.incoming || bye.accepted))
    }

    pub(super) fn ended_at(&self) -> Option<Instant> {
        let bye = self.bye().map(|bye| bye.at);
        [bye, self.dead_at].into_iter().flatten().min()
    }

    /// A record is due: the attempt got past the gate.
    pub(super) fn is_attempt(&self) -> bool {
        self.is_wished || (self.side == Side::Caller && self.last.is_some())
    }

    /// The gateway sent its first INVITE.
    pub(super) fn is_called(&self) -> bool {
        self.is_wished || self.is_successor || self.side == Side::Callee
    }
}

impl Legs {
    pub(super) fn message_in(&mut self, now: Instant, message: &Glance<'_>, peer: SocketAddr) {
        if message.is_request("INVITE") && message.to_tag.is_none() {
            self.by_call_id
                .entry(message.call_id.to_owned())
                .or_insert_with(|| Leg::new(Side::Caller, now, message, peer));
            return;
        }
        let Some(leg) = self.by_call_id.get_mut(message.call_id) else { return };
        match (message.method, message.status) {
            ("BYE", None) => file_bye(leg, now, message, true),
            ("CANCEL", None) => leg.cancelled_at = leg.cancelled_at.or(Some(now)),
            // Another number belongs to a challenge.
            ("ACK", None) => leg.acknowledged |= leg.answered_cseq == Some(message.cseq),
            ("INVITE", Some(status)) if leg.is_called() && leg.answered.is_none() => {
                first_answer(leg, now, status, message);
            }
            ("INVITE", Some(200..=299)) if leg.is_called() => {
                leg.answer_tags.extend(message.to_tag.map(str::to_owned));
            }
            // Who wants to hear no more of a transfer may talk on (RFC 5057 5.1).
            (method, Some(408 | 481))
                if !matches!(method, "BYE" | "CANCEL" | "NOTIFY" | "PRACK") =>
            {
                leg.dead_at = leg.dead_at.or(Some(now));
            }
            _ => {}
        }
    }

    /// `news`: not a repeat of something that was sent before. `wish`: the side of a leg that is
    /// called for a wish.
    pub(super) fn message_out(
        &mut self,
        now: Instant,
        message: &Glance<'_>,
        peer: SocketAddr,
        news: bool,
        wish: Option<Side>,
    ) -> Verdict {
        if message.is_request("INVITE") && message.to_tag.is_none() {
            let id = message.call_id.to_owned();
            let leg = self.by_call_id.entry(id);
            let leg = leg.or_insert_with(|| {
                let is_successor = message.values("Referred-By").next().is_some();
                // On which side it is, its record says.
                let wish = wish.filter(|_| !is_successor);
                let leg = Leg::new(wish.unwrap_or(Side::Callee), now, message, peer);
                Leg { is_wished: wish.is_some(), is_successor, ..leg }
            });
            return silent_after_end(now, leg, message, news);
        }
        let Some(leg) = self.by_call_id.get_mut(message.call_id) else { return Ok(()) };
        silent_after_end(now, leg, message, news)?;
        match (message.method, message.status) {
            ("BYE", None) if news => file_bye(leg, now, message, false),
            ("BYE", Some(200..=299)) => accept_bye(leg, message),
            ("INVITE", Some(status)) if !leg.is_called() && leg.answered.is_none() => {
                answer_to_caller(leg, now, status, message);
            }
            _ => {}
        }
        Ok(())
    }

    /// The backends were asked about the sender of this leg's INVITE.
    pub(super) fn sender_asked(&mut self, call_id: &str) {
        if let Some(leg) = self.by_call_id.get_mut(call_id) {
            leg.unidentified = true;
        }
    }

    pub(super) fn silent(&mut self, call_id: &str, now: Instant) {
        if let Some(leg) = self.by_call_id.get_mut(call_id) {
            leg.silent_at = leg.silent_at.or(Some(now));
        }
    }

    /// The other legs of the same record.
    pub(super) fn siblings<'a>(
        &'a self,
        call_id: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Leg)> {
        let record = self.by_call_id.get(call_id).and_then(|leg| leg.record).map(|(id, _)| id);
        self.by_call_id.iter().filter(move |(other, leg)| {
            *other != call_id && record.is_some() && leg.record.map(|(id, _)| id) == record
        })
    }

    /// Every leg of a record.
    pub(super) fn of_record(&self, id: CallId) -> impl Iterator<Item = &Leg> {
        self.by_call_id.values().filter(move |leg| leg.record.is_some_and(|(of, _)| of == id))
    }

    /// Every leg that was in this call, and went on in another one.
    pub(super) fn gone_from(&self, id: CallId) -> impl Iterator<Item = &Leg> {
        self.by_call_id.values().filter(move |leg| leg.before.is_some_and(|(of, _)| of == id))
    }

    /// When the second party of a call of ours answered, wherever its leg is now.
    pub(super) fn second_answered(&self, call_id: &str, id: CallId) -> Option<Instant> {
        // One that we called for this call has its id in its Call-ID; whoever came from elsewhere and
        // went on has not.
        let ours = format!("{id}.");
        let went_on = self.by_call_id.iter().filter(|(name, leg)| {
            name.starts_with(&ours) && leg.before == Some((id, Side::Callee))
        });
        let stayed = self.winner(call_id);
        let answers = went_on.chain(stayed).filter_map(|(_, leg)| leg.answered.as_ref());
        answers.map(|(at, _)| *at).min()
    }

    /// Somebody was called to take a place in this leg's call: one leg may have gone before it ended.
    pub(super) fn was_moved(&self, leg: &Leg) -> bool {
        let left =
            |id| self.by_call_id.values().any(|leg| leg.before.is_some_and(|(of, _)| of == id));
        if leg.record.is_some_and(|(id, _)| left(id)) {
            return true;
        }
        let moved = |leg: &Leg| leg.is_successor || leg.went_first;
        leg.record.is_some_and(|(id, _)| self.of_record(id).any(moved))
    }

    /// The callee's leg that the caller was joined with: later answers lost the race.
    pub(super) fn winner<'a>(&'a self, call_id: &'a str) -> Option<(&'a String, &'a Leg)> {
        let answered_at = |leg: &Leg| {
            let at = leg.answered.as_ref().map(|(at, _)| *at);
            // One that came from another call was answered there.
            at.filter(|_| leg.side == Side::Callee && leg.before.is_none())
        };
        let first_at = self.siblings(call_id).filter_map(|(_, leg)| answered_at(leg)).min()?;
        // Answers that landed on different shards may change places over the mesh; the loser is the
        // one that was hung up at once.
        let close = self
            .siblings(call_id)
            .filter(move |(_, leg)| answered_at(leg).is_some_and(|at| at - first_at <= HOP));
        close.max_by_key(|(_, leg)| leg.ended_at().unwrap_or(Instant::from_nanos(u64::MAX)))
    }

    /// The gateway told this dialog to end, or answered its INVITE; the network may have lost that.
    pub(super) fn was_told(&self, call_id: &str, tag: &str, asks: &Asks) -> bool {
        let Some(leg) = self.by_call_id.get(call_id) else { return false };
        let said_bye = |bye: &Bye| !bye.incoming && bye.tags.iter().any(|found| found == tag);
        let refused = !leg.is_called() && leg.last.is_some() && leg.answered.is_none();
        refused || leg.byes.iter().any(said_bye) || asks.sent_of(call_id, "CANCEL").next().is_some()
    }

    /// The offer of a 2xx can only be answered with what the other side's ACK brings.
    pub(super) fn may_lack_ack(&self, call_id: &str, tag: &str) -> bool {
        // A repeat of the 2xx that comes after the peer's own BYE belongs to no dialog.
        let ended = |bye: &Bye| bye.accepted && bye.tags.iter().any(|found| found == tag);
        if self.by_call_id.get(call_id).is_some_and(|leg| leg.byes.iter().any(ended)) {
            return true;
        }
        let unacknowledged = |leg: &Leg| !leg.is_called() && leg.offerless && !leg.acknowledged;
        self.siblings(call_id).any(|(_, leg)| unacknowledged(leg))
    }

    /// After quiet: every dialog that was answered has ended, and both legs of a call together.
    pub(super) fn close(&self, asks: &Asks) -> Verdict {
        for (call_id, leg) in &self.by_call_id {
            if leg.is_called() {
                close_called(call_id, leg, asks)?;
            }
            if !leg.is_called() || leg.is_named {
                self.close_caller(call_id, leg)?;
            }
        }
        Ok(())
    }

    fn close_caller(&self, call_id: &str, leg: &Leg) -> Verdict {
        let Some((answered_at, _)) = leg.answered else { return Ok(()) };
        if self.was_moved(leg) {
            return Ok(()); // its last peer is not its first, and may be on either side
        }
        let Some(ended_at) = leg.ended_at() else {
            let at = millis(answered_at);
            return Err(Breach::new("call never ended", format!("{call_id}, answered at {at}")));
        };
        if let Some((other_id, other)) = self.winner(call_id) {
            let other_end = other.ended_at().unwrap_or(answered_at);
            let apart =
                if ended_at > other_end { ended_at - other_end } else { other_end - ended_at };
            // 64*T1: a BYE has to wait for the ACK that may never come (RFC 3261 15).
            if apart > Duration::from_secs(33) {
                let (one, two) = (millis(ended_at), millis(other_end));
                let facts = format!("{call_id} at {one}, {other_id} at {two}");
                return Err(Breach::new("legs end apart", facts));
            }
        }
        Ok(())
    }
}

/// RFC 3261 13.2.2.4, 9.1: no phone is left ringing or off the hook.
fn close_called(call_id: &str, leg: &Leg, asks: &Asks) -> Verdict {
    for tag in &leg.answer_tags {
        let ended = leg.byes.iter().any(|bye| bye.tags.contains(tag)) || leg.dead_at.is_some();
        if !ended {
            let facts = format!("{call_id}, answered with tag {tag}, got no BYE");
            return Err(Breach::new("dialog left open", facts));
        }
    }
    let unanswered = leg.last.is_none() && leg.answer_tags.is_empty();
    let cancelled = asks.sent_of(call_id, "CANCEL").next().is_some();
    // A phone that says BYE before an answer of its own has stopped ringing.
    if unanswered && leg.provisional_heard && !cancelled && leg.byes.is_empty() {
        let facts = format!("{call_id} rang at {} and got no CANCEL", leg.peer);
        return Err(Breach::new("phone left ringing", facts));
    }
    Ok(())
}

fn first_answer(leg: &mut Leg, now: Instant, status: u16, message: &Glance<'_>) {
    match status {
        100..=199 => {
            leg.provisional_heard = true;
            if matches!(status, 180 | 183) {
                leg.rang_at = leg.rang_at.or(Some(now));
            }
        }
        200..=299 => {
            let tag = message.to_tag.unwrap_or_default().to_owned();
            leg.answer_tags.insert(tag.clone());
            leg.answered = Some((now, tag));
            leg.last = Some((status, now));
        }
        // A 422 asks for the same INVITE with a longer session interval (RFC 4028 7.3), a challenge
        // for the same with credentials (RFC 3261 22.2).
        _ if leg.last.is_some_and(|(status, _)| matches!(status, 401 | 407 | 422)) => {
            leg.last = Some((status, now));
        }
        _ => leg.last = leg.last.or(Some((status, now))),
    }
}

fn answer_to_caller(leg: &mut Leg, now: Instant, status: u16, message: &Glance<'_>) {
    match status {
        101..=199 => leg.rang_at = leg.rang_at.or(Some(now)),
        401 | 407 | 422 => leg.challenged = true,
        200..=299 => {
            leg.answered = Some((now, message.to_tag.unwrap_or_default().to_owned()));
            leg.answered_cseq = Some(message.cseq);
            leg.last = Some((status, now));
        }
        300.. => leg.last = Some(leg.last.unwrap_or((status, now))),
        _ => {}
    }
}

fn file_bye(leg: &mut Leg, now: Instant, message: &Glance<'_>, incoming: bool) {
    let tags = [message.from_tag, message.to_tag].map(|tag| tag.unwrap_or_default().to_owned());
    let known = leg.byes.iter().any(|bye| bye.tags == tags && bye.incoming == incoming);
    if !known {
        leg.byes.push(Bye { at: now, incoming, tags, accepted: false });
    }
}

fn accept_bye(leg: &mut Leg, message: &Glance<'_>) {
    let tags = [message.from_tag, message.to_tag].map(|tag| tag.unwrap_or_default().to_owned());
    for bye in leg.byes.iter_mut().filter(|bye| bye.incoming && bye.tags == tags) {
        bye.accepted = true;
    }
}

/// After its record a call says nothing new but BYE, CANCEL, ACK, PRACK and answers.
fn silent_after_end(now: Instant, leg: &Leg, message: &Glance<'_>, news: bool) -> Verdict {
    // What was said before the record may still be on its way to the shard that has the flow.
    let is_late = |at: &Instant| news && now - *at > HOP;
    let Some((record, at)) = leg.record.filter(|(_, at)| is_late(at)) else { return Ok(()) };
    // Who rings without having heard the CANCEL wants a PRACK (RFC 3262 4).
    let ends = matches!(message.method, "BYE" | "CANCEL" | "ACK" | "PRACK");
    let accepts = message.method == "INVITE" && matches!(message.status, Some(101..=299));
    if (message.status.is_none() && !ends) || accepts {
        let (method, status) = (message.method, message.status);
        let facts = format!(
            "{method} {status:?} of {} after record {record} at {}",
            message.call_id,
            millis(at)
        );
        return Err(Breach::new("output after the end", facts));
    }
    Ok(())
}

/// Where the SDP of a message says that media is received.
pub(super) fn places_in<'a>(message: &Glance<'a>) -> impl Iterator<Item = SocketAddr> + use<'a> {
    let spoken = message.body.starts_with("v=").then(|| Spoken::read(message.body)).flatten();
    spoken.into_iter().flat_map(|spoken| spoken.lines).map(|line| line.place)
}
