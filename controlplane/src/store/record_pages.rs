//! Pages of call records: by number for the older prefixes, by key for `/api/v1` and the export.
//! Owns:  the order of records and what a page may cost.
//! Gives: `page` with an exact total, `slice` with an estimate.
//! Never: a walk through the whole table for one slice: it looks at `walk_max` records at most, gives
//!        what it found and the mark from which the next one goes on.
//! Holds: slices that follow each other's marks show every record once, also while others are added.

use std::time::{Duration, Instant};

use sqlx::Row;
use sqlx::any::AnyRow;

use super::db::{Kind, from_sql, to_sql};
use super::error::of_sqlx;
use super::record_filters::{RARE_MAX, Rare, RecordFilter};
use super::records::{CallRecord, RECORD_COLUMNS, RECORDING_JOIN, read};
use super::statement::Statement;
use super::{Db, StoreError};

/// Records that one slice looks at when no index answers the question: about 50 ms.
const WALK_MAX: u32 = 50_000;
/// The same when each is searched for a text in six columns, at four times the cost.
const WALK_TEXT_MAX: u32 = 20_000;
/// A count that took so long is remembered for a while,
const DEAR: Duration = Duration::from_millis(50);
/// in a table of so many records.
const LARGE: i64 = 100_000;
/// The newest records, from which the share that fits is estimated.
const SAMPLE: i64 = 2_000;

/// What a filter looks at.
const FILTER_COLUMNS: &str = "c.id, c.started_at, c.status, c.direction, c.status_code, c.duration_ms, \
     c.from_number, c.to_number, c.sip_trunk, c.outbound_trunk, c.session_id, c.call_id, c.caller_uri, \
     c.callee_uri, c.tags";

/// A page of the older prefixes.
#[derive(Clone, Debug, Default)]
pub struct RecordSearch {
    /// From 1.
    pub page: u32,
    pub per_page: u32,
    pub filter: RecordFilter,
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

/// Records after (or before) a mark.
#[derive(Clone, Debug)]
pub struct SliceSearch {
    pub filter: RecordFilter,
    pub sort: RecordSort,
    pub limit: u32,
    /// None: from the start.
    pub mark: Option<Mark>,
    /// Whether somebody wants to know how many there are.
    pub with_total: bool,
    /// How many records it may look at when no index answers the question.
    pub walk_max: u32,
}

impl Default for SliceSearch {
    fn default() -> Self {
        Self {
            filter: RecordFilter::default(),
            sort: RecordSort::default(),
            limit: 0,
            mark: None,
            with_total: false,
            walk_max: WALK_MAX,
        }
    }
}

/// A place in the order of records, beside one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The value that the order goes by.
    pub key: i64,
    pub id: i64,
    /// Towards the start of the list.
    pub backwards: bool,
}

#[derive(Clone, Debug)]
pub struct RecordSlice {
    pub records: Vec<CallRecord>,
    /// None: there is nothing after it. With a mark a slice may be shorter than its limit, even empty.
    pub next: Option<Mark>,
    pub previous: Option<Mark>,
    /// Exact when everything that fits is in this slice.
    pub total_estimate: Option<u64>,
}

impl RecordSort {
    const fn column(self) -> &'static str {
        match self {
            Self::DurationAscending | Self::DurationDescending => "c.duration_ms",
            Self::StartedAscending | Self::StartedDescending => "c.started_at",
        }
    }

    const fn index(self) -> &'static str {
        match self {
            Self::DurationAscending | Self::DurationDescending => "call_records_by_duration",
            Self::StartedAscending | Self::StartedDescending => "call_records_by_start",
        }
    }

    const fn is_descending(self) -> bool {
        matches!(self, Self::DurationDescending | Self::StartedDescending)
    }

    fn mark(self, record: &CallRecord, backwards: bool) -> Mark {
        let key = match self {
            Self::DurationAscending | Self::DurationDescending => to_sql(record.cdr.duration_ms),
            Self::StartedAscending | Self::StartedDescending => record.cdr.start_time.0,
        };
        Mark { key, id: record.id, backwards }
    }
}

pub(super) async fn page(db: &Db, search: &RecordSearch) -> Result<RecordPage, StoreError> {
    let total = exact_total(db, &search.filter).await?;

    // Rows that are skipped are counted in the index alone.
    let mut select = Statement::new("SELECT ");
    select.push(RECORD_COLUMNS).push(" FROM (SELECT c.id AS id FROM call_records c WHERE 1 = 1");
    search.filter.push(&mut select, db.kind());
    push_order(&mut select, search.sort, search.sort.is_descending());
    let per_page = i64::from(search.per_page);
    let skip = i64::from(search.page.saturating_sub(1)) * per_page;
    select.push(" LIMIT ").bind(per_page).push(" OFFSET ").bind(skip);
    select.push(") k CROSS JOIN call_records c").push(RECORDING_JOIN).push(" WHERE c.id = k.id");
    push_order(&mut select, search.sort, search.sort.is_descending());
    Ok(RecordPage { total, records: records(db, select).await? })
}

