//! Who comes into a call under a From that names nobody, and then transfers (RFC 3323, RFC 5589).
//! Owns:  the name that the rules go by: the user's whose password was right.
//! Gives: one test per way into a call: a place taken, a call picked up, a leg of another call.
//! Never: real time.
//! Holds: what a From names opens no road, and veils none.

mod world;

use std::sync::Arc;

use shared::route::RouteTable;
use shared::settings::ShardSettings;
use shared::snapshot::Snapshot;
use world::trunks::{OTHER, adding, trunk_calls, trusted, with_trunks};
use world::{ANN, BEN, Bench, CARRIER, answer, from_ann, from_called, header, sdp, settings, tag};

const URI: &str = "sip:1002@pbx.test";
const VEIL: &str = "<sip:anonymous@anonymous.invalid>";
const ABROAD: &str = "Refer-To: <sip:0049@pbx.test>\r\n";

/// Ann alone may dial abroad; what comes from the trunks rings at Ben.
fn bench() -> Bench {
    let documents = [
        serde_json::json!({
            "name": "abroad", "match": { "from.user": "^1001$", "to.user": "^00" },
            "dest": "carrier",
        }),
        serde_json::json!({
            "name": "in", "match": { "to.user": "^66" }, "rewrite": { "to.user": "1002" },
        }),
    ];
    let mut flaws = shared::document::Flaws::default();
    let read = |document| shared::route::check(document, &Default::default(), &mut flaws);
    let routes: Vec<_> = documents.iter().filter_map(read).collect();
    assert_eq!((routes.len(), &flaws), (2, &Default::default()));
    let snapshot = with_trunks(trusted(), trusted());
    let snapshot = Snapshot { routes: Arc::new(RouteTable::sorted(routes, None)), ..snapshot };
    let mut bench = Bench::with(ShardSettings { call_auth: true, ..settings() }, snapshot);
    bench.register("1002", BEN);
    bench
}

/// A request of Ann's in a dialog of its own.
fn of_ann(dialog: &str, from: &str, method: &str, cseq: u32, to_tag: &str, body: &str) -> String {
    let text = from_ann(method, URI, cseq, &format!("{dialog}{cseq}"), to_tag, body);
    let text = text.replace("\"Ann\" <sip:1001@pbx.test>;tag=ann", &format!("{from};tag={dialog}"));
    text.replace("call-ann", &format!("call-{dialog}"))
}

