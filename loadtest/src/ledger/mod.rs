//! The ledger: what the caller heard, what the gateway stored and what the receiver got, held together.
//! Owns:  the books and the promises between them (reliability.md DU1, DU3, 8.1, 8.2).
//! Gives: `check`: a summary, or the first promise that is broken, in words.
//! Never: the gateway's code; it reads logs and the API.
//! Holds: a book that was not brought (the receiver's) is not judged.

mod books;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use shared::cdr::HangupReason;
use shared::time::WallMs;

pub use books::{Delivery, Kill, Record, fetch, read_deliveries, read_lines, write_lines};

use crate::load::{Heard, HeardEvent};

/// A crash may cost the last second of a call's duration, no more (DU1).
const CUT_ERROR_MS: i64 = 1_000;
/// What processes on a busy host may need to write down the same moment.
const CLOCK_SLACK_MS: i64 = 500;

#[derive(Clone, Debug, Default)]
pub struct Books {
    pub heard: Vec<Heard>,
    pub records: Vec<Record>,
    pub kills: Vec<Kill>,
    /// What the webhook receiver got, if there was one.
    pub deliveries: Option<Vec<Delivery>>,
    /// What the host may hold a process up, on top of the bounds of time: milliseconds.
    pub stalls_ms: i64,
}

impl Books {
    fn clock_slack_ms(&self) -> i64 {
        CLOCK_SLACK_MS + self.stalls_ms
    }

    fn cut_error_ms(&self) -> i64 {
        CUT_ERROR_MS + self.stalls_ms
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub kills: usize,
    pub answered: usize,
    pub records: usize,
    /// Of the answered calls: ended by themselves, or cut by a kill.
    pub ended: usize,
    pub cut: usize,
    /// Written down, but killed before the answer reached the caller.
    pub unheard: usize,
    pub delivered: usize,
    pub delivered_again: usize,
    /// How far a cut call's end is from its kill at most.
    pub error_ms: i64,
    /// How long a BYE waited for its 200 at most.
    pub leave_ms: i64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, answered, records, ended, cut, unheard, error_ms, leave_ms, .. } = self;
        write!(
            f,
            "{kills} kills: {answered} answered calls, each with one record ({records} records in \
             all, {ended} calls ended, a BYE waited {leave_ms} ms at most, {cut} cut with an error \
             of at most {error_ms} ms, {unheard} answers that the caller never heard)"
        )?;
        if self.delivered > 0 {
            write!(f, "; {} delivered, {} again", self.delivered, self.delivered_again)?;
        }
        Ok(())
    }
}

/// The caller's view of one call.
#[derive(Clone, Copy, Debug)]
struct Call {
    answered_at: WallMs,
    hung_up_at: Option<WallMs>,
    /// The BYE was answered 200: the gateway knew the call.
    left_at: Option<WallMs>,
}

/// The first broken promise, as a sentence.
pub fn check(books: &Books) -> Result<Summary, String> {
    let calls = calls_of(&books.heard)?;
    let mut summary =
        Summary { kills: books.kills.len(), answered: calls.len(), ..Summary::default() };
    let by_call = records_of(books)?;
    summary.records = by_call.values().map(Vec::len).sum();
    for (call_id, call) in &calls {
        let records = by_call.get(call_id).map_or(&[] as &[_], Vec::as_slice);
        let (record, unheard) = the_one(call_id, call, records)?;
        summary.unheard += unheard;
        compare(call_id, call, record, books, &mut summary)?;
    }
    for (call_id, records) in &by_call {
        let known = calls.contains_key(call_id);
        let stray = records.iter().find(|record| !known && record.answer_time.is_some());
        match stray {
            Some(record) if record.hangup_reason == HangupReason::SystemCrash => {
                summary.unheard += 1;
            }
            Some(record) => {
                let id = &record.session_id;
                return Err(format!("record {id} says that {call_id} was answered; it was not"));
            }
            None => {}
        }
    }
    if let Some(deliveries) = &books.deliveries {
        check_deliveries(&books.records, deliveries, &mut summary)?;
    }
    Ok(summary)
}

