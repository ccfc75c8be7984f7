//! SIP over WebSocket on the real data plane: calls with a WebSocket client that we did not write.
//! Owns:  calls over WS and WSS, a call over each pair of transports, clients that misbehave.
//! Gives: proof that a client is called over its flow, under a name that nobody can resolve; and that
//!        what a client may not do ends its flow, with a reason, and nothing else.
//! Never: sleeps: sockets and events are waited for, with deadlines.
//! Holds: every shard and every program that a test starts is joined by it.

mod phones;
mod plane;
mod tls_ends;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use phones::{Phone, Talk};
use plane::{DEADLINE, Plane, folder, options, value};
use shared::event::Event;
use shared::metrics::Counter;
use shared::net::Transport;
use shared::settings::{PortSlice, ShardSettings, TlsFiles, WebListeners};
use shared::snapshot::{Secret, Snapshot, User};
use tls_ends::certify;

const ALL: [Transport; 5] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

fn snapshot(users: &[String]) -> Snapshot {
    let user = |name: &String| {
        let user = User {
            username: name.as_str().into(),
            secret: Secret::Plain("secret".into()),
            display_name: None,
            enabled: true,
            allow_guest_calls: true,
            backend: 0,
            forwarding: None,
        };
        (name.as_str().into(), Arc::new(user))
    };
    Snapshot { users: Arc::new(users.iter().map(user).collect()), ..Snapshot::default() }
}

/// Two shards that listen on both families with every transport.
fn start(test: &str, users: &[String], first_port: u16) -> (Plane, TlsFiles) {
    let files = certify(&folder(test).join("tls"));
    let change = |settings: &mut ShardSettings| {
        let any = || ["127.0.0.1:0", "[::1]:0"].map(|text| text.parse().expect("one")).to_vec();
        (settings.udp, settings.tcp, settings.tls) = (any(), any(), any());
        settings.tls_files = Some(files.clone());
        settings.web = WebListeners { ws: any(), wss: any(), path: "/ws".to_owned() };
        settings.media_bind = ["127.0.0.1", "::1"].map(|ip| ip.parse().expect("one")).to_vec();
        let first = first_port + 1_000 * u16::from(settings.shard.0);
        settings.rtp_ports = PortSlice { first, last: first + 999 };
        settings.recording.auto_start = false;
    };
    (Plane::start_with(test, 2, snapshot(users), first_port, change), files)
}

/// Where the gateway listens in one family.
fn listener(plane: &Plane, transport: Transport, ipv4: bool) -> SocketAddr {
    let mut all = plane.shards.listeners().iter();
    let found = all.find(|(by, at)| *by == transport && at.is_ipv4() == ipv4);
    found.expect("a listener").1
}

/// Waits until both shards together have told of so many ends.
fn ends(plane: &mut Plane, wanted: u64) {
    let give_up_at = std::time::Instant::now() + DEADLINE;
    loop {
        let of_shard = |shard| {
            let all = plane.events.iter().filter_map(move |event| match event {
                Event::Journaled { shard: id, ends, .. } if id.0 == shard => Some(*ends),
                _ => None,
            });
            all.max().unwrap_or_default()
        };
        if of_shard(0) + of_shard(1) >= wanted {
            return;
        }
        assert!(std::time::Instant::now() < give_up_at, "{:?}", plane.events);
        plane.shards.clear_event_fd();
        plane.shards.take_events(100, &mut plane.events);
    }
}

/// Over WS and over WSS: called by a UDP phone, then calling it.
#[test]
fn a_client_is_called_over_its_flow_and_calls() {
    for (transport, first_port) in [(Transport::Ws, 20_000), (Transport::Wss, 22_000)] {
        let users = ["1001".to_owned(), "1002".to_owned()];
        let test = format!("ws-call-{}", transport.uri_word());
        let (mut plane, files) = start(&test, &users, first_port);
        let [gateway, udp] = [transport, Transport::Udp].map(|by| listener(&plane, by, true));
        let believed = &files.certificate;
        let mut desk = Phone::dial("1001", Transport::Udp, udp, believed);
        let mut web = Phone::dial("1002", transport, gateway, believed);
        desk.register();
        web.register();

        let talk = Talk::begin(&mut desk, &mut web);
        let first_line = talk.invited.lines().next().expect("a line");
        assert_eq!(first_line, "INVITE sip:1002@1002.invalid;transport=ws SIP/2.0");
        let via = format!("SIP/2.0/{} {gateway};", transport.via_word());
        assert!(value(&talk.invited, "Via").starts_with(&via), "{}", talk.invited);
        assert_eq!(value(&talk.invited, "Contact"), format!("<sip:{gateway};transport=ws>"));
        assert!(!talk.invited.contains("Record-Route"), "{}", talk.invited);
        talk.speak(20);
        talk.hang_up();

        let talk = Talk::begin(&mut web, &mut desk);
        assert_eq!(value(&talk.answered, "Contact"), format!("<sip:{gateway};transport=ws>"));
        talk.speak(20);
        talk.hang_up();

        // A keep-alive of SIP is answered; a WebSocket that is closed takes its binding along.
        web.send("\r\n\r\n");
        assert_eq!(web.hear("\r\n"), "\r\n");
        assert_eq!(web.close(), "1000");
        plane.event("the binding went", |event| match event {
            Event::Registration(change) if change.aor.contains("1002") => {
                (change.change == shared::event::RegistrationChange::Offline).then_some(())
            }
            _ => None,
        });
        let counters = plane.stop();
        assert_eq!(counters.of(Counter::WsHandshakes), 1);
        assert_eq!((counters.of(Counter::FlowsCut), counters.of(Counter::Calls)), (0, 0));
        assert_eq!(counters.of(Counter::RtpForwarded), 80);
        assert_eq!(counters.of(Counter::SipKeepAlives), 1);
    }
}

