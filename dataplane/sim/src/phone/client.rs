//! Client transactions of a phone (RFC 3261 17.1, RFC 6026), written apart from the gateway's.
//! Owns:  what was asked, how often it goes out again and when the phone gives up.
//! Gives: `Said` for a response: news, a repeat, or something that no server may do.
//! Never: decides what a call does next.
//! Holds: a transaction hears one final answer; a second, other one is a breach of the peer.

use std::rc::Rc;
use std::time::Duration;

use rsip::Method;
use shared::time::Instant;

use crate::phone::{LampId, TextId, UsageId};
use crate::speech::heard::Heard;

pub(crate) const T1: Duration = Duration::from_millis(500);
pub(crate) const T2: Duration = Duration::from_secs(4);
pub(crate) const T4: Duration = Duration::from_secs(5);

/// What the phone wanted with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Bye(UsageId),
    Cancel(UsageId),
    Invite(UsageId),
    Note(UsageId),
    Prack(UsageId),
    ReInvite(UsageId),
    Register,
    Subscribe(LampId),
    Text(TextId),
    Update(UsageId),
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) asked: Heard,
    pub(crate) bytes: Rc<[u8]>,
    pub(crate) purpose: Purpose,
    pub(crate) state: State,
    pub(crate) wait: Duration,
    pub(crate) final_status: Option<u16>,
    pub(crate) ack: Option<Rc<[u8]>>,
    reliable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A 2xx came to an INVITE; more of them may.
    Accepted,
    /// A final answer came; repeats are absorbed.
    Completed,
    Proceeding,
    Trying,
}

/// What a response means to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Not allowed after what was said before.
    Contradiction,
    /// First final answer.
    Final,
    Provisional,
    Repeat,
}

impl Client {
    pub(crate) fn new(asked: Heard, bytes: Rc<[u8]>, purpose: Purpose, reliable: bool) -> Self {
        let (state, wait) = (State::Trying, T1);
        Self { asked, bytes, purpose, state, wait, final_status: None, ack: None, reliable }
    }

    pub(crate) fn is_invite(&self) -> bool {
        self.asked.method == Method::Invite
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Trying | State::Proceeding)
    }

    pub(crate) fn hear(&mut self, status: u16) -> Said {
        match (self.state, status) {
            (State::Trying | State::Proceeding, 100..=199) => {
                self.state = State::Proceeding;
                Said::Provisional
            }
            (State::Trying | State::Proceeding, _) => {
                let accepted = self.is_invite() && status < 300;
                self.state = if accepted { State::Accepted } else { State::Completed };
                self.final_status = Some(status);
                Said::Final
            }
            // RFC 3261 17.1.1.2: late provisional responses are dropped.
            (_, 100..=199) => Said::Repeat,
            (State::Accepted, 200..=299) => Said::Repeat,
            (State::Completed, status) if self.final_status == Some(status) => Said::Repeat,
            (State::Accepted | State::Completed, _) => Said::Contradiction,
        }
    }

    /// When it goes out again, counted from the last time (Timers A and E); `None`: not again.
    pub(crate) fn resend_after(&self) -> Option<Duration> {
        let resends = match self.state {
            State::Trying => !self.reliable,
            State::Proceeding => !self.reliable && !self.is_invite(),
            State::Accepted | State::Completed => false,
        };
        resends.then_some(self.wait)
    }

    /// After it went out again.
    pub(crate) fn lengthen(&mut self) {
        self.wait *= 2;
        if !self.is_invite() {
            self.wait = if self.state == State::Proceeding { T2 } else { self.wait.min(T2) };
        }
    }

    /// How long it absorbs repeats once it has its answer (Timers D, K, M).
    pub(crate) fn linger(&self) -> Duration {
        if self.is_invite() { 64 * T1 } else { T4 }
    }
}

/// Server transactions of a phone: the last answer, sent again for every repeat.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) asked: Heard,
    pub(crate) from: std::net::SocketAddr,
    pub(crate) answer: Option<Rc<[u8]>>,
    pub(crate) status: u16,
    pub(crate) usage: Option<UsageId>,
    /// An ACK came for a failure, or a 2xx was given: repeats are absorbed in silence.
    pub(crate) quiet: bool,
    pub(crate) wait: Duration,
}

impl Server {
    pub(crate) fn is_open(&self) -> bool {
        self.status < 200
    }
}

/// RFC 3261 17.1.3 and 17.2.3: branch and method; CANCEL has its own transaction, ACK has none.
pub(crate) fn key(branch: &str, method: Method) -> String {
    let method = if method == Method::Ack { Method::Invite } else { method };
    format!("{branch} {method}")
}

/// When something is due for a transaction, with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Alarm {
    ClientGiveUp(String),
    ClientOver(String),
    ClientResend(String),
    Register,
    ServerOver(String),
    ServerResend(String),
    Usage(UsageId, super::usage::Deed),
}

/// A resend of an instant that has passed by.
pub(crate) fn give_up_at(now: Instant) -> Instant {
    now + 64 * T1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::{Ask, Party, request};

    fn client(method: Method) -> Client {
        let party = Party { uri: "sip:a@b.test", tag: Some("t") };
        let ask = Ask {
            method,
            uri: "sip:a@b.test",
            transport: rsip::Transport::Udp,
            sent_by: "10.0.0.1:5060".parse().expect("an address"),
            branch: "z9hG4bK1",
            from: party,
            to: party,
            call_id: "c",
            cseq: 1,
            contact: None,
            routes: &[],
            more: vec![],
            body: None,
        };
        let text = request(ask);
        let heard = Heard::read(text.as_bytes()).expect("readable");
        Client::new(heard, Rc::from(text.as_bytes()), Purpose::Invite(0), false)
    }

    /// RFC 3261 17.1.1.2: Timer A doubles without a ceiling.
    #[test]
    fn an_invite_doubles_its_wait() {
        let mut invite = client(Method::Invite);
        let mut waits = Vec::new();
        for _ in 0..6 {
            waits.push(invite.resend_after().expect("still trying").as_millis());
            invite.lengthen();
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000]);
        assert_eq!(invite.hear(100), Said::Provisional);
        assert_eq!(invite.resend_after(), None);
    }

    /// RFC 3261 17.1.2.2: Timer E stops doubling at T2, and is T2 after a provisional response.
    #[test]
    fn another_request_is_resent_every_t2_at_most() {
        let mut bye = client(Method::Bye);
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(bye.resend_after().expect("still trying").as_millis());
            bye.lengthen();
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 4_000]);
    }

    #[test]
    fn a_second_other_final_answer_is_a_contradiction() {
        let mut invite = client(Method::Invite);
        assert_eq!(invite.hear(486), Said::Final);
        assert_eq!(invite.hear(486), Said::Repeat);
        assert_eq!(invite.hear(180), Said::Repeat);
        assert_eq!(invite.hear(200), Said::Contradiction);
    }
}
