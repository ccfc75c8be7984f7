//! A call over each pair of {UDP, TCP, TLS, WS, WSS} x {IPv4, IPv6}, with media, between phones that we did
//! not write (issue 4, must show 1).
//! Owns:  one gateway with every listener; for each of the ten ways a phone that calls and one that is called.
//! Gives: baresip for UDP, TCP and TLS; for WS and WSS the WebSocket client of Python, with text of ours in it.
//! Never: encrypted media.
//! Holds: bounded by deadlines; ten calls stand at a time, and each has its record.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use loadtest::baresip::Baresip;
use loadtest::certificate::Certificate;
use loadtest::flow::{FlowPhone, Media, Talk};
use loadtest::gateway::{Plan, spare_port};
use loadtest::scene::{Expected, SOON, Scene, assert_both_spoke, assert_record};
use shared::net::Transport;

const WAYS: [Transport; 5] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
const KINDS: usize = 2 * WAYS.len();
/// Packets that each side hears of the other one in a call.
const PACKETS: u32 = 10;

enum Phone {
    Baresip(Baresip),
    Web(FlowPhone),
}

struct Station {
    user: String,
    /// The listener that it registered at.
    at: SocketAddr,
    phone: Phone,
}

/// Where the gateway listens for TLS, WS and WSS.
struct Ports {
    tls: u16,
    web: u16,
}

impl Ports {
    fn of(&self, transport: Transport, sip: u16) -> u16 {
        match transport {
            Transport::Udp | Transport::Tcp => sip,
            Transport::Tls => self.tls,
            Transport::Ws => self.web,
            Transport::Wss => self.web + 1,
        }
    }
}

fn user(first: u16, kind: usize) -> String {
    format!("{}", usize::from(first) + kind)
}