fn calls_of(heard: &[Heard]) -> Result<BTreeMap<String, Call>, String> {
    let mut calls = BTreeMap::new();
    for line in heard {
        let call_id = &line.call_id;
        if line.event == HeardEvent::Answered {
            let call = Call { answered_at: line.at, hung_up_at: None, left_at: None };
            if calls.insert(call_id.clone(), call).is_some() {
                return Err(format!("the caller's log has the answer of {call_id} twice"));
            }
            continue;
        }
        let Some(call) = calls.get_mut(call_id) else {
            return Err(format!("the caller's log ends {call_id} before its answer"));
        };
        match line.event {
            HeardEvent::HungUp => call.hung_up_at = Some(line.at),
            _ => call.left_at = (line.status == Some(200)).then_some(line.at),
        }
    }
    Ok(calls)
}

/// By the A leg's Call-ID. A session has one record.
fn records_of(books: &Books) -> Result<BTreeMap<String, Vec<&Record>>, String> {
    let mut by_call: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    let mut sessions = BTreeSet::new();
    for record in &books.records {
        if !sessions.insert(&record.session_id) {
            return Err(format!("session {} has two records", record.session_id));
        }
        by_call.entry(record.call_id.clone()).or_default().push(record);
    }
    Ok(by_call)
}

/// The record of a call, and how many more there are that may be: a gateway that was killed between
/// writing down an answer and sending it leaves one; the caller asked again and heard a later answer.
/// Attempts that failed are no answered calls.
fn the_one<'r>(
    call_id: &str,
    call: &Call,
    records: &[&'r Record],
) -> Result<(&'r Record, usize), String> {
    let answered: Vec<&Record> =
        records.iter().copied().filter(|record| record.answer_time.is_some()).collect();
    let apart = |record: &&Record| {
        record.answer_time.map_or(u64::MAX, |at| at.0.abs_diff(call.answered_at.0))
    };
    let Some(one) = answered.iter().copied().min_by_key(apart) else {
        let at = call.answered_at;
        return Err(format!("call {call_id}, answered at {at}, has no record"));
    };
    let may_be = |record: &&Record| {
        let crashed = record.hangup_reason == HangupReason::SystemCrash;
        std::ptr::eq(*record, one) || (crashed && record.end_time <= call.answered_at)
    };
    if answered.iter().all(may_be) {
        return Ok((one, answered.len() - 1));
    }
    let ids: Vec<_> = answered.iter().map(|record| record.session_id.as_str()).collect();
    Err(format!("call {call_id} has {} records: {ids:?}", answered.len()))
}

fn compare(
    call_id: &str,
    call: &Call,
    record: &Record,
    books: &Books,
    summary: &mut Summary,
) -> Result<(), String> {
    let Some(answer) = record.answer_time else {
        return Err(format!("call {call_id} was answered, its record says it was not"));
    };
    let apart = call.answered_at.0 - answer.0;
    if apart.abs() > books.clock_slack_ms() {
        return Err(format!("call {call_id} was answered {apart} ms after its record says"));
    }
    if record.hangup_reason != HangupReason::SystemCrash {
        summary.ended += 1;
        let hung_up_at = call.hung_up_at.unwrap_or(record.end_time);
        // A BYE that came late, because the host was busy, ends the call late in both logs.
        let left_at = call.left_at.unwrap_or(hung_up_at);
        let slack = books.cut_error_ms() + CLOCK_SLACK_MS;
        if !(hung_up_at.0 - slack..=left_at.0 + slack).contains(&record.end_time.0) {
            let apart = record.end_time.0 - hung_up_at.0;
            return Err(format!("call {call_id} ended {apart} ms after the caller hung up"));
        }
        summary.leave_ms = summary.leave_ms.max(left_at.0 - hung_up_at.0);
        return Ok(());
    }
    summary.cut += 1;
    if call.left_at.is_some() && !cut_after_leave(record, call, books) {
        return Err(format!("call {call_id} ended with an answered BYE, its record says a crash"));
    }
    let end = record.end_time.0;
    let kill = books.kills.iter().find(|kill| kill.gone_at.0 + books.clock_slack_ms() >= end);
    let Some(kill) = kill else {
        return Err(format!(
            "call {call_id} is cut at {}, nothing was killed then",
            record.end_time
        ));
    };
    let error = kill.at.0 - end;
    if error > books.cut_error_ms() {
        return Err(format!(
            "call {call_id} was cut at {}, its record ends {error} ms before that",
            kill.at
        ));
    }
    summary.error_ms = summary.error_ms.max(error);
    Ok(())
}

