//! A lamp on a phone: SUBSCRIBE to the dialogs of a user, and what NOTIFY says of them (RFC 6665, RFC 4235).
//! Owns:  the lamps of one phone, each with its dialog and the dialogs that it shows.
//! Gives: `watch`; breaches of the order of NOTIFYs; `lamps_left` for the end of a run.
//! Never: the gateway's code: the document is read as text.
//! Holds: a partial document changes what it names, a full one is all there is (RFC 4235 3.2).

use std::collections::BTreeSet;
use std::time::Duration;

use rsip::Method;
use rsip::headers::UntypedHeader as _;
use shared::time::Instant;

use crate::phone::client::Purpose;
use crate::phone::{Phone, challenge_in, credentials_header, reply, usage};
use crate::speech::digest::Challenge;
use crate::speech::heard::Heard;
use crate::speech::{Ask, Party, Reply, request};

/// Of a lamp; each is a subscription.
pub type LampId = usize;

#[derive(Debug)]
pub struct Lamp {
    target: String,
    call_id: String,
    tag: String,
    cseq: u32,
    remote_tag: Option<String>,
    expires: Duration,
    credentials: Option<(usage::Ask, Challenge)>,
    tries: u8,
    version: Option<u64>,
    /// Ids of the dialogs that it shows.
    pub lit: BTreeSet<String>,
    /// States in the order in which they were told.
    pub seen: Vec<String>,
    /// `terminated`, with its reason; or the phone knows no more whether it is told.
    pub over: Option<String>,
}

impl Phone {
    /// Watches the calls of a user.
    pub fn watch(&mut self, now: Instant, target: &str, expires: Duration) -> LampId {
        let lamp = Lamp {
            target: target.to_owned(),
            call_id: self.random.word(16),
            tag: self.random.word(8),
            cseq: 0,
            remote_tag: None,
            expires,
            credentials: None,
            tries: 0,
            version: None,
            lit: BTreeSet::new(),
            seen: Vec::new(),
            over: None,
        };
        self.lamps.push(lamp);
        self.subscribe(now, self.lamps.len() - 1);
        self.lamps.len() - 1
    }

    pub fn lamp(&self, id: LampId) -> &Lamp {
        &self.lamps[id]
    }

    /// After all calls: lamps that still shine, though their subscription stands.
    pub fn lamps_left(&self) -> impl Iterator<Item = &Lamp> {
        let is_told = |lamp: &&Lamp| lamp.over.is_none() && lamp.version.is_some();
        self.lamps.iter().filter(is_told).filter(|lamp| !lamp.lit.is_empty())
    }

    /// Whatever it is told from now on is lost.
    pub(super) fn lose_lamps(&mut self) {
        for lamp in &mut self.lamps {
            lamp.over.get_or_insert_with(|| "lost".to_owned());
        }
    }

    fn subscribe(&mut self, now: Instant, id: LampId) {
        let (branch, contact, cnonce) = (self.branch(), self.contact(), self.random.word(8));
        let transport = self.via_transport();
        let aor = format!("sip:{}@{}", self.settings.user, self.settings.domain);
        let lamp = &mut self.lamps[id];
        lamp.cseq += 1;
        let mut more = vec![
            rsip::headers::Event::new("dialog").into(),
            rsip::headers::Expires::new(lamp.expires.as_secs().to_string()).into(),
        ];
        if let Some((ask, challenge)) = &mut lamp.credentials {
            let who = (self.settings.user.as_str(), self.settings.password.as_str());
            let value = challenge.answer(who, "SUBSCRIBE", &lamp.target, &cnonce);
            more.push(credentials_header(*ask, value));
        }
        let text = request(Ask {
            method: Method::Subscribe,
            uri: &lamp.target,
            transport,
            sent_by: self.settings.home,
            branch: &branch,
            from: Party { uri: &aor, tag: Some(&lamp.tag) },
            to: Party { uri: &lamp.target, tag: None },
            call_id: &lamp.call_id,
            cseq: lamp.cseq,
            contact: Some(&contact),
            routes: &[],
            more,
            body: None,
        });
        self.ask(now, text, self.settings.gateway, Purpose::Subscribe(id));
    }

