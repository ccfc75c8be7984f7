//! Decisions for the shards: each ask goes to its program and comes back as one command.
//! Owns:  the programs of the present configuration.
//! Gives: `decide`, which returns at once; `adopt` for another configuration.
//! Never: holds the pump up: every ask is a task of its own, bounded by the shards' own tables.
//! Holds: an ask is answered once, or its shard is so far behind that its deadline decides.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use shared::ask::{Ask, Decision, RouteAsk, RouteDecision, UserAsk, UserDecision};
use shared::command::Command;
use shared::config::Config;
use shared::ids::ShardId;
use tokio::time::sleep;

use super::client::{Client, Lookup, SystemLookup};
use super::exchanges::Exchanges;
use super::router::Router;
use super::users::UserChain;
use crate::board::Board;
use crate::plane::Plane;

/// A shard takes its commands every turn: a queue that stays full for longer belongs to a stuck one.
const OFFERS: u32 = 40;
const OFFER_AGAIN: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub struct Decider {
    plane: Arc<dyn Plane>,
    board: Arc<Board>,
    client: Arc<Client>,
    lookup: Arc<dyn Lookup>,
    exchanges: Exchanges,
    programs: ArcSwap<Programs>,
}

#[derive(Debug, Default)]
struct Programs {
    router: Option<Arc<Router>>,
    users: UserChain,
}

impl Decider {
    /// Nobody decides until a configuration is adopted. Targets are looked up by the system.
    pub fn new(
        plane: Arc<dyn Plane>,
        board: Arc<Board>,
        client: Arc<Client>,
        exchanges: Exchanges,
    ) -> Self {
        let lookup: Arc<dyn Lookup> = Arc::new(SystemLookup);
        Self { plane, board, client, lookup, exchanges, programs: ArcSwap::default() }
    }

    /// The programs of a configuration are asked from the next call on, with nothing remembered.
    pub fn adopt(&self, config: &Config) {
        let (client, board) = (&self.client, &self.board);
        let router = config.http_router().map(|router| {
            let (client, lookup) = (Arc::clone(client), Arc::clone(&self.lookup));
            Arc::new(Router::new(router, config, client, lookup, Arc::clone(board)))
        });
        let users = UserChain::of_config(config, client, board);
        self.programs.store(Arc::new(Programs { router, users }));
    }

    /// Answers an ask of a shard, some time.
    pub fn decide(self: &Arc<Self>, shard: ShardId, id: u64, ask: Ask) {
        let me = Arc::clone(self);
        tokio::spawn(async move {
            let decision = match ask {
                Ask::Route(ask) => Decision::Route(me.route(&ask).await),
                Ask::User(ask) => Decision::User(me.user(ask).await),
            };
            me.tell(shard, Command::Decided { id, decision: Box::new(decision) }).await;
        });
    }

    async fn route(&self, ask: &RouteAsk) -> RouteDecision {
        let programs = self.programs.load_full();
        let Some(router) = &programs.router else { return RouteDecision::Unavailable };
        let (decision, exchange) = router.decide(ask).await;
        for note in &exchange.notes {
            tracing::debug!(call = %ask.call, note, "the HTTP router's answer");
        }
        self.exchanges.keep(exchange);
        decision
    }

    async fn user(&self, ask: UserAsk) -> UserDecision {
        let programs = self.programs.load_full();
        programs.users.decide(ask).await
    }

    async fn tell(&self, shard: ShardId, command: Command) {
        let mut command = command;
        for _ in 0..OFFERS {
            match self.plane.send(shard, command) {
                Ok(()) => return,
                Err(back) => command = back,
            }
            sleep(OFFER_AGAIN).await;
        }
        tracing::warn!(shard = shard.0, "its queue is full: an ask runs into its deadline");
    }
}
