//! Texts between phones: MESSAGE outside of a dialog (RFC 3428).
//! Owns:  what one phone has sent and heard.
//! Gives: `text`; `texts` and `heard_texts`, which the end of a run compares.
//! Never: a text twice under one Call-ID.
//! Holds: a text that was answered 2xx was heard by somebody.

use rsip::Method;
use shared::time::Instant;

use crate::phone::client::Purpose;
use crate::phone::{Phone, challenge_in, credentials_header, reply, usage};
use crate::speech::digest::Challenge;
use crate::speech::heard::Heard;
use crate::speech::{Ask, Body, Party, Reply, request};

/// Place of a text in its phone's list.
pub type TextId = usize;

#[derive(Debug)]
pub struct Text {
    target: String,
    /// Its Call-ID, and what it says.
    pub call_id: String,
    tag: String,
    cseq: u32,
    credentials: Option<(usage::Ask, Challenge)>,
    tries: u8,
    /// The final answer; `None` without one.
    pub status: Option<u16>,
}

impl Phone {
    pub fn text(&mut self, now: Instant, target: &str) -> TextId {
        let text = Text {
            target: target.to_owned(),
            call_id: self.random.word(16),
            tag: self.random.word(8),
            cseq: 0,
            credentials: None,
            tries: 0,
            status: None,
        };
        self.texts.push(text);
        self.send_text(now, self.texts.len() - 1);
        self.texts.len() - 1
    }

    pub fn texts(&self) -> &[Text] {
        &self.texts
    }

    /// What others wrote.
    pub fn heard_texts(&self) -> &[String] {
        &self.heard_texts
    }

    fn send_text(&mut self, now: Instant, id: TextId) {
        let (branch, cnonce) = (self.branch(), self.random.word(8));
        let transport = self.via_transport();
        let aor = format!("sip:{}@{}", self.settings.user, self.settings.domain);
        let text = &mut self.texts[id];
        text.cseq += 1;
        let mut more = Vec::new();
        if let Some((ask, challenge)) = &mut text.credentials {
            let who = (self.settings.user.as_str(), self.settings.password.as_str());
            let value = challenge.answer(who, "MESSAGE", &text.target, &cnonce);
            more.push(credentials_header(*ask, value));
        }
        let text = request(Ask {
            method: Method::Message,
            uri: &text.target,
            transport,
            sent_by: self.settings.home,
            branch: &branch,
            from: Party { uri: &aor, tag: Some(&text.tag) },
            to: Party { uri: &text.target, tag: None },
            call_id: &text.call_id,
            cseq: text.cseq,
            contact: None,
            routes: &[],
            more,
            body: Some(Body { content_type: "text/plain", text: text.call_id.clone() }),
        });
        self.ask(now, text, self.settings.gateway, Purpose::Text(id));
    }

    pub(super) fn hear_text_answer(&mut self, now: Instant, id: TextId, heard: Option<&Heard>) {
        if let Some(heard) = heard.filter(|_| self.texts[id].tries < 2)
            && let Some(credentials) = challenge_in(heard, &self.settings)
        {
            self.texts[id].tries += 1;
            self.texts[id].credentials = Some(credentials);
            return self.send_text(now, id);
        }
        self.texts[id].status = heard.and_then(|heard| heard.status);
    }

    pub(super) fn hear_text(&mut self, now: Instant, key: &str, heard: &Heard) {
        self.heard_texts.push(String::from_utf8_lossy(&heard.body).into_owned());
        self.answer(now, key, Reply { status: 200, ..reply() });
    }
}
