//! Uploads in SQL: what has to leave this machine, and what has left it.
//! Owns:  the columns of `uploads`, and whether call records are archived.
//! Gives: `Uploads`; `of_records` for the one place where records come into being.
//! Never: a file or a bucket; `archive` has them.
//! Holds: one row per call, kind and destination, made in the transaction of what it uploads; a row
//!        ends as `done` or `lost`, never disappears.

use std::str::FromStr;

use shared::cdr::Cdr;
use shared::ids::CallId;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::db::{Connections, from_sql, now_ms, to_sql};
use super::error::{odd_row, of_sqlx};
use super::statement::{ROWS_MAX, Statement};
use super::{Db, Pending, Recording, StoreError, recordings};

/// The fact that says so.
const RECORDS_ARCHIVED: &str = "records_archived";

/// What is uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// The call record's JSON.
    Record,
    Recording,
}

/// Which section of the configuration asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    CallRecord,
    Recording,
}

/// One upload that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub id: i64,
    pub call: CallId,
    pub load: Load,
    pub section: Section,
    /// Tries that failed so far.
    pub attempts: u32,
}

/// A finished upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub section: Section,
    /// The object's key, the path of a local archive, or a URL; none when it cannot be read back.
    pub key: Option<String>,
    pub size: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// A finished upload that can be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub key: String,
    pub size: u64,
}

impl Uploaded {
    pub fn into_found(self) -> Option<Found> {
        Some(Found { key: self.key?, size: self.size })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadBacklog {
    pub waiting: u64,
    pub lost: u64,
    /// When the oldest one was made, in ms since 1970.
    pub oldest_ms: Option<i64>,
}

impl UploadBacklog {
    /// The age of the oldest one in s.
    pub fn oldest_s(self) -> u64 {
        self.oldest_ms.map_or(0, |made_at| from_sql(now_ms().saturating_sub(made_at)) / 1_000)
    }
}

impl Load {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Recording => "recording",
        }
    }
}

impl FromStr for Load {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        match text {
            "record" => Ok(Self::Record),
            "recording" => Ok(Self::Recording),
            other => Err(odd_row(other)),
        }
    }
}

impl Section {
    pub const ALL: [Self; 2] = [Self::CallRecord, Self::Recording];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CallRecord => "callrecord",
            Self::Recording => "recording",
        }
    }
}

impl FromStr for Section {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        match text {
            "callrecord" => Ok(Self::CallRecord),
            "recording" => Ok(Self::Recording),
            other => Err(odd_row(other)),
        }
    }
}

pub trait Uploads: Connections {
    /// A recording is ready: its row and one upload per section, in one transaction.
    fn finish_recording<'a>(
        &'a self,
        recording: &'a Recording,
        sections: &'a [Section],
    ) -> Pending<'a, ()> {
        Box::pin(finish_recording(self.db(), recording, sections))
    }

    /// Whether call records that are stored from now on are uploaded, too.
    fn archive_records(&self, wanted: bool) -> Pending<'_, ()> {
        Box::pin(archive_records(self.db(), wanted))
    }

    /// For the start: what was under way when the process ended is due again, uploads of sections that
    /// are not `served` are parked, those of `served` ones no longer. Gives how many were parked.
    fn resume_uploads<'a>(&'a self, served: &'a [Section]) -> Pending<'a, u64> {
        Box::pin(resume(self.db(), served))
    }

    /// Takes at most `most` due uploads; nobody else gets them until `lease_ms` from now.
    fn take_uploads(&self, section: Section, most: u32, lease_ms: u64) -> Pending<'_, Vec<Upload>> {
        Box::pin(take(self.db(), section, most, lease_ms))
    }

    /// What would be due within `within_ms` is due now. Leases have to be longer than that.
    fn hasten_uploads(&self, section: Section, within_ms: u64) -> Pending<'_, ()> {
        Box::pin(hasten(self.db(), section, within_ms))
    }

    fn upload_done<'a>(&'a self, id: i64, done: &'a Uploaded) -> Pending<'a, ()> {
        Box::pin(finish(self.db(), id, done))
    }

    /// It failed: try again `wait_ms` from now.
    fn upload_failed<'a>(&'a self, id: i64, wait_ms: u64, error: &'a str) -> Pending<'a, ()> {
        Box::pin(put_off(self.db(), id, wait_ms, error))
    }

    /// It can never succeed: its file is gone.
    fn upload_lost<'a>(&'a self, id: i64, error: &'a str) -> Pending<'a, ()> {
        Box::pin(lose(self.db(), id, error))
    }

    fn uploads_of(&self, call: CallId) -> Pending<'_, Vec<Uploaded>> {
        Box::pin(done_of(self.db(), call))
    }

    /// Whether an earlier call had the same SIP Call-ID: callers choose it, and may choose it twice.
    fn is_call_id_repeated(&self, record: i64) -> Pending<'_, bool> {
        Box::pin(is_call_id_repeated(self.db(), record))
    }

    fn upload_backlog(&self) -> Pending<'_, UploadBacklog> {
        Box::pin(backlog(self.db()))
    }
}

