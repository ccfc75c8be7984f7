//! The test world: real cores, scripted phones and a network in one virtual time.
//! Owns:  the clock, the agenda, everybody in it, the trace.
//! Gives: `run_for`, `finish`; a `Failure` that prints seed, step and the newest messages.
//! Never: a real clock, socket or thread; two things at once.
//! Holds: one step moves one message, timer or act; the same seed makes the same steps.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use call::{Input, MeshMessage};
use shared::act::{CallAction, CallName};
use shared::ask::Decision;
use shared::command::Command;
use shared::ids::{FlowKey, ShardId};
use shared::metrics::Counter;
use shared::originate::Originate;
use shared::snapshot::Snapshot;
use shared::time::{Instant, Now, WallMs};

use crate::agenda::Agenda;
use crate::flows::Flows;
use crate::ledger::{Breach, Ledger, Verdict};
use crate::network::{Line, Nat};
pub use crate::noted::{Failure, Noted, Sent};
use crate::phone::plan::{CallerPlan, Step};
use crate::phone::{Phone, UsageId};
use crate::program::Program;
use crate::random::Random;
use crate::shell::Shell;
use crate::spec::{PhoneSpec, WorldSettings, outside_of};
use crate::trace::Trace;

/// Steps of one run; a healthy one takes some tens of thousands.
const STEPS_MAX: u64 = 5_000_000;
/// How long phones watch: on into the quiet time, and not to its end.
const WATCH: Duration = Duration::from_secs(3_600);
/// The id that answers to programs' wishes carry here.
const WISH: u64 = u64::MAX;
/// 2026-11-24 in UTC, for people.
const WALL_START: WallMs = WallMs(1_795_478_400_000);

#[derive(Debug)]
pub struct World {
    pub(crate) settings: WorldSettings,
    pub(crate) random: Random,
    pub(crate) now: Instant,
    pub(crate) step: u64,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) shells: Vec<Shell>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) line: Line,
    pub(crate) flows: Flows,
    pub(crate) mesh_arrival: BTreeMap<(u8, u8), Instant>,
    pub(crate) ledger: Ledger,
    pub(crate) trace: Trace,
    pub(crate) broke: bool,
    pub(crate) sweeping: bool,
    pub(crate) beating: bool,
    pub(crate) wall_shift: i64,
    pub(crate) loops: Vec<Loops>,
    pub(crate) noted: Noted,
    pub(crate) program: Program,
}

/// A phone in its place.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) phone: Phone,
    pub(crate) nat: Option<Nat>,
}

/// Timeouts of one shard, to find a busy loop.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loops {
    pub(crate) second: u64,
    pub(crate) timeouts: u32,
    pub(crate) at_once: u32,
    pub(crate) last: Instant,
}

#[derive(Debug)]
pub(crate) enum Event {
    Act(Act),
    Beat,
    Decided { shard: ShardId, id: u64, decision: Box<Decision> },
    FlowIn { flow: FlowKey, bytes: Rc<[u8]> },
    FlowOut { flow: FlowKey, bytes: Rc<[u8]> },
    MediaIn { port: u16, from: SocketAddr, bytes: Rc<[u8]> },
    MediaOut { phone: usize, to: SocketAddr, from: SocketAddr, bytes: Rc<[u8]> },
    Mesh { from: ShardId, to: ShardId, message: MeshMessage },
    SipIn { from: SocketAddr, bytes: Rc<[u8]> },
    SipOut { phone: usize, bytes: Rc<[u8]> },
    Sweep,
}

/// What happens to the world, beside the phones' own plans.
#[derive(Clone, Debug)]
pub enum Act {
    /// Ask every shard for its calls and dialogs.
    Ask,
    /// Packets from nowhere on open media ports.
    Attack,
    BreakFlow(usize),
    Call(usize, CallerPlan),
    ComeBack(usize),
    /// A program acts on one of the calls that stand: the `nth` of them, by our id or by the Call-ID
    /// of a leg.
    Command {
        nth: usize,
        by_leg: Option<usize>,
        action: CallAction,
    },
    Drain,
    HangUp(usize, UsageId),
    /// A program asks some shard for a call between two users or numbers.
    Originate(Originate),
    /// The same users again under the next generation.
    Publish,
    /// Bytes from an address that is no phone's.
    Raw(SocketAddr, Vec<u8>),
    RebindNat(usize),
    Step(usize, UsageId, Step),
    /// The wall clock jumps by so many milliseconds (reliability.md TM1); the other clock does not.
    StepWall(i64),
    /// Every shard ends its calls and stops.
    Stop,
    StopRegistering(usize),
    /// The journal of every shard goes on in a new segment.
    TurnJournal,
    /// A phone writes to a user or a number.
    Text(usize, String),
    Vanish(usize),
    /// A phone watches a user.
    Watch(usize, String),
    WipeBindings(usize),
}