/// The gateway answers a BYE when its relays may still have to report: killed just then, the end of
/// the call is not written down, and its start stands for it.
fn cut_after_leave(record: &Record, call: &Call, books: &Books) -> bool {
    let hung_up_at = call.hung_up_at.map_or(0, |at| at.0);
    record.end_time.0 <= hung_up_at + books.cut_error_ms()
        && books.kills.iter().any(|kill| {
            (hung_up_at - books.clock_slack_ms()..=hung_up_at + books.cut_error_ms())
                .contains(&kill.at.0)
        })
}

/// At least once, and every copy under the same id.
fn check_deliveries(
    records: &[Record],
    deliveries: &[Delivery],
    summary: &mut Summary,
) -> Result<(), String> {
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    for Delivery { id, session_id } in deliveries {
        match ids.insert(session_id, id) {
            None => summary.delivered += 1,
            Some(first) if first == id => summary.delivered_again += 1,
            Some(first) => {
                return Err(format!("session {session_id} came as {first} and as {id}"));
            }
        }
    }
    let known: BTreeSet<&str> = records.iter().map(|record| record.session_id.as_str()).collect();
    if let Some(stray) = ids.keys().find(|session| !known.contains(*session)) {
        return Err(format!("session {stray} was delivered, it has no record"));
    }
    match known.iter().find(|session| !ids.contains_key(*session)) {
        Some(missing) => Err(format!("the record of session {missing} was never delivered")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(call_id: &str, at: i64, event: HeardEvent, status: Option<u16>) -> Heard {
        Heard { call_id: call_id.to_owned(), at: WallMs(at), event, status }
    }

    fn record(call_id: &str, answer: i64, end: i64, reason: HangupReason) -> Record {
        Record {
            call_id: call_id.to_owned(),
            session_id: format!("session of {call_id} at {answer}"),
            answer_time: Some(WallMs(answer)),
            end_time: WallMs(end),
            hangup_reason: reason,
        }
    }

    /// One call that ended, one that a kill cut.
    fn books() -> Books {
        Books {
            heard: vec![
                heard("a", 10_000, HeardEvent::Answered, None),
                heard("b", 14_000, HeardEvent::Answered, None),
                heard("a", 15_000, HeardEvent::HungUp, None),
                heard("a", 15_005, HeardEvent::Over, Some(200)),
                heard("b", 19_000, HeardEvent::HungUp, None),
                heard("b", 19_010, HeardEvent::Over, Some(481)),
            ],
            records: vec![
                record("a", 9_999, 15_001, HangupReason::ByCaller),
                record("b", 13_998, 16_600, HangupReason::SystemCrash),
            ],
            kills: vec![Kill { at: WallMs(17_000), gone_at: WallMs(17_020) }],
            deliveries: None,
            stalls_ms: 0,
        }
    }

    fn broken(change: impl FnOnce(&mut Books)) -> String {
        let mut books = books();
        change(&mut books);
        check(&books).expect_err("a promise is broken")
    }

    #[test]
    fn honest_books_pass_and_say_how_many() {
        let summary = check(&books()).expect("they are honest");
        let expected = Summary {
            kills: 1,
            answered: 2,
            records: 2,
            ended: 1,
            cut: 1,
            error_ms: 400,
            leave_ms: 5,
            ..Summary::default()
        };
        assert_eq!(summary, expected);
    }

    #[test]
    fn a_lost_and_a_double_record_are_named() {
        let lost = broken(|books| drop(books.records.pop()));
        assert!(lost.starts_with("call b") && lost.ends_with("has no record"), "{lost}");
        let double = broken(|books| {
            books.records.push(record("a", 10_001, 15_000, HangupReason::ByCaller));
        });
        assert!(double.starts_with("call a has 2 records"), "{double}");
        let same = broken(|books| books.records.push(books.records[0].clone()));
        assert!(same.contains("two records"), "{same}");
    }

    #[test]
    fn a_cut_call_must_end_within_a_second_before_a_kill() {
        let early = broken(|books| books.records[1].end_time = WallMs(15_900));
        assert!(early.contains("1100 ms before"), "{early}");
        let late = broken(|books| books.records[1].end_time = WallMs(17_600));
        assert!(late.contains("nothing was killed then"), "{late}");
    }

    #[test]
    fn an_ended_call_is_not_cut_unless_it_was_killed_while_it_ended() {
        let wrong = broken(|books| books.records[0].hangup_reason = HangupReason::SystemCrash);
        assert!(wrong.contains("answered BYE"), "{wrong}");
        let mut close = books();
        close.records[0] = record("a", 9_999, 14_900, HangupReason::SystemCrash);
        close.kills.insert(0, Kill { at: WallMs(15_006), gone_at: WallMs(15_020) });
        assert_eq!(check(&close).expect("the kill came between").cut, 2);
    }

    #[test]
    fn an_answer_that_was_written_and_not_heard_is_counted_apart() {
        let mut books = books();
        books.records.push(record("b", 12_000, 12_000, HangupReason::SystemCrash));
        books.records.push(record("c", 16_900, 16_900, HangupReason::SystemCrash));
        assert_eq!(check(&books).expect("nobody heard them").unheard, 2);
        let invented = broken(|books| {
            books.records.push(record("c", 1_000, 2_000, HangupReason::ByCaller));
        });
        assert!(invented.contains("it was not"), "{invented}");
    }

    #[test]
    fn times_that_do_not_fit_are_named() {
        let answer = broken(|books| books.records[0].answer_time = Some(WallMs(9_000)));
        assert!(answer.contains("1000 ms after its record says"), "{answer}");
        let end = broken(|books| books.records[0].end_time = WallMs(18_000));
        assert!(end.contains("after the caller hung up"), "{end}");
        let early = broken(|books| books.records[0].end_time = WallMs(13_000));
        assert!(early.contains("-2000 ms after the caller hung up"), "{early}");
        let mut late = books();
        late.heard[3] = heard("a", 18_010, HeardEvent::Over, Some(200));
        late.records[0].end_time = WallMs(18_000);
        assert_eq!(check(&late).expect("both logs say so").leave_ms, 3_010);
    }

    #[test]
    fn every_record_is_delivered_under_one_id() {
        let delivery = |id: &str, record: &Record| Delivery {
            id: id.to_owned(),
            session_id: record.session_id.clone(),
        };
        let mut good = books();
        let [a, b] = [0, 1].map(|at| good.records[at].clone());
        let all = vec![delivery("1", &a), delivery("2", &b), delivery("1", &a)];
        good.deliveries = Some(all.clone());
        let summary = check(&good).expect("all came");
        assert_eq!((summary.delivered, summary.delivered_again), (2, 1));
        let missing = broken(|books| books.deliveries = Some(all[..1].to_vec()));
        assert!(missing.contains("never delivered"), "{missing}");
        let renamed = broken(|books| {
            books.deliveries = Some([&all[..], &[delivery("3", &b)]].concat());
        });
        assert!(renamed.contains("came as 2 and as 3"), "{renamed}");
        let stray = broken(|books| {
            books.records.truncate(1);
            books.heard.retain(|line| line.call_id == "a");
            books.deliveries = Some(all);
        });
        assert!(stray.contains("has no record"), "{stray}");
    }
}
