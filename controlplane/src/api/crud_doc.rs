//! What the routes of extensions, trunks and routes say about themselves.
//! Owns:  the schemas and examples of what operators configure.
//! Gives: one `Doc` per verb, for the kind and the clients of a `Resource`.
//! Never: a password.
//! Holds: the fields are those of `docs/api-objects.md`; `directory` takes a few more of the original's.

use serde_json::{Value, json};

use super::crud::Resource;
use super::doc::{self, Doc};
use super::{Clients, Code, page, trunk_state};
use crate::directory::Kind;

/// What a change can be refused for, besides its document.
const CHANGE_REFUSED: [Code; 4] =
    [Code::BodyInvalid, Code::DefinedInFile, Code::NameTaken, Code::ShardsSilent];

const fn no_such(kind: Kind) -> Code {
    match kind {
        Kind::Extension => Code::NoSuchExtension,
        Kind::Route => Code::NoSuchRoute,
        Kind::Trunk => Code::NoSuchTrunk,
    }
}

/// What somebody who makes one writes.
fn written(kind: Kind) -> Value {
    match kind {
        Kind::Extension => json!({ "extension": "1005", "sip_password": "a long password" }),
        Kind::Route => json!({ "name": "abroad", "match": { "to.user": "^00" }, "reject": 403 }),
        Kind::Trunk => json!({ "name": "carrier", "sip_server": "sip:192.0.2.20:5070" }),
    }
}

/// A body; one that changes something may leave everything out.
fn schema(kind: Kind, needed: bool) -> Value {
    let (name, fields) = match kind {
        Kind::Extension => ("extension", extension()),
        Kind::Route => ("name", route()),
        Kind::Trunk => ("name", trunk()),
    };
    let required: &[&str] = if needed { &[name] } else { &[] };
    json!({ "type": "object", "properties": fields, "required": required })
}

fn extension() -> Value {
    json!({
        "extension": doc::text(),
        "sip_password": doc::text(),
        "ha1": doc::text(),
        "ha1_sha256": doc::text(),
        "ha1_sha512_256": doc::text(),
        "display_name": doc::text_or_null(),
        "email": doc::text_or_null(),
        "notes": doc::text_or_null(),
        "status": doc::word(&["active", "disabled"]),
        "login_disabled": doc::flag(),
        "voicemail_disabled": doc::flag(),
        "allow_guest_calls": doc::flag(),
        "call_forwarding_mode": doc::word(&shared::forwarding::MODES),
        "call_forwarding_destination": doc::text_or_null(),
        "call_forwarding_timeout": doc::number(5, 120),
        "department_ids": {},
    })
}

fn trunk() -> Value {
    let mut fields = json!({
        "name": doc::text(),
        "sip_server": doc::text(),
        "sip_transport": doc::word(&["udp", "tcp", "tls"]),
        "direction": doc::word(&["inbound", "outbound", "bidirectional"]),
        "allowed_ips": doc::list_of(doc::text()),
        "is_active": doc::flag(),
        "max_concurrent": doc::number(0, 1_000_000),
        "weight": doc::number(0, 1_000_000),
        "max_ring_time": doc::number(0, 3_600),
        "incoming_from_user_prefix": doc::text_or_null(),
        "incoming_to_user_prefix": doc::text_or_null(),
        "rewrite_hostport": doc::flag(),
        "status": doc::word(&["healthy", "warning", "standby", "offline"]),
        "utilisation_percent": doc::number(0, 1_000),
        "warning_threshold_percent": doc::number(0, 1_000),
        "max_cps": doc::number(0, 100_000),
        "max_call_duration": doc::number(0, 31_536_000),
        "did_numbers": doc::list_of(doc::text()),
        "register_enabled": doc::flag(),
        "register_expires": doc::number(0, 604_800),
        "failover_codes": doc::list_of(doc::text()),
        "setup_timeout_ms": doc::number(500, 32_000),
        "health_check_enabled": doc::flag(),
        "health_check_interval_secs": doc::number(1, 3_600),
        "health_check_timeout_ms": doc::number(500, 32_000),
        "health_check_probe_count": doc::number(1, 100),
        "health_check_recovery_count": doc::number(1, 100),
        "trusted": doc::flag(),
        "remote_party_id": doc::flag(),
        "codec": doc::list_of(doc::text()),
        "media_mode": doc::word(&shared::trunk_options::TrunkMedia::WORDS),
    });
    for text in ["display_name", "carrier", "description", "default_route_label"] {
        fields[text] = doc::text_or_null();
    }
    for text in ["outbound_proxy", "auth_username", "auth_password", "realm", "backup_dest"] {
        fields[text] = doc::text_or_null();
    }
    fields["external_ip"] = doc::text_or_null();
    for kept in ["tags", "metadata", "analytics", "billing_snapshot", "register_extra_headers"] {
        fields[kept] = json!({});
    }
    fields
}

