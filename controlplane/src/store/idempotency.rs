//! Idempotency keys in SQL: which request is being done, and what was answered.
//! Owns:  the columns of `idempotency_keys`.
//! Gives: `IdempotencyKeys`.
//! Never: gives one key to two requests at a time, on one gateway or on several.
//! Holds: a row goes a day after it came.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::error::of_sqlx;
use super::{Connections, Db, Pending, StoreError};

/// Names one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub caller: String,
    pub route: String,
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    pub status: i64,
    /// A JSON object.
    pub headers: String,
    pub body: Option<String>,
}

/// What is known of a key that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    pub fingerprint: String,
    pub run: String,
    pub answer: Option<KeptAnswer>,
}

/// Whether a key could be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    Known(KnownKey),
    Now,
    /// The caller has too many of them.
    TooMany,
}

/// What is written when a key is taken.
#[derive(Clone, Debug)]
pub struct KeyTake {
    pub fingerprint: String,
    pub run: String,
    pub now: i64,
    /// Rows from before this time go.
    pub oldest: i64,
    /// Of one caller.
    pub keys_max: i64,
}

pub trait IdempotencyKeys: Connections {
    fn take_key<'a>(&'a self, key: &'a IdempotencyKey, take: &'a KeyTake) -> Pending<'a, Taken> {
        Box::pin(take_key(self.db(), key, take))
    }

    fn keep_answer<'a>(
        &'a self,
        key: &'a IdempotencyKey,
        answer: &'a KeptAnswer,
    ) -> Pending<'a, ()> {
        Box::pin(keep(self.db(), key, answer))
    }

    /// Nothing was done: the same key may be tried again.
    fn free_key<'a>(&'a self, key: &'a IdempotencyKey) -> Pending<'a, ()> {
        Box::pin(free(self.db(), key))
    }
}

impl IdempotencyKeys for Db {}

async fn take_key(db: &Db, key: &IdempotencyKey, take: &KeyTake) -> Result<Taken, StoreError> {
    let mut transaction = db.begin().await?;
    sqlx::query("DELETE FROM idempotency_keys WHERE created_at < $1")
        .bind(take.oldest)
        .execute(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
    let count = sqlx::query("SELECT COUNT(*) AS total FROM idempotency_keys WHERE caller = $1")
        .bind(key.caller.as_str())
        .fetch_one(&mut *transaction)
        .await
        .map_err(of_sqlx)?;
    let known = sqlx::query(
        "SELECT fingerprint, run, status, headers, body FROM idempotency_keys \
         WHERE caller = $1 AND route = $2 AND key = $3",
    )
    .bind(key.caller.as_str())
    .bind(key.route.as_str())
    .bind(key.key.as_str())
    .fetch_optional(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    if let Some(row) = &known {
        return Ok(Taken::Known(read(row)?));
    }
    if count.try_get::<i64, _>("total").map_err(of_sqlx)? >= take.keys_max {
        return Ok(Taken::TooMany);
    }
    let taken = sqlx::query(
        "INSERT INTO idempotency_keys (caller, route, key, fingerprint, run, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(key.caller.as_str())
    .bind(key.route.as_str())
    .bind(key.key.as_str())
    .bind(take.fingerprint.as_str())
    .bind(take.run.as_str())
    .bind(take.now)
    .execute(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    transaction.commit().await.map_err(of_sqlx)?;
    if taken.rows_affected() > 0 {
        return Ok(Taken::Now);
    }
    // Somebody else took it between our two statements, on a server with several writers.
    let fingerprint = take.fingerprint.clone();
    Ok(Taken::Known(KnownKey { fingerprint, run: take.run.clone(), answer: None }))
}

fn read(row: &AnyRow) -> Result<KnownKey, StoreError> {
    let text = |column: &str| row.try_get::<Option<String>, _>(column).map_err(of_sqlx);
    let status = row.try_get::<Option<i64>, _>("status").map_err(of_sqlx)?;
    let answer = match status {
        None => None,
        Some(status) => Some(KeptAnswer {
            status,
            headers: text("headers")?.unwrap_or_default(),
            body: text("body")?,
        }),
    };
    Ok(KnownKey {
        fingerprint: text("fingerprint")?.unwrap_or_default(),
        run: text("run")?.unwrap_or_default(),
        answer,
    })
}

async fn keep(db: &Db, key: &IdempotencyKey, answer: &KeptAnswer) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE idempotency_keys SET status = $1, headers = $2, body = $3 \
         WHERE caller = $4 AND route = $5 AND key = $6",
    )
    .bind(answer.status)
    .bind(answer.headers.as_str())
    .bind(answer.body.as_deref())
    .bind(key.caller.as_str())
    .bind(key.route.as_str())
    .bind(key.key.as_str())
    .execute(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

async fn free(db: &Db, key: &IdempotencyKey) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM idempotency_keys WHERE caller = $1 AND route = $2 AND key = $3")
        .bind(key.caller.as_str())
        .bind(key.route.as_str())
        .bind(key.key.as_str())
        .execute(db.writer())
        .await
        .map_err(of_sqlx)?;
    Ok(())
}
