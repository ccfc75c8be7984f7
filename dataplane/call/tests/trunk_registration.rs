//! REGISTER with the carriers of our trunks (RFC 3261 10.2, 10.2.8; RFC 5626 4.5).
//! Owns:  the life of a registration: made, kept up, refused, changed, taken back.
//! Gives: one test per rule; the carrier is the text of the tests.
//! Never: real time.
//! Holds: at most one REGISTER of a trunk is out at a time, from one shard.

mod world;

use std::sync::Arc;
use std::time::Duration;

use call::Input;
use shared::account::{Account, Registering};
use shared::command::Command;
use shared::event::Event;
use shared::headers::ExtraHeader;
use shared::ids::ShardId;
use shared::metrics::Counter;
use shared::net::Transport;
use shared::settings::ShardSettings;
use shared::snapshot::{Secret, Snapshot, Trunk};
use shared::time::Instant;
use sip::auth::{Credentials, verify};
use world::{ANN, BEN, Bench, CARRIER, answer, from_ann, header, sdp, settings, snapshot, tag};

const PASSWORD: &str = "correct horse";
const S: Duration = Duration::from_secs(1);

fn account(username: &str, password: &str) -> Account {
    let account = Account::new(username, password).expect("both are plain");
    let header = ExtraHeader::new("X-Site", "north").expect("a plain header");
    let registers = Registering { expires: 3_600 * S, headers: vec![header] };
    Account { registers: Some(registers), ..account }
}

fn trunk(name: &str, account: Account) -> Trunk {
    let carrier = CARRIER.parse().expect("an address");
    let account = Some(Arc::new(account));
    Trunk { account, ..Trunk::plain(name, "carrier.test", carrier, Transport::Udp) }
}

fn of(trunks: Vec<Trunk>) -> Snapshot {
    Snapshot { trunks: Arc::new(trunks), ..snapshot() }
}

fn bench() -> Bench {
    Bench::with(settings(), of(vec![trunk("carrier", account("4930", PASSWORD))]))
}

/// The next REGISTER, and how long it took.
fn next_register(bench: &mut Bench) -> (String, Duration) {
    let start = bench.now;
    while bench.sent.is_empty() {
        bench.pass(S / 10);
        assert!(bench.now.since(start) < 10_000 * S, "no REGISTER comes");
    }
    (bench.only(CARRIER, "REGISTER "), bench.now.since(start))
}

fn accept(bench: &mut Bench, register: &str, expires: u64) {
    let contact = format!("Contact: <sip:4930@10.0.0.1:5060>;expires={expires}\r\nContent-Length");
    let ok = answer(register, "200 OK", "reg", "", "");
    bench.say(CARRIER, &ok.replace("Content-Length", &contact));
}

fn refuse(bench: &mut Bench, register: &str, status: &str, headers: &str) {
    let text = answer(register, status, "reg", "", "");
    bench.say(CARRIER, &text.replace("Content-Length", &format!("{headers}Content-Length")));
}

fn challenge(bench: &mut Bench, register: &str, nonce: &str) {
    let line = format!(
        "WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\", algorithm=SHA-256, \
         qop=\"auth\"\r\n"
    );
    refuse(bench, register, "401 Unauthorized", &line);
}

/// The count of right credentials.
fn right(register: &str, password: &str) -> u32 {
    let value = header(register, "Authorization");
    let credentials = Credentials::parse(value.as_bytes()).expect("credentials");
    let secret = Secret::Plain(password.into());
    assert!(verify(&credentials, b"REGISTER", "r", &secret), "wrong: {register}");
    credentials.nc.expect("a count")
}

