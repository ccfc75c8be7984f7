//! A whole random evening out of one seed: phones, calls, accidents.
//! Owns:  how a seed becomes a world and its acts.
//! Gives: `run`: the summary of a passed run or its failure.
//! Never: anything that the seed and the options do not decide.
//! Holds: every call ends by its own plan, so after the quiet time nothing may stand.

use std::net::SocketAddr;
use std::time::Duration;

use shared::act::{CallAction, HangUp, Play, Recording, Samples};
use shared::forwarding::{Forwarding, MODES, Redirects};
use shared::ids::Side;
use shared::net::Transport;
use shared::originate::Originate;
use shared::settings::{SessionTimerMode, SessionTimers};
use shared::snapshot::{HttpRouterRules, RemoteUsers};

use crate::broken::Broken;
use crate::finish::Summary;
use crate::network::Weather;
use crate::phone::carrier::CarrierPlan;
use crate::phone::plan::{Callee, CallerPlan};
use crate::phone::reliable::Reliability;
use crate::phone::timers::TimerPlan;
use crate::random::Random;
use crate::spec::{CARRIER, DOMAIN, PhoneSpec, WorldSettings};
use crate::speech::Dialect;
use crate::speech::digest::Hash;
use crate::world::{Act, Failure, World};

/// What the command line decides; the rest is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub weather: Weather,
    pub broken: Option<Broken>,
    pub loud: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { weather: Weather::ROUGH, broken: None, loud: false }
    }
}

/// Calls begin in this window, after the phones registered.
const BEGIN: Duration = Duration::from_secs(10);
const CALLS_WITHIN: Duration = Duration::from_secs(90);
/// With session timers calls last long enough to be refreshed; the longest goes on into the quiet time.
const TIMED_STRETCH: u32 = 4;
/// The last call has begun, rung and talked by then.
const EVENING: Duration = Duration::from_secs(260);

pub fn run(seed: u64, options: Options) -> Result<Summary, Failure> {
    let mut random = Random::new(seed ^ 0xe7e9_1065);
    let mut settings = draw_settings(seed, options, &mut random);
    let mut specs = draw_phones(&mut random);
    draw_timers(seed, &mut settings, &mut specs);
    draw_carriers(seed, &mut specs);
    draw_forwards(seed, &mut settings, &specs);
    draw_reliability(seed, &mut specs);
    let stretch = if settings.timers.session.is_on() { TIMED_STRETCH } else { 1 };
    let asks = settings.http_router.is_some() || settings.remote_users.is_some();
    let mut world = World::new(settings, &specs);
    if asks {
        let uris = draw_uris(&specs);
        world.program_mut().roll_dice(random.fork(), uris);
    }
    world.switch_on();
    lay_out_calls(&mut world, &specs, &mut random, stretch);
    lay_out_wishes(&mut world, &specs, &mut random);
    lay_out_accidents(&mut world, &specs, &mut random);
    lay_out_commands(&mut world, &mut random);
    lay_out_lamps(seed, &mut world, &specs);
    world.run_for(EVENING)?;
    world.finish()
}

fn draw_settings(seed: u64, options: Options, random: &mut Random) -> WorldSettings {
    let mut settings = WorldSettings::calm(seed);
    settings.weather = options.weather;
    settings.broken = options.broken;
    settings.loud = options.loud;
    settings.shards = *random.pick(&[1, 1, 2, 3, 3]);
    settings.scatter = random.percent(40);
    settings.call_auth = random.percent(80);
    settings.recording = random.percent(30);
    settings.timers.ring = random.millis(8_000, 60_000);
    settings.rtp_timeout = random.millis(15_000, 60_000);
    settings.hold_timeout = random.millis(60_000, 200_000);
    settings.probation_packets = u8::try_from(random.range(1, 4)).expect("small");
    if random.percent(10) {
        // Hardly a port: calls are refused for want of media, not for a fault.
        settings.ports_per_shard = u16::try_from(2 * random.range(4, 20)).expect("small");
    }
    if random.percent(8) {
        settings.refused_relays = 15;
    }
    settings.unreachable = *random.pick(&[0, 0, 30, 100]);
    settings.absent_users = vec!["1999".to_owned()];
    if random.percent(30) {
        let budget = random.millis(500, 4_000);
        settings.http_router =
            Some(HttpRouterRules { budget, fallback_to_static: random.percent(60) });
    }
    if random.percent(25) {
        let budget = random.millis(500, 4_000);
        settings.remote_users = Some(RemoteUsers { first: 0, budget });
        settings.own_backend = u8::from(random.percent(40));
        settings.known_remotely = vec!["1001".to_owned(), "1003".to_owned()];
    }
    settings
}

