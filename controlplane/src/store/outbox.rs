//! Events on their way to somebody outside: the rows of the outbox and what became of each attempt.
//! Owns:  the tables `outbox`, `outbox_attempts`, `outbox_endpoints` as the delivery sees them.
//! Gives: `Outbox`: add, read what is due, write outcomes, sweep; the API's questions: `outbox_list`.
//! Never: a payload in an error; a row that goes before it was delivered or given up.
//! Holds: one endpoint gets one event once, however often it is added (its event id is unique there).

use serde::{Deserialize, Serialize};
use shared::time::WallMs;
use sqlx::any::AnyRow;
use sqlx::{Any, Row, Transaction};

use super::db::{Connections, now_ms};
use super::error::{odd_row, of_sqlx};
use super::records::key;
use super::statement::{ROWS_MAX, Statement};
use super::{Db, Pending, StoreError};

/// An event for one endpoint, before it has a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvent {
    /// `webhook-id`; the same event added again is left out.
    pub event_id: String,
    pub endpoint: String,
    /// Events of one key are delivered in order: a call's session id, an AOR.
    pub key: String,
    pub kind: String,
    pub payload: String,
}

/// A row that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub id: i64,
    pub event_id: String,
    pub key: String,
    pub kind: String,
    pub payload: String,
    pub attempts: u32,
    /// When it was added, or asked for again.
    pub queued_at: WallMs,
    /// The pending row of its key that comes right before it.
    pub after: Option<i64>,
}

impl Waiting {
    /// No older row of its key is pending.
    pub const fn is_head(&self) -> bool {
        self.after.is_none()
    }
}

#[derive(Clone, Debug, Default)]
pub struct Due {
    /// The ones that have been due longest first; of one key in order.
    pub rows: Vec<Waiting>,
    /// How many were asked for.
    pub limit: usize,
    /// When the next row becomes due that is not yet.
    pub next_due: Option<WallMs>,
}

/// One attempt, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    pub at: WallMs,
    pub took_ms: u64,
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<String>,
    /// The beginning of an answer that was no success.
    pub answer: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Dead,
    Delivered,
    DueAt(WallMs),
    /// The same, but the attempt does not count: its endpoint was down.
    Spared(WallMs),
}

/// Something to write down about an endpoint's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    Attempt {
        id: i64,
        key: String,
        tried: Tried,
        next: Next,
    },
    /// Rows of the key that are due before its first one wait for that.
    Behind {
        key: String,
    },
    Disable {
        reason: &'static str,
    },
    /// Not ready to be sent; no attempt was made.
    Later {
        id: i64,
        key: String,
        until: WallMs,
    },
}

impl Settlement {
    pub const fn id(&self) -> Option<i64> {
        match self {
            Self::Attempt { id, .. } | Self::Later { id, .. } => Some(*id),
            Self::Behind { .. } | Self::Disable { .. } => None,
        }
    }

    /// Rows may be due after it that were not before.
    pub const fn frees_others(&self) -> bool {
        matches!(self, Self::Behind { .. })
    }
}

/// What stands at one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    pub pending: u64,
    pub dead: u64,
    pub oldest_pending: Option<WallMs>,
}

/// Whether an endpoint gets anything, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointState {
    pub name: String,
    pub enabled: bool,
    pub reason: Option<String>,
    pub changed_at: WallMs,
    /// Fingerprint of the URL that this is about: another URL starts enabled.
    pub target: String,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Given up because of their age.
    pub expired: u64,
    /// Of the kind of row of which most were removed.
    pub removed: u64,
}

/// What a sweep keeps.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Pending rows that were queued before are given up.
    pub pending_since: WallMs,
    pub delivered_since: WallMs,
    pub dead_since: WallMs,
    /// Delivered rows of one endpoint at most.
    pub delivered_max: u32,
    /// Rows that one sweep touches at most.
    pub rows_max: u32,
}

pub trait Outbox: Connections {
    /// All of them or none. Those that are there already stay as they are.
    fn add_events<'a>(&'a self, events: &'a [NewEvent]) -> Pending<'a, ()> {
        Box::pin(async {
            let mut transaction = self.db().begin().await?;
            add(&mut transaction, events).await?;
            transaction.commit().await.map_err(of_sqlx)
        })
    }

