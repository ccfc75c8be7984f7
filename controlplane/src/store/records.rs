//! Call records in SQL: batches in, pages and single records out.
//! Owns:  the columns that a search looks at; the record itself is the JSON beside them.
//! Gives: `Records`.
//! Never: text of a caller inside a statement; everything is bound.
//! Holds: a batch is one transaction; storing a record twice leaves one (its session id is unique).

use std::fmt::Write;

use serde_json::Error as JsonError;
use sha2::{Digest, Sha256};
use shared::cdr::{CallStatus, Cdr, Direction};
use shared::ids::{CallId, Side};
use shared::time::WallMs;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::db::{Connections, Kind, from_sql, now_ms, to_sql};
use super::error::{odd_row, of_sqlx};
use super::recordings::{self, Recording};
use super::statement::{ROWS_MAX, Statement};
use super::{Db, Pending, StoreError};

/// One row of `call_records` with its recording.
#[derive(Clone, Debug)]
pub struct CallRecord {
    pub id: i64,
    pub cdr: Cdr,
    pub recording: Option<Recording>,
}

#[derive(Clone, Debug, Default)]
pub struct RecordSearch {
    /// From 1.
    pub page: u32,
    pub per_page: u32,
    pub status: Option<CallStatus>,
    pub direction: Option<Direction>,
    /// Part of the caller's number.
    pub caller: Option<String>,
    pub callee: Option<String>,
    /// Part of a number, a URI, a Call-ID or the session id.
    pub text: Option<String>,
    /// Started at or after.
    pub from: Option<WallMs>,
    /// Started before.
    pub until: Option<WallMs>,
    pub sort: RecordSort,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordSort {
    DurationAscending,
    DurationDescending,
    StartedAscending,
    #[default]
    StartedDescending,
}

#[derive(Clone, Debug)]
pub struct RecordPage {
    pub total: u64,
    pub records: Vec<CallRecord>,
}

pub trait Records: Connections {
    /// All of them or none, in one transaction. Those that are there already stay as they are.
    fn add_cdrs<'a>(&'a self, batch: &'a [Cdr]) -> Pending<'a, ()> {
        Box::pin(add(self.db(), batch))
    }

    /// One page, with the total over all pages.
    fn records<'a>(&'a self, search: &'a RecordSearch) -> Pending<'a, RecordPage> {
        Box::pin(page(self.db(), search))
    }

    /// By number, session id, or the SIP Call-ID of any leg (the newest call that had it).
    fn record<'a>(&'a self, id: &'a str) -> Pending<'a, Option<CallRecord>> {
        Box::pin(one(self.db(), id))
    }
}

impl Records for Db {}

const COLUMNS: &str = "c.id AS id, c.cdr AS cdr, r.session_id AS session_id, r.state AS state, \
     r.capture_path AS capture_path, r.path AS path, r.duration_ms AS duration_ms, \
     r.size AS size, r.packets_lost AS packets_lost, r.error AS error \
     FROM call_records c LEFT JOIN recordings r ON r.session_id = c.session_id";

async fn add(db: &Db, batch: &[Cdr]) -> Result<(), StoreError> {
    let mut transaction = db.begin().await?;
    insert(&mut transaction, batch).await?;
    transaction.commit().await.map_err(of_sqlx)
}

/// The one place where records come into being: what follows from a record is written here, too, in the
/// same transaction.
pub(super) async fn insert(
    transaction: &mut Transaction<'_, Any>,
    batch: &[Cdr],
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
        insert.query().execute(&mut **transaction).await.map_err(of_sqlx)?;
    }
    insert_legs(transaction, batch).await
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
        insert.query().execute(&mut **transaction).await.map_err(of_sqlx)?;
    }
    Ok(())
}

