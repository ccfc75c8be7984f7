//! `[proxy.http_router]`, and the user backends that have to be asked: programs and databases.
//! Owns:  `HttpRouter`, `RemoteBackend`, their bounds and defaults.
//! Gives: checked values, and the rules by which a shard waits for them.
//! Never: asks anybody; keeps a secret where `Debug` shows it.
//! Holds: a name that becomes part of a statement is an identifier; a chain has a longest time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::database::{Database, DatabasePool, DatabaseUrl};
use super::file::{BackendFile, SecretText};
use super::problem::Report;
use super::secret::{self, ReadSecret};
use super::webhooks::{self, WebTarget};
use crate::snapshot::{HttpRouterRules, RemoteUsers};

/// Who is asked about each INVITE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRouter {
    pub target: WebTarget,
    pub fallback_to_static: bool,
}

/// A link of the chain of user backends whose users no snapshot can hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteBackend {
    pub source: UserSource,
    /// How long an answer is used again; zero: never.
    pub keep: Duration,
    /// The same for an answer that says no.
    pub keep_refusals: Duration,
    /// Questions that are out at a time; more are answered as if it were down.
    pub concurrent_max: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSource {
    Http(HttpUsers),
    Table(TableUsers),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUsers {
    /// Its time-out is that of one try.
    pub target: WebTarget,
    /// A form in the body instead of a query.
    pub post: bool,
    pub username_field: String,
    pub realm_field: String,
    pub request_uri_field: Option<String>,
    /// Headers of the SIP request that go along under their own names.
    pub sip_headers: Vec<String>,
    pub retries: u32,
    pub retry_delay: Duration,
}

/// A table in a database that may be another than ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUsers {
    pub database: Database,
    pub layout: TableLayout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableLayout {
    Columns {
        table: String,
        username: String,
        password: String,
        enabled: Option<String>,
        realm: Option<String>,
    },
    /// The extensions of the original.
    Extensions,
}

/// The original's.
const ROUTER_TIMEOUT_MS: u64 = 5_000;
const USERS_TIMEOUT_MS: u64 = 5_000;
const USERS_RETRIES: u32 = 1;
const USERS_RETRY_DELAY_MS: u64 = 500;
/// Long enough for a REGISTER with the call behind it, short enough that a blocked user notices.
const KEEP_S: u64 = 5;
const CONCURRENT_MAX: u16 = 64;
/// For one look at a database.
pub const TABLE_TIMEOUT: Duration = Duration::from_secs(5);
/// A phone gives a REGISTER up after 32 s (RFC 3261 17.1.2.2): the chain is over long before.
const CHAIN_BUDGET_MAX: Duration = Duration::from_secs(15);
/// Connections to a foreign database.
const TABLE_CONNECTIONS_MAX: u32 = 4;

impl HttpRouter {
    pub(super) fn check(
        file: &HttpRouterFile,
        read: &ReadSecret<'_>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        const KEY: &str = "proxy.http_router";
        let url = webhooks::url(file.url.as_ref(), &format!("{KEY}.url"), read, report);
        let headers = webhooks::headers(&file.headers, &format!("{KEY}.headers"), read, report);
        let timeout = Duration::from_millis(file.timeout_ms.unwrap_or(ROUTER_TIMEOUT_MS));
        let fallback_to_static = file.fallback_to_static.unwrap_or(false);
        Some(Self { target: WebTarget { url: url?, headers, timeout }, fallback_to_static })
    }

    pub const fn rules(&self) -> HttpRouterRules {
        let Self { target, fallback_to_static } = self;
        HttpRouterRules { budget: target.timeout, fallback_to_static: *fallback_to_static }
    }
}

impl RemoteBackend {
    /// The longest that it may take to say something.
    pub fn longest(&self) -> Duration {
        match &self.source {
            UserSource::Http(http) => {
                http.target.timeout * (1 + http.retries) + http.retry_delay * http.retries
            }
            UserSource::Table(_) => TABLE_TIMEOUT,
        }
    }

    pub(super) fn http(
        file: &BackendFile,
        key: &str,
        read: &ReadSecret<'_>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let url_key = format!("{key}.url");
        let url = webhooks::url(file.url.as_ref(), &url_key, read, report);
        if url.as_ref().is_some_and(|url| url.scheme() == "http" && !is_this_host(url)) {
            let text = "passwords come back over plain HTTP and can be read on the way";
            report.warning_try(&url_key, text, "write https://");
        }
        let headers = webhooks::headers(&file.headers, &format!("{key}.headers"), read, report);
        let post = match file.method.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None | Some("GET") => false,
            Some("POST") => true,
            Some(other) => {
                let text = format!("\"{other}\" is not a method for this");
                report.error_try(&format!("{key}.method"), text, "write \"GET\" or \"POST\"");
                false
            }
        };
        let timeout = Duration::from_millis(file.http_timeout_ms.unwrap_or(USERS_TIMEOUT_MS));
        let delay = file.http_retry_delay_ms.unwrap_or(USERS_RETRY_DELAY_MS);
        let field = |written: &Option<String>, default: &str| match written.as_deref() {
            None | Some("") => default.to_owned(),
            Some(name) => name.to_owned(),
        };
        let source = UserSource::Http(HttpUsers {
            target: WebTarget { url: url?, headers, timeout },
            post,
            username_field: field(&file.username_field, "username"),
            realm_field: field(&file.realm_field, "realm"),
            request_uri_field: file.request_uri_field.clone().filter(|name| !name.is_empty()),
            sip_headers: file.sip_headers.clone(),
            retries: file.http_retry_count.unwrap_or(USERS_RETRIES),
            retry_delay: Duration::from_millis(delay),
        });
        Some(Self::with_bounds(source, file, KEEP_S))
    }

    /// `layout`: what the file says about the table.
    pub(super) fn table(
        file: &BackendFile,
        layout: TableLayout,
        url: (&str, &SecretText),
        read: &ReadSecret<'_>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let (key, written) = url;
        let text = secret::resolve(written, key, read, report)?;
        let database = match foreign_database(&text) {
            Ok(database) => database,
            Err(reason) => {
                let hint = "write \"sqlite://FILE\" or \"postgres://USER@HOST/NAME\"";
                report.error_try(key, reason, hint);
                return None;
            }
        };
        let keep_s = file.ttl.unwrap_or(KEEP_S);
        Some(Self::with_bounds(UserSource::Table(TableUsers { database, layout }), file, keep_s))
    }

    fn with_bounds(source: UserSource, file: &BackendFile, keep_s: u64) -> Self {
        let seconds = |written: Option<u64>| Duration::from_secs(written.unwrap_or(keep_s));
        Self {
            source,
            keep: seconds(file.cache_ttl_secs),
            keep_refusals: seconds(file.negative_cache_ttl_secs),
            concurrent_max: file.max_concurrent.unwrap_or(CONCURRENT_MAX),
        }
    }
}

