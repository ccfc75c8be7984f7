//! What is in the directory as programs see it: one object of a file or of the database.
//! Owns:  `Object`, `Source`; the lists over both sources.
//! Gives: `list`, `find`; an object with its number or its file name, its source and its times.
//! Never: a secret.
//! Holds: objects of files come first, in the order in which they were written.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use shared::config::{Backend, RouteConfig, TrunkConfig};
use shared::snapshot::User;

use super::{Contents, Id, Kind, extensions, routes, trunks};
use crate::store::Row;

/// Where an object is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Database,
    /// File and line, where they are known.
    File(String),
}

/// One object as programs see it.
#[derive(Clone, Debug)]
pub struct Object {
    pub name: String,
    pub source: Source,
    /// Only rows have one.
    pub row: Option<Arc<Row>>,
    pub fields: Map<String, Value>,
}

impl Object {
    /// With its number or its file name, its source and its times.
    pub fn shown(&self) -> Map<String, Value> {
        let mut shown = self.fields.clone();
        let (id, source, at) = match (&self.row, &self.source) {
            (Some(row), _) => (json!(row.id), "database", Value::Null),
            (None, Source::File(origin)) => {
                (json!(format!("file:{}", self.name)), "file", json!(origin))
            }
            (None, Source::Database) => (Value::Null, "database", Value::Null),
        };
        shown.insert("id".to_owned(), id);
        shown.insert("source".to_owned(), source.into());
        shown.insert("defined_at".to_owned(), at);
        if let Some(row) = &self.row {
            shown.insert("created_at".to_owned(), json!(row.created_at));
            shown.insert("updated_at".to_owned(), json!(row.updated_at));
        }
        shown
    }
}

impl Contents {
    /// Every object of a kind: those of the files, then the rows.
    pub fn list(&self, kind: Kind) -> Vec<Object> {
        let mut objects = self.of_files(kind);
        objects.extend(self.table(kind).values().map(|row| self.of_row(kind, row)));
        objects
    }

    pub fn find(&self, kind: Kind, id: &Id) -> Option<Object> {
        let file = |name: &str| self.of_files(kind).into_iter().find(|o| o.name == *name);
        match id {
            Id::File(name) => file(name),
            Id::Number(number) => self.table(kind).get(*number).map(|row| self.of_row(kind, row)),
            Id::Name(name) => {
                let row = self.row_named(kind, name);
                row.map(|row| self.of_row(kind, row)).or_else(|| file(name))
            }
        }
    }

    pub(super) fn file_user(&self, name: &str) -> Option<&User> {
        self.file_users().find(|user| *user.username == *name)
    }

    fn file_users(&self) -> impl Iterator<Item = &User> {
        self.config.backends().iter().flat_map(|backend| match backend {
            Backend::Memory(users) => users.as_slice(),
            Backend::Extensions | Backend::Remote(_) => &[],
        })
    }

    fn of_files(&self, kind: Kind) -> Vec<Object> {
        let object = |name: &str, origin: String, fields| Object {
            name: name.to_owned(),
            source: Source::File(origin),
            row: None,
            fields,
        };
        match kind {
            Kind::Extension => {
                let user = |user: &User| {
                    object(&user.username, FILE_USERS.to_owned(), extensions::show_user(user))
                };
                self.file_users().map(user).collect()
            }
            Kind::Route => {
                let route = |written: &RouteConfig| {
                    let mut fields = written.document.as_object().cloned().unwrap_or_default();
                    routes::fill(&mut fields);
                    object(&written.route.name, written.origin.to_string(), fields)
                };
                self.config.routes().iter().map(route).collect()
            }
            Kind::Trunk => {
                let trunk = |trunk: &TrunkConfig| {
                    object(&trunk.name, trunk.origin.to_string(), trunks::show_config(trunk))
                };
                self.config.trunks().iter().map(trunk).collect()
            }
        }
    }

    fn of_row(&self, kind: Kind, row: &Arc<Row>) -> Object {
        Object {
            name: row.text(kind.name_field()).unwrap_or_default().to_owned(),
            source: Source::Database,
            row: Some(Arc::clone(row)),
            fields: kind.show(row),
        }
    }
}

pub(super) const FILE_USERS: &str = "proxy.user_backends";
