//! The directory in use: one writer at a time, and every change on all shards before its answer.
//! Owns:  the present `Contents`, the order of changes, the order of publications.
//! Gives: create, replace, patch, remove; a reload is in `replace`.
//! Never: serves what is not stored; leaves a stored change unpublished because somebody hung up.
//! Holds: changes that come while one is published go out together with the next publication.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde_json::{Map, Value};
use shared::config::{Config, Origin};
use shared::document::{Flaw, FlawKind, Flaws, Path};
use tokio::sync::Mutex;

use super::contents::Contents;
use super::names::Surroundings;
use super::objects::Object;
use super::resolve::{Resolved, Resolver};
use super::{Id, Kind, NotRead, Refusal, routes, trunks};
use crate::plane::Plane;
use crate::store::{Row, Store, StoreError};
use crate::supervisor::Publisher;

#[derive(Debug)]
pub struct Directory {
    contents: ArcSwap<Contents>,
    pub(super) store: Arc<dyn Store>,
    publisher: Publisher,
    pub(super) surroundings: Surroundings,
    /// Held from the check of a change to the moment that it stands.
    pub(super) writing: Mutex<()>,
    /// Grows with every change.
    version: AtomicU64,
    /// Held while shards are told.
    published: Mutex<Published>,
}

/// What every shard serves.
#[derive(Clone, Copy, Debug, Default)]
struct Published {
    version: u64,
    generation: u64,
}

/// Whether an object is what somebody means to change.
pub type Seen = Box<dyn FnOnce(&Object) -> bool + Send>;

/// What a change left behind.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Not there when it is new.
    pub before: Option<Object>,
    /// Not there when it is gone.
    pub after: Option<Object>,
    /// Fields that were taken and have no effect so far.
    pub warnings: Vec<Flaw>,
    /// That every shard serves.
    pub generation: u64,
}

