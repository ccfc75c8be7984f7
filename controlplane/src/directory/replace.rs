//! Files and database read anew, whole or in part, while calls go on.
//! Owns:  `Part`; the way from a new configuration to shards that serve it.
//! Gives: `Directory::replace_config`: what is served then, or why everything is as before.
//! Never: a half of it: what is wrong anywhere refuses the whole.
//! Holds: a shard that does not take the new contents brings all others back to the old ones.

use std::fmt;
use std::sync::Arc;

use shared::config::Config;
use shared::ids::ShardId;

use super::contents::Contents;
use super::live::Directory;
use super::resolve::Resolver;
use super::{Kind, NotRead, Reason};
use crate::store::StoreError;

/// What is read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Acl,
    All,
    Routes,
    Trunks,
}

/// What is served now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub generation: u64,
    pub counts: Served,
    /// Rows that could not be served as they are written, each in one line.
    pub odd: Vec<String>,
}

/// How much of each kind shards serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub users: usize,
    pub trunks: usize,
    pub routes: usize,
    pub acl_rules: usize,
}

/// Why everything is as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotReplaced {
    Invalid(Vec<Reason>),
    /// Shards that did not take it, and the generation of what they went back to, if all did.
    Late {
        shards: Vec<ShardId>,
        back: Option<u64>,
    },
    Store(StoreError),
}

impl From<NotRead> for NotReplaced {
    fn from(not_read: NotRead) -> Self {
        match not_read {
            NotRead::Invalid(text) => Self::Invalid(vec![Reason { origin: None, text }]),
            NotRead::Store(error) => Self::Store(error),
        }
    }
}

impl fmt::Display for NotReplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(reasons) => {
                let lines: Vec<_> = reasons.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Late { shards, back } => {
                let late: Vec<_> = shards.iter().map(|shard| shard.0.to_string()).collect();
                let late = late.join(", ");
                write!(f, "shard {late} did not take the new snapshot in time: ")?;
                match back {
                    Some(generation) => write!(f, "all serve what ran before as {generation}"),
                    None => f.write_str("it does not answer at all"),
                }
            }
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotReplaced {}

impl Directory {
    /// Serves a part of another configuration, with what the database holds of it by now, or goes on
    /// as before.
    pub async fn replace_config(
        self: &Arc<Self>,
        part: Part,
        config: Config,
    ) -> Result<Replaced, NotReplaced> {
        let me = Arc::clone(self);
        // It goes to its end, whoever waits for it.
        match tokio::spawn(async move { me.bring_in(part, config).await }).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => {
                    let text = "the gateway is ending".to_owned();
                    Err(NotReplaced::Store(StoreError::Unavailable(text)))
                }
            },
        }
    }

    async fn bring_in(&self, part: Part, config: Config) -> Result<Replaced, NotReplaced> {
        let _writing = self.writing.lock().await;
        let before = self.contents();
        let mut odd = Vec::new();
        let next = self.read_part(&before, part, config, &mut odd).await?;
        let missing = next.missing_trunks();
        if !missing.is_empty() {
            return Err(NotReplaced::Invalid(missing));
        }
        let counts = next.counts();
        let version = self.put(next);
        match self.publish(version).await {
            Ok(generation) => Ok(Replaced { generation, counts, odd }),
            Err(shards) => {
                let back = self.put(Contents::clone(&before));
                let back = self.publish(back).await.ok();
                Err(NotReplaced::Late { shards, back })
            }
        }
    }

    async fn read_part(
        &self,
        before: &Contents,
        part: Part,
        config: Config,
        odd: &mut Vec<String>,
    ) -> Result<Contents, NotRead> {
        let rows = |kind: Kind| self.store.rows(kind.table());
        match part {
            Part::Acl => Ok(before.with_config(before.config.with_acl_of(&config))),
            Part::All => {
                let rows = [
                    rows(Kind::Extension).await?,
                    rows(Kind::Route).await?,
                    rows(Kind::Trunk).await?,
                ];
                let resolver = Resolver::new(&config, &self.surroundings);
                let next = Contents::build(Arc::new(config), rows, resolver, Some(before), odd);
                next.await.map_err(NotRead::Invalid)
            }
            Part::Routes => {
                let rows = rows(Kind::Route).await?;
                Ok(before.with_config(before.config.with_routes_of(&config)).with_routes(rows, odd))
            }
            Part::Trunks => {
                let rows = rows(Kind::Trunk).await?;
                let next = before.with_config(before.config.with_trunks_of(&config));
                let resolver = Resolver::new(&next.config, &self.surroundings);
                next.with_trunks(rows, &resolver, odd).await.map_err(NotRead::Invalid)
            }
        }
    }
}
