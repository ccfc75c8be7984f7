//! Paths of the contract that answer 501 until they are built.
//! Owns:  their list, so that none of them looks like a typing mistake.
//! Gives: routes that say what is missing.
//! Never: a path that works; it leaves this list when its resource arrives.
//! Holds: no answer here is ever 2xx, and nobody hears 501 who might not use the path if it were there.

use axum::extract::OriginalUri;
use axum::http::Method;

use super::doc::Doc;
use super::routes::{Need, Routes};
use super::{Code, Problem};
use crate::access::Right;

const GET: Method = Method::GET;
const POST: Method = Method::POST;

type Missing<'l> = &'l [(&'l str, Need, &'l [Method])];

/// Under every prefix.
const RESOURCES: Missing<'_> = &[
    ("/extensions/import", Need::Right(Right::ExtensionsWrite), &[POST]),
    ("/login", Need::Anybody, &[GET]),
];

/// Under the AMI prefix.
const AMI: Missing<'_> = &[("/transactions", Need::Ami(Right::Ami), &[GET])];

pub(super) fn resources() -> Routes {
    missing(RESOURCES)
}

pub(super) fn ami() -> Routes {
    missing(AMI)
}

fn missing(list: Missing<'_>) -> Routes {
    list.iter().fold(Routes::new(), |routes, (path, need, methods)| {
        methods.iter().fold(routes, |routes, method| {
            routes.on(method.clone(), path, *need, not_built).doc(Doc::missing())
        })
    })
}

async fn not_built(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    Problem::new(Code::NotBuilt, format!("{method} {} is not built yet", uri.path()))
}