/// Her INVITE, with her password.
fn ann_invites(bench: &mut Bench, dialog: &str, from: &str, lines: &str) {
    let invite = |cseq, lines: &str| {
        adding(&of_ann(dialog, from, "INVITE", cseq, "", &sdp("10.0.0.11", 4000)), lines)
    };
    bench.say(ANN, &invite(1, lines));
    let heard = bench.only(ANN, "SIP/2.0 407");
    bench.say(ANN, &of_ann(dialog, from, "ACK", 1, &tag(&header(&heard, "To")), ""));
    let line = header(&heard, "Proxy-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
    let own = sip::auth::answer(&parsed, "1001", "secret-1001", "INVITE", URI, 1, "abc");
    bench.say(ANN, &invite(2, &format!("{lines}Proxy-Authorization: {own}\r\n")));
}

/// The last thing that she heard is a 200; our tag in it.
fn ann_is_answered(bench: &mut Bench, dialog: &str, from: &str) -> String {
    let heard = bench.heard(ANN);
    let ok = heard.iter().find(|text| text.starts_with("SIP/2.0 200"));
    let ours = tag(&header(ok.unwrap_or_else(|| panic!("{heard:#?}")), "To"));
    bench.say(ANN, &of_ann(dialog, from, "ACK", 2, &ours, "").replace("z9hG4bK", "z9hG4bKack"));
    ours
}

fn picks_up(bench: &mut Bench, peer: &str, invite: &str, tag: &str) {
    let ip = peer.split(':').next().expect("an address");
    bench.say(peer, &answer(invite, "200 OK", tag, peer, &sdp(ip, 5000)));
    bench.only(peer, "ACK");
}

/// The peer hears BYE, and says yes to it.
fn is_let_go(bench: &mut Bench, peer: &str) {
    let bye = bench.only(peer, "BYE");
    bench.say(peer, &answer(&bye, "200 OK", "", "", ""));
}

/// Ann, in this dialog, sends her peer abroad: the rule for her name lets it.
fn ann_refers_abroad(bench: &mut Bench, dialog: &str, from: &str, ours: &str) {
    bench.say(ANN, &adding(&of_ann(dialog, from, "REFER", 3, ours, ""), ABROAD));
    let heard = bench.heard(ANN);
    assert!(heard[0].starts_with("SIP/2.0 202"), "{heard:#?}");
    let invite = bench.only(CARRIER, "INVITE");
    assert!(invite.starts_with("INVITE sip:0049@"), "{invite}");
    bench.say(CARRIER, &answer(&invite, "486 Busy Here", "far", "", ""));
    bench.only(CARRIER, "ACK");
}

/// Ann and Ben talk under her own name, in dialog `one`.
fn ann_and_ben_talk(bench: &mut Bench, from: &str) -> (String, String) {
    ann_invites(bench, "one", from, "");
    let invite = bench.only(BEN, "INVITE");
    picks_up(bench, BEN, &invite, "ben");
    let ours = ann_is_answered(bench, "one", from);
    (invite, ours)
}

const OWN: &str = "<sip:1001@pbx.test>";

#[test]
fn who_takes_a_place_as_nobody_transfers_under_its_own_name() {
    let mut bench = bench();
    let (_, ours) = ann_and_ben_talk(&mut bench, OWN);
    let line = format!("Replaces: call-one;to-tag={ours};from-tag=one\r\n");
    ann_invites(&mut bench, "two", VEIL, &line);
    let change = bench.only(BEN, "INVITE");
    picks_up(&mut bench, BEN, &change, "");
    let heard = bench.heard(ANN);
    let ok = heard.iter().find(|text| text.starts_with("SIP/2.0 200")).expect("an answer");
    let bye = heard.iter().find(|text| text.starts_with("BYE")).expect("the old leg's BYE");
    bench.say(ANN, &answer(bye, "200 OK", "", "", ""));
    let ours = tag(&header(ok, "To"));
    bench.say(ANN, &of_ann("two", VEIL, "ACK", 2, &ours, "").replace("z9hG4bK", "z9hG4bKack"));
    ann_refers_abroad(&mut bench, "two", VEIL, &ours);
}

#[test]
fn who_picks_up_as_nobody_transfers_under_its_own_name() {
    let mut bench = bench();
    trunk_calls(&mut bench, OTHER, "66", "");
    let rings = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&rings, "180 Ringing", "ben", BEN, ""));
    let ours = tag(&header(&rings, "From"));
    let call_id = header(&rings, "Call-ID");
    let line = format!("Replaces: {call_id};to-tag={ours};from-tag=ben\r\n");
    ann_invites(&mut bench, "two", VEIL, &line);
    let ours = ann_is_answered(&mut bench, "two", VEIL);
    ann_refers_abroad(&mut bench, "two", VEIL, &ours);
}

/// Ben joins Ann's call with one from a trunk: her leg goes on there.
#[test]
fn who_is_joined_as_nobody_transfers_under_its_own_name() {
    let mut bench = bench();
    let (ben, ours) = ann_and_ben_talk(&mut bench, VEIL);
    trunk_calls(&mut bench, OTHER, "66", "");
    let second = bench.only(BEN, "INVITE");
    picks_up(&mut bench, BEN, &second, "two");
    let ok = bench.heard(OTHER).pop().expect("an answer");
    world::trunks::acknowledge(&mut bench, OTHER, &ok);
    let (call_id, from) = (header(&ben, "Call-ID"), tag(&header(&ben, "From")));
    let line = format!(
        "Refer-To: <sip:1001@pbx.test?Replaces={call_id}%3Bto-tag%3D{from}%3Bfrom-tag%3Dben>\r\n"
    );
    bench.say(BEN, &adding(&from_called(BEN, "two", "REFER", &second, 5, "join", ""), &line));
    let change = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&change, "200 OK", "", ANN, &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "ACK");
    // Whoever stays may have to hear where she is.
    for text in bench.heard(OTHER) {
        if text.starts_with("INVITE") {
            bench.say(OTHER, &answer(&text, "200 OK", "", OTHER, &sdp("10.0.0.98", 7000)));
        }
    }
    for text in bench.heard(BEN) {
        if text.starts_with("BYE") || text.starts_with("NOTIFY") {
            bench.say(BEN, &answer(&text, "200 OK", "", "", ""));
        }
    }
    ann_refers_abroad(&mut bench, "one", VEIL, &ours);
}

/// Nobody's host beside another one's name: the rule for that name is not hers.
#[test]
fn a_place_is_not_taken_under_another_ones_name_at_nobodys_host() {
    let mut bench = bench();
    let (_, ours) = ann_and_ben_talk(&mut bench, OWN);
    let line = format!("Replaces: call-one;to-tag={ours};from-tag=one\r\n");
    ann_invites(&mut bench, "two", "<sip:1003@anonymous.invalid>", &line);
    bench.only(ANN, "SIP/2.0 403");
    assert!(bench.heard(BEN).is_empty());
    bench.say(ANN, &of_ann("one", OWN, "BYE", 9, &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    is_let_go(&mut bench, BEN);
    bench.assert_quiet();
}
