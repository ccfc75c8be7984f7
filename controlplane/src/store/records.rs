//! Call records in SQL: batches in, pages and single records out.
//! Owns:  the columns that a search looks at; the record itself is the JSON beside them.
//! Gives: `Records`.
//! Never: text of a caller inside a statement; everything is bound.
//! Holds: a batch is one transaction; storing a record twice leaves one (its session id is unique).

use std::fmt::Write;

use serde_json::{Error as JsonError, Value};
use sha2::{Digest, Sha256};
use shared::cdr::{CallStatus, Cdr};
use shared::ids::{CallId, Side};
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::db::{Connections, now_ms, to_sql};
use super::error::{odd_row, of_sqlx};
use super::outbox::{self, NewEvent};
use super::record_pages::{self, RecordPage, RecordSearch, RecordSlice, SliceSearch};
use super::recordings::{self, Recording};
use super::statement::{ROWS_MAX, Statement};
use super::{Db, Pending, StoreError, uploads};

/// One row of `call_records` with its recording.
#[derive(Clone, Debug)]
pub struct CallRecord {
    pub id: i64,
    pub cdr: Cdr,
    pub recording: Option<Recording>,
    pub tags: Vec<String>,
    pub note: Option<String>,
}

/// What people add to a record. The record itself never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordChange {
    pub tags: Option<Vec<String>>,
    /// `Some(None)` takes the note away.
    pub note: Option<Option<String>>,
}

pub trait Records: Connections {
    /// All of them or none, in one transaction. Those that are there already stay as they are.
    fn add_cdrs<'a>(&'a self, batch: &'a [Cdr]) -> Pending<'a, ()> {
        self.add_cdrs_with(batch, &[])
    }

    /// The same, and the events that report them.
    fn add_cdrs_with<'a>(&'a self, batch: &'a [Cdr], events: &'a [NewEvent]) -> Pending<'a, ()> {
        Box::pin(add(self.db(), batch, events))
    }

    /// One page, with the total over all pages.
    fn records<'a>(&'a self, search: &'a RecordSearch) -> Pending<'a, RecordPage> {
        Box::pin(record_pages::page(self.db(), search))
    }

    /// Some of them after or before a mark, at a bounded cost.
    fn record_slice<'a>(&'a self, search: &'a SliceSearch) -> Pending<'a, RecordSlice> {
        Box::pin(record_pages::slice(self.db(), search))
    }

    /// By number, session id, or the SIP Call-ID of any leg (the newest call that had it).
    fn record<'a>(&'a self, id: &'a str) -> Pending<'a, Option<CallRecord>> {
        Box::pin(one(self.db(), id))
    }

    /// False: there is no such record.
    fn change_record<'a>(&'a self, id: i64, change: &'a RecordChange) -> Pending<'a, bool> {
        Box::pin(change_one(self.db(), id, change))
    }

    /// With what the database says about its recording and its route. False: there is no such record.
    fn delete_record<'a>(&'a self, record: &'a CallRecord) -> Pending<'a, bool> {
        Box::pin(delete(self.db(), record))
    }
}

impl Records for Db {}

/// What `read` reads.
pub(super) const RECORD_COLUMNS: &str = "c.id AS id, c.cdr AS cdr, c.tags AS tags, c.note AS note, \
     r.session_id AS session_id, r.state AS state, r.capture_path AS capture_path, r.path AS path, \
     r.duration_ms AS duration_ms, r.size AS size, r.packets_lost AS packets_lost, r.error AS error";

/// Behind `call_records c`.
pub(super) const RECORDING_JOIN: &str = " LEFT JOIN recordings r ON r.session_id = c.session_id";

async fn add(db: &Db, batch: &[Cdr], events: &[NewEvent]) -> Result<(), StoreError> {
    let mut transaction = db.begin().await?;
    insert(&mut transaction, batch, events).await?;
    transaction.commit().await.map_err(of_sqlx)
}

