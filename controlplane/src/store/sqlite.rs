//! The SQLite implementation: one writer connection, several readers, WAL.
//! Owns:  the file, its mode, its schema, the two pools.
//! Gives: `Store`; the queries live in `records`, `extensions`, `recordings`.
//! Never: two writers: SQLite has one, and waiting for it belongs into our queue and not into a lock.
//! Holds: the file is readable by its owner only.

use std::fs::{OpenOptions, Permissions};
use std::future::Future;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use shared::cdr::Cdr;
use shared::ids::CallId;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::{
    CallRecord, Extension, Pending, RecordPage, RecordSearch, Recording, Store, StoreError,
    extensions, recordings, records,
};

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a question waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, makes it when it is not there, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let broken =
            |error: std::io::Error| StoreError::Broken(format!("{}: {error}", path.display()));
        // The mode is set before SQLite sees the file: its WAL takes over the mode.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(broken)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(broken)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // A committed call record survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let writer = pool(1).connect_with(options.clone()).await.map_err(of_sqlx)?;
        migrate(&writer).await?;
        let readers = pool(READERS).connect_lazy_with(options.read_only(true));
        Ok(Self { writer, readers })
    }

    /// A database that ends with the process.
    pub async fn in_memory() -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new().in_memory(true);
        // Every connection to memory is a database of its own: one must stay open.
        let only = pool(1).idle_timeout(None).max_lifetime(None);
        let writer = only.connect_with(options).await.map_err(of_sqlx)?;
        migrate(&writer).await?;
        Ok(Self { readers: writer.clone(), writer })
    }
}

impl Store for SqliteStore {
    fn add_cdrs<'a>(&'a self, batch: &'a [Cdr]) -> Pending<'a, ()> {
        Box::pin(records::add(&self.writer, batch))
    }

    fn records<'a>(&'a self, search: &'a RecordSearch) -> Pending<'a, RecordPage> {
        Box::pin(records::page(&self.readers, search))
    }

    fn record<'a>(&'a self, id: &'a str) -> Pending<'a, Option<CallRecord>> {
        Box::pin(records::one(&self.readers, id))
    }

    fn extensions(&self) -> Pending<'_, Vec<Extension>> {
        Box::pin(extensions::all(&self.readers))
    }

    fn started_before(&self) -> Pending<'_, bool> {
        Box::pin(extensions::started_before(&self.readers))
    }

    fn first_start<'a>(&'a self, extensions: &'a [Extension]) -> Pending<'a, bool> {
        Box::pin(extensions::first_start(&self.writer, extensions))
    }

    fn put_recording<'a>(&'a self, recording: &'a Recording) -> Pending<'a, ()> {
        Box::pin(recordings::put(&self.writer, recording))
    }

    fn recording(&self, call: CallId) -> Pending<'_, Option<Recording>> {
        Box::pin(recordings::one(&self.readers, call))
    }

    fn ping(&self) -> Pending<'_, ()> {
        Box::pin(async {
            sqlx::query("SELECT 1").execute(&self.readers).await.map_err(of_sqlx)?;
            Ok(())
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.readers.close().await;
            self.writer.close().await;
        })
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT)
}

async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    let migrator = sqlx::migrate!("./migrations");
    migrator.run(writer).await.map_err(|error| StoreError::Broken(format!("schema: {error}")))
}

/// Which of our errors a driver's error is.
pub(super) fn of_sqlx(error: sqlx::Error) -> StoreError {
    // Primary result codes of SQLite: a row of ours can never fit, or the file is no database.
    const CONSTRAINT: i32 = 19;
    const MISMATCH: i32 = 20;
    const NOT_A_DATABASE: i32 = 26;
    const CORRUPT: i32 = 11;
    let text = error.to_string();
    let primary = error
        .as_database_error()
        .and_then(|error| error.code())
        .and_then(|code| code.parse::<i32>().ok())
        .map(|code| code & 0xff);
    match (&error, primary) {
        (_, Some(CONSTRAINT | MISMATCH)) => StoreError::Refused(text),
        (_, Some(CORRUPT | NOT_A_DATABASE)) => StoreError::Broken(text),
        (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), _) => StoreError::Broken(text),
        _ => StoreError::Unavailable(text),
    }
}

/// A row holds something that we never write.
pub(super) fn odd_row(what: impl std::fmt::Display) -> StoreError {
    StoreError::Broken(format!("a row cannot be read: {what}"))
}

/// Counts are stored as signed integers.
pub(super) fn to_sql(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Wall time of now, for the columns that say when a row was written.
pub(super) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
