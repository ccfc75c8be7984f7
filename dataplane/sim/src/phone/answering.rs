//! The answering side of a phone's transactions (RFC 3261 8.2, 17.2).
//! Owns:  the last answer to each request, and when it goes out again.
//! Gives: each new request to whom it concerns: a call, a dialog, nobody.
//! Never: two transactions for one request; a repeat is answered with the same bytes.
//! Holds: responses go back to where the request came from (RFC 3581 4).

use std::net::SocketAddr;
use std::rc::Rc;

use rsip::headers::UntypedHeader as _;
use rsip::{Header, Method};
use shared::time::Instant;

use crate::phone::client::{Alarm, Server, T1, T2, T4, give_up_at, key};
use crate::phone::{Output, Phone, reply};
use crate::speech::heard::Heard;
use crate::speech::{Reply, in_dialect, response};

impl Phone {
    pub(super) fn hear_request(&mut self, now: Instant, from: SocketAddr, mut heard: Heard) {
        let key = key(&heard.branch, heard.method);
        if heard.method == Method::Ack {
            return self.hear_ack(now, &key, &heard);
        }
        if self.unheard.contains(&heard.call_id) {
            return;
        }
        if let Some(server) = self.servers.get(&key) {
            if let Some(bytes) = server.answer.clone().filter(|_| !server.quiet) {
                self.outputs.push_back(Output::Sip { to: from, bytes });
            }
            return;
        }
        fill_via(&mut heard, from);
        if !heard.headers.iter().any(|header| matches!(header, Header::MaxForwards(_))) {
            self.breach(format!("{} without Max-Forwards (RFC 3261 8.1.1)", heard.method));
        }
        let server = Server {
            asked: heard.clone(),
            from,
            answer: None,
            status: 0,
            usage: None,
            quiet: false,
            wait: T1,
        };
        self.servers.insert(key.clone(), server);
        if self.wants_credentials(now, &key, &heard) {
            return;
        }
        match (heard.method, &heard.to_tag) {
            (Method::Cancel, _) => self.hear_cancel(now, &key, &heard),
            (Method::Notify, Some(_)) if self.hear_lamp(now, &key, &heard) => {}
            (_, Some(_)) => self.hear_in_dialog(now, &key, &heard),
            (Method::Invite, None) => self.hear_invite(now, &key, &heard),
            (Method::Message, None) => self.hear_text(now, &key, &heard),
            (Method::Options, None) => self.answer(now, &key, Reply { status: 200, ..reply() }),
            (Method::Register, None) => self.take_registration(now, &key, &heard),
            (_, None) => self.answer(now, &key, Reply { status: 481, ..reply() }),
        }
    }

    /// Gives an answer in a server transaction and keeps it for repeats (RFC 3261 17.2).
    pub(super) fn answer(&mut self, now: Instant, key: &str, reply: Reply<'_>) {
        let reliable = self.is_reliable();
        let Some(server) = self.servers.get_mut(key) else { return };
        let (status, is_invite) = (reply.status, server.asked.method == Method::Invite);
        let drawn = self.random.word(8);
        let to_tag = reply.to_tag.or_else(|| (status > 100).then_some(drawn.as_str()));
        let text = response(&server.asked, Reply { to_tag, ..reply });
        let bytes: Rc<[u8]> = Rc::from(in_dialect(text, self.settings.dialect));
        server.answer = Some(Rc::clone(&bytes));
        server.status = status;
        server.quiet = is_invite && (200..300).contains(&status);
        self.outputs.push_back(Output::Sip { to: server.from, bytes });
        if status >= 200 {
            self.alarms.push(give_up_at(now), Alarm::ServerOver(key.to_owned()));
            if is_invite && status >= 300 && !reliable {
                self.alarms.push(now + T1, Alarm::ServerResend(key.to_owned()));
            }
        }
    }

    /// Timer G: a failure is sent again until its ACK comes (RFC 3261 17.2.1).
    pub(super) fn resend_answer(&mut self, now: Instant, key: String) {
        let Some(server) = self.servers.get_mut(&key).filter(|server| !server.quiet) else {
            return;
        };
        let Some(bytes) = server.answer.clone() else { return };
        server.wait = (2 * server.wait).min(T2);
        self.outputs.push_back(Output::Sip { to: server.from, bytes });
        self.alarms.push(now + server.wait, Alarm::ServerResend(key));
    }

    pub(super) fn hear_ack(&mut self, now: Instant, key: &str, heard: &Heard) {
        if let Some(server) = self.servers.get_mut(key).filter(|server| server.status >= 300) {
            if !server.quiet {
                server.quiet = true;
                self.alarms.push(now + T4, Alarm::ServerOver(key.to_owned()));
            }
            return;
        }
        self.hear_ack_of_ok(now, heard);
    }
}

/// RFC 3581 4: the server fills `rport` in and adds `received`.
fn fill_via(heard: &mut Heard, from: SocketAddr) {
    let top = heard.headers.iter_mut().find_map(|header| match header {
        Header::Via(via) => Some(via),
        _ => None,
    });
    if let Some(via) = top {
        let filled = via
            .value()
            .split(';')
            .map(|part| match part.trim() {
                "rport" => format!("rport={};received={}", from.port(), from.ip()),
                part => part.to_owned(),
            })
            .collect::<Vec<_>>()
            .join(";");
        via.replace(filled);
    }
}
