//! The end of a run: quiet until all is over, then the books are closed (reliability.md 8, 4).
//! Owns:  nothing; it is the part of `World` that asks whether anything is left.
//! Gives: `Summary`, or the first thing that outlived its call.
//! Never: a verdict while messages may still be under way.
//! Holds: after the quiet time only registrations that are still due stand.

use std::fmt;
use std::time::Duration;

use call::Census;

use crate::ledger::{Breach, Verdict, forwards};
use crate::phone::{Phase, Report};
use crate::world::{Failure, World};

/// Long enough for every timer of RFC 3261 after the last call, ring and media time-outs included.
pub const QUIET: Duration = Duration::from_secs(600);

/// Longer than any registration is granted.
const EXPIRY: Duration = Duration::from_secs(7_300);

/// What a run that passed was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub seed: u64,
    pub hash: u64,
    pub steps: u64,
    pub calls: u64,
    pub answered: u64,
    pub records: u64,
    pub messages: u64,
    pub forwarded: u64,
    pub moved: u64,
    pub glares: u64,
    pub silent: u64,
    pub repelled: u64,
    /// Calls that went on elsewhere for a user's forwarding.
    pub sent_on: u64,
}

impl Summary {
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.calls += other.calls;
        self.answered += other.answered;
        self.records += other.records;
        self.messages += other.messages;
        self.forwarded += other.forwarded;
        self.moved += other.moved;
        self.glares += other.glares;
        self.silent += other.silent;
        self.repelled += other.repelled;
        self.sent_on += other.sent_on;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, calls, answered, records, messages, forwarded, moved, .. } = self;
        let Self { glares, silent, repelled, sent_on, .. } = self;
        write!(
            f,
            "{calls} calls ({answered} answered, {records} records, {sent_on} sent on), {messages} messages sent, \
             {moved} moved between shards, {forwarded} packets forwarded, {repelled} of strangers \
             dropped, {glares} glares, {silent} silent relays, {steps} steps"
        )
    }
}

impl World {
    /// No phone starts anything new; after `QUIET` the world must be as it began.
    pub fn finish(&mut self) -> Result<Summary, Failure> {
        for seat in &mut self.seats {
            seat.phone.stop_registering();
        }
        self.run_for(QUIET)?;
        self.check(|world| world.check_phones())?;
        self.check(|world| world.check_cores())?;
        self.check(|world| world.check_texts())?;
        let reports = self.reports();
        self.check(|world| world.ledger.close(&reports))?;
        self.run_for(EXPIRY)?;
        self.check(|world| world.check_emptiness())?;
        Ok(self.summary(&reports))
    }

    pub fn reports(&self) -> Vec<(usize, Report)> {
        let seats = self.seats.iter().enumerate();
        seats.flat_map(|(n, seat)| seat.phone.reports().map(move |r| (n, r.clone()))).collect()
    }

    fn check_phones(&self) -> Verdict {
        for (number, seat) in self.seats.iter().enumerate() {
            let mut usages = seat.phone.usages().iter();
            let left = usages.find(|usage| {
                usage.phase() != Phase::Over && !self.ledger.was_told_to_end(&usage.report)
            });
            if let Some(usage) = left {
                let facts = format!("phone {number}, {:?}: {:?}", usage.phase(), usage.report);
                return Err(Breach::new("phone left in a call", facts));
            }
            if let Some(lamp) = seat.phone.lamps_left().next() {
                let facts = format!("phone {number} shows calls that are over: {lamp:?}");
                return Err(Breach::new("lamp left on", facts));
            }
        }
        Ok(())
    }

    /// Whoever heard 2xx for a text has a reader.
    fn check_texts(&self) -> Verdict {
        let phones = || self.seats.iter().map(|seat| &seat.phone);
        let texts = phones().flat_map(|phone| phone.texts());
        let taken = texts.filter(|text| matches!(text.status, Some(200..=299)));
        let is_heard = |call_id: &String| phones().any(|one| one.heard_texts().contains(call_id));
        match taken.map(|text| &text.call_id).find(|call_id| !is_heard(call_id)) {
            None => Ok(()),
            Some(call_id) => {
                Err(Breach::new("text lost", format!("{call_id} was heard by nobody")))
            }
        }
    }

    fn check_cores(&self) -> Verdict {
        let (mut bindings, mut aors) = (0, 0);
        for shell in &self.shells {
            let census = shell.core.census();
            let shard = shell.id.0;
            bindings += census.bindings;
            aors += census.aors;
            // Timers of old refreshes are not cancelled; they are bounded by the longest expiry.
            // Who watches goes on watching.
            let left = Census { subscriptions: 0, watched: 0, ..census };
            let left = Census { bindings: 0, aors: 0, timers: 0, ..left };
            if left != Census::default() {
                return Err(Breach::new("leak", format!("shard {shard} after quiet: {census:?}")));
            }
            if !shell.core.idle() || shell.open_relays() > 0 {
                return Err(Breach::new("leak", format!("shard {shard} is not idle after quiet")));
            }
        }
        let standing = self.ledger.registrations.standing(self.now);
        if standing.is_some_and(|standing| standing != bindings) || aors > bindings {
            let facts =
                format!("{bindings} bindings of {aors} AORs stand, {standing:?} were granted");
            return Err(Breach::new("bindings", facts));
        }
        Ok(())
    }

    /// The last registration has run out: nothing at all stands.
    fn check_emptiness(&self) -> Verdict {
        for shell in &self.shells {
            let census = shell.core.census();
            if census != Census::default() {
                let facts = format!("shard {} after every expiry: {census:?}", shell.id.0);
                return Err(Breach::new("leak", facts));
            }
        }
        Ok(())
    }

    fn summary(&self, reports: &[(usize, Report)]) -> Summary {
        let attempts = self.ledger.attempts().count() as u64;
        let answered = self.noted.records.iter().filter(|record| record.answer_time.is_some());
        Summary {
            seed: self.settings.seed,
            hash: self.trace.hash(),
            steps: self.step,
            calls: attempts,
            answered: answered.count() as u64,
            records: self.noted.records.len() as u64,
            messages: self.noted.messages,
            forwarded: self.noted.forwarded,
            moved: self.noted.moved,
            glares: reports.iter().map(|(_, report)| u64::from(report.glares)).sum(),
            silent: self.noted.silent,
            repelled: self.noted.repelled,
            sent_on: forwards::count(self.noted.records.iter()),
        }
    }
}
