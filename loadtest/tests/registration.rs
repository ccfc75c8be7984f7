//! Registration by SIPp and by peers with SHA-256 (issue 2, must show 2).
//! Owns:  one gateway per test.
//! Gives: who may register, with what, and what an intruder learns.
//! Never: a look inside the gateway: bindings are counted on /metrics.
//! Holds: bounded by deadlines.

use std::net::UdpSocket;
use std::time::Duration;

use loadtest::digest::Algorithm;
use loadtest::gateway::Plan;
use loadtest::phone::{Phone, PhoneError};
use loadtest::scene::{SOON, Scene};
use loadtest::sipp::Run;
use loadtest::sippy;

fn both() -> Plan {
    Plan { digest_algorithms: vec!["SHA-256", "MD5"], ..Plan::default() }
}

#[test]
fn sipp_registers_two_users_with_md5_and_removes_them_again() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let (first, second) = (scene.spare().expect("a port"), scene.spare().expect("a port"));
    let seen = scene.register("1001", first).expect("1001 registers");
    scene.register("1002", second).expect("1002 registers");
    assert_eq!((seen.received("SIP/2.0 401"), seen.received("SIP/2.0 200")), (1, 1));
    scene.gateway.await_metric("bindings", |count| count == 2.0).expect("two bindings");
    let leave = scene.registration("1001", scene.gateway.password("1001"), 200, 0);
    leave.complete(first, scene.gateway.sip, SOON).expect("1001 leaves");
    scene.gateway.await_metric("bindings", |count| count == 1.0).expect("one binding");
}

#[test]
fn sipp_registers_over_tcp() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let run = scene.registration("1001", scene.gateway.password("1001"), 200, 300).tcp();
    let at = scene.spare().expect("a port");
    run.complete(at, scene.gateway.sip, SOON).expect("1001 registers over TCP");
    let metrics = scene.gateway.metrics().expect("metrics");
    assert!(metrics.contains_key("flows"), "TCP flows are counted: {metrics:?}");
}

#[test]
fn a_wrong_password_never_registers_and_changes_no_other_number() {
    let mut scene = Scene::start(Plan::default()).expect("a gateway");
    for round in 0..3 {
        let at = scene.spare().expect("a port");
        let run = scene.registration("1001", "not-the-password", 403, 300);
        run.complete(at, scene.gateway.sip, SOON).unwrap_or_else(|e| panic!("round {round}: {e}"));
    }
    scene.gateway.await_metric("auth_failed_total", |count| count >= 3.0).expect("counted");
    let metrics = scene.gateway.metrics().expect("metrics");
    for name in ["bindings", "registrations_accepted_total", "calls", "dialogs", "relays"] {
        assert_eq!(metrics.get(name), Some(&0.0), "{name}: {metrics:?}");
    }
    assert!(scene.gateway.is_running());
    let at = scene.spare().expect("a port");
    scene.register("1001", at).expect("the right password still registers");
}

/// The challenge and the refusal of a user that does not exist, line by line as those of one that
/// does, except for what differs in every message.
#[test]
fn an_unknown_user_gets_the_same_challenge_as_a_known_one() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let known = challenge_of(&scene, "1001");
    let unknown = challenge_of(&scene, "9999");
    assert!(known.iter().any(|line| line.starts_with("WWW-Authenticate: Digest")), "{known:?}");
    assert_eq!(known, unknown);
    let at = scene.spare().expect("a port");
    let run = scene.registration("9999", "guess", 403, 300);
    run.complete(at, scene.gateway.sip, SOON).expect("the same refusal as a wrong password");
}

fn challenge_of(scene: &Scene, user: &str) -> Vec<String> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    let (server, local) = (scene.gateway.sip, socket.local_addr().expect("bound"));
    let text = format!(
        "REGISTER sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{user};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@{server}>;tag=f\r\nTo: <sip:{user}@{server}>\r\n\
         Call-ID: challenge-{user}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{user}@{local}>\r\n\
         Content-Length: 0\r\n\r\n"
    );
    socket.send_to(text.as_bytes(), server).expect("sent");
    let mut buffer = [0u8; 4_096];
    let length = socket.recv(&mut buffer).expect("an answer");
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let mut lines: Vec<String> = answer
        .lines()
        .filter(|line| !["Via:", "From:", "To:", "Call-ID:"].iter().any(|h| line.starts_with(h)))
        .map(|line| match line.split_once("nonce=\"") {
            Some((before, rest)) => {
                let length = rest.find('"').expect("a closing quote");
                format!("{before}nonce of {length} characters{}", &rest[length..])
            }
            None => line.to_owned(),
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_foreign_stack_registers_with_sha256() {
    let scene = Scene::start(both()).expect("a gateway");
    let password = scene.gateway.password("1001");
    let shown = sippy::register(scene.gateway.sip, "1001", password, "SHA-256").expect("sippy");
    assert!(shown.contains("algorithm=SHA-256"), "{shown}");
    scene.gateway.await_metric("bindings", |count| count == 1.0).expect("a binding");
    let refused = sippy::register(scene.gateway.sip, "1002", "wrong", "SHA-256");
    assert!(refused.is_err(), "{refused:?}");
    scene.gateway.await_metric("auth_failed_total", |count| count >= 1.0).expect("counted");
    assert_eq!(scene.gateway.metric("bindings").expect("metrics"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_phone_registers_with_each_algorithm_and_not_with_a_wrong_password() {
    let scene = Scene::start(both()).expect("a gateway");
    for (user, algorithm) in [("1001", Algorithm::Md5), ("1002", Algorithm::Sha256)] {
        let password = scene.gateway.password(user);
        let mut phone = Phone::bind(scene.gateway.sip, user, password).expect("a port");
        phone.insist_on(algorithm);
        let granted = phone.register(300).await.expect("registered");
        assert!((60..=300).contains(&granted), "{algorithm:?}: {granted}");
    }
    scene.gateway.await_metric("bindings", |count| count == 2.0).expect("two bindings");
    let mut intruder = Phone::bind(scene.gateway.sip, "1003", "wrong").expect("a port");
    intruder.insist_on(Algorithm::Sha256);
    let outcome = intruder.register(300).await;
    assert!(matches!(outcome, Err(PhoneError::Refused { status: 403, .. })), "{outcome:?}");
    assert_eq!(scene.gateway.metric("bindings").expect("metrics"), 2.0);
}

#[test]
fn options_to_the_gateway_is_answered_200_without_credentials() {
    let scene = Scene::start(Plan::default()).expect("a gateway");
    let at = scene.spare().expect("a port");
    let run = Run::new("options").calls(3).argument("-r", 3);
    run.complete(at, scene.gateway.sip, SOON).expect("three times 200");
}
