//! SIP over TLS: a certificate that is replaced while everybody talks (issue 4, must show 2), and baresip as
//! the phone (must show 1).
//! Owns:  one gateway per test, with a certificate that openssl made.
//! Gives: fifty registrations and ten calls that a new certificate does not touch; what new phones see.
//! Never: mutual TLS; phones show no certificate.
//! Holds: bounded by deadlines; whether the new one is shown is asked of openssl.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use loadtest::certificate::{Certificate, is_shown};
use loadtest::flow::{FlowPhone, Talk};
use loadtest::gateway::{Gateway, Plan, spare_port};
use loadtest::scene::{Expected, SOON, Scene, assert_both_spoke, assert_record, assert_recording};
use loadtest::{wait, wav};
use shared::net::Transport;

const PHONES: usize = 50;
const CALLS: usize = 10;

fn user(number: usize) -> String {
    format!("{}", 1_001 + number)
}

/// A gateway with one phone more than there are, and where it listens for TLS.
fn start(certificate: &Certificate, recording: bool) -> (Scene, SocketAddr) {
    let plan = Plan::default();
    let at = SocketAddr::new(plan.ip, spare_port(plan.ip).expect("a port"));
    let mut proxy_lines = certificate.lines();
    proxy_lines.push(format!("tls_port = {}", at.port()));
    let users = (0..=PHONES).map(user).map(|user| (user.clone(), format!("secret-{user}")));
    let plan = Plan { users: users.collect(), proxy_lines, recording, ..plan };
    (Scene::start(plan).expect("a gateway"), at)
}

/// What an operator does; returns when a new connection sees the new certificate.
fn renew(certificate: &mut Certificate, gateway: &Gateway, at: SocketAddr) {
    let old = certificate.believed();
    assert_eq!(is_shown(at, &old), Ok(true), "the first one");
    certificate.replace().expect("openssl makes another one");
    gateway.reload();
    let new = certificate.believed();
    let shown = || is_shown(at, &new).expect("openssl runs").then_some(());
    let pause = Duration::from_millis(200);
    let seen = wait::until_every("the new certificate", SOON, pause, shown);
    seen.unwrap_or_else(|error| panic!("{error}\n{}", gateway.log_tail()));
    assert_eq!(is_shown(at, &old), Ok(false), "nobody sees the old one any more");
}

fn dial(gateway: &Gateway, at: SocketAddr, number: usize, believed: &Path) -> FlowPhone {
    let user = user(number);
    let phone = FlowPhone::over_tls((&user, gateway.password(&user)), at, believed);
    phone.expect("a TLS connection")
}

/// Both phones of each call, in the order of the calls.
fn pairs(phones: &mut [FlowPhone]) -> impl Iterator<Item = (&mut FlowPhone, &mut FlowPhone)> {
    phones.chunks_exact_mut(2).take(CALLS).map(|pair| {
        let (one, other) = pair.split_at_mut(1);
        (&mut one[0], &mut other[0])
    })
}

