//! Forwards of users as the records tell them: a chain is short and closes no ring.
//! Owns:  what a record may say of its forwards.
//! Gives: `check`, for every record that ends.
//! Never: the wire; that every leg of the record was seen there is for the records' own book.
//! Holds: limits.rs `FORWARDS_PER_CALL_MAX`; nobody forwards twice, and no step leads back.

use shared::cdr::{Cdr, LegEventType};
use shared::limits::FORWARDS_PER_CALL_MAX;

use crate::ledger::{Breach, Verdict};

pub(super) fn check(record: &Cdr) -> Verdict {
    let events = record.leg_timeline.events.iter();
    let steps = events.filter(|event| event.event_type == LegEventType::Forwarded);
    let mut met: Vec<&str> = Vec::new();
    for (made, step) in steps.enumerate() {
        let id = record.session_id;
        let breach = |facts: String| Err(Breach::new("forward", format!("{id}: {facts}")));
        if made >= usize::from(FORWARDS_PER_CALL_MAX) {
            return breach("more steps than a call may take".to_owned());
        }
        let details = step.details.as_deref().unwrap_or_default();
        let Some((from, rest)) = details.split_once(" forwards to ") else {
            return breach(format!("{details:?} is no step"));
        };
        let to = rest.split(' ').next().unwrap_or_default();
        if met.contains(&from) || met.contains(&to) || from == to {
            return breach(format!("{from} to {to} after {met:?}"));
        }
        met.push(from);
    }
    Ok(())
}

/// How many steps the records tell.
pub(crate) fn count<'r>(records: impl Iterator<Item = &'r Cdr>) -> u64 {
    let events = records.flat_map(|record| &record.leg_timeline.events);
    events.filter(|event| event.event_type == LegEventType::Forwarded).count() as u64
}