fn route() -> Value {
    // A part of an INVITE, such as `to.user`, and a pattern or a template.
    let by_field = || json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let reject = doc::object(&[("code", doc::number(300, 699)), ("reason", doc::text_or_null())]);
    const SELECT: [&str; 5] = ["rr", "weighted", "random", "hash", "sequential"];
    json!({
        "name": doc::text(),
        "priority": doc::number(-1_000_000, 1_000_000),
        "disabled": doc::flag(),
        "direction": doc::word(&["any", "inbound", "outbound"]),
        "source_trunks": doc::list_of(doc::text()),
        "source_ips": doc::list_of(doc::text()),
        "match": by_field(),
        "rewrite": by_field(),
        "action": doc::word(&["forward", "reject", "busy"]),
        "dest": { "oneOf": [doc::text(), doc::list_of(doc::text())] },
        "select": doc::word(&SELECT),
        "hash_key": doc::text_or_null(),
        "reject": { "oneOf": [doc::number(300, 699), reject] },
        "max_ring_time": doc::number(0, 3_600),
        "description": doc::text_or_null(),
        "owner": doc::text_or_null(),
        "notes": {},
    })
}

/// One of them, for readers of every generation.
fn shown(of: Resource) -> Value {
    match of.kind {
        Kind::Extension if of.clients == Clients::Older => json!({
            "extension": { "id": 1, "extension": "1005" },
            "departments": [],
            "registrations": { "available": true, "total": 0, "records": [] },
        }),
        Kind::Extension => json!({
            "id": 1,
            "extension": "1005",
            "registrations": { "available": true, "total": 0, "records": [] },
        }),
        Kind::Route => json!({ "name": "abroad", "priority": 0, "disabled": false }),
        Kind::Trunk => json!({
            "name": "carrier",
            "sip_server": "sip:192.0.2.20:5070",
            "state": trunk_state::example(),
        }),
    }
}

/// The same after a change.
fn changed(of: Resource) -> Value {
    let mut body = shown(of);
    body["generation"] = json!(7);
    body["warnings"] =
        json!([{ "pointer": "/did_numbers", "code": "not_used_yet", "detail": "..." }]);
    body
}

/// What a file defines has the text "file:NAME" for an id.
fn shape(example: Value) -> Value {
    fn widen(schema: &mut Value) {
        let Value::Object(words) = schema else { return };
        for (word, inner) in words {
            match (word.as_str(), inner) {
                ("properties", Value::Object(fields)) => {
                    for (name, field) in fields {
                        if name == "id" {
                            field["type"] = json!(["integer", "string", "null"]);
                        }
                        widen(field);
                    }
                }
                ("items", items) => widen(items),
                _ => {}
            }
        }
    }
    let mut schema = doc::shape_of(&example);
    widen(&mut schema);
    schema
}

fn listed(of: Resource) -> Value {
    if of.clients != Clients::Own {
        return page::envelope(1, 20, 1, vec![shown(of)]);
    }
    let page =
        json!({ "limit": 50, "next_cursor": null, "prev_cursor": null, "total_estimate": 1 });
    json!({ "data": [shown(of)], "page": page })
}

pub(super) fn list(of: Resource) -> Doc {
    let doc = Doc::new("All of them, a page at a time");
    let doc = match of.clients {
        Clients::Own => doc.pages(),
        Clients::Guide | Clients::Older => doc
            .query("page", doc::number(1, 1_000_000), "From 1")
            .query("per_page", doc::number(5, 100), "20 if not said"),
    };
    let doc = doc
        .query("q", doc::text(), "Part of a name or a text")
        .query("source", doc::word(&["database", "file"]), "Where it is defined")
        .query("status", doc::text(), "any, or a state")
        .answer_by(200, "A page", listed(of), shape(listed(of)));
    lacking(of.kind, doc)
}

