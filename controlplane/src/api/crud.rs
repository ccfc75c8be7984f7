//! The verbs of what operators configure: one way for extensions, trunks and routes.
//! Owns:  which verb means what for which generation of clients; the shape of an answer.
//! Gives: `Resource`, which each kind mounts under its paths.
//! Never: a rule about a document; `directory` has those.
//! Holds: a change is served by every shard before it is answered, and is in the audit log.

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::asked::{Document, Id, Pairs};
use super::fields::FieldError;
use super::routes::{Need, Routes};
use super::{
    App, Clients, Code, Prefix, Problem, crud_doc, etag, extensions, listing, trunk_state,
};
use crate::access::{Caller, Deed, Outcome, Right};
use crate::directory::{self, Changed, Kind, Object, Refusal, Seen};

/// One kind under one path for one generation of clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    pub(super) clients: Clients,
    pub(super) path: &'static str,
}

/// What a change comes with besides its document.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) caller: Caller,
    pub(super) prefix: Prefix,
    pub(super) headers: HeaderMap,
}

impl Asking {
    /// What the caller saw must still be so, if it says what it saw.
    pub(super) fn seen(&self) -> Seen {
        let headers = self.headers.clone();
        Box::new(move |object| etag::check(&headers, &Value::Object(object.shown())).is_ok())
    }
}

impl Resource {
    pub(super) const fn reading(self) -> Need {
        Need::Right(match self.kind {
            Kind::Extension => Right::ExtensionsRead,
            Kind::Route => Right::RoutesRead,
            Kind::Trunk => Right::TrunksRead,
        })
    }

    pub(super) const fn writing(self) -> Need {
        Need::Right(match self.kind {
            Kind::Extension => Right::ExtensionsWrite,
            Kind::Route => Right::RoutesWrite,
            Kind::Trunk => Right::TrunksWrite,
        })
    }

    pub(super) fn one(self, action: &str) -> String {
        format!("{}/{{id}}{action}", self.path)
    }

    /// GET a list, one more; GET, PUT, PATCH, DELETE of one.
    pub(super) fn routes(self) -> Routes {
        let list = move |State(app): State<App>, pairs: Pairs| async move {
            let asked = listing::from_pairs(self, &pairs.0)?;
            listing::answer(&app, self, &asked).await
        };
        let query = move |State(app): State<App>, Document(body): Document| async move {
            let asked = listing::from_body(self, &body)?;
            listing::answer(&app, self, &asked).await
        };
        let create = move |State(app): State<App>,
                           caller: Caller,
                           Extension(prefix): Extension<Prefix>,
                           headers: HeaderMap,
                           Document(body): Document| async move {
            self.create(&app, &Asking { caller, prefix, headers }, body).await
        };
        let routes = Routes::new().get(self.path, self.reading(), list).doc(crud_doc::list(self));
        // The original asks with POST and creates with PUT.
        let routes = match self.clients {
            Clients::Older => routes
                .post(self.path, self.reading(), query)
                .doc(crud_doc::query(self))
                .on(Method::PUT, self.path, self.writing(), create),
            Clients::Guide | Clients::Own => routes.post(self.path, self.writing(), create),
        };
        routes.doc(crud_doc::create(self)).merge(self.member())
    }

    fn member(self) -> Routes {
        let read = move |State(app): State<App>, Id(id): Id| async move {
            let object = self.find(&app, &id)?;
            let tag = [(header::ETAG, etag::of(&Value::Object(object.shown())))];
            let shown = self.shown(&app, &object).await?;
            Ok::<_, Problem>((tag, Json(shown)))
        };
        let write = move |State(app): State<App>,
                          method: Method,
                          caller: Caller,
                          Extension(prefix): Extension<Prefix>,
                          headers: HeaderMap,
                          Id(id): Id,
                          Document(body): Document| async move {
            let asking = Asking { caller, prefix, headers };
            let id = directory::Id::parse(&id);
            let what = id.to_string();
            let seen = asking.seen();
            let done = match method {
                Method::PATCH => app.directory.patch(self.kind, id, body, seen).await,
                _ => app.directory.replace(self.kind, id, body, seen).await,
            };
            let changed = self.recorded(&app, &asking.caller, "change", &what, done).await?;
            self.answer(&app, &asking.prefix, StatusCode::OK, &changed).await
        };
        let remove = move |State(app): State<App>,
                           caller: Caller,
                           Extension(prefix): Extension<Prefix>,
                           headers: HeaderMap,
                           Id(id): Id| async move {
            let asking = Asking { caller, prefix, headers };
            let id = directory::Id::parse(&id);
            let what = id.to_string();
            let done = app.directory.remove(self.kind, id, asking.seen()).await;
            let changed = self.recorded(&app, &asking.caller, "remove", &what, done).await?;
            let gone = changed.before.as_ref();
            Ok::<_, Problem>(Json(json!({
                "status": "deleted",
                "id": gone.and_then(|object| object.row.as_ref()).map(|row| row.id),
                "name": gone.map(|object| &object.name),
                "generation": changed.generation,
            })))
        };
        let one = self.one("");
        Routes::new()
            .get(&one, self.reading(), read)
            .doc(crud_doc::one(self))
            .on(Method::PUT, &one, self.writing(), write)
            .doc(crud_doc::replace(self))
            .on(Method::PATCH, &one, self.writing(), write)
            .doc(crud_doc::patch(self))
            .on(Method::DELETE, &one, self.writing(), remove)
            .doc(crud_doc::remove(self))
    }