    pub(super) fn hear_notifier(&mut self, now: Instant, id: LampId, heard: Option<&Heard>) {
        let status = heard.and_then(|heard| heard.status);
        match (status, heard) {
            (Some(401 | 407), Some(heard)) if self.lamps[id].tries < 2 => {
                let Some(credentials) = challenge_in(heard, &self.settings) else { return };
                self.lamps[id].tries += 1;
                self.lamps[id].credentials = Some(credentials);
                self.subscribe(now, id);
            }
            (Some(200..=299), Some(heard)) => {
                let granted = heard.value("Expires").and_then(|value| value.trim().parse().ok());
                let asked = self.lamps[id].expires.as_secs();
                if granted.is_none_or(|granted: u64| granted > asked) {
                    self.breach(format!("{granted:?} s granted, {asked} asked (RFC 6665 4.2.1.1)"));
                }
                self.lamps[id].remote_tag.clone_from(&heard.to_tag);
            }
            (status, _) => self.lamps[id].over = Some(format!("{status:?}")),
        }
    }

    /// A NOTIFY of one of the lamps; `false`: it is of something else.
    pub(super) fn hear_lamp(&mut self, now: Instant, key: &str, heard: &Heard) -> bool {
        let is_its = |lamp: &Lamp| {
            let is_lost = lamp.over.as_ref().is_some_and(|why| !why.starts_with("terminated"));
            let is_its = heard.to_tag.as_deref() == Some(lamp.tag.as_str());
            lamp.call_id == heard.call_id && is_its && !is_lost
        };
        let Some(id) = self.lamps.iter().position(is_its) else { return false };
        if let Err(why) = self.lamps[id].take(heard) {
            self.breach(format!("NOTIFY to a lamp: {why}"));
        }
        self.answer(now, key, Reply { status: 200, ..reply() });
        true
    }
}

impl Lamp {
    fn take(&mut self, heard: &Heard) -> Result<(), String> {
        // The NOTIFY may overtake the 200 to the SUBSCRIBE (RFC 6665 4.1.2.4).
        let tag = self.remote_tag.get_or_insert_with(|| heard.from_tag.clone());
        if *tag != heard.from_tag {
            return Err(format!(
                "it comes from {}, the subscription is with {tag}",
                heard.from_tag
            ));
        }
        let state = heard.value("Subscription-State").unwrap_or_default();
        if let Some(over) = &self.over {
            return Err(format!("{state} after {over}"));
        }
        let text = String::from_utf8_lossy(&heard.body);
        let text = text.split_once("<dialog-info").ok_or("no dialog-info")?.1;
        let version = attribute(text, "version").and_then(|text| text.parse().ok());
        let expected = self.version.map_or(0, |version| version + 1);
        if version != Some(expected) {
            return Err(format!("version {version:?} instead of {expected}"));
        }
        self.version = version;
        if attribute(text, "state") == Some("full") {
            self.lit.clear();
        }
        for dialog in text.split("<dialog ").skip(1) {
            let id = attribute(dialog, "id").ok_or("a dialog without an id")?;
            let state = dialog.split("<state>").nth(1).and_then(|rest| rest.split('<').next());
            let state = state.ok_or("a dialog without a state")?;
            self.seen.push(state.to_owned());
            match state {
                "terminated" => drop(self.lit.remove(id)),
                _ => drop(self.lit.insert(id.to_owned())),
            }
        }
        if state.starts_with("terminated") {
            self.over = Some(state.to_owned());
        }
        Ok(())
    }
}

fn attribute<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let start = format!("{name}=\"");
    // Not a name that ends like it.
    let at = text.match_indices(&start).find(|(at, _)| {
        at.checked_sub(1).is_none_or(|before| text.as_bytes()[before].is_ascii_whitespace())
    });
    at.and_then(|(at, _)| text[at + start.len()..].split('"').next())
}
