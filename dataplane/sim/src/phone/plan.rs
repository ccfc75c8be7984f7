//! What a phone is and what it means to do: plain values that a test writes down or a seed draws.
//! Owns:  `PhoneSettings`, `CallerPlan`, `CalleePlan`, `Step`.
//! Gives: defaults that make an ordinary call, so a test names only what is special.
//! Never: a protocol rule; how a step is done lies with the phone.
//! Holds: times of a step count from the answer, times of an answer from the INVITE.

use std::net::SocketAddr;
use std::time::Duration;

use shared::net::Transport;

use crate::phone::carrier::CarrierPlan;
use crate::phone::timers::TimerPlan;
use crate::random::Random;
use crate::speech::Dialect;
use crate::speech::digest::Hash;

#[derive(Clone, Debug)]
pub struct PhoneSettings {
    pub user: String,
    pub password: String,
    /// Host of the AOR and of the URIs that it calls.
    pub domain: String,
    /// Where it sits; behind a NAT the world shows another address.
    pub home: SocketAddr,
    pub gateway: SocketAddr,
    pub transport: Transport,
    pub dialect: Dialect,
    /// Digest algorithms that it can compute.
    pub hashes: Vec<Hash>,
    /// `None`: it never registers (a trunk).
    pub registers: Option<Duration>,
    /// Time between two RTP packets; coarse, to keep a run cheap.
    pub voice_every: Duration,
    /// `None`: it knows no session timers.
    pub timer: Option<TimerPlan>,
    /// What it asks of who calls through it, if it is a carrier that does.
    pub carrier: Option<CarrierPlan>,
    /// What it does with a call that no plan was laid out for.
    pub callee: Callee,
}

#[derive(Clone, Debug)]
pub enum Callee {
    Always(CalleePlan),
    /// Draws a plan from its own dice.
    Random,
}

#[derive(Clone, Debug)]
pub struct CallerPlan {
    /// Request-URI and To.
    pub target: String,
    /// INVITE with an offer, or without one (RFC 3261 13.2.1).
    pub offer: bool,
    /// A second media line.
    pub video: bool,
    pub cancel_after: Option<Duration>,
    pub ack: AckPlan,
    pub steps: Vec<(Duration, Step)>,
    pub hang_up_after: Option<Duration>,
    pub wrong_password: bool,
}