    fn due<'a>(&'a self, endpoint: &'a str, now: WallMs, limit: usize) -> Pending<'a, Due> {
        Box::pin(due(self.db(), endpoint, now, limit))
    }

    /// In the order of the list, in one transaction.
    fn settle<'a>(
        &'a self,
        endpoint: &'a str,
        outcomes: &'a [Settlement],
        target: &'a str,
    ) -> Pending<'a, ()> {
        Box::pin(settle(self.db(), endpoint, outcomes, target))
    }

    fn backlog<'a>(&'a self, endpoint: &'a str) -> Pending<'a, Backlog> {
        Box::pin(backlog(self.db(), endpoint))
    }

    fn endpoint_state<'a>(&'a self, endpoint: &'a str) -> Pending<'a, Option<EndpointState>> {
        Box::pin(endpoint_state(self.db(), endpoint))
    }

    fn put_endpoint_state<'a>(&'a self, state: &'a EndpointState) -> Pending<'a, ()> {
        Box::pin(async {
            let mut transaction = self.db().begin().await?;
            put_state(&mut transaction, state).await?;
            transaction.commit().await.map_err(of_sqlx)
        })
    }

    /// A piece of the work; whoever calls comes back while something was removed.
    fn sweep<'a>(&'a self, endpoint: &'a str, keep: Keep) -> Pending<'a, Swept> {
        Box::pin(sweep(self.db(), endpoint, keep))
    }
}

impl Outbox for Db {}

/// Into a transaction of the caller's, so that an event is there exactly when what it reports is.
pub(super) async fn add(
    transaction: &mut Transaction<'_, Any>,
    events: &[NewEvent],
) -> Result<(), StoreError> {
    let now = now_ms();
    for events in events.chunks(ROWS_MAX) {
        let mut insert = Statement::new(
            "INSERT INTO outbox (event_id, endpoint, order_key, kind, payload, created_at, \
             queued_at, due_at) VALUES ",
        );
        insert.rows(events, |row, event| {
            row.bind(&*event.event_id)
                .bind(&*event.endpoint)
                .bind(key(&event.key))
                .bind(&*event.kind)
                .bind(&*event.payload)
                .bind(now)
                .bind(now)
                .bind(now);
        });
        insert.push(" ON CONFLICT (endpoint, event_id) DO NOTHING");
        insert.query_on(transaction).execute(&mut **transaction).await.map_err(of_sqlx)?;
    }
    Ok(())
}

async fn due(db: &Db, endpoint: &str, now: WallMs, limit: usize) -> Result<Due, StoreError> {
    let rows = sqlx::query(
        "SELECT o.id AS id, o.event_id AS event_id, o.order_key AS order_key, o.kind AS kind, \
         o.payload AS payload, o.attempts AS attempts, o.queued_at AS queued_at, \
         (SELECT max(p.id) FROM outbox p WHERE p.endpoint = o.endpoint \
         AND p.order_key = o.order_key AND p.state = 'pending' AND p.id < o.id) AS after_id \
         FROM outbox o WHERE o.endpoint = $1 AND o.state = 'pending' AND o.due_at <= $2 \
         ORDER BY o.due_at, o.id LIMIT $3",
    )
    .bind(endpoint)
    .bind(now.0)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db.readers())
    .await
    .map_err(of_sqlx)?;
    let rows = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let next = sqlx::query(
        "SELECT min(due_at) AS due_at FROM outbox WHERE endpoint = $1 AND state = 'pending' \
         AND due_at > $2",
    )
    .bind(endpoint)
    .bind(now.0)
    .fetch_one(db.readers())
    .await
    .map_err(of_sqlx)?;
    let next: Option<i64> = next.try_get("due_at").map_err(of_sqlx)?;
    Ok(Due { rows, limit, next_due: next.map(WallMs) })
}

fn read(row: &AnyRow) -> Result<Waiting, StoreError> {
    let text = |column: &str| row.try_get::<String, _>(column).map_err(of_sqlx);
    let number = |column: &str| row.try_get::<i64, _>(column).map_err(of_sqlx);
    Ok(Waiting {
        id: number("id")?,
        event_id: text("event_id")?,
        key: text("order_key")?,
        kind: text("kind")?,
        payload: text("payload")?,
        attempts: u32::try_from(number("attempts")?).map_err(odd_row)?,
        queued_at: WallMs(number("queued_at")?),
        after: row.try_get("after_id").map_err(of_sqlx)?,
    })
}

