//! What can go wrong with a database, in the three ways that its callers can act on.
//! Owns:  `StoreError`, and which error of which driver is which of them.
//! Gives: `of_sqlx`, `odd_row`.
//! Never: a bound value in a text: drivers name constraints and columns only.
//! Holds: what may work later is `Unavailable`, so that nobody gives up on it.

use std::fmt;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The database or its schema cannot be used at all.
    Broken(String),
    /// What was asked cannot be stored, now or later.
    Refused(String),
    /// Locked, full, or not reachable: later it may work.
    Unavailable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(reason) => write!(f, "the database cannot be used: {reason}"),
            Self::Refused(reason) => write!(f, "the database refused: {reason}"),
            Self::Unavailable(reason) => write!(f, "the database is not available: {reason}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// Which of our errors a driver's error is.
pub(super) fn of_sqlx(error: sqlx::Error) -> StoreError {
    let text = error.to_string();
    match &error {
        sqlx::Error::Database(database) => match kind_of(&**database) {
            Fault::Broken => StoreError::Broken(text),
            Fault::Refused => StoreError::Refused(text),
            Fault::Unavailable => StoreError::Unavailable(text),
        },
        sqlx::Error::Configuration(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::TypeNotFound { .. } => StoreError::Broken(text),
        sqlx::Error::Encode(_) => StoreError::Refused(text),
        _ => StoreError::Unavailable(text),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Broken,
    Refused,
    Unavailable,
}

fn kind_of(error: &dyn DatabaseError) -> Fault {
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        of_sqlstate(&code)
    } else {
        of_sqlite(code.parse().unwrap_or(0))
    }
}

/// Extended result codes of SQLite; the low byte is the primary one.
fn of_sqlite(code: i32) -> Fault {
    const ERROR: i32 = 1;
    const CORRUPT: i32 = 11;
    const TOO_BIG: i32 = 18;
    const CONSTRAINT: i32 = 19;
    const MISMATCH: i32 = 20;
    const NOT_A_DATABASE: i32 = 26;
    match code & 0xff {
        CONSTRAINT | MISMATCH | TOO_BIG => Fault::Refused,
        // `ERROR` is a statement that does not fit the schema.
        CORRUPT | ERROR | NOT_A_DATABASE => Fault::Broken,
        _ => Fault::Unavailable,
    }
}

/// SQLSTATE of PostgreSQL: the first two letters are the class.
fn of_sqlstate(code: &str) -> Fault {
    match code.get(..2).unwrap_or_default() {
        // A value that does not fit; a constraint that it breaks; a limit that it exceeds.
        "22" | "23" | "54" => Fault::Refused,
        // No such role or database, no such table or column, no right, damaged pages.
        "28" | "3D" | "42" | "XX" => Fault::Broken,
        // Connection, resources, shutdown, other system, read-only standby, serialization, deadlock.
        _ => Fault::Unavailable,
    }
}

/// A row holds something that we never write.
pub(super) fn odd_row(what: impl fmt::Display) -> StoreError {
    StoreError::Broken(format!("a row cannot be read: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_way() {
        for code in ["08006", "40001", "40P01", "53300", "57P01", "58030", "25006", "55P03", ""] {
            assert_eq!(of_sqlstate(code), Fault::Unavailable, "{code}");
        }
        for code in ["22021", "23505", "23502"] {
            assert_eq!(of_sqlstate(code), Fault::Refused, "{code}");
        }
        for code in ["28P01", "3D000", "42P01", "42501", "XX001"] {
            assert_eq!(of_sqlstate(code), Fault::Broken, "{code}");
        }
        // SQLITE_BUSY, _LOCKED, _IOERR_WRITE, _FULL, _CANTOPEN, _READONLY.
        for code in [5, 6, 10 | (3 << 8), 13, 14, 8] {
            assert_eq!(of_sqlite(code), Fault::Unavailable, "{code}");
        }
        // SQLITE_CONSTRAINT_UNIQUE, SQLITE_TOOBIG.
        assert_eq!(of_sqlite(19 | (8 << 8)), Fault::Refused);
        assert_eq!(of_sqlite(18), Fault::Refused);
        assert_eq!(of_sqlite(26), Fault::Broken);
    }
}
