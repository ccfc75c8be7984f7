//! The handle on the database: one writer, several readers, one schema.
//! Owns:  the two pools and what is the same for both kinds of database.
//! Gives: `Db`, cheap to clone; transactions and statements for the table groups beside it.
//! Never: two writers on a file: SQLite has one, and waiting for it belongs into our queue and not
//!        into a lock. A server takes as many as its pool has.
//! Holds: an open `Db` has the newest schema.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::config::Database;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, Connection, Executor, Transaction};
use tokio::time::timeout;

use super::error::of_sqlx;
use super::totals::Totals;
use super::{Pending, StoreError, postgres, sqlite};

/// Who waits longer for an answer to `ping` learns more from a failure.
const PING_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Sqlite,
}

#[derive(Clone)]
pub struct Db {
    writer: AnyPool,
    readers: AnyPool,
    kind: Kind,
    totals: Totals,
}

/// The pools know the URL, and with it a password.
impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the database, makes it when it is a file that is not there, and brings its schema up to
    /// date.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        match database {
            Database::Memory => sqlite::in_memory().await,
            Database::Postgres { url, pool } => postgres::open(url, *pool).await,
            Database::Sqlite(path) => sqlite::open(path).await,
        }
    }

    /// A database that ends with the process. It has one connection: a read inside a transaction
    /// has to go through the transaction.
    pub async fn in_memory() -> Result<Self, StoreError> {
        Self::open(&Database::Memory).await
    }

    /// `writer` may be `readers` again. The schema is there already.
    pub(super) fn with_pools(kind: Kind, writer: AnyPool, readers: AnyPool) -> Self {
        Self { writer, readers, kind, totals: Totals::default() }
    }

    pub const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// For statements that change something.
    pub(super) const fn writer(&self) -> &AnyPool {
        &self.writer
    }

    /// For statements that only look. On a file they see what was committed and wait for nobody.
    pub(super) const fn readers(&self) -> &AnyPool {
        &self.readers
    }

    /// A transaction that may write; it is rolled back unless it is committed.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Any>, StoreError> {
        self.writer.begin().await.map_err(of_sqlx)
    }
}

/// The part of the database that has no table.
pub trait Connections: fmt::Debug + Send + Sync {
    /// The handle that every table group works on.
    fn db(&self) -> &Db;

    /// Whether it answers.
    fn ping(&self) -> Pending<'_, ()> {
        Box::pin(async {
            let asked = sqlx::query("SELECT 1").execute(self.db().readers());
            match timeout(PING_DEADLINE, asked).await {
                Ok(answer) => answer.map(drop).map_err(of_sqlx),
                Err(_) => Err(StoreError::Unavailable("no answer in time".to_owned())),
            }
        })
    }

    /// Writes everything out and closes.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.db().readers.close().await;
            self.db().writer.close().await;
        })
    }
}

impl Connections for Db {
    fn db(&self) -> &Db {
        self
    }
}

/// Applies every migration that the database does not have. Their numbers come in ranges, so a lower one
/// may come after a higher one. A number that the database has and we do not know is an error: a newer
/// release changed this database, and an older one must not write into it.
pub(super) async fn migrate(kind: Kind, pool: &AnyPool) -> Result<(), StoreError> {
    static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");
    static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
    let migrator = match kind {
        Kind::Postgres => &POSTGRES,
        Kind::Sqlite => &SQLITE,
    };
    let migrated = migrator.run(pool).await;
    migrated.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => of_sqlx(error),
        error => StoreError::Broken(format!("schema: {error}")),
    })
}

/// One connection by itself, before there is a pool: a pool only says that it timed out, this says why.
pub(super) async fn probe(
    url: &str,
    first: &'static str,
    patience: Duration,
) -> Result<(), StoreError> {
    let probe = async {
        let mut connection = AnyConnection::connect(url).await?;
        connection.execute(first).await?;
        connection.close().await
    };
    match timeout(patience, probe).await {
        Ok(probed) => probed.map_err(of_sqlx),
        Err(_) => Err(StoreError::Unavailable(format!("no connection within {patience:?}"))),
    }
}

pub(super) fn pool_options(connections: u32, acquire_timeout: Duration) -> AnyPoolOptions {
    AnyPoolOptions::new().max_connections(connections).acquire_timeout(acquire_timeout)
}

/// Counts are stored as signed integers.
pub(super) fn to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Wall time of now, for the columns that say when a row was written.
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
