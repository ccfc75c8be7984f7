//! Snapshots on their way to the shards.
//! Owns:  the wait for every shard, and each shard's own copy of the routes.
//! Gives: `Publisher`.
//! Never: what is in a snapshot; `directory` has that.
//! Holds: every shard serves what was published, or it is said which does not.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::command::Command;
use shared::ids::ShardId;
use shared::route::RouteTable;
use shared::snapshot::Snapshot;
use shared::time::WallMs;
use tokio::time::timeout;

use crate::board::Board;
use crate::news::News;
use crate::plane::{Plane, shards};
use crate::store::now_ms;

/// How long shards may take to swap; they do it within a turn.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two offers to a shard whose queue is full.
const OFFER_AGAIN: Duration = Duration::from_millis(20);

/// Brings snapshots to every shard.
#[derive(Debug)]
pub struct Publisher {
    pub plane: Arc<dyn Plane>,
    pub board: Arc<Board>,
    patience: Duration,
    news: Option<Arc<News>>,
    /// The table of routes that was published last, and each shard's own copy of it.
    tables: Mutex<(Arc<RouteTable>, Vec<Arc<RouteTable>>)>,
}

impl Publisher {
    pub fn new(plane: Arc<dyn Plane>, board: Arc<Board>) -> Self {
        Self { plane, board, patience: PATIENCE, news: None, tables: Mutex::default() }
    }

    /// How long to wait for the slowest shard.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Listening programs hear of what every shard serves.
    #[must_use]
    pub fn telling(self, news: Arc<News>) -> Self {
        Self { news: Some(news), ..self }
    }

    /// Offers the snapshot until every shard serves it; the error names those that do not.
    pub async fn publish(&self, snapshot: Arc<Snapshot>) -> Result<(), Vec<ShardId>> {
        let generation = snapshot.generation;
        self.board.counts.published.store(generation, Ordering::Relaxed);
        let tables = self.tables(&snapshot.routes);
        let for_shard = |shard: &ShardId| {
            let routes = Arc::clone(&tables[usize::from(shard.0)]);
            Command::Publish(Arc::new(Snapshot { routes, ..Snapshot::clone(&snapshot) }))
        };
        let mut waiting: Vec<ShardId> = shards(&*self.plane).collect();
        let offered = timeout(self.patience, async {
            loop {
                waiting.retain(|shard| self.plane.send(*shard, for_shard(shard)).is_err());
                if waiting.is_empty() {
                    break;
                }
                tokio::time::sleep(OFFER_AGAIN).await;
            }
            self.board.all(|shard| shard.generation >= generation).await;
        });
        if offered.await.is_ok() {
            let (trunks, users) = (snapshot.trunks.len(), snapshot.users.len());
            if let Some(news) = &self.news {
                news.published(WallMs(now_ms()), generation, trunks, users);
            }
            return Ok(());
        }
        let states = self.board.shards();
        let late = shards(&*self.plane)
            .filter(|shard| states[usize::from(shard.0)].generation < generation);
        Err(late.collect())
    }

    /// One copy per shard, made when the rules changed: two threads must not meet in one matcher.
    fn tables(&self, routes: &Arc<RouteTable>) -> Vec<Arc<RouteTable>> {
        // The pair is whole between any two statements that hold the lock.
        let mut known = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&known.0, routes) || known.1.is_empty() {
            let own = |_| Arc::new(RouteTable::clone(routes));
            *known = (Arc::clone(routes), shards(&*self.plane).map(own).collect());
        }
        known.1.clone()
    }
}
