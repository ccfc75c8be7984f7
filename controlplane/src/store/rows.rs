//! Rows of what operators configure: extensions, trunks, routes; one way to read and write all three.
//! Owns:  `Table` (the columns of one of them), `Row`, the statements made from these.
//! Gives: `Rows`: all rows, insert, update, delete.
//! Never: the meaning of a column; `directory` has that. A secret in `Debug`.
//! Holds: a column that a row does not name is NULL, so that no value outlives its replacement.

use std::fmt;

use serde_json::{Map, Value};
use shared::time::WallMs;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::db::{Connections, now_ms};
use super::error::{odd_row, of_sqlx};
use super::statement::Statement;
use super::{Db, Pending, StoreError};

/// One table and its columns beside `id`, `created_at` and `updated_at`.
#[derive(Debug)]
pub struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

/// How a value lies in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// 0 or 1.
    Flag,
    Int,
    /// Text that is JSON.
    Json,
    Text,
}

pub(super) const fn column(name: &'static str, shape: Shape) -> Column {
    Column { name, shape }
}

/// A row by its column names; NULL is not there.
#[derive(Clone, PartialEq)]
pub struct Row {
    pub id: i64,
    pub fields: Map<String, Value>,
    pub created_at: WallMs,
    pub updated_at: WallMs,
}

/// Some columns are secrets, so none is shown.
impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Row {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.fields.get(name).and_then(Value::as_i64)
    }

    pub fn flag(&self, name: &str) -> Option<bool> {
        self.fields.get(name).and_then(Value::as_bool)
    }
}

pub trait Rows: Connections {
    /// In the order of their numbers.
    fn rows(&self, table: &'static Table) -> Pending<'_, Vec<Row>> {
        Box::pin(all(self.db(), table))
    }

    fn add_row<'a>(
        &'a self,
        table: &'static Table,
        fields: &'a Map<String, Value>,
    ) -> Pending<'a, Row> {
        Box::pin(add(self.db(), table, fields))
    }

    /// `None`: there is no such row any more.
    fn put_row<'a>(
        &'a self,
        table: &'static Table,
        id: i64,
        fields: &'a Map<String, Value>,
    ) -> Pending<'a, Option<WallMs>> {
        Box::pin(put(self.db(), table, id, fields))
    }

    /// False when there was none.
    fn remove_row(&self, table: &'static Table, id: i64) -> Pending<'_, bool> {
        Box::pin(remove(self.db(), table, id))
    }
}

impl Rows for Db {}

async fn all(db: &Db, table: &'static Table) -> Result<Vec<Row>, StoreError> {
    let mut select = Statement::new("SELECT id, created_at, updated_at");
    for column in table.columns {
        select.push(", ").push(column.name);
    }
    select.push(" FROM ").push(table.name).push(" ORDER BY id");
    let rows = select.query().fetch_all(db.readers()).await.map_err(of_sqlx)?;
    rows.iter().map(|row| read(row, table)).collect()
}

async fn add(
    db: &Db,
    table: &'static Table,
    fields: &Map<String, Value>,
) -> Result<Row, StoreError> {
    let now = now_ms();
    let mut insert = Statement::new("INSERT INTO ");
    insert.push(table.name).push(" (created_at, updated_at");
    for column in table.columns {
        insert.push(", ").push(column.name);
    }
    insert.push(") VALUES (").bind(now).push(", ").bind(now);
    for column in table.columns {
        insert.push(", ");
        bind(&mut insert, column, fields);
    }
    insert.push(") RETURNING id");
    let row = insert.query().fetch_one(db.writer()).await.map_err(of_sqlx)?;
    let id = row.try_get("id").map_err(of_sqlx)?;
    let at = WallMs(now);
    Ok(Row { id, fields: known(table, fields), created_at: at, updated_at: at })
}

async fn put(
    db: &Db,
    table: &'static Table,
    id: i64,
    fields: &Map<String, Value>,
) -> Result<Option<WallMs>, StoreError> {
    let now = now_ms();
    let mut update = Statement::new("UPDATE ");
    update.push(table.name).push(" SET updated_at = ").bind(now);
    for column in table.columns {
        update.push(", ").push(column.name).push(" = ");
        bind(&mut update, column, fields);
    }
    update.push(" WHERE id = ").bind(id);
    let done = update.query().execute(db.writer()).await.map_err(of_sqlx)?;
    Ok((done.rows_affected() > 0).then_some(WallMs(now)))
}

async fn remove(db: &Db, table: &'static Table, id: i64) -> Result<bool, StoreError> {
    let mut delete = Statement::new("DELETE FROM ");
    delete.push(table.name).push(" WHERE id = ").bind(id);
    let done = delete.query().execute(db.writer()).await.map_err(of_sqlx)?;
    Ok(done.rows_affected() > 0)
}

fn bind(statement: &mut Statement, column: &Column, fields: &Map<String, Value>) {
    let value = fields.get(column.name).filter(|value| !value.is_null());
    match column.shape {
        Shape::Flag => statement.bind(value.and_then(Value::as_bool).map(i64::from)),
        Shape::Int => statement.bind(value.and_then(Value::as_i64)),
        Shape::Json => statement.bind(value.map(Value::to_string)),
        Shape::Text => statement.bind(value.and_then(Value::as_str).map(str::to_owned)),
    };
}

/// What a row would be read back as.
fn known(table: &Table, fields: &Map<String, Value>) -> Map<String, Value> {
    let written = table.columns.iter().filter_map(|column| {
        let value = fields.get(column.name).filter(|value| !value.is_null())?;
        Some((column.name.to_owned(), value.clone()))
    });
    written.collect()
}

fn read(row: &AnyRow, table: &Table) -> Result<Row, StoreError> {
    let int = |name: &str| row.try_get::<Option<i64>, _>(name).map_err(of_sqlx);
    let text = |name: &str| row.try_get::<Option<String>, _>(name).map_err(of_sqlx);
    let mut fields = Map::new();
    for Column { name, shape } in table.columns {
        let value = match shape {
            Shape::Flag => int(name)?.map(|flag| Value::Bool(flag != 0)),
            Shape::Int => int(name)?.map(Value::from),
            Shape::Text => text(name)?.map(Value::from),
            Shape::Json => match text(name)? {
                None => None,
                Some(text) => Some(serde_json::from_str(&text).map_err(|error| {
                    odd_row(format!("{}.{name} is no JSON: {error}", table.name))
                })?),
            },
        };
        if let Some(value) = value {
            fields.insert((*name).to_owned(), value);
        }
    }
    let time = |name: &str| Ok::<_, StoreError>(WallMs(int(name)?.unwrap_or(0)));
    Ok(Row {
        id: row.try_get("id").map_err(of_sqlx)?,
        fields,
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
    })
}
