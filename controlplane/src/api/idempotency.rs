//! `Idempotency-Key`: a POST that is sent twice happens once.
//! Owns:  the form of a key, what counts as the same request, what is repeated.
//! Gives: `once`, through which every POST with a key goes.
//! Never: repeats an answer that had a secret in it: that is shown once.
//! Holds: what was begun is done and its answer kept, whether or not the client still waits.

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{App, BODY_BYTES_MAX, Code, Problem};
use crate::access::{Caller, Principal};
use crate::store::{IdempotencyKey, KeptAnswer, KeyTake, Taken};

pub(super) const KEY_HEADER: &str = "idempotency-key";
const REPLAYED: &str = "idempotent-replayed";
const KEY_CHARS_MAX: usize = 255;
const KEPT_MS: i64 = 24 * 3_600_000;
/// Of one caller within a day.
const KEYS_MAX: i64 = 10_000;
/// A longer answer is not kept.
const ANSWER_BYTES_MAX: u64 = 256 << 10;
/// Headers that belong to an answer and not to the connection.
const KEPT_HEADERS: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::ETAG, header::LOCATION, header::RETRY_AFTER];

/// An answer with this among its extensions is not kept: it has a secret that is shown once.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShownOnce;

/// Does the request, unless it was done before: then the answer of that time comes again.
pub(super) async fn once<F>(
    app: App,
    caller: &Caller,
    request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Result<Response, Problem>
where
    F: Future<Output = Response> + Send + 'static,
{
    let (parts, body) = request.into_parts();
    let key = IdempotencyKey {
        caller: caller.key(),
        route: format!("{} {}", parts.method, parts.uri.path()),
        key: read_key(&parts.headers)?,
    };
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let text = format!("the body cannot be read, or has more than {BODY_BYTES_MAX} bytes");
        Problem::new(Code::BodyTooLong, text)
    })?;
    let now = app.access.now_ms();
    let take = KeyTake {
        fingerprint: fingerprint(caller, &parts, &body),
        run: app.access.run().to_owned(),
        now,
        oldest: now - KEPT_MS,
        keys_max: KEYS_MAX,
    };
    match app.store.take_key(&key, &take).await? {
        Taken::Now => {}
        Taken::TooMany => {
            let text = format!("{KEYS_MAX} keys a day are the most that one caller may use");
            return Err(Problem::new(Code::TooManyKeys, text).retry_after(3_600));
        }
        Taken::Known(known) if known.fingerprint != take.fingerprint => {
            let text = "this key came before, with another query or body";
            return Err(Problem::new(Code::IdempotencyKeyReused, text));
        }
        Taken::Known(known) => {
            return match known.answer {
                Some(kept) => replay(kept),
                None if known.run == take.run => {
                    let text = "the first request with this key is still being done";
                    Err(Problem::new(Code::IdempotencyInFlight, text).retry_after(1))
                }
                None => {
                    let text = "another run of the gateway began the first request with this key \
                                and never said what came of it; look, and use a new key";
                    Err(Problem::new(Code::IdempotencyUnknown, text))
                }
            };
        }
    }
    let doing = answer(Request::from_parts(parts, Body::from(body)));
    // A client that goes away does not end what it has begun.
    let done = tokio::spawn(finish(app, key, doing)).await;
    done.map_err(|_| Problem::new(Code::Internal, "the log of the gateway says why"))?
}

fn read_key(headers: &HeaderMap) -> Result<String, Problem> {
    let mut all = headers.get_all(KEY_HEADER).iter();
    let only = match (all.next(), all.next()) {
        (Some(only), None) => only.to_str().ok(),
        _ => None,
    };
    let fits = |key: &&str| (1..=KEY_CHARS_MAX).contains(&key.len());
    only.filter(fits).map(str::to_owned).ok_or_else(|| {
        let text = format!("Idempotency-Key must be 1 to {KEY_CHARS_MAX} visible characters, once");
        Problem::new(Code::IdempotencyKeyInvalid, text)
    })
}

fn fingerprint(caller: &Caller, parts: &Parts, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    if matches!(caller.principal, Principal::ConfiguredToken(_)) {
        // It is known by its place in the file, where a reload may put another token.
        hash.update(
            parts.headers.get(header::AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes),
        );
        hash.update([0]);
    }
    hash.update(parts.uri.query().unwrap_or_default());
    hash.update([0]);
    hash.update(body);
    crate::access::hex(&hash.finalize())
}

async fn finish(
    app: App,
    key: IdempotencyKey,
    doing: impl Future<Output = Response> + Send + 'static,
) -> Result<Response, Problem> {
    let response = match tokio::spawn(doing).await {
        Ok(response) => response,
        Err(error) => {
            // How far it came nobody knows: the key stays taken, without an answer.
            let kept = KeptAnswer {
                status: i64::from(Code::IdempotencyUnknown.status().as_u16()),
                headers: String::new(),
                body: None,
            };
            keep(&app, &key, &kept).await;
            tracing::error!(%error, route = key.route, "a request panicked");
            return Err(Problem::new(Code::Internal, "the log of the gateway says why"));
        }
    };
    if response.status().is_server_error() {
        if let Err(error) = app.store.free_key(&key).await {
            tracing::error!(%error, route = key.route, "an idempotency key is not free again");
        }
        return Ok(response);
    }
    let (kept, response) = take_down(response).await;
    keep(&app, &key, &kept).await;
    Ok(response)
}

/// What was done stays done when its answer cannot be kept: the key then stays taken.
async fn keep(app: &App, key: &IdempotencyKey, kept: &KeptAnswer) {
    if let Err(error) = app.store.keep_answer(key, kept).await {
        tracing::error!(%error, route = key.route, "an answer is not kept for its idempotency key");
    }
}

/// The answer as it is kept, and the answer.
async fn take_down(response: Response) -> (KeptAnswer, Response) {
    let (parts, body) = response.into_parts();
    let mut headers = Map::new();
    for name in &KEPT_HEADERS {
        if let Some(Ok(value)) = parts.headers.get(name).map(HeaderValue::to_str) {
            headers.insert(name.as_str().to_owned(), value.into());
        }
    }
    let mut kept = KeptAnswer {
        status: i64::from(parts.status.as_u16()),
        headers: Value::from(headers).to_string(),
        body: None,
    };
    let short = body.size_hint().upper().is_some_and(|bytes| bytes <= ANSWER_BYTES_MAX);
    if !short || parts.extensions.get::<ShownOnce>().is_some() {
        return (kept, Response::from_parts(parts, body));
    }
    match to_bytes(body, usize::MAX).await {
        Ok(bytes) => {
            // Only what is text can come again as it was.
            kept.body = std::str::from_utf8(&bytes).ok().map(str::to_owned);
            (kept, Response::from_parts(parts, Body::from(bytes)))
        }
        Err(error) => {
            tracing::error!(%error, "an answer broke off");
            (kept, StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
    }
}

fn replay(kept: KeptAnswer) -> Result<Response, Problem> {
    let status = u16::try_from(kept.status).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let (Some(status), Some(body)) = (status, kept.body) else {
        let text = "it was done, but its answer is not kept: it had a secret, or was too long";
        return Err(Problem::new(Code::IdempotencyUnknown, text));
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    let values: Map<String, Value> = serde_json::from_str(&kept.headers).unwrap_or_default();
    for name in KEPT_HEADERS {
        let value = values.get(name.as_str()).and_then(Value::as_str);
        if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
