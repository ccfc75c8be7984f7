//! Trunks over HTTP: what a stored one can do, its state, and what is kept secret.

mod stand_ins;

use std::sync::atomic::Ordering;

use axum::http::{Method, StatusCode};
use controlplane::store::{AuditLog, AuditSearch};
use serde_json::{Value, json};
use shared::ids::ShardId;
use shared::net::Transport;
use shared::trunk_view::{DestinationView, RegistrationState, RegistrationView, TrunkView};
use stand_ins::MORNING;
use stand_ins::gate::Gate;

#[tokio::test]
async fn a_trunk_shows_the_state_that_its_shards_know() {
    let gate = Gate::new().await;
    let view = |calls, is_down, registration| TrunkView {
        name: "file-trunk".to_owned(),
        calls,
        destinations: vec![DestinationView {
            address: "192.0.2.9:5060".parse().expect("an address"),
            transport: Transport::Udp,
            is_checked: true,
            is_down,
            changed_at: Some(MORNING),
            rests_until: None,
        }],
        registration,
    };
    let registration = RegistrationView {
        state: RegistrationState::Failed,
        until: None,
        status: Some(403),
        reason: Some("Forbidden".to_owned()),
        changed_at: MORNING,
    };
    {
        let mut trunks = gate.plane.trunks.lock().expect("no panic");
        trunks.insert(ShardId(0), vec![view(2, false, None)]);
        trunks.insert(ShardId(1), vec![view(1, true, Some(registration))]);
    }
    for path in
        ["/console/sip-trunk/file-trunk", "/api/sip-trunk/file-trunk", "/api/v1/trunks/file-trunk"]
    {
        let state = gate.get(path).await["state"].clone();
        assert_eq!((&state["available"], &state["calls"]), (&json!(true), &json!(3)), "{path}");
        assert_eq!(state["destinations"][0]["address"], "192.0.2.9:5060");
        assert_eq!(state["destinations"][0]["up"], false);
        assert_eq!(state["registration"]["state"], "failed");
        assert_eq!(state["registration"]["reason"], "Forbidden");
        assert_eq!(state["changed_at"], json!(MORNING));
    }
    let listed = gate.get("/api/v1/trunks").await;
    assert_eq!(listed["data"][0]["state"]["calls"], 3, "{listed}");
    // What was read may be written back: the state is no field of a document.
    let id = gate.make("/api/v1/trunks", json!({ "name": "t", "sip_server": "192.0.2.30" })).await;
    let path = format!("/api/v1/trunks/{id}");
    let read = gate.get(&path).await;
    assert_eq!(read["state"]["registration"], Value::Null);
    let (status, body) = gate.ask(Method::PUT, &path, Some(read)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    gate.plane.silent.store(true, Ordering::Relaxed);
    let state = gate.get("/console/sip-trunk/file-trunk").await["state"].clone();
    assert_eq!(state["available"], false);
    assert!(state["error"].as_str().is_some_and(|text| text.contains("did not answer")), "{state}");
}

#[tokio::test]
async fn a_stored_trunk_has_what_a_trunk_of_a_file_has() {
    let gate = Gate::new().await;
    let document = json!({
        "name": "full", "sip_server": "sip:192.0.2.30:5070", "auth_username": "4930",
        "auth_password": "hush-hush", "realm": "carrier.example", "register_enabled": true,
        "register_expires": 600, "register_extra_headers": { "X-Site": "north-key" },
        "backup_dest": "sip:192.0.2.31", "failover_codes": ["503"], "setup_timeout_ms": 2000,
        "health_check_enabled": true, "health_check_probe_count": 4,
    });
    let id = gate.make("/console/sip-trunk", document).await;
    let trunk = || {
        let served = gate.served(1);
        served.trunks.iter().find(|trunk| &*trunk.name == "full").expect("served").clone()
    };
    let first = trunk();
    let account = first.account.as_ref().expect("it has one");
    assert_eq!((&*account.username, account.password.expose()), ("4930", "hush-hush"));
    assert_eq!(account.realm.as_deref(), Some("carrier.example"));
    let registers = account.registers.as_ref().expect("it registers");
    assert_eq!((registers.expires.as_secs(), registers.headers[0].value()), (600, "north-key"));
    assert_eq!(
        first.entrances.get(1).map(|backup| backup.address.to_string()).as_deref(),
        Some("192.0.2.31:5060")
    );
    assert_eq!(first.failover.setup.as_millis(), 2_000);
    assert!(first.failover.codes.contains(503) && !first.failover.codes.contains(500));
    assert_eq!(first.health.map(|checks| checks.failures), Some(4));

    let path = format!("/console/sip-trunk/{id}");
    let shown = gate.get(&path).await;
    assert_eq!(shown["has_password"], true);
    assert!(!shown.to_string().contains("hush-hush"), "{shown}");
    // A header may be a key: its value goes out as little as the password, and comes back as it was.
    assert_eq!(shown["register_extra_headers"], json!({ "X-Site": "********" }));
    let listed = gate.get("/console/sip-trunk").await;
    assert!(!listed.to_string().contains("north-key"), "{listed}");
    let (status, body) = gate.ask(Method::PUT, &path, Some(shown)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(!body.to_string().contains("north-key"), "{body}");
    // The password stays where nothing is said of it.
    let (status, body) =
        gate.ask(Method::PATCH, &path, Some(json!({ "register_expires": 900 }))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        trunk().account.as_ref().map(|one| one.password.expose().to_owned()).as_deref(),
        Some("hush-hush")
    );
    let registers = trunk().account.as_ref().and_then(|one| one.registers.clone());
    let header = registers.expect("it still registers").headers[0].value().to_owned();
    assert_eq!(header, "north-key");
    for (body, pointer) in [
        (json!({ "register_extra_headers": { "X-New": "********" } }), "/register_extra_headers"),
        (json!({ "backup_dest": "sip:me@192.0.2.31" }), "/backup_dest"),
        (json!({ "failover_codes": ["503", "5xx"] }), "/failover_codes/1"),
        (json!({ "register_extra_headers": { "Via": "x" } }), "/register_extra_headers"),
        (json!({ "health_check_probe_count": 0 }), "/health_check_probe_count"),
    ] {
        let (status, refused) = gate.ask(Method::PATCH, &path, Some(body)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
    }
    let lone = json!({ "name": "lone", "sip_server": "192.0.2.40", "register_enabled": true });
    let (status, refused) = gate.ask(Method::POST, "/console/sip-trunk", Some(lone)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    assert_eq!(refused["errors"][0]["pointer"], "/register_enabled");
    let search = AuditSearch { limit: 100, ..Default::default() };
    let log = gate.store.audit(&search).await.expect("read");
    let log = format!("{log:?}");
    assert!(!log.contains("hush-hush") && !log.contains("north-key"), "no secret is logged");
}

#[tokio::test]
async fn a_stored_trunk_has_options_and_an_outbound_proxy() {
    let gate = Gate::new().await;
    let document = json!({
        "name": "edge", "sip_server": "sip:carrier.example", "outbound_proxy": "192.0.2.60:5080",
        "trusted": true, "codec": ["PCMA"], "external_ip": "198.51.100.9", "media_mode": "all",
    });
    let id = gate.make("/console/sip-trunk", document).await;
    let path = format!("/console/sip-trunk/{id}");
    let trunk = || gate.served(1).trunks.iter().find(|one| &*one.name == "edge").cloned();
    let first = trunk().expect("served");
    // Nobody looks up the server's name: the proxy is where requests go.
    assert_eq!((&*first.host, first.port), ("carrier.example", None));
    let at: Vec<_> = first.entrances.iter().map(|one| one.address.to_string()).collect();
    assert_eq!(at, ["192.0.2.60:5080"]);
    assert_eq!(first.options.route.as_deref(), Some("<sip:192.0.2.60:5080;lr>"));
    assert!(first.options.trusted && first.options.codecs.iter().all(|codec| **codec == *"PCMA"));
    assert_eq!(first.options.codecs.len(), 1);
    let (status, body) = gate.ask(Method::PATCH, &path, Some(json!({ "trusted": false }))).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert!(trunk().is_some_and(|trunk| !trunk.options.trusted), "it is live");
    assert_eq!(gate.get(&path).await["codec"], json!(["PCMA"]));
    for (body, pointer) in [
        (json!({ "outbound_proxy": "sip:me@edge" }), "/outbound_proxy"),
        (json!({ "codec": ["PCMA/8000"] }), "/codec"),
        (json!({ "media_mode": "force_transcode" }), "/media_mode"),
    ] {
        let (status, refused) = gate.ask(Method::PATCH, &path, Some(body)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
    }
}
