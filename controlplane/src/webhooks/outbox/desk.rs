//! One endpoint as the rest of the process sees it: its switch, its numbers, its bell.
//! Owns:  whether it is configured and enabled; counts since the start; the backlog as last counted.
//! Gives: copies to health, metrics and the API; the bell to its dispatcher.
//! Never: a row of the outbox.
//! Holds: an endpoint that was switched off stays off until somebody switches it on or its URL changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::time::WallMs;
use tokio::sync::Notify;

use super::dispatch::wall_now;
use crate::store::{Backlog, EndpointState};

#[derive(Debug)]
pub struct Desk {
    pub name: &'static str,
    bell: Notify,
    /// It answered lately.
    pub(super) up: AtomicBool,
    pub(super) delivered: AtomicU64,
    /// Attempts that failed.
    pub(super) failed: AtomicU64,
    /// Events that were given up.
    pub(super) dead: AtomicU64,
    switch: Mutex<Switch>,
}

#[derive(Debug, Default)]
struct Switch {
    /// Fingerprint of its URL; empty when it is not configured.
    target: String,
    enabled: bool,
    reason: Option<String>,
    changed_at: Option<WallMs>,
    backlog: Backlog,
}

/// A copy of everything.
#[derive(Clone, Debug)]
pub struct Standing {
    pub name: &'static str,
    pub configured: bool,
    pub enabled: bool,
    pub reason: Option<String>,
    pub changed_at: Option<WallMs>,
    pub up: bool,
    pub delivered: u64,
    pub failed: u64,
    pub dead: u64,
    pub backlog: Backlog,
}

impl Standing {
    /// How long the oldest event has been waiting.
    pub fn oldest_age(&self) -> Duration {
        let since = self.backlog.oldest_pending.map(|at| wall_now().0.saturating_sub(at.0));
        Duration::from_millis(since.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0))
    }

    /// `not_configured`, `disabled`, `down` or `up`.
    pub const fn state(&self) -> &'static str {
        if !self.configured {
            "not_configured"
        } else if !self.enabled {
            "disabled"
        } else if self.up {
            "up"
        } else {
            "down"
        }
    }
}

impl Desk {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            bell: Notify::new(),
            up: AtomicBool::new(true),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            switch: Mutex::new(Switch { enabled: true, ..Switch::default() }),
        }
    }

    pub fn standing(&self) -> Standing {
        let switch = self.switch();
        Standing {
            name: self.name,
            configured: !switch.target.is_empty(),
            enabled: switch.enabled,
            reason: switch.reason.clone(),
            changed_at: switch.changed_at,
            up: self.up.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            dead: self.dead.load(Ordering::Relaxed),
            backlog: switch.backlog.clone(),
        }
    }

    /// `known`: what was written about it. A state of another URL does not count.
    pub(super) fn configure(&self, target: &str, known: Option<EndpointState>) {
        let mut switch = self.switch();
        if switch.target != target {
            target.clone_into(&mut switch.target);
            (switch.enabled, switch.reason, switch.changed_at) = (true, None, None);
        }
        if let Some(known) = known.filter(|known| known.target == target) {
            switch.enabled = known.enabled;
            switch.reason = known.reason;
            switch.changed_at = Some(known.changed_at);
        }
    }

    pub(super) fn may_send(&self) -> bool {
        let switch = self.switch();
        switch.enabled && !switch.target.is_empty()
    }

    pub(super) fn disable(&self, reason: &str) {
        let mut switch = self.switch();
        switch.enabled = false;
        switch.reason = Some(reason.to_owned());
        switch.changed_at = Some(wall_now());
    }

    pub(super) fn stands(&self, backlog: Backlog) {
        self.switch().backlog = backlog;
    }

    pub(super) fn expired(&self, events: u64) {
        if events > 0 {
            self.dead.fetch_add(events, Ordering::Relaxed);
            tracing::error!(
                endpoint = self.name,
                events,
                "events are given up: their endpoint was away for days; replay them"
            );
        }
    }

    pub(super) fn wake(&self) {
        self.bell.notify_one();
    }

    /// Ends when there may be new rows.
    pub(super) async fn woken(&self) {
        self.bell.notified().await;
    }

    fn switch(&self) -> MutexGuard<'_, Switch> {
        // The switch is whole between any two statements that hold the lock.
        self.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
