//! Call records in SQL: batches in, pages and single records out.
//! Owns:  the columns that a search looks at; the record itself is the JSON beside them.
//! Gives: what `Store` promises about call records.
//! Never: text of a caller inside a statement; everything is bound.
//! Holds: a batch is one transaction.

use serde_json::Error as JsonError;
use shared::cdr::{CallStatus, Cdr};
use shared::ids::{CallId, Side};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::sqlite::{from_sql, now_ms, odd_row, of_sqlx, to_sql};
use super::{CallRecord, RecordPage, RecordSearch, RecordSort, StoreError, recordings};

/// Rows of one INSERT: 18 values each, below SQLite's 32 766 variables.
const ROWS_PER_STATEMENT: usize = 500;

const COLUMNS: &str = "c.id AS id, c.cdr AS cdr, r.session_id AS session_id, r.state AS state, \
     r.capture_path AS capture_path, r.path AS path, r.duration_ms AS duration_ms, \
     r.size AS size, r.packets_lost AS packets_lost, r.error AS error \
     FROM call_records c LEFT JOIN recordings r ON r.session_id = c.session_id";

pub(super) async fn add(pool: &SqlitePool, batch: &[Cdr]) -> Result<(), StoreError> {
    let refused = |error: JsonError| StoreError::Refused(error.to_string());
    let mut rows = Vec::with_capacity(batch.len());
    for cdr in batch {
        rows.push((cdr, serde_json::to_string(cdr).map_err(refused)?));
    }
    let created_at = now_ms();
    let mut transaction = pool.begin().await.map_err(of_sqlx)?;
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO call_records (session_id, call_id, direction, status, status_code, \
             started_at, ring_time, answer_time, ended_at, duration_ms, from_number, to_number, \
             caller_uri, callee_uri, sip_trunk, outbound_trunk, cdr, created_at) ",
        );
        insert.push_values(rows, |mut row, (cdr, json)| {
            row.push_bind(cdr.session_id.to_string())
                .push_bind(&cdr.call_id)
                .push_bind(cdr.direction.as_str())
                .push_bind(status_word(cdr.status))
                .push_bind(i64::from(cdr.status_code))
                .push_bind(cdr.start_time.0)
                .push_bind(cdr.ring_time.map(|at| at.0))
                .push_bind(cdr.answer_time.map(|at| at.0))
                .push_bind(cdr.end_time.0)
                .push_bind(to_sql(cdr.duration_ms))
                .push_bind(&cdr.caller)
                .push_bind(&cdr.callee)
                .push_bind(&cdr.caller_uri)
                .push_bind(&cdr.callee_uri)
                .push_bind(&cdr.sip_trunk)
                .push_bind(&cdr.outbound_trunk)
                .push_bind(json)
                .push_bind(created_at);
        });
        insert.push(" ON CONFLICT (session_id) DO NOTHING");
        insert.build().persistent(false).execute(&mut *transaction).await.map_err(of_sqlx)?;
    }
    add_legs(&mut transaction, batch).await?;
    transaction.commit().await.map_err(of_sqlx)
}

async fn add_legs(
    transaction: &mut sqlx::Transaction<'_, Sqlite>,
    batch: &[Cdr],
) -> Result<(), StoreError> {
    let legs: Vec<_> = batch
        .iter()
        .flat_map(|cdr| cdr.sip_leg_roles.iter().map(move |leg| (cdr.session_id, leg)))
        .collect();
    for legs in legs.chunks(ROWS_PER_STATEMENT) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT OR IGNORE INTO call_legs (call_id, session_id, role) ",
        );
        insert.push_values(legs, |mut row, (call, leg)| {
            let role = if leg.role == Side::Caller { "caller" } else { "callee" };
            row.push_bind(&leg.call_id).push_bind(call.to_string()).push_bind(role);
        });
        insert.build().persistent(false).execute(&mut **transaction).await.map_err(of_sqlx)?;
    }
    Ok(())
}

