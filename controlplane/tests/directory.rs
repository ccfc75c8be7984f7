//! Extensions, trunks and routes over HTTP: every verb under every prefix, refusals, and what shards get.

mod stand_ins;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::{Method, StatusCode, header};
use controlplane::board::Counts;
use controlplane::directory::{Id, Kind, Part};
use controlplane::store::{AuditLog, AuditSearch};
use serde_json::{Value, json};
use shared::config::{Sources, load};
use shared::event::BindingView;
use shared::forwarding::ForwardMode;
use shared::ids::ShardId;
use shared::net::Transport;
use shared::route::{Chosen, Explanation};
use shared::snapshot::{Secret, Snapshot};
use stand_ins::gate::{FILE, Gate, assert_problem};

const PREFIXES: [&str; 3] = ["/console", "/api", "/api/v1"];

/// Path, a document, a change of it, and the field that the change shows in.
fn samples(number: usize) -> [(&'static str, Value, Value, &'static str); 3] {
    [
        (
            "extensions",
            json!({ "extension": format!("10{number}"), "sip_password": "first secret" }),
            json!({ "display_name": "Ann" }),
            "display_name",
        ),
        (
            "sip-trunk",
            json!({ "name": format!("t{number}"), "sip_server": "sip:192.0.2.20:5070" }),
            json!({ "max_concurrent": 7 }),
            "max_concurrent",
        ),
        (
            "routing",
            json!({ "name": format!("r{number}"), "match": { "to.user": "^0" }, "priority": 3,
                    "action": { "trunks": [{ "name": "file-trunk", "weight": 3 }] } }),
            json!({ "description": "abroad" }),
            "description",
        ),
    ]
}

#[tokio::test]
async fn every_verb_works_under_every_prefix() {
    let gate = Gate::new().await;
    for (number, prefix) in PREFIXES.into_iter().enumerate() {
        for (path, document, change, field) in samples(number) {
            let all = format!("{prefix}/{path}");
            // Today's clients create with PUT, where the others do with POST.
            let create = if prefix == "/api" { Method::PUT } else { Method::POST };
            let (status, made) = gate.ask(create, &all, Some(document.clone())).await;
            assert_eq!(status, StatusCode::CREATED, "{all}: {made}");
            let one = format!("{all}/{}", made["id"]);
            let flat = |body: &Value| match body["extension"].is_object() {
                true => body["extension"].clone(),
                false => body.clone(),
            };
            let read = flat(&gate.get(&one).await);
            for (name, value) in document.as_object().expect("an object") {
                if name != "sip_password" {
                    assert_eq!(&read[name], value, "{one} {name}");
                }
            }
            assert_eq!(read["source"], "database");
            assert!(!read.to_string().contains("secret"), "nothing of a password: {read}");

            let (status, patched) = gate.ask(Method::PATCH, &one, Some(change.clone())).await;
            assert_eq!(status, StatusCode::OK, "{patched}");
            assert_eq!(flat(&patched)[field], change[field]);
            // PUT replaces: what the new document does not name is gone, the secret stays.
            let mut next = document.clone();
            next.as_object_mut().expect("an object").remove("sip_password");
            let (status, put) = gate.ask(Method::PUT, &one, Some(next)).await;
            assert_eq!(status, StatusCode::OK, "{put}");
            assert_eq!(flat(&put)[field], Value::Null);

            let (status, gone) = gate.ask(Method::DELETE, &one, None).await;
            assert_eq!((status, &gone["status"]), (StatusCode::OK, &"deleted".into()));
            let missing = gate.ask(Method::GET, &one, None).await;
            assert_eq!(missing.0, StatusCode::NOT_FOUND);
        }
    }
    let newest = [("trunks", 1), ("routes", 1), ("extensions", 1)];
    for (path, of_files) in newest {
        let body = gate.get(&format!("/api/v1/{path}")).await;
        assert_eq!(body["page"]["total_estimate"], of_files, "{path}: {body}");
    }
}