impl World {
    pub fn new(settings: WorldSettings, specs: &[PhoneSpec]) -> Self {
        let mut random = Random::new(settings.seed);
        let snapshot = Arc::new(settings.snapshot(specs));
        let program = Program::new(settings.backend_users());
        let nonce_key = random.bytes32();
        let now = Now { mono: Instant::from_millis(1_000), wall: WALL_START };
        let shells: Vec<Shell> = (0..settings.shards)
            .map(|shard| {
                let shard = Arc::new(settings.shard(shard, &mut random, nonce_key));
                Shell::new(now, shard, Arc::clone(&snapshot))
            })
            .collect();
        let seat = |(number, spec): (usize, &PhoneSpec)| Seat {
            phone: Phone::new(spec.settings(number), random.fork()),
            nat: spec.behind_nat.then(|| Nat::new(outside_of(number))),
        };
        let seats = specs.iter().enumerate().map(seat).collect();
        let line = Line::new(settings.weather, random.fork());
        let loops = vec![Loops::default(); shells.len()];
        let trace = Trace::new(settings.loud);
        let ledger = Ledger::new(settings.media_past_us);
        Self {
            settings,
            random,
            now: now.mono,
            step: 0,
            agenda: Agenda::default(),
            seats,
            shells,
            snapshot,
            line,
            flows: Flows::default(),
            mesh_arrival: BTreeMap::new(),
            ledger,
            trace,
            broke: false,
            sweeping: false,
            beating: false,
            wall_shift: 0,
            loops,
            noted: Noted::default(),
            program,
        }
    }

    /// A world whose phones are switched on and registered.
    pub fn started(settings: WorldSettings, specs: &[PhoneSpec]) -> Result<Self, Failure> {
        let mut world = Self::new(settings, specs);
        world.switch_on();
        world.run_for(Duration::from_secs(5))?;
        Ok(world)
    }

