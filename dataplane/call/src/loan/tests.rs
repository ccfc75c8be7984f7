//! Names of moved legs, where no bench can get: a call that ends in the very input in which it takes one.
//! Owns:  a core of two shards with one bare call.
//! Gives: what the books say, and what the other shard hears, in its order.
//! Never: a phone.
//! Holds: a name that was written down is struck out when its call goes.

use std::sync::Arc;

use shared::cdr::HangupReason;
use shared::ids::Side;
use shared::net::Transport;
use shared::settings::ShardSettings;
use shared::snapshot::Snapshot;
use shared::time::{Now, WallMs};
use sip::dialog::State as DialogState;

use super::*;
use crate::b2bua::setup::new_leg;
use crate::b2bua::{Leg, LegState};
use crate::io::Output;
use crate::router::tests::settings;

const LENDER: ShardId = ShardId(0);

fn core() -> Core {
    let settings = ShardSettings { shard: ShardId(1), shards: 2, ..settings() };
    let now = Now { mono: Instant::from_millis(1_000), wall: WallMs(1_795_000_000_000) };
    Core::new(now, Arc::new(settings), Arc::new(Snapshot::default()))
}

fn dialog(core: &mut Core, call: Key) -> Dialog {
    Dialog {
        state: DialogState::Terminated,
        call_id: b"moved".to_vec(),
        local_tag: core.desk.mint.tag(call, 0),
        remote_tag: b"theirs".to_vec(),
        local_party: b"<sip:1001@pbx.test>".to_vec(),
        remote_party: b"<sip:1003@pbx.test>".to_vec(),
        remote_target: b"sip:1003@10.0.0.13".to_vec(),
        routes: Vec::new(),
        local_cseq: 2,
        remote_cseq: None,
    }
}

#[test]
fn a_call_that_ends_as_it_takes_a_leg_leaves_no_name_behind() {
    let mut core = core();
    let slot = core.calls.next_key().expect("a free slot");
    let id = core.desk.mint.call_id(core.desk.now.wall, slot);
    let source = core.own_source();
    core.add_call(slot, Call::blank(slot, id, core.desk.now, source));
    let dialog = dialog(&mut core, slot);
    let peer = "10.0.0.13:5060".parse().expect("an address");
    let way = Destination {
        transport: Transport::Udp,
        local: source.local,
        peer,
        flow: None,
        shows: None,
    };
    let at = TagParts { call: slot, leg: 0 };
    let lender = TagParts { call: Key { slot: 9, generation: 3 }, leg: 1 };
    let name = LegName { shard: LENDER, parts: lender };
    let borrower = Borrower { shard: ShardId(1), call: slot, id, transfer: 1 };
    core.with_call(Some(slot), |call, desk, _| {
        let leg = new_leg(desk, Side::Callee, dialog, way);
        call.legs.push(Leg { name: Some(name), state: LegState::Ended, ..leg });
        let word = Word::Taken { to: lender, from: borrower, name, at };
        call.loans.push((LENDER, Loan(Box::new(word))));
        call.end(desk, HangupReason::Failed, 200, None);
    });
    assert!(core.calls.is_empty(), "nothing is owed");
    assert_eq!(core.moved.len(), 0, "its name is struck out");
    let mut words = Vec::new();
    while let Some(output) = core.poll_output() {
        if let Output::Mesh { to: LENDER, message: MeshMessage::Loan(Loan(word)) } = output {
            words.push(word);
        }
    }
    let [first, second] = words.as_slice() else { panic!("{words:#?}") };
    assert!(matches!(**first, Word::Taken { .. }), "{first:?}");
    assert!(matches!(**second, Word::Left(left) if left == name), "{second:?}");
}