/// Clients of the older prefixes turn pages by number, so they are told how many there are.
async fn exact_total(db: &Db, filter: &RecordFilter) -> Result<u64, StoreError> {
    let (question, started) = (format!("{filter:?}"), Instant::now());
    if let Some(total) = db.totals().get(&question, started) {
        return Ok(total);
    }
    let mut count = Statement::new("SELECT count(*) FROM call_records c WHERE 1 = 1");
    filter.push(&mut count, db.kind());
    let total = from_sql(number(db, count).await?.unwrap_or(0));
    let took = started.elapsed();
    if took >= DEAR {
        // A small table is counted each time, however busy the host.
        let newest = number(db, Statement::new("SELECT max(id) FROM call_records")).await?;
        if newest.is_some_and(|id| id >= LARGE) {
            db.totals().keep(question, total, took, Instant::now());
        }
    }
    Ok(total)
}

pub(super) async fn slice(db: &Db, search: &SliceSearch) -> Result<RecordSlice, StoreError> {
    let SliceSearch { filter, sort, limit, mark, with_total, .. } = search;
    let backwards = mark.is_some_and(|mark| mark.backwards);
    let descending = sort.is_descending() != backwards;
    let rare = rare(db, filter).await?;
    let walks = rare.is_none() && filter.is_selective();
    let horizon = if walks { horizon(db, search, descending).await? } else { None };

    let mut select = Statement::new("SELECT ");
    select.push(RECORD_COLUMNS).push(" FROM ");
    push_source(&mut select, rare, search, db.kind());
    filter.push(&mut select, db.kind());
    if let Some(mark) = mark {
        push_beyond(&mut select, *sort, descending, *mark);
    }
    if let Some(horizon) = horizon {
        // Not further than the horizon: what is not beyond it.
        push_within(&mut select, *sort, descending, horizon);
    }
    push_order(&mut select, *sort, descending);
    select.push(" LIMIT ").bind(i64::from(*limit) + 1);
    let mut found = records(db, select).await?;

    let more = found.len() > *limit as usize;
    found.truncate(*limit as usize);
    let ahead = match (more, found.last(), horizon) {
        (true, Some(last), _) => Some(sort.mark(last, backwards)),
        (_, _, Some(horizon)) => Some(Mark { backwards, ..horizon }),
        _ => None,
    };
    // The way back starts at the first of them, or where nothing was found.
    let behind = mark.map(|mark| match found.first() {
        Some(first) => sort.mark(first, !backwards),
        None => Mark { backwards: !backwards, ..mark },
    });
    let total_estimate = match (&ahead, &behind) {
        (None, None) => Some(found.len() as u64),
        _ if *with_total => {
            let least = found.len() as u64 + u64::from(more);
            Some(total(db, filter, rare).await?.max(least))
        }
        _ => None,
    };
    let (next, previous) = if backwards { (behind, ahead) } else { (ahead, behind) };
    if backwards {
        found.reverse();
    }
    Ok(RecordSlice { records: found, next, previous, total_estimate })
}

/// The first question that an index answers with few ids.
async fn rare(db: &Db, filter: &RecordFilter) -> Result<Option<Rare>, StoreError> {
    for rare in filter.rare() {
        let mut count = Statement::new("SELECT count(*) FROM (");
        filter.push_rare(rare, &mut count);
        count.push(") k");
        if number(db, count).await?.is_some_and(|count| count <= RARE_MAX) {
            return Ok(Some(rare));
        }
    }
    Ok(None)
}

/// Where a walk that may find little has to stop. None: the end comes first.
async fn horizon(
    db: &Db,
    search: &SliceSearch,
    descending: bool,
) -> Result<Option<Mark>, StoreError> {
    let mut select = Statement::new("SELECT ");
    select.push(search.sort.column()).push(" AS k, c.id AS id FROM call_records c");
    push_index(&mut select, search.sort, db.kind());
    select.push(" WHERE 1 = 1");
    search.filter.push_times(&mut select);
    if let Some(mark) = search.mark {
        push_beyond(&mut select, search.sort, descending, mark);
    }
    push_order(&mut select, search.sort, descending);
    let most = if search.filter.text.is_some() { WALK_TEXT_MAX } else { WALK_MAX };
    select.push(" LIMIT 1 OFFSET ").bind(i64::from(search.walk_max.min(most)) - 1);
    let row = select.query().fetch_optional(db.readers()).await.map_err(of_sqlx)?;
    let mark = |row: AnyRow| {
        let number = |column: &str| row.try_get::<i64, _>(column).map_err(of_sqlx);
        Ok(Mark { key: number("k")?, id: number("id")?, backwards: false })
    };
    row.map(mark).transpose()
}

