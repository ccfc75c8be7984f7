//! The line of one endpoint: what is sent next, what waits, and when to look again.
//! Owns:  the rows in memory (a page or so), the order per key, attempts, pauses, the endpoint's health.
//! Gives: `Output`s to the shell: fetch a page, send a row, write outcomes down.
//! Never: reads a clock, touches a socket or the database; wall time comes in, since rows outlive us.
//! Holds: of one key one row is under way at a time, the oldest first; a row stays held until its outcome
//!        is written, so nothing is sent twice by one process unless it failed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use shared::time::WallMs;

use super::schedule::{AGE_MAX, gap_after};
use crate::store::{Due, Next, Settlement, Tried, Waiting};

/// How much of the endpoint's backlog is worked on at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls under way.
    pub concurrency: usize,
    /// Rows that are read at a time.
    pub page: usize,
}

impl Limits {
    pub const DEFAULT: Self = Self { concurrency: 32, page: 256 };
}

/// Failures without a success between them after which an endpoint counts as down.
const FAILURES_MAX: u32 = 5;
/// One row in so much time is tried while it is down: the others keep their attempts.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// A row that was such a try waits so long, and the try does not count.
const SPARED_WAIT: Duration = Duration::from_secs(30);
/// A `Retry-After` holds the whole endpoint, for an hour at most.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// A look without being woken, so that a lost wake-up costs a moment.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After a look that the database did not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub enum Input {
    Attempted {
        id: i64,
        tried: Tried,
        verdict: Verdict,
        /// -1..=1, drawn by the shell.
        jitter: f64,
    },
    /// The configuration or an operator said so.
    Enabled(bool),
    FetchFailed,
    Fetched(Due),
    /// The outcomes that were given out last are in the database.
    Settled,
    Timeout,
    /// There are new rows.
    Woken,
}