#[tokio::test]
async fn a_change_is_on_every_shard_before_its_answer() {
    let gate = Gate::new().await;
    let document = json!({ "extension": "1001", "sip_password": "secret" });
    let (_, made) = gate.ask(Method::POST, "/console/extensions", Some(document)).await;
    assert_eq!(made["generation"], 2);
    for shard in [0, 1] {
        let served = gate.served(shard);
        assert_eq!(served.generation, 2);
        let user = served.users.get("1001").expect("it is served");
        let Secret::Ha1 { realm, md5, sha256, .. } = &user.secret else { panic!("hashes only") };
        assert_eq!((&**realm, md5.is_some(), sha256.is_some()), ("pbx.test", true, true));
        assert!(served.users.contains_key("900"), "users of the file are served too");
    }
    let (first, second) = (gate.served(0), gate.served(1));
    assert!(Arc::ptr_eq(&first.users, &second.users), "users are shared");
    assert!(!Arc::ptr_eq(&first.routes, &second.routes), "rules are not: they have scratch space");
    let id =
        gate.make("/console/extensions", json!({ "extension": "1", "sip_password": "s" })).await;
    let third = gate.served(0);
    assert!(Arc::ptr_eq(&first.routes, &third.routes), "what did not change is the same");
    assert!(Arc::ptr_eq(&first.trunks, &third.trunks));
    let kept = |served: &Snapshot| Arc::clone(served.users.get("1001").expect("served"));
    assert!(Arc::ptr_eq(&kept(&first), &kept(&third)), "other users' secrets are not made anew");
    gate.ask(Method::DELETE, &format!("/console/extensions/{id}"), None).await;
    assert!(!gate.served(1).users.contains_key("1"));
}

#[tokio::test]
async fn what_a_file_defines_is_shown_and_not_changed() {
    let gate = Gate::new().await;
    for (path, name, at) in [
        ("extensions", "900", "proxy.user_backends"),
        ("sip-trunk", "file-trunk", "test.toml:7"),
        ("routing", "file%20rule", "test.toml:9"),
    ] {
        let one = format!("/console/{path}/file:{name}");
        let shown = gate.get(&one).await;
        assert_eq!((&shown["source"], &shown["defined_at"]), (&"file".into(), &at.into()));
        for method in [Method::PUT, Method::PATCH, Method::DELETE] {
            let refused = gate.ask(method, &one, Some(json!({}))).await;
            assert_problem(&refused, StatusCode::CONFLICT, "defined_in_file");
        }
    }
    assert_eq!(gate.get("/console/sip-trunk/file-trunk").await["name"], "file-trunk");
    for (path, document) in [
        ("extensions", json!({ "extension": "900", "sip_password": "x" })),
        ("sip-trunk", json!({ "name": "file-trunk", "sip_server": "192.0.2.1" })),
        ("routing", json!({ "name": "file rule", "reject": 403 })),
    ] {
        let taken = gate.ask(Method::POST, &format!("/console/{path}"), Some(document)).await;
        assert_problem(&taken, StatusCode::CONFLICT, "name_taken");
    }
    assert_eq!(Counts::of(&gate.board.counts.published), 0, "nothing was published");
}

