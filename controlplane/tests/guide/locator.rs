//! Guide 1.3, locator webhook: the payload of the guide for each of its three events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::integrator::agent::Agent;
use crate::integrator::gate::{Gate, Setup};
use crate::integrator::receiver::{Heard, Receiver};
use crate::integrator::shape::assert_like;

fn setup(receiver: &Receiver, events: &[&str]) -> Setup {
    let url = receiver.url("/pbx/events");
    Setup::with_users(&["1001"]).section(&format!(
        "[proxy.locator_webhook]\nurl = \"{url}\"\nevents = {events:?}\n\
         headers = {{ X-API-Key = \"secret-token\" }}\n"
    ))
}

const ALL: [&str; 3] = ["registered", "unregistered", "offline"];

/// The device of the sample.
async fn softphone(gate: &Gate) -> Agent {
    let mut agent = gate.agent("1001").await;
    agent.headers = vec![("User-Agent", "MicroSIP/3.21.3".to_owned())];
    agent
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn assert_payload(heard: &Heard, event: &str) {
    assert_eq!((heard.method.as_str(), heard.path.as_str()), ("POST", "/pbx/events"));
    assert!(heard.header("content-type").starts_with("application/json"));
    assert_eq!(heard.header("X-API-Key"), "secret-token");
    let payload = heard.json();
    let sample = json!({
        "event": "registered",
        "timestamp": 1708201234,
        "location": {
            "aor": "sip:1001@pbx.com",
            "destination": "1.2.3.4:12345",
            "transport": "TLS",
            "user_agent": "MicroSIP/3.21.3",
            "expires": 3600
        }
    });
    assert_like(&payload, &sample);
    assert_eq!(payload["event"], event, "{payload:#}");
    assert_eq!(payload["location"]["aor"], "sip:1001@pbx.com", "{payload:#}");
    let timestamp = payload["timestamp"].as_u64().expect("seconds");
    assert!(now_s().abs_diff(timestamp) < 60, "seconds since 1970: {payload:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_3_payload_registered_and_unregistered_have_every_field_of_the_sample() {
    let receiver = Receiver::saying(200, &json!({})).await;
    let gate = Gate::start(&setup(&receiver, &ALL)).await;
    let mut agent = softphone(&gate).await;
    assert_eq!(agent.register(3_600).await.status(), 200);
    let heard = receiver.nth(0).await;
    assert_payload(&heard, "registered");
    let location = &heard.json()["location"];
    assert_eq!(location["destination"], agent.local.to_string(), "{location:#}");
    assert_eq!(location["transport"], "UDP", "{location:#}");
    assert_eq!(location["user_agent"], "MicroSIP/3.21.3", "{location:#}");
    assert_eq!(location["expires"], 3_600, "{location:#}");
    // What the contract adds to the guide.
    assert!(location["contact"].as_str().is_some_and(|own| own.contains("1001@")), "{location:#}");
    assert_eq!(location["supports_webrtc"], false, "{location:#}");
    assert!(location.get("home_proxy").is_some(), "{location:#}");
    assert_eq!(agent.register(0).await.status(), 200);
    let heard = receiver.nth(1).await;
    assert_payload(&heard, "unregistered");
    assert_eq!(heard.json()["location"]["destination"], agent.local.to_string());
}

/// A device that falls silent: its registration runs out and nobody renews it.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_3_payload_offline_comes_when_a_registration_runs_out() {
    let receiver = Receiver::saying(200, &json!({})).await;
    let gate = Gate::start(&setup(&receiver, &ALL)).await;
    let mut agent = softphone(&gate).await;
    let mut answer = agent.register(2).await;
    let mut granted_s = 2;
    if answer.status() == 423 {
        granted_s = answer.header("Min-Expires").parse().expect("seconds");
        answer = agent.register(granted_s).await;
    }
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_payload(&receiver.nth(0).await, "registered");
    let limit = Duration::from_secs(u64::from(granted_s) + 90);
    let heard = receiver.nth_within(1, limit).await;
    assert_payload(&heard, "offline");
    let payload = heard.json();
    let locations = payload["locations"].as_array().expect("offline carries what went");
    assert!(!locations.is_empty(), "{payload:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn section_1_3_config_events_that_are_not_named_are_not_sent() {
    let receiver = Receiver::saying(200, &json!({})).await;
    let gate = Gate::start(&setup(&receiver, &["unregistered"])).await;
    let mut agent = gate.agent("1001").await;
    for _ in 0..2 {
        assert_eq!(agent.register(600).await.status(), 200);
        assert_eq!(agent.register(0).await.status(), 200);
    }
    receiver.nth(1).await;
    let events: Vec<_> =
        receiver.heard().iter().map(|heard| heard.json()["event"].clone()).collect();
    assert_eq!(events, ["unregistered", "unregistered"]);
}

/// Delivered at least once: an endpoint that refuses is asked again, in order.
#[tokio::test(flavor = "multi_thread")]
async fn section_1_3_an_endpoint_that_failed_is_told_again() {
    let receiver = Receiver::saying(503, &json!({})).await;
    let gate = Gate::start(&setup(&receiver, &ALL)).await;
    let mut agent = softphone(&gate).await;
    assert_eq!(agent.register(600).await.status(), 200);
    receiver.nth(0).await;
    receiver.say(crate::integrator::receiver::Reply::json(200, &json!({})));
    let again = receiver.nth_within(1, Duration::from_secs(90)).await;
    assert_payload(&again, "registered");
    assert_eq!(again.body, receiver.heard()[0].body, "the same event");
}