fn number(request: &str) -> u32 {
    let cseq = header(request, "CSeq");
    cseq.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

fn notices(bench: &Bench, code: &str) -> usize {
    let is_it = |event: &&Event| matches!(event, Event::Notice(notice) if notice.code == code);
    bench.events.iter().filter(is_it).count()
}

fn publish(bench: &mut Bench, trunks: Vec<Trunk>) {
    let snapshot = Snapshot { generation: 2, ..of(trunks) };
    bench.input(Input::Command(Command::Publish(Arc::new(snapshot))));
}

fn stop(mut bench: Bench) {
    bench.input(Input::Command(Command::Stop));
    bench.assert_quiet();
}

#[test]
fn a_trunk_registers_with_credentials_and_refreshes_before_the_granted_time() {
    let mut bench = bench();
    let (first, after) = next_register(&mut bench);
    assert!(after <= 2 * S, "it registers at the start, after {after:?}");
    assert!(first.starts_with("REGISTER sip:carrier.test SIP/2.0"), "{first}");
    assert_eq!(header(&first, "To"), "<sip:4930@carrier.test>");
    assert!(header(&first, "From").starts_with("<sip:4930@carrier.test>;tag="));
    assert_eq!(header(&first, "Contact"), "<sip:4930@10.0.0.1:5060>");
    assert_eq!(
        (header(&first, "Expires"), header(&first, "X-Site")),
        ("3600".into(), "north".into())
    );
    challenge(&mut bench, &first, "n1");
    let second = bench.only(CARRIER, "REGISTER ");
    assert_eq!(header(&second, "Call-ID"), header(&first, "Call-ID"));
    assert_eq!((number(&second), right(&second, PASSWORD)), (number(&first) + 1, 1));
    accept(&mut bench, &second, 200);
    assert_eq!(bench.core.counters().of(Counter::TrunksRegistered), 1);
    assert_eq!(notices(&bench, "trunk_registered"), 1);
    // Two refreshes; the carrier keeps its nonce, so the count grows.
    let mut last = second;
    for count in 2..4 {
        let (again, after) = next_register(&mut bench);
        assert!(after >= 149 * S && after <= 169 * S, "at 75 to 84 of 100: {after:?}");
        assert_eq!(header(&again, "Call-ID"), header(&last, "Call-ID"));
        assert_eq!(number(&again), number(&last) + 1);
        challenge(&mut bench, &again, "n1");
        last = bench.only(CARRIER, "REGISTER ");
        assert_eq!(right(&last, PASSWORD), count);
        accept(&mut bench, &last, 200);
    }
    assert_eq!(notices(&bench, "trunk_registered"), 1, "a refresh is no news");
    assert_eq!(bench.core.counters().of(Counter::TrunkRegisters), 3);
    stop(bench);
}

/// RFC 3261 10.2.8.
#[test]
fn a_longer_time_is_asked_for_when_the_carrier_insists() {
    let mut bench = bench();
    let (first, _) = next_register(&mut bench);
    refuse(&mut bench, &first, "423 Interval Too Brief", "Min-Expires: 7200\r\n");
    let (second, after) = next_register(&mut bench);
    assert!(after <= S, "at once, not after {after:?}");
    assert_eq!(header(&second, "Expires"), "7200");
    // One that goes on raising it is a failure like any other.
    refuse(&mut bench, &second, "423 Interval Too Brief", "Min-Expires: 9000\r\n");
    let (_, after) = next_register(&mut bench);
    assert!(after >= 140 * S, "not at once again: {after:?}");
    assert_eq!(bench.core.counters().of(Counter::TrunkRegistersFailed), 1);
    stop(bench);
}

#[test]
fn an_answer_that_says_no_is_not_hammered() {
    for status in ["403 Forbidden", "404 Not Found", "603 Decline"] {
        let mut bench = bench();
        let mut waits = Vec::new();
        while bench.now < Instant::from_millis(3_600_000) {
            let (register, after) = next_register(&mut bench);
            waits.push(after);
            refuse(&mut bench, &register, status, "");
        }
        assert!(waits.len() <= 9, "{status}: {waits:?}");
        assert!(waits[1] >= 149 * S && waits[2] >= 299 * S, "{status}: {waits:?}");
        assert_eq!(bench.core.counters().of(Counter::TrunksUnregistered), 1);
        stop(bench);
    }
}

/// What will not be answered with these credentials is as good as a 403.
#[test]
fn refused_credentials_are_not_sent_over_and_over() {
    let mut bench = bench();
    let (first, _) = next_register(&mut bench);
    challenge(&mut bench, &first, "n1");
    let second = bench.only(CARRIER, "REGISTER ");
    challenge(&mut bench, &second, "n2");
    assert!(bench.heard(CARRIER).is_empty(), "once is enough");
    let (_, after) = next_register(&mut bench);
    assert!(after >= 149 * S, "{after:?}");
    assert!(!format!("{:?}", bench.events).contains(PASSWORD));
    stop(bench);
}

/// RFC 5626 4.5: 30 s and doubling, half of it chance; a Retry-After counts.
#[test]
fn failures_that_pass_are_tried_again_with_back_off() {
    let mut bench = bench();
    let (first, _) = next_register(&mut bench);
    refuse(&mut bench, &first, "503 Service Unavailable", "");
    let (second, after) = next_register(&mut bench);
    assert!(after >= 15 * S && after <= 31 * S, "{after:?}");
    refuse(&mut bench, &second, "503 Service Unavailable", "Retry-After: 240 (soon)\r\n");
    let (_, after) = next_register(&mut bench);
    assert!(after >= 239 * S && after <= 241 * S, "{after:?}");
    // And then nobody answers at all: the repeats of Timer E, Timer F, and the next step.
    bench.pass(32 * S);
    assert!(bench.heard(CARRIER).len() >= 8, "repeats of one REGISTER");
    let (_, after) = next_register(&mut bench);
    assert!(after >= 59 * S && after <= 121 * S, "{after:?}");
    assert_eq!(bench.core.counters().of(Counter::TrunkRegistersFailed), 3);
    stop(bench);
}

#[test]
fn a_registration_that_cannot_be_renewed_runs_out_and_says_so() {
    let mut bench = bench();
    let (first, _) = next_register(&mut bench);
    accept(&mut bench, &first, 60);
    let (second, _) = next_register(&mut bench);
    refuse(&mut bench, &second, "500 Oops", "");
    assert_eq!(bench.core.counters().of(Counter::TrunksRegistered), 1, "it still stands");
    bench.pass(16 * S);
    assert_eq!(notices(&bench, "trunk_registration_expired"), 1);
    assert_eq!(bench.core.counters().of(Counter::TrunksRegistered), 0);
    let last = match bench.heard(CARRIER).pop() {
        Some(register) => register,
        None => next_register(&mut bench).0,
    };
    accept(&mut bench, &last, 60);
    assert_eq!(bench.core.counters().of(Counter::TrunksRegistered), 1);
    stop(bench);
}

#[test]
fn a_reload_registers_anew_what_has_changed_and_nothing_else() {
    let mut bench = bench();
    let (first, _) = next_register(&mut bench);
    accept(&mut bench, &first, 600);
    publish(&mut bench, vec![trunk("carrier", account("4930", PASSWORD))]);
    bench.pass(S);
    assert!(bench.heard(CARRIER).is_empty(), "nothing has changed");
    publish(&mut bench, vec![trunk("carrier", account("4930", "battery staple"))]);
    let (second, after) = next_register(&mut bench);
    assert!(after <= S / 10, "at once");
    assert_eq!(header(&second, "Call-ID"), header(&first, "Call-ID"), "the same registration");
    assert_eq!(header(&second, "Expires"), "3600", "it is not taken back in between");
    challenge(&mut bench, &second, "n1");
    let third = bench.only(CARRIER, "REGISTER ");
    right(&third, "battery staple");
    // A change while the answer is awaited: one REGISTER at a time (RFC 3261 10.2).
    publish(&mut bench, vec![trunk("carrier", account("4930", "tr0ub4dor"))]);
    bench.pass(S / 10);
    assert!(bench.heard(CARRIER).is_empty());
    accept(&mut bench, &third, 600);
    let (fourth, _) = next_register(&mut bench);
    assert_eq!(number(&fourth), number(&third) + 1);
    accept(&mut bench, &fourth, 600);
    // Another account is another registration: the old one is taken back.
    publish(&mut bench, vec![trunk("carrier", account("4931", PASSWORD))]);
    let removal = bench.only(CARRIER, "REGISTER ");
    assert_eq!(
        (header(&removal, "Expires"), number(&removal)),
        ("0".to_owned(), number(&fourth) + 1)
    );
    assert_eq!(header(&removal, "Contact"), "<sip:4930@10.0.0.1:5060>");
    accept(&mut bench, &removal, 0);
    let (fifth, _) = next_register(&mut bench);
    assert_eq!(header(&fifth, "To"), "<sip:4931@carrier.test>");
    assert_ne!(header(&fifth, "Call-ID"), header(&first, "Call-ID"));
    accept(&mut bench, &fifth, 600);
    let disabled = Trunk { enabled: false, ..trunk("carrier", account("4931", PASSWORD)) };
    publish(&mut bench, vec![disabled]);
    let removal = bench.only(CARRIER, "REGISTER ");
    assert_eq!(header(&removal, "Expires"), "0");
    bench.pass(60 * S);
    assert_eq!(bench.core.census().client_transactions, 0, "it is not waited for");
    stop(bench);
}

#[test]
fn a_drain_takes_the_registration_back_first_and_waits_for_the_answer() {
    let drained = |bench: &Bench| {
        bench.events.iter().filter(|event| matches!(event, Event::Drained(_))).count()
    };
    for answers in [true, false] {
        let mut bench = bench();
        let (first, _) = next_register(&mut bench);
        accept(&mut bench, &first, 600);
        bench.input(Input::Command(Command::Drain));
        let removal = bench.only(CARRIER, "REGISTER ");
        assert_eq!(header(&removal, "Expires"), "0");
        assert_eq!(drained(&bench), 0, "not yet");
        if answers {
            challenge(&mut bench, &removal, "n1");
            let again = bench.only(CARRIER, "REGISTER ");
            assert_eq!((header(&again, "Expires"), right(&again, PASSWORD)), ("0".to_owned(), 1));
            accept(&mut bench, &again, 0);
        } else {
            bench.pass(5 * S);
        }
        assert_eq!(drained(&bench), 1);
        publish(&mut bench, vec![trunk("carrier", account("4930", PASSWORD))]);
        bench.heard(CARRIER);
        bench.pass(600 * S);
        assert!(bench.heard(CARRIER).is_empty(), "it does not come back");
        stop(bench);
    }
}

#[test]
fn one_shard_registers_a_trunk_and_every_shard_knows_its_calls() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut registered = Vec::new();
    for shard in 0..3 {
        let settings = ShardSettings { shard: ShardId(shard), shards: 3, ..settings() };
        let trunks = names.map(|name| trunk(name, account(name, PASSWORD)));
        let mut bench = Bench::with(settings, of(trunks.to_vec()));
        bench.pass(2 * S);
        let mut heard: Vec<String> =
            bench.heard(CARRIER).iter().map(|text| header(text, "To")).collect();
        heard.sort();
        heard.dedup();
        registered.extend(heard);
    }
    registered.sort();
    assert_eq!(registered, names.map(|name| format!("<sip:{name}@carrier.test>")));
}

