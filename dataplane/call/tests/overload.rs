//! A shard that gets more than it can do, on the bench: who is refused, who goes first, what is left.
//! Owns:  a queue in front of the core with the costs of a call and of a refusal.
//! Gives: goodput and waits at twice and five times of what the core can do.
//! Never: real time; the costs are those that `docs/limits.md` measured, in round numbers.
//! Holds: what belongs to a call is never refused, and emergency calls are not.

mod world;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use shared::metrics::Counter;
use shared::net::Transport;
use shared::route::{Emergency, RouteTable};
use shared::snapshot::Trunk;
use shared::time::Instant;
use world::{ANN, BEN, Bench, CARRIER, answer, established, from_ann, header, sdp, settings};

/// What a whole call costs the shard, and what a refusal does: two datagrams in, one out, no state.
const CALL: Duration = Duration::from_micros(400);
const REFUSAL: Duration = Duration::from_micros(12);
const PER_SECOND: u32 = 2_500;

fn invite(number: usize, uri: &str) -> String {
    let text = from_ann("INVITE", uri, 1, &format!("v{number}"), "", &sdp("10.0.0.11", 4_000));
    text.replace("call-ann", &format!("call-{number}"))
}

/// Keeps the core in overload for long enough that it believes it.
fn bury(bench: &mut Bench) {
    for _ in 0..3 {
        bench.core.waited(bench.now, Duration::from_millis(500));
        bench.pass(Duration::from_millis(60));
    }
    bench.core.waited(bench.now, Duration::from_millis(500));
}

/// Calls to nobody, so that the answer is 404 and the table of calls stays empty. Gives how many got
/// it within four seconds, and the longest that any of these has waited.
fn offer(times: u32) -> (u32, Duration) {
    let mut bench = Bench::new(settings());
    let (start, every) = (bench.now, Duration::from_secs(1) / (PER_SECOND * times));
    let (warm, end) = (start + Duration::from_secs(1), start + Duration::from_secs(5));
    let mut queue: VecDeque<(Instant, usize)> = VecDeque::new();
    let (mut next, mut number) = (start, 0);
    let (mut served, mut longest) = (0, Duration::ZERO);
    while bench.now < end {
        while next <= bench.now {
            queue.push_back((next, number));
            (next, number) = (next + every, number + 1);
        }
        let Some((arrived, number)) = queue.pop_front() else {
            bench.now = next;
            continue;
        };
        let (now, wait) = (bench.now, bench.now.since(arrived));
        bench.core.waited(now, wait);
        bench.say(ANN, &invite(number, "sip:nobody@pbx.test"));
        let heard = bench.heard(ANN);
        let is_refused = heard[0].starts_with("SIP/2.0 503");
        if !is_refused && now >= warm {
            served += 1;
            longest = longest.max(wait);
        }
        bench.now = now + if is_refused { REFUSAL } else { CALL };
    }
    (served / 4, longest)
}

#[test]
fn goodput_stays_when_twice_or_five_times_as_much_is_asked() {
    for (times, least) in [(1, 0.95), (2, 0.9), (5, 0.8)] {
        let (per_second, longest) = offer(times);
        let share = f64::from(per_second) / f64::from(PER_SECOND);
        assert!(share >= least, "at {times} times: {per_second} calls/s");
        assert!(longest <= Duration::from_millis(125), "at {times} times: {longest:?}");
    }
}

#[test]
fn a_refusal_is_a_503_without_a_transaction_and_with_a_time_of_its_own() {
    let mut bench = Bench::new(settings());
    bury(&mut bench);
    let mut waits = std::collections::BTreeSet::new();
    for number in 0..50 {
        bench.say(ANN, &invite(number, "sip:1002@pbx.test"));
        let refusal = bench.only(ANN, "SIP/2.0 503");
        let wait: u32 = header(&refusal, "Retry-After").parse().expect("seconds");
        assert!((2..=10).contains(&wait), "{wait}");
        waits.insert(wait);
    }
    assert!(waits.len() > 3, "they come back at different times: {waits:?}");
    let census = bench.core.census();
    assert_eq!((census.server_transactions, census.calls), (0, 0));
    assert_eq!(bench.core.counters().of(Counter::OverloadShed), 50);
}

