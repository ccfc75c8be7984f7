//! The asking side of a phone's transactions (RFC 3261 8.1, 17.1).
//! Owns:  how requests go out, again and again, and how responses find what they answer.
//! Gives: one final answer, or none, to whatever a request was for.
//! Never: what a call or a registration makes of an answer.
//! Holds: a response without its transaction is dropped, but a repeated 2xx gets its ACK again.

use std::net::SocketAddr;
use std::rc::Rc;

use rsip::Method;
use shared::time::Instant;

use crate::phone::client::{Alarm, Client, Purpose, Said, State, give_up_at, key};
use crate::phone::usage::Usage;
use crate::phone::{Ending, Output, Phone};
use crate::speech::heard::Heard;

impl Phone {
    /// Sends a request in a transaction of its own; gives the transaction's key.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        text: String,
        to: SocketAddr,
        purpose: Purpose,
    ) -> String {
        let asked = Heard::read(text.as_bytes()).expect("rsip reads what rsip wrote");
        let key = key(&asked.branch, asked.method);
        let bytes = self.send(to, text);
        let client = Client::new(asked, bytes, purpose, self.is_reliable());
        if let Some(after) = client.resend_after() {
            self.alarms.push(now + after, Alarm::ClientResend(key.clone()));
        }
        self.alarms.push(give_up_at(now), Alarm::ClientGiveUp(key.clone()));
        self.clients.insert(key.clone(), client);
        key
    }

    pub(super) fn resend_request(&mut self, now: Instant, key: String) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        if client.resend_after().is_none() {
            return;
        }
        client.lengthen();
        let (bytes, wait, purpose) = (Rc::clone(&client.bytes), client.wait, client.purpose);
        let to = self.destination_of(purpose);
        self.outputs.push_back(Output::Sip { to, bytes });
        self.alarms.push(now + wait, Alarm::ClientResend(key));
    }

    pub(super) fn give_up(&mut self, now: Instant, key: &str) {
        let waits = |client: &Client| match client.state {
            State::Trying => true,
            State::Proceeding => !client.is_invite(),
            State::Accepted | State::Completed => false,
        };
        if self.clients.get(key).is_some_and(waits) {
            let client = self.clients.remove(key).expect("it was just there");
            // RFC 3261 8.1.3.1: no answer counts as 408.
            self.hear_final(now, client.purpose, None, &client.asked);
        }
    }

    pub(super) fn hear_response(&mut self, now: Instant, heard: &Heard) {
        let status = heard.status.expect("a response");
        let key = key(&heard.branch, heard.cseq_method);
        let Some(client) = self.clients.get_mut(&key) else {
            return self.hear_more_ok(heard);
        };
        let (said, purpose, is_invite) = (client.hear(status), client.purpose, client.is_invite());
        let linger = client.linger();
        if heard.vias != 1 {
            self.breach(format!("a response with {} Via headers (RFC 3261 8.1.3.3)", heard.vias));
        }
        match said {
            Said::Provisional => self.hear_provisional(now, purpose, heard),
            Said::Final => {
                self.alarms.push(now + linger, Alarm::ClientOver(key.clone()));
                if is_invite && status >= 300 {
                    self.acknowledge_failure(&key, heard);
                }
                let asked = self.clients[&key].asked.clone();
                self.hear_final(now, purpose, Some(heard), &asked);
            }
            Said::Repeat if is_invite && status >= 300 => {
                let client = &self.clients[&key];
                let bytes = client.ack.clone().expect("sent with the first one");
                let to = self.destination_of(purpose);
                self.outputs.push_back(Output::Sip { to, bytes });
            }
            Said::Repeat => self.hear_more_ok(heard),
            Said::Contradiction => {
                let first = self.clients[&key].final_status.unwrap_or_default();
                let call = &heard.call_id;
                self.breach(format!("{} of {call} got {first} and then {status}", heard.method));
            }
        }
    }

    pub(super) fn hear_provisional(&mut self, now: Instant, purpose: Purpose, heard: &Heard) {
        if let Purpose::Invite(id) = purpose {
            self.hear_ringing(now, id, heard);
        }
    }

    /// The one place where a final answer, or its absence, reaches what the request was for.
    pub(super) fn hear_final(
        &mut self,
        now: Instant,
        purpose: Purpose,
        heard: Option<&Heard>,
        asked: &Heard,
    ) {
        match purpose {
            Purpose::Bye(id) => self.usages[id].close(now, Ending::LocalBye),
            Purpose::Cancel(_) => {}
            Purpose::Invite(id) => self.hear_invite_answer(now, id, heard, asked),
            Purpose::Note(id) => self.hear_note_answer(now, id, heard),
            Purpose::Prack(id) => self.hear_prack_answer(id, heard),
            Purpose::ReInvite(id) => self.hear_change_answer(now, id, heard, asked),
            Purpose::Register => self.hear_registrar(now, heard, asked),
            Purpose::Subscribe(id) => self.hear_notifier(now, id, heard),
            Purpose::Text(id) => self.hear_text_answer(now, id, heard),
            Purpose::Update(id) => self.hear_update_answer(now, id, heard, asked),
        }
    }

    pub(super) fn acknowledge_failure(&mut self, key: &str, heard: &Heard) {
        let client = &self.clients[key];
        let (text, purpose) = (crate::speech::ack_of_failure(&client.asked, heard), client.purpose);
        let to = self.destination_of(purpose);
        let bytes = self.send(to, text);
        self.clients.get_mut(key).expect("it was just there").ack = Some(bytes);
    }

    /// RFC 3261 13.2.2.4: every repeat of a 2xx gets its ACK again.
    pub(super) fn hear_more_ok(&mut self, heard: &Heard) {
        if heard.cseq_method != Method::Invite || !matches!(heard.status, Some(200..=299)) {
            return;
        }
        let mine =
            |usage: &&Usage| usage.call_id == heard.call_id && usage.local_tag == heard.from_tag;
        let Some(usage) = self.usages.iter().find(mine) else { return };
        if usage.remote_tag.is_some() && usage.remote_tag != heard.to_tag {
            let call = &heard.call_id;
            return self.breaches.push(format!("{call}: a second 2xx came with another To tag"));
        }
        if let Some(ack) = usage.acks.get(&heard.cseq) {
            let (to, bytes) = (self.target_of(usage), Rc::clone(ack));
            self.outputs.push_back(Output::Sip { to, bytes });
        }
    }
}
