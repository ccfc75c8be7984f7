//! A phone behind a NAT calls and is called, audio both ways (issue 2, must show 5).
//! Owns:  three network namespaces: public net with the gateway, masquerading router, home.
//! Gives: proof that replies, calls and media go where packets came from, not where SIP and SDP say.
//! Never: skips itself: without root it fails and says so.
//! Holds: bounded by deadlines.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use loadtest::gateway::{Gateway, Plan};
use loadtest::netns::{Home, Namespace};
use loadtest::phone::{CallReport, Phone, PhoneError};

const LIMIT: Duration = Duration::from_secs(20);

/// A phone's whole life on a thread inside a namespace.
fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

async fn registered(server: SocketAddr, user: &str, password: &str) -> Phone {
    let mut phone = Phone::bind(server, user, password).expect("a port");
    phone.register(300).await.unwrap_or_else(|error| panic!("{user} registers: {error}"));
    phone
}

/// Calls, talks until 150 packets were heard, hangs up.
async fn call(mut phone: Phone, callee: &str, hz: f32) -> Result<CallReport, PhoneError> {
    let call = phone.call(callee, hz).await?;
    tokio::time::timeout(LIMIT, async {
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        while call.heard().packets_received < 150 {
            poll.tick().await;
        }
    })
    .await
    .map_err(|_| PhoneError::TimedOut("RTP from the other side"))?;
    let report = call.hang_up().await?;
    phone.register(0).await?;
    Ok(report)
}

async fn answer(mut phone: Phone, hz: f32) -> Result<CallReport, PhoneError> {
    let report = phone.answer_next(hz).await?.ended(LIMIT).await?;
    phone.register(0).await?;
    Ok(report)
}

/// `caller` and `callee`: namespace, user, tone. Gives what each heard.
fn talk(
    gateway: &Gateway,
    caller: (&Namespace, &'static str, f32),
    callee: (&Namespace, &'static str, f32),
) -> (CallReport, CallReport) {
    let server = gateway.sip;
    let password = |user| gateway.password(user).to_owned();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (user, hz, secret) = (callee.1, callee.2, password(callee.1));
    let answering = callee.0.enter(move || {
        in_runtime(async {
            let phone = registered(server, user, &secret).await;
            ready.send(()).expect("the test waits");
            answer(phone, hz).await
        })
    });
    let answering = answering.expect("inside the callee's namespace");
    is_ready.recv_timeout(LIMIT).expect("the callee registers");
    let (user, hz, secret, target) = (caller.1, caller.2, password(caller.1), callee.1);
    let calling = caller.0.within(move || {
        in_runtime(async { call(registered(server, user, &secret).await, target, hz).await })
    });
    let called = calling.expect("inside the caller's namespace").expect("the call");
    let answered = answering.join().expect("the callee's thread").expect("the callee's call");
    (called, answered)
}

/// The router really maps: another address and another port than the phone's own.
fn assert_mapped(nat: &Home) {
    let outside = nat.public.within(|| UdpSocket::bind((Home::GATEWAY, 4_000)).expect("a port"));
    let outside = outside.expect("inside the public net");
    outside.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    let inside = nat.home.within(|| {
        let socket = UdpSocket::bind((Home::PHONE, 4_001)).expect("a port");
        socket.send_to(b"who am I", (Home::GATEWAY, 4_000)).expect("sent");
    });
    inside.expect("inside the home");
    let (_, from) = outside.recv_from(&mut [0; 16]).expect("the datagram arrives");
    assert_eq!(from.ip(), IpAddr::V4(Home::ROUTER));
    assert_ne!(from.port(), 4_001);
}

#[test]
fn a_phone_behind_nat_calls_and_is_called_with_audio_both_ways() {
    let nat = Home::build().unwrap_or_else(|error| panic!("no NAT to test with: {error}"));
    assert_mapped(&nat);
    let plan = Plan {
        ip: Home::GATEWAY.into(),
        digest_algorithms: vec!["SHA-256", "MD5"],
        namespace: Some(nat.public.name.clone()),
        ..Plan::default()
    };
    let gateway = Gateway::start(plan).expect("a gateway in the public net");
    let home = (&nat.home, "1001", 440.0);
    let public = (&nat.public, "1002", 1_000.0);
    for (caller, callee) in [(home, public), (public, home)] {
        let (called, answered) = talk(&gateway, caller, callee);
        assert_eq!(called.heard.tone_hz, Some(callee.2), "{} hears {}", caller.1, callee.1);
        assert_eq!(answered.heard.tone_hz, Some(caller.2), "{} hears {}", callee.1, caller.1);
        let record = gateway.await_record(&called.call_id).expect("a CDR");
        assert_eq!(record["statusCode"], 200, "{record}");
    }
    let mismatches = gateway.metric("rtp_source_mismatch_total").expect("metrics");
    assert!(mismatches < 1.0, "{mismatches} packets from unexpected sources");
    gateway.await_drained(LIMIT).expect("nothing is left");
}