/// How many records fit, more or less.
async fn total(db: &Db, filter: &RecordFilter, rare: Option<Rare>) -> Result<u64, StoreError> {
    if let Some(rare) = rare {
        let mut count = Statement::new("SELECT count(*) FROM (");
        filter.push_rare(rare, &mut count);
        count.push(") k CROSS JOIN call_records c WHERE c.id = k.id");
        filter.push(&mut count, db.kind());
        return Ok(from_sql(number(db, count).await?.unwrap_or(0)));
    }
    // Ids grow with time and few are missing: their distance is a count.
    let mut edges = [0, 0];
    for (edge, descending) in edges.iter_mut().zip([false, true]) {
        let mut select = Statement::new("SELECT c.id FROM call_records c WHERE 1 = 1");
        filter.push_times(&mut select);
        push_order(&mut select, RecordSort::StartedDescending, descending);
        select.push(" LIMIT 1");
        match number(db, select).await? {
            Some(id) => *edge = id,
            None => return Ok(0),
        }
    }
    let all = from_sql(edges[1].saturating_sub(edges[0]).saturating_add(1));
    if !filter.is_selective() {
        return Ok(all);
    }
    let mut sample = Statement::new("SELECT count(*) FROM (SELECT ");
    sample.push(FILTER_COLUMNS).push(" FROM call_records c WHERE 1 = 1");
    filter.push_times(&mut sample);
    push_order(&mut sample, RecordSort::StartedDescending, true);
    sample.push(" LIMIT ").bind(SAMPLE).push(") c WHERE 1 = 1");
    filter.push(&mut sample, db.kind());
    let fits = from_sql(number(db, sample).await?.unwrap_or(0));
    Ok(all.saturating_mul(fits) / from_sql(SAMPLE).min(all.max(1)))
}

fn push_source(query: &mut Statement, rare: Option<Rare>, search: &SliceSearch, kind: Kind) {
    match rare {
        Some(rare) => {
            search.filter.push_rare(rare, query.push("("));
            query.push(") k CROSS JOIN call_records c");
        }
        None => {
            query.push("call_records c");
            push_index(query, search.sort, kind);
        }
    }
    query.push(RECORDING_JOIN);
    query.push(if rare.is_some() { " WHERE c.id = k.id" } else { " WHERE 1 = 1" });
}

/// SQLite would rather take the index of an equality and sort all that it finds. PostgreSQL knows how
/// much that is.
fn push_index(query: &mut Statement, sort: RecordSort, kind: Kind) {
    if kind == Kind::Sqlite {
        query.push(" INDEXED BY ").push(sort.index());
    }
}

fn push_beyond(query: &mut Statement, sort: RecordSort, descending: bool, mark: Mark) {
    let than = if descending { ", c.id) < (" } else { ", c.id) > (" };
    push_bound(query, sort, than, mark);
}

fn push_within(query: &mut Statement, sort: RecordSort, descending: bool, mark: Mark) {
    let than = if descending { ", c.id) >= (" } else { ", c.id) <= (" };
    push_bound(query, sort, than, mark);
}

fn push_bound(query: &mut Statement, sort: RecordSort, than: &'static str, mark: Mark) {
    query.push(" AND (").push(sort.column()).push(than).bind(mark.key).push(", ");
    query.bind(mark.id).push(")");
}

fn push_order(query: &mut Statement, sort: RecordSort, descending: bool) {
    query.push(" ORDER BY ").push(sort.column());
    query.push(if descending { " DESC, c.id DESC" } else { ", c.id" });
}

async fn number(db: &Db, query: Statement) -> Result<Option<i64>, StoreError> {
    let row = query.query().fetch_optional(db.readers()).await.map_err(of_sqlx)?;
    row.map(|row| row.try_get(0).map_err(of_sqlx)).transpose()
}

async fn records(db: &Db, query: Statement) -> Result<Vec<CallRecord>, StoreError> {
    let rows = query.query().fetch_all(db.readers()).await.map_err(of_sqlx)?;
    rows.iter().map(read).collect()
}
