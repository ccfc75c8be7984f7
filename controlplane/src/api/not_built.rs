//! Paths of the contract that answer 501 until they are built.
//! Owns:  their list, so that none of them looks like a typing mistake.
//! Gives: routes that say what is missing.
//! Never: a path that works; it leaves this list when its resource arrives.
//! Holds: no answer here is ever 2xx.

use axum::Router;
use axum::extract::OriginalUri;
use axum::http::Method;
use axum::routing::{any, patch, post};

use super::{App, Code, Problem};

/// Under every prefix.
const RESOURCES: [&str; 12] = [
    "/calls/active/{call_id}/commands",
    "/call-records/{id}/pcap",
    "/call-records/{id}/sip-flow",
    "/extensions",
    "/extensions/{id}",
    "/login",
    "/logout",
    "/routing",
    "/routing/{id}",
    "/sip-trunk",
    "/sip-trunk/{id}",
    "/commands",
];

/// Under `/api/v1` only.
const OWN_API: [&str; 4] = ["/errors", "/events", "/openapi.json", "/routes/explain"];

/// Under the AMI prefix.
const AMI: [&str; 4] = ["/originate", "/reload/{what}", "/shutdown", "/transactions"];

pub(super) fn resources() -> Router<App> {
    let routes =
        RESOURCES.iter().fold(Router::new(), |routes, path| routes.route(path, any(not_built)));
    // The same paths have methods that work.
    routes.route("/call-records/{id}", patch(not_built).delete(not_built))
}

pub(super) fn own_api() -> Router<App> {
    OWN_API.iter().fold(Router::new(), |routes, path| routes.route(path, any(not_built)))
}

pub(super) fn ami() -> Router<App> {
    AMI.iter().fold(Router::new(), |routes, path| routes.route(path, post(not_built)))
}

async fn not_built(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    Problem::new(Code::NotBuilt, format!("{method} {} is not built yet", uri.path()))
}
