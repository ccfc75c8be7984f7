//! The outbox as operators see it: lists, one delivery with its attempts, another try.
//! Owns:  the filters and the order of the list.
//! Gives: `OutboxList`.
//! Never: an offset: pages go on from the last id, so that a long list costs no more than a short one.
//! Holds: what is replayed starts over with ten attempts and the same event id.

use shared::time::WallMs;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::db::{Connections, from_sql, now_ms};
use super::error::{odd_row, of_sqlx};
use super::outbox::Tried;
use super::records;
use super::statement::Statement;
use super::{Db, Pending, StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    Dead,
    Delivered,
    Pending,
}

impl DeliveryState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Delivered => "delivered",
            Self::Pending => "pending",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Dead, Self::Delivered, Self::Pending].into_iter().find(|it| it.as_str() == text)
    }
}

#[derive(Clone, Debug, Default)]
pub struct DeliverySearch {
    pub endpoint: Option<String>,
    pub state: Option<DeliveryState>,
    /// A call's session id, or an AOR.
    pub key: Option<String>,
    /// Ids below this one; the list is newest first.
    pub before: Option<i64>,
    pub limit: u32,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: i64,
    pub event_id: String,
    pub endpoint: String,
    pub key: String,
    pub kind: String,
    pub payload: String,
    pub state: DeliveryState,
    pub attempts: u32,
    pub created_at: WallMs,
    pub due_at: WallMs,
    pub finished_at: Option<WallMs>,
    pub last_error: Option<String>,
}

/// Attempts of one delivery that are shown, the newest ones.
const ATTEMPTS_MAX: i64 = 100;
/// Dead rows that one request brings back.
const REPLAY_MAX: i64 = 10_000;

pub trait OutboxList: Connections {
    fn deliveries<'a>(&'a self, search: &'a DeliverySearch) -> Pending<'a, Vec<Delivery>> {
        Box::pin(page(self.db(), search))
    }

    /// With its attempts, oldest first.
    fn delivery(&self, id: i64) -> Pending<'_, Option<(Delivery, Vec<Tried>)>> {
        Box::pin(one(self.db(), id))
    }

    /// False when there is no such delivery, or it is pending already.
    fn replay(&self, id: i64) -> Pending<'_, bool> {
        Box::pin(replay(self.db(), id))
    }

    /// Everything that was given up since then, the oldest first, at most ten thousand; how many.
    fn replay_dead<'a>(&'a self, endpoint: &'a str, since: WallMs) -> Pending<'a, u64> {
        Box::pin(replay_dead(self.db(), endpoint, since))
    }
}

impl OutboxList for Db {}

const COLUMNS: &str = "id, event_id, endpoint, order_key, kind, payload, state, attempts, \
     created_at, due_at, finished_at, last_error FROM outbox WHERE ";

async fn page(db: &Db, search: &DeliverySearch) -> Result<Vec<Delivery>, StoreError> {
    let mut select = Statement::new("SELECT ");
    select.push(COLUMNS).push("id < ").bind(search.before.unwrap_or(i64::MAX));
    if let Some(endpoint) = &search.endpoint {
        select.push(" AND endpoint = ").bind(endpoint.as_str());
    }
    if let Some(state) = search.state {
        select.push(" AND state = ").bind(state.as_str());
    }
    if let Some(key) = &search.key {
        select.push(" AND order_key = ").bind(records::key(key));
    }
    select.push(" ORDER BY id DESC LIMIT ").bind(i64::from(search.limit));
    let rows = select.query().fetch_all(db.readers()).await.map_err(of_sqlx)?;
    rows.iter().map(read).collect()
}

async fn one(db: &Db, id: i64) -> Result<Option<(Delivery, Vec<Tried>)>, StoreError> {
    let mut select = Statement::new("SELECT ");
    select.push(COLUMNS).push("id = ").bind(id);
    let row = select.query().fetch_optional(db.readers()).await.map_err(of_sqlx)?;
    let Some(row) = row else { return Ok(None) };
    let delivery = read(&row)?;
    let rows = sqlx::query(
        "SELECT started_at, took_ms, status, error, answer FROM outbox_attempts WHERE outbox_id = $1 \
         ORDER BY id DESC LIMIT $2",
    )
    .bind(id)
    .bind(ATTEMPTS_MAX)
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    let attempts = rows.iter().rev().map(read_attempt).collect::<Result<_, _>>()?;
    Ok(Some((delivery, attempts)))
}

async fn replay(db: &Db, id: i64) -> Result<bool, StoreError> {
    let now = now_ms();
    let done = sqlx::query(
        "UPDATE outbox SET state = 'pending', attempts = 0, queued_at = $1, due_at = $1, \
         finished_at = NULL WHERE id = $2 AND state <> 'pending'",
    )
    .bind(now)
    .bind(id)
    .execute(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(done.rows_affected() > 0)
}

async fn replay_dead(db: &Db, endpoint: &str, since: WallMs) -> Result<u64, StoreError> {
    let now = now_ms();
    let done = sqlx::query(
        "UPDATE outbox SET state = 'pending', attempts = 0, queued_at = $1, due_at = $1, \
         finished_at = NULL WHERE id IN (SELECT id FROM outbox WHERE endpoint = $2 \
         AND state = 'dead' AND finished_at >= $3 ORDER BY id LIMIT $4)",
    )
    .bind(now)
    .bind(endpoint)
    .bind(since.0)
    .bind(REPLAY_MAX)
    .execute(db.writer())
    .await
    .map_err(of_sqlx)?;
    Ok(done.rows_affected())
}

fn read(row: &AnyRow) -> Result<Delivery, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(of_sqlx);
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(of_sqlx);
    let state = text("state")?;
    Ok(Delivery {
        id: number("id")?,
        event_id: text("event_id")?,
        endpoint: text("endpoint")?,
        key: text("order_key")?,
        kind: text("kind")?,
        payload: text("payload")?,
        state: DeliveryState::parse(&state).ok_or_else(|| odd_row(state))?,
        attempts: u32::try_from(number("attempts")?).map_err(odd_row)?,
        created_at: WallMs(number("created_at")?),
        due_at: WallMs(number("due_at")?),
        finished_at: row.try_get::<Option<i64>, _>("finished_at").map_err(of_sqlx)?.map(WallMs),
        last_error: row.try_get("last_error").map_err(of_sqlx)?,
    })
}

fn read_attempt(row: &AnyRow) -> Result<Tried, StoreError> {
    let status: Option<i64> = row.try_get("status").map_err(of_sqlx)?;
    Ok(Tried {
        at: WallMs(row.try_get("started_at").map_err(of_sqlx)?),
        took_ms: from_sql(row.try_get("took_ms").map_err(of_sqlx)?),
        status: status.map(u16::try_from).transpose().map_err(odd_row)?,
        error: row.try_get("error").map_err(of_sqlx)?,
        answer: row.try_get("answer").map_err(of_sqlx)?,
    })
}
