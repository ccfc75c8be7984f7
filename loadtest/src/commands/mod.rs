//! Commands on standing calls under load, each held against what the phones saw and heard.
//! Owns:  what each call has to be like after the commands that it got, and the comparison.
//! Gives: `run`: how many commands of which kind were answered how, or the first untruth.
//! Never: a second command on a call before the first one was compared with the wire.
//! Holds: every command is answered within `ANSWER_MAX`; the seed repeats the commands.

mod board;
mod media;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::gateway::{Gateway, Plan as GatewayPlan};
use crate::http;
use crate::wait;
use board::{Board, Seen};
use media::{Ear, Sound, Voice};

/// The API's own bound; whoever waits longer hangs.
const ANSWER_MAX: Duration = Duration::from_secs(9);
/// From an answer until the phones have read what came before it.
const SEEN_MAX: Duration = Duration::from_secs(3);
const SIDES: [&str; 2] = ["caller", "callee"];

#[derive(Clone, Debug)]
pub struct CommandPlan {
    pub calls: u32,
    pub commands: u32,
    /// Commands that are under way at a time.
    pub workers: u32,
    pub seed: u64,
    pub cores: String,
}

impl CommandPlan {
    pub fn new(calls: u32, commands: u32, seed: u64) -> Self {
        Self { calls, commands, workers: 16, seed, cores: "auto".to_owned() }
    }
}

/// How commands were answered: by name and status.
#[derive(Debug, Default)]
pub struct Summary {
    pub answers: BTreeMap<(&'static str, u16), u32>,
    pub slowest: Duration,
    pub elapsed: Duration,
}

impl Summary {
    pub fn count(&self, name: &str, status: u16) -> u32 {
        let is_it =
            |((one, code), _): &(&(&'static str, u16), &u32)| *one == name && *code == status;
        self.answers.iter().filter(is_it).map(|(_, count)| count).sum()
    }

    pub fn total(&self) -> u32 {
        self.answers.values().sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, elapsed, slowest) = (self.total(), self.elapsed, self.slowest);
        writeln!(f, "{total} commands in {elapsed:.1?}, slowest answer {slowest:.1?}")?;
        for ((name, status), count) in &self.answers {
            writeln!(f, "  {name:<10} {status} {count:>5}")?;
        }
        Ok(())
    }
}

/// What a call has to be like.
struct Model {
    number: u32,
    /// Call-IDs of the legs that talk: caller, callee.
    legs: [String; 2],
    voices: [Voice; 2],
    held: [bool; 2],
    muted: [bool; 2],
    ended: bool,
    moves: u32,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    HangUp,
    Hold { side: usize, on: bool },
    Mute { side: usize, on: bool },
    Transfer { side: usize, busy: bool },
}

impl Wish {
    fn draw(random: &mut StdRng) -> Self {
        let (side, on) = (random.random_range(0..2), random.random_bool(0.6));
        match random.random_range(0..100) {
            0..10 => Self::HangUp,
            10..35 => Self::Transfer { side, busy: random.random_bool(0.25) },
            35..65 => Self::Mute { side, on },
            _ => Self::Hold { side, on },
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::HangUp => "hangup",
            Self::Hold { on: true, .. } => "hold",
            Self::Hold { .. } => "unhold",
            Self::Mute { on: true, .. } => "mute",
            Self::Mute { .. } => "unmute",
            Self::Transfer { .. } => "transfer",
        }
    }
}

struct Run<'r> {
    gateway: &'r Gateway,
    board: &'r Board,
    ear: &'r Ear,
    models: Vec<Mutex<Model>>,
    summary: Mutex<Summary>,
    taken: AtomicU32,
    broken: Mutex<Option<String>>,
}

/// Runs the plan; the error is the first answer that was not true, with the seed.
pub fn run(plan: &CommandPlan) -> Result<Summary, String> {
    let text = |error: std::io::Error| error.to_string();
    let ear = Ear::bind(Ipv4Addr::LOCALHOST).map_err(text)?;
    let mut board = Board::bind(Ipv4Addr::LOCALHOST, ear.addresses()).map_err(text)?;
    let gateway = Gateway::start(GatewayPlan {
        trunks: vec![("phones".to_owned(), format!("sip:{}", board.callee()))],
        call_auth: false,
        cores: plan.cores.clone(),
        rtp_ports: 8_000,
        proxy_lines: vec!["rtp_timeout = 0".to_owned()],
        ..GatewayPlan::default()
    })?;
    let SocketAddr::V4(server) = gateway.sip else { return Err("IPv4 only".to_owned()) };
    board.start(server).map_err(text)?;
    let outcome = under_way(plan, &gateway, &board, &ear);
    outcome.map_err(|broken| format!("seed {}: {broken}\n{}", plan.seed, gateway.log_tail()))
}

fn under_way(
    plan: &CommandPlan,
    gateway: &Gateway,
    board: &Board,
    ear: &Ear,
) -> Result<Summary, String> {
    let models =
        (0..plan.calls).map(|number| begin(board, number)).collect::<Result<Vec<_>, _>>()?;
    let run = Run {
        gateway,
        board,
        ear,
        models: models.into_iter().map(Mutex::new).collect(),
        summary: Mutex::default(),
        taken: AtomicU32::new(0),
        broken: Mutex::default(),
    };
    for model in &run.models {
        run.compare_sound(&mut lock(model))?;
    }
    let started = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..plan.workers {
            let run = &run;
            scope.spawn(move || run.work(plan, u64::from(worker)));
        }
    });
    let elapsed = started.elapsed();
    if let Some(broken) = lock(&run.broken).take() {
        return Err(broken);
    }
    for model in &run.models {
        run.end(&mut lock(model))?;
    }
    gateway.await_drained(Duration::from_secs(20))?;
    let mut summary = std::mem::take(&mut *lock(&run.summary));
    summary.elapsed = elapsed;
    Ok(summary)
}

