//! Trunks that die, on the wire: who takes the call, how soon, and when the first one is back
//! (issue 4, must show 4).
//! Owns:  one gateway per test, carriers that are SIPp, a name server that is dnsmasq.
//! Gives: silence, 503, a refused connection, a name server that is gone; OPTIONS; SRV.
//! Never: how calls split over weights; `call` tests that with ten thousand lots.
//! Holds: bounded by deadlines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use loadtest::dnsmasq::Dnsmasq;
use loadtest::gateway::{Plan, spare_port};
use loadtest::scene::{Expected, SOON, Scene, assert_record};
use loadtest::sipp::{Run, Sipp};
use serde_json::Value;
use shared::cdr::Cdr;

const NUMBER: &str = "4930123456";
/// `setup_timeout_ms` of the trunks below.
const SETUP_MS: i64 = 1_000;

const RULE: &str = "[[proxy.routes]]\nname = \"out\"\ndirection = \"outbound\"\nmatch = { \
                    \"to.user\" = '^49' }\ndest = \"carrier\"\n";

fn address() -> SocketAddr {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    SocketAddr::new(ip, spare_port(ip).expect("a port"))
}

/// A gateway whose numbers go to a trunk with these lines.
fn scene(trunk: &str, more: &str) -> Scene {
    let trunk = format!("[proxy.trunks.carrier]\nsetup_timeout_ms = {SETUP_MS}\n{trunk}\n");
    let sections = vec![RULE.to_owned(), trunk, more.to_owned()];
    Scene::start(Plan { sections, ..Plan::default() }).expect("a gateway")
}

fn carrier(at: SocketAddr, scene: &Scene) -> Sipp {
    let run = Run::new("uas_answer").with("RING_MS", 100).calls(1);
    run.start(at, scene.gateway.sip).expect("a carrier")
}

/// One call that the carrier answers, and its record.
fn call(scene: &Scene, carrier: Sipp) -> Value {
    let run = Run::new("uac_call").argument("-d", 500);
    let caller = scene.caller(run, "1001", NUMBER);
    let (caller, _) = scene.call(caller, carrier, SOON).expect("the call");
    let record = scene.record(&caller).expect("a CDR");
    assert_record(&record, &Expected { callee: NUMBER, ..Expected::ANSWERED });
    assert_eq!(record["outboundTrunk"], "carrier", "{record}");
    record
}

/// From the INVITE to the ring tone.
fn set_up_ms(record: &Value) -> i64 {
    let cdr: Cdr = serde_json::from_value(record.clone()).expect("a CDR");
    cdr.ring_time.expect("it rang").0 - cdr.start_time.0
}

#[test]
fn a_silent_trunk_is_left_for_its_backup_within_the_configured_time() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (first, second) = (silent.local_addr().expect("bound"), address());
    let scene = scene(&format!("dest = \"sip:{first}\"\nbackup_dest = \"sip:{second}\""), "");
    let record = call(&scene, carrier(second, &scene));
    let took = set_up_ms(&record);
    assert!((SETUP_MS..SETUP_MS + 1_000).contains(&took), "{took} ms: {record}");
    scene.gateway.await_drained(Duration::from_secs(45)).expect("nothing is left");
}

#[test]
fn a_503_and_a_refused_connection_pass_the_call_on_at_once() {
    let (first, second) = (address(), address());
    let trunk = format!("dest = \"sip:{first}\"\nbackup_dest = \"sip:{second}\"");
    let scene_of_503 = scene(&trunk, "");
    let refusing = Run::new("uas_refuses").with("STATUS", 503).with("REASON", "Full").calls(1);
    let refusing = refusing.start(first, scene_of_503.gateway.sip).expect("a carrier");
    let record = call(&scene_of_503, carrier(second, &scene_of_503));
    assert!(set_up_ms(&record) < SETUP_MS, "{record}");
    refusing.succeed(SOON).expect("the first carrier heard its ACK");

    // Nobody listens there.
    let gone = format!("dest = \"sip:{};transport=tcp\"", address());
    let refused = scene(&format!("{gone}\nbackup_dest = \"sip:{second};transport=udp\""), "");
    let record = call(&refused, carrier(second, &refused));
    assert!(set_up_ms(&record) < SETUP_MS, "{record}");
}

