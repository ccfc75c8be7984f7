//! The audit log in SQL: who did what, from where, and what came of it.
//! Owns:  the columns of `audit_log`.
//! Gives: `AuditLog`.
//! Never: changes or removes a row.
//! Holds: rows have the order in which they were written.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::error::of_sqlx;
use super::{Connections, Db, Pending, StoreError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// 0 before it is stored.
    pub id: i64,
    pub at: i64,
    pub actor: String,
    pub source: String,
    pub action: String,
    pub object: String,
    pub outcome: String,
    /// JSON without secrets.
    pub before: Option<String>,
    pub after: Option<String>,
    pub detail: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct AuditSearch {
    pub limit: i64,
    /// Rows that were written before this one.
    pub below: Option<i64>,
    pub actor: Option<String>,
    pub action: Option<String>,
    pub object: Option<String>,
    pub from: Option<i64>,
    pub until: Option<i64>,
}

pub trait AuditLog: Connections {
    fn add_audit<'a>(&'a self, row: &'a AuditRow) -> Pending<'a, ()> {
        Box::pin(add(self.db(), row))
    }

    /// Newest first.
    fn audit<'a>(&'a self, search: &'a AuditSearch) -> Pending<'a, Vec<AuditRow>> {
        Box::pin(page(self.db(), search))
    }
}

impl AuditLog for Db {}

async fn add(db: &Db, row: &AuditRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit_log (at, actor, source, action, object, outcome, before, after, \
         detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(row.at)
    .bind(row.actor.as_str())
    .bind(row.source.as_str())
    .bind(row.action.as_str())
    .bind(row.object.as_str())
    .bind(row.outcome.as_str())
    .bind(row.before.as_deref())
    .bind(row.after.as_deref())
    .bind(row.detail.as_deref())
    .execute(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

async fn page(db: &Db, search: &AuditSearch) -> Result<Vec<AuditRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, at, actor, source, action, object, outcome, before, after, detail \
         FROM audit_log WHERE id < $1 AND at >= $2 AND at < $3 \
         AND ($4 = '' OR actor = $4) AND ($5 = '' OR action = $5) AND ($6 = '' OR object = $6) \
         ORDER BY id DESC LIMIT $7",
    )
    .bind(search.below.unwrap_or(i64::MAX))
    .bind(search.from.unwrap_or(i64::MIN))
    .bind(search.until.unwrap_or(i64::MAX))
    .bind(search.actor.as_deref().unwrap_or_default())
    .bind(search.action.as_deref().unwrap_or_default())
    .bind(search.object.as_deref().unwrap_or_default())
    .bind(search.limit)
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<AuditRow, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(of_sqlx);
    let maybe = |column: &str| row.try_get::<Option<String>, _>(column).map_err(of_sqlx);
    Ok(AuditRow {
        id: row.try_get("id").map_err(of_sqlx)?,
        at: row.try_get("at").map_err(of_sqlx)?,
        actor: text("actor")?,
        source: text("source")?,
        action: text("action")?,
        object: text("object")?,
        outcome: text("outcome")?,
        before: maybe("before")?,
        after: maybe("after")?,
        detail: maybe("detail")?,
    })
}