/// The phone of one kind: even ones live in IPv4.
fn station(
    scene: &Scene,
    ports: &Ports,
    certificate: &Certificate,
    first: u16,
    kind: usize,
) -> Station {
    let (user, transport) = (user(first, kind), WAYS[kind / 2]);
    let ip: IpAddr = match kind % 2 {
        0 => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    let at = SocketAddr::new(ip, ports.of(transport, scene.gateway.sip.port()));
    let believed = certificate.believed();
    let believed =
        (transport == Transport::Tls || transport == Transport::Wss).then_some(&*believed);
    let tone_hz = 400 + 50 * u16::try_from(kind).expect("a few");
    let explain = |error: String| -> String {
        format!("{} {ip}: {error}\n{}", transport.via_word(), scene.gateway.log_tail())
    };
    let phone = match transport {
        Transport::Ws | Transport::Wss => {
            let account = (user.as_str(), scene.gateway.password(&user));
            let phone = FlowPhone::over_web(account, at, believed);
            let mut phone = phone.unwrap_or_else(|error| panic!("{}", explain(error)));
            phone.register().expect("registered");
            Phone::Web(phone)
        }
        _ => {
            let phone = scene.baresip_over(transport, at, believed, &user, tone_hz);
            Phone::Baresip(phone.unwrap_or_else(|error| panic!("{}", explain(error))))
        }
    };
    Station { user, at, phone }
}

/// A whole call with sound both ways. Gives its Call-ID at the caller.
fn call(caller: &mut Station, callee: &mut Station) -> Result<String, String> {
    let dialled = format!("sip:{}@{}", callee.user, caller.at);
    match (&mut caller.phone, &mut callee.phone) {
        (Phone::Baresip(caller), Phone::Baresip(callee)) => {
            callee.forget_events();
            let call_id = place(caller, &dialled)?;
            callee.await_event("CALL_ESTABLISHED", SOON)?;
            for phone in [&mut *caller, &mut *callee] {
                phone.await_event("CALL_RTPESTAB", SOON)?;
            }
            caller.hang_up()?;
            callee.await_event("CALL_CLOSED", SOON)?;
            Ok(call_id)
        }
        (Phone::Baresip(caller), Phone::Web(callee)) => {
            caller.forget_events();
            caller.dial(&dialled)?;
            let mut media: Media = callee.media(1_000.0)?;
            callee.pick_up(&mut media)?;
            let call_id = established(caller)?;
            media.exchange(PACKETS)?;
            caller.await_event("CALL_RTPESTAB", SOON)?;
            caller.hang_up()?;
            callee.allow("BYE")?;
            Ok(call_id)
        }
        (Phone::Web(caller), Phone::Baresip(called)) => {
            called.forget_events();
            let mut media = caller.media(440.0)?;
            let mut dialog = caller.invite(&callee.user, &media)?;
            caller.complete(&mut dialog, &mut media)?;
            media.exchange(PACKETS)?;
            called.await_event("CALL_RTPESTAB", SOON)?;
            caller.say("BYE", &mut dialog)?;
            caller.hear("SIP/2.0 200")?;
            called.await_event("CALL_CLOSED", SOON)?;
            Ok(dialog.call_id)
        }
        (Phone::Web(caller), Phone::Web(callee)) => {
            let mut talk = Talk::begin(caller, callee)?;
            talk.speak(PACKETS)?;
            talk.hang_up(caller, callee)
        }
    }
}

fn place(caller: &mut Baresip, dialled: &str) -> Result<String, String> {
    caller.forget_events();
    caller.dial(dialled)?;
    established(caller)
}

fn established(caller: &mut Baresip) -> Result<String, String> {
    let event = caller.await_event("CALL_ESTABLISHED", SOON)?;
    event["id"].as_str().map(str::to_owned).ok_or_else(|| format!("no Call-ID: {event}"))
}

#[test]
fn every_transport_of_either_family_calls_every_other_with_foreign_phones() {
    let certificate = Certificate::new().expect("openssl makes one");
    let plan = Plan::default();
    let spare = || spare_port(plan.ip).expect("a port");
    let ports = Ports { tls: spare(), web: spare() };
    let mut proxy_lines = certificate.lines();
    proxy_lines.push(format!("tls_port = {}", ports.tls));
    proxy_lines.push(format!("ws_port = {}\nwss_port = {}", ports.web, ports.web + 1));
    let names = (0..KINDS).flat_map(|kind| [user(3_100, kind), user(3_200, kind)]);
    let users = names.map(|name| (name.clone(), format!("secret-{name}"))).collect();
    // A port rests after its call, and a hundred calls are over sooner.
    let plan = Plan { users, proxy_lines, every_address: true, rtp_ports: 1_000, ..plan };
    let scene = Scene::start(plan).expect("a gateway");
    let all = |first: u16| -> Vec<Station> {
        let kinds = 0..KINDS;
        kinds.map(|kind| station(&scene, &ports, &certificate, first, kind)).collect()
    };
    let (mut callers, mut callees) = (all(3_100), all(3_200));
    let mut calls = Vec::new();
    for round in 0..KINDS {
        let mut called: Vec<&mut Station> = callees.iter_mut().collect();
        called.rotate_left(round);
        let pairs: Vec<_> = callers.iter_mut().zip(called).collect();
        let ended: Vec<_> = thread::scope(|scope| {
            let begin = |(caller, callee): (&mut Station, &mut Station)| {
                let outcome = call(caller, callee);
                (outcome, caller.user.clone(), callee.user.clone())
            };
            let pairs = pairs.into_iter();
            let threads: Vec<_> = pairs.map(|pair| scope.spawn(move || begin(pair))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        for (outcome, caller, callee) in ended {
            let call_id = outcome.unwrap_or_else(|error| {
                panic!("{caller} to {callee}: {error}\n{}", scene.gateway.log_tail())
            });
            calls.push((call_id, caller, callee));
        }
    }
    assert_eq!(calls.len(), KINDS * KINDS);
    for (call_id, caller, callee) in &calls {
        let record = scene.gateway.await_record(call_id).expect("a CDR");
        assert_record(&record, &Expected { caller, callee, ..Expected::ANSWERED });
        assert_both_spoke(&record, 1);
    }
    scene.gateway.await_drained(Duration::from_secs(20)).expect("nothing is left");
    let metrics = scene.gateway.metrics().expect("metrics");
    assert_eq!(metrics.get("flows_cut_total"), Some(&0.0), "{metrics:?}");
}
