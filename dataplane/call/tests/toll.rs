//! Toll fraud on the bench: what a stolen account, a forwarding or a program may call, and how much.
//! Owns:  one story per way in which money leaves by a trunk.
//! Gives: raw text in, raw text out; the record, the log line and the counter of each refusal.
//! Never: real time.
//! Holds: emergency calls go out whatever the caps say; after each story no account holds a call.

mod world;

use std::sync::Arc;
use std::time::Duration;

use call::{Input, MeshMessage};
use shared::cdr::HangupReason;
use shared::command::Command;
use shared::forwarding::Forwarding;
use shared::ids::ShardId;
use shared::metrics::Counter;
use shared::originate::Originate;
use shared::settings::ShardSettings;
use shared::snapshot::User;
use shared::toll::{Caps, TollRules};
use world::tolls::{
    Attempt, OTHER, bench, count, last_error, log, national, over, rules, snapshot,
};
use world::{ANN, BEN, Bench, CARRIER, answer, header, sdp, settings, tag};

#[test]
fn a_closed_country_and_a_premium_number_are_refused_before_the_trunk_hears() {
    let mut bench = bench(rules(|rules| rules.countries = Some(vec!["43".into()])));
    let cases = [
        ("+22512345678", "allowed_destination_countries"),
        ("0022512345678", "allowed_destination_countries"),
        ("%2B225-123", "allowed_destination_countries"),
        ("12345678;phone-context=+225", "allowed_destination_countries"),
        ("00979123", "premium_prefixes"),
    ];
    for (number, (dialled, why)) in cases.into_iter().enumerate() {
        let attempt = Attempt::to(number, &format!("sip:{dialled}@carrier.test"));
        let reason = format!("Toll limit: {why}");
        assert_eq!(attempt.refused(&mut bench), format!("SIP/2.0 403 {reason}"));
        assert_eq!(last_error(&bench), (403, reason));
        assert_eq!(bench.cdrs.last().map(|record| record.status_code), Some(403));
        let line = log(&bench).pop().expect("a line");
        let start = "security event=toll_refused source=10.0.0.11 port=5060 transport=UDP why=";
        assert!(line.starts_with(&format!("{start}{why} ")), "{line}");
        assert!(line.contains("account=\"extension 1001\" trunk=\"carrier\""), "{line}");
    }
    assert_eq!(count(&mut bench, Counter::TollNumbersRefused), cases.len() as u64);
    let open = Attempt::to(9, "sip:+43123@carrier.test");
    let invite = open.goes_out(&mut bench);
    open.busy(&mut bench, &invite);
    over(bench);
}

#[test]
fn a_minute_has_five_calls_and_emergencies_are_spared() {
    let mut bench = bench(rules(|_| ()));
    for number in 0..5 {
        let attempt = national(number);
        let invite = attempt.goes_out(&mut bench);
        attempt.busy(&mut bench, &invite);
    }
    assert_eq!(national(5).refused(&mut bench), "SIP/2.0 403 Toll limit: calls_per_minute");
    assert_eq!(count(&mut bench, Counter::TollLimitsRefused), 1);
    let help = Attempt::to(6, "sip:112@pbx.test");
    let invite = help.goes_out(&mut bench);
    help.busy(&mut bench, &invite);
    bench.pass(Duration::from_secs(60));
    let attempt = national(7);
    let invite = attempt.goes_out(&mut bench);
    attempt.busy(&mut bench, &invite);
    over(bench);
}

/// Whoever is called within the house costs nothing.
#[test]
fn calls_between_users_are_on_no_account() {
    let mut bench = bench(rules(|rules| rules.extension.calls_max = Some(1)));
    bench.register("1002", BEN);
    let attempt = national(0);
    let invite = attempt.goes_out(&mut bench);
    let ours = attempt.answered(&mut bench, &invite);
    assert_eq!(national(1).refused(&mut bench), "SIP/2.0 403 Toll limit: max_calls");
    assert!(Attempt::to(2, "sip:1002@pbx.test").dial(&mut bench).is_empty());
    bench.only(BEN, "INVITE");
    // The account and its trunk.
    assert_eq!(bench.core.census().toll_calls, 2);
    attempt.hung_up(&mut bench, &ours);
    bench.pass(Duration::from_secs(200));
    bench.sent.clear();
    let attempt = national(3);
    let invite = attempt.goes_out(&mut bench);
    attempt.busy(&mut bench, &invite);
    over(bench);
}

