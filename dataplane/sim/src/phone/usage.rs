//! One call as a phone sees it: the dialog, the plan, the talk and what became of it.
//! Owns:  `Usage`, its phases and deeds; `Report`, what the checker compares with the CDR.
//! Gives: the dialog's parts for in-dialog requests (RFC 3261 12).
//! Never: another call of the same phone.
//! Holds: a phase never goes back; a report's ending is written once.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use shared::ids::Side;
use shared::time::Instant;

use crate::phone::plan::{CalleePlan, CallerPlan, Ring, Step};
use crate::phone::reliable::Early;
use crate::phone::talk::{Talking, mark_of};
use crate::phone::timers::SessionTime;
use crate::speech::digest::Challenge;
use crate::speech::heard::Heard;

#[derive(Debug)]
pub struct Usage {
    pub(crate) role: Side,
    pub(crate) phase: Phase,
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    pub(crate) remote_tag: Option<String>,
    pub(crate) local_uri: String,
    pub(crate) remote_uri: String,
    /// Request-URI of the next in-dialog request: the peer's Contact.
    pub(crate) target: String,
    pub(crate) routes: Vec<String>,
    pub(crate) cseq: u32,
    pub(crate) remote_cseq: Option<u32>,
    pub(crate) plan: Plan,
    pub(crate) talking: Talking,
    /// Our 2xx answers that wait for their ACK.
    pub(crate) unacknowledged: Vec<Unacknowledged>,
    /// ACKs of the peer's 2xx answers by CSeq: sent again for every repeat.
    pub(crate) acks: BTreeMap<u32, Rc<[u8]>>,
    /// Client transaction of the INVITE that is under way.
    pub(crate) inviting: Option<String>,
    /// Server transaction of the INVITE that is under way.
    pub(crate) invited: Option<String>,
    /// Server transaction of the first INVITE, once it was answered 2xx.
    pub(crate) final_key: Option<String>,
    pub(crate) credentials: Option<(Ask, Challenge)>,
    pub(crate) tries: u8,
    pub(crate) retries: u8,
    pub(crate) wants_cancel: bool,
    pub(crate) wants_bye: bool,
    pub(crate) pending_step: Option<Step>,
    /// The answer that a provisional response already gave.
    pub(crate) answer: Option<String>,
    pub(crate) speaks: bool,
    pub(crate) session: SessionTime,
    pub(crate) early: Early,
    pub report: Report,
}

/// Which header asked for credentials, so which one carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Proxy,
    Registrar,
}

#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Callee(CalleePlan),
    Caller(CallerPlan),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No final answer to the first INVITE yet.
    Inviting,
    Confirmed,
    /// Our BYE waits for its answer.
    Closing,
    Over,
}

/// What is due for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Acknowledge(u32),
    Answer,
    Cancel,
    ForkAnswer,
    GiveUpInvite,
    GiveUpOk(u32),
    GiveUpRing(u32),
    HangUp,
    Refresh(u32),
    Refuse(u16),
    Reply(String),
    ResendOk(u32),
    ResendRing(u32),
    RetryStep,
    Ring(Ring),
    SessionOver(u32),
    Speak,
    Step(Step),
}

#[derive(Debug)]
pub(crate) struct Unacknowledged {
    pub(crate) cseq: u32,
    pub(crate) bytes: Rc<[u8]>,
    pub(crate) wait: Duration,
    pub(crate) to: std::net::SocketAddr,
    /// The ACK must carry the answer to the offer that the 2xx made.
    pub(crate) offered: bool,
}

/// What became of a call, as the phone saw it.
#[derive(Clone, Debug)]
pub struct Report {
    pub role: Side,
    pub call_id: String,
    pub mark: u64,
    pub local_tag: String,
    /// Request-URI that was called, or From URI of who called.
    pub other: String,
    pub began_at: Instant,
    pub provisionals: Vec<u16>,
    /// First final answer to the INVITE: heard by the caller, given by the callee.
    pub final_status: Option<u16>,
    pub answered_at: Option<Instant>,
    pub ended_at: Option<Instant>,
    pub ending: Option<Ending>,
    /// A 2xx of ours was never acknowledged.
    pub unacknowledged: bool,
    /// 491 answers heard: glare that was resolved.
    pub glares: u32,
    pub infos_heard: u32,
    /// Provisional responses that it acknowledged, and that were acknowledged to it.
    pub pracks_sent: u32,
    pub pracks_heard: u32,
    /// It refused a call because nobody acknowledged its ringing.
    pub unpracked: bool,
    /// Session intervals that it granted and that it was granted, the first ones included.
    pub refreshes_heard: u32,
    pub refreshes_made: u32,
    /// It hung up because nobody refreshed the session.
    pub expired: bool,
    /// Statuses that NOTIFYs told of the call that a REFER asked for.
    pub notified: Vec<u16>,
    /// It held, muted or moved its media at some time.
    pub silenced: bool,
    pub packets_sent: u64,
    pub packets_heard: u64,
    /// Marks of the calls whose packets arrived here.
    pub heard_from: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// We cancelled, or were cancelled, before an answer.
    Cancelled,
    /// This side sent the first BYE that it knows of.
    LocalBye,
    /// The phone restarted or lost its flow.
    Lost,
    Refused(u16),
    RemoteBye,
    /// No answer at all.
    TimedOut,
}

