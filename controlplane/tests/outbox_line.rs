//! The line of one endpoint in virtual time: a database of our own, an endpoint that a test scripts, and
//! three days in a moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::ops::Bound;
use std::time::Duration;

use controlplane::store::{Due, Next, Settlement, Tried, Waiting};
use controlplane::webhooks::outbox::{Health, Input, Limits, Line, Output, Verdict};
use shared::time::WallMs;

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Dead,
    Delivered,
    Pending,
}

#[derive(Clone, Debug)]
struct Row {
    key: String,
    state: State,
    attempts: u32,
    queued_at: i64,
    due_at: i64,
}

/// What happens at a time, in the order of its making.
#[derive(Debug)]
enum Event {
    Answered {
        id: i64,
        verdict: Verdict,
    },
    Committed(Vec<Settlement>),
    /// What was there when it was asked for: outcomes may be written meanwhile.
    Read(Due),
    Insert {
        key: String,
    },
    Switch(bool),
    Crash,
}

/// What the endpoint does with an attempt: how long it takes, and how it ends.
type Script = Box<dyn FnMut(i64, &Waiting) -> (i64, Verdict)>;

struct World {
    now: i64,
    line: Line,
    rows: BTreeMap<i64, Row>,
    /// Pending rows by the time when they are due, and by key.
    due: BTreeSet<(i64, i64)>,
    pending: HashMap<String, BTreeSet<i64>>,
    delivered: HashSet<i64>,
    next_id: i64,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    events: HashMap<u64, Event>,
    next_event: u64,
    script: Script,
    random: u64,
    /// Time and id of every attempt, and of every success.
    attempts: Vec<(i64, i64)>,
    successes: Vec<(i64, i64)>,
    under_way: HashMap<i64, String>,
    held_max: usize,
    under_way_max: usize,
    disabled: bool,
}