#[test]
fn a_new_certificate_drops_neither_fifty_registrations_nor_ten_calls() {
    let mut certificate = Certificate::new().expect("openssl makes one");
    let (scene, at) = start(&certificate, false);
    let gateway = &scene.gateway;
    let old = certificate.believed();
    let mut phones: Vec<FlowPhone> =
        (0..PHONES).map(|number| dial(gateway, at, number, &old)).collect();
    for phone in &mut phones {
        phone.register().expect("registered");
    }
    let begin = |(caller, callee): (&mut FlowPhone, &mut FlowPhone)| {
        let mut talk = Talk::begin(caller, callee).expect("a call");
        talk.speak(10).expect("both hear each other");
        talk
    };
    let mut talks: Vec<Talk> = pairs(&mut phones).map(begin).collect();
    for (gauge, wanted) in [("bindings", PHONES), ("flows", PHONES), ("calls_talking", CALLS)] {
        let stands = gateway.await_metric(gauge, |count| count == wanted as f64);
        stands.unwrap_or_else(|error| panic!("{gauge}: {error}"));
    }

    renew(&mut certificate, gateway, at);
    let (late, new) = (user(PHONES), certificate.believed());
    let refused = FlowPhone::over_tls((&late, gateway.password(&late)), at, &old);
    assert!(refused.is_err(), "a phone that believes the old one is not served");
    for phone in &mut phones {
        phone.options().expect("its connection carries");
        phone.register().expect("refreshed over it");
    }
    for (talk, (caller, callee)) in talks.iter_mut().zip(pairs(&mut phones)) {
        talk.tell(caller, callee).expect("both connections carry the call");
        talk.speak(10).expect("both hear each other");
    }
    // A new phone reaches one that stood before, over the connection of before.
    let mut fresh = dial(gateway, at, PHONES, &new);
    fresh.register().expect("registered");
    let called = phones.last_mut().expect("there are some");
    let mut talk = Talk::begin(&mut fresh, called).expect("a call");
    talk.speak(10).expect("both hear each other");
    let mut ended = vec![(talk.hang_up(&mut fresh, called), user(PHONES), user(PHONES - 1))];
    for (talk, (caller, callee)) in talks.into_iter().zip(pairs(&mut phones)) {
        ended.push((talk.hang_up(caller, callee), caller.user.clone(), callee.user.clone()));
    }
    assert_eq!(ended.len(), CALLS + 1);
    for (call_id, caller, callee) in ended {
        let record = gateway.await_record(&call_id.expect("BYE is answered")).expect("a CDR");
        assert_record(
            &record,
            &Expected { caller: &caller, callee: &callee, ..Expected::ANSWERED },
        );
        assert_both_spoke(&record, 10);
    }
    gateway.await_drained(SOON).expect("nothing is left");
    let metrics = gateway.metrics().expect("metrics");
    for (name, wanted) in
        [("flows_cut_total", 0), ("bindings_expired_total", 0), ("bindings", PHONES + 1)]
    {
        assert_eq!(metrics.get(name), Some(&(wanted as f64)), "{name}: {metrics:?}");
    }
}

#[test]
fn baresip_over_tls_talks_both_ways_through_a_new_certificate() {
    let mut certificate = Certificate::new().expect("openssl makes one");
    let (scene, at) = start(&certificate, true);
    let believed = certificate.believed();
    let registered = |user, tone_hz| {
        let phone = scene.baresip_over(Transport::Tls, at, Some(&believed), user, tone_hz);
        phone.expect("registered over TLS")
    };
    let mut callee = registered("1002", 1_000);
    let mut caller = registered("1001", 440);
    caller.dial(&format!("sip:1002@{at}")).expect("dialled");
    let call = caller.await_event("CALL_ESTABLISHED", SOON).expect("answered");
    scene.talk(150).expect("RTP both ways");
    renew(&mut certificate, &scene.gateway, at);
    scene.talk(150).expect("RTP both ways");
    caller.hang_up().expect("hung up");
    callee.await_event("CALL_CLOSED", SOON).expect("both sides end");

    let gateway = &scene.gateway;
    let call_id = call["id"].as_str().expect("events carry the Call-ID");
    let record = gateway.await_record(call_id).expect("a CDR");
    assert_record(&record, &Expected::ANSWERED);
    assert_recording(&gateway.await_recording(call_id).expect("a recording"), &record);
    for (phone, hz) in [(&caller, 1_000.0), (&callee, 440.0)] {
        let heard = phone.await_heard(SOON).expect("audio");
        let share = wav::steady_share(&heard, hz);
        assert!(share > 0.9, "the share of {hz} Hz falls to {share}");
    }
    gateway.await_drained(SOON).expect("nothing is left");
    let metrics = gateway.metrics().expect("metrics");
    let of = |name: &str| metrics.get(name).copied();
    assert_eq!((of("flows_cut_total"), of("bindings")), (Some(0.0), Some(2.0)), "{metrics:?}");
}