/// Filters of the original that are not built.
fn lacking(kind: Kind, doc: Doc) -> Doc {
    match kind {
        Kind::Extension => doc.lacks("filters: registered_at_from, registered_at_to"),
        Kind::Route | Kind::Trunk => doc,
    }
}

pub(super) fn query(of: Resource) -> Doc {
    let schema = json!({
        "type": "object",
        "properties": {
            "page": doc::number(1, 1_000_000),
            "per_page": doc::number(5, 100),
            "filters": { "type": "object" },
        },
    });
    let doc = Doc::new("The same, asked with a body")
        .body(schema, json!({ "page": 1, "per_page": 20, "filters": { "q": "a" } }))
        .answer_by(200, "A page", listed(of), shape(listed(of)))
        .refuses(&[Code::FilterInvalid, Code::FilterUnknown]);
    lacking(of.kind, doc)
}

pub(super) fn create(of: Resource) -> Doc {
    Doc::new("Make one; every shard serves it before the answer")
        .body(schema(of.kind, true), written(of.kind))
        .answer_by(201, "What there is now", changed(of), shape(changed(of)))
        .refuses(&CHANGE_REFUSED)
        .refuses(&[Code::TooMany])
}

pub(super) fn one(of: Resource) -> Doc {
    Doc::new("One of them, by its number or its name")
        .at("id", "1")
        .answer_by(200, "It", shown(of), shape(shown(of)))
        .refuses(&[no_such(of.kind)])
        .versioned()
}

pub(super) fn replace(of: Resource) -> Doc {
    write(of, "Put another in its place", true)
}

pub(super) fn patch(of: Resource) -> Doc {
    write(of, "Change what is said, leave the rest (RFC 7396)", false)
}

fn write(of: Resource, summary: &'static str, whole: bool) -> Doc {
    let example = if whole { written(of.kind) } else { json!({}) };
    Doc::new(summary)
        .at("id", "1")
        .body(schema(of.kind, whole), example)
        .answer_by(200, "What there is now", changed(of), shape(changed(of)))
        .refuses(&CHANGE_REFUSED)
        .refuses(&[no_such(of.kind), Code::TrunkInUse])
        .versioned()
}

pub(super) fn remove(of: Resource) -> Doc {
    Doc::new("Remove it")
        .at("id", "1")
        .answer(200, "It is gone", json!({ "status": "deleted", "id": 1, "generation": 7 }))
        .refuses(&[no_such(of.kind), Code::DefinedInFile, Code::ShardsSilent, Code::TrunkInUse])
        .versioned()
}

pub(super) fn toggle(of: Resource) -> Doc {
    Doc::new("Switch it off, or on again")
        .at("id", "1")
        .answer_by(200, "What there is now", changed(of), shape(changed(of)))
        .refuses(&CHANGE_REFUSED)
        .refuses(&[no_such(of.kind)])
        .versioned()
}

pub(super) fn copy(of: Resource) -> Doc {
    Doc::new("The same under a new name, switched off")
        .at("id", "1")
        .answer_by(201, "The copy", changed(of), shape(changed(of)))
        .refuses(&CHANGE_REFUSED)
        .refuses(&[no_such(of.kind), Code::TooMany])
}

pub(super) fn dependencies() -> Doc {
    let routes = json!([{ "name": "abroad", "defined_at": null }]);
    Doc::new("The routes that need a trunk")
        .at("id", "1")
        .answer(200, "They", json!({ "trunk": "carrier", "routes": routes, "total": 1 }))
        .refuses(&[Code::NoSuchTrunk])
}

pub(super) fn explain() -> Doc {
    let schema = json!({
        "type": "object",
        "required": ["to"],
        "properties": {
            "from": doc::text(),
            "to": doc::text(),
            "source_trunk": doc::text(),
            "source_ip": doc::text(),
            "direction": doc::word(&["any", "inbound", "internal", "outbound"]),
            "headers": { "type": "object" },
        },
    });
    let explained = json!({ "generation": 7, "direction": "outbound", "rules": [] });
    Doc::new("Where a call would go, and why not elsewhere; nothing rings")
        .body(schema, json!({ "from": "1001", "to": "0044123" }))
        .answer(200, "The shard's own explanation", explained)
        .refuses(&[Code::BodyInvalid, Code::ShardsSilent])
}
