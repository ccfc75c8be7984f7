//! `GET /openapi.json` and `/docs/`: the OpenAPI 3.1 document, made from the table of routes.
//! Owns:  how a row and its `Doc` become an operation; what every operation can answer besides.
//! Gives: the document, and a viewer that is part of the program.
//! Never: a path that the router does not have, a request to anybody else.
//! Holds: the document is made from the very table that the router is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use shared::config::{Http, OWN_API_PREFIX};
use utoipa_swagger_ui::Config;

use super::doc::{Answer, Content, Doc};
use super::gate::cookie_name;
use super::routes::{Need, Routes, Row};
use super::{App, Code, Problem};
use crate::VERSION;
use crate::access::Scope;

/// What a page of the viewer may do: load what lies beside it, and nothing from anywhere else.
const CONTENT_RULES: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/openapi.json", Need::Anybody, document)
        .doc(Doc::new("This document").answer(200, "OpenAPI 3.1", json!({ "openapi": "3.1.0" })))
        .get("/docs", Need::Anybody, to_viewer)
        .doc(Doc::new("Leads to the viewer").empty(308, "The viewer is below /docs/"))
        .get("/docs/", Need::Anybody, viewer_page)
        .doc(Doc::new("A page that shows this document").file(200, "The page", "text/html"))
        .get("/docs/{file}", Need::Anybody, viewer_file)
        .doc(
            Doc::new("A file of that page")
                .at("file", "index.css")
                .file(200, "The file", "text/css")
                .file(200, "The file", "text/html")
                .file(200, "The file", "text/javascript")
                .file(200, "The file", "image/png")
                .refuses(&[Code::NoSuchPath]),
        )
}

async fn document(State(app): State<App>) -> Json<Value> {
    Json(of_table(&app.http, &super::table(&app.http)))
}

async fn to_viewer(OriginalUri(uri): OriginalUri) -> Response {
    let place = HeaderValue::try_from(format!("{}/", uri.path())).expect("a path that came in");
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, place)]).into_response()
}

async fn viewer_page(uri: OriginalUri) -> Result<Response, Problem> {
    viewer("index.html", &uri)
}

async fn viewer_file(Path(file): Path<String>, uri: OriginalUri) -> Result<Response, Problem> {
    viewer(&file, &uri)
}

fn viewer(file: &str, OriginalUri(uri): &OriginalUri) -> Result<Response, Problem> {
    // The badge of the online validator would be a request to somebody else.
    let config = Config::new([format!("{OWN_API_PREFIX}/openapi.json")]).validator_url("none");
    let found = utoipa_swagger_ui::serve(file, Arc::new(config))
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let Some(found) = found else {
        let text = format!("{} is not a path of this gateway", uri.path());
        return Err(Problem::new(Code::NoSuchPath, text));
    };
    let mut response = found.bytes.into_owned().into_response();
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::try_from(found.content_type) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    if found.gzpipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    let rules = HeaderValue::from_static(CONTENT_RULES);
    headers.insert(header::CONTENT_SECURITY_POLICY, rules);
    Ok(response)
}

pub(super) fn of_table(http: &Http, table: &[Row]) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for row in table {
        let operation = operation(http, row);
        let method = row.method.as_str().to_lowercase();
        paths.entry(&row.path).or_default().insert(method, operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ringgate",
            "version": VERSION,
            "description": "A SIP and RTP gateway. The same resources stand under three prefixes, one \
                            per generation of clients; new clients use /api/v1.",
        },
        "paths": paths,
        "components": { "schemas": { "Problem": problem_schema() }, "securitySchemes": security(http) },
    })
}

fn security(http: &Http) -> Value {
    json!({
        "token": { "type": "http", "scheme": "bearer" },
        "session": { "type": "apiKey", "in": "cookie", "name": cookie_name(http.secure_cookie()) },
    })
}

/// RFC 9457, and what we add.
fn problem_schema() -> Value {
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string", "enum": codes },
            "detail": { "type": "string" },
            "message": { "type": "string" },
            "errors": { "type": "array", "items": {
                "type": "object",
                "properties": {
                    "pointer": { "type": "string" },
                    "code": { "type": "string" },
                    "detail": { "type": "string" },
                },
            } },
        },
    })
}