#[test]
fn a_second_trunk_for_the_same_call_is_no_second_call() {
    let mut bench = bench(rules(|rules| rules.extension.calls_per_minute = Some(1)));
    let attempt = Attempt::to(0, "sip:030123@pbx.test");
    let invite = attempt.goes_out(&mut bench);
    bench.say(CARRIER, &answer(&invite, "503 Service Unavailable", "c", "", ""));
    bench.only(CARRIER, "ACK");
    let invite = bench.only(OTHER, "INVITE");
    bench.say(OTHER, &answer(&invite, "486 Busy Here", "o", "", ""));
    bench.only(OTHER, "ACK");
    let ours = tag(&header(&bench.only(ANN, "SIP/2.0 486"), "To"));
    bench.say(ANN, &attempt.request("ACK", 2, "b", &ours, ""));
    // Refused once, and not once for each trunk of the rule.
    let attempt = Attempt::to(1, "sip:030124@pbx.test");
    assert_eq!(attempt.refused(&mut bench), "SIP/2.0 403 Toll limit: calls_per_minute");
    assert_eq!((log(&bench).len(), count(&mut bench, Counter::TollLimitsRefused)), (1, 1));
    over(bench);
}

#[test]
fn a_trunk_has_caps_of_its_own_and_the_next_trunk_takes_over() {
    let mut bench = bench(rules(|rules| rules.trunk.calls_per_day = Some(1)));
    let attempt = national(0);
    let invite = attempt.goes_out(&mut bench);
    attempt.busy(&mut bench, &invite);
    assert_eq!(national(1).refused(&mut bench), "SIP/2.0 403 Toll limit: daily_limit");
    let line = log(&bench).pop().expect("a line");
    assert!(line.contains("account=\"trunk carrier\""), "{line}");
    let attempt = Attempt::to(2, "sip:030123@pbx.test");
    assert!(attempt.dial(&mut bench).is_empty());
    let invite = bench.only(OTHER, "INVITE");
    bench.say(OTHER, &answer(&invite, "486 Busy Here", "o", "", ""));
    bench.only(OTHER, "ACK");
    bench.only(ANN, "SIP/2.0 486");
    over(bench);
}

#[test]
fn minutes_that_are_used_up_end_a_standing_call_and_come_back_the_next_day() {
    let mut bench = bench(rules(|rules| rules.extension.minutes_per_day = Some(2)));
    let attempt = national(0);
    let invite = attempt.goes_out(&mut bench);
    attempt.answered(&mut bench, &invite);
    bench.pass(Duration::from_secs(119));
    assert!(bench.heard(ANN).is_empty(), "two minutes are not over");
    bench.pass(Duration::from_millis(1_200));
    for peer in [ANN, CARRIER] {
        let bye = bench.only(peer, "BYE");
        bench.say(peer, &answer(&bye, "200 OK", "", "", ""));
    }
    let record = bench.cdrs.last().expect("a record");
    assert_eq!(record.hangup_reason, HangupReason::Autohangup);
    assert!((120_000..=121_000).contains(&record.duration_ms), "{}", record.duration_ms);
    let why = record.hangup_messages.last().expect("why");
    assert_eq!((&*why.reason, &*why.target), ("Toll limit: daily_minutes", "toll_fraud"));
    assert_eq!(count(&mut bench, Counter::TollCallsEnded), 1);
    assert!(log(&bench).iter().any(|line| line.starts_with("security event=toll_ended source=")));
    assert_eq!(national(1).refused(&mut bench), "SIP/2.0 403 Toll limit: daily_minutes");
    bench.pass(Duration::from_secs(86_400));
    let attempt = national(2);
    let invite = attempt.goes_out(&mut bench);
    attempt.busy(&mut bench, &invite);
    over(bench);
}