/// Two accounts at one carrier: the Request-URI is the Contact that was registered.
#[test]
fn a_call_to_a_registered_contact_is_of_the_trunk_that_registered_it() {
    let elsewhere = Trunk { inbound: Vec::new(), ..trunk("second", account("4931", PASSWORD)) };
    let trunks = vec![trunk("first", account("4930", PASSWORD)), elsewhere];
    let mut bench = Bench::with(ShardSettings { call_auth: true, ..settings() }, of(trunks));
    // The carrier may call from another port of its host.
    const OTHER_PORT: &str = "10.0.0.99:7070";
    for (number, peer, user, expected) in [
        (1, CARRIER, "4930", Some("first")),
        (2, CARRIER, "4931", Some("second")),
        (3, OTHER_PORT, "4931", Some("second")),
        (4, OTHER_PORT, "4932", None),
        (5, ANN, "4931", None),
    ] {
        let branch = format!("i{number}");
        let uri = format!("sip:{user}@10.0.0.1:5060");
        let invite = from_ann("INVITE", &uri, 1, &branch, "", &sdp("10.0.0.99", 5000));
        let invite = invite.replace(ANN, peer).replace("call-ann", &branch);
        bench.say(peer, &invite);
        let last = bench.heard(peer).pop().expect("an answer");
        match expected {
            None => assert!(last.starts_with("SIP/2.0 407"), "a stranger: {last}"),
            Some(_) => assert!(last.starts_with("SIP/2.0 404"), "nobody is called so: {last}"),
        }
        let ours = tag(&header(&last, "To"));
        let ack = from_ann("ACK", &uri, 1, &branch, &ours, "");
        bench.say(peer, &ack.replace(ANN, peer).replace("call-ann", &branch));
        let found = bench.cdrs.pop().and_then(|cdr| cdr.sip_trunk);
        assert_eq!(found.as_deref(), expected, "{user} from {peer}");
    }
    bench.register("1002", BEN);
    stop(bench);
}