#[derive(Debug)]
pub enum Output {
    Fetch { limit: usize },
    Send(Waiting),
    Settle(Vec<Settlement>),
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    Failed {
        /// The endpoint as a whole is to blame: unreachable, silent, 5xx, 429.
        outage: bool,
        retry_after: Option<Duration>,
    },
    /// 410: nobody wants these events any more.
    Gone,
    /// Something that belongs to it is not ready; this was no attempt.
    NotYet {
        wait: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Down { probe_at: WallMs },
    Up,
}

#[derive(Debug)]
pub struct Line {
    limits: Limits,
    enabled: bool,
    lanes: HashMap<String, Lane>,
    /// First rows of their lanes.
    ready: VecDeque<Waiting>,
    under_way: HashMap<i64, Flight>,
    /// Every row in memory, those with unwritten outcomes included.
    held: HashSet<i64>,
    /// Rows in lanes.
    queued: usize,
    outcomes: Vec<Settlement>,
    /// Given out to be written.
    settling: Option<Batch>,
    fetching: bool,
    /// Written while rows were read: the reader may have seen them as they were before.
    outdated: HashSet<i64>,
    look_at: Option<WallMs>,
    health: Health,
    failures: u32,
    paused_until: Option<WallMs>,
    outputs: VecDeque<Output>,
}

/// The rows of one key, without a gap.
#[derive(Debug)]
struct Lane {
    /// What follows the row that is ready or under way.
    rows: VecDeque<Waiting>,
    last: i64,
    /// There are rows of the key that did not fit on.
    more: bool,
}

#[derive(Debug)]
struct Flight {
    key: String,
    attempts: u32,
    queued_at: WallMs,
}

#[derive(Debug)]
struct Batch {
    ids: Vec<i64>,
    look_again: bool,
}

fn after(now: WallMs, wait: Duration) -> WallMs {
    now.add_ms(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

impl Line {
    /// Enabled when it is told so.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            enabled: false,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            under_way: HashMap::new(),
            held: HashSet::new(),
            queued: 0,
            outcomes: Vec::new(),
            settling: None,
            fetching: false,
            outdated: HashSet::new(),
            look_at: None,
            health: Health::Up,
            failures: 0,
            paused_until: None,
            outputs: VecDeque::new(),
        }
    }

    pub fn handle_input(&mut self, now: WallMs, input: Input) {
        match input {
            Input::Attempted { id, tried, verdict, jitter } => {
                self.attempted(now, id, tried, verdict, jitter);
            }
            Input::Enabled(enabled) => self.enable(now, enabled),
            Input::FetchFailed => {
                self.fetching = false;
                self.outdated.clear();
                self.look_at = Some(after(now, LOOK_AGAIN));
            }
            Input::Fetched(due) => self.fetched(now, due),
            Input::Settled => self.settled(now),
            Input::Timeout => {}
            Input::Woken => self.look_by(now),
        }
        self.drive(now);
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back with `Timeout`, if nothing happens before.
    pub fn deadline(&self) -> Option<WallMs> {
        let send_at = (self.enabled && !self.ready.is_empty()).then(|| self.send_at()).flatten();
        let look_at = self.look_at.filter(|_| self.enabled && self.has_room());
        match (send_at, look_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    pub const fn health(&self) -> Health {
        self.health
    }

    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// There are outcomes that are not in the database.
    pub fn is_unwritten(&self) -> bool {
        !self.outcomes.is_empty() || self.settling.is_some()
    }

    /// Rows in memory.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn enable(&mut self, now: WallMs, enabled: bool) {
        if self.enabled == enabled {
            return;
        }
        self.enabled = enabled;
        if enabled {
            (self.health, self.failures, self.paused_until) = (Health::Up, 0, None);
            self.look_by(now);
            return;
        }
        for row in self.ready.drain(..) {
            self.held.remove(&row.id);
        }
        for (_, lane) in self.lanes.drain() {
            for row in lane.rows {
                self.held.remove(&row.id);
            }
        }
        self.queued = 0;
    }

    fn fetched(&mut self, now: WallMs, due: Due) {
        self.fetching = false;
        let full = due.rows.len() >= due.limit;
        let mut behind = HashSet::new();
        let outdated = std::mem::take(&mut self.outdated);
        if self.enabled {
            for row in due.rows {
                if !outdated.contains(&row.id) {
                    self.take(row, &mut behind);
                }
            }
        }
        // The first of such a key waits for another try, and these behind it.
        self.outcomes.extend(behind.into_iter().map(|key| Settlement::Behind { key }));
        self.look_by(if full { now } else { after(now, LOOK_EVERY) });
        if let Some(at) = due.next_due {
            self.look_by(at);
        }
    }

    fn take(&mut self, row: Waiting, behind: &mut HashSet<String>) {
        if self.held.contains(&row.id) {
            return;
        }
        if let Some(lane) = self.lanes.get_mut(&row.key) {
            if row.after == Some(lane.last) {
                self.held.insert(row.id);
                self.queued += 1;
                lane.last = row.id;
                lane.rows.push_back(row);
            } else {
                // One between them is not due yet, or did not fit on the page.
                lane.more = true;
            }
        } else if row.is_head() {
            self.held.insert(row.id);
            let lane = Lane { rows: VecDeque::new(), last: row.id, more: false };
            self.lanes.insert(row.key.clone(), lane);
            self.ready.push_back(row);
        } else {
            behind.insert(row.key);
        }
    }

    fn attempted(&mut self, now: WallMs, id: i64, tried: Tried, verdict: Verdict, jitter: f64) {
        let Some(flight) = self.under_way.remove(&id) else { return };
        let Flight { key, attempts, queued_at } = flight;
        match verdict {
            Verdict::Delivered => {
                self.outcomes.push(Settlement::Attempt {
                    id,
                    key: key.clone(),
                    tried,
                    next: Next::Delivered,
                });
                self.advance(now, &key);
                self.worked();
            }
            Verdict::Failed { outage, retry_after } => {
                let spared = outage && self.health != Health::Up;
                let gap = if spared { Some(SPARED_WAIT) } else { gap_after(attempts + 1, jitter) };
                let gap = gap.filter(|_| now < after(queued_at, AGE_MAX));
                let due_at = gap.map(|gap| after(now, gap.max(retry_after.unwrap_or_default())));
                let next = match due_at {
                    None => Next::Dead,
                    Some(at) if spared => Next::Spared(at),
                    Some(at) => Next::DueAt(at),
                };
                self.outcomes.push(Settlement::Attempt { id, key: key.clone(), tried, next });
                match next {
                    Next::DueAt(at) | Next::Spared(at) => self.drop_lane(&key, at),
                    // What follows goes when it is written that this one does not.
                    Next::Dead | Next::Delivered => self.drop_lane(&key, now),
                }
                if let Some(wait) = retry_after {
                    self.paused_until = Some(after(now, wait.min(PAUSE_MAX)));
                }
                self.failed(now, outage);
            }
            Verdict::Gone => {
                self.outcomes.push(Settlement::Attempt { id, key, tried, next: Next::DueAt(now) });
                self.outcomes.push(Settlement::Disable { reason: "it answered 410 Gone" });
                self.enable(now, false);
            }
            Verdict::NotYet { wait } => {
                let until = after(now, wait);
                self.outcomes.push(Settlement::Later { id, key: key.clone(), until });
                self.drop_lane(&key, until);
            }
        }
    }

    /// The next row of the key, if there is one in memory.
    fn advance(&mut self, now: WallMs, key: &str) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        if let Some(row) = lane.rows.pop_front() {
            self.queued -= 1;
            self.ready.push_back(row);
            return;
        }
        if lane.more {
            self.look_by(now);
        }
        self.lanes.remove(key);
    }

    /// What follows waits as long as the first: it is read again then.
    fn drop_lane(&mut self, key: &str, until: WallMs) {
        for row in self.lanes.remove(key).into_iter().flat_map(|lane| lane.rows) {
            self.held.remove(&row.id);
            self.queued -= 1;
        }
        self.look_by(until);
    }

    const fn worked(&mut self) {
        (self.failures, self.health) = (0, Health::Up);
    }

    fn failed(&mut self, now: WallMs, outage: bool) {
        if !outage {
            return;
        }
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            self.health = Health::Down { probe_at: after(now, PROBE_EVERY) };
        }
    }

    fn settled(&mut self, now: WallMs) {
        let Some(batch) = self.settling.take() else { return };
        for id in &batch.ids {
            self.held.remove(id);
        }
        if self.fetching {
            self.outdated.extend(batch.ids);
        }
        if batch.look_again {
            self.look_by(now);
        }
    }

    fn look_by(&mut self, at: WallMs) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }

