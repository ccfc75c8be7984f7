//! Reliable provisional responses of a phone, written apart from the gateway's (RFC 3262).
//! Owns:  `Reliability`; what waits for a PRACK of this phone, or for one of its peer.
//! Gives: RSeq on what it rings with, a PRACK for what rings here; the repeats, and 504 in the end.
//! Never: a second response before the first has its PRACK; a 2xx before its description has.
//! Holds: each response is acknowledged once; a gap between numbers is a breach of the peer.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use rsip::headers::UntypedHeader as _;
use rsip::{Header, Method};
use shared::time::Instant;

use crate::phone::client::{Alarm, Purpose, T1, give_up_at};
use crate::phone::plan::Ring;
use crate::phone::usage::{Deed, Phase, Plan};
use crate::phone::{Output, Phone, UsageId, reply};
use crate::speech::heard::Heard;
use crate::speech::{Body, Reply};

/// What a phone can do about provisional responses, and wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reliability {
    /// It has never heard of them.
    #[default]
    Off,
    /// It insists on them.
    Required,
    /// It is able to; by itself it uses them for descriptions.
    Supported,
}

/// The reliable responses of one call, of either role.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// The last number: sent by the callee, heard by the caller; 0 for none.
    rseq: u32,
    out: Option<Outstanding>,
    /// The callee wants to say these next.
    waiting: VecDeque<Ring>,
    /// The callee has picked up, and its 2xx has to wait.
    wants_answer: bool,
    /// Offer and answer have passed in a reliable response (and its PRACK).
    pub(crate) agreed: bool,
}

#[derive(Debug)]
struct Outstanding {
    bytes: Rc<[u8]>,
    to: std::net::SocketAddr,
    wait: Duration,
    tells: bool,
    /// The PRACK has to bring the answer.
    offers: bool,
    repeats: bool,
}

impl Phone {
    // Calling -----------------------------------------------------------------------------------

    /// The headers of a first INVITE.
    pub(super) fn reliability_request(&self, id: UsageId, method: Method) -> Vec<Header> {
        let usage = &self.usages[id];
        let is_first = method == Method::Invite && usage.phase == Phase::Inviting;
        match self.settings.reliability {
            Reliability::Required if is_first => {
                vec![rsip::headers::Require::new("100rel").into()]
            }
            Reliability::Supported if is_first => {
                vec![rsip::headers::Supported::new("100rel").into()]
            }
            _ => Vec::new(),
        }
    }

    /// Whether a provisional response is news; a reliable one gets its PRACK.
    pub(super) fn takes_provisional(&mut self, now: Instant, id: UsageId, heard: &Heard) -> bool {
        let (status, call) = (heard.status.unwrap_or_default(), &heard.call_id);
        let wish = self.settings.reliability;
        if status == 100 {
            return true;
        }
        if !names(heard, "Require") {
            if wish == Reliability::Required {
                let what = format!("{call}: {status} without RSeq (RFC 3262 3)");
                self.breach(what);
            }
            return true;
        }
        let rseq: Option<u32> = heard.value("RSeq").and_then(|value| value.parse().ok());
        let (Some(rseq), true) = (rseq, wish != Reliability::Off) else {
            let what = format!("{call}: {status} requires 100rel, RSeq {rseq:?}, {wish:?}");
            self.breach(what);
            return true;
        };
        let last = self.usages[id].early.rseq;
        if last > 0 && rseq <= last {
            return false; // a repeat
        }
        if last > 0 && rseq != last + 1 {
            let what = format!("{call}: RSeq {rseq} after {last} (RFC 3262 3)");
            self.breach(what);
        }
        self.usages[id].early.rseq = rseq;
        self.prack(now, id, rseq, heard);
        true
    }

    fn prack(&mut self, now: Instant, id: UsageId, rseq: u32, heard: &Heard) {
        let usage = &mut self.usages[id];
        usage.remote_tag.clone_from(&heard.to_tag);
        usage.routes = heard.record_routes.iter().rev().cloned().collect();
        if let Some(contact) = &heard.contact {
            usage.target.clone_from(contact);
        }
        let offered = usage.caller_plan().is_some_and(|plan| plan.offer);
        let mut body = None;
        if let Some(sdp) = heard.sdp() {
            if usage.early.agreed {
                let what = format!("{}: a second description (RFC 3262 5)", heard.call_id);
                self.breaches.push(what);
            } else if !offered {
                match usage.talking.answer(sdp, false) {
                    Ok(answer) => body = Some(Body::sdp(answer)),
                    Err(why) => self.breaches.push(format!("{}: {why}", heard.call_id)),
                }
                self.start_to_speak(now, id);
            }
            self.usages[id].early.agreed = true;
        }
        let usage = &mut self.usages[id];
        usage.cseq += 1;
        let cseq = usage.cseq;
        let rack = Header::Other("RAck".into(), format!("{rseq} {} INVITE", heard.cseq));
        let text = self.dialog_request_with(id, Method::PRack, cseq, body, vec![rack]);
        let to = self.target_of(&self.usages[id]);
        self.ask(now, text, to, Purpose::Prack(id));
        self.usages[id].report.pracks_sent += 1;
    }

    /// Refusals that are nobody's accident: what the PRACK said was right.
    pub(super) fn hear_prack_answer(&mut self, id: UsageId, heard: Option<&Heard>) {
        let Some(status) = heard.and_then(|heard| heard.status) else { return };
        if matches!(status, 400 | 405 | 415 | 420 | 488) {
            let call = self.usages[id].call_id.clone();
            self.breach(format!("{call}: PRACK was answered {status}"));
        }
    }

    // Being called ------------------------------------------------------------------------------