async fn page(db: &Db, search: &RecordSearch) -> Result<RecordPage, StoreError> {
    let mut count = Statement::new("SELECT count(*) FROM call_records c");
    push_filters(&mut count, search, db.kind());
    let count = count.query().fetch_one(db.readers()).await.map_err(of_sqlx)?;
    let total: i64 = count.try_get(0).map_err(of_sqlx)?;

    let mut select = Statement::new("SELECT ");
    push_filters(select.push(COLUMNS), search, db.kind());
    select.push(match search.sort {
        RecordSort::DurationAscending => " ORDER BY c.duration_ms, c.id",
        RecordSort::DurationDescending => " ORDER BY c.duration_ms DESC, c.id DESC",
        RecordSort::StartedAscending => " ORDER BY c.started_at, c.id",
        RecordSort::StartedDescending => " ORDER BY c.started_at DESC, c.id DESC",
    });
    let per_page = i64::from(search.per_page);
    let skip = i64::from(search.page.saturating_sub(1)) * per_page;
    select.push(" LIMIT ").bind(per_page).push(" OFFSET ").bind(skip);
    let rows = select.query().fetch_all(db.readers()).await.map_err(of_sqlx)?;
    let records = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(RecordPage { total: from_sql(total), records })
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
    select.push(COLUMNS).push(" WHERE ").push(condition);
    select
}

async fn newest(db: &Db, mut select: Statement) -> Result<Option<CallRecord>, StoreError> {
    select.push(" ORDER BY c.started_at DESC, c.id DESC LIMIT 1");
    let row = select.query().fetch_optional(db.readers()).await.map_err(of_sqlx)?;
    row.as_ref().map(read).transpose()
}

fn push_filters(query: &mut Statement, search: &RecordSearch, kind: Kind) {
    query.push(" WHERE 1 = 1");
    if let Some(status) = search.status {
        query.push(" AND c.status = ").bind(status_word(status));
    }
    if let Some(direction) = search.direction {
        query.push(" AND c.direction = ").bind(direction.as_str());
    }
    if let Some(from) = search.from {
        query.push(" AND c.started_at >= ").bind(from.0);
    }
    if let Some(until) = search.until {
        query.push(" AND c.started_at < ").bind(until.0);
    }
    if let Some(caller) = &search.caller {
        push_part_of(query.push(" AND "), &["c.from_number"], caller, kind);
    }
    if let Some(callee) = &search.callee {
        push_part_of(query.push(" AND "), &["c.to_number"], callee, kind);
    }
    if let Some(text) = &search.text {
        const COLUMNS: [&str; 6] = [
            "c.from_number",
            "c.to_number",
            "c.call_id",
            "c.session_id",
            "c.caller_uri",
            "c.callee_uri",
        ];
        push_part_of(query.push(" AND "), &COLUMNS, text, kind);
    }
}

/// `part` anywhere in one of the columns, in capitals or not; its own wildcards mean themselves.
fn push_part_of(query: &mut Statement, columns: &[&'static str], part: &str, kind: Kind) {
    let like = match kind {
        Kind::Postgres => " ILIKE ",
        Kind::Sqlite => " LIKE ",
    };
    let mut pattern = String::from("%");
    for c in part.replace('\0', "\u{fffd}").chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    query.push("(");
    for (place, column) in columns.iter().enumerate() {
        if place > 0 {
            query.push(" OR ");
        }
        query.push(column).push(like).bind(&*pattern).push(" ESCAPE '\\'");
    }
    query.push(")");
}

/// What a column holds of a text that a peer chose: PostgreSQL has no NUL in text and no long keys in an
/// index. A long one keeps its start and gets a hash, so that it still is found by its whole. The
/// record itself is JSON and has everything.
fn key(text: &str) -> String {
    const BYTES_MAX: usize = 255;
    const START_MAX: usize = BYTES_MAX - 1 - 64;
    let mut key = text.replace('\0', "\u{fffd}");
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

fn read(row: &AnyRow) -> Result<CallRecord, StoreError> {
    let json: &str = row.try_get("cdr").map_err(of_sqlx)?;
    let cdr: Cdr = serde_json::from_str(json).map_err(odd_row)?;
    let recording = match row.try_get::<Option<&str>, _>("session_id").map_err(of_sqlx)? {
        Some(_) => Some(recordings::read(row)?),
        None => None,
    };
    Ok(CallRecord { id: row.try_get("id").map_err(of_sqlx)?, cdr, recording })
}

const fn status_word(status: CallStatus) -> &'static str {
    match status {
        CallStatus::Completed => "completed",
        CallStatus::Failed => "failed",
        CallStatus::Missed => "missed",
    }
}
