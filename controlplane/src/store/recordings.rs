//! Recordings in SQL: one row per capture that was ever closed.
//! Owns:  the columns of `recordings`.
//! Gives: `Recordings`.
//! Never: a file; the finalizer has them.
//! Holds: a row names its capture until the recording is ready.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use shared::ids::CallId;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::db::{Connections, from_sql, now_ms, to_sql};
use super::error::{odd_row, of_sqlx};
use super::{Db, Pending, StoreError};

/// What became of the capture of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    pub call: CallId,
    pub state: RecordingState,
    pub capture: PathBuf,
    /// Set when it is ready.
    pub path: Option<PathBuf>,
    pub duration_ms: Option<u64>,
    pub size: Option<u64>,
    /// Packets that did not reach the capture.
    pub packets_lost: u64,
    /// Why it is not ready, or what is missing in it.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingState {
    /// Nobody sent anything that could be recorded, or none of it reached the disk.
    Empty,
    /// Removed after its time, and nowhere else.
    Expired,
    /// The capture is kept and tried again on the next start.
    Failed,
    Pending,
    Ready,
    /// A codec that we do not decode; the capture is kept.
    Unsupported,
    /// No longer here, but where it was uploaded to.
    Uploaded,
}

impl RecordingState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Unsupported => "unsupported",
            Self::Uploaded => "uploaded",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        const ALL: [RecordingState; 7] = [
            RecordingState::Empty,
            RecordingState::Expired,
            RecordingState::Failed,
            RecordingState::Pending,
            RecordingState::Ready,
            RecordingState::Unsupported,
            RecordingState::Uploaded,
        ];
        ALL.into_iter().find(|state| state.as_str() == text)
    }
}

pub trait Recordings: Connections {
    /// Inserts or replaces.
    fn put_recording<'a>(&'a self, recording: &'a Recording) -> Pending<'a, ()> {
        Box::pin(put(self.db(), recording))
    }

    fn recording(&self, call: CallId) -> Pending<'_, Option<Recording>> {
        Box::pin(one(self.db(), call))
    }
}

impl Recordings for Db {}

async fn put(db: &Db, recording: &Recording) -> Result<(), StoreError> {
    let mut transaction = db.begin().await?;
    put_in(&mut transaction, recording).await?;
    transaction.commit().await.map_err(of_sqlx)
}

/// The same as part of something larger.
pub(super) async fn put_in(
    transaction: &mut Transaction<'static, Any>,
    recording: &Recording,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO recordings (session_id, state, capture_path, path, duration_ms, size, \
         packets_lost, error, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (session_id) DO UPDATE SET state = excluded.state, \
         capture_path = excluded.capture_path, path = excluded.path, \
         duration_ms = excluded.duration_ms, size = excluded.size, \
         packets_lost = excluded.packets_lost, error = excluded.error, \
         updated_at = excluded.updated_at",
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
    .execute(&mut **transaction)
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

async fn one(db: &Db, call: CallId) -> Result<Option<Recording>, StoreError> {
    let row = sqlx::query(
        "SELECT session_id, state, capture_path, path, duration_ms, size, packets_lost, error \
         FROM recordings WHERE session_id = $1",
    )
    .bind(call.to_string())
    .fetch_optional(db.readers())
    .await
    .map_err(of_sqlx)?;
    row.as_ref().map(read).transpose()
}

pub(super) fn read(row: &AnyRow) -> Result<Recording, StoreError> {
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