    /// Whether this is to be said reliably; when it is, and another still waits, it is said later.
    pub(super) fn rings_reliably(&self, id: UsageId, key: &str, ring: Ring) -> bool {
        let Some(asked) = self.servers.get(key).map(|server| &server.asked) else { return false };
        let may = names(asked, "Supported") || names(asked, "Require");
        // Another branch is another dialog, which this phone does not keep.
        let own = !matches!(ring, Ring::Trying | Ring::OtherBranch);
        let wanted = match self.settings.reliability {
            Reliability::Off => false,
            Reliability::Required => true,
            Reliability::Supported => {
                ring == Ring::EarlyMedia && !self.usages[id].early.agreed || names(asked, "Require")
            }
        };
        may && own && wanted
    }

    pub(super) fn waits_to_ring(&mut self, id: UsageId, ring: Ring) -> bool {
        let early = &mut self.usages[id].early;
        if early.out.is_some() {
            early.waiting.push_back(ring);
        }
        early.out.is_some()
    }

    /// The offer of a reliable 183 to an INVITE without one (RFC 3262 5).
    pub(super) fn offer_early(&mut self, id: UsageId) -> Option<String> {
        let usage = &mut self.usages[id];
        (!usage.early.agreed).then(|| usage.talking.offer())
    }

    /// The headers of the next reliable response.
    pub(super) fn number_next(&mut self, id: UsageId) -> Vec<Header> {
        let first = u32::try_from(self.random.range(1, 1 << 31)).expect("it fits");
        let early = &mut self.usages[id].early;
        early.rseq = if early.rseq == 0 { first } else { early.rseq + 1 };
        let number = Header::Other("RSeq".into(), early.rseq.to_string());
        vec![rsip::headers::Require::new("100rel").into(), number]
    }

    /// It left: it is repeated until its PRACK comes.
    pub(super) fn rang_reliably(&mut self, now: Instant, id: UsageId, key: &str, tells: bool) {
        let Some(server) = self.servers.get(key) else { return };
        let (Some(bytes), to) = (server.answer.clone(), server.from) else { return };
        let offers = tells && server.asked.sdp().is_none();
        let early = &mut self.usages[id].early;
        early.out = Some(Outstanding { bytes, to, wait: T1, tells, offers, repeats: true });
        early.agreed |= tells;
        let rseq = early.rseq;
        self.at(now, T1, id, Deed::ResendRing(rseq));
        self.alarms.push(give_up_at(now), Alarm::Usage(id, Deed::GiveUpRing(rseq)));
    }

    pub(super) fn resend_ring(&mut self, now: Instant, id: UsageId, rseq: u32) {
        let early = &mut self.usages[id].early;
        let is_it = early.rseq == rseq;
        let Some(out) = early.out.as_mut().filter(|out| is_it && out.repeats) else { return };
        out.wait *= 2;
        let (to, bytes, wait) = (out.to, Rc::clone(&out.bytes), out.wait);
        self.outputs.push_back(Output::Sip { to, bytes });
        self.at(now, wait, id, Deed::ResendRing(rseq));
    }

    /// RFC 3262 3: without a PRACK for 64*T1 the INVITE is refused.
    pub(super) fn give_up_ring(&mut self, now: Instant, id: UsageId, rseq: u32) {
        let early = &self.usages[id].early;
        if early.rseq == rseq && early.out.as_ref().is_some_and(|out| out.repeats) {
            self.usages[id].report.unpracked = true;
            self.refuse(now, id, 504);
        }
    }

    /// Whether a 2xx has to wait. Else nothing is repeated behind it.
    pub(super) fn waits_to_answer(&mut self, id: UsageId) -> bool {
        let early = &mut self.usages[id].early;
        early.wants_answer = early.out.as_ref().is_some_and(|out| out.tells);
        if !early.wants_answer {
            early.waiting.clear();
            if let Some(out) = &mut early.out {
                out.repeats = false;
            }
        }
        early.wants_answer
    }

    pub(super) fn hear_prack(&mut self, now: Instant, id: UsageId, key: &str, heard: &Heard) {
        let rack = heard.value("RAck").unwrap_or_default().to_owned();
        let invited = match &self.usages[id].plan {
            Plan::Callee(_) => self.usages[id].early.rseq,
            Plan::Caller(_) => 0,
        };
        let mut words = rack.split_ascii_whitespace();
        let named = words.next().and_then(|word| word.parse().ok()) == Some(invited);
        let is_invite = words.nth(1) == Some("INVITE");
        let out = self.usages[id].early.out.take_if(|_| named && is_invite);
        let Some(out) = out else {
            let what = format!("{}: PRACK for {rack}, not {invited}", heard.call_id);
            self.breach(what);
            return self.answer(now, key, Reply { status: 481, ..reply() });
        };
        self.answer(now, key, Reply { status: 200, ..reply() });
        let usage = &mut self.usages[id];
        usage.report.pracks_heard += 1;
        if out.offers {
            let answered =
                heard.sdp().ok_or_else(|| "PRACK without an answer (RFC 3262 5)".to_owned());
            if let Err(why) = answered.and_then(|sdp| usage.talking.take_answer(sdp)) {
                self.breaches.push(format!("{}: {why}", heard.call_id));
            }
        }
        if !out.repeats {
            return; // it has its final response
        }
        if self.usages[id].early.wants_answer {
            return self.accept(now, id);
        }
        if let Some(ring) = self.usages[id].early.waiting.pop_front() {
            self.ring(now, id, ring);
        }
    }
}

fn names(heard: &Heard, header: &str) -> bool {
    let mut words = heard.values(header).flat_map(|value| value.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case("100rel"))
}
