//! Which files of recordings may leave this disk: nobody may still need them.
//! Owns:  what "nobody" means.
//! Gives: `LocalCopies`.
//! Never: a file; `archive` removes them.
//! Holds: whoever needs a file says so in the transaction that stores the call record (a pending push of
//!        it, in the outbox), and a file goes only when that record is stored.

use shared::ids::CallId;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::db::{Connections, from_sql, now_ms};
use super::error::{odd_row, of_sqlx};
use super::{Db, Pending, StoreError};

/// After it no call record will come any more: the call never got as far as one.
const RECORD_LATEST_MS: i64 = 24 * 3_600_000;

/// That a recording `r` is needed by no upload and by no push of its call record.
macro_rules! nobody_needs_it {
    () => {
        "r.path IS NOT NULL AND NOT EXISTS (SELECT 1 FROM uploads u \
         WHERE u.session_id = r.session_id AND u.load_kind = 'recording' \
         AND u.state = 'waiting') AND NOT EXISTS (SELECT 1 FROM outbox o \
         WHERE o.order_key = r.session_id AND o.kind = 'cdr' AND o.state = 'pending')"
    };
}

/// That it was uploaded as well to where it can be read back, and that its call record is stored or will never be.
macro_rules! it_is_spent {
    () => {
        concat!(
            nobody_needs_it!(),
            " AND EXISTS (SELECT 1 FROM uploads d WHERE d.session_id = r.session_id \
             AND d.load_kind = 'recording' AND d.state = 'done' AND d.object_key IS NOT NULL) \
             AND (r.updated_at < $1 \
             OR EXISTS (SELECT 1 FROM call_records c WHERE c.session_id = r.session_id))"
        )
    };
}

pub trait LocalCopies: Connections {
    /// Whether this recording is stored elsewhere and nobody needs its file any more.
    fn is_recording_spent(&self, call: CallId) -> Pending<'_, bool> {
        Box::pin(is_spent(self.db(), call))
    }

    /// All of that kind, oldest call first.
    fn spent_recordings(&self, most: u32) -> Pending<'_, Vec<CallId>> {
        Box::pin(spent(self.db(), most))
    }

    /// Recordings of calls that began before `call`'s time whose file nobody needs, oldest first,
    /// with their sizes.
    fn recordings_before(&self, call: CallId, most: u32) -> Pending<'_, Vec<(CallId, u64)>> {
        Box::pin(before(self.db(), call, most))
    }

    /// Bytes of all recordings that have a file.
    fn recording_bytes(&self) -> Pending<'_, u64> {
        Box::pin(bytes(self.db()))
    }
}

impl LocalCopies for Db {}

async fn is_spent(db: &Db, call: CallId) -> Result<bool, StoreError> {
    let found = sqlx::query(concat!(
        "SELECT r.session_id AS session_id FROM recordings r WHERE r.session_id = $2 AND ",
        it_is_spent!()
    ))
    .bind(now_ms() - RECORD_LATEST_MS)
    .bind(call.to_string())
    .fetch_optional(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(found.is_some())
}

async fn spent(db: &Db, most: u32) -> Result<Vec<CallId>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT r.session_id AS session_id FROM recordings r WHERE ",
        it_is_spent!(),
        " ORDER BY r.session_id LIMIT $2"
    ))
    .bind(now_ms() - RECORD_LATEST_MS)
    .bind(i64::from(most))
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    rows.iter().map(call_of).collect()
}

async fn before(db: &Db, call: CallId, most: u32) -> Result<Vec<(CallId, u64)>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT r.session_id AS session_id, r.size AS size FROM recordings r \
         WHERE r.session_id < $1 AND ",
        nobody_needs_it!(),
        " ORDER BY r.session_id LIMIT $2"
    ))
    .bind(call.to_string())
    .bind(i64::from(most))
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    let read = |row: &AnyRow| {
        let size: Option<i64> = row.try_get("size").map_err(of_sqlx)?;
        Ok((call_of(row)?, from_sql(size.unwrap_or(0))))
    };
    rows.iter().map(read).collect()
}

fn call_of(row: &AnyRow) -> Result<CallId, StoreError> {
    row.try_get::<&str, _>("session_id").map_err(of_sqlx)?.parse().map_err(odd_row)
}

async fn bytes(db: &Db) -> Result<u64, StoreError> {
    // A sum is a NUMERIC in PostgreSQL.
    let row = sqlx::query(
        "SELECT CAST(coalesce(sum(size), 0) AS BIGINT) AS bytes FROM recordings \
         WHERE path IS NOT NULL",
    )
    .fetch_one(db.readers())
    .await
    .map_err(of_sqlx)?;
    row.try_get("bytes").map(from_sql).map_err(of_sqlx)
}
