//! Sessions in SQL: who is logged in.
//! Owns:  the columns of `sessions`.
//! Gives: `Sessions`.
//! Never: what the cookie carries: only its hash.
//! Holds: a session whose user is gone or switched off is not found.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::error::of_sqlx;
use super::users::{self, User};
use super::{Connections, Db, Pending, StoreError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id_hash: String,
    pub user: i64,
    pub csrf_token: String,
    pub source: String,
    pub user_agent: String,
    pub created_at: i64,
    pub seen_at: i64,
}

pub trait Sessions: Connections {
    /// Adds a session. Of one user's sessions the newest `keep` stay; those that began or were seen
    /// too long ago go, whoever's they are.
    fn add_session<'a>(
        &'a self,
        session: &'a Session,
        keep: i64,
        oldest: Bounds,
    ) -> Pending<'a, ()> {
        Box::pin(add(self.db(), session, keep, oldest))
    }

    /// With its user, who is active.
    fn session<'a>(&'a self, id_hash: &'a str) -> Pending<'a, Option<(Session, User)>> {
        Box::pin(one(self.db(), id_hash))
    }

    fn seen<'a>(&'a self, id_hash: &'a str, at: i64) -> Pending<'a, ()> {
        Box::pin(seen(self.db(), id_hash, at))
    }

    fn end_session<'a>(&'a self, id_hash: &'a str) -> Pending<'a, ()> {
        Box::pin(end(self.db(), id_hash))
    }

    fn end_sessions_of(&self, user: i64) -> Pending<'_, ()> {
        Box::pin(end_of(self.db(), user))
    }
}

impl Sessions for Db {}

/// A session is over when it began, or was seen last, before these times.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub created_at: i64,
    pub seen_at: i64,
}

async fn add(db: &Db, session: &Session, keep: i64, oldest: Bounds) -> Result<(), StoreError> {
    let mut transaction = db.begin().await?;
    sqlx::query("DELETE FROM sessions WHERE created_at < $1 OR seen_at < $2")
        .bind(oldest.created_at)
        .bind(oldest.seen_at)
        .execute(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
    sqlx::query(
        "DELETE FROM sessions WHERE id_hash IN (SELECT id_hash FROM sessions WHERE user_id = $1 \
         ORDER BY created_at DESC, id_hash LIMIT 1000000 OFFSET $2)",
    )
    .bind(session.user)
    .bind(keep - 1)
    .execute(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    sqlx::query(
        "INSERT INTO sessions (id_hash, user_id, csrf_token, source, user_agent, created_at, \
         seen_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(session.id_hash.as_str())
    .bind(session.user)
    .bind(session.csrf_token.as_str())
    .bind(session.source.as_str())
    .bind(session.user_agent.as_str())
    .bind(session.created_at)
    .bind(session.seen_at)
    .execute(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    transaction.commit().await.map_err(of_sqlx)
}

async fn one(db: &Db, id_hash: &str) -> Result<Option<(Session, User)>, StoreError> {
    let found = sqlx::query(
        "SELECT s.id_hash, s.user_id, s.csrf_token, s.source, s.user_agent, \
         s.created_at AS session_created_at, s.seen_at, u.id, u.username, u.email, u.is_active, \
         u.is_staff, u.is_superuser, u.last_login_at, u.last_login_ip, u.created_at, \
         u.updated_at FROM sessions s JOIN console_users u ON u.id = s.user_id \
         WHERE s.id_hash = $1 AND u.is_active = 1",
    )
    .bind(id_hash)
    .fetch_optional(db.readers())
    .await
    .map_err(of_sqlx)?;
    let both = |row: &AnyRow| Ok((read(row)?, users::read(row)?));
    found.as_ref().map(both).transpose()
}

fn read(row: &AnyRow) -> Result<Session, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(of_sqlx);
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(of_sqlx);
    Ok(Session {
        id_hash: text("id_hash")?,
        user: number("user_id")?,
        csrf_token: text("csrf_token")?,
        source: text("source")?,
        user_agent: text("user_agent")?,
        created_at: number("session_created_at")?,
        seen_at: number("seen_at")?,
    })
}

async fn seen(db: &Db, id_hash: &str, at: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE sessions SET seen_at = $1 WHERE id_hash = $2 AND seen_at < $3")
        .bind(at)
        .bind(id_hash)
        .bind(at)
        .execute(db.writer())
        .await
        .map_err(of_sqlx)?;
    Ok(())
}

async fn end(db: &Db, id_hash: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE id_hash = $1")
        .bind(id_hash)
        .execute(db.writer())
        .await
        .map_err(of_sqlx)?;
    Ok(())
}

async fn end_of(db: &Db, user: i64) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE user_id = $1")
        .bind(user)
        .execute(db.writer())
        .await
        .map_err(of_sqlx)?;
    Ok(())
}