impl World {
    fn new(script: impl FnMut(i64, &Waiting) -> (i64, Verdict) + 'static) -> Self {
        let mut world = Self {
            now: 1_000_000,
            line: Line::new(Limits { concurrency: 8, page: 64 }),
            rows: BTreeMap::new(),
            due: BTreeSet::new(),
            pending: HashMap::new(),
            delivered: HashSet::new(),
            next_id: 1,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            next_event: 0,
            script: Box::new(script),
            random: 7,
            attempts: Vec::new(),
            successes: Vec::new(),
            under_way: HashMap::new(),
            held_max: 0,
            under_way_max: 0,
            disabled: false,
        };
        world.input(Input::Enabled(true));
        world
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn at(&mut self, at: i64, event: Event) {
        self.queue.push(Reverse((at, self.next_event)));
        self.events.insert(self.next_event, event);
        self.next_event += 1;
    }

    fn insert(&mut self, at: i64, key: impl Into<String>) {
        self.at(at, Event::Insert { key: key.into() });
    }

    fn input(&mut self, input: Input) {
        self.line.handle_input(WallMs(self.now), input);
        self.held_max = self.held_max.max(self.line.held());
        while let Some(output) = self.line.poll_output() {
            match output {
                Output::Fetch { limit } => {
                    let takes = 2 + i64::try_from(self.draw() % 10).expect("small");
                    let due = self.due(limit);
                    self.at(self.now + takes, Event::Read(due));
                }
                Output::Settle(outcomes) => self.at(self.now + 5, Event::Committed(outcomes)),
                Output::Send(row) => self.send(row),
            }
        }
    }

    fn send(&mut self, row: Waiting) {
        assert!(
            self.under_way.values().all(|key| *key != row.key),
            "two rows of {} are under way",
            row.key
        );
        for older in self.pending.get(&row.key).into_iter().flat_map(|ids| ids.range(..row.id)) {
            let known = self.delivered.contains(older);
            assert!(known, "{} overtakes {older} of {}", row.id, row.key);
        }
        self.under_way.insert(row.id, row.key.clone());
        self.under_way_max = self.under_way_max.max(self.under_way.len());
        self.attempts.push((self.now, row.id));
        let (takes, verdict) = (self.script)(self.now, &row);
        self.at(self.now + takes, Event::Answered { id: row.id, verdict });
    }

    fn due(&self, limit: usize) -> Due {
        let (due, later) = ((i64::MIN, i64::MIN)..=(self.now, i64::MAX), (self.now, i64::MAX));
        let read = |(_, id): &(i64, i64)| {
            let row = &self.rows[id];
            Waiting {
                id: *id,
                event_id: format!("msg_{id}"),
                key: row.key.clone(),
                kind: "test".to_owned(),
                payload: String::new(),
                attempts: row.attempts,
                queued_at: WallMs(row.queued_at),
                after: self.pending[&row.key].range(..id).next_back().copied(),
            }
        };
        let rows = self.due.range(due).take(limit).map(read).collect();
        let next = self.due.range((Bound::Excluded(later), Bound::Unbounded)).next();
        Due { rows, limit, next_due: next.map(|(at, _)| WallMs(*at)) }
    }

    fn set_due(&mut self, id: i64, at: i64) {
        let row = self.rows.get_mut(&id).expect("it was added");
        self.due.remove(&(row.due_at, id));
        row.due_at = at;
        self.due.insert((at, id));
    }

    fn finish(&mut self, id: i64, state: State) {
        let row = self.rows.get_mut(&id).expect("it was added");
        row.state = state;
        self.due.remove(&(row.due_at, id));
        self.pending.get_mut(&row.key).expect("it was pending").remove(&id);
    }

    fn push_back(&mut self, key: &str, at: i64) {
        let pending: Vec<i64> = self.pending.get(key).into_iter().flatten().copied().collect();
        for id in pending {
            if self.rows[&id].due_at < at {
                self.set_due(id, at);
            }
        }
    }

    fn commit(&mut self, outcomes: Vec<Settlement>) {
        for outcome in outcomes {
            match outcome {
                Settlement::Attempt { id, key, next, .. } => {
                    let row = self.rows.get_mut(&id).expect("it was added");
                    if row.state != State::Pending {
                        continue; // A second success, of a process before.
                    }
                    row.attempts += u32::from(!matches!(next, Next::Spared(_)));
                    match next {
                        Next::Dead => self.finish(id, State::Dead),
                        Next::Delivered => self.finish(id, State::Delivered),
                        Next::DueAt(at) | Next::Spared(at) => {
                            self.set_due(id, at.0);
                            self.push_back(&key, at.0);
                        }
                    }
                }
                Settlement::Behind { key } => {
                    let head = self.pending.get(&key).and_then(BTreeSet::first);
                    if let Some(at) = head.map(|head| self.rows[head].due_at) {
                        self.push_back(&key, at);
                    }
                }
                Settlement::Disable { .. } => self.disabled = true,
                Settlement::Later { id, key, until } => {
                    self.set_due(id, until.0);
                    self.push_back(&key, until.0);
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Answered { id, verdict } => {
                if self.under_way.remove(&id).is_none() {
                    return; // The process that sent it is gone.
                }
                if verdict == Verdict::Delivered {
                    self.successes.push((self.now, id));
                    self.delivered.insert(id);
                }
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "any number between -1 and 1 will do"
                )]
                let jitter = (self.draw() % 2_001) as f64 / 1_000.0 - 1.0;
                let tried = Tried { at: WallMs(self.now), ..Tried::default() };
                self.input(Input::Attempted { id, tried, verdict, jitter });
            }
            Event::Committed(outcomes) => {
                self.commit(outcomes);
                self.input(Input::Settled);
            }
            Event::Read(due) => self.input(Input::Fetched(due)),
            Event::Insert { key } => {
                let (id, at) = (self.next_id, self.now);
                self.next_id += 1;
                self.due.insert((at, id));
                self.pending.entry(key.clone()).or_default().insert(id);
                let row =
                    Row { key, state: State::Pending, attempts: 0, queued_at: at, due_at: at };
                self.rows.insert(id, row);
                self.input(Input::Woken);
            }
            Event::Switch(enabled) => self.input(Input::Enabled(enabled)),
            Event::Crash => {
                // What was asked of the database and what is on the network is lost.
                let lost =
                    |event: &Event| !matches!(event, Event::Insert { .. } | Event::Switch(_));
                self.events.retain(|_, event| !lost(event));
                self.under_way.clear();
                self.line = Line::new(Limits { concurrency: 8, page: 64 });
                self.input(Input::Enabled(true));
            }
        }
    }

    /// Until nothing is left to do before `end`.
    fn run_until(&mut self, end: i64) {
        loop {
            let event_at = self.queue.peek().map(|Reverse((at, _))| *at);
            let deadline = self.line.deadline().map(|at| at.0);
            let next = match (event_at, deadline) {
                (Some(event), Some(deadline)) => event.min(deadline),
                (one, other) => match one.or(other) {
                    Some(at) => at,
                    None => return,
                },
            };
            if next > end {
                return;
            }
            self.now = self.now.max(next);
            if event_at == Some(next) {
                let Some(Reverse((_, number))) = self.queue.pop() else { continue };
                if let Some(event) = self.events.remove(&number) {
                    self.handle(event);
                }
            } else {
                self.input(Input::Timeout);
            }
        }
    }

    /// Until no row waits any more; `end` at the latest.
    fn run_out(&mut self, end: i64) {
        while self.now < end && !(self.queue.is_empty() && self.due.is_empty()) {
            self.run_until(end.min(self.now + HOUR));
        }
    }

    fn count(&self, state: State) -> usize {
        self.rows.values().filter(|row| row.state == state).count()
    }

    /// First deliveries of one key come in the order of its rows.
    fn assert_order(&self) {
        let (mut seen, mut last) = (HashSet::new(), HashMap::new());
        for (_, id) in &self.successes {
            if seen.insert(*id) {
                let key = &self.rows[id].key;
                let before = last.insert(key.clone(), *id);
                assert!(before.is_none_or(|before| before < *id), "{id} came before {before:?}");
            }
        }
    }
}

fn outage() -> Verdict {
    Verdict::Failed { outage: true, retry_after: None }
}

#[test]
fn a_row_that_always_fails_is_tried_ten_times_over_three_days_and_given_up() {
    let refused = Verdict::Failed { outage: false, retry_after: None };
    let mut world = World::new(move |_, _| (20, refused.clone()));
    let start = world.now;
    world.insert(start, "call");
    world.run_out(start + 200 * HOUR);
    assert_eq!(world.count(State::Dead), 1);
    let times: Vec<i64> = world.attempts.iter().map(|(at, _)| at - start).collect();
    assert_eq!(times.len(), 10);
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let planned = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
    for (gap, planned) in gaps.iter().zip(planned) {
        let (least, most) = (planned * 800, planned * 1_200 + 100);
        assert!((least..=most).contains(gap), "{gap} ms instead of {planned} s");
    }
    let total = times[9];
    assert!((60 * HOUR..=91 * HOUR).contains(&total), "{total} ms");
}

/// An hour at ten events a second: nothing is lost, memory stays flat, and the backlog drains at least
/// five times faster than it grew, although it goes on growing.
fn down_for_an_hour(fault: impl Fn() -> (i64, Verdict) + 'static) {
    let down_until = 1_000_000 + HOUR;
    let mut world =
        World::new(move |now, _| if now < down_until { fault() } else { (20, Verdict::Delivered) });
    let start = world.now;
    for event in 0..40_000_i64 {
        world.insert(start + event * 100, format!("aor-{}", event % 500));
    }
    world.run_until(start + HOUR);
    assert_eq!(world.count(State::Delivered), 0);
    let tried_while_down = world.attempts.len();
    assert!(tried_while_down < 2_000, "{tried_while_down} attempts into the void");
    assert!(world.rows.values().all(|row| row.attempts < 6), "attempts were burnt");

    world.run_until(start + 3 * HOUR);
    assert_eq!(world.rows.len(), 40_000);
    assert_eq!(world.count(State::Delivered), 40_000);
    world.assert_order();
    assert!(world.held_max <= 3 * 64 + 16, "{} rows in memory", world.held_max);
    assert_eq!(world.under_way_max, 8);
    // When the last row of the hour was through.
    let backlog: HashSet<i64> = (1..=36_000).collect();
    let drained_at =
        world.successes.iter().filter(|(_, id)| backlog.contains(id)).map(|(at, _)| *at);
    let drain = drained_at.max().expect("it drained") - down_until;
    assert!(drain < HOUR / 6, "{drain} ms to drain an hour");
}

#[test]
fn an_hour_of_refused_connections_is_made_up_for() {
    down_for_an_hour(|| (1, outage()));
}

#[test]
fn an_hour_of_silence_is_made_up_for() {
    down_for_an_hour(|| (15_000, outage()));
}

#[test]
fn rows_of_one_key_wait_for_the_first_and_others_do_not() {
    let mut failures = 3;
    let mut world = World::new(move |_, row| {
        if row.id == 1 && failures > 0 {
            failures -= 1;
            return (10, Verdict::Failed { outage: false, retry_after: None });
        }
        (10, Verdict::Delivered)
    });
    let start = world.now;
    for (delay, key) in [(0, "a"), (10, "a"), (20, "b"), (40_000, "a"), (50_000, "c")] {
        world.insert(start + delay, key);
    }
    world.run_until(start + 60_000);
    let delivered: Vec<i64> = world.successes.iter().map(|(_, id)| *id).collect();
    assert_eq!(delivered, [3, 5], "the first of `a` waits for another try");
    world.run_until(start + 2 * HOUR);
    let delivered: Vec<i64> = world.successes.iter().map(|(_, id)| *id).collect();
    assert_eq!(delivered, [3, 5, 1, 2, 4]);
}

#[test]
fn a_dead_row_lets_the_next_one_go() {
    let mut world = World::new(|_, row| match row.id {
        1 => (10, Verdict::Failed { outage: false, retry_after: None }),
        _ => (10, Verdict::Delivered),
    });
    let start = world.now;
    world.insert(start, "a");
    world.insert(start, "a");
    world.run_out(start + 200 * HOUR);
    assert_eq!((world.count(State::Dead), world.count(State::Delivered)), (1, 1));
    assert_eq!(world.attempts.len(), 11);
}

#[test]
fn where_nothing_fails_every_row_is_sent_once_and_soon() {
    let mut world = World::new(|_, row| (1 + row.id % 40, Verdict::Delivered));
    let start = world.now;
    for number in 0..5_000_i64 {
        world.insert(start + number * 10, format!("key-{}", number % 100));
    }
    world.run_until(start + HOUR);
    assert_eq!((world.count(State::Delivered), world.attempts.len()), (5_000, 5_000));
    let waited = world.successes.iter().map(|(at, id)| at - world.rows[id].queued_at);
    let waited = waited.max().expect("there are rows");
    assert!(waited < SECOND, "{waited} ms: no wake-up is lost");
}

#[test]
fn gone_switches_the_endpoint_off_and_keeps_everything() {
    let mut world = World::new(|now, _| {
        if now < 1_000_000 + HOUR { (10, Verdict::Gone) } else { (10, Verdict::Delivered) }
    });
    let start = world.now;
    for number in 0..20_i64 {
        world.insert(start + number * SECOND, format!("call-{number}"));
    }
    world.run_until(start + HOUR);
    assert!(world.disabled);
    assert_eq!((world.attempts.len(), world.count(State::Pending)), (1, 20));
    world.at(start + HOUR, Event::Switch(true));
    world.run_until(start + HOUR + 10 * SECOND);
    assert_eq!(world.count(State::Delivered), 20);
}

#[test]
fn retry_after_holds_the_whole_endpoint() {
    let mut asked = false;
    let mut world = World::new(move |_, _| {
        if std::mem::replace(&mut asked, true) {
            return (10, Verdict::Delivered);
        }
        let retry_after = Some(Duration::from_secs(120));
        (10, Verdict::Failed { outage: true, retry_after })
    });
    let start = world.now;
    world.insert(start, "a");
    world.insert(start + SECOND, "b");
    world.run_until(start + HOUR);
    let times: Vec<i64> = world.attempts.iter().map(|(at, _)| (at - start) / SECOND).collect();
    assert_eq!(times[0], 0);
    assert!(times[1] >= 120, "{times:?}");
    assert_eq!(world.count(State::Delivered), 2);
}

#[test]
fn what_is_not_ready_costs_no_attempt() {
    let mut world = World::new(|now, _| {
        if now < 1_000_000 + 60 * SECOND {
            return (1, Verdict::NotYet { wait: Duration::from_secs(2) });
        }
        (10, Verdict::Delivered)
    });
    let start = world.now;
    world.insert(start, "a");
    world.run_until(start + HOUR);
    assert_eq!(world.count(State::Delivered), 1);
    assert_eq!(world.rows[&1].attempts, 1);
    let took = world.successes[0].0 - start;
    assert!(took < 63 * SECOND, "{took} ms");
}

#[test]
fn an_endpoint_that_is_down_is_probed_gently() {
    let mut world = World::new(|_, _| (1, outage()));
    let start = world.now;
    for number in 0..100_i64 {
        world.insert(start, format!("call-{number}"));
    }
    world.run_until(start + 10 * 60 * SECOND);
    assert!(matches!(world.line.health(), Health::Down { .. }));
    let probes = world.attempts.len();
    assert!((100..140).contains(&probes), "{probes} attempts in ten minutes");
}

#[test]
fn an_endpoint_that_never_comes_back_leaves_dead_letters_after_three_days() {
    let mut world = World::new(|_, _| (1, outage()));
    let start = world.now;
    for number in 0..20_i64 {
        world.insert(start + number * 60 * SECOND, format!("call-{}", number % 10));
    }
    world.run_until(start + 75 * HOUR);
    assert_eq!(world.count(State::Pending), 20);
    world.run_until(start + 100 * HOUR);
    assert_eq!(world.count(State::Dead), 20);
}

/// Some call records that the receiver chokes on, every hour six in a row, among others that it takes: their
/// tries are spread over three days all the same, and the others do not wait for them.
#[test]
fn rows_that_their_endpoint_chokes_on_keep_their_three_days() {
    let is_bad = |id: i64| (id - 1) % 60 < 6;
    let mut world =
        World::new(move |_, row| (10, if is_bad(row.id) { outage() } else { Verdict::Delivered }));
    let start = world.now;
    for number in 0..300_i64 {
        world.insert(start + number * 60 * SECOND, format!("call-{number}"));
    }
    world.run_until(start + 60 * HOUR);
    let (pending, delivered) = (world.count(State::Pending), world.count(State::Delivered));
    assert_eq!((pending, delivered), (30, 270));
    for (at, id) in &world.successes {
        let waited = at - world.rows[id].queued_at;
        assert!(waited < 60 * SECOND, "{id} waited {waited} ms behind rows of others");
    }
    world.run_out(start + 200 * HOUR);
    assert_eq!(world.count(State::Dead), 30);
}

/// Failures, crashes and bursts at random. Every row ends, no order is broken, nothing is lost.
#[test]
fn whatever_happens_every_row_is_delivered_in_order() {
    for seed in 1..=60_u64 {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = move |below: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % below
        };
        let mut world = World::new(move |now, _| {
            let takes = 1 + i64::try_from(draw(2_000)).expect("small");
            let fails = now < 1_000_000 + 600 * SECOND && draw(4) == 0;
            let verdict = match (fails, draw(5)) {
                (false, _) => Verdict::Delivered,
                (true, 0) => Verdict::Failed { outage: false, retry_after: None },
                (true, 1) => Verdict::NotYet { wait: Duration::from_secs(2) },
                (true, 2) => {
                    let retry_after = Some(Duration::from_secs(3));
                    Verdict::Failed { outage: true, retry_after }
                }
                (true, _) => outage(),
            };
            (takes, verdict)
        });
        world.random = seed;
        let start = world.now;
        for _ in 0..1_500 {
            let at = start + i64::try_from(world.draw() % 600_000).expect("small");
            let key = format!("key-{}", world.draw() % 40);
            world.insert(at, key);
        }
        for _ in 0..3 {
            let at = start + i64::try_from(world.draw() % 600_000).expect("small");
            world.at(at, Event::Crash);
        }
        world.run_out(start + 200 * HOUR);
        let delivered: HashSet<i64> = world.successes.iter().map(|(_, id)| *id).collect();
        assert_eq!(world.count(State::Pending), 0, "seed {seed}");
        let lost = world
            .rows
            .iter()
            .filter(|(id, row)| row.state == State::Delivered && !delivered.contains(id));
        assert_eq!(lost.count(), 0, "seed {seed}");
        assert_eq!(world.count(State::Dead), 0, "seed {seed}");
        world.assert_order();
    }
}