/// What `table_name` and the names of columns say; each becomes part of a statement.
pub(super) fn columns(file: &BackendFile, key: &str, report: &mut Report<'_>) -> TableLayout {
    let mut name = |field: &str, written: &Option<String>, default: &str| {
        let name = written.as_deref().unwrap_or(default);
        if !is_identifier(name) {
            let text = format!("\"{name}\" is not a name of letters, digits and _");
            report.error(&format!("{key}.{field}"), text);
        }
        name.to_owned()
    };
    TableLayout::Columns {
        table: name("table_name", &file.table_name, "users"),
        username: name("username_column", &file.username_column, "username"),
        password: name("password_column", &file.password_column, "password"),
        enabled: file
            .enabled_column
            .as_ref()
            .map(|_| name("enabled_column", &file.enabled_column, "enabled")),
        realm: file.realm_column.as_ref().map(|_| name("realm_column", &file.realm_column, "")),
    }
}

/// The rules for the shards, from the whole chain; `None` when nobody has to be asked.
pub(super) fn chain_rules<'b>(
    remote: impl Iterator<Item = (usize, &'b RemoteBackend)>,
) -> Option<RemoteUsers> {
    let mut first = None;
    let mut budget = Duration::ZERO;
    for (place, backend) in remote {
        first = first.or_else(|| u8::try_from(place).ok());
        budget += backend.longest();
    }
    first.map(|first| RemoteUsers { first, budget: budget.min(CHAIN_BUDGET_MAX) })
}

/// With the name of a schema before it, or without.
fn is_identifier(name: &str) -> bool {
    let plain = |part: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !part.is_empty() && part.len() <= 63 && part.chars().all(word)
    };
    name.split('.').count() <= 2 && name.split('.').all(plain)
}

fn is_this_host(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn foreign_database(url: &str) -> Result<Database, String> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "postgres" | "postgresql" if rest.starts_with("//") => {
            let pool = DatabasePool {
                connections_max: TABLE_CONNECTIONS_MAX,
                acquire_timeout_s: TABLE_TIMEOUT.as_secs(),
                ..DatabasePool::default()
            };
            Ok(Database::Postgres { url: DatabaseUrl::new(url), pool })
        }
        "sqlite" => {
            let file = rest.split_once('?').map_or(rest, |(file, _)| file);
            let file = file.strip_prefix("//").unwrap_or(file);
            if file.is_empty() || file == ":memory:" {
                return Err("names no file".to_owned());
            }
            Ok(Database::Sqlite(PathBuf::from(file)))
        }
        "mysql" | "mariadb" => Err(format!("{scheme} is not supported")),
        _ => Err("is not the URL of a database that we know".to_owned()),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HttpRouterFile {
    pub(super) url: Option<SecretText>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) fallback_to_static: Option<bool>,
    pub(super) headers: BTreeMap<String, SecretText>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_go_into_a_statement_are_identifiers() {
        for right in ["users", "rustpbx_users", "public.users", "U1"] {
            assert!(is_identifier(right), "{right}");
        }
        for wrong in ["", "a b", "a\"b", "a;drop", "a.b.c", ".a", "a.", &"x".repeat(64)] {
            assert!(!is_identifier(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_foreign_database_is_a_file_or_a_server() {
        let path = |url: &str| match foreign_database(url) {
            Ok(Database::Sqlite(path)) => path.display().to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(path("sqlite:///srv/users.db?mode=ro"), "/srv/users.db");
        assert_eq!(path("sqlite:users.db"), "users.db");
        assert!(matches!(foreign_database("postgres://u@h/n"), Ok(Database::Postgres { .. })));
        for wrong in ["", "sqlite::memory:", "sqlite:", "mysql://u:p@h/n", "postgres:u", "file"] {
            let reason = foreign_database(wrong).expect_err(wrong);
            assert!(!reason.contains("u:p"), "{reason}");
        }
    }
}
