//! The session timer of one leg: who refreshes it, how often, and how long it stands (RFC 4028).
//! Owns:  `SessionTimer`: what its peer can do, what was agreed on, the refresh that is out.
//! Gives: the headers of our requests and 2xx, and what those of the peer mean.
//! Never: sends anything; `refresh` does. Knows nothing of the other leg's timer.
//! Holds: no interval is shorter than `SessionTimers::MIN_S`, whatever a peer says.

use std::time::Duration;

use shared::settings::{SessionTimerMode, SessionTimers};
use shared::time::Instant;
use sip::wire::{HeaderName, Message, Refresher, Writer};

use crate::desk::{Desk, Reply};
use crate::transactions::{ClientKey, ServerKey};

const OPTION: &[u8] = b"timer";
/// RFC 4028 10: whoever waits for a refresh hangs up so long before the interval is over, or a third of
/// it when that is less.
const MARGIN_MAX: Duration = Duration::from_secs(32);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionTimer {
    /// The peer's Allow names UPDATE.
    pub takes_update: bool,
    /// The longest Min-SE that the peer has named.
    min_s: u32,
    pub agreed: Option<Agreed>,
    pub out: Option<Out>,
    /// Refreshes in a row that the peer has refused.
    pub refusals: u8,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    seconds: u32,
    /// We refresh; else the peer does.
    pub ours: bool,
    /// The peer keeps the time as well.
    pub both: bool,
    /// When our next refresh is due, if it is ours.
    pub refresh_at: Instant,
    /// Without a refresh by then the call ends.
    pub ends_at: Instant,
}

/// A refresh of ours that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Out {
    pub client: ClientKey,
    /// By re-INVITE; else by UPDATE.
    pub invites: bool,
}

impl SessionTimer {
    /// What a message of the peer says about itself.
    pub(crate) fn learn(&mut self, message: &Message<'_>) {
        let mut methods = message.values(HeaderName::Allow).peekable();
        if methods.peek().is_some() {
            self.takes_update = methods.any(|method| method == b"UPDATE");
        }
        if let Ok(Some(seconds)) = message.min_se()
            && seconds <= SessionTimers::MAX_S
        {
            self.min_s = self.min_s.max(seconds);
        }
    }

    /// A 422: whether there is a longer interval to ask for (RFC 4028 7.3).
    pub(crate) fn learn_longer(&mut self, rules: &SessionTimers, response: &Message<'_>) -> bool {
        let asked = self.asked_s(rules);
        self.learn(response);
        rules.is_on() && self.asked_s(rules) > asked
    }

    fn asked_s(&self, rules: &SessionTimers) -> u32 {
        self.agreed.map_or(rules.expires_s, |agreed| agreed.seconds).max(self.min_s)
    }

    pub(crate) fn is_inviting(&self) -> bool {
        self.out.is_some_and(|out| out.invites)
    }

