//! SQLite: one file, its mode, its pragmas.
//! Owns:  the URL that the driver gets, and what every connection sets before its first statement.
//! Gives: `open`, `in_memory`.
//! Never: a statement of a table group; those are the same for every database.
//! Holds: the file is readable by its owner only; a committed record survives a power cut.

use std::fmt::Write;
use std::fs::{OpenOptions, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, Connection, Executor};

use super::StoreError;
use super::db::{Db, Kind, migrate, pool_options, probe};
use super::error::of_sqlx;

/// How long a question waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

/// A statement waits for another process that holds the file for so many milliseconds.
const PRAGMAS: &str = "PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;";
const WRITER_PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

pub(super) async fn open(path: &Path) -> Result<Db, StoreError> {
    let broken = |error: std::io::Error| StoreError::Broken(format!("{}: {error}", path.display()));
    // The mode is set before SQLite sees the file: its WAL takes over the mode.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(broken)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(broken)?;
    let path = path.canonicalize().map_err(broken)?;
    probe(&url(&path, "rw"), WRITER_PRAGMAS, ACQUIRE_TIMEOUT).await?;
    let writer = prepared(pool_options(1, ACQUIRE_TIMEOUT), &[PRAGMAS, WRITER_PRAGMAS]);
    let writer = writer.after_release(|connection, _| Box::pin(is_sound(connection)));
    let writer = writer.connect(&url(&path, "rw")).await.map_err(of_sqlx)?;
    let readers = prepared(pool_options(READERS, ACQUIRE_TIMEOUT), &[PRAGMAS]);
    let readers = readers.connect_lazy(&url(&path, "ro")).map_err(of_sqlx)?;
    migrate(Kind::Sqlite, &writer).await?;
    Ok(Db::with_pools(Kind::Sqlite, writer, readers))
}

pub(super) async fn in_memory() -> Result<Db, StoreError> {
    // Every connection to memory is a database of its own: one must stay open.
    let only = pool_options(1, ACQUIRE_TIMEOUT).idle_timeout(None).max_lifetime(None);
    let only = prepared(only, &[PRAGMAS]).connect("sqlite::memory:").await.map_err(of_sqlx)?;
    migrate(Kind::Sqlite, &only).await?;
    Ok(Db::with_pools(Kind::Sqlite, only.clone(), only))
}

/// On a full disk SQLite rolls a transaction back by itself, and the driver, which does not notice, takes
/// every later one for a part of it: their commits would succeed and store nothing. Such a connection
/// is closed, and the pool opens another one.
async fn is_sound(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    connection.ping().await?; // a rollback that waits is done before it answers
    Ok(!connection.is_in_transaction())
}

fn prepared(options: AnyPoolOptions, pragmas: &'static [&'static str]) -> AnyPoolOptions {
    options.after_connect(move |connection, _| {
        Box::pin(async move {
            for pragmas in pragmas {
                connection.execute(*pragmas).await?;
            }
            Ok(())
        })
    })
}

/// Every byte of a path that means something in a URL is escaped.
pub(super) fn url(path: &Path, mode: &str) -> String {
    let mut url = String::from("sqlite://");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                url.push(char::from(*byte));
            }
            byte => write!(url, "%{byte:02X}").expect("text grows"),
        }
    }
    url + "?mode=" + mode
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_escaped() {
        let url = url(Path::new("/srv/my gate?/100%.sqlite3"), "rw");
        assert_eq!(url, "sqlite:///srv/my%20gate%3F/100%25.sqlite3?mode=rw");
    }
}
