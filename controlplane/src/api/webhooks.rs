//! `/api/v1/webhooks`: endpoints of events, what was delivered to them and what was not.
//! Owns:  the shapes of endpoints, deliveries and attempts; the cursor of the list.
//! Gives: lists, the log of attempts, another try, the switch, a test event.
//! Never: a URL beyond its host, a header or a secret; a payload in a list.
//! Holds: what is asked for is written before the answer says so.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::time::WallMs;

use super::asked::{Document, Id, Pairs};
use super::fields::Fields;
use super::routes::{Need, Routes};
use super::{App, Code, Problem, webhook_doc};
use crate::access::{Caller, Deed, Right};
use crate::store::{Delivery, DeliverySearch, DeliveryState, Tried};
use crate::webhooks::outbox::{NAMES, Standing};

const READ: Need = Need::Right(Right::WebhooksRead);
const WRITE: Need = Need::Right(Right::WebhooksWrite);
const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 500;

/// Under our own prefix only. The `{id}` of an endpoint is its name.
pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/webhooks", READ, endpoints)
        .doc(webhook_doc::endpoints())
        .get("/webhooks/deliveries", READ, deliveries)
        .doc(webhook_doc::deliveries())
        .get("/webhooks/deliveries/{id}", READ, delivery)
        .doc(webhook_doc::delivery())
        .post("/webhooks/deliveries/{id}/replay", WRITE, replay)
        .doc(webhook_doc::replay())
        .get("/webhooks/{id}", READ, endpoint)
        .doc(webhook_doc::endpoint())
        .post("/webhooks/{id}/replay", WRITE, replay_dead)
        .doc(webhook_doc::replay_dead())
        .post("/webhooks/{id}/enable", WRITE, enable)
        .doc(webhook_doc::switch("Deliver to it again"))
        .post("/webhooks/{id}/disable", WRITE, disable)
        .doc(webhook_doc::switch("Deliver nothing to it; what comes waits"))
        .post("/webhooks/{id}/test", WRITE, test)
        .doc(webhook_doc::test())
}

async fn endpoints(State(app): State<App>, pairs: Pairs) -> Result<Json<Value>, Problem> {
    pairs.refuse_unknown(&[])?;
    let all = app.deliveries.desks().iter();
    let shown: Vec<Value> = all.map(|desk| show(&app, &desk.standing())).collect();
    Ok(Json(json!({ "data": shown })))
}

async fn endpoint(State(app): State<App>, Id(name): Id) -> Result<Json<Value>, Problem> {
    let name = known(&name)?;
    Ok(Json(show(&app, &app.deliveries.desk(name).standing())))
}

fn known(name: &str) -> Result<&'static str, Problem> {
    NAMES.into_iter().find(|known| *known == name).ok_or_else(|| {
        let text = format!("\"{name}\" is not one of {}", NAMES.join(", "));
        Problem::new(Code::NoSuchEndpoint, text)
    })
}

fn configured(app: &App, name: &str) -> Result<&'static str, Problem> {
    let name = known(name)?;
    if app.deliveries.desk(name).standing().configured {
        return Ok(name);
    }
    let text = format!("the configuration does not name the endpoint \"{name}\"");
    Err(Problem::new(Code::EndpointNotConfigured, text))
}

fn show(app: &App, standing: &Standing) -> Value {
    let endpoint = app.deliveries.endpoint(standing.name);
    json!({
        "name": standing.name,
        "state": standing.state(),
        "target": endpoint.as_ref().map(|endpoint| endpoint.shown()),
        "with_media": endpoint.as_ref().map(|endpoint| endpoint.with_media),
        "timeout_ms": endpoint.as_ref().map(|endpoint| endpoint.timeout().as_millis() as u64),
        "reason": standing.reason,
        "changed_at": standing.changed_at,
        "backlog": standing.backlog.pending,
        "oldest_pending_at": standing.backlog.oldest_pending,
        "dead": standing.backlog.dead,
        "since_start": {
            "delivered": standing.delivered,
            "failed_attempts": standing.failed,
            "dead": standing.dead,
        },
    })
}

async fn deliveries(State(app): State<App>, pairs: Pairs) -> Result<Json<Value>, Problem> {
    pairs.refuse_unknown(&["state", "endpoint", "call", "key", "limit", "cursor"])?;
    let search = search(&pairs)?;
    let mut found = app.store.deliveries(&search).await?;
    // One more was asked for, to see whether there is another page.
    let more = found.len() > search.limit as usize - 1;
    found.truncate(search.limit as usize - 1);
    let next = found.last().filter(|_| more).map(|last| last.id.to_string());
    let items: Vec<Value> = found.iter().map(line).collect();
    Ok(Json(json!({
        "data": items,
        "page": { "next_cursor": next, "limit": search.limit - 1 },
    })))
}