/// One more call, answered.
fn begin(board: &Board, number: u32) -> Result<Model, String> {
    let caller = board.place(number);
    let callee = || board.newest(&format!("c{number}"));
    let both = || {
        let callee = callee()?;
        let stand = |leg: &str| board.seen(leg).is_some_and(|seen| seen.stands());
        (stand(&caller) && stand(&callee)).then_some(callee)
    };
    let callee = wait::until(&format!("call {number}"), ANSWER_MAX, both)?;
    Ok(Model {
        number,
        legs: [caller, callee],
        voices: [Voice::new(number, 0, 0), Voice::new(number, 1, 0)],
        held: [false; 2],
        muted: [false; 2],
        ended: false,
        moves: 0,
    })
}

impl Run<'_> {
    fn work(&self, plan: &CommandPlan, worker: u64) {
        let mut random = StdRng::seed_from_u64(plan.seed.wrapping_mul(1_000).wrapping_add(worker));
        while self.taken.fetch_add(1, Ordering::Relaxed) < plan.commands
            && lock(&self.broken).is_none()
        {
            let mut model = loop {
                let place = random.random_range(0..self.models.len());
                if let Ok(model) = self.models[place].try_lock() {
                    break model;
                }
            };
            let wish = Wish::draw(&mut random);
            if let Err(untruth) = self.command(&mut model, wish) {
                let text = format!("call {}, {wish:?}: {untruth}", model.number);
                lock(&self.broken).get_or_insert(text);
            }
        }
    }

    fn command(&self, model: &mut Model, wish: Wish) -> Result<(), String> {
        let before = [0, 1].map(|side| self.board.seen(&model.legs[side]));
        let (status, body) = self.ask(model, wish)?;
        if model.ended {
            return match status {
                404 | 409 => Ok(()),
                _ => Err(format!("{status} about a call that had ended: {body}")),
            };
        }
        match (wish, status) {
            (Wish::HangUp, 200) => {
                model.ended = true;
                return self.both(model, "BYE", |_, seen| seen.ended);
            }
            (Wish::Hold { side, on }, 200) => {
                model.held[side] = on;
                self.both(model, "the direction of the re-INVITE", |one, seen| {
                    one != side || seen.may_send() != on
                })?;
            }
            (Wish::Mute { side, on }, 200) => model.muted[side] = on,
            (Wish::Transfer { side, busy: false }, 200) => self.moved(model, side)?,
            (Wish::Transfer { busy: true, .. }, 409) if body["code"] == "target_failed" => {
                self.unchanged(model, &before)?;
            }
            _ => return Err(format!("answered {status}: {body}")),
        }
        self.compare_sound(model)
    }

    /// The successor stands, the leg that went has got its BYE, the one that stays has not.
    fn moved(&self, model: &mut Model, side: usize) -> Result<(), String> {
        let name = format!("t{}.{}", model.number, model.moves);
        let successor = || self.board.newest(&name);
        let successor = wait::until("an INVITE to the target", SEEN_MAX, successor)?;
        let left = std::mem::replace(&mut model.legs[side], successor);
        model.voices[side] = Voice::new(model.number, side, model.moves);
        model.held[side] = false;
        self.both(model, "the ACK to the target, nothing to who stays", |_, seen| seen.stands())?;
        let is_gone = || self.board.seen(&left).filter(|seen| seen.ended).map(drop);
        wait::until("the BYE to the leg that went", SEEN_MAX, is_gone)
    }

    fn unchanged(&self, model: &Model, before: &[Option<Seen>; 2]) -> Result<(), String> {
        for (side, before) in before.iter().enumerate() {
            let now = self.board.seen(&model.legs[side]);
            if now != *before {
                return Err(format!("the {} saw {before:?}, now {now:?}", SIDES[side]));
            }
        }
        Ok(())
    }

    /// Waits until both legs have seen what the answer says.
    fn both(
        &self,
        model: &Model,
        what: &str,
        is_true: impl Fn(usize, &Seen) -> bool,
    ) -> Result<(), String> {
        let seen = || [0, 1].map(|side| self.board.seen(&model.legs[side]));
        let agrees = || {
            let [Some(caller), Some(callee)] = seen() else { return None };
            (is_true(0, &caller) && is_true(1, &callee)).then_some(())
        };
        let waited = wait::until(what, SEEN_MAX, agrees);
        waited.map_err(|error| format!("{error}: the legs saw {:?}", seen()))
    }

    /// Each side hears what it has to: sound, silence in its place, or nothing.
    fn compare_sound(&self, model: &mut Model) -> Result<(), String> {
        for side in [0, 1] {
            let expected = match (model.held, model.muted[side]) {
                ([false, false], false) => Sound::Voice,
                ([false, false], true) => Sound::Silence,
                _ => Sound::Nothing,
            };
            let leg = &model.legs[side];
            let seen = self.board.seen(leg).ok_or("a leg is unknown")?;
            let (relay, socket) = (seen.relay.ok_or("a leg has no relay")?, seen.end);
            let voice = &mut model.voices[side];
            let mut heard = Sound::Nothing;
            let compared = wait::until("sound", SEEN_MAX, || {
                heard = self.ear.try_out(voice, socket, relay);
                (heard == expected).then_some(())
            });
            compared.map_err(|error| {
                let name = SIDES[side];
                format!("{error}: of the {name} {heard:?} is heard, not {expected:?} ({seen:?})")
            })?;
        }
        Ok(())
    }

    fn ask(&self, model: &mut Model, wish: Wish) -> Result<(u16, Value), String> {
        let name = wish.name();
        let body = match wish {
            Wish::HangUp => json!({"action": name, "reason": "load test"}),
            Wish::Hold { side, .. } => json!({"action": name, "leg_id": SIDES[side]}),
            Wish::Mute { side, .. } => json!({"action": name, "track_id": format!("audio-{side}")}),
            Wish::Transfer { side, busy } => {
                model.moves += 1;
                let word = if busy { "busy" } else { "t" };
                let (number, moves, at) = (model.number, model.moves, self.board.callee());
                let target = format!("sip:{word}{number}.{moves}@{at}");
                json!({"action": name, "leg_id": SIDES[side], "target": target})
            }
        };
        let (server, token) = (self.gateway.http, Some(self.gateway.token.as_str()));
        let path = format!("/console/calls/active/{}/commands", self.board.call_id(model.number));
        let asked = Instant::now();
        let answer = http::send(server, "POST", &path, token, &body)?;
        let took = asked.elapsed();
        if took > ANSWER_MAX {
            return Err(format!("answered after {took:?}"));
        }
        let mut summary = lock(&self.summary);
        *summary.answers.entry((name, answer.status)).or_default() += 1;
        summary.slowest = summary.slowest.max(took);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let body = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        Ok((answer.status, body))
    }

    /// Ends a call that is left, outside the count.
    fn end(&self, model: &mut Model) -> Result<(), String> {
        if model.ended {
            return Ok(());
        }
        let path = format!("/console/calls/active/{}/commands", self.board.call_id(model.number));
        let (server, token) = (self.gateway.http, Some(self.gateway.token.as_str()));
        let answer = http::send(server, "POST", &path, token, &json!({"action": "hangup"}))?;
        if answer.status != 200 {
            return Err(format!("call {}: the last hangup was {}", model.number, answer.status));
        }
        model.ended = true;
        self.both(model, "BYE", |_, seen| seen.ended)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
