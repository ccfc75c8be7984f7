//! The book of call records: one CDR per attempt, and nothing in it that the wire did not show.
//! Owns:  the journal's starts and ends of a run.
//! Gives: breaches between records, legs and what the phones themselves report.
//! Never: a record without a call, a call past the gate without a record (reliability.md 8, 1).
//! Holds: durations are compared with the boundary's own times.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::cdr::{CallStatus, Cdr, HangupReason, LegEventType};
use shared::ids::{CallId, Side};
use shared::time::Instant;

use crate::ledger::asks::{Asks, millis};
use crate::ledger::legs::{Leg, Legs};
use crate::ledger::wishes::{self, Wishes};
use crate::ledger::{Breach, Verdict};
use crate::phone::Report;
use crate::phone::talk::SILENCE;
use crate::speech::glance::{Glance, user_of};

/// A mesh hop each way, and the millisecond that rounding takes.
const DURATION_MARGIN: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(super) struct Records {
    by_id: BTreeMap<CallId, (Instant, Box<Cdr>)>,
    /// Answered calls whose start is in the journal, by the A leg's Call-ID.
    started: BTreeMap<String, CallId>,
}

/// One call attempt as the books show it, for tests.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub call_id: &'a str,
    /// Final status that the gateway sent to the caller.
    pub status: Option<u16>,
    pub record: Option<&'a Cdr>,
}

impl Records {
    /// A start, the first one or one that is written again for a new segment.
    pub(super) fn began(&mut self, record: &Cdr) -> Verdict {
        let id = record.session_id;
        let wrong = |facts: String| Err(Breach::new("start", format!("{id}: {facts}")));
        if self.by_id.contains_key(&id) {
            return wrong("it has ended before".to_owned());
        }
        let cut = (record.status, record.status_code, record.hangup_reason);
        if cut != (CallStatus::Completed, 200, HangupReason::SystemCrash) {
            return wrong(format!("not what a crash would leave: {cut:?}"));
        }
        let since = record.answer_time.map(|at| at.add_ms(record.duration_ms));
        if since.is_none_or(|end| end.0.abs_diff(record.end_time.0) > 1) {
            return wrong(format!("{since:?} is its end, it says {:?}", record.end_time));
        }
        self.started.insert(record.call_id.clone(), id);
        Ok(())
    }

    /// reliability.md DU1: an answer that a caller hears is one that the journal knows of.
    pub(super) fn may_leave(&self, message: &Glance<'_>, legs: &Legs) -> Verdict {
        let answers = message.is_response_to("INVITE") && matches!(message.status, Some(200..=299));
        let to_caller =
            legs.by_call_id.get(message.call_id).is_some_and(|leg| leg.side == Side::Caller);
        if answers && to_caller && !self.started.contains_key(message.call_id) {
            return Err(Breach::new("answer before journal", message.call_id));
        }
        Ok(())
    }

