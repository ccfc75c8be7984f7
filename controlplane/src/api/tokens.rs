//! API tokens: `/tokens`. Made here, shown once, revoked here.
//! Owns:  the fields of a token and what may stand in them.
//! Gives: the list, one, create, revoke.
//! Never: a token after the answer that made it; a token with more rights than whoever makes it.
//! Holds: a revoked token is out with the next request; its row stays for the audit log.

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use shared::config::{Network, TOKEN_SCOPES};
use shared::time::WallMs;

use super::asked::{Document, Id, Pairs};
use super::doc::{self, Doc};
use super::fields::Fields;
use super::idempotency::ShownOnce;
use super::page::own_page;
use super::routes::{Need, Routes};
use super::{App, Code, Problem};
use crate::access::{Caller, Deed, NewToken, Right, Rights, Scope};
use crate::store::Token;

const NEED: Need = Need::Right(Right::UsersManage);
const TOKENS_MAX: u64 = 1_000;
const NAME_CHARS_MAX: usize = 100;
const NETWORKS_MAX: usize = 50;
const LASTS_S_MAX: i64 = 10 * 366 * 86_400;

pub(super) fn routes() -> Routes {
    let schema = doc::object(&[
        ("!name", doc::text()),
        ("!scopes", doc::list_of(doc::word(&TOKEN_SCOPES))),
        ("networks", doc::list_of(doc::text())),
        ("expires_in_s", doc::number(1, LASTS_S_MAX)),
    ]);
    let written = json!({ "name": "billing", "scopes": ["cdr:read"], "networks": ["10.0.0.0/8"] });
    let mut made = example();
    made["token"] = "gwk_0123456789ab_and 64 hex digits, shown this once".into();
    Routes::new()
        .get("/tokens", NEED, list)
        .doc(Doc::new("Tokens that were made here, newest first").pages().answer(
            200,
            "A page of tokens",
            json!({ "data": [example()], "page": { "limit": 50, "total_estimate": 1 } }),
        ))
        .post("/tokens", NEED, create)
        .doc(
            Doc::new("Make a token")
                .body(schema, written)
                .answer(201, "The token; it is never shown again", made)
                .refuses(&[Code::BodyInvalid, Code::TooMany]),
        )
        .get("/tokens/{id}", NEED, one)
        .doc(
            Doc::new("One token")
                .at("id", "0123456789ab")
                .answer(200, "The token", example())
                .refuses(&[Code::NoSuchToken]),
        )
        .on(Method::DELETE, "/tokens/{id}", NEED, revoke)
        .doc(
            Doc::new("Revoke a token")
                .at("id", "0123456789ab")
                .empty(204, "It lets nobody in any more")
                .refuses(&[Code::NoSuchToken]),
        )
}

async fn list(State(app): State<App>, pairs: Pairs) -> Result<Json<Value>, Problem> {
    pairs.refuse_unknown(&["limit", "cursor"])?;
    let slice = pairs.slice()?;
    let (total, tokens) = app.store.tokens(slice.limit, slice.skip).await?;
    Ok(Json(own_page(tokens.iter().map(show).collect(), slice, total)))
}

async fn one(State(app): State<App>, Id(id): Id) -> Result<Json<Value>, Problem> {
    Ok(Json(show(&find(&app, &id).await?)))
}

async fn find(app: &App, id: &str) -> Result<Token, Problem> {
    app.store.token(id).await?.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::new(Code::NoSuchToken, format!("no token has the id \"{id}\""))
}

fn show(token: &Token) -> Value {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    json!({
        "id": token.public_id,
        "name": token.name,
        "scopes": words(&token.scopes),
        "networks": words(&token.networks),
        "created_by": token.created_by,
        "created_at": WallMs(token.created_at),
        "expires_at": token.expires_at.map(WallMs),
        "last_used_at": token.last_used_at.map(WallMs),
        "last_used_ip": token.last_used_ip,
        "revoked_at": token.revoked_at.map(WallMs),
    })
}

