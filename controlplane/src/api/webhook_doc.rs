//! What the routes of `webhooks` say about themselves.
//! Owns:  the examples of endpoints and deliveries.
//! Gives: one `Doc` per route.
//! Never: a URL of somebody beyond its host.
//! Holds: the parameters are those that `webhooks` reads.

use serde_json::{Value, json};

use super::Code;
use super::doc::{self, Doc};
use crate::webhooks::outbox::NAMES;

fn standing() -> Value {
    json!({
        "name": NAMES[0],
        "state": "ok",
        "target": "https://billing.example",
        "backlog": 0,
        "dead": 0,
        "since_start": { "delivered": 12, "failed_attempts": 1, "dead": 0 },
    })
}

fn line() -> Value {
    json!({
        "id": 7,
        "endpoint": NAMES[0],
        "state": "dead",
        "attempts": 10,
        "last_error": "the answer was 500",
    })
}

pub(super) fn endpoints() -> Doc {
    Doc::new("Where events go, and how that stands")
        .answer(200, "Every endpoint", json!({ "data": [standing()] }))
        .refuses(&[Code::FilterUnknown, Code::QueryUnreadable])
}

pub(super) fn endpoint() -> Doc {
    Doc::new("One endpoint")
        .at_one_of("id", &NAMES)
        .answer(200, "How it stands", standing())
        .refuses(&[Code::NoSuchEndpoint])
}

pub(super) fn deliveries() -> Doc {
    Doc::new("Deliveries, newest first")
        .pages()
        .query("state", doc::word(&["pending", "delivered", "dead"]), "")
        .query("endpoint", doc::word(&NAMES), "")
        .query("call", doc::text(), "Of this call")
        .query("key", doc::text(), "Of this key, such as an address of record")
        .answer(
            200,
            "A page",
            json!({ "data": [line()], "page": { "limit": 50, "next_cursor": null } }),
        )
}

pub(super) fn delivery() -> Doc {
    let mut whole = line();
    whole["log"] = json!([{ "took_ms": 12, "status": 500, "error": null, "answer": "..." }]);
    Doc::new("One delivery with its payload and every attempt")
        .at("id", "1")
        .answer(200, "It", whole)
        .refuses(&[Code::NoSuchDelivery])
}

pub(super) fn replay() -> Doc {
    Doc::new("Deliver it once more")
        .at("id", "1")
        .answer(202, "It waits for its turn", line())
        .refuses(&[Code::DeliveryPending, Code::NoSuchDelivery])
}

pub(super) fn replay_dead() -> Doc {
    let since = "2026-11-24T10:00:00.000Z";
    Doc::new("Deliver once more what was given up since then")
        .at_one_of("id", &NAMES)
        .body(doc::object(&[("!since", doc::text())]), json!({ "since": since }))
        .answer(202, "How many", json!({ "endpoint": NAMES[0], "since": since, "replayed": 3 }))
        .refuses(&[Code::BodyInvalid, Code::NoSuchEndpoint])
}

pub(super) fn switch(summary: &'static str) -> Doc {
    Doc::new(summary)
        .at_one_of("id", &NAMES)
        .answer(200, "How it stands", standing())
        .refuses(&[Code::EndpointNotConfigured, Code::NoSuchEndpoint])
}

pub(super) fn test() -> Doc {
    Doc::new("Send a test event")
        .at_one_of("id", &NAMES)
        .answer(202, "It waits for its turn", json!({ "endpoint": NAMES[0], "event_id": "..." }))
        .refuses(&[Code::EndpointNotConfigured, Code::NoSuchEndpoint])
}
