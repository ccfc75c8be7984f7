//! Addresses of trunks that grow old: asked for again before they do, and served when they changed.
//! Owns:  what the look-ups of a directory depend on; the rhythm of new ones.
//! Gives: `Surroundings`; `Directory::watch_names`, a task that never ends.
//! Never: keeps a change of a program waiting for a name server.
//! Holds: an answer that fails changes nothing; it is logged once, and asked for again.

use std::sync::Arc;
use std::time::Duration;

use shared::snapshot::Trunk;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::contents::Contents;
use super::live::Directory;
use super::resolve::Resolver;
use crate::names::{ASK_AGAIN, FOR_EVER, KNOWN_MAX, Records};

/// How often is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// However short a record lives, its server is not asked more often.
const AGE_MIN: Duration = Duration::from_secs(5);

/// What of the host and its network addresses depend on.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The host has IPv6.
    pub ipv6: bool,
    pub records: Arc<dyn Records>,
}

/// When addresses that hold so long have to be looked up again; `None` when they are numbers.
pub(super) fn due_at(valid: Duration) -> Option<Instant> {
    let is_number = valid == FOR_EVER;
    (!is_number).then(|| Instant::now() + valid.clamp(AGE_MIN, KNOWN_MAX))
}

impl Directory {
    pub fn watch_names(self: &Arc<Self>) -> JoinHandle<()> {
        let directory = Arc::clone(self);
        tokio::spawn(async move {
            let mut known = Vec::new();
            loop {
                sleep(LOOK_EVERY).await;
                if directory.contents().names_due.is_some_and(|due| due <= Instant::now()) {
                    directory.renew_names(&mut known).await;
                }
            }
        })
    }

    /// `known`: what was odd the last time.
    async fn renew_names(&self, known: &mut Vec<String>) {
        let before = self.contents();
        let resolver = Resolver::new(&before.config, &self.surroundings).patient();
        let mut odd = Vec::new();
        let next = Contents::clone(&before).with_trunks_of_now(&resolver, &mut odd).await;
        let next = match next {
            Ok(next) => next,
            Err(reason) => {
                // They were right when they were taken in.
                tracing::error!(reason, "trunks cannot be looked up");
                return self.put_off().await;
            }
        };
        for reason in odd.iter().filter(|reason| !known.contains(reason)) {
            tracing::warn!(reason, "a name is not resolved");
        }
        *known = odd;
        let writing = self.writing.lock().await;
        let Some(next) = self.contents().with_addresses_of(&next, &before) else {
            return; // its trunks were changed in between; the next look goes by them
        };
        let moved = moved(&before, &next);
        if moved.is_empty() {
            return self.keep(next);
        }
        for trunk in moved {
            let at: Vec<_> = trunk.entrances.iter().map(|at| at.address.to_string()).collect();
            tracing::info!(trunk = &*trunk.name, at = at.join(" "), "a trunk is reached elsewhere");
        }
        let version = self.put(next);
        drop(writing);
        if let Err(shards) = self.publish(version).await {
            tracing::error!(?shards, "shards did not take the new addresses of trunks");
        }
    }

    async fn put_off(&self) {
        let _writing = self.writing.lock().await;
        let mut contents = Contents::clone(&self.contents());
        contents.names_due = due_at(ASK_AGAIN);
        self.keep(contents);
    }
}

/// Trunks that are not as they were.
fn moved(before: &Contents, next: &Contents) -> Vec<Trunk> {
    let is_as_before = |trunk: &&Trunk| before.trunks().contains(trunk);
    next.trunks().iter().filter(|trunk| !is_as_before(trunk)).cloned().collect()
}