/// A call over each pair of {UDP, TCP, TLS, WS, WSS} x {IPv4, IPv6}, with media both ways.
#[test]
fn every_transport_of_either_family_calls_every_other() {
    const PACKETS: u16 = 5;
    let kinds: Vec<(Transport, bool)> =
        ALL.into_iter().flat_map(|transport| [(transport, true), (transport, false)]).collect();
    let users: Vec<String> = (0..kinds.len()).map(|number| format!("20{number}")).collect();
    let (mut plane, files) = start("ws-table", &users, 24_000);
    let dial = |(user, (transport, ipv4)): (&String, &(Transport, bool))| {
        let at = listener(&plane, *transport, *ipv4);
        let mut phone = Phone::dial(user, *transport, at, &files.certificate);
        phone.register();
        phone
    };
    let mut phones: Vec<Phone> = users.iter().zip(&kinds).map(dial).collect();
    let mut calls = 0;
    for from in 0..phones.len() {
        for to in (0..phones.len()).filter(|to| *to != from) {
            let (one, other) = phones.split_at_mut(from.max(to));
            let (caller, callee) = if from < to {
                (&mut one[from], &mut other[0])
            } else {
                (&mut other[0], &mut one[to])
            };
            let talk = Talk::begin(caller, callee);
            talk.speak(PACKETS);
            talk.hang_up();
            calls += 1;
        }
    }
    assert_eq!(calls, 90);
    ends(&mut plane, calls as u64);
    let counters = plane.stop();
    assert_eq!(counters.of(Counter::RtpForwarded), 90 * 2 * u64::from(PACKETS));
    assert_eq!(counters.of(Counter::RegistrationsAccepted), 10);
    let shakes = (counters.of(Counter::TlsHandshakes), counters.of(Counter::WsHandshakes));
    assert_eq!((shakes, counters.of(Counter::FlowsCut)), ((4, 4), 0));
    for gauge in [Counter::Calls, Counter::Relays, Counter::PortsInUse] {
        assert_eq!(counters.of(gauge), 0, "{gauge:?}");
    }
}

const ASKED: &str = "GET /ws HTTP/1.1\r\nHost: pbx.test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Says this on a connection of its own, and hears everything until its end.
fn all_that_comes(at: SocketAddr, said: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    stream.write_all(said).expect("sent");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("the end of the connection");
    heard
}

#[test]
fn clients_that_misbehave_are_told_why_and_end_alone() {
    let users = ["1001".to_owned(), "1002".to_owned()];
    let (plane, files) = start("ws-limits", &users, 26_000);
    let at = listener(&plane, Transport::Ws, true);
    let refused = [
        (ASKED.replace("/ws", "/other"), "HTTP/1.1 404 "),
        (ASKED.replace("Sec-WebSocket-Protocol: sip\r\n", ""), "HTTP/1.1 400 "),
        (
            ASKED.replace("Sec-WebSocket-Protocol: sip", "Sec-WebSocket-Protocol: mqtt"),
            "HTTP/1.1 400 ",
        ),
        ("GET /ws HTTP/1.1\r\nHost: pbx.test\r\n\r\n".to_owned(), "HTTP/1.1 426 "),
        (ASKED.replace("Version: 13", "Version: 7"), "HTTP/1.1 426 "),
        (options("raw", "TCP"), "HTTP/1.1 400 "),
        (ASKED.replace("pbx.test", &"x".repeat(10_000)), "HTTP/1.1 431 "),
    ];
    for (said, status) in &refused {
        let heard = all_that_comes(at, said.as_bytes());
        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.starts_with(status), "{said}\n{heard}");
    }
    let cut: [(&[u8], u16); 3] = [
        (&[0x81, 2, b'h', b'i'], 1002), // not masked
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], 1009), // 64 KiB and no SIP message
        (&[0xc1, 0x80, 0, 0, 0, 0], 1002), // an extension that nobody agreed on
    ];
    for (said, code) in cut {
        let heard = all_that_comes(at, &[ASKED.as_bytes(), said].concat());
        let close = [&[0x88, 2][..], &code.to_be_bytes()].concat();
        assert!(heard.starts_with(b"HTTP/1.1 101 ") && heard.ends_with(&close), "{heard:?}");
    }
    // Everybody else goes on.
    let mut one = Phone::dial("1001", Transport::Ws, at, &files.certificate);
    let six = listener(&plane, Transport::Wss, false);
    assert_eq!(six.ip(), "::1".parse::<IpAddr>().expect("an address"));
    let mut other = Phone::dial("1002", Transport::Wss, six, &files.certificate);
    one.register();
    other.register();
    let talk = Talk::begin(&mut one, &mut other);
    talk.speak(5);
    talk.hang_up();
    drop((one, other));
    let counters = plane.stop();
    assert_eq!(counters.of(Counter::WsHandshakesFailed), refused.len() as u64);
    assert_eq!(counters.of(Counter::WsHandshakes), 3 + 2);
    assert_eq!(counters.of(Counter::FlowsCut), 3);
}