fn tag(http: &Http, path: &str) -> &'static str {
    let under = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    match () {
        () if under(OWN_API_PREFIX) => "api v1",
        () if under(http.ami_prefix()) => "ami",
        () if under(http.console_prefix()) => "console",
        () if under(http.api_prefix()) => "api",
        () => "probes",
    }
}

fn operation(http: &Http, row: &Row) -> Value {
    let bare = Doc::new("");
    let doc = row.doc.as_ref().unwrap_or(&bare);
    let id = format!("{} {}", row.method, row.path).to_lowercase();
    let id = id.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let mut tags = vec![tag(http, &row.path)];
    if doc.is_missing {
        tags.push("not built");
    }
    let mut operation = json!({
        "operationId": id,
        "summary": doc.summary,
        "tags": tags,
        "parameters": parameters(row, doc),
        "responses": responses(row, doc),
    });
    // Who checks us against this document knows by this mark which 501 is meant.
    if doc.is_missing {
        operation["x-not-built"] = true.into();
    } else if !doc.lacks.is_empty() {
        operation["x-not-built"] = json!(doc.lacks);
    }
    if let Some(text) = needs(row.need) {
        operation["description"] = text.into();
        operation["security"] = json!([{ "token": [] }, { "session": [] }]);
    }
    if let Some(body) = &doc.body {
        let mut media = json!({ "schema": body.schema });
        if let [only] = body.examples.as_slice() {
            media["example"] = only.clone();
        } else {
            let named = body.examples.iter().enumerate();
            media["examples"] = named
                .map(|(place, value)| (place.to_string(), json!({ "value": value })))
                .collect();
        }
        let mut content = json!({ "application/json": media });
        if body.or_form {
            content["application/x-www-form-urlencoded"] = json!({ "schema": body.schema });
        }
        operation["requestBody"] = json!({ "required": !body.or_nothing, "content": content });
    }
    operation
}

fn needs(need: Need) -> Option<String> {
    let scopes = |right| {
        let scopes: Vec<_> = Scope::with(right).map(Scope::as_str).collect();
        format!("`{}` (token scope {})", right.as_str(), scopes.join(" or "))
    };
    match need {
        Need::Anybody => None,
        Need::Login => Some("Needs credentials.".to_owned()),
        Need::Right(right) => Some(format!("Needs {}.", scopes(right))),
        Need::Metrics => Some("Open to this machine and to the token of `[metrics]`.".to_owned()),
        Need::Ami(right) => {
            Some(format!("Open to the addresses of `[ami] allows`; others need {}.", scopes(right)))
        }
    }
}

fn parameters(row: &Row, doc: &Doc) -> Vec<Value> {
    let names = row.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = names
        .map(|name| {
            let known = doc.path.iter().find(|known| known.name == name);
            let mut schema = json!({ "type": "string", "minLength": 1 });
            if let Some(known) = known.filter(|known| !known.words.is_empty()) {
                schema["enum"] = json!(known.words);
            }
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "schema": schema,
                "example": known.map_or("x", |known| known.example.as_str()),
            })
        })
        .collect();
    parameters.extend(doc.query.iter().map(|param| {
        let (name, schema, text) = (param.name, &param.schema, param.text);
        json!({ "name": name, "in": "query", "schema": schema, "description": text })
    }));
    let mut header = |name: &str, text: &str| {
        let schema =
            json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" });
        parameters
            .push(json!({ "name": name, "in": "header", "schema": schema, "description": text }));
    };
    if takes_key(row) {
        header("Idempotency-Key", "Sent again with the same key and body, it happens once");
    }
    if doc.is_versioned && row.method != Method::GET {
        header("If-Match", "The ETag of what is to be changed");
    }
    parameters
}

fn takes_key(row: &Row) -> bool {
    row.method == Method::POST && row.need != Need::Anybody
}

