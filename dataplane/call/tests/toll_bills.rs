//! What a call costs follows the leg that costs it: a trunk that failed is paid for no longer, a leg that
//! came to another call still is.
//! Owns:  one story per way in which a leg that costs something goes, comes or is left.
//! Gives: raw text in, raw text out; who holds a call in the ledger, and when the minutes end it.
//! Never: real time.
//! Holds: after each story no account and no trunk holds a call.

mod world;

use std::sync::Arc;
use std::time::Duration;

use call::io::{Account, Tally};
use call::{Input, MeshMessage};
use shared::act::{CallAction, CallName, HangUp};
use shared::command::Command;
use shared::ids::{ShardId, Side};
use shared::limits::TOLL_ACCOUNTS_MAX;
use shared::metrics::Counter;
use shared::originate::Originate;
use shared::settings::ShardSettings;
use shared::trunk_options::TrunkOptions;
use world::acting::act;
use world::tolls::{Attempt, OTHER, bench, count, log, national, over, rules, snapshot};
use world::trunks::with_trunks;
use world::{
    ANN, BEN, Bench, CARRIER, answer, established, from_ann, from_called, header, sdp, settings,
    tag,
};

/// Ann's call goes by the second trunk, since the first has no line. What the second saw.
fn failed_over(bench: &mut Bench, attempt: &Attempt) -> String {
    let invite = attempt.goes_out(bench);
    bench.pass(Duration::from_millis(400));
    bench.say(CARRIER, &answer(&invite, "503 Service Unavailable", "c", "", ""));
    bench.only(CARRIER, "ACK");
    bench.only(OTHER, "INVITE")
}

fn bye_from(bench: &mut Bench, peer: &str) {
    let bye = bench.only(peer, "BYE");
    bench.say(peer, &answer(&bye, "200 OK", "", "", ""));
}

#[test]
fn a_trunk_that_failed_holds_no_call_and_its_minutes_end_none() {
    let mut bench = bench(rules(|rules| {
        (rules.trunk.calls_max, rules.trunk.minutes_per_day) = (Some(1), Some(2));
        (rules.extension.calls_max, rules.extension.calls_per_minute) = (Some(2), Some(9));
    }));
    let first = Attempt::to(0, "sip:030123@pbx.test");
    let invite = failed_over(&mut bench, &first);
    assert_eq!(bench.core.census().toll_calls, 2, "Ann and the trunk that rings");
    bench.say(OTHER, &answer(&invite, "200 OK", "o", OTHER, &sdp("10.0.0.98", 6000)));
    bench.only(OTHER, "ACK");
    let ours = tag(&header(&bench.only(ANN, "SIP/2.0 200"), "To"));
    bench.say(ANN, &first.request("ACK", 2, "ack", &ours, ""));
    // The first trunk takes another call: neither has used minutes of the other's trunk.
    let second = national(1);
    let invite = second.goes_out(&mut bench);
    second.answered(&mut bench, &invite);
    assert_eq!(bench.core.census().toll_calls, 4);
    bench.pass(Duration::from_secs(122));
    let lasted = bench.cdrs.iter().map(|record| record.duration_ms / 1_000);
    assert_eq!(lasted.collect::<Vec<_>>(), [120, 120]);
    assert_eq!(count(&mut bench, Counter::TollCallsEnded), 2);
    over(bench);
}

/// Calls of Ann's: to a number over the carrier, and to Ben. Our tags towards her.
fn two_calls(bench: &mut Bench) -> [(Attempt, String); 2] {
    bench.register("1002", BEN);
    let outside = national(0);
    let invite = outside.goes_out(bench);
    let first = outside.answered(bench, &invite);
    let inside = Attempt::to(1, "sip:1002@pbx.test");
    assert!(inside.dial(bench).is_empty());
    let invite = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    let second = tag(&header(&bench.only(ANN, "SIP/2.0 200"), "To"));
    bench.say(ANN, &inside.request("ACK", 2, "ack", &second, ""));
    [(outside, first), (inside, second)]
}

