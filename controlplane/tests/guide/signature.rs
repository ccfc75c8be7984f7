//! Contract 2 and 3: a Standard Webhooks signature on every call that the gateway makes.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::integrator::gate::{Gate, Setup};
use crate::integrator::receiver::{Heard, Receiver, Reply};
use crate::integrator::talk;

/// `whsec_` and the base64 of 24 bytes, as the standard writes a secret.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn assert_signed(heard: &Heard) {
    let what = &heard.path;
    let (id, time) = (heard.header("webhook-id"), heard.header("webhook-timestamp"));
    assert!(!id.is_empty(), "{what}: {:?}", heard.headers);
    let seconds: u64 = time.parse().expect("seconds since 1970");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(now.abs_diff(seconds) < 300, "{what}: {time}");
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length will do");
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(&heard.body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let signatures = heard.header("webhook-signature");
    assert!(signatures.split(' ').any(|one| one == expected), "{what}: {signatures}");
}

fn with_secret(setup: Setup) -> Setup {
    setup.section(&format!("[webhooks]\nsecret = \"{SECRET}\"\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_3_the_routers_post_is_signed() {
    let receiver = Receiver::saying(200, &json!({"action": "reject"})).await;
    let url = receiver.url("/pbx/route");
    let setup = Setup::with_users(&["1001"]);
    let setup = setup.section(&format!("[proxy.http_router]\nurl = \"{url}\"\n"));
    let gate = Gate::start(&with_secret(setup)).await;
    gate.agent("1001").await.invite("sip:200@pbx.com").await;
    assert_signed(&receiver.nth(0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_3_the_user_backends_get_is_signed() {
    let reply = json!({"username": "1001", "password": "secret-1001"});
    let receiver = Receiver::start(move |_| Reply::json(200, &reply)).await;
    let url = receiver.url("/pbx/auth");
    let setup = Setup::default().section(&format!(
        "[[proxy.user_backends]]\ntype = \"http\"\nurl = \"{url}\"\n\
         username_field = \"u\"\nrealm_field = \"r\"\n"
    ));
    let gate = Gate::start(&with_secret(setup)).await;
    gate.phone("1001").await;
    let heard = receiver.nth(0).await;
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        assert!(!heard.header(name).is_empty(), "{name}: {:?}", heard.headers);
    }
    assert!(heard.header("webhook-signature").starts_with("v1,"));
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_4_events_and_records_are_signed() {
    let receiver = Receiver::saying(200, &json!({})).await;
    let (events, cdr) = (receiver.url("/pbx/events"), receiver.url("/pbx/cdr"));
    let setup = Setup::with_users(&["1001", "1002"]).section(&format!(
        "[proxy.locator_webhook]\nurl = \"{events}\"\nevents = [\"registered\"]\n\
         [callrecord]\ntype = \"http\"\nurl = \"{cdr}\"\n"
    ));
    let gate = Gate::start(&with_secret(setup)).await;
    let (mut caller, mut callee) =
        (talk::phone(&gate, "1001").await, talk::phone(&gate, "1002").await);
    let (calling, _called) = talk::connect(&mut caller, &mut callee).await;
    calling.hang_up().await.expect("it hangs up");
    assert_signed(&receiver.first("an event", |heard| heard.path == "/pbx/events").await);
    assert_signed(&receiver.first("a record", |heard| heard.path == "/pbx/cdr").await);
}
