//! Which database, and how many connections to it.
//! Owns:  the spellings of `database_url`; the sizes of `[database_pool]`.
//! Gives: `Database`: a file, memory, or a server.
//! Never: opens anything; shows a URL, which may carry a password.
//! Holds: a pool has room for a writer beside a reader.

use std::fmt;
use std::path::{Path, PathBuf};

use super::file::{ConfigFile, PoolFile};
use super::problem::Report;
use super::secret::{self, ReadSecret};

const KEY: &str = "database_url";
const HINT: &str = "write \"sqlite://./data/ringgate.sqlite3\" or \"postgres://USER@HOST/NAME\"";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    Memory,
    Postgres { url: DatabaseUrl, pool: DatabasePool },
    Sqlite(PathBuf),
}

/// Text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Box<str>);

impl DatabaseUrl {
    pub fn new(url: &str) -> Self {
        Self(url.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Where it leads, without user, password and options.
    pub fn place(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let rest = rest.split_once('?').map_or(rest, |(place, _)| place);
        rest.rsplit_once('@').map_or(rest, |(_, place)| place)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(...)")
    }
}

/// Connections to a server. A file has its own fixed number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabasePool {
    pub connections_max: u32,
    /// Kept open although nobody needs them.
    pub connections_min: u32,
    /// How long a question waits for a free connection.
    pub acquire_timeout_s: u64,
    pub idle_timeout_s: u64,
    pub lifetime_max_s: u64,
}

impl Default for DatabasePool {
    fn default() -> Self {
        Self {
            connections_max: 16,
            connections_min: 0,
            acquire_timeout_s: 10,
            idle_timeout_s: 600,
            lifetime_max_s: 1_800,
        }
    }
}

impl Database {
    pub(super) fn check(
        file: &ConfigFile,
        folder: &Path,
        read: &ReadSecret<'_>,
        report: &mut Report<'_>,
    ) -> Self {
        let pool = pool(&file.database_pool, report);
        let Some(written) = &file.database_url else {
            return Self::Sqlite(folder.join("ringgate.sqlite3"));
        };
        match secret::resolve(written, KEY, read, report) {
            Some(url) => database(&url, pool, report),
            // The report has the reason.
            None => Self::Memory,
        }
    }
}

fn pool(file: &PoolFile, report: &mut Report<'_>) -> DatabasePool {
    let default = DatabasePool::default();
    let pool = DatabasePool {
        connections_max: file.max_connections.unwrap_or(default.connections_max),
        connections_min: file.min_connections.unwrap_or(default.connections_min),
        acquire_timeout_s: file.acquire_timeout_secs.unwrap_or(default.acquire_timeout_s),
        idle_timeout_s: file.idle_timeout_secs.unwrap_or(default.idle_timeout_s),
        lifetime_max_s: file.max_lifetime_secs.unwrap_or(default.lifetime_max_s),
    };
    if pool.connections_min > pool.connections_max {
        let text = format!("{} is more than max_connections", pool.connections_min);
        report.error("database_pool.min_connections", text);
    }
    pool
}

/// `sqlite://FILE`, `sqlite:FILE`, `sqlite::memory:`, `postgres://...`.
fn database(url: &str, pool: DatabasePool, report: &mut Report<'_>) -> Database {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "sqlite" => {}
        "postgres" | "postgresql" if rest.starts_with("//") => {
            return Database::Postgres { url: DatabaseUrl::new(url), pool };
        }
        "mysql" | "mariadb" => {
            report.error_try(KEY, format!("{scheme} is not supported"), HINT);
            return Database::Memory;
        }
        _ => {
            report.error_try(KEY, "is not the URL of a database that we know", HINT);
            return Database::Memory;
        }
    }
    if rest == ":memory:" {
        report.warning(KEY, "call records and extensions are lost when the gateway stops");
        return Database::Memory;
    }
    let (file, options) = rest.split_once('?').unwrap_or((rest, ""));
    let file = file.strip_prefix("//").unwrap_or(file);
    if file.is_empty() {
        report.error_try(KEY, "names no file", HINT);
    }
    if !matches!(options, "" | "mode=rwc") {
        report.warning(KEY, format!("options \"{options}\" are not used: ours are fixed"));
    }
    Database::Sqlite(PathBuf::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_its_place_and_never_its_password() {
        let url = DatabaseUrl::new("postgres://gate:s3cret@db.example:5433/gate?sslmode=require");
        assert_eq!(url.place(), "db.example:5433/gate");
        assert!(!format!("{url:?}").contains("s3cret"));
        assert_eq!(DatabaseUrl::new("postgres:///gate").place(), "/gate");
    }
}
