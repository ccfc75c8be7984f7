//! Exchanges with the HTTP router in SQL: what was asked about a call and what came back.
//! Owns:  the table of exchanges.
//! Gives: `Exchanges`: batches in, the exchange of one call out.
//! Never: a header of ours with a secret; only bodies are kept.
//! Holds: a call has at most one exchange; storing it twice leaves one.

use shared::ids::CallId;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::db::{Connections, from_sql, to_sql};
use super::error::{odd_row, of_sqlx};
use super::statement::{ROWS_MAX, Statement};
use super::{Db, Pending, StoreError};

/// One question about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub call: CallId,
    /// Milliseconds since 1970.
    pub asked_at: i64,
    pub latency_ms: u64,
    /// The action that was followed, or why there is none.
    pub outcome: &'static str,
    /// Of the HTTP answer.
    pub status: Option<u16>,
    pub request: String,
    pub answer: Option<String>,
    /// What of the answer was not followed, and why.
    pub notes: Vec<String>,
}

/// The same, as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredExchange {
    pub asked_at: i64,
    pub latency_ms: u64,
    pub outcome: String,
    pub status: Option<u16>,
    pub request: String,
    pub answer: Option<String>,
    pub notes: Vec<String>,
}

pub trait Exchanges: Connections {
    /// All of them or none.
    fn add_exchanges<'a>(&'a self, batch: &'a [Exchange]) -> Pending<'a, ()> {
        Box::pin(add(self.db(), batch))
    }

    fn exchange(&self, call: CallId) -> Pending<'_, Option<StoredExchange>> {
        Box::pin(one(self.db(), call))
    }
}

impl Exchanges for Db {}

async fn add(db: &Db, batch: &[Exchange]) -> Result<(), StoreError> {
    let mut transaction = db.begin().await?;
    for rows in batch.chunks(ROWS_MAX) {
        let mut insert = Statement::new(
            "INSERT INTO route_exchanges (session_id, asked_at, latency_ms, outcome, status, \
             request, answer, notes) VALUES ",
        );
        insert.rows(rows, |row, exchange| {
            row.bind(exchange.call.to_string())
                .bind(exchange.asked_at)
                .bind(to_sql(exchange.latency_ms))
                .bind(exchange.outcome)
                .bind(exchange.status.map(i64::from))
                .bind(exchange.request.as_str())
                .bind(exchange.answer.as_deref())
                .bind(exchange.notes.join("\n"));
        });
        insert.push(" ON CONFLICT (session_id) DO NOTHING");
        insert.query().execute(&mut *transaction).await.map_err(of_sqlx)?;
    }
    transaction.commit().await.map_err(of_sqlx)
}

async fn one(db: &Db, call: CallId) -> Result<Option<StoredExchange>, StoreError> {
    let row = sqlx::query(
        "SELECT asked_at, latency_ms, outcome, status, request, answer, notes \
         FROM route_exchanges WHERE session_id = $1",
    )
    .bind(call.to_string())
    .fetch_optional(db.readers())
    .await
    .map_err(of_sqlx)?;
    row.as_ref().map(read).transpose()
}

fn read(row: &AnyRow) -> Result<StoredExchange, StoreError> {
    let status: Option<i64> = row.try_get("status").map_err(of_sqlx)?;
    let notes: String = row.try_get("notes").map_err(of_sqlx)?;
    Ok(StoredExchange {
        asked_at: row.try_get("asked_at").map_err(of_sqlx)?,
        latency_ms: from_sql(row.try_get("latency_ms").map_err(of_sqlx)?),
        outcome: row.try_get("outcome").map_err(of_sqlx)?,
        status: status.map(u16::try_from).transpose().map_err(odd_row)?,
        request: row.try_get("request").map_err(of_sqlx)?,
        answer: row.try_get("answer").map_err(of_sqlx)?,
        notes: notes.lines().map(str::to_owned).collect(),
    })
}
