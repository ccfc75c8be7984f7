//! Keep-alives over UDP, as the core answers them.
//! Owns:  the rules of RFC 5626 4.4.2 for a phone that asks by STUN.
//! Gives: one test per rule; the bytes are `sip::stun`'s.
//! Never: real time.
//! Holds: a source that the acl refuses hears nothing.

mod world;

use std::net::SocketAddr;
use std::sync::Arc;

use call::{Core, Input, Output};
use shared::acl::{Acl, AclRule};
use shared::metrics::Counter;
use shared::net::{Source, Transport};
use shared::snapshot::Snapshot;
use shared::time::{Instant, Now, WallMs};
use world::{ANN, US, settings, snapshot};

const ASKED: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// What a core with this snapshot sends to Ann for these bytes of hers.
fn answers(snapshot: Snapshot, transport: Transport, bytes: &[u8]) -> (Core, Vec<Vec<u8>>) {
    let now = Now { mono: Instant::from_millis(1_000), wall: WallMs(1_795_000_000_000) };
    let mut core = Core::new(now, Arc::new(settings()), Arc::new(snapshot));
    let [local, peer]: [SocketAddr; 2] = [US, ANN].map(|text| text.parse().expect("an address"));
    let from = Source { transport, local, peer, flow: None };
    core.handle_input(now, Input::Received { from, bytes });
    let mut sent = Vec::new();
    while let Some(output) = core.poll_output() {
        if let Output::Send { to, bytes, .. } = output {
            assert_eq!(to, from.back());
            sent.push(bytes.to_vec());
        }
    }
    (core, sent)
}

#[test]
fn a_stun_binding_request_is_answered_with_the_address_that_it_came_from() {
    let (mut core, sent) = answers(snapshot(), Transport::Udp, &ASKED);
    let [answer] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((&answer[..4], &answer[4..20]), (&[1, 1, 0, 12][..], &ASKED[4..]));
    assert_eq!(answer[28..], [10 ^ 0x21, 0x12, 0xa4, 11 ^ 0x42], "10.0.0.11");
    let counters = core.counters();
    assert_eq!(counters.of(Counter::SipKeepAlives), 1);
    assert_eq!((counters.of(Counter::SipNotSip), counters.of(Counter::SipMalformed)), (0, 0));
}

#[test]
fn nobody_else_hears_of_stun() {
    let refused = Acl(vec![AclRule::parse("deny all").expect("a rule")]);
    let closed = Snapshot { acl: Arc::new(refused), ..snapshot() };
    let (_, sent) = answers(closed, Transport::Udp, &ASKED);
    assert_eq!(sent, [[0_u8; 0]; 0]);
    let (_, sent) = answers(snapshot(), Transport::Ws, &ASKED);
    assert_eq!(sent, [[0_u8; 0]; 0]);
    let (mut core, sent) = answers(snapshot(), Transport::Udp, &ASKED[..19]);
    assert_eq!(sent, [[0_u8; 0]; 0]);
    assert_eq!(core.counters().of(Counter::SipKeepAlives), 0);
}