async fn settle(
    db: &Db,
    endpoint: &str,
    outcomes: &[Settlement],
    target: &str,
) -> Result<(), StoreError> {
    let mut transaction = db.begin().await?;
    for outcome in outcomes {
        match outcome {
            Settlement::Attempt { id, key, tried, next } => {
                log(&mut transaction, *id, tried).await?;
                finish(&mut transaction, *id, tried, *next).await?;
                if let Next::DueAt(at) | Next::Spared(at) = next {
                    push_back(&mut transaction, endpoint, key, *at).await?;
                }
            }
            Settlement::Behind { key } => {
                if let Some(at) = head_due(&mut transaction, endpoint, key).await? {
                    push_back(&mut transaction, endpoint, key, at).await?;
                }
            }
            Settlement::Disable { reason } => {
                let state = EndpointState {
                    name: endpoint.to_owned(),
                    enabled: false,
                    reason: Some((*reason).to_owned()),
                    changed_at: WallMs(now_ms()),
                    target: target.to_owned(),
                };
                put_state(&mut transaction, &state).await?;
            }
            Settlement::Later { id, key, until } => {
                sqlx::query("UPDATE outbox SET due_at = $1 WHERE id = $2 AND state = 'pending'")
                    .bind(until.0)
                    .bind(*id)
                    .execute(&mut *transaction)
                    .await
                    .map_err(of_sqlx)?;
                push_back(&mut transaction, endpoint, key, *until).await?;
            }
        }
    }
    transaction.commit().await.map_err(of_sqlx)
}

async fn log(
    transaction: &mut Transaction<'_, Any>,
    id: i64,
    tried: &Tried,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO outbox_attempts (outbox_id, started_at, took_ms, status, error, answer) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(id)
    .bind(tried.at.0)
    .bind(super::db::to_sql(tried.took_ms))
    .bind(tried.status.map(i64::from))
    .bind(tried.error.as_deref())
    .bind(tried.answer.as_deref())
    .execute(&mut **transaction)
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

async fn finish(
    transaction: &mut Transaction<'_, Any>,
    id: i64,
    tried: &Tried,
    next: Next,
) -> Result<(), StoreError> {
    let (state, due_at, counted) = match next {
        Next::Dead => ("dead", None, 1_i64),
        Next::Delivered => ("delivered", None, 1),
        Next::DueAt(at) => ("pending", Some(at.0), 1),
        Next::Spared(at) => ("pending", Some(at.0), 0),
    };
    sqlx::query(
        "UPDATE outbox SET state = $1, attempts = attempts + $2, due_at = coalesce($3, due_at), \
         finished_at = $4, last_error = $5 WHERE id = $6",
    )
    .bind(state)
    .bind(counted)
    .bind(due_at)
    .bind(due_at.is_none().then_some(tried.at.0))
    .bind(tried.error.as_deref())
    .bind(id)
    .execute(&mut **transaction)
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

/// Rows of a key are not due before its first one.
async fn push_back(
    transaction: &mut Transaction<'_, Any>,
    endpoint: &str,
    key: &str,
    at: WallMs,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outbox SET due_at = $1 WHERE endpoint = $2 AND order_key = $3 \
         AND state = 'pending' AND due_at < $1",
    )
    .bind(at.0)
    .bind(endpoint)
    .bind(key)
    .execute(&mut **transaction)
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

async fn head_due(
    transaction: &mut Transaction<'_, Any>,
    endpoint: &str,
    key: &str,
) -> Result<Option<WallMs>, StoreError> {
    let head = sqlx::query(
        "SELECT due_at FROM outbox WHERE endpoint = $1 AND order_key = $2 AND state = 'pending' \
         ORDER BY id LIMIT 1",
    )
    .bind(endpoint)
    .bind(key)
    .fetch_optional(&mut **transaction)
    .await
    .map_err(of_sqlx)?;
    head.map(|row| row.try_get("due_at").map(WallMs).map_err(of_sqlx)).transpose()
}

async fn put_state(
    transaction: &mut Transaction<'_, Any>,
    state: &EndpointState,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO outbox_endpoints (name, enabled, reason, changed_at, target) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE SET enabled = $2, reason = $3, \
         changed_at = $4, target = $5",
    )
    .bind(&*state.name)
    .bind(i64::from(state.enabled))
    .bind(state.reason.as_deref())
    .bind(state.changed_at.0)
    .bind(&*state.target)
    .execute(&mut **transaction)
    .await
    .map_err(of_sqlx)?;
    Ok(())
}

async fn endpoint_state(db: &Db, name: &str) -> Result<Option<EndpointState>, StoreError> {
    let row = sqlx::query(
        "SELECT name, enabled, reason, changed_at, target FROM outbox_endpoints WHERE name = $1",
    )
    .bind(name)
    .fetch_optional(db.readers())
    .await
    .map_err(of_sqlx)?;
    let read = |row: AnyRow| -> Result<EndpointState, sqlx::Error> {
        Ok(EndpointState {
            name: row.try_get("name")?,
            enabled: row.try_get::<i64, _>("enabled")? != 0,
            reason: row.try_get("reason")?,
            changed_at: WallMs(row.try_get("changed_at")?),
            target: row.try_get("target")?,
        })
    };
    row.map(read).transpose().map_err(of_sqlx)
}

async fn backlog(db: &Db, endpoint: &str) -> Result<Backlog, StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM outbox WHERE endpoint = $1 AND state = 'pending') AS pending, \
         (SELECT count(*) FROM outbox WHERE endpoint = $1 AND state = 'dead') AS dead, \
         (SELECT min(queued_at) FROM outbox WHERE endpoint = $1 AND state = 'pending') AS oldest",
    )
    .bind(endpoint)
    .fetch_one(db.readers())
    .await
    .map_err(of_sqlx)?;
    let count = |column: &str| row.try_get::<i64, _>(column).map_err(of_sqlx);
    Ok(Backlog {
        pending: super::db::from_sql(count("pending")?),
        dead: super::db::from_sql(count("dead")?),
        oldest_pending: row.try_get::<Option<i64>, _>("oldest").map_err(of_sqlx)?.map(WallMs),
    })
}