/// Session timers, from dice of their own: no other part of an evening is drawn otherwise for them.
fn draw_timers(seed: u64, settings: &mut WorldSettings, specs: &mut [PhoneSpec]) {
    let mut random = Random::new(seed ^ 0x4028);
    if random.percent(50) {
        return;
    }
    let modes = [SessionTimerMode::Supported, SessionTimerMode::Always];
    settings.timers.session = SessionTimers { mode: *random.pick(&modes), expires_s: 90 };
    for spec in specs {
        let plan = TimerPlan {
            asks_s: *random.pick(&[60, 90, 90, 120]),
            refreshes: random.percent(50),
            min_s: *random.pick(&[90, 90, 100]),
            updates: random.percent(50),
        };
        spec.timer = random.percent(70).then_some(plan);
    }
}

/// Dice of its own too. Some carriers ask for credentials, some of these with nonces that have run out.
fn draw_carriers(seed: u64, specs: &mut [PhoneSpec]) {
    let mut random = Random::new(seed ^ 0x7616);
    for spec in specs.iter_mut().filter(|spec| spec.is_trunk) {
        let plan = CarrierPlan {
            hash: *random.pick(&[Hash::Md5, Hash::Sha256, Hash::Sha512_256]),
            is_proxy: random.percent(50),
            worn_percent: *random.pick(&[0, 30, 100]),
            ..CarrierPlan::of(&spec.user)
        };
        spec.carrier = random.percent(40).then_some(plan);
    }
}

/// Users whose calls go on elsewhere, loops and dead ends among them: from dice of their own too.
fn draw_forwards(seed: u64, settings: &mut WorldSettings, specs: &[PhoneSpec]) {
    let mut random = Random::new(seed ^ 0x5806);
    settings.redirects = *random.pick(&[
        Redirects::PassedOn,
        Redirects::OfUsers,
        Redirects::OfAll,
        Redirects::OfAll,
    ]);
    if random.percent(25) {
        return;
    }
    let modes = [&MODES[1..], &["when_unavailable", "when_unavailable"]].concat();
    let users = specs.iter().filter(|spec| !spec.is_trunk).map(|spec| spec.user.clone());
    let mut users: Vec<String> = users.chain(["1999".to_owned()]).collect();
    users.dedup();
    let odd = ["nobody".to_owned(), "sip:1001@10.0.0.1".to_owned(), format!("sip:+4930@{CARRIER}")];
    let places: Vec<String> = users.iter().cloned().chain(odd).collect();
    for user in users {
        if random.percent(30) {
            continue;
        }
        let (mode, to) = (*random.pick(&modes), random.pick(&places).clone());
        let ring = i64::try_from(random.range(5, 15)).expect("small");
        let wish = Forwarding::read(Some(mode), Some(&to), Some(ring)).expect("a forwarding");
        settings.forwards.extend(wish.map(|wish| (user, wish)));
    }
}

/// Who acknowledges provisional responses, from dice of their own as well.
fn draw_reliability(seed: u64, specs: &mut [PhoneSpec]) {
    let mut random = Random::new(seed ^ 0x3262);
    use Reliability::{Off, Required, Supported};
    for spec in specs {
        spec.reliability = *random.pick(&[Off, Off, Supported, Supported, Required]);
    }
}

/// Where the router may send calls, good and bad.
fn draw_uris(specs: &[PhoneSpec]) -> Vec<String> {
    let known = specs.iter().map(|spec| match spec.is_trunk {
        true => format!("sip:+493012345@{CARRIER}"),
        false => format!("sip:{}@{DOMAIN}", spec.user),
    });
    let odd = ["sip:nobody@ringgate.test", "sips:1001@ringgate.test", "sip:1999@ringgate.test"];
    known.chain(odd.map(str::to_owned)).collect()
}