#[test]
fn a_trunk_that_does_not_answer_options_is_down_until_it_does_again() {
    let (first, second) = (address(), address());
    let checks = "health_check_enabled = true\nhealth_check_interval_secs = 1\n\
                  health_check_timeout_ms = 500\nhealth_check_probe_count = 2\n\
                  health_check_recovery_count = 2";
    let trunk = format!("dest = \"sip:{first}\"\nbackup_dest = \"sip:{second}\"\n{checks}");
    let scene = scene(&trunk, "");
    let down = |wanted: f64| {
        let found = scene.gateway.await_metric("trunks_down", |count| count == wanted);
        found.unwrap_or_else(|error| panic!("{error}\n{}", scene.gateway.log_tail()));
    };
    let answering = |at: SocketAddr| {
        let run = Run::new("uas_options").argument("-m", 1_000);
        run.start(at, scene.gateway.sip).expect("a carrier")
    };
    // The second one is there all the time, but for OPTIONS only until it is called.
    let backup = answering(second);
    down(1.0);
    drop(backup);
    let record = call(&scene, carrier(second, &scene));
    assert!(set_up_ms(&record) < SETUP_MS, "nobody waits for what is down: {record}");
    let (one, other) = (answering(first), answering(second));
    down(0.0);
    drop((one, other));
    down(2.0);
}

/// dnsmasq's words for a carrier with these servers: port and priority.
fn zone(servers: &[(SocketAddr, u16)]) -> Vec<String> {
    let srv = |(number, (at, priority)): (usize, &(SocketAddr, u16))| {
        let port = at.port();
        [
            format!(
                "--srv-host=_sip._udp.carrier.test,gw{number}.carrier.test,{port},{priority},10"
            ),
            format!("--host-record=gw{number}.carrier.test,{}", at.ip()),
        ]
    };
    servers.iter().enumerate().flat_map(srv).collect()
}

fn asks(at: SocketAddr) -> String {
    format!("[dns]\nservers = [\"{at}\"]\n")
}

#[test]
fn srv_records_name_the_servers_in_their_order_and_a_change_is_seen() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (dead, second, third) = (silent.local_addr().expect("bound"), address(), address());
    let at = address();
    let names = Dnsmasq::start(at, &zone(&[(second, 20), (dead, 10)])).expect("dnsmasq");
    let scene = scene("dest = \"sip:carrier.test\"", &asks(at));
    let record = call(&scene, carrier(second, &scene));
    let took = set_up_ms(&record);
    assert!((SETUP_MS..SETUP_MS + 1_000).contains(&took), "the first one is tried first: {record}");

    // The carrier moves; then its name server is gone, and calls go where they went.
    drop(names);
    let names = Dnsmasq::start(at, &zone(&[(third, 10)])).expect("dnsmasq");
    let moved = || scene.gateway.log_tail().contains(&third.to_string()).then_some(());
    loadtest::wait::until("the new address", SOON, moved).expect("the carrier is followed");
    drop(names);
    let gone = || scene.gateway.log_tail().contains("a name is not resolved").then_some(());
    loadtest::wait::until("a word about the name server", SOON, gone).expect("it is logged");
    let record = call(&scene, carrier(third, &scene));
    assert!(set_up_ms(&record) < SETUP_MS, "{record}");
}

#[test]
fn without_a_name_server_the_gateway_starts_and_the_backup_takes_the_calls() {
    let second = address();
    let trunk = format!("dest = \"sip:carrier.test\"\nbackup_dest = \"sip:{second}\"");
    let at = address();
    let scene = scene(&trunk, &asks(at));
    let record = call(&scene, carrier(second, &scene));
    assert!(set_up_ms(&record) < SETUP_MS, "{record}");
    // Its name comes back: the first destination is used without a word of anybody.
    let first = address();
    let _names = Dnsmasq::start(at, &zone(&[(first, 10)])).expect("dnsmasq");
    let back = || scene.gateway.log_tail().contains(&first.to_string()).then_some(());
    let limit = Duration::from_secs(60);
    loadtest::wait::until("the first address", limit, back).expect("it is resolved");
    call(&scene, carrier(first, &scene));
}
