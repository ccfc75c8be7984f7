//! Addresses of one phone (RFC 5627) on the real data plane: two phones of one user, sockets and raw text.
//! Owns:  the phones and what they have registered.
//! Gives: proof that both kinds lead to one phone, whichever shard is asked and knows.
//! Never: sleeps: sockets are waited for, with deadlines.
//! Holds: every shard that a test starts is joined by it.

mod plane;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use plane::{Phone, Plane, audio, value, vias};
use shared::net::Transport;
use shared::snapshot::{Secret, Snapshot, User};

fn snapshot() -> Snapshot {
    let user = |name: &str| {
        let user = User {
            username: name.into(),
            secret: Secret::Plain("secret".into()),
            display_name: None,
            enabled: true,
            allow_guest_calls: true,
            forwarding: None,
            backend: 0,
        };
        (name.into(), Arc::new(user))
    };
    let users = Arc::new(["1001", "1002", "1003", "1004"].into_iter().map(user).collect());
    Snapshot { users, ..Snapshot::default() }
}

/// Registers one phone of a user; its public and its temporary address.
fn register(phone: &Phone, gateway: SocketAddr, user: &str, urn: &str) -> (String, String) {
    let at = phone.address();
    let text = |cseq: u8, more: &str| {
        format!(
            "REGISTER sip:smoke.test SIP/2.0\r\n\
             Via: SIP/2.0/UDP {at};rport;branch=z9hG4bKreg{user}{cseq}{}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@smoke.test>;tag=r\r\nTo: <sip:{user}@smoke.test>\r\n\
             Call-ID: register-{at}\r\nCSeq: {cseq} REGISTER\r\nSupported: gruu\r\n\
             Contact: <sip:{user}@{at}>;+sip.instance=\"<{urn}>\"\r\n\
             {more}Content-Length: 0\r\n\r\n",
            at.port()
        )
    };
    phone.send(gateway, &text(1, ""));
    let challenge = phone.hear("SIP/2.0 401");
    let line = value(&challenge, "WWW-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a digest challenge");
    let own = sip::auth::answer(&parsed, user, "secret", "REGISTER", "sip:smoke.test", 1, "abc");
    phone.send(gateway, &text(2, &format!("Authorization: {own}\r\n")));
    let answer = phone.hear("SIP/2.0 200");
    let contact = format!("Contact: <sip:{user}@{at}>");
    let contact = answer.lines().find(|line| line.starts_with(&contact)).expect("its contact");
    let param = |name: &str| {
        let (_, rest) = contact.split_once(&format!(";{name}=\"")).expect("it was asked for");
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    (param("pub-gruu"), param("temp-gruu"))
}

/// Calls this address; the phone is busy, and the other one heard nothing of it.
fn only_rings(gateway: SocketAddr, uri: &str, call: &str, phone: &Phone, other: &Phone) {
    let (caller, media) = (Phone::new(), Phone::new());
    let at = caller.address();
    let say = |method: &str, to: &str, body: &str| {
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};rport;branch=z9hG4bK{call}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:far@far.test>;tag={call}\r\nTo: {to}\r\n\
             Call-ID: {call}\r\nCSeq: 1 {method}\r\nContact: <sip:far@{at}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        caller.send(gateway, &text);
    };
    say("INVITE", &format!("<{uri}>"), &audio(&media.0));
    let invite = phone.hear("INVITE ");
    let busy = format!(
        "SIP/2.0 486 Busy Here\r\n{}From: {}\r\nTo: {};tag=b\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Content-Length: 0\r\n\r\n",
        vias(&invite),
        value(&invite, "From"),
        value(&invite, "To"),
        value(&invite, "Call-ID"),
        value(&invite, "CSeq")
    );
    phone.send(gateway, &busy);
    phone.hear("ACK ");
    let refused = caller.hear("SIP/2.0 486");
    say("ACK", value(&refused, "To"), "");
    // Both would have been called at once, and the answer came after that.
    other.0.set_read_timeout(Some(Duration::from_millis(1))).expect("a time-out");
    let heard = other.0.recv(&mut [0; 100]);
    assert!(heard.is_err(), "{call}: the other phone was called too");
    other.0.set_read_timeout(Some(plane::DEADLINE)).expect("a time-out");
}

#[test]
fn each_address_leads_to_its_phone_whichever_shard_knows_it() {
    let plane = Plane::start("gruu", 2, snapshot(), 60_000);
    let gateway = plane.address(Transport::Udp);
    for user in ["1001", "1002", "1003", "1004"] {
        let (desk, cell) = (Phone::new(), Phone::new());
        let of_desk =
            register(&desk, gateway, user, "urn:uuid:00000000-0000-1000-8000-000000000001");
        let of_cell =
            register(&cell, gateway, user, "urn:uuid:00000000-0000-1000-8000-000000000002");
        for round in 0..2 {
            let call = |kind: &str| format!("{user}{kind}{round}");
            only_rings(gateway, &of_desk.0, &call("dp"), &desk, &cell);
            only_rings(gateway, &of_desk.1, &call("dt"), &desk, &cell);
            only_rings(gateway, &of_cell.0, &call("cp"), &cell, &desk);
            only_rings(gateway, &of_cell.1, &call("ct"), &cell, &desk);
        }
    }
    plane.stop();
}
