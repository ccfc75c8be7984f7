//! Recordings in SQL: one row per capture that was ever closed.
//! Owns:  the columns of `recordings`.
//! Gives: what `Store` promises about recordings.
//! Never: a file; the finalizer has them.
//! Holds: a row names its capture until the recording is ready.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use shared::ids::CallId;
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::sqlite::{from_sql, now_ms, odd_row, of_sqlx, to_sql};
use super::{Recording, RecordingState, StoreError};

pub(super) async fn put(pool: &SqlitePool, recording: &Recording) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO recordings (session_id, state, capture_path, path, duration_ms, \
         size, packets_lost, error, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(recording.call.to_string())
    .bind(recording.state.as_str())
    .bind(to_text(&recording.capture)?)
    .bind(recording.path.as_deref().map(to_text).transpose()?)
    .bind(recording.duration_ms.map(to_sql))
    .bind(recording.size.map(to_sql))
    .bind(to_sql(recording.packets_lost))
    .bind(&recording.error)
    .bind(now_ms())
    .execute(pool)
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

pub(super) async fn one(pool: &SqlitePool, call: CallId) -> Result<Option<Recording>, StoreError> {
    let row = sqlx::query(
        "SELECT session_id, state, capture_path, path, duration_ms, size, packets_lost, error \
         FROM recordings WHERE session_id = ?",
    )
    .bind(call.to_string())
    .fetch_optional(pool)
    .await
    .map_err(of_sqlx)?;
    row.as_ref().map(read).transpose()
}

pub(super) fn read(row: &SqliteRow) -> Result<Recording, StoreError> {
    let text = |column: &str| row.try_get::<&str, _>(column).map_err(of_sqlx);
    let number = |column: &str| {
        let number = row.try_get::<Option<i64>, _>(column).map_err(of_sqlx)?;
        Ok::<_, StoreError>(number.map(from_sql))
    };
    let state = text("state")?;
    Ok(Recording {
        call: text("session_id")?.parse().map_err(odd_row)?,
        state: RecordingState::parse(state).ok_or_else(|| odd_row(state))?,
        capture: to_path(text("capture_path")?),
        path: row.try_get::<Option<&str>, _>("path").map_err(of_sqlx)?.map(to_path),
        duration_ms: number("duration_ms")?,
        size: number("size")?,
        packets_lost: number("packets_lost")?.unwrap_or(0),
        error: row.try_get("error").map_err(of_sqlx)?,
    })
}

fn to_text(path: &Path) -> Result<&str, StoreError> {
    std::str::from_utf8(path.as_os_str().as_bytes())
        .map_err(|_| StoreError::Refused(format!("{} is not UTF-8", path.display())))
}

fn to_path(text: &str) -> PathBuf {
    OsString::from_vec(text.as_bytes().to_vec()).into()
}