    /// `wished`: the call was made for a program.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        record: &Cdr,
        legs: &mut Legs,
        wished: bool,
    ) -> Verdict {
        let id = record.session_id;
        let wrong = |facts: String| Err(Breach::new("record", format!("{id}: {facts}")));
        if self.by_id.contains_key(&id) {
            return Err(Breach::new("two records", format!("{id} came twice")));
        }
        let roles = &record.sip_leg_roles;
        let first = roles.first().map(|role| (role.call_id.as_str(), role.role));
        let may_lack_legs = wished && roles.is_empty() && record.answer_time.is_none();
        if first != Some((record.call_id.as_str(), Side::Caller)) && !may_lack_legs {
            return wrong(format!("the first leg is {first:?}, the call {}", record.call_id));
        }
        let times =
            [Some(record.start_time), record.ring_time, record.answer_time, Some(record.end_time)];
        if !times.iter().flatten().is_sorted() {
            return wrong(format!("times out of order: {times:?}"));
        }
        for role in roles {
            let Some(leg) = legs.by_call_id.get_mut(&role.call_id) else {
                return wrong(format!("leg {} was never seen", role.call_id));
            };
            if leg.is_successor {
                leg.side = role.role;
            }
            if leg.side != role.role {
                return wrong(format!(
                    "leg {} is {:?}, says {:?}",
                    role.call_id, leg.side, role.role
                ));
            }
            let joins = |details: &Option<String>| {
                details.as_ref().is_some_and(|text| text.starts_with("it goes on in call"))
            };
            let of_leg = record.leg_timeline.events.iter().filter(|event| {
                let accepted = event.event_type == LegEventType::TransferAccepted;
                accepted && event.leg_id == role.call_id
            });
            let (went, came): (Vec<_>, Vec<_>) = of_leg.partition(|event| joins(&event.details));
            if !went.is_empty() {
                // It has its record with the call that it went to.
                (leg.before, leg.is_successor) = (Some((id, role.role)), true);
                continue;
            }
            // One that hung up in the call that it came from while it joined this one is in both.
            if let Some((other, _)) = leg.record.filter(|_| came.is_empty()) {
                let facts = format!("{} is in {other} and in {id}", role.call_id);
                return Err(Breach::new("two records", facts));
            }
            leg.went_first = record.leg_timeline.events.iter().any(|event| {
                let hung_up =
                    event.details.as_ref().is_some_and(|text| text.starts_with("it hung up"));
                let left = event.event_type == LegEventType::Removed && hung_up;
                left && event.leg_id == role.call_id
            });
            if leg.went_first && leg.bye().is_none_or(|bye| !bye.incoming) {
                return wrong(format!("{} hung up, it says, and never said BYE", role.call_id));
            }
            leg.record = Some((id, now));
            leg.is_named = role.call_id == record.call_id;
        }
        self.by_id.insert(id, (now, Box::new(record.clone())));
        Ok(())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Cdr> {
        self.by_id.values().map(|(_, record)| &**record)
    }

    pub(super) fn attempts<'a>(&'a self, legs: &'a Legs) -> impl Iterator<Item = Attempt<'a>> {
        let callers = legs.by_call_id.iter().filter(|(_, leg)| leg.side == Side::Caller);
        callers.map(|(call_id, leg)| Attempt {
            call_id,
            status: leg.last.map(|(status, _)| status),
            record: self.of(leg),
        })
    }

    fn of(&self, leg: &Leg) -> Option<&Cdr> {
        leg.record.and_then(|(id, _)| self.by_id.get(&id)).map(|(_, record)| record.as_ref())
    }

    pub(super) fn close(
        &self,
        legs: &Legs,
        asks: &Asks,
        wishes: &Wishes,
        reports: &[(usize, Report)],
    ) -> Verdict {
        for (call_id, leg) in &legs.by_call_id {
            match self.of(leg) {
                None => may_lack_record(call_id, leg)?,
                Some(record) if leg.is_named => {
                    match wishes.find(record.session_id) {
                        Some(wish) => wishes::compare(record, wish, leg, legs)?,
                        None => self.compare(record, call_id, leg, asks)?,
                    }
                    self.compare_start(record)?;
                    if record.answer_time.is_some() {
                        answered_call(record, call_id, leg, legs)?;
                    }
                }
                Some(_) => {}
            }
        }
        if let Some(id) = wishes.ids().find(|id| !self.by_id.contains_key(id)) {
            return Err(Breach::new("no record", format!("{id}, which a program asked for")));
        }
        for (phone, report) in reports {
            self.compare_report(*phone, report, legs)?;
        }
        voices(legs, reports)?;
        silence(legs, reports)
    }

    /// Answered calls, and only they, have a start in the journal.
    fn compare_start(&self, record: &Cdr) -> Verdict {
        let (answered, id) = (record.answer_time.is_some(), record.session_id);
        if answered != self.started.values().any(|started| *started == id) {
            let facts = format!("{id}: answered: {answered}, in the journal: {}", !answered);
            return Err(Breach::new("start", facts));
        }
        Ok(())
    }

    fn compare(&self, record: &Cdr, call_id: &str, leg: &Leg, asks: &Asks) -> Verdict {
        let wrong = |what: &str, facts: String| {
            Err(Breach::new(
                "record",
                format!("{call_id} ({}): {what}: {facts}", record.session_id),
            ))
        };
        let Some((status, _)) = leg.last else {
            return wrong("no final answer was sent", String::new());
        };
        if record.status_code != status {
            return wrong("status", format!("{} in the record, {status} sent", record.status_code));
        }
        let answered = leg.answered.is_some();
        let completed = record.status == CallStatus::Completed;
        if answered != record.answer_time.is_some() || answered != completed {
            let said = (record.answer_time, record.status);
            return wrong("answer", format!("{said:?} in the record, answered: {answered}"));
        }
        let parties = (record.caller.as_str(), record.callee.as_str());
        let expected = (user_of(&leg.from_uri), user_of(&leg.uri));
        if parties != expected {
            return wrong(
                "parties",
                format!("{parties:?} in the record, {expected:?} on the wire"),
            );
        }
        if record.source_addr != leg.peer.to_string() && !asks.flow_broke(call_id) {
            return wrong(
                "source",
                format!("{} in the record, {} seen", record.source_addr, leg.peer),
            );
        }
        if leg.rang_at.is_some() && record.ring_time.is_none() {
            return wrong("ring", "the caller heard ringing, the record has none".to_owned());
        }
        if answered { Ok(()) } else { failed_call(record, call_id, leg) }
    }

    /// What a phone saw and what the books say.
    fn compare_report(&self, phone: usize, report: &Report, legs: &Legs) -> Verdict {
        let Some(leg) = legs.by_call_id.get(&report.call_id) else { return Ok(()) };
        let (Some(seen), Some((sent, _)), Side::Caller) =
            (report.final_status, leg.last, report.role)
        else {
            return Ok(());
        };
        if seen != sent && !matches!(seen, 401 | 407) {
            let facts =
                format!("phone {phone} heard {seen} for {}, {sent} was sent", report.call_id);
            return Err(Breach::new("phone and wire differ", facts));
        }
        Ok(())
    }
}