fn draw_phones(random: &mut Random) -> Vec<PhoneSpec> {
    let count = random.range(2, 7);
    let mut phones: Vec<PhoneSpec> = Vec::new();
    for number in 0..count {
        // Some users have several phones: their calls fork (RFC 3261 16.6).
        let user = match phones.last() {
            Some(last) if random.percent(25) => last.user.clone(),
            _ => format!("{}", 1_001 + number),
        };
        let mut phone = PhoneSpec::user(&user);
        phone.callee = Callee::Random;
        phone.voice_every = random.millis(300, 2_000);
        phone.behind_nat = random.percent(30);
        if random.percent(22) {
            phone.transport = Transport::Tcp;
        }
        phone.dialect =
            *random.pick(&[Dialect::Long, Dialect::Long, Dialect::Compact, Dialect::Odd]);
        if random.percent(40) {
            phone.hashes = vec![Hash::Md5];
        }
        phone.registers = Some(Duration::from_secs(*random.pick(&[20, 60, 60, 90, 180, 3_600])));
        phones.push(phone);
    }
    if random.percent(60) {
        let trunk = PhoneSpec { callee: Callee::Random, ..PhoneSpec::trunk() };
        phones.push(trunk);
    }
    phones
}

fn lay_out_calls(world: &mut World, specs: &[PhoneSpec], random: &mut Random, stretch: u32) {
    for _ in 0..random.range(2, 14) {
        let caller = random.index(specs.len());
        let target = draw_target(specs, caller, random);
        let mut plan = CallerPlan::draw(random, target);
        plan.hang_up_after = plan.hang_up_after.map(|after| stretch * after);
        for (after, _) in &mut plan.steps {
            *after *= stretch;
        }
        let at = BEGIN + random.millis(0, u64::try_from(CALLS_WITHIN.as_millis()).expect("short"));
        world.after(at, Act::Call(caller, plan));
    }
}

/// Calls that a program asks for, now and then to a number that nobody has.
fn lay_out_wishes(world: &mut World, specs: &[PhoneSpec], random: &mut Random) {
    for _ in 0..random.below(4) {
        let first = &specs[random.index(specs.len())];
        let from =
            if first.is_trunk { format!("sip:+49309999@{CARRIER}") } else { first.user.clone() };
        let to = draw_target(specs, random.index(specs.len()), random);
        if to.contains(&format!("sip:{}@", first.user)) {
            continue;
        }
        let ring = random.percent(50).then(|| random.millis(3_000, 30_000));
        let wanted = Originate { from: from.into(), to: to.into(), ring, ..Originate::default() };
        let at = BEGIN + random.millis(0, u64::try_from(CALLS_WITHIN.as_millis()).expect("short"));
        world.after(at, Act::Originate(wanted));
    }
}

fn draw_target(specs: &[PhoneSpec], caller: usize, random: &mut Random) -> String {
    let has_trunk = specs.iter().any(|spec| spec.is_trunk);
    let from_trunk = specs[caller].is_trunk;
    match random.below(100) {
        0..4 => format!("sip:nobody@{DOMAIN}"),
        4..8 => format!("sip:1999@{DOMAIN}"),
        8..30 if has_trunk && !from_trunk => format!("sip:+493012345@{CARRIER}"),
        _ => {
            let users: Vec<&PhoneSpec> = specs.iter().filter(|spec| !spec.is_trunk).collect();
            let host = if random.percent(20) { "10.0.0.1" } else { DOMAIN };
            format!("sip:{}@{host}", random.pick(&users).user)
        }
    }
}

fn lay_out_accidents(world: &mut World, specs: &[PhoneSpec], random: &mut Random) {
    let mut sometimes = |chance: u32, act: Act, world: &mut World| -> Option<Duration> {
        let at = random.millis(5_000, 150_000);
        random.percent(chance).then(|| {
            world.after(at, act);
            at
        })
    };
    for (number, spec) in specs.iter().enumerate() {
        if spec.transport == Transport::Tcp {
            sometimes(40, Act::BreakFlow(number), world);
        }
        if !spec.is_trunk {
            sometimes(6, Act::WipeBindings(number), world);
            sometimes(5, Act::StopRegistering(number), world);
        }
        if let Some(at) = sometimes(7, Act::Vanish(number), world)
            && number % 2 == 0
        {
            world.after(at + Duration::from_secs(25), Act::ComeBack(number));
        }
    }
    sometimes(10, Act::StepWall(-3_600_000), world);
    sometimes(10, Act::StepWall(3_600_000), world);
    for number in 0..4 {
        sometimes(15, raw(number), world);
    }
    sometimes(10, Act::Publish, world);
    sometimes(6, Act::Drain, world);
    for _ in 0..2 {
        sometimes(40, Act::Ask, world);
        sometimes(60, Act::Attack, world);
    }
    for _ in 0..3 {
        sometimes(40, Act::TurnJournal, world);
    }
}