#[test]
fn the_minutes_of_a_leg_that_came_to_another_call_end_that_call() {
    let mut bench = bench(rules(|rules| rules.extension.minutes_per_day = Some(2)));
    let [(_, first), (inside, second)] = two_calls(&mut bench);
    bench.pass(Duration::from_secs(50));
    let target = format!("Replaces=call-ann-0%3Bto-tag%3D{first}%3Bfrom-tag%3Dann0");
    let refer = inside.request("REFER", 3, "refer", &second, "");
    let line = format!("Refer-To: <sip:0300@carrier.test?{target}>\r\nContent-Length");
    bench.say(ANN, &refer.replacen("Content-Length", &line, 1));
    let change = bench.only(CARRIER, "INVITE");
    bench.say(CARRIER, &answer(&change, "200 OK", "", CARRIER, &sdp("10.0.0.99", 6000)));
    bench.only(CARRIER, "ACK");
    for request in bench.heard(ANN).iter().filter(|text| !text.starts_with("SIP/2.0")) {
        bench.say(ANN, &answer(request, "200 OK", "", "", ""));
    }
    assert_eq!(bench.core.census().toll_calls, 2, "Ann pays, and the trunk has its call");
    bench.pass(Duration::from_secs(69));
    assert!(bench.heard(BEN).is_empty() && bench.heard(CARRIER).is_empty(), "a second is left");
    bench.pass(Duration::from_millis(1_200));
    bye_from(&mut bench, BEN);
    bye_from(&mut bench, CARRIER);
    assert!(log(&bench).pop().is_some_and(|line| line.contains("account=\"extension 1001\"")));
    assert_eq!(national(2).refused(&mut bench), "SIP/2.0 403 Toll limit: daily_minutes");
    over(bench);
}

/// Whoever the carrier puts in the place of who was called costs what that one did (RFC 3891).
#[test]
fn the_minutes_of_who_takes_a_place_go_on() {
    let mut bench = bench(rules(|rules| rules.extension.minutes_per_day = Some(2)));
    let attempt = national(0);
    let invite = attempt.goes_out(&mut bench);
    attempt.answered(&mut bench, &invite);
    let (from, to) = (header(&invite, "From"), header(&invite, "Call-ID"));
    let replaces = format!("Replaces: {to};to-tag={};from-tag=c\r\nContent-Length", tag(&from));
    let place = from_called(CARRIER, "new", "INVITE", &invite, 1, "place", &sdp("10.0.0.99", 8000));
    let place = place
        .replacen(&format!("Call-ID: {to}"), "Call-ID: place", 1)
        .replacen(&format!("To: {from}"), "To: <sip:1001@pbx.test>", 1)
        .replacen("Content-Length", &replaces, 1);
    bench.say(CARRIER, &place);
    let change = bench.only(ANN, "INVITE");
    bench.say(ANN, &answer(&change, "200 OK", "", ANN, &sdp("10.0.0.11", 4000)));
    bench.only(ANN, "ACK");
    let heard = bench.heard(CARRIER);
    let taken = heard.iter().find(|text| text.starts_with("SIP/2.0 200")).expect("an answer");
    let ours = tag(&header(taken, "To"));
    let ack = place.replace("INVITE", "ACK").replacen("branch=z9hG4bK", "branch=z9hG4bKack", 1);
    let ack = ack.replacen("To: <sip:1001@pbx.test>", &format!("To: <sip:a@b>;tag={ours}"), 1);
    bench.say(CARRIER, &ack);
    let bye = heard.iter().find(|text| text.starts_with("BYE")).expect("who was called is let go");
    bench.say(CARRIER, &answer(bye, "200 OK", "", "", ""));
    assert_eq!(bench.core.census().toll_calls, 2);
    bench.pass(Duration::from_secs(119));
    assert!(bench.heard(ANN).is_empty());
    bench.pass(Duration::from_millis(1_200));
    bye_from(&mut bench, ANN);
    bye_from(&mut bench, CARRIER);
    over(bench);
}

/// A trunk whose codec list leaves nothing to say is not called, and counts for nothing.
#[test]
fn a_trunk_without_a_codec_in_common_holds_nothing_while_the_next_one_rings() {
    let mute = TrunkOptions { codecs: vec!["opus".into()], ..TrunkOptions::default() };
    let mut snapshot = with_trunks(mute, TrunkOptions::default());
    snapshot.toll = Some(rules(|_| ()).into());
    let mut bench = Bench::with(settings(), snapshot);
    let (_, ours) = established(&mut bench);
    let action =
        CallAction::Transfer { leaves: Side::Callee, target: "sip:300000@pbx.test".into() };
    act(&mut bench, 1, CallName::Leg("call-ann".into()), action);
    let invite = bench.only(OTHER, "INVITE");
    let census = bench.core.census();
    assert_eq!((census.trunk_calls, census.toll_calls), (1, 2), "who transfers, and one trunk");
    bench.say(OTHER, &answer(&invite, "200 OK", "o", OTHER, &sdp("10.0.0.98", 6000)));
    bench.only(OTHER, "ACK");
    bye_from(&mut bench, BEN);
    assert_eq!(bench.core.census().trunk_calls, 1);
    for request in bench.heard(ANN) {
        bench.say(ANN, &answer(&request, "200 OK", "", ANN, &sdp("10.0.0.11", 4000)));
    }
    bench.heard(ANN);
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 9, "bye", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    bye_from(&mut bench, OTHER);
    over(bench);
}