/// A challenge that was never answered is no attempt; neither is what the gate turned away.
fn may_lack_record(call_id: &str, leg: &Leg) -> Verdict {
    let turned_away = matches!(leg.last, None | Some((400 | 403 | 420 | 482 | 483 | 503, _)));
    // Whoever the backends do not name, or cancels before they do, has made no attempt.
    let nobody = leg.unidentified && matches!(leg.last, Some((402 | 487, _)));
    if !leg.is_called() && (turned_away || nobody || !leg.is_attempt()) {
        return Ok(());
    }
    let (side, at) = (leg.side, millis(leg.began_at));
    let facts = format!("{call_id}, {side:?}, began at {at}, final answer {:?}", leg.last);
    Err(Breach::new("no record", facts))
}

/// Which leg's end was the end of a call whose legs changed, or that had one only, the wire does not
/// tell; but its record comes with the end.
fn moved_call(record: &Cdr, call_id: &str, leg: &Leg, answered_at: Instant) -> Verdict {
    let said = Duration::from_millis(record.duration_ms);
    let talked = leg.record.map(|(_, ended_at)| ended_at - answered_at).unwrap_or_default();
    if said.abs_diff(talked) <= DURATION_MARGIN {
        return Ok(());
    }
    let facts = format!("{call_id} ({}): {said:?}, not {talked:?}", record.session_id);
    Err(Breach::new("record", facts))
}

fn answered_call(record: &Cdr, call_id: &str, leg: &Leg, legs: &Legs) -> Verdict {
    let wrong = |what: &str, facts: String| {
        Err(Breach::new("record", format!("{call_id} ({}): {what}: {facts}", record.session_id)))
    };
    let mut ends: Vec<(Instant, Side, bool)> = Vec::new();
    let other = legs.winner(call_id).map(|(_, other)| other);
    // A call that we make is answered by the second party.
    let answer = if leg.is_wished {
        legs.second_answered(call_id, record.session_id)
    } else {
        leg.answered.as_ref().map(|(at, _)| *at)
    };
    // A program may answer a caller whom nobody joins: its BYE waits for the ACK, the record does not.
    let was_joined = other
        .and_then(|leg| leg.answered.as_ref())
        .is_some_and(|(at, _)| leg.record.is_none_or(|(_, ended_at)| *at <= ended_at));
    if let (Some(answered_at), true) = (answer, legs.was_moved(leg) || !was_joined) {
        return moved_call(record, call_id, leg, answered_at);
    }
    for other in other.into_iter().chain([leg]) {
        ends.extend(other.bye().map(|bye| (bye.at, other.side, bye.incoming)));
        // What a phone refuses while it rings ends nothing.
        let dead_at = other.dead_at.filter(|at| answer.is_none_or(|since| *at >= since));
        ends.extend(dead_at.map(|at| (at, other.side, false)));
    }
    ends.sort_by_key(|(at, ..)| *at);
    let (Some(answered_at), Some(&(ended_at, side, incoming))) = (answer, ends.first()) else {
        return wrong("it never ended", String::new());
    };
    let (talked, said) = (ended_at - answered_at, Duration::from_millis(record.duration_ms));
    if said.abs_diff(talked) > DURATION_MARGIN {
        return wrong("duration", format!("{said:?} in the record, {talked:?} on the wire"));
    }
    let silent =
        leg.silent_at.is_some_and(|at| at.since(ended_at) == Duration::ZERO && ended_at <= at);
    let expected = match (incoming, side) {
        (true, Side::Caller) => HangupReason::ByCaller,
        (true, Side::Callee) => HangupReason::ByCallee,
        (false, _) if silent => HangupReason::RtpTimeout,
        (false, _) => return Ok(()),
    };
    if record.hangup_reason != expected {
        return wrong(
            "who hung up",
            format!("{:?} in the record, {expected:?}", record.hangup_reason),
        );
    }
    Ok(())
}

