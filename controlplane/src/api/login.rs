//! `POST /login`, `POST /logout`, `GET /session`: sessions for people and their browsers.
//! Owns:  the two cookies, the form of the body, where a browser goes next.
//! Gives: the user, its rights and the CSRF token.
//! Never: a session on GET; goes on with a session that was there before a login.
//! Holds: wrong name and wrong password look the same, in text and in time.

use std::sync::atomic::Ordering;

use axum::extract::{Form, FromRequest, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::time::WallMs;

use super::doc::{self, Doc};
use super::routes::{Need, Routes};
use super::{App, Code, Prefix, Problem, csrf, gate};
use crate::access::{
    Caller, Deed, LoggedIn, Outcome, Principal, Refusal, Rights, SESSION_LASTS_MS,
};
use crate::store::User;

/// Scripts of our own pages read it and send it back in `X-CSRF-Token`.
const CSRF_COOKIE: &str = "csrf_token";

pub(super) fn routes() -> Routes {
    Routes::new()
        .post("/login", Need::Anybody, login)
        .doc(
            Doc::new("Log in: a session in a cookie")
                .body(
                    doc::object(&[
                        ("!identifier", doc::text()),
                        ("!password", doc::text()),
                        ("next", doc::text()),
                    ]),
                    json!({ "identifier": "dora", "password": "a long enough password" }),
                )
                .or_form()
                .answer(
                    200,
                    "Who is logged in; two cookies are set",
                    json!({
                        "user": { "id": 1, "username": "admin" },
                        "rights": ["calls:read"],
                        "csrf_token": "64 hex digits",
                        "expires_at": "2026-11-24T22:00:00.000Z",
                    }),
                )
                .empty(303, "The same for a browser that asked for HTML")
                .refuses(&[
                    Code::CsrfRefused,
                    Code::DatabaseFailed,
                    Code::DatabaseUnavailable,
                    Code::LoginRefused,
                    Code::TooBusy,
                    Code::TooManyLogins,
                ]),
        )
        .post("/logout", Need::Login, logout)
        .doc(Doc::new("End the session").empty(204, "It is over").refuses(&[Code::NoSession]))
        .get("/session", Need::Login, session)
        .doc(Doc::new("Who asks, and what they may do").answer(
            200,
            "The caller",
            json!({ "kind": "user", "name": "admin", "source": "127.0.0.1", "rights": ["calls:read"] }),
        ))
}

#[derive(Deserialize)]
struct Sent {
    identifier: String,
    password: String,
    /// Where a browser goes after the login.
    next: Option<String>,
}

async fn login(
    State(app): State<App>,
    Extension(prefix): Extension<Prefix>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    csrf::same_site(&parts.headers)?;
    let sent = read(Request::from_parts(parts.clone(), body)).await?;
    let source = gate::source(&parts);
    let agent = parts.headers.get(axum::http::header::USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let done = app.access.login(&sent.identifier, &sent.password, source, agent).await;
    let logged_in = match done {
        Ok(logged_in) => logged_in,
        Err(refusal) => return Err(refused(&app, &parts, refusal).await),
    };
    if let Some(older) = gate::cookie(&app, &parts) {
        app.access.forget(older).await?;
    }
    app.board.counts.logins.fetch_add(1, Ordering::Relaxed);
    let LoggedIn { user, rights, secret, csrf_token, ends_at } = logged_in;
    let caller = Caller::nobody(source);
    let object = format!("user {}", user.username);
    app.access.record(&caller, Deed::done("login", &object)).await;
    let cookies = cookies(&app, &secret, &csrf_token, SESSION_LASTS_MS / 1_000);
    if wants_html(&parts.headers) {
        let next = sent.next.filter(|next| is_local(next)).unwrap_or_else(|| prefix.0.to_string());
        return Ok((StatusCode::SEE_OTHER, cookies, [(LOCATION, next)]).into_response());
    }
    let body = json!({
        "user": show_user(&user),
        "rights": show_rights(rights),
        "csrf_token": csrf_token,
        "expires_at": WallMs(ends_at),
    });
    Ok((cookies, Json(body)).into_response())
}

/// Counts and notes a login that failed.
async fn refused(app: &App, parts: &Parts, refusal: Refusal) -> Problem {
    let counts = &app.board.counts;
    let source = gate::source(parts);
    match &refusal {
        Refusal::WrongPassword { known } => {
            counts.login_failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(?source, user = known, "a login failed");
            // What was typed as a name may be a password: only names that exist are written down.
            let object = known
                .as_ref()
                .map_or_else(|| "unknown user".to_owned(), |known| format!("user {known}"));
            let deed = Deed::new("login", &object, Outcome::Refused);
            app.access.record(&Caller::nobody(source), deed).await;
        }
        Refusal::TooMany { .. } => {
            counts.logins_throttled.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    }
    refusal.into()
}

async fn read(request: Request) -> Result<Sent, Problem> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let unreadable = |status: StatusCode, text: String| {
        let too_long = status == StatusCode::PAYLOAD_TOO_LARGE;
        Problem::new(if too_long { Code::BodyTooLong } else { Code::BodyUnreadable }, text)
    };
    if kind.is_some_and(|kind| kind.starts_with("application/json")) {
        let body = Json::from_request(request, &()).await;
        return body
            .map(|Json(sent)| sent)
            .map_err(|error| unreadable(error.status(), without_values(&error.body_text())));
    }
    let body = Form::from_request(request, &()).await;
    body.map(|Form(sent)| sent)
        .map_err(|error| unreadable(error.status(), without_values(&error.body_text())))
}

/// The library quotes what it could not read, and that may be a password.
fn without_values(_: &str) -> String {
    "the body must have identifier and password, as a form or as JSON".to_owned()
}

fn cookies(
    app: &App,
    secret: &str,
    csrf_token: &str,
    seconds: i64,
) -> AppendHeaders<[(axum::http::HeaderName, HeaderValue); 2]> {
    let secure = app.http.secure_cookie();
    let flags = if secure { "; Secure" } else { "" };
    let name = gate::cookie_name(secure);
    let shared = format!("Path=/; SameSite=Strict; Max-Age={seconds}{flags}");
    let value = |text: String| HeaderValue::try_from(text).expect("hex and fixed words");
    AppendHeaders([
        (SET_COOKIE, value(format!("{name}={secret}; HttpOnly; {shared}"))),
        (SET_COOKIE, value(format!("{CSRF_COOKIE}={csrf_token}; {shared}"))),
    ])
}

fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.trim().starts_with("text/html"))
}