/// The one place where records come into being: what follows from a record is written here, too, in the
/// same transaction.
pub(super) async fn insert(
    transaction: &mut Transaction<'_, Any>,
    batch: &[Cdr],
    events: &[NewEvent],
) -> Result<(), StoreError> {
    let refused = |error: JsonError| StoreError::Refused(error.to_string());
    let mut rows = Vec::with_capacity(batch.len());
    for cdr in batch {
        rows.push((cdr, serde_json::to_string(cdr).map_err(refused)?));
    }
    let created_at = now_ms();
    for rows in rows.chunks(ROWS_MAX) {
        let mut insert = Statement::new(
            "INSERT INTO call_records (session_id, call_id, direction, status, status_code, \
             started_at, ring_time, answer_time, ended_at, duration_ms, from_number, to_number, \
             caller_uri, callee_uri, sip_trunk, outbound_trunk, cdr, created_at) VALUES ",
        );
        insert.rows(rows, |row, (cdr, json)| {
            row.bind(cdr.session_id.to_string())
                .bind(key(&cdr.call_id))
                .bind(cdr.direction.as_str())
                .bind(status_word(cdr.status))
                .bind(i64::from(cdr.status_code))
                .bind(cdr.start_time.0)
                .bind(cdr.ring_time.map(|at| at.0))
                .bind(cdr.answer_time.map(|at| at.0))
                .bind(cdr.end_time.0)
                .bind(to_sql(cdr.duration_ms))
                .bind(key(&cdr.caller))
                .bind(key(&cdr.callee))
                .bind(key(&cdr.caller_uri))
                .bind(key(&cdr.callee_uri))
                .bind(cdr.sip_trunk.as_deref().map(key))
                .bind(cdr.outbound_trunk.as_deref().map(key))
                .bind(json)
                .bind(created_at);
        });
        insert.push(" ON CONFLICT (session_id) DO NOTHING");
        insert.query_on(transaction).execute(&mut **transaction).await.map_err(of_sqlx)?;
    }
    insert_legs(transaction, batch).await?;
    uploads::of_records(transaction, batch).await?;
    outbox::add(transaction, events).await
}

async fn insert_legs(
    transaction: &mut Transaction<'_, Any>,
    batch: &[Cdr],
) -> Result<(), StoreError> {
    let legs: Vec<_> = batch
        .iter()
        .flat_map(|cdr| cdr.sip_leg_roles.iter().map(move |leg| (cdr.session_id, leg)))
        .collect();
    for legs in legs.chunks(ROWS_MAX) {
        let mut insert =
            Statement::new("INSERT INTO call_legs (call_id, session_id, role) VALUES ");
        insert.rows(legs, |row, (call, leg)| {
            let role = if leg.role == Side::Caller { "caller" } else { "callee" };
            row.bind(key(&leg.call_id)).bind(call.to_string()).bind(role);
        });
        insert.push(" ON CONFLICT (call_id, session_id) DO NOTHING");
        insert.query_on(transaction).execute(&mut **transaction).await.map_err(of_sqlx)?;
    }
    Ok(())
}

/// A number, a session id or a Call-ID: tried in this order, since a Call-ID may look like either.
async fn one(db: &Db, id: &str) -> Result<Option<CallRecord>, StoreError> {
    if let Ok(number) = id.parse::<i64>() {
        let mut select = select_where("c.id = ");
        select.bind(number);
        if let Some(found) = newest(db, select).await? {
            return Ok(Some(found));
        }
    }
    if id.len() == 32
        && let Ok(call) = id.parse::<CallId>()
    {
        let mut select = select_where("c.session_id = ");
        select.bind(call.to_string());
        if let Some(found) = newest(db, select).await? {
            return Ok(Some(found));
        }
    }
    let id = key(id);
    let mut select = select_where("c.call_id = ");
    select.bind(&*id);
    select.push(" OR c.session_id IN (SELECT session_id FROM call_legs l WHERE l.call_id = ");
    select.bind(&*id).push(")");
    newest(db, select).await
}