fn failed_call(record: &Cdr, call_id: &str, leg: &Leg) -> Verdict {
    let wrong = |facts: String| {
        Err(Breach::new("record", format!("{call_id} ({}): {facts}", record.session_id)))
    };
    if record.duration_ms != 0 {
        return wrong(format!("never answered, but lasted {} ms", record.duration_ms));
    }
    let cancelled = record.hangup_reason == HangupReason::Canceled;
    let was_cancelled =
        leg.cancelled_at.is_some() && leg.last.is_some_and(|(status, _)| status == 487);
    if was_cancelled != cancelled {
        let reason = record.hangup_reason;
        return wrong(format!(
            "{reason:?} in the record, cancelled by the caller: {was_cancelled}"
        ));
    }
    let talked = [HangupReason::ByCallee, HangupReason::ByCaller, HangupReason::RtpTimeout];
    if talked.contains(&record.hangup_reason) {
        return wrong(format!("never answered, but ended {:?}", record.hangup_reason));
    }
    Ok(())
}

/// Media that a phone heard came from the other side of its own call.
fn voices(legs: &Legs, reports: &[(usize, Report)]) -> Verdict {
    let by_mark: BTreeMap<u64, &Report> =
        reports.iter().map(|(_, report)| (report.mark, report)).collect();
    let places_of = |report: &Report| {
        let leg = legs.by_call_id.get(&report.call_id);
        let side = leg.map_or(report.role, |leg| leg.side);
        let now = leg.and_then(|leg| leg.record).map(|(id, _)| id);
        let before = leg.and_then(|leg| leg.before).map(|(id, side)| (Some(id), side));
        [Some((now, side)), before].into_iter().flatten().collect::<Vec<_>>()
    };
    for (phone, report) in reports {
        // A stranger's packets carry no mark; whether they may get through is for the media book.
        // Those of a muted side carry silence in its place.
        for mark in report.heard_from.iter().filter(|mark| ![0, SILENCE].contains(*mark)) {
            let Some(speaker) = by_mark.get(mark) else {
                let facts = format!("phone {phone} in {}: mark {mark:x}", report.call_id);
                return Err(Breach::new("foreign media", facts));
            };
            let (here, there) = (places_of(report), places_of(speaker));
            let faces = |one: &(Option<CallId>, Side)| {
                there.iter().any(|other| other.0 == one.0 && other.1 != one.1)
            };
            if !here.iter().any(faces) {
                let facts = format!("{} heard {}", report.call_id, speaker.call_id);
                return Err(Breach::new("foreign media", facts));
            }
        }
    }
    Ok(())
}

/// Packets after which even a careful relay over a bad line must have learnt both sources.
const LONG_TALK: u64 = 50;

/// Two phones that spoke long and undisturbed heard each other.
fn silence(legs: &Legs, reports: &[(usize, Report)]) -> Verdict {
    let by_call: BTreeMap<&str, &Report> =
        reports.iter().map(|(_, report)| (report.call_id.as_str(), report)).collect();
    let spoke = |report: &Report| report.packets_sent >= LONG_TALK && !report.silenced;
    let is_callers = |report: &Report| {
        legs.by_call_id
            .get(&report.call_id)
            .is_some_and(|leg| leg.side == Side::Caller && (leg.is_named || !leg.is_wished))
    };
    for (_, caller) in reports.iter().filter(|(_, report)| is_callers(report)) {
        let winner = legs.winner(&caller.call_id).and_then(|(id, _)| by_call.get(id.as_str()));
        let Some(callee) = winner else { continue };
        // The early media of a leg that lost the race can take a stream before its owner does.
        let rang = legs.siblings(&caller.call_id).count();
        if !spoke(caller) || !spoke(callee) || rang > 1 {
            continue;
        }
        let deaf = [caller, callee].into_iter().find(|report| report.packets_heard == 0);
        if let Some(deaf) = deaf {
            let facts = format!("{} heard nothing: {deaf:?}", deaf.call_id);
            return Err(Breach::new("no audio", facts));
        }
    }
    Ok(())
}