    fn has_room(&self) -> bool {
        // Outcomes that the database does not take are rows in memory too.
        !self.fetching
            && self.queued + self.ready.len() < self.limits.page / 2
            && self.held.len() < 2 * self.limits.page
    }

    /// When the next row may go; `None` when as many as may are under way.
    fn send_at(&self) -> Option<WallMs> {
        let most = if self.health == Health::Up { self.limits.concurrency } else { 1 };
        if self.under_way.len() >= most {
            return None;
        }
        let probe_at = match self.health {
            Health::Down { probe_at } => Some(probe_at),
            Health::Up => None,
        };
        Some(self.paused_until.max(probe_at).unwrap_or_default())
    }

    fn drive(&mut self, now: WallMs) {
        while self.enabled && self.send_at().is_some_and(|at| at <= now) {
            let Some(row) = self.ready.pop_front() else { break };
            if let Health::Down { probe_at } = &mut self.health {
                *probe_at = after(now, PROBE_EVERY);
            }
            let flight =
                Flight { key: row.key.clone(), attempts: row.attempts, queued_at: row.queued_at };
            self.under_way.insert(row.id, flight);
            self.outputs.push_back(Output::Send(row));
        }
        if self.enabled && self.has_room() && self.look_at.is_some_and(|at| at <= now) {
            self.fetching = true;
            self.look_at = None;
            // Rows that we hold are still due in the database.
            let limit = self.limits.page + self.held.len();
            self.outputs.push_back(Output::Fetch { limit });
        }
        if self.settling.is_none() && !self.outcomes.is_empty() {
            let outcomes = std::mem::take(&mut self.outcomes);
            self.settling = Some(Batch {
                ids: outcomes.iter().filter_map(Settlement::id).collect(),
                look_again: outcomes.iter().any(Settlement::frees_others),
            });
            self.outputs.push_back(Output::Settle(outcomes));
        }
    }
}
