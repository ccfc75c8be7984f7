//! Guide 2: login with a session cookie, API tokens, and what somebody without either hears.

use serde_json::json;

use crate::integrator::client::Client;
use crate::integrator::gate::{Gate, Setup};
use crate::integrator::{SOON, talk, until};

/// The first start prints it once.
async fn admin_password(gate: &Gate) -> String {
    until("the password of the first start", SOON, async || {
        let log = gate.log();
        let line = log.lines().find(|line| line.contains("admin") && line.contains("password"))?;
        line.split_whitespace().last().map(str::to_owned)
    })
    .await
}

async fn logged_in(gate: &Gate) -> Client {
    let mut client = gate.client.stranger();
    let password = admin_password(gate).await;
    let fields = [("identifier", "admin"), ("password", password.as_str())];
    let answer = client.post_form("/console/login", &fields).await.expect(&[200, 204, 302, 303]);
    client.keep_cookies(&answer);
    assert!(client.has_cookies(), "{:?}", answer.headers);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_authentication_a_login_by_form_or_json_sets_the_session_cookie() {
    let gate = Gate::start(&Setup::default()).await;
    let client = logged_in(&gate).await;
    client.get("/console/calls/active").await.expect(&[200]);
    let mut other = gate.client.stranger();
    let body = json!({"identifier": "admin", "password": admin_password(&gate).await});
    let answer = other.post("/console/login", &body).await.expect(&[200]);
    other.keep_cookies(&answer);
    other.get("/console/calls/active").await.expect(&[200]);
    let wrong = json!({"identifier": "admin", "password": "guess"});
    let answer = gate.client.stranger().post("/console/login", &wrong).await;
    assert!(matches!(answer.status, 401 | 403), "{answer:?}");
    assert_eq!(answer.header("set-cookie"), "");
}

/// A program with the cookie of its login does everything that the guide shows, and the guide knows
/// of no other thing that it has to send along.
#[tokio::test(flavor = "multi_thread")]
async fn section_2_authentication_the_session_cookie_alone_is_enough_to_control_a_call() {
    let gate = Gate::start(&Setup::with_users(&["1001", "1002"])).await;
    let client = logged_in(&gate).await;
    let (mut caller, mut callee) =
        (talk::phone(&gate, "1001").await, talk::phone(&gate, "1002").await);
    let (calling, called) = talk::connect(&mut caller, &mut callee).await;
    let path = format!("/console/calls/active/{}/commands", calling.call_id());
    let body = json!({"action": "hangup", "reason": "admin_kick"});
    client.post(&path, &body).await.expect(&[200, 202]);
    calling.ended(SOON).await.expect("it is hung up");
    called.ended(SOON).await.expect("it is hung up");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_authentication_the_session_cookie_alone_is_enough_to_manage_extensions() {
    let gate = Gate::start(&Setup::default()).await;
    let client = logged_in(&gate).await;
    let body = super::resources::extension("7001");
    client.post("/console/extensions", &body).await.expect(&[200, 201]);
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_authentication_without_one_nothing_is_answered() {
    let gate = Gate::start(&Setup::with_users(&["1001"])).await;
    let stranger = gate.client.stranger();
    for path in [
        "/console/calls/active",
        "/console/extensions",
        "/console/sip-trunk",
        "/console/routing",
        "/console/call-records",
        "/console/call-records/some-call/recording",
        "/console/call-records/some-call/sip-flow",
        "/api/v1/events",
    ] {
        let answer = stranger.get(path).await;
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
    }
    let command = json!({"action": "hangup", "reason": "admin_kick"});
    stranger.post("/console/calls/active/some-call/commands", &command).await.expect(&[401]);
    stranger.post("/api/v1/commands", &json!({"action": "originate"})).await.expect(&[401]);
    stranger.post("/console/extensions", &json!({})).await.expect(&[401]);
    gate.client.with_token("no-such-token").get("/console/extensions").await.expect(&[401]);
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_authentication_the_scopes_of_a_token_are_enforced() {
    let setup = Setup::with_users(&["1001"])
        .token("token-that-reads-calls-only", &["calls:read"])
        .token("token-that-reads-records-only", &["cdr:read"]);
    let gate = Gate::start(&setup).await;
    let calls = gate.client.with_token("token-that-reads-calls-only");
    let records = gate.client.with_token("token-that-reads-records-only");
    calls.get("/console/calls/active").await.expect(&[200]);
    records.get("/console/calls/active").await.expect(&[403]);
    records.get("/console/call-records").await.expect(&[200]);
    calls.get("/console/call-records").await.expect(&[403]);
    let hangup = json!({"action": "hangup", "reason": "admin_kick"});
    calls.post("/console/calls/active/some-call/commands", &hangup).await.expect(&[403]);
    calls.get("/console/extensions").await.expect(&[403]);
    calls.post("/console/extensions", &super::resources::extension("7001")).await.expect(&[403]);
    records.get("/console/call-records/some-call/recording").await.expect(&[403]);
}

#[tokio::test(flavor = "multi_thread")]
async fn section_2_base_url_a_browser_gets_html_and_a_program_json_on_the_same_path() {
    let gate = Gate::start(&Setup::default()).await;
    let client = logged_in(&gate).await;
    for path in ["/console/extensions", "/console/calls/active", "/console/call-records"] {
        let page = client.get_with(path, "accept", "text/html").await.expect(&[200]);
        assert!(page.header("content-type").starts_with("text/html"), "{path}: {:?}", page.headers);
        let answer = client.get(path).await.expect(&[200]);
        assert!(answer.header("content-type").starts_with("application/json"), "{path}");
        let any = client.get_with(path, "accept", "*/*").await.expect(&[200]);
        assert!(any.header("content-type").starts_with("application/json"), "{path}");
    }
}