#[tokio::test]
async fn every_flaw_of_a_document_comes_with_its_pointer() {
    let gate = Gate::new().await;
    for (path, document, flaws) in [
        (
            "extensions",
            json!({ "extension": "a b", "sip_pasword": "x", "call_forwarding_timeout": 3 }),
            vec![
                ("/extension", "value"),
                ("/call_forwarding_timeout", "value"),
                ("/sip_password", "missing"),
                ("/sip_pasword", "unknown"),
            ],
        ),
        (
            "sip-trunk",
            json!({ "name": "a.b", "sip_server": "sip:u@h", "sip_transport": "udp",
                    "allowed_ips": ["10.0.0.0/99"], "max_concurrent": "many", "tenant_id": 4 }),
            vec![
                ("/name", "value"),
                ("/max_concurrent", "kind"),
                ("/tenant_id", "value"),
                ("/sip_server", "value"),
                ("/allowed_ips/0", "value"),
            ],
        ),
        (
            "routing",
            json!({ "name": "r", "match": { "to.user": "(" }, "colour": 1 }),
            vec![("/match/to.user", "value"), ("/colour", "unknown")],
        ),
        ("routing", json!({ "name": "r", "dest": "nowhere" }), vec![("/dest", "unknown_trunk")]),
    ] {
        let refused = gate.ask(Method::POST, &format!("/console/{path}"), Some(document)).await;
        assert_problem(&refused, StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
        let found: Vec<(&str, &str)> = refused.1["errors"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|error| {
                let text = |name: &str| error[name].as_str().expect("text");
                assert!(!text("detail").is_empty());
                (text("pointer"), text("code"))
            })
            .collect();
        assert_eq!(found, flaws, "{path}");
    }
    let (_, made) = gate
        .ask(
            Method::POST,
            "/console/extensions",
            Some(json!({ "extension": "5", "sip_password": "s", "call_forwarding_mode": "always",
                         "call_forwarding_destination": "6" })),
        )
        .await;
    let warned = made["warnings"].as_array().is_some_and(|list| !list.is_empty());
    assert!(!warned, "it is followed: {made}");
    let wish = gate.served(0).users["5"].forwarding.clone().expect("it is on the shard");
    assert_eq!((wish.mode, &*wish.to, wish.ring.as_secs()), (ForwardMode::Always, "6", 30));
}

#[tokio::test]
async fn forwarding_is_checked_and_goes_live_with_a_change() {
    let gate = Gate::new().await;
    let id = gate
        .make("/console/extensions", json!({ "extension": "1001", "sip_password": "hunter2" }))
        .await;
    let one = format!("/console/extensions/{id}");
    for (mode, to) in [("always", ""), ("when_busy", "voicemail:1001"), ("sometimes", "1002")] {
        let wrong = json!({ "call_forwarding_mode": mode, "call_forwarding_destination": to });
        let refused = gate.ask(Method::PATCH, &one, Some(wrong)).await;
        assert_problem(&refused, StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
    }
    assert_eq!(gate.served(0).users["1001"].forwarding, None);
    let wish = json!({ "call_forwarding_mode": "when_unavailable",
                       "call_forwarding_destination": "+4930123", "call_forwarding_timeout": 12 });
    let (status, body) = gate.ask(Method::PATCH, &one, Some(wish)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let wish = gate.served(0).users["1001"].forwarding.clone().expect("it is on the shard");
    let expected = (ForwardMode::WhenUnavailable, "+4930123", 12);
    assert_eq!((wish.mode, &*wish.to, wish.ring.as_secs()), expected);
    let off = json!({ "call_forwarding_mode": "none" });
    assert_eq!(gate.ask(Method::PATCH, &one, Some(off)).await.0, StatusCode::OK);
    assert_eq!(gate.served(0).users["1001"].forwarding, None);
}

#[tokio::test]
async fn a_password_is_kept_as_hashes_and_a_new_name_needs_it_again() {
    let gate = Gate::new().await;
    let id = gate
        .make("/console/extensions", json!({ "extension": "1001", "sip_password": "hunter2" }))
        .await;
    let one = format!("/console/extensions/{id}");
    let renamed = gate.ask(Method::PATCH, &one, Some(json!({ "extension": "1002" }))).await;
    assert_problem(&renamed, StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
    let both = json!({ "extension": "1002", "sip_password": "hunter2" });
    let (status, body) = gate.ask(Method::PATCH, &one, Some(both)).await;
    assert_eq!((status, body["has_password"].as_bool()), (StatusCode::OK, Some(true)));
    let served = gate.served(0);
    assert!(!served.users.contains_key("1001") && served.users.contains_key("1002"));
    let hash = json!({ "extension": "7", "ha1": "939e7578ed9e3c518a452acee763bce9" });
    gate.make("/console/extensions", hash).await;
    let served = gate.served(0);
    let Secret::Ha1 { md5, sha256, .. } = &served.users.get("7").expect("served").secret else {
        panic!("a hash was given")
    };
    assert_eq!((md5.map(|hash| hash[0]), *sha256), (Some(0x93), None));
}

#[tokio::test]
async fn who_saw_something_older_changes_nothing_and_changes_are_written_down() {
    let gate = Gate::new().await;
    for (path, document, change, field) in samples(9) {
        let all = format!("/api/v1/{path}");
        let made = gate.ask_with(Method::POST, &all, Some(document), &[]).await;
        let one = made.1[header::LOCATION].to_str().expect("text").to_owned();
        assert_eq!(one, format!("{all}/{}", made.2["id"]));
        let tag = made.1[header::ETAG].to_str().expect("text").to_owned();
        let read = gate.ask_with(Method::GET, &one, None, &[]).await;
        assert_eq!(read.1[header::ETAG], tag, "the same object has the same version");
        let seen = [(header::IF_MATCH, tag.as_str())];
        let first = gate.ask_with(Method::PATCH, &one, Some(change.clone()), &seen).await;
        assert_eq!((first.0, first.1[header::ETAG] == tag), (StatusCode::OK, false));
        for method in [Method::PATCH, Method::PUT, Method::DELETE] {
            let late = gate.ask_with(method, &one, Some(json!({})), &seen).await;
            assert_problem(
                &(late.0, late.2),
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
            );
        }
        assert_eq!(gate.get(&one).await[field], change[field]);
        let present = first.1[header::ETAG].to_str().expect("text");
        let seen = [(header::IF_MATCH, present)];
        let gone = gate.ask_with(Method::DELETE, &one, None, &seen).await;
        assert_eq!(gone.0, StatusCode::OK, "{}", gone.2);
    }
    let search = AuditSearch { limit: 100, ..Default::default() };
    let rows = gate.store.audit(&search).await.expect("read");
    let rows: Vec<_> = rows.iter().rev().map(|row| (&*row.action, &*row.object)).collect();
    let expected = [
        ("extension.create", "extension 109"),
        ("extension.change", "extension 109"),
        ("extension.remove", "extension 109"),
        ("trunk.create", "trunk t9"),
        ("trunk.change", "trunk t9"),
        ("trunk.remove", "trunk t9"),
        ("route.create", "route r9"),
        ("route.change", "route r9"),
        ("route.remove", "route r9"),
    ];
    assert_eq!(rows, expected);
    let all = format!("{:?}", gate.store.audit(&search).await.expect("read"));
    assert!(!all.contains("first secret") && all.contains("Ann"), "{all}");
}

#[tokio::test]
async fn a_trunk_that_routes_need_stays() {
    let gate = Gate::new().await;
    let trunk =
        gate.make("/console/sip-trunk", json!({ "name": "t", "sip_server": "192.0.2.30" })).await;
    let route = gate.make("/console/routing", json!({ "name": "to t", "dest": ["t"] })).await;
    let trunk = format!("/console/sip-trunk/{trunk}");
    let needs = gate.get(&format!("{trunk}/dependencies")).await;
    assert_eq!((&needs["total"], &needs["routes"][0]["name"]), (&json!(1), &json!("to t")));
    for (method, body) in [(Method::DELETE, json!({})), (Method::PATCH, json!({ "name": "u" }))] {
        let refused = gate.ask(method, &trunk, Some(body)).await;
        assert_problem(&refused, StatusCode::CONFLICT, "trunk_in_use");
    }
    let (status, _) = gate.ask(Method::PATCH, &trunk, Some(json!({ "is_active": false }))).await;
    assert_eq!(status, StatusCode::OK);
    let served = gate.served(0);
    let trunks: Vec<_> = served.trunks.iter().map(|trunk| (&*trunk.name, trunk.enabled)).collect();
    assert_eq!(trunks, [("file-trunk", true), ("t", false)]);
    gate.ask(Method::DELETE, &format!("/console/routing/{route}"), None).await;
    let (status, _) = gate.ask(Method::DELETE, &trunk, None).await;
    assert_eq!(status, StatusCode::OK);
    let unknown = json!({ "name": "x", "sip_server": "sip:no.such.host.invalid" });
    let refused = gate.ask(Method::POST, "/console/sip-trunk", Some(unknown)).await;
    assert_problem(&refused, StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
}

#[tokio::test]
async fn routes_are_listed_as_they_are_asked_switched_and_copied() {
    let gate = Gate::new().await;
    for (name, priority) in [("low", 1), ("high", 9)] {
        let rule = json!({ "name": name, "priority": priority, "reject": 403 });
        gate.make("/console/routing", rule).await;
    }
    let names = |body: &Value| -> Vec<String> {
        let items = body["items"].as_array().expect("a list");
        items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&gate.get("/console/routing").await), ["high", "file rule", "low"]);
    let (_, off) = gate.ask(Method::POST, "/api/routing/high/toggle", None).await;
    assert_eq!(off["disabled"], true);
    let served = gate.served(1);
    assert!(served.routes.routes[0].disabled && &*served.routes.routes[0].name == "high");
    let (status, copy) = gate.ask(Method::POST, "/api/routing/file:file%20rule/clone", None).await;
    assert_eq!((status, &copy["name"]), (StatusCode::CREATED, &json!("file rule (copy)")));
    assert_eq!(copy["disabled"], true, "somebody looks at it first");
    let in_file = gate.ask(Method::POST, "/api/routing/file:file%20rule/toggle", None).await;
    assert_problem(&in_file, StatusCode::CONFLICT, "defined_in_file");
    assert_eq!(gate.get("/api/routing/low/data").await["priority"], 1);
}

#[tokio::test]
async fn lists_are_filtered_and_paged_in_both_ways() {
    let gate = Gate::new().await;
    for number in 100..112 {
        let document = json!({ "extension": number.to_string(), "sip_password": "s",
                               "login_disabled": number % 2 == 1, "display_name": "Ann" });
        gate.make("/console/extensions", document).await;
    }
    let page = gate.get("/console/extensions?per_page=5&page=3").await;
    assert_eq!((&page["total_items"], &page["total_pages"]), (&json!(13), &json!(3)));
    assert_eq!(page["items"].as_array().map(Vec::len), Some(3));
    let filters = json!({ "per_page": 50, "filters": { "login_allowed": false, "q": "ann" } });
    let (status, body) = gate.ask(Method::POST, "/api/extensions", Some(filters)).await;
    assert_eq!((status, &body["total_items"]), (StatusCode::OK, &json!(6)));
    assert_eq!(body["items"][0]["extension"]["extension"], "101", "the original's shape");
    let files = gate.get("/console/extensions?source=file").await;
    assert_eq!(files["items"][0]["extension"], "900");

    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/extensions?limit=5{cursor}");
        let body = gate.get(&path).await;
        let items = body["data"].as_array().expect("a list").clone();
        seen.extend(items.iter().map(|item| item["extension"].as_str().expect("text").to_owned()));
        match body["page"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 13);
    assert!(seen.is_sorted() && seen.windows(2).all(|two| two[0] != two[1]));
    for (query, code) in [
        ("colour=red", "filter_unknown"),
        ("page=0", "filter_invalid"),
        ("login_allowed=maybe", "filter_invalid"),
    ] {
        let path = format!("/console/extensions?{query}");
        let refused = gate.ask(Method::GET, &path, None).await;
        assert_problem(&refused, StatusCode::BAD_REQUEST, code);
    }
    let later = "/console/extensions?registered_at_from=2026-01-01";
    let refused = gate.ask(Method::GET, later, None).await;
    assert_problem(&refused, StatusCode::NOT_IMPLEMENTED, "not_built");
    let put = gate.ask(Method::PUT, "/console/extensions", Some(json!({}))).await;
    assert_problem(&put, StatusCode::METHOD_NOT_ALLOWED, "no_such_method");
}

#[tokio::test]
async fn an_extension_shows_what_is_registered() {
    let gate = Gate::new().await;
    gate.plane.bindings.lock().expect("no panic").push(BindingView {
        aor: "900".to_owned(),
        contact: "sip:900@192.0.2.44:5062".to_owned(),
        destination: "192.0.2.44:40000".parse().expect("an address"),
        transport: Transport::Udp,
        user_agent: Some("Phone".to_owned()),
        instance: None,
        path: Vec::new(),
        expires_s: 120,
        age_s: 3,
        shard: ShardId(0),
    });
    let shown = gate.get("/console/extensions/file:900").await;
    let registrations = &shown["registrations"];
    assert_eq!((&registrations["available"], &registrations["total"]), (&json!(true), &json!(1)));
    assert_eq!(registrations["records"][0]["destination"], "192.0.2.44:40000");
    assert_eq!(registrations["query_uri"], "sip:900@pbx.test");
    tokio::time::pause();
    gate.plane.silent.store(true, Ordering::Relaxed);
    let shown = gate.get("/console/extensions/file:900").await;
    assert_eq!(shown["registrations"]["available"], false);
    assert!(shown["registrations"]["error"].as_str().is_some_and(|text| text.contains("shard")));
}

#[tokio::test]
async fn a_database_that_is_locked_changes_nothing() {
    let gate = Gate::new().await;
    gate.store.failures.store(1, Ordering::Relaxed);
    let document = json!({ "extension": "1001", "sip_password": "s" });
    let refused = gate.ask(Method::POST, "/console/extensions", Some(document.clone())).await;
    assert_problem(&refused, StatusCode::SERVICE_UNAVAILABLE, "database_unavailable");
    assert!(gate.directory.contents().find(Kind::Extension, &Id::Name("1001".into())).is_none());
    gate.store.failures.store(0, Ordering::Relaxed);
    gate.make("/console/extensions", document).await;
}

#[tokio::test]
async fn a_shard_that_does_not_follow_is_named_and_the_next_change_takes_it_along() {
    let gate = Gate::new().await;
    gate.plane.silent.store(true, Ordering::Relaxed);
    let document = |name: &str| json!({ "extension": name, "sip_password": "s" });
    let late = gate.ask(Method::POST, "/console/extensions", Some(document("1"))).await;
    assert_problem(&late, StatusCode::SERVICE_UNAVAILABLE, "shards_silent");
    assert!(late.1["detail"].as_str().is_some_and(|text| text.contains("it is stored")));
    gate.plane.silent.store(false, Ordering::Relaxed);
    gate.make("/console/extensions", document("2")).await;
    let served = gate.served(0);
    assert!(served.users.contains_key("1") && served.users.contains_key("2"));
}

/// Fifty programs at once: each answer is true, and the shards were told far fewer times.
#[tokio::test]
async fn a_burst_of_changes_goes_out_together() {
    let gate = Arc::new(Gate::new().await);
    let changes: Vec<_> = (0..50)
        .map(|number| {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                let document = json!({ "extension": format!("x{number}"), "ha1": "0".repeat(32) });
                let path = "/api/v1/extensions";
                let (status, made) = gate.ask(Method::POST, path, Some(document)).await;
                assert_eq!(status, StatusCode::CREATED, "{made}");
                made["generation"].as_u64().expect("a number")
            })
        })
        .collect();
    let mut newest = 0;
    for change in changes {
        newest = newest.max(change.await.expect("no panic"));
    }
    assert!(newest <= 51, "at most one generation per change: {newest}");
    assert_eq!(gate.served(0).generation, newest);
    assert_eq!(gate.served(1).users.len(), 51);
}

#[tokio::test]
async fn an_explanation_comes_from_a_shard() {
    let gate = Gate::new().await;
    *gate.plane.explanation.lock().expect("no panic") = Some(Explanation {
        generation: 1,
        direction: "outbound",
        before_rules: None,
        rules: Vec::new(),
        matched: Some("file rule".to_owned()),
        rewrites: Vec::new(),
        outcome: Chosen::User { user: "900".to_owned() },
    });
    let asked = json!({ "caller": "1001", "callee": "0301234", "headers": { "X-A": "1" } });
    for path in ["/api/v1/routes/explain", "/api/diagnostics/routes/evaluate"] {
        let (status, told) = gate.ask(Method::POST, path, Some(asked.clone())).await;
        assert_eq!((status, &told["matched"]), (StatusCode::OK, &json!("file rule")), "{told}");
        assert_eq!(told["outcome"], json!({ "action": "user", "user": "900" }));
        // The stand-in tells what it was asked for.
        assert_eq!(told["rewrites"][0][1], "sip:0301234@pbx.test");
    }
    for (asked, pointer) in [
        (json!({}), "/to"),
        (json!({ "to": "1", "source_trunk": "nobody" }), "/source_trunk"),
        (json!({ "to": "1", "source_ip": "here" }), "/source_ip"),
        (json!({ "to": "1", "direction": "inbound" }), "/source_trunk"),
        (json!({ "to": "1", "colour": 1 }), "/colour"),
    ] {
        let refused = gate.ask(Method::POST, "/api/v1/routes/explain", Some(asked)).await;
        assert_problem(&refused, StatusCode::UNPROCESSABLE_ENTITY, "body_invalid");
        assert_eq!(refused.1["errors"][0]["pointer"], pointer);
    }
}

/// A reload takes what the database holds by then, and refuses as a whole.
#[tokio::test]
async fn a_reload_is_whole_or_nothing() {
    let gate = Gate::new().await;
    gate.make("/console/sip-trunk", json!({ "name": "t", "sip_server": "192.0.2.30" })).await;
    gate.make("/console/routing", json!({ "name": "uses both", "dest": ["t", "file-trunk"] }))
        .await;
    let config = |text: &str| {
        let loaded = load(&Sources {
            file: Some(("gate.toml", text)),
            env: Vec::new(),
            read_secret: &|_| Err("no secrets here".to_owned()),
            strict: false,
        });
        loaded.config.expect("valid by itself")
    };
    let without = "[[proxy.routes]]\nname = \"only\"\nreject = 403\n";
    let refused = gate
        .directory
        .replace_config(Part::All, config(without))
        .await
        .expect_err("a trunk is gone");
    let refused = refused.to_string();
    assert!(refused.contains("the rule \"uses both\" names no trunk: file-trunk"), "{refused}");
    assert_eq!(gate.served(0).trunks.len(), 2, "what ran before runs on");
    let other = FILE.replace("priority = 5", "priority = 50");
    let done = gate.directory.replace_config(Part::All, config(&other)).await.expect("it fits");
    let counts = done.counts;
    assert_eq!((counts.users, counts.trunks, counts.routes), (1, 2, 2));
    assert_eq!(gate.served(1).generation, done.generation);
    assert_eq!(gate.served(1).routes.routes[0].priority, 50);
}

#[tokio::test]
async fn a_reload_that_a_shard_does_not_take_goes_back() {
    let gate = Gate::new().await;
    let loaded = load(&Sources {
        file: Some(("gate.toml", "[proxy]\nrealms = [\"pbx.test\"]\n")),
        env: Vec::new(),
        read_secret: &|_| Err("no secrets here".to_owned()),
        strict: true,
    });
    gate.plane.silent.store(true, Ordering::Relaxed);
    let refused = gate.directory.replace_config(Part::All, loaded.config.expect("valid")).await;
    let refused = refused.expect_err("nobody reports").to_string();
    assert!(refused.contains("did not take the new snapshot in time"), "{refused}");
    assert_eq!(gate.served(0).trunks.len(), 1, "the trunk of before is told again");
    assert_eq!(gate.directory.contents().list(Kind::Route).len(), 1);
}