impl CallerPlan {
    pub fn to(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            offer: true,
            video: false,
            cancel_after: None,
            ack: AckPlan::AtOnce,
            steps: Vec::new(),
            hang_up_after: Some(Duration::from_secs(10)),
            wrong_password: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckPlan {
    After(Duration),
    AtOnce,
    Never,
}

#[derive(Clone, Debug)]
pub struct CalleePlan {
    pub rings: Vec<(Duration, Ring)>,
    pub outcome: Outcome,
    /// A second branch behind this phone answers too, with another tag (RFC 3261 13.2.2.4).
    pub fork_answers_after: Option<Duration>,
    pub steps: Vec<(Duration, Step)>,
    pub hang_up_after: Option<Duration>,
    /// How long it takes to answer a re-INVITE; long ones make glare likely.
    pub reply_after: Duration,
    /// Refuse re-INVITEs with this status.
    pub refuse_changes: Option<u16>,
    /// Seconds of the Retry-After that a refusal carries.
    pub retry_after: Option<u32>,
    pub accepts_video: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// 183 with SDP.
    EarlyMedia,
    /// 180 with the tag of another branch.
    OtherBranch,
    Ringing,
    Trying,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answer(Duration),
    Refuse(u16, Duration),
    RingForever,
    /// As if it were not there.
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// re-INVITE with sendonly, or c=0.0.0.0 when `old`.
    Hold {
        old: bool,
    },
    /// New media port (RFC 3264 8.3.1).
    MoveMedia,
    /// Stops sending RTP, still speaks SIP.
    Mute,
    /// re-INVITE that asks for an offer (RFC 3261 14.1).
    OfferlessReInvite,
    /// REFER: the other side is to talk with this user (RFC 5589 6).
    Refer(u16),
    /// Nothing changes: a session refresh (RFC 4028).
    Refresh,
    Resume,
    SendInfo,
    /// UPDATE with the standing description (RFC 3311).
    Update,
}

impl CalleePlan {
    pub fn answer() -> Self {
        Self {
            rings: vec![(Duration::from_millis(200), Ring::Ringing)],
            outcome: Outcome::Answer(Duration::from_secs(2)),
            fork_answers_after: None,
            steps: Vec::new(),
            hang_up_after: None,
            reply_after: Duration::ZERO,
            refuse_changes: None,
            retry_after: None,
            accepts_video: false,
        }
    }

    pub fn refuse(status: u16) -> Self {
        Self { outcome: Outcome::Refuse(status, Duration::from_secs(1)), ..Self::answer() }
    }

    pub fn ring_forever() -> Self {
        Self { outcome: Outcome::RingForever, ..Self::answer() }
    }

    pub fn silent() -> Self {
        Self { rings: Vec::new(), outcome: Outcome::Silent, ..Self::answer() }
    }

    pub fn draw(random: &mut Random) -> Self {
        let mut plan = Self::answer();
        plan.rings.clear();
        let mut at = Duration::ZERO;
        for _ in 0..random.below(4) {
            at += random.millis(0, 1_500);
            let rings = [Ring::Ringing, Ring::Ringing, Ring::EarlyMedia, Ring::Trying];
            let ring = if random.percent(12) { Ring::OtherBranch } else { *random.pick(&rings) };
            plan.rings.push((at, ring));
        }
        at += random.millis(0, 6_000);
        plan.outcome = match random.below(100) {
            0..70 => Outcome::Answer(at),
            70..84 => Outcome::Refuse(*random.pick(&[486, 486, 480, 603, 404, 488, 500, 302]), at),
            84..93 => Outcome::RingForever,
            _ => Outcome::Silent,
        };
        if plan.outcome == Outcome::RingForever {
            // A phone that rings says so, or nobody could tell it to stop (RFC 3261 9.1).
            plan.rings.push((at, Ring::Ringing));
        }
        if random.percent(8) {
            plan.fork_answers_after = Some(random.millis(0, 1_500));
        }
        plan.steps = draw_steps(random);
        // The long one only matters when the caller vanishes without a word.
        let (low, high) = if random.percent(50) { (0, 35_000) } else { (90_000, 120_000) };
        plan.hang_up_after = Some(random.millis(low, high));
        plan.reply_after =
            if random.percent(30) { random.millis(0, 3_000) } else { Duration::ZERO };
        plan.refuse_changes = random.percent(5).then(|| *random.pick(&[488, 500, 403]));
        plan.accepts_video = random.percent(50);
        plan
    }
}

impl CallerPlan {
    pub fn draw(random: &mut Random, target: String) -> Self {
        let mut plan = Self::to(target);
        plan.offer = random.percent(88);
        plan.video = plan.offer && random.percent(10);
        plan.cancel_after = random.percent(18).then(|| random.millis(0, 9_000));
        plan.ack = match random.below(100) {
            0..90 => AckPlan::AtOnce,
            90..96 => AckPlan::After(random.millis(200, 9_000)),
            _ => AckPlan::Never,
        };
        plan.steps = draw_steps(random);
        // A call always ends by itself: somebody hangs up, whatever the callee means to do.
        plan.hang_up_after = Some(random.millis(0, 40_000));
        plan.wrong_password = random.percent(4);
        plan
    }
}

fn draw_steps(random: &mut Random) -> Vec<(Duration, Step)> {
    let mut steps = Vec::new();
    let mut at = Duration::ZERO;
    while random.percent(35) && steps.len() < 5 {
        at += random.millis(500, 8_000);
        let step = match random.below(10) {
            0..3 => Step::Hold { old: random.percent(25) },
            3..5 => Step::Resume,
            5 => Step::MoveMedia,
            6 => Step::OfferlessReInvite,
            7 => Step::Update,
            8 if random.percent(20) => Step::Mute,
            8 if random.percent(40) => {
                Step::Refer(1_001 + u16::try_from(random.below(8)).expect("small"))
            }
            _ => Step::SendInfo,
        };
        steps.push((at, step));
    }
    steps
}