/// A path of ours and nothing that a browser could take for another host.
fn is_local(next: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && c != '\\';
    next.starts_with('/') && !next.starts_with("//") && next.chars().all(plain)
}

async fn logout(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    let Principal::User { session, .. } = &caller.principal else {
        return Err(Problem::new(Code::NoSession, format!("{caller} has no session to end")));
    };
    app.access.logout(session).await?;
    let object = caller.to_string();
    app.access.record(&caller, Deed::done("logout", &object)).await;
    Ok((StatusCode::NO_CONTENT, cookies(&app, "", "", 0)).into_response())
}

/// Who asks, for programs that want to know what their token may do.
async fn session(caller: Caller) -> Json<Value> {
    let (kind, name) = match &caller.principal {
        Principal::User { name, .. } => ("user", Some(name.clone())),
        Principal::Token { name, .. } => ("token", Some(name.clone())),
        Principal::ConfiguredToken(place) => ("configured_token", Some(place.to_string())),
        Principal::Address => ("address", None),
        Principal::Nobody => ("nobody", None),
    };
    Json(json!({
        "kind": kind,
        "name": name,
        "source": caller.shown_source(),
        "rights": show_rights(caller.rights),
    }))
}

pub(super) fn show_rights(rights: Rights) -> Vec<&'static str> {
    rights.iter().map(crate::access::Right::as_str).collect()
}

pub(super) fn show_user(user: &User) -> Value {
    json!({
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "is_active": user.is_active,
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
        "last_login_at": user.last_login_at.map(WallMs),
        "last_login_ip": user.last_login_ip,
        "created_at": WallMs(user.created_at),
        "updated_at": WallMs(user.updated_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_paths_are_where_a_browser_goes_next() {
        for own in ["/console", "/console/calls?x=1", "/"] {
            assert!(is_local(own), "{own}");
        }
        for foreign in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "evil",
            "/a b",
            "/\r\n",
        ] {
            assert!(!is_local(foreign), "{foreign:?}");
        }
    }
}