/// What shards told each other about accounts arrives.
fn exchange(shards: &mut [Bench; 2]) {
    let told = shards.each_mut().map(|bench| std::mem::take(&mut bench.mesh));
    for (from, told) in told.into_iter().enumerate() {
        let from = ShardId(u8::try_from(from).expect("two shards"));
        for (to, message) in told {
            assert!(matches!(message, MeshMessage::Toll { .. }), "{message:?}");
            shards[usize::from(to.0)].input(Input::Mesh { from, message });
        }
    }
}

/// Numbers of calls whose Call-ID is of this shard.
fn owned_by(shard: u8) -> impl Iterator<Item = usize> {
    (0..1_000).filter(move |number| {
        let call_id = format!("call-ann-{number}");
        ShardId::of_name(call_id.as_bytes(), 2) == ShardId(shard)
    })
}

/// The caps are those of all shards together: each shard counts its own calls and tells the others.
#[test]
fn a_cap_holds_over_all_shards() {
    let rules = rules(|rules| {
        rules.countries = None;
        rules.extension = Caps { calls_per_minute: None, ..Caps::EXTENSION };
    });
    let mut shards = [0, 1].map(|shard| {
        let settings = ShardSettings { shard: ShardId(shard), shards: 2, ..settings() };
        let settings = ShardSettings { call_auth: true, ..settings };
        Bench::with(settings, snapshot(rules.clone()))
    });
    let mut standing = Vec::new();
    let mut numbers = [owned_by(0), owned_by(1)];
    let mut next = |shard: usize| {
        let number = numbers[shard].next().expect("one of a thousand");
        Attempt::to(number, &format!("sip:+43{number}@carrier.test"))
    };
    for shard in [0, 1] {
        let attempt = next(shard);
        let invite = attempt.goes_out(&mut shards[shard]);
        let ours = attempt.answered(&mut shards[shard], &invite);
        standing.push((attempt, ours));
        exchange(&mut shards);
    }
    for shard in [0, 1] {
        let heard = next(shard).refused(&mut shards[shard]);
        assert_eq!(heard, "SIP/2.0 403 Toll limit: max_international", "shard {shard}");
    }
    let (attempt, ours) = standing.remove(0);
    attempt.hung_up(&mut shards[0], &ours);
    exchange(&mut shards);
    let attempt = next(1);
    let invite = attempt.goes_out(&mut shards[1]);
    attempt.busy(&mut shards[1], &invite);
    let (attempt, ours) = standing.remove(0);
    attempt.hung_up(&mut shards[1], &ours);
    exchange(&mut shards);
    shards.into_iter().for_each(over);
}

/// Forwarding to a number abroad is paid by who set it, whoever calls.
#[test]
fn a_forward_is_on_the_account_of_who_forwards() {
    let rules = rules(|rules| rules.extension.calls_per_minute = Some(1));
    let mut snapshot = snapshot(rules);
    let users = Arc::make_mut(&mut snapshot.users);
    for (user, to) in [("1002", "sip:03055@carrier.test"), ("1003", "sip:+22555@carrier.test")] {
        let wish = Forwarding::read(Some("always"), Some(to), Some(20)).expect("a forwarding");
        let known = User::clone(&users[user]);
        users.insert(user.into(), Arc::new(User { forwarding: wish.map(Box::new), ..known }));
    }
    let mut bench = Bench::with(ShardSettings { call_auth: true, ..settings() }, snapshot);
    let attempt = Attempt::to(0, "sip:1002@pbx.test");
    let invite = attempt.goes_out(&mut bench);
    attempt.busy(&mut bench, &invite);
    let again = Attempt::to(1, "sip:1002@pbx.test");
    assert_eq!(again.refused(&mut bench), "SIP/2.0 403 Toll limit: calls_per_minute");
    assert!(log(&bench).pop().is_some_and(|line| line.contains("account=\"extension 1002\"")));
    let abroad = Attempt::to(2, "sip:1003@pbx.test");
    let heard = abroad.refused(&mut bench);
    assert_eq!(heard, "SIP/2.0 403 Toll limit: allowed_destination_countries");
    // Ann herself has not called out yet.
    let attempt = national(3);
    let invite = attempt.goes_out(&mut bench);
    attempt.busy(&mut bench, &invite);
    over(bench);
}

