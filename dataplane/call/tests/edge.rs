//! The edge on the bench: floods, scanners, tried passwords, limits, and who is spared.
//! Owns:  one test per rule of `call::edge`.
//! Gives: raw text in, raw text out, the log and the counters.
//! Never: real time.
//! Holds: whoever has a phone or a call here, and every trunk, goes on.

mod world;

use std::sync::Arc;
use std::time::Duration;

use call::{Input, MeshMessage};
use shared::acl::Acl;
use shared::command::Command;
use shared::edge::{EdgeRules, FloodRules};
use shared::event::Event;
use shared::ids::ShardId;
use shared::metrics::Counter;
use shared::net::Transport;
use shared::route::{Emergency, RouteTable};
use shared::settings::ShardSettings;
use shared::snapshot::{Snapshot, Trunk};
use world::{ANN, BEN, Bench, CARRIER, established, from_ann, header, register, sdp, settings};

/// Whom nobody knows.
const STRANGER: &str = "203.0.113.66:5060";

fn bench(rules: EdgeRules) -> Bench {
    let settings = ShardSettings { call_auth: true, ..settings() };
    Bench::with(settings, Snapshot { edge: Arc::new(rules), ..world::snapshot() })
}

fn flood(requests_per_second: u32, calls_max: u32) -> EdgeRules {
    let flood = Some(FloodRules { requests_per_second, calls_max });
    EdgeRules { flood, ..EdgeRules::default() }
}

fn options(at: &str, number: usize) -> String {
    from_ann("OPTIONS", "sip:pbx.test", 1, &format!("o{number}"), "", "").replace(ANN, at)
}

/// A REGISTER with this password, challenge and all. What it was answered.
fn try_password(bench: &mut Bench, at: &str, user: &str, password: &str, number: u32) -> String {
    let cseq = 2 * number + 1;
    bench.say(at, &register(user, at, cseq, ""));
    let heard = bench.heard(at);
    let Some(challenge) = heard.last() else { return String::new() };
    answer(bench, at, [user, password], challenge, cseq + 1)
}

