//! Who hears about events after the fact: `[proxy.locator_webhook]` and `[callrecord] type = "http"`.
//! Owns:  `LocatorWebhook`, `CallRecordPush`.
//! Gives: targets that the outbox delivers to.
//! Never: another type of `[callrecord]`.
//! Holds: a section that is there names a target, or the configuration is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::file::{CallRecordFile, SecretText};
use super::problem::Report;
use super::secret::ReadSecret;
use super::webhooks::{WebTarget, headers, url};
use crate::event::RegistrationChange;

/// A receiver of events may take its time: nobody waits for it.
const TIMEOUT_MS: u64 = 15_000;
/// One with a recording takes longer.
const MEDIA_TIMEOUT_MS: u64 = 60_000;

/// Who hears about registrations.
#[derive(Clone, Debug)]
pub struct LocatorWebhook {
    pub target: WebTarget,
    events: Vec<RegistrationChange>,
}

/// Who gets every call record.
#[derive(Clone, Debug)]
pub struct CallRecordPush {
    pub target: WebTarget,
    /// With the recording, one file per track.
    pub with_media: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LocatorWebhookFile {
    pub(super) url: Option<SecretText>,
    pub(super) events: Vec<String>,
    pub(super) headers: BTreeMap<String, SecretText>,
    pub(super) timeout_ms: Option<u64>,
}

impl LocatorWebhook {
    pub fn events(&self) -> &[RegistrationChange] {
        &self.events
    }

    pub(super) fn check(
        file: &LocatorWebhookFile,
        read: &ReadSecret<'_>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        const KEY: &str = "proxy.locator_webhook";
        const ALL: [RegistrationChange; 3] = [
            RegistrationChange::Registered,
            RegistrationChange::Unregistered,
            RegistrationChange::Offline,
        ];
        let url = url(file.url.as_ref(), &format!("{KEY}.url"), read, report);
        let headers = headers(&file.headers, &format!("{KEY}.headers"), read, report);
        let timeout = Duration::from_millis(file.timeout_ms.unwrap_or(TIMEOUT_MS));
        let mut events = Vec::new();
        for (place, word) in file.events.iter().enumerate() {
            match ALL.into_iter().find(|change| change.as_str() == word) {
                Some(change) => events.push(change),
                None => report.error_try(
                    &format!("{KEY}.events[{place}]"),
                    format!("\"{word}\" is not an event"),
                    "write \"registered\", \"unregistered\" or \"offline\"",
                ),
            }
        }
        if file.events.is_empty() {
            events.extend(ALL);
        }
        Some(Self { target: WebTarget { url: url?, headers, timeout }, events })
    }
}

impl CallRecordPush {
    pub(super) fn check(
        file: &CallRecordFile,
        read: &ReadSecret<'_>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        if file.kind.as_deref() != Some("http") {
            for (name, written) in [
                ("url", file.url.is_some()),
                ("headers", !file.headers.is_empty()),
                ("with_media", file.with_media == Some(true)),
            ] {
                if written {
                    let text = "is used with type = \"http\" only";
                    report.warning(&format!("callrecord.{name}"), text);
                }
            }
            return None;
        }
        let url = url(file.url.as_ref(), "callrecord.url", read, report);
        let headers = headers(&file.headers, "callrecord.headers", read, report);
        let with_media = file.with_media.unwrap_or(false);
        let timeout = if with_media { MEDIA_TIMEOUT_MS } else { TIMEOUT_MS };
        let timeout = Duration::from_millis(file.timeout_ms.unwrap_or(timeout));
        Some(Self { target: WebTarget { url: url?, headers, timeout }, with_media })
    }
}