    /// When this leg wants to be looked at.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let agreed = self.agreed?;
        let waits = agreed.ours && self.out.is_none();
        Some(if waits { agreed.refresh_at.min(agreed.ends_at) } else { agreed.ends_at })
    }

    /// The headers of an INVITE or UPDATE of ours (RFC 4028 7.1, 7.4).
    pub(crate) fn write_request(&self, out: &mut Writer<'_>, rules: &SessionTimers) {
        if !rules.is_on() {
            return;
        }
        out.header("Supported", OPTION);
        let seconds = self.asked_s(rules);
        match self.agreed {
            // The first INVITE leaves the choice to who answers.
            None => out.header_fmt("Session-Expires", format_args!("{seconds}")),
            Some(agreed) => {
                let who = if agreed.ours { Refresher::Uac } else { Refresher::Uas }.as_str();
                out.header_fmt("Session-Expires", format_args!("{seconds};refresher={who}"))
            }
        };
        if self.min_s > SessionTimers::MIN_S {
            out.header_fmt("Min-SE", format_args!("{}", self.min_s));
        }
    }

    /// A request of the peer gets its 2xx now (RFC 4028 9).
    pub(crate) fn agree_as_server(
        &mut self,
        now: Instant,
        rules: &SessionTimers,
        request: &Message<'_>,
    ) {
        if !rules.is_on() {
            return;
        }
        self.learn(request);
        let (supports, asked) = (supports(request), request.session_expires().ok().flatten());
        // What its 422 once asked for holds for its own requests, too.
        let least = self.min_s.max(request.min_se().ok().flatten().unwrap_or(0));
        let seconds = match asked {
            // Never longer than asked for.
            Some(asked) => rules.expires_s.max(least).min(asked.seconds),
            None if supports || rules.mode == SessionTimerMode::Always => {
                rules.expires_s.max(least)
            }
            None => return self.stop(),
        };
        let before = self.agreed.map(|agreed| agreed.ours);
        let ours = match asked.and_then(|asked| asked.refresher) {
            _ if !supports => true,
            Some(Refresher::Uac) => false,
            Some(Refresher::Uas) => true,
            // A phone behind a NAT keeps its way to us open by it.
            None => before.unwrap_or(false),
        };
        self.agree(now, seconds, ours, supports || asked.is_some());
    }

    /// The headers of our 2xx to `request`.
    pub(crate) fn write_answer(
        &self,
        out: &mut Writer<'_>,
        rules: &SessionTimers,
        request: &Message<'_>,
    ) {
        if !rules.is_on() {
            return;
        }
        out.header("Supported", OPTION);
        let Some(agreed) = self.agreed else { return };
        if supports(request) {
            out.header("Require", OPTION);
        }
        let who = if agreed.ours { Refresher::Uas } else { Refresher::Uac }.as_str();
        out.header_fmt("Session-Expires", format_args!("{};refresher={who}", agreed.seconds));
    }

    /// A 2xx to a request of ours (RFC 4028 7.2).
    pub(crate) fn agree_as_client(
        &mut self,
        now: Instant,
        rules: &SessionTimers,
        response: &Message<'_>,
    ) {
        if !rules.is_on() {
            return;
        }
        self.learn(response);
        match response.session_expires().ok().flatten() {
            Some(said) => {
                let ours = said.refresher != Some(Refresher::Uas);
                // Nobody may make it longer than it was asked for: a peer could switch it off that way.
                let seconds = said.seconds.min(self.asked_s(rules));
                self.agree(now, seconds, ours, true);
            }
            None if rules.mode == SessionTimerMode::Always => {
                self.agree(now, rules.expires_s.max(self.min_s), true, false);
            }
            None => self.stop(),
        }
    }

    fn agree(&mut self, now: Instant, seconds: u32, ours: bool, both: bool) {
        let seconds = seconds.max(SessionTimers::MIN_S);
        let interval = Duration::from_secs(seconds.into());
        // Who refreshes itself learns of a dead peer from its request.
        let margin = if ours { Duration::ZERO } else { MARGIN_MAX.min(interval / 3) };
        let (refresh_at, ends_at) = (now + interval / 2, now + (interval - margin));
        self.agreed = Some(Agreed { seconds, ours, both, refresh_at, ends_at });
        self.refusals = 0;
    }

    /// A peer that keeps no time has shown that it is there.
    pub(crate) fn agree_again(&mut self, now: Instant) {
        if let Some(agreed) = self.agreed {
            self.agree(now, agreed.seconds, agreed.ours, agreed.both);
        }
    }

    /// The next try, not counting on a refresh that did not come about.
    pub(crate) fn try_at(&mut self, at: Instant) {
        if let Some(agreed) = &mut self.agreed {
            agreed.refresh_at = at;
        }
    }

    /// A part of the interval, for tries that the peer refuses again and again.
    pub(crate) fn patience(&self) -> Duration {
        let seconds = self.agreed.map_or(0, |agreed| agreed.seconds);
        Duration::from_secs(u64::from(seconds / 16).max(5))
    }

    pub(crate) fn stop(&mut self) {
        self.agreed = None;
    }
}

/// The sender knows session timers.
fn supports(request: &Message<'_>) -> bool {
    let names = |header| request.names_option(header, OPTION);
    names(HeaderName::Supported) || names(HeaderName::Require)
}

/// Refuses an INVITE or UPDATE for its timer headers: `true` when it got its answer. A sender that knows
/// no timers could not do better (RFC 4028 8.1), so its proxies' wish is not held against it.
pub(crate) fn refused(desk: &mut Desk, server: ServerKey, request: &Message<'_>) -> bool {
    if !desk.settings.timers.session.is_on() {
        return false;
    }
    let status = match (request.session_expires(), request.min_se()) {
        (Err(_), _) | (_, Err(_)) => 400,
        (Ok(Some(asked)), _) if asked.seconds < SessionTimers::MIN_S && supports(request) => 422,
        _ => return false,
    };
    desk.respond(server, Reply::new(status), |_, _, mut out| {
        if status == 422 {
            out.header_fmt("Min-SE", format_args!("{}", SessionTimers::MIN_S));
        }
        out.end();
    });
    true
}