fn select_where(condition: &'static str) -> Statement {
    let mut select = Statement::new("SELECT ");
    select.push(RECORD_COLUMNS).push(" FROM call_records c").push(RECORDING_JOIN);
    select.push(" WHERE ").push(condition);
    select
}

async fn newest(db: &Db, mut select: Statement) -> Result<Option<CallRecord>, StoreError> {
    select.push(" ORDER BY c.started_at DESC, c.id DESC LIMIT 1");
    let row = select.query().fetch_optional(db.readers()).await.map_err(of_sqlx)?;
    row.as_ref().map(read).transpose()
}

async fn change_one(db: &Db, id: i64, change: &RecordChange) -> Result<bool, StoreError> {
    let mut update = Statement::new("UPDATE call_records SET id = id");
    if let Some(tags) = &change.tags {
        update.push(", tags = ").bind(Value::from(tags.as_slice()).to_string());
    }
    if let Some(note) = &change.note {
        update.push(", note = ").bind(note.as_deref().map(without_nul));
    }
    update.push(" WHERE id = ").bind(id);
    let done = update.query().execute(db.writer()).await.map_err(of_sqlx)?;
    Ok(done.rows_affected() > 0)
}

async fn delete(db: &Db, record: &CallRecord) -> Result<bool, StoreError> {
    let session = record.cdr.session_id.to_string();
    let mut transaction = db.begin().await?;
    for leg in &record.cdr.sip_leg_roles {
        sqlx::query("DELETE FROM call_legs WHERE call_id = $1 AND session_id = $2")
            .bind(key(&leg.call_id))
            .bind(&session)
            .execute(&mut *transaction)
            .await
            .map_err(of_sqlx)?;
    }
    for delete in [
        "DELETE FROM recordings WHERE session_id = $1",
        "DELETE FROM route_exchanges WHERE session_id = $1",
    ] {
        let delete = sqlx::query(delete).bind(&session);
        delete.execute(&mut *transaction).await.map_err(of_sqlx)?;
    }
    let deleted = sqlx::query("DELETE FROM call_records WHERE id = $1").bind(record.id);
    let deleted = deleted.execute(&mut *transaction).await.map_err(of_sqlx)?;
    transaction.commit().await.map_err(of_sqlx)?;
    Ok(deleted.rows_affected() > 0)
}

/// What a column holds of a text that a peer chose: PostgreSQL has no NUL in text and no long keys in an
/// index. A long one keeps its start and gets a hash, so that it still is found by its whole. The
/// record itself is JSON and has everything.
pub(super) fn key(text: &str) -> String {
    const BYTES_MAX: usize = 255;
    const START_MAX: usize = BYTES_MAX - 1 - 64;
    let mut key = without_nul(text);
    if key.len() > BYTES_MAX {
        let hash = Sha256::digest(key.as_bytes());
        key.truncate(key.floor_char_boundary(START_MAX));
        key.push('#');
        for byte in hash {
            write!(key, "{byte:02x}").expect("text grows");
        }
    }
    key
}

pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

pub(super) fn read(row: &AnyRow) -> Result<CallRecord, StoreError> {
    let text = |column: &str| row.try_get::<&str, _>(column).map_err(of_sqlx);
    let cdr: Cdr = serde_json::from_str(text("cdr")?).map_err(odd_row)?;
    let recording = match row.try_get::<Option<&str>, _>("session_id").map_err(of_sqlx)? {
        Some(_) => Some(recordings::read(row)?),
        None => None,
    };
    Ok(CallRecord {
        id: row.try_get("id").map_err(of_sqlx)?,
        cdr,
        recording,
        tags: serde_json::from_str(text("tags")?).map_err(odd_row)?,
        note: row.try_get("note").map_err(of_sqlx)?,
    })
}

pub(super) const fn status_word(status: CallStatus) -> &'static str {
    match status {
        CallStatus::Completed => "completed",
        CallStatus::Failed => "failed",
        CallStatus::Missed => "missed",
    }
}