#[test]
fn what_belongs_to_a_call_goes_on_in_overload() {
    let mut bench = Bench::new(settings());
    let (_, ours) = established(&mut bench);
    bury(&mut bench);
    let again = from_ann("INVITE", "sip:1002@pbx.test", 2, "re", &ours, &sdp("10.0.0.11", 4_002));
    bench.say(ANN, &again);
    bench.only(ANN, "SIP/2.0 100");
    let relayed = bench.only(BEN, "INVITE");
    bench.say(BEN, &answer(&relayed, "200 OK", "", BEN, &sdp("10.0.0.12", 5_002)));
    bench.only(ANN, "SIP/2.0 200");
    bench.only(BEN, "ACK");
    bench.say(ANN, &from_ann("ACK", "sip:1002@pbx.test", 2, "reack", &ours, ""));
    bench.say(ANN, &from_ann("BYE", "sip:1002@pbx.test", 3, "bye", &ours, ""));
    bench.only(ANN, "SIP/2.0 200");
    let bye = bench.only(BEN, "BYE");
    bench.say(BEN, &answer(&bye, "200 OK", "", "", ""));
    assert_eq!(bench.core.counters().of(Counter::OverloadShed), 0);
    bench.assert_quiet();
}

#[test]
fn a_ringing_call_is_cancelled_in_overload() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    bench.say(ANN, &from_ann("INVITE", "sip:1002@pbx.test", 1, "a1", "", &sdp("10.0.0.11", 4_000)));
    bench.heard(ANN);
    let invite = bench.only(BEN, "INVITE");
    bury(&mut bench);
    bench.say(BEN, &answer(&invite, "180 Ringing", "ben", BEN, ""));
    bench.only(ANN, "SIP/2.0 180");
    bench.say(ANN, &from_ann("CANCEL", "sip:1002@pbx.test", 1, "a1", "", ""));
    let heard = bench.heard(ANN);
    assert!(heard.iter().any(|text| text.starts_with("SIP/2.0 487")), "{heard:?}");
}

#[test]
fn emergency_calls_are_taken_in_overload() {
    let help = Trunk::plain("help", "help.test", CARRIER.parse().expect("one"), Transport::Udp);
    let emergency = Emergency { numbers: vec!["112".into()], trunk: "help".into() };
    let mut snapshot = world::snapshot();
    snapshot.routes = Arc::new(RouteTable::sorted(Vec::new(), Some(emergency)));
    snapshot.trunks = Arc::new(vec![help]);
    let mut bench = Bench::with(settings(), snapshot);
    bury(&mut bench);
    bench.say(ANN, &invite(1, "sip:1002@pbx.test"));
    bench.only(ANN, "SIP/2.0 503");
    bench.say(ANN, &invite(2, "sip:112@pbx.test"));
    bench.only(ANN, "SIP/2.0 100");
    bench.only(CARRIER, "INVITE");
}

/// RFC 3261 16.7: their overload is not ours, and their Retry-After is for us.
#[test]
fn a_503_of_the_next_hop_is_told_as_500_without_its_retry_after() {
    let mut bench = Bench::new(settings());
    bench.register("1002", BEN);
    bench.say(ANN, &invite(1, "sip:1002@pbx.test"));
    bench.heard(ANN);
    let invite = bench.only(BEN, "INVITE");
    let answer = answer(&invite, "503 Service Unavailable", "ben", "", "");
    bench.say(BEN, &answer.replace("Content-Length", "Retry-After: 3600\r\nContent-Length"));
    let told = bench.only(ANN, "SIP/2.0 500");
    assert!(!told.contains("Retry-After"), "{told}");
}
