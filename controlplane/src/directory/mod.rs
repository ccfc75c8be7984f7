//! Who and what calls may go to: extensions, trunks and routes, of the files and of the database.
//! Owns:  what a document of each kind means, the names over both sources, the way of a change.
//! Gives: `Directory`: lists, one object, create, replace, patch, remove, each live on every shard.
//! Never: a change of what a file defines; a secret on the way out.
//! Holds: a change is checked, stored, and then served by every shard before its answer leaves.

mod contents;
mod extensions;
mod live;
mod names;
mod objects;
mod refusal;
mod replace;
mod resolve;
mod routes;
mod secrets;
mod table;
mod trunk_headers;
mod trunk_options;
mod trunk_terms;
mod trunks;

pub use contents::Contents;
pub use live::{Changed, Directory, Seen};
pub use names::Surroundings;
pub use objects::{Object, Source};
pub use refusal::{NotRead, Reason, Refusal};
pub use replace::{NotReplaced, Part, Replaced, Served};
pub(crate) use resolve::local_towards;

use std::fmt;

use serde_json::{Map, Value};
use shared::config::Config;
use shared::document::Flaws;

use crate::store::{EXTENSIONS, ROUTES, Row, TRUNKS, Table};

/// What the three resources differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Extension,
    Route,
    Trunk,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Extension, Self::Route, Self::Trunk];

    pub const fn noun(self) -> &'static str {
        match self {
            Self::Extension => "extension",
            Self::Route => "route",
            Self::Trunk => "trunk",
        }
    }

    /// The field that holds its name.
    pub const fn name_field(self) -> &'static str {
        match self {
            Self::Extension => "extension",
            Self::Route | Self::Trunk => "name",
        }
    }

    pub(crate) fn table(self) -> &'static Table {
        match self {
            Self::Extension => &EXTENSIONS,
            Self::Route => &ROUTES,
            Self::Trunk => &TRUNKS,
        }
    }

    /// More of one kind are a mistake of a program.
    const fn most(self) -> usize {
        match self {
            Self::Extension => 100_000,
            Self::Route => shared::route::ROUTES_MAX,
            Self::Trunk => 2_000,
        }
    }

    /// The columns of a document, or what is wrong with it. `before`: the row that it replaces.
    fn read(self, config: &Config, document: &Value, before: Option<&Row>) -> Read {
        let mut flaws = Flaws::default();
        let fields = match self {
            Self::Extension => extensions::read(config, document, before, &mut flaws),
            Self::Route => routes::read(document, &mut flaws),
            Self::Trunk => trunks::read(document, before, &mut flaws),
        };
        Read { fields, flaws }
    }

    /// A row as programs see it, without its secrets.
    fn show(self, row: &Row) -> Map<String, Value> {
        match self {
            Self::Extension => extensions::show(row),
            Self::Route => routes::show(row),
            Self::Trunk => trunks::show(row),
        }
    }
}

struct Read {
    /// Not there when there is a flaw that refuses.
    fields: Option<Map<String, Value>>,
    flaws: Flaws,
}

/// The name of one object in a path: a number of the database, `file:NAME`, or a plain name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    File(String),
    Name(String),
    Number(i64),
}

impl Id {
    pub fn parse(text: &str) -> Self {
        match (text.strip_prefix("file:"), text.parse()) {
            (Some(name), _) => Self::File(name.to_owned()),
            (None, Ok(number)) => Self::Number(number),
            (None, Err(_)) => Self::Name(text.to_owned()),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => write!(f, "file:{name}"),
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// The fields of an object that was just written down.
fn written(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => unreachable!("an object was written"),
    }
}
