//! Everything that stands in the directory at one moment: files and rows, and what shards serve of it.
//! Owns:  `Contents`, immutable; every change makes the next one.
//! Gives: look-up and lists over both sources; the parts of a snapshot.
//! Never: touches the database or a shard.
//! Holds: a name is there once per kind; a part that did not change is the same `Arc` as before.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use shared::acl::Acl;
use shared::config::{Backend, Config, HttpRouter, Origin, TrunkConfig};
use shared::route::{Route, RouteTable};
use shared::snapshot::{Secret, Snapshot, Trunk, User, Users};
use shared::time::WallMs;
use tokio::time::Instant;

use super::names::due_at;
use super::objects::FILE_USERS;
use super::resolve::{Resolved, Resolver};
use super::table::Table;
use super::{Kind, Reason, Served, extensions, routes, trunks};
use crate::names::ASK_AGAIN;
use crate::store::{Extension, Row};

/// Questions to the name server at a time.
const LOOKUPS_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct Contents {
    pub config: Arc<Config>,
    acl: Arc<Acl>,
    rows: [Arc<Table>; 3],
    users: Arc<Users>,
    trunks: Arc<Vec<Trunk>>,
    routes: Arc<RouteTable>,
    /// When addresses of trunks have to be looked up again, if they have names.
    pub(super) names_due: Option<Instant>,
}

/// In their order, some at a time: a name server that is gone must not be waited for name by name.
async fn all_of<F: Future>(questions: Vec<F>) -> Vec<F::Output> {
    stream::iter(questions).buffered(LOOKUPS_MAX).collect().await
}

fn table(kind: Kind, rows: Vec<Row>) -> Arc<Table> {
    Arc::new(Table::new(kind, rows))
}

/// A user who is found at this place of the chain of backends.
fn at_place(user: User, place: usize) -> Arc<User> {
    Arc::new(User { backend: u8::try_from(place).unwrap_or(u8::MAX), ..user })
}

const fn place(kind: Kind) -> usize {
    match kind {
        Kind::Extension => 0,
        Kind::Route => 1,
        Kind::Trunk => 2,
    }
}

impl Contents {
    /// Reads everything anew. What cannot be served of the files is an error; a row that cannot be
    /// served is left out and said so in `odd`. `before`: what is served meanwhile.
    pub(super) async fn build(
        config: Arc<Config>,
        rows: [Vec<Row>; 3],
        resolver: Resolver,
        before: Option<&Self>,
        odd: &mut Vec<String>,
    ) -> Result<Self, String> {
        let mut contents = Self {
            acl: Arc::new(config.acl().clone()),
            users: Arc::new(Users::new()),
            trunks: before.map(|before| Arc::clone(&before.trunks)).unwrap_or_default(),
            routes: Arc::default(),
            names_due: None,
            config,
            rows: [Kind::Extension, Kind::Route, Kind::Trunk].map(|kind| table(kind, Vec::new())),
        };
        let [extensions, routes, trunks] = rows;
        contents.rows[place(Kind::Extension)] = table(Kind::Extension, extensions);
        contents.users = Arc::new(contents.all_users(odd));
        let contents = contents.with_routes(routes, odd);
        contents.with_trunks(trunks, &resolver, odd).await
    }

    /// The same under another configuration, of which only the acl is served at once.
    #[must_use]
    pub(super) fn with_config(&self, config: Config) -> Self {
        let acl = Arc::new(config.acl().clone());
        Self { acl, config: Arc::new(config), ..self.clone() }
    }

    /// The same with the routes of its configuration and these.
    #[must_use]
    pub(super) fn with_routes(mut self, rows: Vec<Row>, odd: &mut Vec<String>) -> Self {
        self.rows[place(Kind::Route)] = table(Kind::Route, rows);
        self.settle_names(Kind::Route, odd);
        self.routes = Arc::new(self.all_routes(odd));
        self
    }

    /// The same with the trunks of its configuration and these, and their addresses of now.
    pub(super) async fn with_trunks(
        mut self,
        rows: Vec<Row>,
        resolver: &Resolver,
        odd: &mut Vec<String>,
    ) -> Result<Self, String> {
        self.rows[place(Kind::Trunk)] = table(Kind::Trunk, rows);
        self.settle_names(Kind::Trunk, odd);
        self.with_trunks_of_now(resolver, odd).await
    }

