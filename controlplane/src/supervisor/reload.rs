//! SIGHUP: users, trunks, tokens and the rules of outbound calls anew, while calls go on.
//! Owns:  the comparison of what runs with what is written.
//! Gives: a new snapshot on every shard, or the reasons why the old one stays.
//! Never: changes a listener or a CPU; the log names the keys that wait for a restart.
//! Holds: an invalid configuration changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shared::config::{Effective, Problem};
use shared::event::Severity;

use super::snapshot::{self, Publisher};
use crate::access::Access;
use crate::configuration;
use crate::store::Store;
use crate::webhooks::Client;

#[derive(Debug)]
pub struct Reloader {
    pub file: Option<PathBuf>,
    /// What the process was started with.
    pub started_with: Effective,
    pub access: Arc<Access>,
    pub store: Arc<dyn Store>,
    pub publisher: Publisher,
    pub ipv6: bool,
    pub client: Arc<Client>,
}

/// The errors alone; warnings are in `check-config`.
fn errors(problems: &[Problem]) -> String {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    pub generation: u64,
    pub users: usize,
    pub trunks: usize,
    /// Keys that changed and wait for a restart.
    pub needs_restart: Vec<String>,
}

impl Reloader {
    /// Reads everything again and publishes it. The error has one line per reason.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        // Reading files and secrets blocks, and is over in a moment.
        let read = tokio::task::spawn_blocking({
            let file = self.file.clone();
            move || configuration::read(file, false)
        });
        let configured = read
            .await
            .map_err(|error| error.to_string())?
            .map_err(|refused| errors(&refused.problems))?;
        let generation = self.publisher.board.counts.published.load(Ordering::Relaxed) + 1;
        let store = &*self.store;
        let built = snapshot::build(&configured.config, store, self.ipv6, generation).await?;
        let (users, trunks) = (built.users.len(), built.trunks.len());
        self.publisher.publish(Arc::new(built)).await.map_err(|late| {
            let late: Vec<_> = late.iter().map(|shard| shard.0.to_string()).collect();
            format!("shard {} does not serve generation {generation} yet", late.join(", "))
        })?;
        self.client.adopt(&configured.config);
        self.access.set_configured(configured.config.http().api_tokens());
        let needs_restart = configured.effective.needs_restart(&self.started_with);
        Ok(Reloaded { generation, users, trunks, needs_restart })
    }

    /// The same for a signal: the outcome goes to the log.
    pub async fn reload_and_log(&self) {
        match self.reload().await {
            Ok(done) => {
                let Reloaded { generation, users, trunks, needs_restart } = done;
                tracing::info!(generation, users, trunks, "reloaded");
                if !needs_restart.is_empty() {
                    let keys = needs_restart.join(", ");
                    tracing::warn!(keys, "changed, but only a restart brings them live");
                }
            }
            Err(reasons) => {
                for reason in reasons.lines() {
                    tracing::error!(reason, "reload refused; what ran before runs on");
                }
            }
        }
    }
}