/// `{name, scopes, networks?, expires_in_s?}`
async fn create(
    State(app): State<App>,
    caller: Caller,
    Document(body): Document,
) -> Result<Response, Problem> {
    let made = NewToken::make();
    let token = read(&app, &caller, body, &made)?;
    let scopes = token.scopes.split_whitespace().filter_map(Scope::parse);
    let rights = scopes.fold(Rights::NONE, |rights, scope| rights.and(scope.rights()));
    if !caller.rights.covers(rights) {
        let text = format!("{caller} may do less than this token");
        return Err(Problem::new(Code::PermissionMissing, text));
    }
    if app.store.valid_tokens(app.access.now_ms()).await? >= TOKENS_MAX {
        let text = format!("there are {TOKENS_MAX} tokens already; revoke one first");
        return Err(Problem::new(Code::TooMany, text));
    }
    app.store.add_token(&token).await?;
    let mut shown = show(&token);
    let object = format!("token {}", token.public_id);
    let deed = Deed::done("token.create", &object).change(None, Some(shown.clone()));
    app.access.record(&caller, deed).await;
    shown["token"] = json!(made.text);
    Ok((StatusCode::CREATED, Extension(ShownOnce), Json(shown)).into_response())
}

fn read(app: &App, caller: &Caller, body: Value, made: &NewToken) -> Result<Token, Problem> {
    let mut fields = Fields::of(body)?;
    let name = fields.text("name");
    match name.as_deref().map(str::trim) {
        None => fields.missing("name"),
        Some(name) if name.is_empty() || name.chars().count() > NAME_CHARS_MAX => {
            fields.refuse("name", format!("must have 1 to {NAME_CHARS_MAX} characters"));
        }
        Some(name) if name.contains(char::is_control) => {
            fields.refuse("name", "must not have control characters");
        }
        Some(_) => {}
    }
    let mut scopes = fields.texts("scopes").unwrap_or_default();
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() {
        let text = format!("must be some of: {}", TOKEN_SCOPES.join(", "));
        fields.refuse("scopes", text);
    }
    if let Some(scope) = scopes.iter().find(|scope| Scope::parse(scope).is_none()) {
        let text = format!("there is no scope \"{scope}\"; they are: {}", TOKEN_SCOPES.join(", "));
        fields.refuse("scopes", text);
    }
    let networks = fields.texts("networks").unwrap_or_default();
    if networks.len() > NETWORKS_MAX {
        fields.refuse("networks", format!("must be at most {NETWORKS_MAX}"));
    }
    for (place, network) in networks.iter().enumerate() {
        if Network::parse(network).is_none() {
            let text = "must be an address, or a network like 10.0.0.0/8";
            fields.refuse(&format!("networks/{place}"), text);
        }
    }
    let lasts_s = fields.number("expires_in_s");
    if lasts_s.is_some_and(|seconds| !(1..=LASTS_S_MAX).contains(&seconds)) {
        fields.refuse("expires_in_s", format!("must be 1 to {LASTS_S_MAX}"));
    }
    fields.finish()?;
    let now = app.access.now_ms();
    Ok(Token {
        id: 0,
        public_id: made.public_id.clone(),
        name: name.unwrap_or_default().trim().to_owned(),
        token_hash: made.hash.clone(),
        scopes: scopes.join(" "),
        networks: networks.join(" "),
        created_by: caller.to_string(),
        created_at: now,
        expires_at: lasts_s.map(|seconds| now + seconds * 1_000),
        last_used_at: None,
        last_used_ip: None,
        revoked_at: None,
    })
}

async fn revoke(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<StatusCode, Problem> {
    let before = show(&find(&app, &id).await?);
    if !app.store.revoke_token(&id).await? {
        return Err(unknown(&id));
    }
    let object = format!("token {id}");
    let deed = Deed::done("token.revoke", &object).change(Some(before), None);
    app.access.record(&caller, deed).await;
    Ok(StatusCode::NO_CONTENT)
}

fn example() -> Value {
    json!({
        "id": "0123456789ab",
        "name": "billing",
        "scopes": ["cdr:read"],
        "networks": ["10.0.0.0/8"],
        "created_by": "user admin",
        "created_at": "2026-11-24T10:00:00.000Z",
        "expires_at": null,
        "last_used_at": null,
        "last_used_ip": null,
        "revoked_at": null,
    })
}