/// The start line that the answer to a challenge got.
fn answer(bench: &mut Bench, at: &str, own: [&str; 2], challenge: &str, cseq: u32) -> String {
    let line = header(challenge, "WWW-Authenticate");
    let parsed = sip::auth::Challenge::parse(line.as_bytes()).expect("a challenge");
    let [user, password] = own;
    let own = sip::auth::answer(&parsed, user, password, "REGISTER", "sip:pbx.test", 1, "abc");
    bench.say(at, &register(user, at, cseq, &format!("Authorization: {own}\r\n")));
    let heard = bench.heard(at);
    heard.last().map(|text| text.lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn is_silent(bench: &mut Bench, at: &str) -> bool {
    let number = bench.now.as_millis() as usize;
    bench.say(at, &options(at, number));
    bench.heard(at).is_empty()
}

/// Lines of the security log.
fn lines(bench: &Bench) -> Vec<String> {
    let notices = bench.events.iter().filter_map(|event| match event {
        Event::Notice(notice) => Some(notice.detail.clone()),
        _ => None,
    });
    notices.filter(|text| text.starts_with("security ")).collect()
}

fn count(bench: &mut Bench, counter: Counter) -> u64 {
    bench.core.counters().of(counter)
}

#[test]
fn wrong_passwords_ban_a_source_until_the_ban_ends() {
    let mut bench = bench(EdgeRules::default());
    for number in 0..20 {
        let answer = try_password(&mut bench, STRANGER, "1001", "guess", number);
        assert!(answer.starts_with("SIP/2.0 403"), "{number}: {answer}");
    }
    assert!(is_silent(&mut bench, STRANGER));
    assert!(is_silent(&mut bench, "203.0.113.66:40000"), "another port is the same source");
    assert!(!is_silent(&mut bench, "203.0.113.67:5060"), "its neighbour is not");
    let lines = lines(&bench);
    let failed = "security event=auth_failed source=203.0.113.66 port=5060 transport=UDP \
                  method=REGISTER user=\"1001\"";
    assert_eq!(lines[0], failed);
    let last = "security event=banned source=203.0.113.66 why=passwords seconds=600";
    assert_eq!(lines.last().map(String::as_str), Some(last), "{lines:#?}");
    assert_eq!(count(&mut bench, Counter::SourcesBanned), 1);
    assert_eq!(count(&mut bench, Counter::Bans), 1);
    assert_eq!(count(&mut bench, Counter::BannedDropped), 2);
    bench.pass(Duration::from_secs(600));
    assert!(!is_silent(&mut bench, STRANGER));
    assert_eq!(count(&mut bench, Counter::Bans), 0);
    bench.assert_quiet();
}

#[test]
fn a_phone_with_an_old_password_is_refused_and_not_banned() {
    let mut bench = bench(EdgeRules::default());
    for number in 0..200 {
        let answer = try_password(&mut bench, STRANGER, "1001", "old", number);
        assert!(answer.starts_with("SIP/2.0 403"), "{number}: {answer}");
        bench.pass(Duration::from_secs(20));
    }
    assert!(!is_silent(&mut bench, STRANGER));
}

#[test]
fn a_phone_behind_the_same_nat_a_trunk_and_this_host_are_spared() {
    let mut bench = bench(EdgeRules::default());
    bench.register("1002", "203.0.113.66:5071");
    for at in [STRANGER, CARRIER, "127.0.0.1:5080", "[::1]:5080"] {
        for number in 0..60 {
            try_password(&mut bench, at, "1001", "guess", number);
            bench.pass(Duration::from_millis(50));
        }
        assert!(!is_silent(&mut bench, at), "{at}");
    }
    assert_eq!(count(&mut bench, Counter::SourcesBanned), 0);
    assert!(count(&mut bench, Counter::SourcesSpared) >= 4);
}

#[test]
fn a_standing_call_spares_its_source() {
    let mut bench = Bench::new(settings());
    established(&mut bench);
    for number in 0..200 {
        bench.say(ANN, &from_ann("INFO", "sip:x@pbx.test", 1, &format!("i{number}"), "no", ""));
        bench.pass(Duration::from_millis(50));
    }
    assert!(count(&mut bench, Counter::SourcesSpared) > 0);
    assert!(!is_silent(&mut bench, ANN));
}

#[test]
fn a_scanner_hears_nothing_and_is_banned_at_once() {
    let mut bench = bench(EdgeRules::default());
    let scan = options(STRANGER, 1).replace("X-Case: 42", "User-Agent: friendly-scanner");
    bench.say(STRANGER, &scan);
    assert_eq!(bench.heard(STRANGER), [""; 0]);
    assert!(is_silent(&mut bench, STRANGER));
    let scanner = "security event=scanner source=203.0.113.66 port=5060 transport=UDP \
                   agent=\"friendly-scanner\"";
    let banned = "security event=banned source=203.0.113.66 why=scanner seconds=600";
    assert_eq!(lines(&bench), [scanner, banned]);
    assert_eq!(count(&mut bench, Counter::ScannersDropped), 1);
}

#[test]
fn names_asked_for_and_never_answered_for_are_probes() {
    let mut bench = bench(EdgeRules::default());
    for name in 0..60 {
        bench.say(STRANGER, &register(&format!("{name}"), STRANGER, 1, ""));
    }
    assert_eq!(bench.heard(STRANGER).len(), 60, "they may still be answered");
    bench.pass(Duration::from_secs(11));
    bench.say(STRANGER, &register("2000", STRANGER, 1, ""));
    bench.heard(STRANGER);
    assert!(is_silent(&mut bench, STRANGER));
    let last = lines(&bench).pop();
    let expected = "security event=banned source=203.0.113.66 why=probes seconds=600";
    assert_eq!(last.as_deref(), Some(expected));
}

/// A building loses its power: all phones come back at once, each is challenged before any answers.
#[test]
fn many_phones_that_come_back_at_once_are_not_a_scanner() {
    let mut snapshot = world::snapshot();
    let users = Arc::make_mut(&mut snapshot.users);
    let ann = (*users["1001"]).clone();
    for number in 0..300 {
        let username: Box<str> = format!("p{number}").into();
        let secret = shared::snapshot::Secret::Plain(format!("secret-p{number}").into());
        let user = shared::snapshot::User { username: username.clone(), secret, ..ann.clone() };
        users.insert(username, Arc::new(user));
    }
    let mut bench = Bench::with(settings(), snapshot);
    let phone = |number: u32| (format!("203.0.113.66:{}", 20_000 + number), format!("p{number}"));
    let mut challenges = Vec::new();
    for number in 0..300 {
        let (at, user) = phone(number);
        bench.say(&at, &register(&user, &at, 1, ""));
        challenges.push(bench.only(&at, "SIP/2.0 401"));
    }
    bench.pass(Duration::from_secs(8));
    for (number, challenge) in (0..300).zip(&challenges) {
        let (at, user) = phone(number);
        let line = answer(&mut bench, &at, [&user, &format!("secret-{user}")], challenge, 2);
        assert!(line.starts_with("SIP/2.0 200"), "{number}: {line}");
    }
    bench.pass(Duration::from_secs(15));
    assert!(!is_silent(&mut bench, "203.0.113.66:20000"));
    assert_eq!(count(&mut bench, Counter::SourcesBanned), 0);
    assert_eq!(count(&mut bench, Counter::SourcesSpared), 0, "nobody had to vouch for them");
}

/// A botnet tries one user: sources fall after few tries, and the user's own phone gets in.
#[test]
fn a_name_that_many_sources_try_stays_open_for_its_owner() {
    let mut bench = bench(EdgeRules::default());
    for source in 1..=40 {
        for number in 0..3 {
            let at = format!("198.51.100.{source}:5060");
            try_password(&mut bench, &at, "1001", "guess", number);
            bench.pass(Duration::from_millis(20));
        }
    }
    let banned = count(&mut bench, Counter::SourcesBanned);
    assert!((28..=31).contains(&banned), "{banned}: the first ten came too early");
    bench.register("1001", ANN);
}

#[test]
fn malformed_requests_and_guessed_dialogs_are_probes() {
    for text in [
        options(STRANGER, 7).replace("CSeq: 1 OPTIONS", "CSeq: 1 THING"),
        from_ann("BYE", "sip:x@pbx.test", 1, "b7", "guess", "").replace(ANN, STRANGER),
        from_ann("SUBSCRIBE", "sip:1002@pbx.test", 1, "s7", "", "").replace(ANN, STRANGER),
    ] {
        let mut bench = bench(EdgeRules::default());
        for number in 0..60 {
            let branch = format!("z9hG4bKprobe{number}");
            let one = text.replace("z9hG4bKo7", &branch).replace("z9hG4bKb7", &branch);
            bench.say(STRANGER, &one.replace("z9hG4bKs7", &branch));
            bench.pass(Duration::from_millis(20));
        }
        bench.heard(STRANGER);
        assert!(is_silent(&mut bench, STRANGER), "{text}");
    }
}

#[test]
fn without_a_ban_duration_nobody_is_banned() {
    let mut bench = bench(EdgeRules { ban: Duration::ZERO, ..EdgeRules::default() });
    for number in 0..100 {
        try_password(&mut bench, STRANGER, "1001", "guess", number);
    }
    let scan = options(STRANGER, 1).replace("X-Case: 42", "User-Agent: sipcli/v1.8");
    bench.say(STRANGER, &scan);
    bench.only(STRANGER, "SIP/2.0 200");
    assert!(!is_silent(&mut bench, STRANGER));
}

#[test]
fn a_flood_gets_its_rate_and_who_is_registered_more() {
    let mut bench = bench(flood(10, 500));
    bench.register("1002", BEN);
    for number in 0..1_000 {
        bench.say(STRANGER, &options(STRANGER, number));
        bench.say(BEN, &options(BEN, number));
        bench.say("203.0.113.66:9", "\r\n\r\n");
    }
    assert_eq!(bench.heard(STRANGER).len(), 10);
    assert_eq!(bench.heard(BEN).len(), 1_000);
    assert!(count(&mut bench, Counter::FloodsDropped) >= 990);
    let expected = "security event=flood source=203.0.113.66 port=5060 transport=UDP";
    assert_eq!(lines(&bench), [expected], "one line, whatever comes");
    bench.pass(Duration::from_secs(1));
    assert!(!is_silent(&mut bench, STRANGER), "the rate goes on");
}

#[test]
fn a_ban_is_one_of_all_shards_unless_one_of_them_knows_the_source() {
    let two = ShardSettings { shards: 2, ..settings() };
    let mut bench = Bench::new(two);
    let source = "203.0.113.66".parse().expect("an address");
    let time = Duration::from_secs(600);
    let told = |message| Input::Mesh { from: ShardId(1), message };
    bench.input(told(MeshMessage::Banned { source, time }));
    assert!(is_silent(&mut bench, STRANGER));
    assert!(bench.mesh.is_empty(), "{:?}", bench.mesh);
    bench.input(told(MeshMessage::Vouched { source }));
    bench.say(STRANGER, &options(STRANGER, 5));
    assert_eq!(count(&mut bench, Counter::BannedDropped), 1, "the second is read");
    let source = "10.0.0.99".parse().expect("the carrier's");
    bench.mesh.clear();
    bench.input(told(MeshMessage::Banned { source, time }));
    let vouched = |(to, one): &(ShardId, MeshMessage)| {
        to.0 == 1 && matches!(one, MeshMessage::Vouched { source: ip } if *ip == source)
    };
    assert!(bench.mesh.iter().any(vouched), "{:?}", bench.mesh);
    // For a minute somebody's word counts.
    bench.pass(Duration::from_secs(61));
    let scan = options(STRANGER, 1).replace("X-Case: 42", "User-Agent: sipvicious");
    bench.mesh.clear();
    bench.input(Input::Moved {
        from: shared::net::Source {
            transport: Transport::Udp,
            local: world::US.parse().expect("an address"),
            peer: STRANGER.parse().expect("an address"),
            flow: None,
        },
        bytes: scan.as_bytes(),
    });
    let banned = |(to, one): &(ShardId, MeshMessage)| {
        to.0 == 1 && matches!(one, MeshMessage::Banned { time: t, .. } if *t == time)
    };
    assert!(bench.mesh.iter().any(banned), "{:?}", bench.mesh);
}

#[test]
fn a_banned_source_that_becomes_a_trunk_is_heard_again() {
    let mut bench = bench(EdgeRules::default());
    let scan = options(STRANGER, 1).replace("X-Case: 42", "User-Agent: sipvicious");
    bench.say(STRANGER, &scan);
    assert!(is_silent(&mut bench, STRANGER));
    let address = STRANGER.parse().expect("an address");
    let trunk = Trunk::plain("new", "new.test", address, Transport::Udp);
    let next = Snapshot {
        generation: 2,
        trunks: Arc::new(vec![trunk]),
        acl: Arc::new(Acl::default()),
        ..world::snapshot()
    };
    bench.input(Input::Command(Command::Publish(Arc::new(next))));
    assert!(!is_silent(&mut bench, STRANGER));
}

#[test]
fn lists_of_programs_and_long_uris_refuse_and_trunks_are_asked_nothing() {
    let rules = EdgeRules {
        agents_refused: vec!["evil".into()],
        agents_admitted: vec!["phone".into()],
        uri_bytes_max: Some(64),
        ..EdgeRules::default()
    };
    let mut bench = bench(rules);
    let named = |number, agent: &str| {
        options(STRANGER, number).replace("X-Case: 42", &format!("User-Agent: {agent}"))
    };
    for (number, (agent, start)) in [
        ("Good Phone 1.0", "SIP/2.0 200"),
        ("Evil Phone 1.0", "SIP/2.0 403"),
        ("Something else", "SIP/2.0 403"),
    ]
    .into_iter()
    .enumerate()
    {
        bench.say(STRANGER, &named(number, agent));
        bench.only(STRANGER, start);
    }
    let long = "a".repeat(80);
    let text = named(9, "Good Phone").replace("OPTIONS sip:", &format!("OPTIONS sip:{long}@"));
    bench.say(STRANGER, &text);
    bench.only(STRANGER, "SIP/2.0 414");
    bench.say(CARRIER, &options(CARRIER, 1));
    bench.only(CARRIER, "SIP/2.0 200");
    assert_eq!(count(&mut bench, Counter::AgentsRefused), 2);
    assert_eq!(count(&mut bench, Counter::UrisTooLong), 1);
}

/// The INVITE number `call` of Ann's, in a call of its own.
fn invite(call: u32, uri: &str) -> String {
    let text = from_ann("INVITE", uri, 1, &format!("v{call}"), "", &sdp("10.0.0.11", 4_000));
    text.replace("call-ann", &format!("call-{call}"))
}

fn open_bench(rules: EdgeRules) -> Bench {
    let address = CARRIER.parse().expect("an address");
    let help = Trunk::plain("help", "help.test", address, Transport::Udp);
    let mut snapshot = Snapshot { edge: Arc::new(rules), ..world::snapshot() };
    let emergency = Emergency { numbers: vec!["112".into()], trunk: "help".into() };
    snapshot.routes = Arc::new(RouteTable::sorted(Vec::new(), Some(emergency)));
    snapshot.trunks = Arc::new(vec![help]);
    let mut bench = Bench::with(settings(), snapshot);
    bench.register("1002", BEN);
    bench
}

#[test]
fn a_full_gateway_answers_503_and_takes_emergency_calls() {
    for (rules, counter) in [
        (EdgeRules { calls_max: Some(2), ..EdgeRules::default() }, Counter::OverloadRefused),
        (flood(100, 2), Counter::SourceCallsRefused),
    ] {
        let mut bench = open_bench(rules);
        for call in 1..=3 {
            bench.say(ANN, &invite(call, "sip:1002@pbx.test"));
        }
        let heard = bench.heard(ANN);
        let last = heard.last().expect("an answer");
        assert!(last.starts_with("SIP/2.0 503"), "{last}");
        let wait: u32 = header(last, "Retry-After").parse().expect("seconds");
        assert!((2..=10).contains(&wait), "{wait}");
        assert_eq!(bench.heard(BEN).len(), 2);
        assert_eq!(count(&mut bench, counter), 1);
        bench.say(ANN, &invite(4, "sip:112@pbx.test"));
        assert!(bench.heard(CARRIER).iter().any(|text| text.starts_with("INVITE")));
        bench.pass(Duration::from_secs(120));
        bench.heard(ANN);
        bench.say(ANN, &invite(5, "sip:1002@pbx.test"));
        let heard = bench.heard(ANN);
        assert!(heard[0].starts_with("SIP/2.0 100"), "calls that are over leave room: {heard:?}");
    }
}

/// The security log and the other lines have a limit each.
#[test]
fn a_flood_of_other_lines_hides_none_of_the_security_log_and_what_is_left_out_is_told() {
    let rules = EdgeRules { agents_refused: vec!["evil".into()], ..EdgeRules::default() };
    let mut bench = bench(EdgeRules { ban: Duration::ZERO, ..rules });
    for number in 0..200 {
        bench.say(STRANGER, &options(STRANGER, number).replace("1 OPTIONS", "1 THING"));
    }
    assert_eq!(count(&mut bench, Counter::NoticesSuppressed), 150);
    let evil = |bench: &mut Bench, number: usize| {
        let text = options(STRANGER, number).replace("X-Case: 42", "User-Agent: Evil phone");
        bench.say(STRANGER, &text);
    };
    (0..80).for_each(|number| evil(&mut bench, 1_000 + number));
    assert_eq!(lines(&bench).len(), 50);
    assert_eq!(count(&mut bench, Counter::SecuritySuppressed), 30);
    assert_eq!(count(&mut bench, Counter::NoticesSuppressed), 150, "none of the others");
    bench.pass(Duration::from_secs(1));
    evil(&mut bench, 2_000);
    let last = bench.events.iter().rev().find_map(|event| match event {
        Event::Notice(notice) => Some(notice.suppressed),
        _ => None,
    });
    assert_eq!(last, Some(30));
}