impl Directory {
    /// The shards serve these contents already, under this generation.
    pub fn new(
        contents: Contents,
        generation: u64,
        store: Arc<dyn Store>,
        publisher: Publisher,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            contents: ArcSwap::from_pointee(contents),
            store,
            publisher,
            surroundings,
            writing: Mutex::new(()),
            version: AtomicU64::new(0),
            published: Mutex::new(Published { version: 0, generation }),
        }
    }

    /// What stands in the files and the database now.
    pub async fn read(
        config: Arc<Config>,
        store: &dyn Store,
        around: &Surroundings,
        odd: &mut Vec<String>,
    ) -> Result<Contents, NotRead> {
        let rows = |kind: Kind| store.rows(kind.table());
        let rows =
            [rows(Kind::Extension).await?, rows(Kind::Route).await?, rows(Kind::Trunk).await?];
        let resolver = Resolver::new(&config, around).patient();
        Contents::build(config, rows, resolver, None, odd).await.map_err(NotRead::Invalid)
    }

    pub fn contents(&self) -> Arc<Contents> {
        self.contents.load_full()
    }

    /// Where what is served goes.
    pub fn plane(&self) -> &Arc<dyn Plane> {
        &self.publisher.plane
    }

    pub async fn create(self: &Arc<Self>, kind: Kind, document: Value) -> Result<Changed, Refusal> {
        self.shielded(move |directory| async move { directory.create_now(kind, &document).await })
            .await
    }

    /// The document replaces everything but the secrets, which it keeps when it has none.
    pub async fn replace(
        self: &Arc<Self>,
        kind: Kind,
        id: Id,
        document: Value,
        seen: Seen,
    ) -> Result<Changed, Refusal> {
        self.shielded(move |directory| async move {
            directory.replace_now(kind, &id, seen, |_| document).await
        })
        .await
    }

    /// A merge patch (RFC 7396) over the object as it is shown.
    pub async fn patch(
        self: &Arc<Self>,
        kind: Kind,
        id: Id,
        patch: Value,
        seen: Seen,
    ) -> Result<Changed, Refusal> {
        self.shielded(move |directory| async move {
            let merged = |object: &Object| {
                let mut document = Value::Object(object.fields.clone());
                merge(&mut document, patch);
                document
            };
            directory.replace_now(kind, &id, seen, merged).await
        })
        .await
    }

    pub async fn remove(
        self: &Arc<Self>,
        kind: Kind,
        id: Id,
        seen: Seen,
    ) -> Result<Changed, Refusal> {
        self.shielded(move |directory| async move { directory.remove_now(kind, &id, seen).await })
            .await
    }

    /// A change goes to its end, whoever waits for it.
    async fn shielded<F>(
        self: &Arc<Self>,
        change: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<Changed, Refusal>
    where
        F: Future<Output = Result<Changed, Refusal>> + Send + 'static,
    {
        match tokio::spawn(change(Arc::clone(self))).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => {
                    let text = "the gateway is ending".to_owned();
                    Err(Refusal::Store(StoreError::Unavailable(text)))
                }
            },
        }
    }

    async fn create_now(&self, kind: Kind, document: &Value) -> Result<Changed, Refusal> {
        let writing = self.writing.lock().await;
        let before = self.contents();
        if before.table(kind).len() >= kind.most() {
            return Err(Refusal::TooMany { kind, most: kind.most() });
        }
        let (fields, warnings) = read(kind, &before, document, None)?;
        let trunk = self.resolved(kind, &before, &fields).await?;
        let row = self.store.add_row(kind.table(), &fields).await?;
        let id = row.id;
        let mut next = before.with_row(kind, id, Some(row));
        next.put_trunk(None, trunk);
        self.stand(next, writing, kind, id, None, warnings).await
    }

    async fn replace_now(
        &self,
        kind: Kind,
        id: &Id,
        seen: Seen,
        document: impl FnOnce(&Object) -> Value,
    ) -> Result<Changed, Refusal> {
        let writing = self.writing.lock().await;
        let before = self.contents();
        let (object, row) = writable(kind, &before, id, seen)?;
        let document = document(&object);
        let (fields, warnings) = read(kind, &before, &document, Some(&row))?;
        if kind == Kind::Trunk && fields.get("name").and_then(Value::as_str) != Some(&object.name) {
            in_use(&before, &object.name)?;
        }
        let trunk = self.resolved(kind, &before, &fields).await?;
        let Some(at) = self.store.put_row(kind.table(), row.id, &fields).await? else {
            return Err(Refusal::NoSuch { kind, id: id.clone() });
        };
        let new = Row { id: row.id, fields, created_at: row.created_at, updated_at: at };
        let mut next = before.with_row(kind, row.id, Some(new));
        if kind == Kind::Trunk {
            next.put_trunk(Some(&object.name), trunk);
        }
        self.stand(next, writing, kind, row.id, Some(object), warnings).await
    }

    async fn remove_now(&self, kind: Kind, id: &Id, seen: Seen) -> Result<Changed, Refusal> {
        let writing = self.writing.lock().await;
        let before = self.contents();
        let (object, row) = writable(kind, &before, id, seen)?;
        if kind == Kind::Trunk {
            in_use(&before, &object.name)?;
        }
        if !self.store.remove_row(kind.table(), row.id).await? {
            return Err(Refusal::NoSuch { kind, id: id.clone() });
        }
        let mut next = before.with_row(kind, row.id, None);
        if kind == Kind::Trunk {
            next.put_trunk(Some(&object.name), None);
        }
        let version = self.put(next);
        drop(writing);
        let generation = self.publish(version).await.map_err(Refusal::Late)?;
        Ok(Changed { before: Some(object), after: None, warnings: Vec::new(), generation })
    }

    /// The trunk of a document with its addresses.
    async fn resolved(
        &self,
        kind: Kind,
        before: &Contents,
        fields: &Map<String, Value>,
    ) -> Result<Option<Resolved>, Refusal> {
        if kind != Kind::Trunk {
            return Ok(None);
        }
        let config = trunks::config(fields).map_err(Refusal::Unresolved)?;
        let resolver = Resolver::new(&before.config, &self.surroundings);
        let served = before.trunks().iter().find(|trunk| *trunk.name == *config.name);
        let found = resolver.resolve(&config, &config.name, served).await;
        found.map(Some).map_err(Refusal::Unresolved)
    }

    async fn stand(
        &self,
        next: Contents,
        writing: tokio::sync::MutexGuard<'_, ()>,
        kind: Kind,
        id: i64,
        before: Option<Object>,
        warnings: Vec<Flaw>,
    ) -> Result<Changed, Refusal> {
        let after = next.find(kind, &Id::Number(id));
        let version = self.put(next);
        // Others may change what they have to change while the shards are told.
        drop(writing);
        let generation = self.publish(version).await.map_err(Refusal::Late)?;
        Ok(Changed { before, after, warnings, generation })
    }

    /// For contents that shards serve already.
    pub(super) fn keep(&self, next: Contents) {
        self.contents.store(Arc::new(next));
    }

    pub(super) fn put(&self, next: Contents) -> u64 {
        self.contents.store(Arc::new(next));
        self.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Returns when every shard serves at least this version of the contents.
    pub(super) async fn publish(&self, version: u64) -> Result<u64, Vec<shared::ids::ShardId>> {
        let mut published = self.published.lock().await;
        if published.version >= version {
            return Ok(published.generation); // it went out with an earlier one
        }
        let version = self.version.load(Ordering::SeqCst);
        let generation = published.generation + 1;
        let snapshot = self.contents().snapshot(generation);
        // A generation that a shard may have seen is not used again.
        published.generation = generation;
        self.publisher.publish(Arc::new(snapshot)).await?;
        published.version = version;
        Ok(generation)
    }
}

