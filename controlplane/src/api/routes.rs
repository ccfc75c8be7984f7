//! The table of routes: every one names its method, its path and what a caller needs for it.
//! Owns:  `Routes`, the only way to put a function under a path; `Need`.
//! Gives: the router, and the same table as rows for the matrix in `docs/api-access.md`.
//! Never: a path without a need: there is no method that takes one.
//! Holds: the gate runs before anything of the request's body is read.

use std::pin::Pin;

use axum::extract::{FromRequestParts, Request};
use axum::handler::Handler;
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Extension, Router};

use super::doc::Doc;
use super::{App, Code, Prefix, Problem, gate, idempotency};
use crate::access::{Caller, Right};

/// What a caller needs for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// An address of `[ami] allows`; or credentials with `ami:access` and this right.
    Ami(Right),
    Anybody,
    /// Credentials, whatever their rights.
    Login,
    /// This machine, the token of `[metrics]`, or credentials with `system:read`.
    Metrics,
    Right(Right),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub method: Method,
    pub path: String,
    pub need: Need,
    /// What it says about itself.
    pub doc: Option<Doc>,
}

#[derive(Debug, Default)]
pub(super) struct Routes {
    router: Router<App>,
    rows: Vec<Row>,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn get<H: Handler<T, App>, T: 'static>(
        self,
        path: &str,
        need: Need,
        answer: H,
    ) -> Self {
        self.on(Method::GET, path, need, answer)
    }

    pub(super) fn post<H: Handler<T, App>, T: 'static>(
        self,
        path: &str,
        need: Need,
        answer: H,
    ) -> Self {
        self.on(Method::POST, path, need, answer)
    }

    /// `answer` runs for those who have what `need` says; it finds out who with the extractor `Caller`.
    pub(super) fn on<H: Handler<T, App>, T: 'static>(
        mut self,
        method: Method,
        path: &str,
        need: Need,
        answer: H,
    ) -> Self {
        let filter = MethodFilter::try_from(method.clone()).expect("a method that axum knows");
        self.router = self.router.route(path, on(filter, Guarded { need, answer }));
        self.rows.push(Row { method, path: path.to_owned(), need, doc: None });
        self
    }

    /// Documents the route that was added last.
    pub(super) fn doc(mut self, doc: Doc) -> Self {
        if let Some(row) = self.rows.last_mut() {
            row.doc = Some(doc);
        }
        self
    }

    /// What answers below this prefix where no route does.
    pub(super) fn fallback<H: Handler<T, App>, T: 'static>(
        mut self,
        need: Need,
        answer: H,
    ) -> Self {
        self.router = self.router.fallback(Guarded { need, answer });
        self
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.rows.extend(other.rows);
        self
    }

    /// Puts the other routes under a prefix, which they find as `Extension<Prefix>`.
    pub(super) fn nest(mut self, prefix: &str, other: Self) -> Self {
        let router = other.router.layer(Extension(Prefix(prefix.into())));
        self.router = self.router.nest(prefix, router);
        self.rows.extend(
            other.rows.into_iter().map(|row| Row { path: format!("{prefix}{}", row.path), ..row }),
        );
        self
    }

    pub(super) fn into_parts(self) -> (Router<App>, Vec<Row>) {
        (self.router, self.rows)
    }
}

/// A function behind the gate.
#[derive(Clone)]
struct Guarded<H> {
    need: Need,
    answer: H,
}

impl<H, T> Handler<T, App> for Guarded<H>
where
    H: Handler<T, App>,
    T: 'static,
{
    type Future = Pin<Box<dyn Future<Output = Response> + Send>>;

    fn call(self, request: Request, app: App) -> Self::Future {
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match gate::admit(&app, self.need, &parts).await {
                Ok(caller) => {
                    let once = parts.method == Method::POST
                        && self.need != Need::Anybody
                        && parts.headers.contains_key(idempotency::KEY_HEADER);
                    parts.extensions.insert(caller.clone());
                    let request = Request::from_parts(parts, body);
                    if !once {
                        return self.answer.call(request, app).await;
                    }
                    let answer = |request| self.answer.call(request, app.clone());
                    let answered = idempotency::once(app.clone(), &caller, request, answer).await;
                    answered.unwrap_or_else(IntoResponse::into_response)
                }
                Err(problem) => problem.into_response(),
            }
        })
    }
}

/// Who asks, as the gate found out.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::new(Code::Internal, "a route stands outside of the table"))
    }
}