    /// The same with the addresses that its trunks have now. A row that is not resolved stays as it
    /// is served.
    pub(super) async fn with_trunks_of_now(
        mut self,
        resolver: &Resolver,
        odd: &mut Vec<String>,
    ) -> Result<Self, String> {
        let served = |name: &str| self.trunks.iter().find(|trunk| *trunk.name == *name);
        let of_file = |trunk: &'_ TrunkConfig| {
            let (trunk, before) = (trunk.clone(), served(&trunk.name));
            async move {
                let key = format!("{}: proxy.trunks.{}", trunk.origin, trunk.name);
                resolver.resolve(&trunk, &key, before).await
            }
        };
        let files: Vec<_> = self.config.trunks().iter().map(of_file).collect();
        let mut resolved = all_of(files).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let of_row = |row: &Arc<Row>| {
            let row = Arc::clone(row);
            let before = served(row.text("name").unwrap_or_default());
            async move {
                let key = format!("trunk {} of the database", row.text("name").unwrap_or_default());
                match trunks::config(&row.fields) {
                    Ok(config) => resolver.resolve(&config, &key, before).await,
                    Err(reason) => Err(format!("{key} {reason}")),
                }
            }
        };
        let rows: Vec<_> = self.table(Kind::Trunk).values().map(of_row).collect();
        for (row, found) in self.table(Kind::Trunk).values().zip(all_of(rows).await) {
            match (found, served(row.text("name").unwrap_or_default())) {
                (Ok(found), _) => resolved.push(found),
                (Err(reason), Some(before)) => {
                    let odd = vec![format!("{reason}; it stays as it was")];
                    resolved.push(Resolved { trunk: before.clone(), valid: ASK_AGAIN, odd });
                }
                (Err(reason), None) => odd.push(format!("{reason}; it is left out")),
            }
        }
        let valid = resolved.iter().map(|found| found.valid).min();
        self.names_due = valid.and_then(due_at);
        odd.extend(resolved.iter_mut().flat_map(|found| std::mem::take(&mut found.odd)));
        self.trunks = Arc::new(resolved.into_iter().map(|found| found.trunk).collect());
        Ok(self)
    }

    /// The same with what `next` found, unless trunks are others than in `before`, which it began with.
    pub(super) fn with_addresses_of(&self, next: &Self, before: &Self) -> Option<Self> {
        let is_same = Arc::ptr_eq(&self.config, &before.config)
            && Arc::ptr_eq(&self.trunks, &before.trunks)
            && Arc::ptr_eq(self.table(Kind::Trunk), before.table(Kind::Trunk));
        is_same.then(|| {
            let (trunks, names_due) = (Arc::clone(&next.trunks), next.names_due);
            Self { trunks, names_due, ..self.clone() }
        })
    }

    pub(super) fn trunks(&self) -> &[Trunk] {
        &self.trunks
    }

    pub(crate) fn snapshot(&self, generation: u64) -> Snapshot {
        Snapshot {
            generation,
            users: Arc::clone(&self.users),
            trunks: Arc::clone(&self.trunks),
            routes: Arc::clone(&self.routes),
            acl: Arc::clone(&self.acl),
            edge: Arc::clone(self.config.edge()),
            http_router: self.config.http_router().map(HttpRouter::rules),
            remote_users: self.config.remote_users(),
            redirects: self.config.redirects(),
            toll: self.config.toll().cloned(),
        }
    }

    #[cfg(test)]
    pub(crate) fn users(&self) -> &Users {
        &self.users
    }

    pub fn counts(&self) -> Served {
        Served {
            users: self.users.len(),
            trunks: self.trunks.len(),
            routes: self.routes.routes.len(),
            acl_rules: self.acl.0.len(),
        }
    }

    pub(super) fn table(&self, kind: Kind) -> &Arc<Table> {
        &self.rows[place(kind)]
    }

    pub(super) fn row_named(&self, kind: Kind, name: &str) -> Option<&Arc<Row>> {
        self.table(kind).named(name)
    }

    /// Who has this name already, other than the row `except`.
    pub(super) fn taken(&self, kind: Kind, name: &str, except: Option<i64>) -> Option<String> {
        if let Some(origin) = self.file_origin(kind, name) {
            return Some(origin);
        }
        let row = self.row_named(kind, name).filter(|row| Some(row.id) != except)?;
        Some(format!("number {}", row.id))
    }

    pub(super) fn file_origin(&self, kind: Kind, name: &str) -> Option<String> {
        match kind {
            Kind::Extension => self.file_user(name).map(|_| FILE_USERS.to_owned()),
            Kind::Route => {
                let mut routes = self.config.routes().iter();
                let found = routes.find(|written| *written.route.name == *name);
                found.map(|written| written.origin.to_string())
            }
            Kind::Trunk => {
                let found = self.config.trunks().iter().find(|trunk| trunk.name == name);
                found.map(|trunk| trunk.origin.to_string())
            }
        }
    }

    /// Rules that name this trunk, with where they are.
    pub fn dependents(&self, trunk: &str) -> Vec<(String, String)> {
        let names = |route: &Route| route.trunks().any(|name| name.eq_ignore_ascii_case(trunk));
        let files = self.config.routes().iter().filter(|written| names(&written.route));
        let mut found: Vec<_> = files
            .map(|written| (written.route.name.to_string(), written.origin.to_string()))
            .collect();
        for row in self.table(Kind::Route).values() {
            if let Ok(route) = routes::route(&row.fields)
                && names(&route)
            {
                found.push((route.name.to_string(), format!("number {}", row.id)));
            }
        }
        if self.config.emergency().is_some_and(|emergency| *emergency.trunk == *trunk) {
            found.push(("proxy.emergency".to_owned(), "the configuration file".to_owned()));
        }
        found
    }

    pub(super) fn has_trunk(&self, name: &str) -> bool {
        self.file_origin(Kind::Trunk, name).is_some() || self.row_named(Kind::Trunk, name).is_some()
    }

    /// Names of trunks that a rule has and the directory does not, with the rule.
    pub fn missing_trunks(&self) -> Vec<Reason> {
        let mut missing = Vec::new();
        let mut check = |route: &Route, origin: Option<&Origin>, at: &str| {
            for name in route.trunks().filter(|name| !self.has_trunk(name)) {
                let text = format!("{at}the rule \"{}\" names no trunk: {name}", route.name);
                missing.push(Reason { origin: origin.cloned(), text });
            }
        };
        for written in self.config.routes() {
            check(&written.route, Some(&written.origin), "");
        }
        for row in self.table(Kind::Route).values() {
            if let Ok(route) = routes::route(&row.fields) {
                check(&route, None, &format!("route {} of the database: ", row.id));
            }
        }
        if let Some(emergency) = self.config.emergency()
            && !self.has_trunk(&emergency.trunk)
        {
            let text = format!("proxy.emergency names no trunk: {}", emergency.trunk);
            missing.push(Reason { origin: None, text });
        }
        missing
    }

    /// The same with extensions that are stored when the start has succeeded. Their numbers are no
    /// numbers of rows.
    #[must_use]
    pub(crate) fn with_first_extensions(mut self, extensions: &[Extension]) -> Self {
        for (number, extension) in (1..).zip(extensions) {
            let Secret::Plain(password) = &extension.secret else { continue };
            let fields = json!({
                "extension": extension.extension,
                "display_name": extension.display_name,
                "login_disabled": !extension.enabled,
                "allow_guest_calls": extension.allow_guest_calls,
                "sip_password": password,
            });
            let Value::Object(fields) = fields else { continue };
            let row = Row { id: -number, fields, created_at: WallMs(0), updated_at: WallMs(0) };
            self = self.with_row(Kind::Extension, -number, Some(row));
        }
        self
    }

    /// The same with other rows of one kind, all of which shards serve already.
    #[must_use]
    pub fn with_rows(&self, kind: Kind, rows: Vec<Row>) -> Self {
        let mut next = self.clone();
        next.rows[place(kind)] = table(kind, rows);
        next
    }

    /// The same with one row more, another, or one less.
    #[must_use]
    pub(crate) fn with_row(&self, kind: Kind, id: i64, row: Option<Row>) -> Self {
        let mut next = self.clone();
        let table = Arc::make_mut(&mut next.rows[place(kind)]);
        let before = match row {
            Some(row) => table.insert(Arc::new(row)),
            None => table.remove(id),
        };
        match kind {
            Kind::Extension => {
                let after = next.table(kind).get(id).cloned();
                for row in [before, after].into_iter().flatten() {
                    next.settle_user(row.text("extension").unwrap_or_default());
                }
            }
            Kind::Route => next.routes = Arc::new(next.all_routes(&mut Vec::new())),
            Kind::Trunk => {}
        }
        next
    }

    /// Puts a trunk in the place of the one of this name, or takes it out.
    pub(super) fn put_trunk(&mut self, before: Option<&str>, found: Option<Resolved>) {
        let at = before.and_then(|name| self.trunks.iter().position(|one| *one.name == *name));
        if at.is_none() && found.is_none() {
            return;
        }
        let trunk = found.map(|Resolved { trunk, valid, .. }| {
            self.names_due = self.names_due.into_iter().chain(due_at(valid)).min();
            trunk
        });
        let trunks = Arc::make_mut(&mut self.trunks);
        match (at, trunk) {
            (Some(at), Some(trunk)) => trunks[at] = trunk,
            (Some(at), None) => drop(trunks.remove(at)),
            (None, Some(trunk)) => trunks.push(trunk),
            (None, None) => {}
        }
    }

    /// One name anew: the first backend that knows it decides.
    fn settle_user(&mut self, name: &str) {
        let row = self.row_named(Kind::Extension, name).and_then(|row| extensions::user(row));
        let backends = self.config.backends().iter().enumerate();
        let decided = { backends }.find_map(|(place, backend)| {
            let found = match backend {
                Backend::Extensions => row.clone(),
                Backend::Memory(users) => {
                    users.iter().find(|user| *user.username == *name).cloned()
                }
                Backend::Remote(_) => None, // asked when somebody shows credentials
            };
            found.map(|user| at_place(user, place))
        });
        let users = Arc::make_mut(&mut self.users);
        match decided {
            Some(user) => drop(users.insert(name.into(), user)),
            None => drop(users.remove(name)),
        }
    }

    fn all_users(&self, odd: &mut Vec<String>) -> Users {
        let mut rows = Vec::new();
        let realm = self.config.sip().realm();
        for row in self.table(Kind::Extension).values() {
            let name = row.text("extension").unwrap_or_default();
            match extensions::user(row) {
                Some(user) => rows.push(user),
                None => odd.push(format!("extension {name} has no secret; it is left out")),
            }
            if row.text("ha1_realm").is_some_and(|other| other != realm) {
                odd.push(format!(
                    "extension {name}: its password was hashed for another realm than \
                     \"{realm}\"; it cannot register until the password is set again"
                ));
            }
        }
        let mut users = Users::new();
        for (place, backend) in self.config.backends().iter().enumerate() {
            let known = match backend {
                Backend::Extensions => rows.as_slice(),
                Backend::Memory(known) => known.as_slice(),
                Backend::Remote(_) => &[],
            };
            for user in known {
                if !users.contains_key(&user.username) {
                    users.insert(user.username.clone(), at_place(user.clone(), place));
                }
            }
        }
        users
    }

    fn all_routes(&self, odd: &mut Vec<String>) -> RouteTable {
        let files = self.config.routes().iter().map(|written| written.route.clone());
        let mut all: Vec<Route> = files.collect();
        for row in self.table(Kind::Route).values() {
            match routes::route(&row.fields) {
                Ok(route) => all.push(route),
                Err(reason) => odd.push(format!(
                    "route {} of the database cannot be read and is left out: {reason}",
                    row.id
                )),
            }
        }
        RouteTable::sorted(all, self.config.emergency().cloned())
    }

    /// A name that a file took after it was stored belongs to the file.
    fn settle_names(&mut self, kind: Kind, odd: &mut Vec<String>) {
        let twice = |row: &&Arc<Row>| {
            let name = row.text(kind.name_field()).unwrap_or_default();
            self.file_origin(kind, name).is_some()
        };
        let gone: Vec<i64> = self.table(kind).values().filter(twice).map(|row| row.id).collect();
        for id in gone {
            odd.push(format!(
                "{} {id} of the database has the name of one in a file; it is left out",
                kind.noun()
            ));
            Arc::make_mut(&mut self.rows[place(kind)]).remove(id);
        }
    }
}

#[cfg(test)]
mod tests;