/// The columns and the warnings of a document, checked against everything else that is there.
fn read(
    kind: Kind,
    contents: &Contents,
    document: &Value,
    before: Option<&Row>,
) -> Result<(Map<String, Value>, Vec<Flaw>), Refusal> {
    let read = kind.read(&contents.config, document, before);
    let Some(fields) = read.fields else { return Err(Refusal::Flaws(read.flaws)) };
    let name = fields.get(kind.name_field()).and_then(Value::as_str).unwrap_or_default();
    if let Some(by) = contents.taken(kind, name, before.map(|row| row.id)) {
        return Err(Refusal::NameTaken { kind, name: name.to_owned(), by });
    }
    if kind == Kind::Route {
        let unknown = unknown_trunks(contents, &fields);
        if !unknown.0.is_empty() {
            return Err(Refusal::Flaws(unknown));
        }
    }
    Ok((fields, read.flaws.0))
}

fn unknown_trunks(contents: &Contents, fields: &Map<String, Value>) -> Flaws {
    let mut flaws = Flaws::default();
    let Ok(route) = routes::route(fields) else { return flaws };
    for name in route.trunks().filter(|name| !contents.has_trunk(name)) {
        let source = route.source_trunks.iter().any(|known| **known == *name);
        let field = if source { "source_trunks" } else { "dest" };
        let text = format!("there is no trunk \"{name}\"");
        flaws.push(Path::default().name(field), FlawKind::UnknownTrunk, text);
    }
    flaws
}

/// The row behind an id; what a file defines is changed in the file.
fn writable(
    kind: Kind,
    contents: &Contents,
    id: &Id,
    seen: Seen,
) -> Result<(Object, Arc<Row>), Refusal> {
    let Some(object) = contents.find(kind, id) else {
        return Err(Refusal::NoSuch { kind, id: id.clone() });
    };
    match object.row.clone() {
        Some(_) if !seen(&object) => Err(Refusal::Changed),
        Some(row) => Ok((object, row)),
        None => {
            let origin = contents.file_origin(kind, &object.name);
            let origin = origin.unwrap_or_else(|| Origin::Default.to_string());
            Err(Refusal::InFile { kind, name: object.name, origin })
        }
    }
}

fn in_use(contents: &Contents, name: &str) -> Result<(), Refusal> {
    let by = contents.dependents(name);
    if by.is_empty() {
        return Ok(());
    }
    let by = by.into_iter().map(|(rule, _)| rule).collect();
    Err(Refusal::InUse { name: name.to_owned(), by })
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(&name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn a_merge_patch_is_that_of_the_rfc() {
        for (target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, expected, "{target} {patch}");
        }
    }
}
