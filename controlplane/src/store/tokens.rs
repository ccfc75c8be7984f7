//! API tokens in SQL.
//! Owns:  the columns of `api_tokens`.
//! Gives: `Tokens`.
//! Never: a token: only its hash.
//! Holds: a revoked token stays as a row, so that the audit log can name it.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::db::{from_sql, now_ms};
use super::error::of_sqlx;
use super::{Connections, Db, Pending, StoreError};

#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub id: i64,
    pub public_id: String,
    pub name: String,
    pub token_hash: String,
    /// Words with blanks between.
    pub scopes: String,
    /// Networks with blanks between; empty: any.
    pub networks: String,
    pub created_by: String,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub last_used_at: Option<i64>,
    pub last_used_ip: Option<String>,
    pub revoked_at: Option<i64>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("public_id", &self.public_id).finish_non_exhaustive()
    }
}

pub trait Tokens: Connections {
    /// Gives the id of the row. `id` and the marks of use of the value are not looked at.
    fn add_token<'a>(&'a self, token: &'a Token) -> Pending<'a, i64> {
        Box::pin(add(self.db(), token))
    }

    fn token<'a>(&'a self, public_id: &'a str) -> Pending<'a, Option<Token>> {
        Box::pin(one(self.db(), public_id))
    }

    /// Newest first, with the total.
    fn tokens(&self, limit: u32, skip: u32) -> Pending<'_, (u64, Vec<Token>)> {
        Box::pin(page(self.db(), limit, skip))
    }

    /// How many there are that are neither revoked nor past their time.
    fn valid_tokens(&self, now: i64) -> Pending<'_, u64> {
        Box::pin(count_valid(self.db(), now))
    }

    fn token_used<'a>(&'a self, id: i64, at: i64, source: &'a str) -> Pending<'a, ()> {
        Box::pin(used(self.db(), id, at, source))
    }

    /// False when it is unknown or was revoked before.
    fn revoke_token<'a>(&'a self, public_id: &'a str) -> Pending<'a, bool> {
        Box::pin(revoke(self.db(), public_id))
    }
}

impl Tokens for Db {}

async fn add(db: &Db, token: &Token) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "INSERT INTO api_tokens (public_id, name, token_hash, scopes, networks, created_by, \
         created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
    )
    .bind(token.public_id.as_str())
    .bind(token.name.as_str())
    .bind(token.token_hash.as_str())
    .bind(token.scopes.as_str())
    .bind(token.networks.as_str())
    .bind(token.created_by.as_str())
    .bind(token.created_at)
    .bind(token.expires_at)
    .fetch_one(db.writer())
    .await
    .map_err(of_sqlx)?;
    row.try_get("id").map_err(of_sqlx)
}

async fn one(db: &Db, public_id: &str) -> Result<Option<Token>, StoreError> {
    let found = sqlx::query(
        "SELECT id, public_id, name, token_hash, scopes, networks, created_by, created_at, \
         expires_at, last_used_at, last_used_ip, revoked_at FROM api_tokens \
         WHERE public_id = $1",
    )
    .bind(public_id)
    .fetch_optional(db.readers())
    .await
    .map_err(of_sqlx)?;
    found.as_ref().map(read).transpose()
}

async fn page(db: &Db, limit: u32, skip: u32) -> Result<(u64, Vec<Token>), StoreError> {
    let total = sqlx::query("SELECT COUNT(*) AS total FROM api_tokens");
    let total = total.fetch_one(db.readers()).await.map_err(of_sqlx)?;
    let rows = sqlx::query(
        "SELECT id, public_id, name, token_hash, scopes, networks, created_by, created_at, \
         expires_at, last_used_at, last_used_ip, revoked_at FROM api_tokens \
         ORDER BY id DESC LIMIT $1 OFFSET $2",
    )
    .bind(i64::from(limit))
    .bind(i64::from(skip))
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    let tokens = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok((from_sql(total.try_get("total").map_err(of_sqlx)?), tokens))
}

async fn count_valid(db: &Db, now: i64) -> Result<u64, StoreError> {
    let total = sqlx::query(
        "SELECT COUNT(*) AS total FROM api_tokens WHERE revoked_at IS NULL \
         AND (expires_at IS NULL OR expires_at > $1)",
    )
    .bind(now)
    .fetch_one(db.readers())
    .await
    .map_err(of_sqlx)?;
    Ok(from_sql(total.try_get("total").map_err(of_sqlx)?))
}

async fn used(db: &Db, id: i64, at: i64, source: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE api_tokens SET last_used_at = $1, last_used_ip = $2 WHERE id = $3")
        .bind(at)
        .bind(source)
        .bind(id)
        .execute(db.writer())
        .await
        .map_err(of_sqlx)?;
    Ok(())
}

async fn revoke(db: &Db, public_id: &str) -> Result<bool, StoreError> {
    let revoked = sqlx::query(
        "UPDATE api_tokens SET revoked_at = $1 WHERE public_id = $2 AND revoked_at IS NULL",
    )
    .bind(now_ms())
    .bind(public_id)
    .execute(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(revoked.rows_affected() > 0)
}

fn read(row: &AnyRow) -> Result<Token, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(of_sqlx);
    let time = |column: &str| row.try_get::<Option<i64>, _>(column).map_err(of_sqlx);
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(of_sqlx);
    Ok(Token {
        id: number("id")?,
        public_id: text("public_id")?,
        name: text("name")?,
        token_hash: text("token_hash")?,
        scopes: text("scopes")?,
        networks: text("networks")?,
        created_by: text("created_by")?,
        created_at: number("created_at")?,
        expires_at: time("expires_at")?,
        last_used_at: time("last_used_at")?,
        last_used_ip: row.try_get("last_used_ip").map_err(of_sqlx)?,
        revoked_at: time("revoked_at")?,
    })
}