impl Usage {
    pub(crate) fn caller(at: Instant, plan: CallerPlan, names: Names, talking: Talking) -> Self {
        let (other, target) = (plan.target.clone(), plan.target.clone());
        let mut usage = Self::new(at, Side::Caller, Plan::Caller(plan), names, talking, other);
        usage.target = target;
        usage
    }

    pub(crate) fn callee(
        at: Instant,
        plan: CalleePlan,
        heard: &Heard,
        tag: String,
        t: Talking,
    ) -> Self {
        let names = Names {
            call_id: heard.call_id.clone(),
            local_tag: tag,
            local_uri: heard.to_uri.clone(),
            remote_uri: heard.from_uri.clone(),
        };
        let other = heard.from_uri.clone();
        let mut usage = Self::new(at, Side::Callee, Plan::Callee(plan), names, t, other);
        usage.remote_tag = Some(heard.from_tag.clone());
        usage.target = heard.contact.clone().unwrap_or_default();
        usage.routes.clone_from(&heard.record_routes);
        usage.remote_cseq = Some(heard.cseq);
        usage
    }

    fn new(
        at: Instant,
        role: Side,
        plan: Plan,
        names: Names,
        talking: Talking,
        other: String,
    ) -> Self {
        let Names { call_id, local_tag, local_uri, remote_uri } = names;
        let report = Report {
            role,
            call_id: call_id.clone(),
            mark: mark_of(&call_id, &local_tag),
            local_tag: local_tag.clone(),
            other,
            began_at: at,
            provisionals: Vec::new(),
            final_status: None,
            answered_at: None,
            ended_at: None,
            ending: None,
            unacknowledged: false,
            glares: 0,
            infos_heard: 0,
            pracks_sent: 0,
            pracks_heard: 0,
            unpracked: false,
            refreshes_heard: 0,
            refreshes_made: 0,
            expired: false,
            notified: Vec::new(),
            silenced: false,
            packets_sent: 0,
            packets_heard: 0,
            heard_from: BTreeSet::new(),
        };
        Self {
            role,
            phase: Phase::Inviting,
            call_id,
            local_tag,
            remote_tag: None,
            local_uri,
            remote_uri,
            target: String::new(),
            routes: Vec::new(),
            cseq: 0,
            remote_cseq: None,
            plan,
            talking,
            unacknowledged: Vec::new(),
            acks: BTreeMap::new(),
            inviting: None,
            invited: None,
            final_key: None,
            credentials: None,
            tries: 0,
            retries: 0,
            wants_cancel: false,
            wants_bye: false,
            pending_step: None,
            answer: None,
            speaks: false,
            session: SessionTime::default(),
            early: Early::default(),
            report,
        }
    }

    pub(crate) fn caller_plan(&self) -> Option<&CallerPlan> {
        match &self.plan {
            Plan::Caller(plan) => Some(plan),
            Plan::Callee(_) => None,
        }
    }

    pub(crate) fn callee_plan(&self) -> Option<&CalleePlan> {
        match &self.plan {
            Plan::Callee(plan) => Some(plan),
            Plan::Caller(_) => None,
        }
    }

    pub(crate) fn steps(&self) -> Vec<(Duration, Step)> {
        match &self.plan {
            Plan::Caller(plan) => plan.steps.clone(),
            Plan::Callee(plan) => plan.steps.clone(),
        }
    }

    pub(crate) fn hang_up_after(&self) -> Option<Duration> {
        match &self.plan {
            Plan::Caller(plan) => plan.hang_up_after,
            Plan::Callee(plan) => plan.hang_up_after,
        }
    }

    /// RFC 3261 14.1: no new INVITE while one is under way in either direction.
    pub(crate) fn is_inviting(&self) -> bool {
        self.inviting.is_some() || self.invited.is_some() || !self.unacknowledged.is_empty()
    }

    /// A 2xx came whose ACK the plan still holds back.
    pub(crate) fn is_waiting_to_acknowledge(&self) -> bool {
        self.role == Side::Caller && self.phase == Phase::Confirmed && self.acks.is_empty()
    }

    pub(crate) fn is_dialog_of(&self, heard: &Heard) -> bool {
        self.call_id == heard.call_id
            && heard.to_tag.as_deref() == Some(self.local_tag.as_str())
            && self.remote_tag.as_deref().is_none_or(|tag| tag == heard.from_tag)
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn talking(&self) -> &Talking {
        &self.talking
    }

    pub(crate) fn end(&mut self, at: Instant, ending: Ending) {
        if self.report.ending.is_none() {
            self.report.ending = Some(ending);
            self.report.ended_at = Some(at);
        }
    }

    pub(crate) fn close(&mut self, at: Instant, ending: Ending) {
        self.end(at, ending);
        self.phase = Phase::Over;
        self.unacknowledged.clear();
        self.report.packets_sent = self.talking.packets_sent;
        self.report.packets_heard = self.talking.packets_heard;
        self.report.heard_from.clone_from(&self.talking.heard_from);
    }
}

/// What a dialog is called.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    pub(crate) local_uri: String,
    pub(crate) remote_uri: String,
}
