//! Who gets events: the endpoints of the configuration, each with a fixed name.
//! Owns:  `Endpoints`, and which events go to which of them.
//! Gives: rows for the outbox out of call records and registrations.
//! Never: sends anything; keeps a URL where `Debug` shows it.
//! Holds: an event that no endpoint wants makes no row.

use reqwest::header::HeaderMap;
use sha2::{Digest, Sha256};
use shared::cdr::Cdr;
use shared::config::{Config, WebTarget};
use shared::event::{Registration, RegistrationChange};
use std::fmt::Write;
use std::time::Duration;
use url::Url;

use super::events;
use crate::store::NewEvent;
use crate::webhooks::{fresh_id, header_map};

pub const CALL_RECORD: &str = "callrecord";
pub const LOCATOR: &str = "locator";
/// Every name that there is; most gateways configure none or one of them.
pub const NAMES: [&str; 2] = [CALL_RECORD, LOCATOR];

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub name: &'static str,
    pub target: WebTarget,
    /// `target.headers` in the form of the client.
    pub headers: HeaderMap,
    /// Call records bring their recording along.
    pub with_media: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    call_record: Option<Endpoint>,
    locator: Option<Endpoint>,
    changes: Vec<RegistrationChange>,
    /// Where phones reach us, for those who ask which node has a registration.
    home_proxy: Option<String>,
}

impl Endpoint {
    fn new(name: &'static str, target: &WebTarget, with_media: bool) -> Self {
        Self { name, headers: header_map(&target.headers), target: target.clone(), with_media }
    }

    pub const fn url(&self) -> &Url {
        &self.target.url
    }

    pub const fn timeout(&self) -> Duration {
        self.target.timeout
    }

    /// Says whether two URLs are the same without saying what they are.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for byte in &Sha256::digest(self.target.url.as_str())[..16] {
            write!(text, "{byte:02x}").expect("text grows");
        }
        text
    }

    /// Scheme, host and port: what may be shown.
    pub fn shown(&self) -> String {
        self.target.url.origin().ascii_serialization()
    }
}

impl Endpoints {
    pub fn of_config(config: &Config) -> Self {
        let locator = config.locator_webhook();
        Self {
            call_record: config
                .call_record_push()
                .map(|push| Endpoint::new(CALL_RECORD, &push.target, push.with_media)),
            locator: locator.map(|hook| Endpoint::new(LOCATOR, &hook.target, false)),
            changes: locator.map(|hook| hook.events().to_vec()).unwrap_or_default(),
            home_proxy: home_proxy(config),
        }
    }

    pub fn one(&self, name: &str) -> Option<&Endpoint> {
        match name {
            CALL_RECORD => self.call_record.as_ref(),
            LOCATOR => self.locator.as_ref(),
            _ => None,
        }
    }

    /// What has to be written together with these call records.
    pub fn of_cdrs(&self, batch: &[Cdr]) -> Vec<NewEvent> {
        if self.call_record.is_none() {
            return Vec::new();
        }
        let row = |cdr: &Cdr| NewEvent {
            // The same call record gives the same event, however often it is stored.
            event_id: format!("cdr_{}", cdr.session_id),
            endpoint: CALL_RECORD.into(),
            key: cdr.session_id.to_string(),
            kind: "cdr".into(),
            payload: events::of_cdr(cdr),
        };
        batch.iter().map(row).collect()
    }

    pub fn of_registration(&self, change: &Registration) -> Option<NewEvent> {
        if self.locator.is_none() || !self.changes.contains(&change.change) {
            return None;
        }
        Some(NewEvent {
            event_id: fresh_id(),
            endpoint: LOCATOR.into(),
            key: change.aor.clone(),
            kind: change.change.as_str().into(),
            payload: events::of_registration(change, self.home_proxy.as_deref()),
        })
    }
}

/// The address that phones see, when the configuration says it.
fn home_proxy(config: &Config) -> Option<String> {
    let sip = config.sip();
    let ip = config.external_ip().first().copied().or_else(|| sip.addr())?;
    let port = sip.udp_ports().first().copied().or_else(|| sip.tcp_port())?;
    (!ip.is_unspecified()).then(|| std::net::SocketAddr::new(ip, port).to_string())
}
