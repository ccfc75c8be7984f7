//! Calls from phone to phone over connections that stand: TCP, TLS, and WebSockets within TLS.
//! Owns:  one gateway and six phones per transport.
//! Gives: proof that the load generator's lines carry whole calls and are used again.
//! Never: media: the lines are for what signalling costs.
//! Holds: bounded by the plan.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use loadtest::connected::{self, Connected};
use loadtest::gateway;
use loadtest::load::lines::Transport;
use loadtest::load::{Ends, Plan, Sdp, run};

fn calls_over(transport: Transport) {
    let plan = gateway::Plan { call_auth: false, ..gateway::Plan::default() };
    let Connected { lines, gateway, at } =
        connected::start(transport, 3, plan).expect("phones and a gateway");
    assert_eq!(gateway.await_metric("bindings", |count| count == 6.0), Ok(6.0));
    let SocketAddr::V4(target) = at else { panic!("IPv4") };
    for _ in 0..2 {
        let plan = Plan {
            rate: 20.0,
            calls: 20,
            hold: Duration::from_millis(100),
            sdp: Sdp::Refused,
            dial: Some(at),
            lines: Some(lines.clone()),
            ..Plan::new(target)
        };
        let report = run(plan, Ends::bind(Ipv4Addr::LOCALHOST).expect("sockets"));
        let report = report.expect("the load runs");
        assert_eq!((report.completed, report.failures()), (20, 0), "{report}");
    }
    gateway.await_metric("cdr_stored_total", |count| count == 40.0).expect("40 records");
}

#[test]
fn calls_over_tcp() {
    calls_over(Transport::Tcp);
}

#[test]
fn calls_over_tls() {
    calls_over(Transport::Tls);
}

#[test]
fn calls_over_secure_web_sockets() {
    calls_over(Transport::Wss);
}
