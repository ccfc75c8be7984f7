//! A statement that grows: text, and the values that are bound to it.
//! Owns:  the numbers of the placeholders (`$1`, `$2`, ...), which both databases understand.
//! Gives: `Statement` for lists and filters; fixed statements are written with their numbers.
//! Never: a value inside the text: only `&'static str` gets there.
//! Holds: the n-th placeholder is the n-th value.

use std::fmt::Write;

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Arguments, AssertSqlSafe, Encode, Type};

/// Rows of one INSERT with many rows. SQLite takes 32 766 values, PostgreSQL 65 535.
pub(super) const ROWS_MAX: usize = 500;

#[derive(Default)]
pub(super) struct Statement {
    text: String,
    values: AnyArguments,
}

impl Statement {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text: text.to_owned(), values: AnyArguments::default() }
    }

    pub(super) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Writes the placeholder and binds the value.
    pub(super) fn bind<'v>(&mut self, value: impl Encode<'v, Any> + Type<Any>) -> &mut Self {
        self.values.add(value).expect("text and numbers are always encoded");
        write!(self.text, "${}", self.values.len()).expect("text grows");
        self
    }

    /// `(..), (..)`: one tuple per item; `bind` binds its values in the order of the columns.
    pub(super) fn rows<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut bind: impl FnMut(&mut Tuple<'_>, T),
    ) -> &mut Self {
        for (place, item) in items.into_iter().enumerate() {
            self.text.push_str(if place == 0 { "(" } else { ", (" });
            bind(&mut Tuple { statement: self, first: true }, item);
            self.text.push(')');
        }
        self
    }

    /// Ready to be run on `connection`, when it may have many values: SQLite looks up the name of each
    /// numbered value in a list of all of them, so that the cost of a statement would grow with the square
    /// of its values; there they stay without a number.
    pub(super) fn query_on(
        mut self,
        connection: &AnyConnection,
    ) -> Query<'static, Any, AnyArguments> {
        if connection.backend_name() == "SQLite" {
            self.text = unnumbered(&self.text);
        }
        self.query()
    }

    /// Ready to be run. One that has a different text each time is not worth a prepared statement.
    pub(super) fn query(self) -> Query<'static, Any, AnyArguments> {
        sqlx::query_with(AssertSqlSafe(self.text), self.values).persistent(false)
    }
}

/// The n-th placeholder is the n-th value, so its number says nothing.
fn unnumbered(text: &str) -> String {
    let mut parts = text.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push('?');
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

/// The values of one row.
pub(super) struct Tuple<'s> {
    statement: &'s mut Statement,
    first: bool,
}

impl Tuple<'_> {
    pub(super) fn bind<'v>(&mut self, value: impl Encode<'v, Any> + Type<Any>) -> &mut Self {
        if !std::mem::take(&mut self.first) {
            self.statement.text.push_str(", ");
        }
        self.statement.bind(value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_count_through_rows_and_filters() {
        let mut insert = Statement::new("INSERT INTO t (a, b) VALUES ");
        insert.rows([("x", 1_i64), ("y", 2)], |row, (a, b)| {
            row.bind(a).bind(b);
        });
        insert.push(" ON CONFLICT (a) DO UPDATE SET b = ").bind(Option::<i64>::None);
        assert_eq!(
            insert.text,
            "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT (a) DO UPDATE SET b = $5"
        );
        assert_eq!(insert.values.len(), 5);
        assert_eq!(
            unnumbered(&insert.text),
            "INSERT INTO t (a, b) VALUES (?, ?), (?, ?) ON CONFLICT (a) DO UPDATE SET b = ?"
        );
    }
}
