//! The journal's way into the database: records, what follows from them, and the mark, all at once.
//! Owns:  the table of marks.
//! Gives: `Journals`.
//! Never: a record without its mark, a mark without its records.
//! Holds: what was stored before is left as it is, so that a batch may come twice.

use shared::cdr::Cdr;
use shared::ids::ShardId;
use shared::journal::{Position, Stream};
use sqlx::any::AnyRow;
use sqlx::{Error, Row};

use super::db::{Connections, from_sql, to_sql};
use super::error::{odd_row, of_sqlx};
use super::outbox::NewEvent;
use super::{Db, Pending, StoreError, records};

/// How far a journal is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalMark {
    pub stream: Stream,
    pub position: Position,
    /// Nothing of it is needed any more.
    pub finished: bool,
}

pub trait Journals: Connections {
    /// Stores these records as `Records::add_cdrs` does, the events that report them, and how far a
    /// journal is stored by that, in one transaction.
    fn take_journal<'a>(
        &'a self,
        ends: &'a [Cdr],
        events: &'a [NewEvent],
        mark: JournalMark,
    ) -> Pending<'a, ()> {
        Box::pin(take(self.db(), ends, events, mark))
    }

    fn journal_marks(&self) -> Pending<'_, Vec<JournalMark>> {
        Box::pin(marks(self.db()))
    }

    /// The segments of this journal are gone.
    fn forget_journal(&self, stream: Stream) -> Pending<'_, ()> {
        Box::pin(forget(self.db(), stream))
    }
}

impl Journals for Db {}

async fn take(
    db: &Db,
    ends: &[Cdr],
    events: &[NewEvent],
    mark: JournalMark,
) -> Result<(), StoreError> {
    let mut transaction = db.begin().await?;
    records::insert(&mut transaction, ends, events).await?;
    let JournalMark { stream: Stream { run, shard }, position, finished } = mark;
    sqlx::query(
        "INSERT INTO journal_marks (run, shard, segment, byte_offset, finished) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (run, shard) DO UPDATE SET \
         segment = excluded.segment, byte_offset = excluded.byte_offset, \
         finished = excluded.finished",
    )
    .bind(run_word(run))
    .bind(i64::from(shard.0))
    .bind(to_sql(position.segment))
    .bind(to_sql(position.offset))
    .bind(i64::from(finished))
    .execute(&mut *transaction)
    .await
    .map_err(of_sqlx)?;
    transaction.commit().await.map_err(of_sqlx)
}

async fn marks(db: &Db) -> Result<Vec<JournalMark>, StoreError> {
    let marks = "SELECT run, shard, segment, byte_offset, finished FROM journal_marks";
    let rows = sqlx::query(marks).fetch_all(db.readers()).await.map_err(of_sqlx)?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<JournalMark, StoreError> {
    let number = |column: &str| -> Result<i64, Error> { row.try_get(column) };
    let run: &str = row.try_get("run").map_err(of_sqlx)?;
    let run = u64::from_str_radix(run, 16).map_err(odd_row)?;
    let shard = u8::try_from(number("shard").map_err(of_sqlx)?).map_err(odd_row)?;
    let position = Position {
        segment: from_sql(number("segment").map_err(of_sqlx)?),
        offset: from_sql(number("byte_offset").map_err(of_sqlx)?),
    };
    let finished = number("finished").map_err(of_sqlx)? != 0;
    Ok(JournalMark { stream: Stream { run, shard: ShardId(shard) }, position, finished })
}

async fn forget(db: &Db, stream: Stream) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM journal_marks WHERE run = $1 AND shard = $2")
        .bind(run_word(stream.run))
        .bind(i64::from(stream.shard.0))
        .execute(db.writer())
        .await
        .map_err(of_sqlx)?;
    Ok(())
}

/// It has 64 bits without a sign, which no integer of SQL has.
fn run_word(run: u64) -> String {
    format!("{run:016x}")
}