/// One account that may call no more is one line, however many trunks the rule has.
#[test]
fn who_may_not_call_is_logged_once_and_not_for_every_trunk() {
    let mut bench = bench(rules(|rules| rules.extension.calls_per_minute = Some(1)));
    bench.register("1001", ANN);
    let attempt = national(0);
    let invite = attempt.goes_out(&mut bench);
    attempt.busy(&mut bench, &invite);
    let wanted =
        Originate { from: "1001".into(), to: "sip:030123@pbx.test".into(), ..Originate::default() };
    bench.input(Input::Command(Command::Originate { id: 7, wanted: Box::new(wanted) }));
    assert!(bench.heard(ANN).is_empty() && bench.heard(CARRIER).is_empty());
    assert_eq!(log(&bench).len(), 1, "{:#?}", log(&bench));
    assert_eq!(count(&mut bench, Counter::TollLimitsRefused), 1);
    let record = bench.cdrs.last().expect("a record");
    assert_eq!((record.status_code, record.hangup_messages.len()), (403, 1), "{record:#?}");
    over(bench);
}

/// Two legs that talk with one number are two calls, in one call, too.
#[test]
fn two_legs_to_one_number_that_are_joined_count_twice() {
    let mut bench = bench(rules(|rules| rules.trunk.calls_max = Some(2)));
    let legs = ["o", "p"].map(|name| {
        let attempt = Attempt::to(usize::from(name == "p"), "sip:030123@carrier.test");
        let invite = attempt.goes_out(&mut bench);
        let theirs = sdp("10.0.0.99", 6000);
        bench.say(CARRIER, &answer(&invite, "200 OK", name, CARRIER, &theirs));
        bench.only(CARRIER, "ACK");
        let ours = tag(&header(&bench.only(ANN, "SIP/2.0 200"), "To"));
        bench.say(ANN, &attempt.request("ACK", 2, "ack", &ours, ""));
        (attempt, ours)
    });
    let [(_, first), (attempt, second)] = legs;
    let target = format!("Replaces=call-ann-0%3Bto-tag%3D{first}%3Bfrom-tag%3Dann0");
    let refer = attempt.request("REFER", 3, "refer", &second, "");
    let line = format!("Refer-To: <sip:030123@carrier.test?{target}>\r\nContent-Length");
    bench.say(ANN, &refer.replacen("Content-Length", &line, 1));
    let change = bench.only(CARRIER, "INVITE");
    bench.say(CARRIER, &answer(&change, "200 OK", "", CARRIER, &sdp("10.0.0.99", 6000)));
    for request in bench.heard(CARRIER).iter().filter(|text| text.starts_with("INVITE")) {
        bench.say(CARRIER, &answer(request, "200 OK", "", CARRIER, &sdp("10.0.0.99", 6000)));
    }
    for request in bench.heard(ANN).iter().filter(|text| !text.starts_with("SIP/2.0")) {
        bench.say(ANN, &answer(request, "200 OK", "", "", ""));
    }
    bench.heard(CARRIER);
    let census = bench.core.census();
    assert_eq!((census.trunk_calls, census.toll_calls), (2, 4), "Ann and the trunk, twice each");
    assert_eq!(national(2).refused(&mut bench), "SIP/2.0 403 Toll limit: max_calls");
    act(&mut bench, 9, CallName::Leg("call-ann-1".into()), CallAction::HangUp(HangUp::default()));
    for bye in bench.heard(CARRIER) {
        assert!(bye.starts_with("BYE"), "{bye}");
        bench.say(CARRIER, &answer(&bye, "200 OK", "", "", ""));
    }
    over(bench);
}

