//! The configuration read anew while calls go on: by SIGHUP all of it, over HTTP a part or all.
//! Owns:  the order of reloads; the comparison of what runs with what is written.
//! Gives: a new snapshot on every shard, or the reasons why the old one stays.
//! Never: changes a listener or a CPU; the log names the keys that wait for a restart. The certificate
//!        of a listener is read anew.
//! Holds: an invalid configuration changes nothing, whichever part was asked for.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use shard::Keys;
use shared::config::{Config, Effective, Problem};
use shared::event::Severity;
use tokio::sync::Mutex;

use crate::access::Access;
use crate::configuration::{self, Configured};
use crate::directory::{Directory, NotReplaced, Part, Replaced};
use crate::tls_keys;
use crate::webhooks::outbox::Deliveries;
use crate::webhooks::{Client, Decider};

#[derive(Debug)]
pub struct Reloader {
    file: Option<PathBuf>,
    /// What the process was started with.
    started_with: Effective,
    access: Arc<Access>,
    directory: Arc<Directory>,
    client: Arc<Client>,
    decider: Arc<Decider>,
    deliveries: Arc<Deliveries>,
    /// Held from the first byte that is read: what was read later must not come live earlier.
    turn: Mutex<()>,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    pub replaced: Replaced,
    /// Keys that changed and wait for a restart.
    pub needs_restart: Vec<String>,
}

/// What ran before runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotReloaded {
    /// The errors of the files, each with its place.
    Invalid(Vec<Problem>),
    NotReplaced(NotReplaced),
    /// Our own fault.
    Stopped(String),
}

impl fmt::Display for NotReloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(problems) => {
                let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::NotReplaced(reason) => reason.fmt(f),
            Self::Stopped(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for NotReloaded {}

impl Reloader {
    /// `configured`: what the process was started with.
    pub fn new(
        configured: Configured,
        access: Arc<Access>,
        directory: Arc<Directory>,
        client: Arc<Client>,
        decider: Arc<Decider>,
        deliveries: Arc<Deliveries>,
    ) -> Self {
        let Configured { file, effective: started_with, .. } = configured;
        let turn = Mutex::new(());
        Self { file, started_with, access, directory, client, decider, deliveries, turn }
    }

    /// Reads everything, checks everything, and publishes the part.
    pub async fn reload(self: &Arc<Self>, part: Part) -> Result<Reloaded, NotReloaded> {
        let me = Arc::clone(self);
        // It goes to its end, whoever waits for it.
        let done = tokio::spawn(async move { me.reload_now(part).await }).await;
        done.map_err(|error| NotReloaded::Stopped(error.to_string()))?
    }

    async fn reload_now(&self, part: Part) -> Result<Reloaded, NotReloaded> {
        let _turn = self.turn.lock().await;
        // Reading files and secrets blocks, and is over in a moment.
        let read = tokio::task::spawn_blocking({
            let file = self.file.clone();
            move || configuration::read(file, false)
        });
        let read = read.await.map_err(|error| NotReloaded::Stopped(error.to_string()))?;
        let configured = read.map_err(|refused| {
            // Warnings are in `check-config`.
            let errors = refused.problems.into_iter();
            NotReloaded::Invalid(errors.filter(|it| it.severity == Severity::Error).collect())
        })?;
        let needs_restart = configured.effective.needs_restart(&self.started_with);
        let config = configured.config;
        // A trunk may have a certificate of its own.
        let has_keys = matches!(part, Part::All | Part::Trunks);
        let keys = if has_keys { read_keys(&config, configured.effective).await? } else { None };
        // Before the trunks: a call to one of them may need its certificate at once.
        let plane = self.directory.plane();
        let before = keys.and_then(|keys| plane.renew(&keys));
        let replaced = self.directory.replace_config(part, config.clone()).await;
        let replaced = replaced.map_err(|reason| {
            if let Some(before) = before {
                drop(plane.renew(&before));
            }
            NotReloaded::NotReplaced(reason)
        })?;
        match part {
            Part::Acl => self.admit_as(&config),
            Part::All => {
                self.admit_as(&config);
                self.client.adopt(&config);
                self.decider.adopt(&config);
                self.deliveries.adopt(&config);
            }
            Part::Routes | Part::Trunks => {}
        }
        Ok(Reloaded { replaced, needs_restart })
    }

    /// Who may ask over HTTP, besides users.
    fn admit_as(&self, config: &Config) {
        self.access.set_configured(config.http().api_tokens());
        self.access.set_ami_allows(config.http().ami_allows());
    }

    /// All of it, for a signal: the outcome goes to the log.
    pub async fn reload_and_log(self: &Arc<Self>) {
        match self.reload(Part::All).await {
            Ok(done) => done.log(),
            Err(reasons) => reasons.log(),
        }
    }
}

/// What SIP over TLS is to be served with; `None` where it is off.
async fn read_keys(
    config: &Config,
    effective: Effective,
) -> Result<Option<Arc<Keys>>, NotReloaded> {
    let config = config.clone();
    let read = tokio::task::spawn_blocking(move || tls_keys::read(&config, &effective)).await;
    let read = read.map_err(|error| NotReloaded::Stopped(error.to_string()))?;
    let keys = read.map_err(|problem| NotReloaded::Invalid(vec![problem]))?;
    Ok(keys.map(Arc::new))
}

impl Reloaded {
    pub fn log(&self) {
        let Self { replaced: Replaced { generation, counts, odd }, needs_restart } = self;
        tracing::info!(
            generation,
            users = counts.users,
            trunks = counts.trunks,
            routes = counts.routes,
            acl_rules = counts.acl_rules,
            "reloaded"
        );
        odd.iter().for_each(|reason| tracing::warn!(reason, "a row is not served as it is"));
        if !needs_restart.is_empty() {
            let keys = needs_restart.join(", ");
            tracing::warn!(keys, "changed, but only a restart brings them live");
        }
    }
}

impl NotReloaded {
    pub fn log(&self) {
        for reason in self.to_string().lines() {
            tracing::error!(reason, "reload refused; what ran before runs on");
        }
    }
}