/// After a restart the Call-ID is another one and the carrier still has the binding of before, under the
/// same Contact and under one of ours that is no more: the time of the one that was just made counts, and
/// its call comes in.
#[test]
fn a_restart_registers_anew_beside_what_the_carrier_still_has() {
    let mut before = bench();
    let (first, _) = next_register(&mut before);
    accept(&mut before, &first, 3_600);
    let settings = ShardSettings { random_seed: [8; 32], ..settings() };
    let mut bench = Bench::with(settings, of(vec![trunk("carrier", account("4930", PASSWORD))]));
    let (again, _) = next_register(&mut bench);
    assert_ne!(header(&again, "Call-ID"), header(&first, "Call-ID"));
    assert_eq!(header(&again, "Contact"), header(&first, "Contact"));
    let stale = "Contact: <sip:4930@10.0.0.1:5099>;expires=3000\r\n";
    let own = "Contact: <sip:4930@10.0.0.1:5060>;expires=60\r\n";
    refuse(&mut bench, &again, "200 OK", &format!("{stale}{own}"));
    assert_eq!(bench.core.counters().of(Counter::TrunksRegistered), 1);
    let (renewed, after) = next_register(&mut bench);
    assert!(after < 60 * S, "its own time counts: {after:?}");
    assert_eq!(header(&renewed, "Call-ID"), header(&again, "Call-ID"));
    accept(&mut bench, &renewed, 3_600);
    stop(bench);
}

/// RFC 3261 10.2.4: the answer decides how long it holds, but a second is no rhythm to be asked in.
#[test]
fn a_carrier_that_grants_a_second_is_asked_every_five() {
    let mut bench = bench();
    let (mut last, _) = next_register(&mut bench);
    for _ in 0..3 {
        accept(&mut bench, &last, 1);
        let (next, after) = next_register(&mut bench);
        assert!(after >= 5 * S && after <= 6 * S, "{after:?}");
        last = next;
    }
    stop(bench);
}