/// Who talks with a number and is sent to the same one calls it once more.
#[test]
fn a_transfer_to_the_number_that_one_talks_with_is_a_further_call() {
    let mut bench = bench(rules(|rules| rules.extension.calls_max = Some(1)));
    let attempt = national(0);
    let invite = attempt.goes_out(&mut bench);
    let ours = attempt.answered(&mut bench, &invite);
    let refer = attempt.request("REFER", 3, "refer", &ours, "");
    let line = format!("Refer-To: <{}>\r\nContent-Length", attempt.uri);
    bench.say(ANN, &refer.replacen("Content-Length", &line, 1));
    assert!(bench.heard(CARRIER).is_empty() && bench.heard(OTHER).is_empty());
    for notify in bench.heard(ANN).iter().filter(|text| text.starts_with("NOTIFY")) {
        bench.say(ANN, &answer(notify, "200 OK", "", "", ""));
    }
    assert!(log(&bench).pop().is_some_and(|line| line.contains("why=max_calls")));
    bench.heard(ANN);
    assert_eq!(bench.core.census().toll_calls, 2);
    bench.say(ANN, &attempt.request("BYE", 4, "bye", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    bye_from(&mut bench, CARRIER);
    over(bench);
}

/// Where the ledger had no room for a trunk, none comes to count there while another one rings.
#[test]
fn a_trunk_that_the_ledger_had_no_room_for_counts_nothing_later() {
    let mut bench = bench(rules(|_| ()));
    bench.register("1001", ANN);
    let heard = |account: Account| Input::Mesh {
        from: ShardId(1),
        message: MeshMessage::Toll { counted: Box::new((account, Tally::default())), begun: 1 },
    };
    // One place is left, for Ann.
    bench.input(heard(Account::Trunk("other".into())));
    for number in 2..TOLL_ACCOUNTS_MAX {
        bench.input(heard(Account::Source(number as u128)));
    }
    bench.pass(Duration::from_secs(50));
    let wanted =
        Originate { from: "1001".into(), to: "sip:030123@pbx.test".into(), ..Originate::default() };
    bench.input(Input::Command(Command::Originate { id: 7, wanted: Box::new(wanted) }));
    let ann = bench.only(ANN, "INVITE");
    assert_eq!(bench.core.census().toll_calls, 2, "Ann and the other trunk");
    bench.pass(Duration::from_millis(400));
    bench.say(ANN, &answer(&ann, "180 Ringing", "ann", ANN, ""));
    bench.pass(Duration::from_secs(12));
    bench.say(ANN, &answer(&ann, "180 Ringing", "ann", ANN, ""));
    assert_eq!(bench.core.census().toll_calls, 2, "room came, but nobody asked again");
    bench.say(ANN, &answer(&ann, "486 Busy Here", "ann", "", ""));
    bench.only(ANN, "ACK");
    over(bench);
}

/// A trunk whose time was over counts the call all the same when it answers before our CANCEL comes.
#[test]
fn a_trunk_that_answers_late_counts_the_call_that_it_carries() {
    let mut snapshot = snapshot(rules(|_| ()));
    let trunks = Arc::make_mut(&mut snapshot.trunks);
    (trunks[0].max_calls, trunks[0].failover.setup) = (Some(1), Duration::from_secs(2));
    let mut bench = Bench::with(ShardSettings { call_auth: true, ..settings() }, snapshot);
    let attempt = Attempt::to(0, "sip:030123@pbx.test");
    let invite = attempt.goes_out(&mut bench);
    bench.pass(Duration::from_millis(2_100));
    bench.heard(CARRIER); // the INVITE again: nothing to be cancelled yet
    let other = bench.only(OTHER, "INVITE");
    bench.say(OTHER, &answer(&other, "100 Trying", "", "", ""));
    let ours = attempt.answered(&mut bench, &invite);
    let cancel = bench.only(OTHER, "CANCEL");
    bench.say(OTHER, &answer(&cancel, "200 OK", "o", "", ""));
    bench.say(OTHER, &answer(&other, "487 Request Terminated", "o", "", ""));
    bench.only(OTHER, "ACK");
    assert_eq!(bench.core.census().trunk_calls, 1);
    // The carrier takes one call at a time.
    let second = Attempt::to(1, "sip:030123@pbx.test");
    assert!(second.dial(&mut bench).is_empty());
    assert!(bench.heard(CARRIER).is_empty());
    let invite = bench.only(OTHER, "INVITE");
    bench.say(OTHER, &answer(&invite, "486 Busy Here", "b", "", ""));
    bench.only(OTHER, "ACK");
    let busy = tag(&header(&bench.only(ANN, "SIP/2.0 486"), "To"));
    bench.say(ANN, &second.request("ACK", 2, "b", &busy, ""));
    attempt.hung_up(&mut bench, &ours);
    over(bench);
}