#[test]
fn a_program_that_calls_for_a_user_is_held_to_the_same() {
    let mut bench = bench(rules(|_| ()));
    bench.register("1001", ANN);
    let wanted = Originate {
        from: "1001".into(),
        to: "sip:+22512345@carrier.test".into(),
        ..Originate::default()
    };
    bench.input(Input::Command(Command::Originate { id: 7, wanted: Box::new(wanted) }));
    assert!(bench.heard(ANN).is_empty() && bench.heard(CARRIER).is_empty());
    let reason = "Toll limit: allowed_destination_countries".to_owned();
    assert_eq!(last_error(&bench), (403, reason));
    over(bench);
}

/// A party that is sent on by REFER is on the account of who sends it.
#[test]
fn a_transfer_to_a_closed_country_calls_nobody() {
    let mut bench = bench(rules(|_| ()));
    bench.register("1002", BEN);
    let attempt = Attempt::to(0, "sip:1002@pbx.test");
    // What the caller writes into To is an invention, and names nobody's account.
    let forged = |invite: String| invite.replace("To: <sip:1002@", "To: <sip:7001@");
    assert!(attempt.dial_with(&mut bench, forged).is_empty());
    let invite = bench.only(BEN, "INVITE");
    assert!(header(&invite, "To").contains("7001"), "{invite}");
    bench.say(BEN, &answer(&invite, "200 OK", "ben", BEN, &sdp("10.0.0.12", 5000)));
    bench.only(BEN, "ACK");
    let ours = tag(&header(&bench.only(ANN, "SIP/2.0 200"), "To"));
    bench.say(ANN, &attempt.request("ACK", 2, "ack", &ours, ""));
    let refer = world::from_ben("REFER", &invite, 1, "r1", "");
    let target = "Refer-To: <sip:+22512345@carrier.test>\r\nContent-Length";
    bench.say(BEN, &refer.replacen("Content-Length", target, 1));
    let heard = bench.heard(BEN);
    assert!(heard.iter().any(|text| text.starts_with("SIP/2.0 202")), "{heard:#?}");
    assert!(heard.iter().any(|text| text.contains("SIP/2.0 403 ")), "{heard:#?}");
    assert!(bench.heard(CARRIER).is_empty());
    let line = log(&bench).pop().expect("a line");
    assert!(line.contains("account=\"extension 1002\""), "{line}");
    for notify in heard.iter().filter(|text| text.starts_with("NOTIFY")) {
        bench.say(BEN, &answer(notify, "200 OK", "", "", ""));
    }
    bench.heard(BEN);
    bench.say(ANN, &attempt.request("BYE", 3, "bye", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    for request in bench.heard(BEN) {
        bench.say(BEN, &answer(&request, "200 OK", "", "", ""));
    }
    over(bench);
}

/// Where calls need no password, a name proves nothing: the source is held to the caps.
#[test]
fn without_passwords_the_source_pays() {
    let rules = rules(|rules| rules.extension.calls_per_minute = Some(2));
    let mut bench = Bench::with(settings(), snapshot(rules));
    for number in 0..3 {
        let attempt = national(number);
        let invite = attempt.request("INVITE", 1, "a", "", &sdp("10.0.0.11", 4000));
        bench.say(ANN, &invite.replace("sip:1001@pbx", &format!("sip:19{number}@pbx")));
        let went_out = !bench.heard(CARRIER).is_empty();
        assert_eq!(went_out, number < 2, "{number}");
    }
    let line = log(&bench).pop().expect("a line");
    assert!(line.contains("account=\"source 10.0.0.11\""), "{line}");
    over(bench);
}

#[test]
fn without_the_section_nothing_is_counted() {
    let mut snapshot = snapshot(TollRules::default());
    snapshot.toll = None;
    let mut bench = Bench::with(ShardSettings { call_auth: true, ..settings() }, snapshot);
    for number in 0..9 {
        let attempt = Attempt::to(number, &format!("sip:+2251{number}@carrier.test"));
        let invite = attempt.goes_out(&mut bench);
        assert_eq!(bench.core.census().toll_calls, 0);
        attempt.busy(&mut bench, &invite);
    }
    over(bench);
}