impl Uploads for Db {}

async fn finish_recording(
    db: &Db,
    recording: &Recording,
    sections: &[Section],
) -> Result<(), StoreError> {
    let mut transaction = db.begin().await?;
    recordings::put_in(&mut transaction, recording).await?;
    for section in sections {
        insert(&mut transaction, recording.call, Load::Recording, *section).await?;
    }
    transaction.commit().await.map_err(of_sqlx)
}

async fn insert(
    transaction: &mut Transaction<'static, Any>,
    call: CallId,
    load: Load,
    section: Section,
) -> Result<(), StoreError> {
    let now = now_ms();
    sqlx::query(
        "INSERT INTO uploads (session_id, load_kind, section, state, attempts, due_at, created_at) \
         VALUES ($1, $2, $3, 'waiting', 0, $4, $4) \
         ON CONFLICT (session_id, load_kind, section) DO NOTHING",
    )
    .bind(call.to_string())
    .bind(load.as_str())
    .bind(section.as_str())
    .bind(now)
    .execute(&mut **transaction)
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

/// Uploads of these records, when records are archived: part of the transaction that stores them.
pub(super) async fn of_records(
    transaction: &mut Transaction<'_, Any>,
    batch: &[Cdr],
) -> Result<(), StoreError> {
    if batch.is_empty() {
        return Ok(());
    }
    let wanted = sqlx::query("SELECT value FROM facts WHERE name = $1").bind(RECORDS_ARCHIVED);
    let wanted = wanted.fetch_optional(&mut **transaction).await.map_err(of_sqlx)?;
    if wanted.is_none() {
        return Ok(());
    }
    let now = now_ms();
    for rows in batch.chunks(ROWS_MAX) {
        let mut insert = Statement::new(
            "INSERT INTO uploads (session_id, load_kind, section, state, attempts, due_at, \
             created_at) VALUES ",
        );
        insert.rows(rows, |row, cdr| {
            row.bind(cdr.session_id.to_string())
                .bind(Load::Record.as_str())
                .bind(Section::CallRecord.as_str())
                .bind("waiting")
                .bind(0_i64)
                .bind(now)
                .bind(now);
        });
        insert.push(" ON CONFLICT (session_id, load_kind, section) DO NOTHING");
        insert.query_on(transaction).execute(&mut **transaction).await.map_err(of_sqlx)?;
    }
    Ok(())
}

async fn archive_records(db: &Db, wanted: bool) -> Result<(), StoreError> {
    let change = if wanted {
        "INSERT INTO facts (name, value) VALUES ($1, 'yes') ON CONFLICT (name) DO NOTHING"
    } else {
        "DELETE FROM facts WHERE name = $1"
    };
    let change = sqlx::query(change).bind(RECORDS_ARCHIVED);
    change.execute(db.writer()).await.map_err(of_sqlx)?;
    Ok(())
}

async fn resume(db: &Db, served: &[Section]) -> Result<u64, StoreError> {
    let mut transaction = db.begin().await?;
    let mut parked = 0;
    for section in Section::ALL {
        let (is_served, change) = if served.contains(&section) {
            let due = "UPDATE uploads SET state = 'waiting', due_at = $1 WHERE section = $2 \
                       AND (state = 'parked' OR (state = 'waiting' AND due_at > $1))";
            (true, due)
        } else {
            let parked = "UPDATE uploads SET state = 'parked', due_at = $1 WHERE section = $2 \
                          AND state = 'waiting'";
            (false, parked)
        };
        let change = sqlx::query(change).bind(now_ms()).bind(section.as_str());
        let changed = change.execute(&mut *transaction).await.map_err(of_sqlx)?;
        if !is_served {
            parked += changed.rows_affected();
        }
    }
    transaction.commit().await.map_err(of_sqlx)?;
    Ok(parked)
}

async fn take(
    db: &Db,
    section: Section,
    most: u32,
    lease_ms: u64,
) -> Result<Vec<Upload>, StoreError> {
    let now = now_ms();
    let mut transaction = db.begin().await?;
    let rows = sqlx::query(
        "SELECT id, session_id, load_kind, section, attempts FROM uploads \
         WHERE state = 'waiting' AND section = $1 AND due_at <= $2 ORDER BY due_at, id LIMIT $3",
    )
    .bind(section.as_str())
    .bind(now)
    .bind(i64::from(most))
    .fetch_all(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    let taken: Vec<Upload> = rows.iter().map(read).collect::<Result<_, _>>()?;
    for upload in &taken {
        sqlx::query("UPDATE uploads SET due_at = $1 WHERE id = $2")
            .bind(now.saturating_add(to_sql(lease_ms)))
            .bind(upload.id)
            .execute(&mut *transaction)
            .await
            .map_err(of_sqlx)?;
    }
    transaction.commit().await.map_err(of_sqlx)?;
    Ok(taken)
}

async fn hasten(db: &Db, section: Section, within_ms: u64) -> Result<(), StoreError> {
    let now = now_ms();
    sqlx::query(
        "UPDATE uploads SET due_at = $1 WHERE state = 'waiting' AND section = $2 \
         AND due_at > $1 AND due_at <= $3",
    )
    .bind(now)
    .bind(section.as_str())
    .bind(now.saturating_add(to_sql(within_ms)))
    .execute(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<Upload, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(of_sqlx);
    let attempts: i64 = row.try_get("attempts").map_err(of_sqlx)?;
    Ok(Upload {
        id: row.try_get("id").map_err(of_sqlx)?,
        call: text("session_id")?.parse().map_err(odd_row)?,
        load: text("load_kind")?.parse()?,
        section: text("section")?.parse()?,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
    })
}

async fn finish(db: &Db, id: i64, done: &Uploaded) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE uploads SET state = 'done', object_key = $1, size = $2, sha256 = $3, \
         error = NULL, done_at = $4 WHERE id = $5",
    )
    .bind(&done.key)
    .bind(to_sql(done.size))
    .bind(&done.sha256)
    .bind(now_ms())
    .bind(id)
    .execute(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

async fn put_off(db: &Db, id: i64, wait_ms: u64, error: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE uploads SET attempts = attempts + 1, due_at = $1, error = $2 \
         WHERE id = $3 AND state = 'waiting'",
    )
    .bind(now_ms().saturating_add(to_sql(wait_ms)))
    .bind(error)
    .bind(id)
    .execute(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

async fn lose(db: &Db, id: i64, error: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE uploads SET state = 'lost', error = $1, done_at = $2 \
         WHERE id = $3 AND state = 'waiting'",
    )
    .bind(error)
    .bind(now_ms())
    .bind(id)
    .execute(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

async fn done_of(db: &Db, call: CallId) -> Result<Vec<Uploaded>, StoreError> {
    let rows = sqlx::query(
        "SELECT section, object_key, size, sha256 FROM uploads WHERE session_id = $1 \
         AND load_kind = 'recording' AND state = 'done' ORDER BY section DESC",
    )
    .bind(call.to_string())
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    let done = |row: &AnyRow| {
        let text = |column: &str| row.try_get::<String, _>(column).map_err(of_sqlx);
        Ok(Uploaded {
            section: text("section")?.parse()?,
            key: row.try_get("object_key").map_err(of_sqlx)?,
            size: from_sql(row.try_get("size").map_err(of_sqlx)?),
            sha256: text("sha256")?,
        })
    };
    rows.iter().map(done).collect()
}

async fn is_call_id_repeated(db: &Db, record: i64) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT a.id AS id FROM call_records a JOIN call_records b ON b.call_id = a.call_id \
         WHERE b.id = $1 AND a.id < b.id LIMIT 1",
    )
    .bind(record)
    .fetch_optional(db.readers())
    .await
    .map_err(of_sqlx)?;
    Ok(row.is_some())
}

async fn backlog(db: &Db) -> Result<UploadBacklog, StoreError> {
    let row = sqlx::query(
        "SELECT count(CASE WHEN state = 'waiting' THEN 1 END) AS waiting, \
         count(CASE WHEN state = 'lost' THEN 1 END) AS lost, \
         min(CASE WHEN state = 'waiting' THEN created_at END) AS oldest FROM uploads \
         WHERE state IN ('waiting', 'lost')",
    )
    .fetch_one(db.readers())
    .await
    .map_err(of_sqlx)?;
    let count = |column: &str| row.try_get::<i64, _>(column).map(from_sql).map_err(of_sqlx);
    Ok(UploadBacklog {
        waiting: count("waiting")?,
        lost: count("lost")?,
        oldest_ms: row.try_get("oldest").map_err(of_sqlx)?,
    })
}
