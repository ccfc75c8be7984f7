//! Users in a table that somebody else keeps, perhaps in another database.
//! Owns:  the statement, which is made of names that the configuration checked.
//! Gives: `ForeignUsers::find`, one row by name.
//! Never: writes; shows the URL or a password.
//! Holds: the name that a phone sent is bound and never part of the statement.

use std::time::Duration;

use shared::config::{Database, TABLE_TIMEOUT, TableLayout, TableUsers};
use sqlx::{AnyPool, AssertSqlSafe, Row};

use super::StoreError;
use super::db::pool_options;
use super::error::of_sqlx;
use super::sqlite;

/// Connections for one table.
const CONNECTIONS: u32 = 4;
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct ForeignUsers {
    pool: Result<AnyPool, StoreError>,
    statement: String,
    has_realm: bool,
}

/// The pool knows the URL, and with it a password.
impl std::fmt::Debug for ForeignUsers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignUsers").field("statement", &self.statement).finish_non_exhaustive()
    }
}

#[derive(Clone)]
pub struct ForeignUser {
    pub password: Option<String>,
    pub enabled: bool,
    pub realm: Option<String>,
    pub display_name: Option<String>,
    pub allow_guest_calls: bool,
}

impl std::fmt::Debug for ForeignUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignUser").field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

impl ForeignUsers {
    /// Connects when it is asked first. Needs a tokio runtime.
    pub fn new(table: &TableUsers) -> Self {
        sqlx::any::install_default_drivers();
        let url = match &table.database {
            Database::Sqlite(path) => sqlite::url(path, "ro"),
            Database::Postgres { url, .. } => url.expose().to_owned(),
            Database::Memory => "sqlite::memory:".to_owned(),
        };
        let options = pool_options(CONNECTIONS, TABLE_TIMEOUT).idle_timeout(IDLE_TIMEOUT);
        let (statement, has_realm) = statement(&table.layout);
        Self { pool: options.connect_lazy(&url).map_err(of_sqlx), statement, has_realm }
    }

    pub async fn find(
        &self,
        username: &str,
        realm: &str,
    ) -> Result<Option<ForeignUser>, StoreError> {
        let pool = self.pool.as_ref().map_err(StoreError::clone)?;
        let mut query = sqlx::query(AssertSqlSafe(self.statement.clone())).bind(username);
        if self.has_realm {
            query = query.bind(realm);
        }
        let row = query.fetch_optional(pool).await.map_err(of_sqlx)?;
        let Some(row) = row else { return Ok(None) };
        let text = |column: usize| row.try_get::<Option<String>, _>(column).map_err(of_sqlx);
        let flag = |column: usize| {
            let word = text(column)?.unwrap_or_default();
            Ok::<bool, StoreError>(matches!(word.trim(), "1" | "t" | "true" | "y" | "yes" | "on"))
        };
        Ok(Some(ForeignUser {
            password: text(0)?,
            enabled: flag(1)?,
            realm: text(2)?,
            display_name: text(3)?,
            allow_guest_calls: flag(4)?,
        }))
    }
}

/// Everything comes as text: a flag is a number in one database and a truth value in the other.
/// Names are not quoted, so that each database folds them as its owner expects.
fn statement(layout: &TableLayout) -> (String, bool) {
    match layout {
        TableLayout::Columns { table, username, password, enabled, realm } => {
            let as_text = |column: &Option<String>, default: &str| match column {
                Some(column) => format!("CAST({column} AS TEXT)"),
                None => default.to_owned(),
            };
            let (enabled, shown) = (as_text(enabled, "'1'"), as_text(realm, "NULL"));
            let in_realm = match realm {
                Some(realm) => format!(" AND ({realm} = $2 OR {realm} IS NULL OR {realm} = '')"),
                None => String::new(),
            };
            let text = format!(
                "SELECT CAST({password} AS TEXT), {enabled}, {shown}, NULL, '0' FROM {table} \
                 WHERE {username} = $1{in_realm} LIMIT 1"
            );
            (text, realm.is_some())
        }
        TableLayout::Extensions => {
            let text = "SELECT CAST(sip_password AS TEXT), \
                        CASE WHEN login_disabled THEN '0' ELSE '1' END, NULL, \
                        CAST(display_name AS TEXT), CAST(allow_guest_calls AS TEXT) \
                        FROM rustpbx_extensions WHERE extension = $1 LIMIT 1";
            (text.to_owned(), false)
        }
    }
}
