//! The programs behind a gateway: an HTTP router and user backends, as one stand-in with a script.
//! Owns:  the answers that a test laid out, in order, and the dice of a random evening.
//! Gives: when and how an ask is answered; `None`: never.
//! Never: HTTP; it speaks the words that the control plane speaks to a shard.
//! Holds: without a script it is a good program: it leaves calls alone and knows its own users.

use std::collections::VecDeque;
use std::time::Duration;

use shared::ask::{
    Ask, Decision, Forward, Orders, Reject, RouteDecision, RouteTarget, Strategy, UserDecision,
};
use shared::snapshot::User;

use crate::random::Random;

/// How fast a program that nothing was said about answers.
const ORDINARY: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub struct Program {
    /// Users that only the backend knows.
    users: Vec<User>,
    routes: VecDeque<Answer<RouteDecision>>,
    answers: VecDeque<Answer<UserDecision>>,
    /// Set in a random evening: URIs to send calls to.
    dice: Option<(Random, Vec<String>)>,
}

/// One answer of the script.
#[derive(Clone, Debug)]
pub enum Answer<D> {
    After(Duration, D),
    Never,
}

impl Program {
    pub fn new(users: Vec<User>) -> Self {
        Self { users, ..Self::default() }
    }

    pub fn route_next(&mut self, after: Duration, decision: RouteDecision) {
        self.routes.push_back(Answer::After(after, decision));
    }

    pub fn ignore_next_route(&mut self) {
        self.routes.push_back(Answer::Never);
    }

    pub fn answer_next(&mut self, after: Duration, decision: UserDecision) {
        self.answers.push_back(Answer::After(after, decision));
    }

    pub fn ignore_next_user(&mut self) {
        self.answers.push_back(Answer::Never);
    }

    pub fn roll_dice(&mut self, random: Random, uris: Vec<String>) {
        self.dice = Some((random, uris));
    }

    pub(crate) fn answer(&mut self, ask: &Ask) -> Option<(Duration, Decision)> {
        match ask {
            Ask::Route(_) => match self.routes.pop_front() {
                Some(Answer::After(wait, decision)) => Some((wait, Decision::Route(decision))),
                Some(Answer::Never) => None,
                None => self.route(),
            },
            Ask::User(ask) => match self.answers.pop_front() {
                Some(Answer::After(wait, decision)) => Some((wait, Decision::User(decision))),
                Some(Answer::Never) => None,
                None => self.user(&ask.username),
            },
        }
    }

    fn route(&mut self) -> Option<(Duration, Decision)> {
        let Some((random, uris)) = &mut self.dice else {
            return Some((ORDINARY, Decision::Route(RouteDecision::NotHandled)));
        };
        let slowest = if random.percent(8) { 8_000 } else { 400 };
        let wait = random.millis(0, slowest);
        let decision = match random.below(100) {
            0..30 => RouteDecision::NotHandled,
            30..80 => draw_forward(random, uris),
            80..88 => RouteDecision::Reject(Reject {
                status: *random.pick(&[403, 404, 486, 503, 603]),
                reason: "Says The Router".to_owned(),
                retry_after_s: random.percent(50).then_some(7),
                spam: random.percent(20),
            }),
            88..94 => RouteDecision::Unavailable,
            _ => return None,
        };
        Some((wait, Decision::Route(decision)))
    }

    fn user(&mut self, name: &str) -> Option<(Duration, Decision)> {
        let known = self.users.iter().find(|user| *user.username == *name);
        let known = known.map_or(UserDecision::Unknown, |user| UserDecision::Known(user.clone()));
        let Some((random, _)) = &mut self.dice else {
            return Some((ORDINARY, Decision::User(known)));
        };
        let slowest = if random.percent(5) { 8_000 } else { 300 };
        let wait = random.millis(0, slowest);
        let decision = match random.below(100) {
            0..4 => UserDecision::Unavailable,
            4..6 => UserDecision::Refused { status: 402, spam: false },
            6..8 => return None,
            _ => known,
        };
        Some((wait, Decision::User(decision)))
    }
}

fn draw_forward(random: &mut Random, uris: &[String]) -> RouteDecision {
    let count = random.range(1, 4);
    let targets: Vec<String> = (0..count).map(|_| random.pick(uris).clone()).collect();
    let strategy = if random.percent(60) { Strategy::Sequential } else { Strategy::Parallel };
    let ring_timeout = random.percent(60).then(|| random.millis(1_000, 12_000));
    let orders = Orders {
        with_original_headers: *random.pick(&[None, Some(true), Some(false)]),
        max_duration: random.percent(20).then(|| random.millis(1_000, 40_000)),
        ..Orders::default()
    };
    let Forward { targets, .. } = forward(&targets, strategy);
    RouteDecision::Forward(Box::new(Forward { targets, strategy, ring_timeout, orders }))
}

/// A decision to call these, with nothing else said.
pub fn forward(uris: &[String], strategy: Strategy) -> Forward {
    let targets = uris.iter().map(|uri| RouteTarget { uri: uri.clone(), at: None }).collect();
    Forward { targets, strategy, ring_timeout: None, orders: Orders::default() }
}
