//! The gate in front of every route: who asks, and whether that is enough.
//! Owns:  where credentials stand in a request; which of them count for what.
//! Gives: a `Caller`, or 401, 403, 421, 429, 503 with a code.
//! Never: a body; a state change beyond the marks of last use.
//! Holds: credentials that are wrong are refused even where others would do. An address lets in only
//!        over a connection of its own: not through a proxy, not under somebody else's name, not from
//!        another site's page.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use shared::config::Network;

use super::routes::Need;
use super::{App, Code, Problem, csrf};
use crate::access::{Caller, Principal, Refusal, Right, Rights, Scope, Visitor};

/// What the session's cookie is called; browsers take the second name only over TLS, for this host.
const COOKIE: &str = "ringgate_session";
const COOKIE_SECURE: &str = "__Host-ringgate_session";

/// Headers that say that somebody else sent the request first.
const FORWARDED: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

pub(super) async fn admit(app: &App, need: Need, parts: &Parts) -> Result<Caller, Problem> {
    let admitted = match need {
        Need::Anybody => Ok(Caller::nobody(source(parts))),
        Need::Ami(right) => match by_address(app, parts, &app.access.ami_allows()) {
            Ok(source) => Ok(let_in(source, Rights::of(&[Right::Ami, right]))),
            Err(problem) if !has_credentials(app, parts) => Err(problem),
            Err(_) => identify(app, parts).await.and_then(|caller| {
                permit(&caller, Right::Ami)?;
                permit(&caller, right)?;
                Ok(caller)
            }),
        },
        Need::Login => identify(app, parts).await,
        Need::Metrics => match by_address(app, parts, &Network::LOOPBACK_ALL) {
            Ok(source) => Ok(let_in(source, Rights::of(&[Right::SystemRead]))),
            Err(problem) if !has_credentials(app, parts) => Err(problem),
            Err(_) if is_metrics_token(app, parts) => Ok(Caller::nobody(source(parts))),
            Err(_) => identify(app, parts).await.and_then(|caller| {
                permit(&caller, Right::SystemRead)?;
                Ok(caller)
            }),
        },
        Need::Right(right) => identify(app, parts).await.and_then(|caller| {
            permit(&caller, right)?;
            Ok(caller)
        }),
    };
    if admitted.is_err() {
        app.board.counts.requests_denied.fetch_add(1, Ordering::Relaxed);
    }
    admitted
}

pub(super) fn source(parts: &Parts) -> Option<IpAddr> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map(|peer| peer.0.ip().to_canonical())
}

/// The name of the cookie that holds a session's secret.
pub(super) const fn cookie_name(secure: bool) -> &'static str {
    if secure { COOKIE_SECURE } else { COOKIE }
}

/// The secret of the session that a browser sent along.
pub(super) fn cookie<'p>(app: &App, parts: &'p Parts) -> Option<&'p str> {
    let name = cookie_name(app.http.secure_cookie());
    let cookies = parts.headers.get_all(header::COOKIE).iter();
    let pairs = cookies.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    let mut found = pairs.filter_map(|pair| pair.trim().split_once('='));
    found.find(|(known, _)| *known == name).map(|(_, secret)| secret)
}

fn has_credentials(app: &App, parts: &Parts) -> bool {
    parts.headers.contains_key(header::AUTHORIZATION) || cookie(app, parts).is_some()
}

/// By the Authorization header if there is one, by the cookie if not.
async fn identify(app: &App, parts: &Parts) -> Result<Caller, Problem> {
    let source = source(parts);
    if parts.headers.contains_key(header::AUTHORIZATION) {
        let Some(token) = bearer(&parts.headers) else {
            let text = "the Authorization header must be \"Bearer TOKEN\"";
            return Err(Problem::new(Code::CredentialsInvalid, text));
        };
        return Ok(app.access.by_bearer(token, source).await?);
    }
    let Some(secret) = cookie(app, parts) else {
        let text = "send \"Authorization: Bearer TOKEN\", or log in first";
        return Err(Problem::new(Code::LoginRequired, text));
    };
    let Visitor { caller, csrf_token } = app.access.by_session(secret, source).await?;
    if !parts.method.is_safe() {
        csrf::check(&parts.headers, &csrf_token)?;
    }
    Ok(caller)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn permit(caller: &Caller, right: Right) -> Result<(), Problem> {
    if caller.may(right) {
        return Ok(());
    }
    let scopes: Vec<_> = Scope::with(right).map(Scope::as_str).collect();
    let text = format!(
        "{caller} lacks {}; a token has it by scope {}",
        right.as_str(),
        scopes.join(" or ")
    );
    Err(Problem::new(Code::PermissionMissing, text))
}

const fn let_in(source: IpAddr, rights: Rights) -> Caller {
    Caller { principal: Principal::Address, rights, source: Some(source) }
}

fn is_metrics_token(app: &App, parts: &Parts) -> bool {
    let (Some(token), Some(sent)) = (app.http.metrics_token(), bearer(&parts.headers)) else {
        return false;
    };
    crate::access::same_text(token.expose(), sent)
}

/// Whether the address alone is enough.
fn by_address(app: &App, parts: &Parts, allowed: &[Network]) -> Result<IpAddr, Problem> {
    let refused = |text: String| Err(Problem::new(Code::SourceRefused, text));
    if let Some(name) = FORWARDED.iter().find(|name| parts.headers.contains_key(**name)) {
        return refused(format!(
            "the request was forwarded ({name}): its address lets nobody in; send a token"
        ));
    }
    let Some(source) = source(parts) else { return refused("the source is unknown".to_owned()) };
    if !allowed.iter().any(|network| network.contains(source)) {
        return refused(format!("{source} may not ask without credentials that allow it"));
    }
    match asked_host(parts) {
        Some(host) if is_ours(host, app) => {}
        Some(host) => {
            let text = format!("\"{host}\" is not a name of this gateway; ask by its address");
            return Err(Problem::new(Code::ForeignHost, text));
        }
        None => {
            let text = "the request has no readable Host";
            return Err(Problem::new(Code::ForeignHost, text));
        }
    }
    if !parts.method.is_safe() {
        csrf::same_site(&parts.headers)?;
    }
    Ok(source)
}

fn asked_host(parts: &Parts) -> Option<&str> {
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    authority.or_else(|| parts.headers.get(header::HOST)?.to_str().ok())
}

/// An address, `localhost`, or a name that the operator gave us. Any other name that leads here is how
/// a page of somebody else reaches local services through a browser (DNS rebinding).
fn is_ours(host: &str, app: &App) -> bool {
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_some_and(|bare| bare.parse::<IpAddr>().is_ok()) {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) => return false,
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let known = |known: &str| name.eq_ignore_ascii_case(known);
    known("localhost") || known(&app.node) || app.http.names().iter().any(|name| known(name))
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy => {
                Self::new(Code::TooBusy, "too many passwords are being compared").retry_after(1)
            }
            Refusal::ForeignSource => {
                Self::new(Code::SourceRefused, "this token is not for this source address")
            }
            Refusal::Store(error) => error.into(),
            Refusal::TooMany { wait_ms } => {
                let seconds = wait_ms.div_ceil(1_000);
                let text = format!("too many tries; the next one counts in {seconds} s");
                Self::new(Code::TooManyLogins, text).retry_after(seconds)
            }
            Refusal::Unknown(text) => Self::new(Code::CredentialsInvalid, text),
            Refusal::WrongPassword { .. } => {
                Self::new(Code::LoginRefused, "the name or the password is wrong")
            }
        }
    }
}
