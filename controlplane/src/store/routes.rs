//! Routes in SQL: the columns of `routes`, named as in the original where it has them.
//! Owns:  the list of columns.
//! Gives: `ROUTES` for `Rows`.
//! Never: what a column means.
//! Holds: the list is that of migration 0040.

use super::rows::Shape::{Flag, Int, Json, Text};
use super::rows::{Table, column};

pub static ROUTES: Table = Table {
    name: "routes",
    columns: &[
        column("name", Text),
        column("description", Text),
        column("direction", Text),
        column("priority", Int),
        column("is_active", Flag),
        column("owner", Text),
        column("notes", Json),
        // The rule itself, in the form of the REST API.
        column("document", Json),
    ],
};
