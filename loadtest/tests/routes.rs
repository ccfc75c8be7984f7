//! Rules on the wire: what a carrier and a phone see of them (issue 3, deliver 5).
//! Owns:  one gateway per test, with one trunk.
//! Gives: a number of a carrier to an extension, a prefix to a carrier, a rule that refuses.
//! Never: a rule's own syntax; `shared` tests that.
//! Holds: bounded by deadlines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use loadtest::gateway::{Plan, spare_port};
use loadtest::scene::{Expected, SOON, Scene, assert_record};
use loadtest::sipp::Run;
use serde_json::json;

const RULES: &str = r#"
[[proxy.routes]]
name = "numbers of the carrier"
direction = "inbound"
source_trunks = ["carrier"]
match = { "to.user" = '^\+4930555(\d{3})$' }
rewrite = { "to.user" = "1{1}" }

[[proxy.routes]]
name = "no premium numbers"
priority = 20
match = { "to.user" = '^90900' }
action = "reject"
reject = { code = 603, reason = "No Premium Numbers" }

[[proxy.routes]]
name = "9 for an outside line"
priority = 10
direction = "outbound"
match = { "to.user" = '^9(\d+)$' }
rewrite = { "to.user" = "{1}" }
dest = "carrier"
"#;

/// A gateway, and where its carrier is.
fn start() -> (Scene, SocketAddr) {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let carrier = SocketAddr::new(ip, spare_port(ip).expect("a port"));
    let plan = Plan {
        trunks: vec![("carrier".to_owned(), format!("sip:{carrier}"))],
        sections: vec![RULES.to_owned()],
        ..Plan::default()
    };
    (Scene::start(plan).expect("a gateway"), carrier)
}

#[test]
fn a_number_of_the_carrier_reaches_an_extension() {
    let (scene, carrier) = start();
    let callee = scene.callee("1002", Run::new("uas_answer").with("RING_MS", 100));
    let callee = callee.expect("a callee");
    let calling = Run::new("uac_trunk").argument("-d", 1_000).argument("-s", "+4930555002");
    let calling = calling.key("caller", "+4940999").calls(1);
    let caller = calling.complete(carrier, scene.gateway.sip, SOON).expect("the call");
    let callee = callee.succeed(SOON).expect("the callee");
    assert_eq!(callee.received("INVITE sip:1002@"), 1, "{}", callee.text);
    let from = callee.values("From").into_iter().find(|from| from.contains("+4940999"));
    assert!(from.is_some(), "the caller's number stays: {}", callee.text);
    let record = scene.record(&caller).expect("a CDR");
    let expected = Expected {
        caller: "+4940999",
        callee: "+4930555002",
        talk_ms: Some(1_000),
        ..Expected::ANSWERED
    };
    assert_record(&record, &expected);
    assert_eq!((&record["direction"], &record["sipTrunk"]), (&json!("inbound"), &json!("carrier")));
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

#[test]
fn a_prefix_is_taken_off_on_the_way_to_the_carrier() {
    let (scene, carrier) = start();
    let callee = Run::new("uas_answer").with("RING_MS", 100).calls(1);
    let callee = callee.start(carrier, scene.gateway.sip).expect("a carrier");
    let caller = scene.caller(Run::new("uac_call").argument("-d", 1_000), "1001", "9030555");
    let (caller, callee) = scene.call(caller, callee, SOON).expect("the call");
    let invite = format!("INVITE sip:030555@{carrier}");
    assert_eq!(callee.received(&invite), 1, "{}", callee.text);
    let to = callee.values("To");
    assert!(to[0].starts_with(&format!("<sip:030555@{}>", carrier.ip())), "{to:?}");
    let record = scene.record(&caller).expect("a CDR");
    assert_record(&record, &Expected { callee: "9030555", ..Expected::ANSWERED });
    let went = (&record["direction"], &record["outboundTrunk"]);
    assert_eq!(went, (&json!("outbound"), &json!("carrier")));
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}

#[test]
fn a_rule_that_refuses_does_so_with_its_own_words() {
    let (scene, _) = start();
    let run = Run::new("uac_refused").with("STATUS", 603);
    let run = scene.caller(run, "1001", "9090055");
    let at = scene.spare().expect("a port");
    let caller = run.complete(at, scene.gateway.sip, SOON).expect("the call is refused");
    assert_eq!(caller.received("SIP/2.0 603 No Premium Numbers"), 1, "{}", caller.text);
    let record = scene.record(&caller).expect("a CDR");
    let expected =
        Expected { callee: "9090055", status: 603, hangup_reason: "", ..Expected::REFUSED };
    assert_record(&record, &expected);
    scene.gateway.await_drained(Duration::from_secs(10)).expect("nothing is left");
}
