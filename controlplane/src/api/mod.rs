//! HTTP: one file per resource, three prefixes over the same functions.
//! Owns:  the routes, the layers around them, what every request can reach (`App`).
//! Gives: `router`, which the supervisor serves and the tests call.
//! Never: a change of state on GET; an answer 200 where nothing was done.
//! Holds: every path that the contract names answers: with its resource, or 501 with a code.

mod active_calls;
mod asked;
mod audit;
mod call_records;
mod command_body;
mod command_doc;
mod commands;
mod crud;
mod crud_doc;
mod csrf;
mod dialogs;
mod doc;
mod errors;
mod etag;
mod events;
mod explain;
mod export;
mod extensions;
mod fields;
mod gate;
mod health;
mod html;
mod idempotency;
mod listing;
mod login;
mod metrics;
mod not_built;
mod openapi;
mod originate;
mod page;
mod probes;
mod problem;
mod record_doc;
mod record_query;
mod record_shapes;
mod recording;
mod reload;
mod remote_recording;
mod roles;
mod routes;
mod routing;
mod search;
mod shutdown;
mod sip_flow;
mod tokens;
mod trunk_state;
mod trunks;
mod user_doc;
mod users;
mod webhook_doc;
mod webhooks;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use shared::config::{Http, OWN_API_PREFIX};
use tokio::time::timeout;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::TraceLayer;

pub use doc::Doc;
pub use problem::{Code, Problem};
pub use routes::{Need, Row};

use crate::access::{Access, Right};
use crate::archive::Archive;
use crate::board::Board;
use crate::directory::Directory;
use crate::news::News;
use crate::questions::Questions;
use crate::sipflow::Ladders;
use crate::store::Store;
use crate::supervisor::{Ending, Reloader};
use crate::webhooks::outbox::Deliveries;
use routes::Routes;

/// Bodies are questions and small documents.
const BODY_BYTES_MAX: usize = 1 << 20;
/// A request that takes longer is stuck; a recording's body is not part of this.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// What a request can reach.
#[derive(Clone, Debug)]
pub struct App {
    pub access: Arc<Access>,
    pub store: Arc<dyn Store>,
    pub board: Arc<Board>,
    pub questions: Arc<Questions>,
    pub deliveries: Arc<Deliveries>,
    pub directory: Arc<Directory>,
    pub reloader: Arc<Reloader>,
    pub ending: Arc<Ending>,
    pub news: Arc<News>,
    pub archive: Arc<Archive>,
    pub ladders: Arc<Ladders>,
    pub http: Arc<Http>,
    /// The folder of what is being recorded, or waits to become a recording.
    pub captures: Arc<Path>,
    /// The folder of what can be played into a call.
    pub prompts: Arc<Path>,
    /// This host, for answers that name the node.
    pub node: Arc<str>,
}

/// The prefix that a request came in under; links in answers start with it.
#[derive(Clone, Debug)]
struct Prefix(Arc<str>);

/// Which generation of clients a prefix serves: their verbs and shapes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clients {
    /// Of the integration guide.
    Guide,
    /// Of the original's REST API: POST asks, PUT creates.
    Older,
    Own,
}

pub fn router(app: App) -> Router {
    let console: Arc<str> = app.http.console_prefix().into();
    let (root, _) = all(&app.http).into_parts();
    root.fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(
            ServiceBuilder::new()
                .layer(TraceLayer::new_for_http())
                .layer(middleware::from_fn(own_headers))
                .layer(middleware::from_fn_with_state(console, html::for_browsers))
                .layer(CatchPanicLayer::custom(problem::panicked))
                .layer(middleware::from_fn(in_time))
                .layer(DefaultBodyLimit::max(BODY_BYTES_MAX)),
        )
        .with_state(app)
}

/// Every route with what a caller needs for it.
pub fn table(http: &Http) -> Vec<Row> {
    all(http).into_parts().1
}

/// The OpenAPI document of this table.
pub fn openapi(http: &Http) -> Value {
    openapi::of_table(http, &table(http))
}

fn all(http: &Http) -> Routes {
    Routes::new()
        .merge(probes::routes())
        .merge(metrics::routes())
        .nest(http.ami_prefix(), ami())
        .nest(http.console_prefix(), resources(Clients::Guide).merge(older()))
        .nest(http.api_prefix(), resources(Clients::Older).merge(older()))
        .nest(OWN_API_PREFIX, resources(Clients::Own).merge(own()))
}

/// What every generation of clients finds under its prefix.
fn resources(clients: Clients) -> Routes {
    Routes::new()
        .merge(login::routes())
        .merge(active_calls::routes())
        .merge(call_records::routes())
        .merge(commands::routes())
        .merge(extensions::routes(clients))
        .merge(originate::routes())
        .merge(recording::routes())
        .merge(routing::routes(clients))
        .merge(sip_flow::routes())
        .merge(trunks::routes(clients))
        .merge(not_built::resources())
}

/// What the older generations call differently.
fn older() -> Routes {
    Routes::new()
        .merge(call_records::older_routes())
        .merge(roles::older_routes())
        .merge(users::older_routes())
}

/// Under `/api/v1` only.
fn own() -> Routes {
    Routes::new()
        .merge(audit::routes())
        .merge(call_records::own_routes())
        .merge(errors::routes())
        .merge(events::routes())
        .merge(openapi::routes())
        .merge(roles::routes())
        .merge(routing::own_routes())
        .merge(tokens::routes())
        .merge(trunks::own_routes())
        .merge(users::routes())
        .merge(webhooks::routes())
}

fn ami() -> Routes {
    Routes::new()
        .merge(health::routes())
        .merge(dialogs::routes())
        .merge(originate::ami_routes())
        .merge(reload::routes())
        .merge(shutdown::routes())
        .merge(not_built::ami())
        // Behind the gate too: who may not ask learns nothing about the paths.
        .fallback(Need::Ami(Right::Ami), problem::no_such_path)
}

/// A request that is stuck gets an answer all the same.
async fn in_time(request: Request, next: Next) -> Response {
    match timeout(REQUEST_DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = format!("there was no answer within {} s", REQUEST_DEADLINE.as_secs());
            Problem::new(Code::TooSlow, text).into_response()
        }
    }
}

/// Headers that every answer has.
async fn own_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::SERVER, HeaderValue::from_static(crate::PRODUCT));
    response
}