async fn sweep(db: &Db, endpoint: &str, keep: Keep) -> Result<Swept, StoreError> {
    let mut transaction = db.begin().await?;
    let expired = sqlx::query(
        "UPDATE outbox SET state = 'dead', finished_at = $1, \
         last_error = coalesce(last_error, 'it was never tried') \
         WHERE id IN (SELECT id FROM outbox WHERE endpoint = $2 AND state = 'pending' \
         AND queued_at < $3 ORDER BY id LIMIT $4)",
    )
    .bind(now_ms())
    .bind(endpoint)
    .bind(keep.pending_since.0)
    .bind(i64::from(keep.rows_max))
    .execute(&mut *transaction)
    .await
    .map_err(of_sqlx)?
    .rows_affected();
    let oldest_kept = sqlx::query(
        "SELECT id FROM outbox WHERE endpoint = $1 AND state = 'delivered' ORDER BY id DESC \
         LIMIT 1 OFFSET $2",
    )
    .bind(endpoint)
    .bind(i64::from(keep.delivered_max.saturating_sub(1)))
    .fetch_optional(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    let oldest_kept: i64 = match oldest_kept {
        Some(row) => row.try_get("id").map_err(of_sqlx)?,
        None => 0,
    };
    let mut removed = 0;
    for (statement, bound) in [
        (
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE endpoint = $1 \
             AND state = 'delivered' AND finished_at < $2 ORDER BY finished_at LIMIT $3)",
            keep.delivered_since.0,
        ),
        (
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE endpoint = $1 \
             AND state = 'delivered' AND id < $2 ORDER BY id LIMIT $3)",
            oldest_kept,
        ),
        (
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE endpoint = $1 \
             AND state = 'dead' AND finished_at < $2 ORDER BY finished_at LIMIT $3)",
            keep.dead_since.0,
        ),
    ] {
        let done = sqlx::query(statement)
            .bind(endpoint)
            .bind(bound)
            .bind(i64::from(keep.rows_max))
            .execute(&mut *transaction)
            .await
            .map_err(of_sqlx)?;
        removed = done.rows_affected().max(removed);
    }
    transaction.commit().await.map_err(of_sqlx)?;
    Ok(Swept { expired, removed })
}
