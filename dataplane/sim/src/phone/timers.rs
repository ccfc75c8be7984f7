//! Session timers of a phone, written apart from the gateway's (RFC 4028).
//! Owns:  `TimerPlan`; who refreshes a call of this phone, and until when it stands.
//! Gives: the headers of its requests and answers, a 422 for what is too short, refreshes in time.
//! Never: an interval of the other side's leg.
//! Holds: a call whose session is over is hung up, and its report says so.

use std::time::Duration;

use rsip::Header;
use rsip::Method;
use rsip::headers::UntypedHeader as _;
use shared::time::Instant;

use crate::phone::plan::Step;
use crate::phone::usage::{Deed, Phase};
use crate::phone::{Phone, UsageId, reply};
use crate::speech::Reply;
use crate::speech::heard::Heard;

/// RFC 4028 4.
const MIN_S: u32 = 90;
/// The next look at a refresh that did not come about.
const RETRY_WAIT: Duration = Duration::from_secs(2);

/// What a phone that knows session timers wants of them.
#[derive(Clone, Copy, Debug)]
pub struct TimerPlan {
    /// Session-Expires of its INVITEs.
    pub asks_s: u32,
    /// It wants to refresh itself, where it has the choice; else its peer is to.
    pub refreshes: bool,
    /// Shorter intervals are answered 422.
    pub min_s: u32,
    /// It takes and sends UPDATE; else a refresh is a re-INVITE.
    pub updates: bool,
}

impl Default for TimerPlan {
    fn default() -> Self {
        Self { asks_s: MIN_S, refreshes: true, min_s: MIN_S, updates: true }
    }
}

/// What stands for one call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionTime {
    /// Grows with each refresh, so that what was due before it is not any more.
    round: u32,
    /// Nothing was agreed on yet: 0.
    seconds: u32,
    mine: bool,
    /// The Min-SE of a 422.
    least_s: u32,
}

impl SessionTime {
    /// Whether its 422 wants more than this phone asks for.
    pub(crate) fn learn_least(&mut self, heard: &Heard, plan: TimerPlan) -> bool {
        let least = heard.value("Min-SE").and_then(|value| value.parse().ok()).unwrap_or(0);
        let before = self.least_s.max(plan.asks_s);
        self.least_s = self.least_s.max(least);
        self.least_s > before
    }
}

impl Phone {
    /// The headers of an INVITE or UPDATE of this phone.
    pub(super) fn session_request(&self, id: UsageId, method: Method) -> Vec<Header> {
        let Some(plan) = self.settings.timer else { return Vec::new() };
        if !matches!(method, Method::Invite | Method::Update) {
            return Vec::new();
        }
        let SessionTime { seconds, mine, least_s, .. } = self.usages[id].session;
        let asked = if seconds > 0 { seconds } else { plan.asks_s }.max(least_s);
        let mine = if seconds > 0 { mine } else { plan.refreshes };
        let who = if mine { "uac" } else { "uas" };
        let mut headers = vec![supported(), allow(plan), expires(asked, who)];
        if least_s > MIN_S {
            headers.push(Header::Other("Min-SE".into(), least_s.to_string()));
        }
        headers
    }

    /// The headers of a 2xx of this phone, which refreshes the session.
    pub(super) fn session_answer(
        &mut self,
        now: Instant,
        id: UsageId,
        asked: &Heard,
    ) -> Vec<Header> {
        let Some(plan) = self.settings.timer else { return Vec::new() };
        let Some((seconds, refresher)) = session_of(asked) else { return vec![allow(plan)] };
        let mine = match refresher.as_deref() {
            Some("uas") => true,
            Some(_) => false,
            None => plan.refreshes,
        };
        self.usages[id].report.refreshes_heard += 1;
        self.stands_for(now, id, seconds, mine);
        let required = rsip::headers::Require::new("timer").into();
        let who = if mine { "uas" } else { "uac" };
        vec![supported(), required, allow(plan), expires(seconds, who)]
    }

    /// A 2xx to an INVITE or UPDATE of this phone.
    pub(super) fn hear_session(&mut self, now: Instant, id: UsageId, heard: &Heard) {
        if self.settings.timer.is_none() {
            return;
        }
        match session_of(heard) {
            Some((seconds, refresher)) => {
                self.usages[id].report.refreshes_made += 1;
                self.stands_for(now, id, seconds, refresher.as_deref() != Some("uas"));
            }
            None => {
                let session = &mut self.usages[id].session;
                (session.seconds, session.round) = (0, session.round + 1);
            }
        }
    }

    fn stands_for(&mut self, now: Instant, id: UsageId, seconds: u32, mine: bool) {
        if seconds < MIN_S {
            let call = self.usages[id].call_id.clone();
            self.breach(format!("{call}: a session of {seconds} s (RFC 4028 4)"));
        }
        let session = &mut self.usages[id].session;
        let round = session.round + 1;
        *session = SessionTime { round, seconds, mine, ..*session };
        let interval = Duration::from_secs(seconds.into());
        if mine {
            self.at(now, interval / 2, id, Deed::Refresh(round));
        }
        let margin = Duration::from_secs(32).min(interval / 3);
        let over = if mine { interval } else { interval - margin };
        self.at(now, over, id, Deed::SessionOver(round));
    }

    pub(super) fn refresh(&mut self, now: Instant, id: UsageId, round: u32) {
        let usage = &self.usages[id];
        if usage.session.round != round || usage.phase != Phase::Confirmed {
            return;
        }
        let is_free = usage.inviting.is_none() && usage.pending_step.is_none();
        self.at(now, RETRY_WAIT, id, Deed::Refresh(round));
        if is_free {
            self.step(now, id, Step::Refresh);
        }
    }

    /// RFC 4028 10: nobody has refreshed it.
    pub(super) fn session_over(&mut self, now: Instant, id: UsageId, round: u32) {
        if self.usages[id].session.round == round && self.usages[id].phase == Phase::Confirmed {
            self.usages[id].report.expired = true;
            self.hang_up(now, id);
        }
    }

    /// A request whose interval is too short for this phone got its 422.
    pub(super) fn refuses_session(&mut self, now: Instant, key: &str, heard: &Heard) -> bool {
        let Some(plan) = self.settings.timer else { return false };
        let too_short = session_of(heard).is_some_and(|(seconds, _)| seconds < plan.min_s);
        if too_short {
            let more = vec![Header::Other("Min-SE".into(), plan.min_s.to_string())];
            self.answer(now, key, Reply { status: 422, more, ..reply() });
        }
        too_short
    }
}

fn session_of(heard: &Heard) -> Option<(u32, Option<String>)> {
    let mut parts = heard.value("Session-Expires")?.split(';').map(str::trim);
    let seconds = parts.next()?.parse().ok()?;
    let refresher = parts.find_map(|part| part.strip_prefix("refresher="));
    Some((seconds, refresher.map(str::to_owned)))
}

fn supported() -> Header {
    rsip::headers::Supported::new("timer").into()
}

fn allow(plan: TimerPlan) -> Header {
    let methods = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO";
    let all = if plan.updates { format!("{methods}, UPDATE") } else { methods.to_owned() };
    rsip::headers::Allow::new(all).into()
}

fn expires(seconds: u32, who: &str) -> Header {
    Header::Other("Session-Expires".into(), format!("{seconds};refresher={who}"))
}