    /// Lets one phone dial at once; gives the place of the call in its list.
    pub fn call(&mut self, phone: usize, plan: CallerPlan) -> UsageId {
        let now = self.now;
        self.seats[phone].phone.call(now, plan)
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn phone(&self, number: usize) -> &Phone {
        &self.seats[number].phone
    }

    pub fn phone_mut(&mut self, number: usize) -> &mut Phone {
        &mut self.seats[number].phone
    }

    /// The HTTP router and the user backends.
    pub fn program_mut(&mut self) -> &mut Program {
        &mut self.program
    }

    pub fn counter(&self, counter: Counter) -> u64 {
        self.shells.iter().map(|shell| shell.core.counters_seen().of(counter)).sum()
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn noted(&self) -> &Noted {
        &self.noted
    }

    pub fn hash(&self) -> u64 {
        self.trace.hash()
    }

    /// Switches every phone on, one after the other.
    pub fn switch_on(&mut self) {
        for number in 0..self.seats.len() {
            let now = self.now;
            self.seats[number].phone.switch_on(now);
        }
    }

    pub fn after(&mut self, wait: Duration, act: Act) {
        self.agenda.push(self.now + wait, Event::Act(act));
    }

    /// The configuration is changed and brought live.
    pub fn publish(&mut self, change: impl FnOnce(&mut Snapshot)) -> Result<(), Failure> {
        self.check(|world| world.publish_next(change))
    }

    fn publish_next(&mut self, change: impl FnOnce(&mut Snapshot)) -> Verdict {
        let mut next = Snapshot::clone(&self.snapshot);
        next.generation += 1;
        change(&mut next);
        self.snapshot = Arc::new(next);
        let snapshot = Arc::clone(&self.snapshot);
        self.command_all(|_| Command::Publish(Arc::clone(&snapshot)))
    }

    pub fn run_for(&mut self, time: Duration) -> Result<(), Failure> {
        self.run_until(self.now + time)
    }

    pub fn run_until(&mut self, until: Instant) -> Result<(), Failure> {
        self.check(|world| world.take_phone_outputs())?;
        while let Some(next) = self.next_at().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.step += 1;
            self.check(Self::take_step)?;
            if self.step > STEPS_MAX {
                self.check(|_| Err(Breach::new("busy loop", "the run does not end")))?;
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    pub(crate) fn check(&mut self, work: impl FnOnce(&mut Self) -> Verdict) -> Result<(), Failure> {
        work(self).map_err(|breach| self.failure(breach))
    }

    fn failure(&self, breach: Breach) -> Failure {
        Failure {
            seed: self.settings.seed,
            step: self.step,
            at: self.now,
            breach,
            trace: self.trace.lines(),
            hash: self.trace.hash(),
        }
    }

    pub(crate) fn clock(&self) -> Now {
        let millis = self.now.as_millis().saturating_sub(1_000);
        let WallMs(wall) = WALL_START.add_ms(millis);
        Now { mono: self.now, wall: WallMs(wall + self.wall_shift) }
    }

    fn next_at(&self) -> Option<Instant> {
        let shells = self.shells.iter().filter_map(|shell| self.deadline_of(shell));
        let phones = self.seats.iter().filter_map(|seat| seat.phone.deadline());
        let others = [self.agenda.next_at(), self.ledger.next_tick()];
        shells.chain(phones).chain(others.into_iter().flatten()).min()
    }

    /// One thing that is due now: an entry of the agenda, else a shard, else a phone.
    fn take_step(&mut self) -> Verdict {
        let now = self.now;
        if let Some(event) = self.agenda.pop_due(now) {
            self.happen(event)?;
        } else if let Some(shard) = self.shells.iter().position(|shell| self.is_due(shell)) {
            self.time_out(shard)?;
        } else if let Some(number) = self.seats.iter().position(|seat| is_phone_due(seat, now)) {
            self.seats[number].phone.handle_timeout(now);
        } else {
            self.ledger.tick(now)?;
        }
        self.take_phone_outputs()
    }

    fn is_due(&self, shell: &Shell) -> bool {
        self.deadline_of(shell).is_some_and(|deadline| deadline <= self.now)
    }

    fn happen(&mut self, event: Event) -> Verdict {
        match event {
            Event::Act(act) => self.act(act),
            Event::Beat => self.beat(),
            Event::Decided { shard, id, decision } => {
                self.trace.note(self.now, "decided", &format!("{id:x}: {decision:?}"));
                let command = Command::Decided { id, decision };
                self.feed(usize::from(shard.0), Input::Command(command))
            }
            Event::FlowIn { flow, bytes } => self.flow_in(flow, &bytes),
            Event::FlowOut { flow, bytes } => {
                self.flow_out(flow, &bytes);
                Ok(())
            }
            Event::MediaIn { port, from, bytes } => self.media_in(port, from, &bytes),
            Event::MediaOut { phone, to, from, bytes } => {
                self.seats[phone].phone.handle_rtp(to.port(), from, &bytes);
                Ok(())
            }
            Event::Mesh { from, to, message } => {
                let shard = usize::from(to.0);
                match message {
                    MeshMessage::Message { from, bytes, .. }
                    | MeshMessage::Onward { from, bytes } => {
                        self.feed(shard, Input::Moved { from, bytes: &bytes })
                    }
                    message => self.feed(shard, Input::Mesh { from, message }),
                }
            }
            Event::SipIn { from, bytes } => self.sip_in(from, &bytes),
            Event::SipOut { phone, bytes } => {
                let now = self.now;
                self.seats[phone].phone.handle_sip(now, crate::spec::GATEWAY, &bytes);
                Ok(())
            }
            Event::Sweep => self.sweep(),
        }
    }

    fn act(&mut self, act: Act) -> Verdict {
        let now = self.now;
        self.trace.note(now, "act", &format!("{act:?}"));
        match act {
            Act::Ask => return self.ask_shards(),
            Act::Attack => self.attack(),
            Act::BreakFlow(number) => return self.break_flow_of(number),
            Act::Call(number, plan) => drop(self.seats[number].phone.call(now, plan)),
            Act::ComeBack(number) => self.seats[number].phone.come_back(now),
            Act::Command { nth, by_leg, action } => return self.command(nth, by_leg, &action),
            Act::Drain => return self.command_all(|_| Command::Drain),
            Act::HangUp(number, usage) => self.seats[number].phone.hang_up_now(now, usage),
            Act::Originate(wanted) => return self.originate(wanted),
            Act::Publish => return self.publish_next(|_| {}),
            Act::Raw(from, bytes) => {
                let bytes: Rc<[u8]> = Rc::from(bytes);
                self.trace.message(now, "raw", from, crate::spec::GATEWAY, &bytes);
                return self.sip_in(from, &bytes);
            }
            Act::RebindNat(number) => {
                if let Some(nat) = &mut self.seats[number].nat {
                    nat.rebind();
                }
            }
            Act::Step(number, usage, step) => {
                self.seats[number].phone.step_now(now, usage, step);
            }
            Act::StepWall(millis) => self.wall_shift += millis,
            Act::Stop => return self.command_all(|_| Command::Stop),
            Act::StopRegistering(number) => self.seats[number].phone.stop_registering(),
            Act::TurnJournal => {
                for shard in 0..self.shells.len() {
                    self.feed(shard, Input::JournalTurned)?;
                }
            }
            Act::Text(number, target) => {
                let phone = &mut self.seats[number].phone;
                if !phone.is_gone() {
                    phone.text(now, &target);
                }
            }
            Act::Vanish(number) => {
                self.break_flow_of(number)?;
                self.seats[number].phone.vanish(now);
            }
            Act::Watch(number, target) => {
                let phone = &mut self.seats[number].phone;
                if !phone.is_gone() {
                    phone.watch(now, &target, WATCH);
                }
            }
            Act::WipeBindings(number) => self.seats[number].phone.wipe_bindings(now),
        }
        Ok(())
    }

    /// Any shard may be asked: it asks the one that keeps the first party's bindings.
    fn originate(&mut self, wanted: Originate) -> Verdict {
        let shards = self.shells.len() as u64;
        let shard = usize::try_from(self.random.below(shards)).expect("few shards");
        self.ledger.wished(&wanted);
        let wanted = Box::new(wanted);
        self.feed(shard, Input::Command(Command::Originate { id: WISH, wanted }))
    }

    fn ask_shards(&mut self) -> Verdict {
        let (before, shards) = (self.noted.answers, self.shells.len());
        self.noted.calls.clear();
        for question in [shared::command::Question::Calls, shared::command::Question::Dialogs] {
            self.command_all(|shard| Command::Ask { id: shard, question: question.clone() })?;
        }
        let answers = (self.noted.answers - before) as usize;
        if answers != 2 * shards {
            return Err(Breach::new("question", format!("{answers} answers of {shards} shards")));
        }
        Ok(())
    }

    fn command(&mut self, nth: usize, by_leg: Option<usize>, action: &CallAction) -> Verdict {
        self.ask_shards()?;
        let Some(call) = self.noted.calls.get(nth % self.noted.calls.len().max(1)).cloned() else {
            return Ok(()); // nobody is in a call
        };
        let legs = &call.sip_call_ids;
        let leg = by_leg.and_then(|leg| legs.get(leg % legs.len().max(1)));
        let (name, asked): (_, Vec<_>) = match leg {
            None => (CallName::Id(call.id), vec![call.id.shard()]),
            Some(leg) => {
                let all = (0..self.settings.shards).map(ShardId);
                (CallName::Leg(leg.as_str().into()), all.collect())
            }
        };
        let caller = legs.first().map_or("", String::as_str);
        let id = self.ledger.commands.asked(self.now, caller, action, asked.iter().copied());
        for shard in asked {
            let (call, action) = (name.clone(), action.clone());
            let command = Command::Act { id, call, action };
            self.feed(usize::from(shard.0), Input::Command(command))?;
        }
        Ok(())
    }

    fn command_all(&mut self, command: impl Fn(u64) -> Command) -> Verdict {
        for shard in 0..self.shells.len() {
            self.feed(shard, Input::Command(command(shard as u64)))?;
        }
        Ok(())
    }
}

fn is_phone_due(seat: &Seat, now: Instant) -> bool {
    seat.phone.deadline().is_some_and(|deadline| deadline <= now)
}
