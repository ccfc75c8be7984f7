//! PostgreSQL: one pool of connections to a server, for reading and writing.
//! Owns:  what a connection sets before its first statement.
//! Gives: `open`.
//! Never: the URL in an error or a log line: it may carry a password.
//! Holds: times are milliseconds in our columns, so no session setting changes their meaning.

use std::time::Duration;

use shared::config::{DatabasePool, DatabaseUrl};
use sqlx::Executor;

use super::StoreError;
use super::db::{Db, Kind, migrate, pool_options, probe};
use super::error::of_sqlx;

/// A statement that needs longer is cancelled by the server: a page over a million call records takes
/// a fraction of a second. The export reads in pieces, each a statement of its own.
const SESSION: &str = "SET application_name = 'ringgate'; SET statement_timeout = '30s'; \
     SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '60s'";

pub(super) async fn open(url: &DatabaseUrl, sizes: DatabasePool) -> Result<Db, StoreError> {
    let patience = Duration::from_secs(sizes.acquire_timeout_s);
    probe(url.expose(), SESSION, patience).await?;
    let options = pool_options(sizes.connections_max, patience)
        .min_connections(sizes.connections_min)
        .idle_timeout(Duration::from_secs(sizes.idle_timeout_s))
        .max_lifetime(Duration::from_secs(sizes.lifetime_max_s))
        .after_connect(|connection, _| {
            Box::pin(async move { connection.execute(SESSION).await.map(drop) })
        });
    // Without the limits of a session: an index over all call records may take minutes.
    let plain = pool_options(1, patience);
    let plain = plain.connect(url.expose()).await.map_err(of_sqlx)?;
    migrate(Kind::Postgres, &plain).await?;
    plain.close().await;
    let pool = options.connect(url.expose()).await.map_err(of_sqlx)?;
    Ok(Db::with_pools(Kind::Postgres, pool.clone(), pool))
}
