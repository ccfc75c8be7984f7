//! Guide 2.2, system management: extensions, trunks and routes with GET, POST, PUT and DELETE.
//! The guide prints no bodies, so they are written in the words that the gateway's own 422 names:
//! those of today's RustPBX for extensions and trunks, those of the configuration file for routes.

use serde_json::{Value, json};

use crate::integrator::gate::{Gate, Setup};
use crate::integrator::shape::{list, object};
use crate::integrator::until;

pub(crate) fn extension(name: &str) -> Value {
    json!({
        "extension": name,
        "sip_password": format!("secret-{name}"),
        "display_name": "John Doe",
        "email": "john@pbx.com",
        "allow_guest_calls": false
    })
}

fn id_of(created: &Value) -> String {
    match &object(created)["id"] {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        other => panic!("no id ({other}) in {created}"),
    }
}

/// Creates, lists, reads, replaces, changes, deletes one thing; gives its id while it stands.
async fn create(gate: &Gate, path: &str, body: &Value) -> String {
    let created = gate.client.post(path, body).await.expect(&[200, 201]).json();
    let id = id_of(&created);
    let listed = gate.client.get(path).await.expect(&[200]).json();
    let ids: Vec<String> = list(&listed).iter().map(id_of).collect();
    assert!(ids.contains(&id), "{path}: {id} is not in {listed}");
    let read = gate.client.get(&format!("{path}/{id}")).await.expect(&[200]).json();
    assert_eq!(id_of(&read), id);
    for (name, value) in body.as_object().expect("an object") {
        if name != "sip_password" {
            assert_eq!(&object(&read)[name], value, "{path}: {name} of {read}");
        }
    }
    id
}

async fn delete(gate: &Gate, path: &str, id: &str) {
    let one = format!("{path}/{id}");
    gate.client.delete(&one).await.expect(&[200, 204]);
    gate.client.get(&one).await.expect(&[404]);
    gate.client.delete(&one).await.expect(&[404]);
    let listed = gate.client.get(path).await.expect(&[200]).json();
    assert!(!list(&listed).iter().any(|one| id_of(one) == id), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_2_extensions_a_new_one_can_register_at_once_and_a_deleted_one_no_more() {
    let gate = Gate::start(&Setup::default()).await;
    let path = "/console/extensions";
    let id = create(&gate, path, &extension("7001")).await;
    let shown = gate.client.get(&format!("{path}/{id}")).await;
    assert!(!String::from_utf8_lossy(&shown.body).contains("secret-7001"), "a secret stays inside");
    gate.phone("7001").await;
    // PUT: another password holds from now on.
    let mut changed = extension("7001");
    changed["sip_password"] = json!("another-secret");
    changed["display_name"] = json!("Jane Doe");
    let one = format!("{path}/{id}");
    gate.client.put(&one, &changed).await.expect(&[200, 204]);
    let read = gate.client.get(&one).await.expect(&[200]).json();
    assert_eq!(object(&read)["display_name"], "Jane Doe");
    assert_eq!(gate.agent("7001").await.register(300).await.status(), 403);
    let mut agent = crate::integrator::agent::Agent::bind(gate.sip, "7001", "another-secret").await;
    assert_eq!(agent.register(300).await.status(), 200);
    // PATCH: one field alone.
    gate.client.patch(&one, &json!({"email": "jane@pbx.com"})).await.expect(&[200, 204]);
    let read = gate.client.get(&one).await.expect(&[200]).json();
    assert_eq!(object(&read)["email"], "jane@pbx.com");
    assert_eq!(object(&read)["display_name"], "Jane Doe");
    delete(&gate, path, &id).await;
    assert_eq!(agent.register(300).await.status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_2_extensions_a_body_that_is_wrong_is_refused_and_says_where() {
    let gate = Gate::start(&Setup::default()).await;
    let path = "/console/extensions";
    for body in [json!({}), json!({"extension": ""}), json!({"extension": 7}), json!([])] {
        let answer = gate.client.post(path, &body).await;
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer:?}");
        assert!(!answer.body.is_empty(), "{body}");
    }
    gate.client.post(path, &extension("7001")).await.expect(&[200, 201]);
    gate.client.post(path, &extension("7001")).await.expect(&[409]);
    gate.client.get(&format!("{path}/no-such-id")).await.expect(&[400, 404]);
    gate.client.put(&format!("{path}/999999"), &extension("7002")).await.expect(&[404]);
}

/// A trunk that somebody adds is the way out for a route that somebody adds, at once.
#[tokio::test(flavor = "multi_thread")]
async fn section_2_2_trunks_and_routes_carry_a_call_as_soon_as_they_are_there() {
    let gate = Gate::start(&Setup::with_users(&["1001"])).await;
    let (mut caller, mut carrier) = (gate.agent("1001").await, gate.agent("carrier").await);
    assert_eq!(caller.invite("sip:5550123@pbx.com").await.0.status(), 404, "nobody knows it yet");
    let trunk = json!({"name": "carrier", "sip_server": format!("sip:{}", carrier.local)});
    let trunk_id = create(&gate, "/console/sip-trunk", &trunk).await;
    let route = json!({
        "name": "out",
        "priority": 10,
        "match": {"to.user": "^555"},
        "action": "forward",
        "dest": "carrier"
    });
    let route_id = create(&gate, "/console/routing", &route).await;
    let ((answer, leg), (invite, _)) =
        tokio::join!(caller.invite("sip:5550123@pbx.com"), carrier.pick_up());
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(invite.request_uri().starts_with("sip:5550123@"), "{}", invite.start);
    let leg = leg.expect("a dialog");
    tokio::join!(caller.hang_up(&leg), carrier.hear_bye());
    // PUT: another pattern.
    let mut other = route.clone();
    other["match"] = json!({"to.user": "^777"});
    let one = format!("/console/routing/{route_id}");
    gate.client.put(&one, &other).await.expect(&[200, 204]);
    assert_eq!(caller.invite("sip:5550123@pbx.com").await.0.status(), 404);
    delete(&gate, "/console/routing", &route_id).await;
    let mut moved = trunk.clone();
    moved["sip_server"] = json!("sip:192.0.2.9:5060");
    let one = format!("/console/sip-trunk/{trunk_id}");
    gate.client.put(&one, &moved).await.expect(&[200, 204]);
    delete(&gate, "/console/sip-trunk", &trunk_id).await;
}

/// Live within 100 ms of the answer: the very next REGISTER after the answer holds.
#[tokio::test(flavor = "multi_thread")]
async fn section_2_2_changes_are_live_when_the_answer_is_there() {
    let gate = Gate::start(&Setup::default()).await;
    for number in 7_101..7_111 {
        let name = number.to_string();
        gate.client.post("/console/extensions", &extension(&name)).await.expect(&[200, 201]);
        let mut agent = gate.agent(&name).await;
        let registered =
            until("the new extension", std::time::Duration::from_millis(400), async || {
                (agent.register(60).await.status() == 200).then_some(())
            });
        registered.await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_2_system_management_works_under_every_prefix() {
    let gate = Gate::start(&Setup::default()).await;
    for (number, prefix) in ["/console", "/api/v1"].into_iter().enumerate() {
        let path = format!("{prefix}/extensions");
        let name = format!("72{number:02}");
        let id = create(&gate, &path, &extension(&name)).await;
        gate.phone(&name).await;
        delete(&gate, &path, &id).await;
    }
    let listed = gate.client.get("/api/extensions").await;
    assert_eq!(listed.status, 200, "{listed:?}");
}