/// Who watches whom and writes to whom, from dice of their own.
fn lay_out_lamps(seed: u64, world: &mut World, specs: &[PhoneSpec]) {
    let mut random = Random::new(seed ^ 0x4235);
    let users: Vec<usize> = (0..specs.len()).filter(|number| !specs[*number].is_trunk).collect();
    for _ in 0..random.below(5) {
        let (watcher, watched) = (*random.pick(&users), *random.pick(&users));
        let at = random.millis(6_000, 120_000);
        let target = format!("sip:{}@{DOMAIN}", specs[watched].user);
        world.after(at, Act::Watch(watcher, target));
    }
    for _ in 0..random.below(5) {
        let writer = *random.pick(&users);
        let at = random.millis(6_000, 120_000);
        let target = draw_target(specs, writer, &mut random);
        world.after(at, Act::Text(writer, target));
    }
}

/// Programs that act on whatever call stands at that moment.
fn lay_out_commands(world: &mut World, random: &mut Random) {
    for _ in 0..random.below(8) {
        let at = BEGIN + random.millis(0, 150_000);
        let by_leg = random.percent(40).then(|| random.index(2));
        let action = draw_action(random);
        world.after(at, Act::Command { nth: random.index(16), by_leg, action });
    }
}

fn draw_action(random: &mut Random) -> CallAction {
    let side = *random.pick(&Side::BOTH);
    let on = random.percent(60);
    let towards = *random.pick(&[[true, false], [false, true], [true, true]]);
    match random.below(100) {
        0..22 => {
            let code = *random.pick(&[None, None, Some(486), Some(603), Some(200)]);
            let reason = random.percent(50).then(|| "no \"more\"".into());
            CallAction::HangUp(HangUp { code, reason, by: "sim".into() })
        }
        22..40 => CallAction::Hold { side, on },
        40..48 => CallAction::Accept { sdp: None },
        48..56 => {
            let keys = (*random.pick(&["1", "42#", "0123456789*#ABCD"])).into();
            CallAction::Keys { side, keys }
        }
        56..70 => {
            let target = format!("{}", 1_001 + random.below(8)).into();
            CallAction::Transfer { leaves: side, target }
        }
        70..78 => {
            // Silence, which phones cannot take for somebody else's voice.
            let samples = Samples::new(vec![0; random.index(40_000)]);
            CallAction::Play(Play { towards, samples, repeat: random.percent(30) })
        }
        78..82 => CallAction::StopPlaying { towards },
        82..89 => {
            let all = [Recording::Pause, Recording::Resume, Recording::Start, Recording::Stop];
            CallAction::Record(*random.pick(&all))
        }
        _ => CallAction::Mute { side, on },
    }
}

/// Messages of somebody who is no phone: each wants an answer, or none (RFC 3261 8.2, 12.2.2).
fn raw(number: u64) -> Act {
    let from: SocketAddr = SocketAddr::new([10, 77, 0, 1].into(), 5_060);
    let ask = |method: &str, to: &str| {
        format!(
            "{method} sip:1001@{DOMAIN} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {from};rport;branch=z9hG4bKraw{number}\r\n\
             From: <sip:raw@{DOMAIN}>;tag=raw{number}\r\nTo: <sip:1001@{DOMAIN}>{to}\r\n\
             Call-ID: raw-{number}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n\
             Content-Length: 0\r\n\r\n"
        )
    };
    let text = match number {
        0 => ask("OPTIONS", ""),
        1 => ask("BYE", ";tag=nobody"),
        2 => ask("JUGGLE", ""),
        _ => "\r\n\r\n\0 this is not SIP".to_owned(),
    };
    Act::Raw(from, text.into_bytes())
}