    pub(super) fn find(self, app: &App, id: &str) -> Result<Object, Problem> {
        let id = directory::Id::parse(id);
        let found = app.directory.contents().find(self.kind, &id);
        found.ok_or_else(|| Refusal::NoSuch { kind: self.kind, id }.into())
    }

    pub(super) async fn create(
        self,
        app: &App,
        asking: &Asking,
        body: Value,
    ) -> Result<Response, Problem> {
        let name = body.get(self.kind.name_field()).and_then(Value::as_str).unwrap_or_default();
        let what = name.to_owned();
        let done = app.directory.create(self.kind, body).await;
        let changed = self.recorded(app, &asking.caller, "create", &what, done).await?;
        self.answer(app, &asking.prefix, StatusCode::CREATED, &changed).await
    }

    /// Writes down what changed; what was refused changed nothing.
    pub(super) async fn recorded(
        self,
        app: &App,
        caller: &Caller,
        verb: &str,
        what: &str,
        done: Result<Changed, Refusal>,
    ) -> Result<Changed, Problem> {
        let noun = self.kind.noun();
        let action = format!("{noun}.{verb}");
        match &done {
            Ok(changed) => {
                let shown = |object: &Object| Value::Object(object.shown());
                let (before, after) = (changed.before.as_ref(), changed.after.as_ref());
                let name = after.or(before).map_or(what, |object| &object.name);
                let object = format!("{noun} {name}");
                let deed = Deed::done(&action, &object).change(before.map(shown), after.map(shown));
                app.access.record(caller, deed).await;
            }
            Err(late @ Refusal::Late(_)) => {
                let object = format!("{noun} {what}");
                let deed = Deed::new(&action, &object, Outcome::Failed).detail(late.to_string());
                app.access.record(caller, deed).await;
            }
            Err(_) => {}
        }
        done.map_err(Problem::from)
    }

    /// The object as it is now, what of it has no effect, and since when it is served.
    pub(super) async fn answer(
        self,
        app: &App,
        prefix: &Prefix,
        status: StatusCode,
        changed: &Changed,
    ) -> Result<Response, Problem> {
        let Some(object) = &changed.after else {
            return Err(Problem::new(Code::Internal, "nothing is left of it"));
        };
        let mut body = self.shown(app, object).await?;
        let id = object.row.as_ref().map(|row| row.id);
        if let Value::Object(body) = &mut body {
            body.insert("id".to_owned(), json!(id));
            body.insert("generation".to_owned(), changed.generation.into());
            let warnings = changed.warnings.iter().map(|flaw| FieldError::of_flaw(flaw).show());
            body.insert("warnings".to_owned(), warnings.collect());
            // Of an object that has one of its own this word is the state of the object.
            body.entry("status").or_insert_with(|| "ok".into());
        }
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::ETAG, etag::of(&Value::Object(object.shown())));
        if status == StatusCode::CREATED
            && let Some(id) = id
            && let Ok(at) = format!("{}{}/{id}", prefix.0, self.path).parse()
        {
            headers.insert(header::LOCATION, at);
        }
        Ok(response)
    }

    async fn shown(self, app: &App, object: &Object) -> Result<Value, Problem> {
        let mut items = self.show_all(app, std::slice::from_ref(object)).await;
        items.pop().ok_or_else(|| Problem::new(Code::Internal, "an object has no shape"))
    }

    /// Objects in the shape of their clients, extensions with their registrations, trunks with their
    /// state.
    pub(super) async fn show_all(self, app: &App, objects: &[Object]) -> Vec<Value> {
        let plain: Vec<Map<String, Value>> = objects.iter().map(Object::shown).collect();
        match self.kind {
            Kind::Extension => extensions::with_registrations(app, self.clients, plain).await,
            Kind::Trunk => trunk_state::with_states(app, plain).await,
            Kind::Route => plain.into_iter().map(Value::Object).collect(),
        }
    }
}