fn search(pairs: &Pairs) -> Result<DeliverySearch, Problem> {
    let invalid = |name: &str, value: &str, expected: &str| {
        Problem::new(Code::FilterInvalid, format!("{name} must be {expected}, not \"{value}\""))
    };
    let state = match pairs.last("state") {
        None => None,
        Some(word) => Some(
            DeliveryState::parse(word)
                .ok_or_else(|| invalid("state", word, "pending, delivered or dead"))?,
        ),
    };
    let endpoint = match pairs.last("endpoint") {
        None => None,
        Some(word) if NAMES.contains(&word) => Some(word.to_owned()),
        Some(word) => return Err(invalid("endpoint", word, &NAMES.join(" or "))),
    };
    let limit = match pairs.last("limit") {
        None => LIMIT_DEFAULT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| invalid("limit", text, "a number from 1 to 500"))?,
    };
    let before = match pairs.last("cursor") {
        None => None,
        Some(text) => {
            Some(text.parse().map_err(|_| invalid("cursor", text, "one of an earlier page"))?)
        }
    };
    let key = pairs.last("call").or_else(|| pairs.last("key")).map(str::to_owned);
    Ok(DeliverySearch { endpoint, state, key, before, limit: limit + 1 })
}

fn line(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id,
        "event_id": delivery.event_id,
        "endpoint": delivery.endpoint,
        "kind": delivery.kind,
        "key": delivery.key,
        "state": delivery.state.as_str(),
        "attempts": delivery.attempts,
        "created_at": delivery.created_at,
        "due_at": (delivery.state == DeliveryState::Pending).then_some(delivery.due_at),
        "finished_at": delivery.finished_at,
        "last_error": delivery.last_error,
    })
}

fn attempt(tried: &Tried) -> Value {
    json!({
        "at": tried.at,
        "took_ms": tried.took_ms,
        "status": tried.status,
        "error": tried.error,
        "answer": tried.answer,
    })
}

async fn delivery(State(app): State<App>, Id(id): Id) -> Result<Json<Value>, Problem> {
    let (delivery, attempts) = find(&app, &id).await?;
    let mut value = line(&delivery);
    value["payload"] = serde_json::from_str(&delivery.payload).unwrap_or(Value::Null);
    value["log"] = attempts.iter().map(attempt).collect();
    Ok(Json(value))
}

async fn find(app: &App, id: &str) -> Result<(Delivery, Vec<Tried>), Problem> {
    let found = match id.parse() {
        Ok(id) => app.store.delivery(id).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| {
        Problem::new(Code::NoSuchDelivery, format!("no delivery has the number \"{id}\""))
    })
}

async fn replay(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let (delivery, _) = find(&app, &id).await?;
    if !app.store.replay(delivery.id).await? {
        let text = format!("delivery {id} is pending: it is tried again by itself");
        return Err(Problem::new(Code::DeliveryPending, text));
    }
    app.deliveries.wake_one(&delivery.endpoint);
    let object = format!("delivery {}", delivery.id);
    app.access.record(&caller, Deed::done("webhook.replay", &object)).await;
    let (delivery, _) = find(&app, &id).await?;
    Ok((StatusCode::ACCEPTED, Json(line(&delivery))))
}

/// `{since}`, in RFC 3339.
async fn replay_dead(
    State(app): State<App>,
    caller: Caller,
    Id(name): Id,
    Document(body): Document,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let name = known(&name)?;
    let mut fields = Fields::of(body)?;
    let since = fields.text("since");
    let since = since.and_then(|text| serde_json::from_value::<WallMs>(text.into()).ok());
    if since.is_none() {
        fields.refuse("since", "must be a time such as 2026-11-24T10:00:00Z");
    }
    fields.finish()?;
    let replayed = app.store.replay_dead(name, since.unwrap_or_default()).await?;
    app.deliveries.wake_one(name);
    let shown = json!({ "endpoint": name, "since": since, "replayed": replayed });
    let object = format!("webhook {name}");
    let deed = Deed::done("webhook.replay", &object).change(None, Some(shown.clone()));
    app.access.record(&caller, deed).await;
    Ok((StatusCode::ACCEPTED, Json(shown)))
}

async fn enable(
    State(app): State<App>,
    caller: Caller,
    Id(name): Id,
) -> Result<Json<Value>, Problem> {
    switch(&app, &caller, &name, true).await
}

async fn disable(
    State(app): State<App>,
    caller: Caller,
    Id(name): Id,
) -> Result<Json<Value>, Problem> {
    switch(&app, &caller, &name, false).await
}

async fn switch(
    app: &App,
    caller: &Caller,
    name: &str,
    enabled: bool,
) -> Result<Json<Value>, Problem> {
    let name = configured(app, name)?;
    app.deliveries.switch(name, enabled).await?;
    let (deed, object) =
        (if enabled { "webhook.enable" } else { "webhook.disable" }, format!("webhook {name}"));
    app.access.record(caller, Deed::done(deed, &object)).await;
    Ok(Json(show(app, &app.deliveries.desk(name).standing())))
}

async fn test(
    State(app): State<App>,
    caller: Caller,
    Id(name): Id,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let name = configured(&app, &name)?;
    let event_id = app.deliveries.test(name).await?;
    let object = format!("webhook {name}");
    app.access.record(&caller, Deed::done("webhook.test", &object)).await;
    Ok((StatusCode::ACCEPTED, Json(json!({ "endpoint": name, "event_id": event_id }))))
}