pub(super) async fn page(
    pool: &SqlitePool,
    search: &RecordSearch,
) -> Result<RecordPage, StoreError> {
    let mut count = QueryBuilder::<Sqlite>::new("SELECT count(*) FROM call_records c");
    push_filters(&mut count, search);
    let total: i64 = count.build_query_scalar().fetch_one(pool).await.map_err(of_sqlx)?;

    let mut select = QueryBuilder::<Sqlite>::new("SELECT ");
    select.push(COLUMNS);
    push_filters(&mut select, search);
    select.push(match search.sort {
        RecordSort::DurationAscending => " ORDER BY c.duration_ms, c.id",
        RecordSort::DurationDescending => " ORDER BY c.duration_ms DESC, c.id DESC",
        RecordSort::StartedAscending => " ORDER BY c.started_at, c.id",
        RecordSort::StartedDescending => " ORDER BY c.started_at DESC, c.id DESC",
    });
    let per_page = i64::from(search.per_page);
    let skip = i64::from(search.page.saturating_sub(1)) * per_page;
    select.push(" LIMIT ").push_bind(per_page).push(" OFFSET ").push_bind(skip);
    let rows = select.build().fetch_all(pool).await.map_err(of_sqlx)?;
    let records = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(RecordPage { total: from_sql(total), records })
}

/// A number, a session id or a Call-ID: tried in this order, since a Call-ID may look like either.
pub(super) async fn one(pool: &SqlitePool, id: &str) -> Result<Option<CallRecord>, StoreError> {
    if let Ok(number) = id.parse::<i64>() {
        let mut select = select_where("c.id = ");
        select.push_bind(number);
        if let Some(found) = newest(pool, select).await? {
            return Ok(Some(found));
        }
    }
    if id.len() == 32
        && let Ok(call) = id.parse::<CallId>()
    {
        let mut select = select_where("c.session_id = ");
        select.push_bind(call.to_string());
        if let Some(found) = newest(pool, select).await? {
            return Ok(Some(found));
        }
    }
    let mut select = select_where("c.call_id = ");
    select
        .push_bind(id)
        .push(" OR c.session_id IN (SELECT session_id FROM call_legs l WHERE l.call_id = ");
    select.push_bind(id).push(")");
    newest(pool, select).await
}

fn select_where(condition: &'static str) -> QueryBuilder<Sqlite> {
    let mut select = QueryBuilder::new("SELECT ");
    select.push(COLUMNS).push(" WHERE ").push(condition);
    select
}

async fn newest(
    pool: &SqlitePool,
    mut select: QueryBuilder<Sqlite>,
) -> Result<Option<CallRecord>, StoreError> {
    select.push(" ORDER BY c.started_at DESC, c.id DESC LIMIT 1");
    let row = select.build().fetch_optional(pool).await.map_err(of_sqlx)?;
    row.as_ref().map(read).transpose()
}

fn push_filters(query: &mut QueryBuilder<Sqlite>, search: &RecordSearch) {
    query.push(" WHERE 1 = 1");
    if let Some(status) = search.status {
        query.push(" AND c.status = ").push_bind(status_word(status));
    }
    if let Some(direction) = search.direction {
        query.push(" AND c.direction = ").push_bind(direction.as_str());
    }
    if let Some(from) = search.from {
        query.push(" AND c.started_at >= ").push_bind(from.0);
    }
    if let Some(until) = search.until {
        query.push(" AND c.started_at < ").push_bind(until.0);
    }
    if let Some(caller) = &search.caller {
        push_part_of(query.push(" AND "), &["c.from_number"], caller);
    }
    if let Some(callee) = &search.callee {
        push_part_of(query.push(" AND "), &["c.to_number"], callee);
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
        push_part_of(query.push(" AND "), &COLUMNS, text);
    }
}

/// `part` anywhere in one of the columns; its own wildcards mean themselves.
fn push_part_of(query: &mut QueryBuilder<Sqlite>, columns: &[&'static str], part: &str) {
    let mut pattern = String::from("%");
    for c in part.chars() {
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
        query.push(column).push(" LIKE ").push_bind(pattern.clone()).push(" ESCAPE '\\'");
    }
    query.push(")");
}

fn read(row: &SqliteRow) -> Result<CallRecord, StoreError> {
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