fn responses(row: &Row, doc: &Doc) -> Value {
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    for Answer { status, text, content } in &doc.answers {
        let response =
            responses.entry(status.to_string()).or_insert_with(|| json!({ "description": text }));
        match content {
            Content::None => {}
            Content::File(media) => response["content"][media] = json!({}),
            Content::Json { example, schema } => {
                response["content"]["application/json"] =
                    json!({ "schema": schema, "example": example });
            }
        }
    }
    let mut by_status: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    for code in refusals(row, doc) {
        by_status.entry(code.status().as_u16()).or_default().insert(code.as_str());
    }
    for (status, codes) in by_status {
        let named: Vec<_> = codes.iter().map(|code| format!("`{code}`")).collect();
        let response = responses.entry(status.to_string()).or_insert_with(|| json!({}));
        response["description"] = named.join(", ").into();
        let schema = json!({
            "$ref": "#/components/schemas/Problem",
            "properties": { "code": { "enum": codes } },
        });
        response["content"]["application/problem+json"] = json!({ "schema": schema });
    }
    for (status, response) in &mut responses {
        for (name, schema, text) in headers(status, row, doc) {
            response["headers"][name] =
                json!({ "required": true, "schema": schema, "description": text });
        }
    }
    json!(responses)
}

/// Headers that every answer with this status has.
fn headers(status: &str, row: &Row, doc: &Doc) -> Vec<(&'static str, Value, &'static str)> {
    let text = || json!({ "type": "string", "minLength": 1 });
    let seconds = || json!({ "type": "integer", "minimum": 1 });
    match status {
        "200" if doc.is_versioned && row.method != Method::DELETE => {
            vec![("ETag", text(), "The version, for If-Match")]
        }
        "303" | "308" => vec![("Location", text(), "Where to go on")],
        "401" => vec![("WWW-Authenticate", text(), "How to say who asks")],
        "429" | "503" => vec![("Retry-After", seconds(), "Seconds until another try may help")],
        _ => Vec::new(),
    }
}

/// What a route can refuse: its own, and what the layers before it do.
fn refusals(row: &Row, doc: &Doc) -> Vec<Code> {
    use Code::{
        BodyTooLong, CredentialsInvalid, CsrfRefused, DatabaseFailed, DatabaseUnavailable,
        FilterInvalid, FilterUnknown, ForeignHost, IdempotencyInFlight, IdempotencyKeyInvalid,
        IdempotencyKeyReused, IdempotencyUnknown, Internal, LoginRequired, PathUnreadable,
        PermissionMissing, PreconditionFailed, QueryUnreadable, SourceRefused, TooBusy,
        TooManyKeys, TooSlow,
    };
    let mut codes = vec![Internal, TooSlow];
    codes.extend_from_slice(&doc.refuses);
    match row.need {
        Need::Anybody => {}
        Need::Login => {
            codes.extend([LoginRequired, CredentialsInvalid, SourceRefused, CsrfRefused])
        }
        Need::Right(_) => codes.extend([
            LoginRequired,
            CredentialsInvalid,
            SourceRefused,
            CsrfRefused,
            PermissionMissing,
        ]),
        Need::Ami(_) | Need::Metrics => codes.extend([
            CredentialsInvalid,
            SourceRefused,
            CsrfRefused,
            PermissionMissing,
            ForeignHost,
        ]),
    }
    if row.need != Need::Anybody {
        codes.extend([DatabaseFailed, DatabaseUnavailable, TooBusy]);
    }
    if row.path.contains('{') {
        codes.push(PathUnreadable);
    }
    if !doc.query.is_empty() {
        codes.extend([FilterInvalid, FilterUnknown, QueryUnreadable]);
    }
    if takes_key(row) {
        codes.extend([
            BodyTooLong,
            IdempotencyInFlight,
            IdempotencyKeyInvalid,
            IdempotencyKeyReused,
            IdempotencyUnknown,
            TooManyKeys,
        ]);
    }
    if doc.is_versioned && row.method != Method::GET {
        codes.push(PreconditionFailed);
    }
    codes
}
